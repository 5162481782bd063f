"""The gate: what a notebook must be before it is committed. One line a finding, then exit status 1.

A notebook is a page of the book and a Colab notebook at once: no outputs, no MyST directive or role
(Colab shows them raw) and no relative picture (Colab cannot find it).

    python tools/gate.py [NOTEBOOK ...]     without arguments: all, and the stamps
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import stamp

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(
    r"(?ms)^[ \t]*(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)\n.*?^[ \t]*(?P=fence)[ \t]*$"
)
DIRECTIVE = re.compile(
    r"(?m)^[ \t>]*(?:`{3,}|~{3,}|:{3,})[ \t]*\{[\w:.-]+\}|^:{3,}[ \t]*\w*[ \t]*$"
)
ROLE = re.compile(r"\{[a-zA-Z][\w:.+-]*\}`[^`\n]+`")
COMMENT_OR_TARGET = re.compile(r"(?m)^(?:%[ \t]|\([\w-]+\)=[ \t]*$|\+\+\+)")
SUBSTITUTION = re.compile(r"\{\{[ \t]*[\w.]+[ \t]*\}\}")
IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\(\s*<?(?P<src>[^)\s>]+)|<img\b(?P<tag>[^>]*)>", re.I)
IMPORTS = re.compile(r"(?m)^[ \t]*(?:import|from)[ \t]+(?:myst_nb|myst_parser|sphinx)\b")
EDITOR_METADATA = {"vscode", "colab", "widgets", "toc", "varInspector"}


def _text(cell: dict) -> str:
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def _near(text: str, at: int) -> str:
    line = text[text.rfind("\n", 0, at) + 1 :].split("\n", 1)[0].strip()
    return line if len(line) <= 60 else line[:57] + "…"


def in_markdown(text: str) -> list[str]:
    found = []
    for match in DIRECTIVE.finditer(text):
        found.append(f"MyST directive, which Colab shows raw: {_near(text, match.start())}")
    prose = re.sub(r"(?<!\{)\$\$.*?\$\$", " ", FENCE.sub("", text), flags=re.S)
    prose = re.sub(r"(?<![\\$])\$[^$\n]+\$", " ", prose)
    for match in ROLE.finditer(prose):
        found.append(f"MyST role, which Colab shows raw: {match[0]}")
    plain = re.sub(r"`[^`\n]*`", " ", prose)
    for match in COMMENT_OR_TARGET.finditer(plain):
        found.append(f"MyST comment, target or block break: {_near(plain, match.start())}")
    for match in SUBSTITUTION.finditer(plain):
        found.append(f"MyST substitution: {match[0]}")
    for match in re.finditer(r"\\\(|\\\[", plain):
        found.append(
            f"formula in \\( or \\[ is not set; use $ or $$: {_near(plain, match.start())}"
        )
    for match in IMAGE.finditer(prose):
        if match["src"]:
            source, alt = match["src"], match["alt"]
        else:
            values = dict(re.findall(r"(\w+)\s*=\s*[\"']([^\"']*)", match["tag"]))
            source, alt = values.get("src", ""), values.get("alt", "")
        if not source.startswith(("https://", "data:")):
            found.append(f"picture by a relative path, which Colab cannot find: {source}")
        if not alt.strip():
            found.append(f"picture without alt text: {source[:40]}")
    if prose.count("<details") != prose.count("</details>"):
        found.append("<details> is opened and closed a different number of times")
    return found


def in_notebook(path: Path) -> list[str]:
    """Findings about one notebook, without its name."""
    try:
        book = json.loads(path.read_text(encoding="utf-8"))
        cells = book["cells"]
    except (ValueError, KeyError) as error:
        return [f"not a notebook: {error}"]
    found, seen = [], set()
    if (book.get("nbformat"), book.get("nbformat_minor", 0)) < (4, 5):
        found.append("older than nbformat 4.5, so its cells have no ids")
    if book.get("metadata", {}).get("kernelspec", {}).get("name") != "python3":
        found.append("kernel is not named python3")
    for key in sorted(EDITOR_METADATA & set(book.get("metadata", {}))):
        found.append(f"metadata of an editor: {key}")
    for number, cell in enumerate(cells, 1):
        where = f"cell {number}"
        name = cell.get("id")
        if not name:
            found.append(f"{where}: no id")
        elif name in seen:
            found.append(f"{where}: the id {name} occurs twice")
        seen.add(name)
        text = _text(cell)
        if cell["cell_type"] == "code":
            if cell.get("outputs"):
                found.append(f"{where}: has outputs; nbstripout {path.name}")
            if cell.get("execution_count") is not None:
                found.append(f"{where}: has an execution count; nbstripout {path.name}")
            if match := IMPORTS.search(text):
                found.append(f"{where}: {_near(text, match.start())}: not there in Colab")
        elif cell["cell_type"] == "markdown":
            found += [f"{where}: {finding}" for finding in in_markdown(text)]
    first = next((_text(cell) for cell in cells if cell["cell_type"] == "markdown"), "")
    if not re.match(r"# \S", first):
        found.append("does not start with a title (# …)")
    titles = sum(
        len(re.findall(r"(?m)^# \S", FENCE.sub("", _text(cell))))
        for cell in cells
        if cell["cell_type"] == "markdown"
    )
    if titles > 1:
        found.append(f"has {titles} titles (# …); sections start with ##")
    return found


def notebooks(root: Path) -> list[Path]:
    paths = [*(root / "book").rglob("*.ipynb"), *(root / "assignments").glob("*.ipynb")]
    return sorted(path for path in paths if ".ipynb_checkpoints" not in path.parts)


def stamps(root: Path) -> list[str]:
    try:
        return [
            f"{path.relative_to(root)}: out of step with _config.yml; run python tools/stamp.py"
            for path in stamp.out_of_step(root)
        ]
    except stamp.Fault as fault:
        return [str(fault)]


def findings(root: Path, paths: list[Path] | None = None) -> list[str]:
    found = []
    for path in paths or notebooks(root):
        shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        found += [f"{shown}: {finding}" for finding in in_notebook(path)]
    return found if paths else found + stamps(root)


def main(argv: list[str], root: Path = ROOT) -> int:
    found = findings(root, [Path(name).resolve() for name in argv] or None)
    for finding in found:
        print(finding)
    if not found:
        print(f"gate: {len(argv) or len(notebooks(root))} notebook(s) in order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
