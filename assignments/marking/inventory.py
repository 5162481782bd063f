"""The misconception inventory: twenty items before and after a course, marked by themselves.

    inventory release [--check]      assignments/inventory.toml -> book/assignments/inventory.ipynb
    inventory mark FOLDER --out OUT  inventory.html, inventory_marks.csv, inventory_items.csv

FOLDER may be a zip, as learning platforms give it.
A student's file is inventory_<pre or post>_<student>.json. It says by itself whose it is, and from
when; its name does not count. The student's notebook holds neither keys nor misconceptions.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import tomllib
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assignments.marking import intake, plainfiles
from assignments.marking.master import Fault
from assignments.marking.plainfiles import Refused

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "assignments" / "inventory.toml"
NOTEBOOK = ROOT / "book" / "assignments" / "inventory.ipynb"
FORMAT = "resnet_lib inventory 1"
LETTERS = "abcd"
TIMES = ("pre", "post")


def load(path: Path = SOURCE) -> list[dict]:
    """The items: id, chapter, stem, a, b, c, d, key, shown, and wrong (letter: [idea, found])."""
    items = tomllib.loads(path.read_text(encoding="utf-8"))["item"]
    for item in items:
        others = set(LETTERS) - {item["key"]}
        if len(others) != 3 or set(item["wrong"]) != others:
            raise ValueError(f"{path.name}: {item['id']} needs a key and three misconceptions")
    return items


def version(items: list[dict]) -> str:
    """Eight digits that change with any word that a student reads."""
    read = [[item["stem"], *(item[letter] for letter in LETTERS)] for item in items]
    return hashlib.sha256(json.dumps(read).encode()).hexdigest()[:8]


# --- the student's notebook

WRITE = """import json
import re
from datetime import date
from pathlib import Path

given = {{}}
for number in map(str, range(1, {count} + 1)):
    letter = str(answers.get(number, "")).strip().lower()
    given[number] = letter if letter in ("a", "b", "c", "d") else None
student = str(STUDENT_ID).strip(" .")[:40]
when = str(WHEN).strip().lower()
name = re.sub(r"[^\\w-]+", "_", f"inventory_{{when}}_{{student or 'unnamed'}}")
held = {{"format": "{format}", "version": "{version}"}}
held |= {{"when": when, "student": student, "answers": given}}
held["date"] = str(date.today())
new = json.dumps(held, indent=1)
# A file of this name may be from before the course: its answers are never lost.
path, known = Path(name + ".json"), when in ("pre", "post")
old = ""
if known and path.exists():
    old = path.read_text(encoding="utf-8", errors="replace")
wrote, _, today = new.rpartition('"date"')
had, _, day = (old or new).rpartition('"date"')
if not known:
    print(f'nothing written: WHEN is {{WHEN!r:.40}}, neither "pre" nor '
          '"post"; fill it in above, run it and this cell again')
elif had != wrote and day != today:
    print(f"nothing written: {{path}} is of another day and has other "
          "answers; set WHEN right above and run it, or rename that file, "
          "then run this cell again")
else:
    if had != wrote:
        with open(name + ".old", "a", encoding="utf-8") as file:
            file.write(old + "\\n")
        print(f"replaced: today's earlier {{path}}; what it held is kept "
              f"in {{name}}.old")
    if not old or had != wrote:  # the same answers keep their day
        path.write_text(new, encoding="utf-8")
    still_open = [number for number, letter in given.items() if letter is None]
    print(f"written: {{path}} ({{{count} - len(still_open)}} of {count} answered)")
    if still_open:
        print("no answer yet, or not a, b, c or d:", ", ".join(still_open))
    if not student:
        print("STUDENT_ID is empty: fill it in above, run this cell again")"""


WHO = """STUDENT_ID = "..."  # your number, in quotes
WHEN = "..."  # "pre" before the course, "post" after it"""


def notebook(source: Path = SOURCE) -> str:
    """The student's notebook as text: the questions and nothing that answers them."""
    items, prose = load(source), tomllib.loads(source.read_text(encoding="utf-8"))["notebook"]
    count = len(items)
    lines = [f'    "{number}": ...,' for number in range(1, count + 1)]
    cells = [("markdown", prose["intro"]), ("code", WHO)]
    for number, item in enumerate(items, 1):
        options = "\n".join(f"- **{letter}** · {item[letter]}" for letter in LETTERS)
        cells.append(("markdown", f"## Question {number}\n\n{item['stem']}\n\n{options}"))
    cells += [
        ("markdown", prose["ask"]),
        ("code", "\n".join(["answers = {", *lines, "}"])),
        ("markdown", prose["hand_in"]),
        ("code", WRITE.format(count=count, format=FORMAT, version=version(items))),
    ]
    return _as_json(cells)


def _as_json(cells):
    made = []
    for number, (kind, source) in enumerate(cells):
        cell = {"cell_type": kind, "id": f"c{number:02d}", "metadata": {}}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        made.append(cell | {"source": source.splitlines(keepends=True)})
    about = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    book = {"cells": made, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"


def release(source: Path, target: Path, check: bool) -> int:
    wanted = notebook(source)
    held = target.read_text(encoding="utf-8") if target.is_file() else ""
    if check and held != wanted:
        print(f"{target.name} is out of step with {source.name}; run inventory release")
        return 1
    if held != wanted:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(wanted, encoding="utf-8")
        print(f"written: {target.name}")
    return 0


# --- reading


@contextmanager
def folder_of(place: Path) -> Iterator[Path]:
    """The students' files as a folder: `place` itself, or a zip unpacked for as long as it takes.

    Not into the folder of the results: the files there would be counted again with its parent.
    """
    if place.is_dir():
        yield place
        return
    if not (place.is_file() and zipfile.is_zipfile(place)):
        text = f"{place} is not a folder, and no zip that can be read"
        raise Refused(f"{text}: give the folder or the zip with the students' files")
    with tempfile.TemporaryDirectory() as own:
        try:
            folder = intake.unpack(place, Path(own, "unpacked"))
        except Fault as fault:
            raise Refused(str(fault)) from None
        yield folder


def sheet(held: object, items: list[dict]) -> tuple[str, str, list[str | None]]:
    """(student, "pre" or "post", a letter or None for each item) of a file, or Refused."""
    if not isinstance(held, dict) or held.get("format") != FORMAT:
        raise Refused("not an answer file of the inventory")
    if held.get("version") != version(items):
        told = plainfiles.clean(held.get("version"), 12)
        raise Refused(f"written by another version of the inventory ({told})")
    when, student, answers = (held.get(name) for name in ("when", "student", "answers"))
    if not isinstance(when, str) or when not in TIMES:
        raise Refused('when is neither "pre" nor "post"')
    if not isinstance(student, str) or len(student) > 60:
        raise Refused("student is no text, or longer than 60 characters")
    numbers = [str(number) for number in range(1, len(items) + 1)]
    if not isinstance(answers, dict) or not answers.keys() <= set(numbers):
        raise Refused("answers are no table of the question numbers")
    for number, letter in answers.items():
        if letter is not None and not (isinstance(letter, str) and letter in tuple(LETTERS)):
            raise Refused(f"the answer to question {number} is not a, b, c or d")
    return plainfiles.clean(student.strip()), when, [answers.get(n) for n in numbers]


def gather(folder: Path, items: list[dict]) -> tuple[dict, list[str]]:
    """({(student, when): letters}, a line for each file with a problem)."""
    sheets, problems, files = {}, [], {}
    for name, path in plainfiles.collect(folder):
        shown = plainfiles.clean(name)
        try:
            student, when, letters = sheet(plainfiles.read(path), items)
        except Refused as refused:
            problems.append(f"{shown}: {refused}; not counted")
            continue
        if not student:
            student = f"unnamed: {shown}"
            problems.append(f"{shown}: no student number in it; counted under its file name")
        if (student, when) in sheets:
            first = files[student, when]
            problems.append(f"{shown}: {student} has a {when} file already ({first}); not counted")
            continue
        sheets[student, when], files[student, when] = letters, shown
    return sheets, problems


# --- counting


def gain(before: float, after: float) -> float | None:
    """The normalised gain: which share of what could be learned was learned."""
    return None if before == 1 else (after - before) / (1 - before)


def class_table(sheets: dict, items: list[dict]) -> list[dict]:
    """For each item: n and share right before and after, gain, commonest misconceptions.

    The shares count all who handed in; the gain only those who did both times.
    """
    both = [s for s, when in sheets if when == "pre" and (s, "post") in sheets]
    rows = []
    for at, item in enumerate(items):
        row = {"item": at + 1, "id": item["id"], "chapter": item["chapter"]}
        for when in TIMES:
            given = taken(sheets, when, at)
            row[f"n {when}"] = len(given)
            row[f"right {when}"] = _share(given.count(item["key"]), len(given))
            wrong = Counter(g for g in given if g is not None and g != item["key"])
            row[f"misconception {when}"] = _commonest(wrong, item)
            row[f"its share {when}"] = _share(max(wrong.values(), default=0), len(given))
        right = {
            when: _share(sum(sheets[s, when][at] == item["key"] for s in both), len(both))
            for when in TIMES
        }
        row["gain"] = gain(right["pre"], right["post"]) if both else None
        rows.append(row)
    return rows


def taken(sheets: dict, when: str, at: int) -> list[str | None]:
    """Everybody's letter for one item, before or after."""
    return [letters[at] for (_, w), letters in sheets.items() if w == when]


def _share(count, whole):
    return count / whole if whole else None


def _commonest(wrong, item):
    if not wrong:
        return ""
    most = max(wrong.values())
    return " or: ".join(item["wrong"][k][0] for k in sorted(wrong) if wrong[k] == most)


def marks_table(sheets: dict, items: list[dict]) -> list[list]:
    """A row for each student and time: 1 right, 0 wrong, empty without an answer."""
    rows = [["student", "when", "right", "answered", *(item["id"] for item in items)]]
    for (student, when), letters in sorted(
        sheets.items(), key=lambda e: (e[0][0], e[0][1] != "pre")
    ):
        marks = [
            None if letter is None else int(letter == item["key"])
            for letter, item in zip(letters, items, strict=True)
        ]
        answered = sum(mark is not None for mark in marks)
        rows.append([student, when, sum(filter(None, marks)), answered, *marks])
    return rows


# --- the page


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def page(sheets: dict, problems: list[str], items: list[dict]) -> str:
    n = {when: sum(w == when for _, w in sheets) for when in TIMES}
    both = sum((s, "post") in sheets for s, when in sheets if when == "pre")
    found = class_table(sheets, items)
    mean = {
        when: sum(row[f"right {when}"] for row in found) / len(items) if n[when] else None
        for when in TIMES
    }
    body = [
        f"<p>{n['pre']} students before the course, {n['post']} after it, {both} at both times. "
        f"Right answers: {percent(mean['pre'])} before, {percent(mean['post'])} after.</p>",
        '<p class="soft">Shares count all who handed in; a question left open is not right. The '
        "gain counts those who answered at both times: (after − before) / (1 − before), 1 is "
        "everything that could be learned. With few students one answer moves it much.</p>",
    ]
    rows = []
    for row in found:
        ideas = [
            f"{row[f'misconception {when}']} ({percent(row[f'its share {when}'])})"
            if row[f"misconception {when}"]
            else ""
            for when in TIMES
        ]
        got = "–" if row["gain"] is None else f"{row['gain']:.2f}"
        right = percent(row["right pre"]), percent(row["right post"])
        rows.append([f"{row['item']} · {row['id']}", *right, got, *ideas])
    head = ["item", "before", "after", "gain", "commonest wrong idea before", "and after"]
    body.append(plainfiles.table(head, rows))
    body.append("<h2>The items</h2>")
    for at, item in enumerate(items):
        title = f"{at + 1} · {plainfiles.text(item['id'])}"
        body.append(f"<h3>{title}</h3>\n<p>{plainfiles.text(item['stem'])}</p>")
        rows = []
        for letter in LETTERS:
            chosen = [_share(taken(sheets, when, at).count(letter), n[when]) for when in TIMES]
            idea = "right" if letter == item["key"] else item["wrong"][letter][0]
            rows.append([f"{letter} · {item[letter]}", *map(percent, chosen), idea])
        body.append(plainfiles.table(["option", "before", "after", "stands for"], rows))
        shown = plainfiles.text(f"Shown in chapter {item['chapter']}: {item['shown']}")
        body.append(f'<p class="soft">{shown}</p>')
    return "\n".join(body) + plainfiles.left_out(problems)


def mark(folder: Path, out: Path, items: list[dict]) -> int:
    with folder_of(folder) as place:
        sheets, problems = gather(place, items)
    out.mkdir(parents=True, exist_ok=True)
    plainfiles.write_csv(out / "inventory_marks.csv", marks_table(sheets, items))
    rows = class_table(sheets, items)
    plain = [[round(v, 4) if isinstance(v, float) else v for v in row.values()] for row in rows]
    plainfiles.write_csv(out / "inventory_items.csv", [list(rows[0]), *plain])
    body = page(sheets, problems, items)
    plainfiles.write_page(out / "inventory.html", "Inventory of the class", body)
    for line in problems:
        print(line)
    print(f"{len(sheets)} files counted; {out / 'inventory.html'}")
    return 0 if sheets else 1


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("inventory", description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, default=SOURCE, help="the items (TOML)")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("release", help="write the students' notebook")
    one.add_argument("--check", action="store_true", help="only say whether it is up to date")
    one.add_argument("--to", type=Path, default=NOTEBOOK, help="where the notebook goes")
    two = commands.add_parser("mark", help="mark a folder or zip of answer files")
    two.add_argument("folder", type=Path, help="folder or zip of the students' files")
    two.add_argument("--out", type=Path, required=True, help="where page and tables go")
    args = parser.parse_args(argv)
    try:
        if args.command == "release":
            return release(args.source, args.to, args.check)
        return mark(args.folder, args.out, load(args.source))
    except (Refused, OSError, ValueError, KeyError) as error:
        print(f"inventory: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
