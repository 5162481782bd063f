"""Small JSON files from students, read without trust; tables and pages in which nothing can run.

`lines`: a text of several lines, of which what draws nothing is left out, not replaced.

A student's file is data: it is never executed, never unpickled, never followed to another place.
What is wrong with it becomes one line for the teacher, and the others go on.
"""

from __future__ import annotations

import csv
import html
import io
import json
import os
import re
import stat
from pathlib import Path

# Characters that a line, a table or a page must not get from outside: control characters, and
# those that change the direction of the text around them.
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
FORMULA = ("=", "+", "-", "@", "|", "%", "\t", "\r", "\n", "＝", "＋", "－", "＠")
NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")


class Refused(Exception):
    """Why a file does not count, in a few words."""


def clean(text: object, limit: int = 80, lines: bool = False) -> str:
    """Plain text, one line without `lines`, however long and strange it was."""
    plain = str(text).encode("utf-8", "replace").decode("utf-8")
    if lines:
        plain = plain.replace("\r\n", "\n").replace("\r", "\n")
        plain = UNSEEN.sub(lambda m: m[0] if m[0] in "\t\n" else "", plain)
    else:
        plain = UNSEEN.sub("\N{REPLACEMENT CHARACTER}", plain)
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def collect(folder: Path) -> list[tuple[str, Path]]:
    """(name below the folder, path) of every .json file, in the order of the names.

    Hidden files and what archives of a Mac add are left out.
    """
    if not Path(folder).is_dir():
        raise Refused(f"{folder} is not a folder")
    found = []
    for place, below, inside in os.walk(folder):
        below[:] = [name for name in below if not name.startswith((".", "__MACOSX"))]
        for name in inside:
            if name.lower().endswith(".json") and not name.startswith("."):
                path = Path(place, name)
                found.append((path.relative_to(folder).as_posix(), path))
    return sorted(found)


def read(path: Path, limit: int = 20_000) -> object:
    """The plain data of a file of at most `limit` bytes, or Refused."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Refused("not a plain file")
            raw = file.read(limit + 1)
    except OSError as error:
        link = "a link, which is not followed"
        raise Refused(link if path.is_symlink() else error.strerror or "unreadable") from None
    if not raw.strip():
        raise Refused("empty")
    if len(raw) > limit:
        raise Refused(f"larger than {limit // 1000} kB")
    try:
        return json.loads(
            raw.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_no_constant
        )
    except Refused:
        raise
    except (ValueError, RecursionError):
        raise Refused("not a JSON file, or cut off") from None


def _once(pairs):
    if len({key for key, _ in pairs}) < len(pairs):
        raise Refused("the same name twice")
    return dict(pairs)


def _no_constant(name):
    raise Refused(f"{name} is not a number")


def cell(value: object, limit: int = 1000, lines: bool = False) -> object:
    """A value for a table that a spreadsheet program opens: text never becomes a formula."""
    if value is None or isinstance(value, (int, float)):
        return "" if value is None else value
    text = clean(value, limit, lines)
    harmless = not text.lstrip(" ").startswith(FORMULA) or NUMBER.fullmatch(text) or text == "-"
    return text if harmless else "'" + text


def csv_text(rows: list[list], limit: int = 1000, lines: bool = False) -> str:
    """Rows as the text of a CSV file."""
    out = io.StringIO()
    csv.writer(out).writerows([cell(value, limit, lines) for value in row] for row in rows)
    return out.getvalue()


def write_csv(path: Path, rows: list[list]) -> None:
    """With the mark at the front by which spreadsheet programs know UTF-8."""
    path.write_text(csv_text(rows), encoding="utf-8-sig", newline="")


def text(value: object, limit: int = 1000, lines: bool = False) -> str:
    """Anything, as text of a page."""
    return html.escape(clean(value, limit, lines), quote=True)


def table(head: list[str], rows: list[list], caption: str = "") -> str:
    """An HTML table; numbers stand right, the first column is a header of its row."""

    def row(values):
        first, *others = values
        cells = "".join(
            f'<td class="n">{text(v)}</td>' if _numeric(v) else f"<td>{text(v)}</td>"
            for v in others
        )
        return f'<tr><th scope="row">{text(first)}</th>{cells}</tr>'

    top = "".join(f'<th scope="col">{text(h)}</th>' for h in head)
    above = f"<caption>{text(caption)}</caption>" if caption else ""
    body = "\n".join(map(row, rows))
    inside = f"{above}<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    return f'<div class="wide"><table>{inside}</table></div>'


def _numeric(value):
    return isinstance(value, (int, float)) or bool(
        re.fullmatch(r"[-+−]?[\d.,]+\s?%?|–", str(value))
    )


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>
:root {{ --ground: #ffffff; --ink: #1f2630; --soft: #4d5866; --rule: #dfe3e8; --bar: #1e65ac;
  --mark: #ac400d; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ground: #14181e; --ink: #d6dde4; --soft: #a3adb9;
  --rule: #333b47; --bar: #5698fb; --mark: #f1af24; }} }}
body {{ background: var(--ground); color: var(--ink); margin: 0 auto; max-width: 60rem;
  padding: 1.5rem 1rem 4rem; font: 1.05rem/1.55 system-ui, "Segoe UI", Roboto, "Noto Sans",
  "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif; overflow-wrap: break-word; }}
h1 {{ font-size: 1.8rem; }} h2 {{ font-size: 1.35rem; margin-top: 2.5rem; }}
h3 {{ font-size: 1.08rem; margin: 2rem 0 .3rem; }}
p {{ margin: .3rem 0 .7rem; }} .soft {{ color: var(--soft); }}
.wide {{ overflow-x: auto; }} table {{ border-collapse: collapse; font-size: .95rem; }}
caption {{ text-align: left; color: var(--soft); padding: .3rem 0; }}
th, td {{ border-bottom: 1px solid var(--rule); padding: .3rem .8rem .3rem 0; text-align: left;
  vertical-align: top; }}
th[scope=row] {{ font-weight: 400; }} td.n {{ font-variant-numeric: tabular-nums; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; font-size: .95rem; margin: .3rem 0 1rem;
  border-left: 3px solid var(--rule); padding-left: .8rem; }}
svg {{ display: block; height: auto; max-width: 100%; }}
svg text {{ fill: var(--ink); font-size: 14px; }} svg rect {{ fill: var(--bar); }}
svg .mark {{ fill: var(--mark); }} summary {{ color: var(--soft); cursor: pointer; }}
</style></head><body>
<main>
<h1>{title}</h1>
{body}
</main></body></html>
"""


def page(title: str, body: str) -> str:
    """One file that needs nothing else and runs nothing; `body` is HTML made by this package."""
    return PAGE.format(title=text(title), body=body)


def write_page(path: Path, title: str, body: str) -> None:
    path.write_text(page(title, body), encoding="utf-8")


def left_out(problems: list[str]) -> str:
    """The lines on files that did not count, for a page."""
    if not problems:
        return ""
    lines = "".join(f"<li>{text(line, 300)}</li>" for line in problems)
    return f"<h2>Files that were not counted as they are</h2>\n<ul>{lines}</ul>\n"
