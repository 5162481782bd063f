"""Stamp the address of the book: ``make fork REPO=<address> [BRANCH=main]``.

The address stands in ``_config.yml`` (repository: url, branch). From there it goes into the first
code cell of every chapter notebook (the template is tools/setup_cell.py) and replaces the former
address in the other text files.

    python tools/stamp.py            write what is out of step
    python tools/stamp.py --check    only list it; exit status 1 when there is something
    python tools/stamp.py --fork ADDRESS [--branch NAME]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TEXTS = ("README.md", "CONTRIBUTING.md", "CITATION.cff", "pyproject.toml", "book/**/*.md")
PLACEHOLDER = "OWNER/REPO"
# Whatever else lies on GitHub (a library, an issue) is left alone: only the placeholder and the
# addresses that this book had before are replaced.
NAME = r"[A-Za-z0-9_.-]+"
STAMP = "Setup. Finds resnet_lib"


class Fault(Exception):
    """Something the caller has to put right; printed without a traceback."""


class Home(NamedTuple):
    """Where the book lives."""

    url: str
    branch: str

    @property
    def path(self) -> str:
        return self.url.split("/", 3)[3]

    @property
    def github(self) -> bool:
        return self.url.startswith("https://github.com/")


def check_address(url: str) -> str:
    """The address in its one spelling, or a Fault that says what is wrong with it."""
    url = url.strip().rstrip("/").removesuffix(".git")
    if url.startswith("git@"):
        raise Fault(
            f"{url!r} is an ssh address. Readers need the https one, e.g. https://github.com/me/book."
        )
    if not url.startswith("https://"):
        raise Fault(f"{url!r} is not an https address, e.g. https://github.com/me/book.")
    host, _, path = url.removeprefix("https://").partition("/")
    if not re.fullmatch(rf"{NAME}(?:\.{NAME})+(?::\d+)?", host):
        raise Fault(f"{url!r} has no host name that makes sense ({host!r}).")
    parts = path.split("/")
    if len(parts) < 2 or not all(re.fullmatch(NAME, part) for part in parts):
        raise Fault(f"{url!r} should end in owner and repository, e.g. https://github.com/me/book.")
    if host == "github.com" and len(parts) != 2:
        raise Fault(
            f"{url!r} is longer than owner and repository; give the repository's own address."
        )
    return url


def check_branch(branch: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./-]*", branch):
        raise Fault(f"{branch!r} is not a branch name.")
    return branch


def _block(text: str) -> re.Match:
    found = re.search(r"(?m)^repository:[^\n]*\n((?:[ \t]+[^\n]*\n|\n)+)", text)
    if not found:
        raise Fault("_config.yml has no `repository:` block.")
    return found


def read_home(root: Path) -> Home:
    block = _block((root / "_config.yml").read_text(encoding="utf-8"))[1]
    values = {}
    for key in ("url", "branch"):
        found = re.search(rf"(?m)^[ \t]+{key}:[ \t]*[\"']?([^\s\"'#]+)", block)
        if not found:
            raise Fault(f"_config.yml: repository.{key} is missing.")
        values[key] = found[1]
    return Home(check_address(values["url"]), check_branch(values["branch"]))


def write_home(root: Path, home: Home) -> None:
    path = root / "_config.yml"
    text = path.read_text(encoding="utf-8")
    found = _block(text)
    block = found[0]
    for key, value in (("url", home.url), ("branch", home.branch)):
        block = re.sub(
            rf"(?m)^([ \t]+{key}:[ \t]*)[^\n#]*?([ \t]*(?:#[^\n]*)?)$", rf"\g<1>{value}\g<2>", block
        )
    path.write_text(text[: found.start()] + block + text[found.end() :], encoding="utf-8")


def setup_cell(root: Path, home: Home, chapter: str) -> str:
    text = (root / "tools" / "setup_cell.py").read_text(encoding="utf-8").rstrip("\n")
    for field, value in (("url", home.url), ("branch", home.branch), ("chapter", chapter)):
        text = text.replace("{" + field + "}", value)
    return text


def notebooks(root: Path) -> list[Path]:
    """Chapters, masters of assignments and their published copies: what has a set-up cell."""
    patterns = ("book/[0-9]*.ipynb", "assignments/a[0-9]*.ipynb", "book/assignments/a[0-9]*.ipynb")
    return [path for pattern in patterns for path in sorted(root.glob(pattern))]


def stamped_home(root: Path) -> Home | None:
    """The address of the last stamping, from a set-up cell: _config.yml may be edited by hand."""
    for path in notebooks(root):
        found = re.search(
            r"git\+(https://[^\s\"'\\@]+)@([^\s\"'\\]+)", path.read_text(encoding="utf-8")
        )
        if found:
            return Home(found[1], found[2])
    return None


def _text(cell: dict) -> str:
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def stamp_notebook(root: Path, path: Path, home: Home, former: set[Home]) -> str:
    """The notebook with its set-up cell, and the addresses in its prose, as they should be."""
    text = path.read_text(encoding="utf-8")
    book = json.loads(text)
    codes = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    if not codes:
        raise Fault(f"{path.relative_to(root)} has no code cell to stamp.")
    source = _text(codes[0])
    if source.strip() and STAMP not in source.split("\n", 1)[0]:
        raise Fault(
            f'{path.relative_to(root)}: the first code cell is not the set-up cell ("# {STAMP} …").'
        )
    wanted = {id(codes[0]): setup_cell(root, home, path.name[:2])}
    for cell in book["cells"]:
        if cell["cell_type"] == "markdown":
            wanted[id(cell)] = stamp_text(_text(cell), home, former)
    same = True
    for cell in book["cells"]:
        if id(cell) in wanted and _text(cell) != wanted[id(cell)]:
            cell["source"], same = wanted[id(cell)].splitlines(keepends=True), False
    tags = codes[0]["metadata"].setdefault("tags", [])
    if "hide-input" not in tags:
        tags.append("hide-input")
        same = False
    return text if same else json.dumps(book, indent=1, ensure_ascii=False) + "\n"


def stamp_text(text: str, home: Home, former: set[Home]) -> str:
    """Every former address, and every link that follows from it, replaced by today's."""
    for old in sorted(former, key=lambda home: -len(home.url)):
        end = r"(?![A-Za-z0-9_-])(?!\.[A-Za-z0-9_])"
        for start in ("https://github.com/", "https://colab.research.google.com/github/"):
            if old.github and home.github:
                for kind in ("blob", "tree", "raw"):  # links to a file on a branch
                    text = text.replace(
                        f"{start}{old.path}/{kind}/{old.branch}/",
                        f"{start}{home.path}/{kind}/{home.branch}/",
                    )
                text = re.sub(re.escape(f"{start}{old.path}") + end, f"{start}{home.path}", text)
        text = text.replace(f"{old.url}.git", f"{home.url}.git")
        text = text.replace(f"{old.url}@{old.branch}", f"{home.url}@{home.branch}")
        text = re.sub(re.escape(old.url) + end, home.url, text)
        text = re.sub(
            rf"(?<![\w./-]){re.escape(old.path)}(?![\w/-])", home.path, text
        )  # the bare name, in prose
    return text


def text_files(root: Path) -> list[Path]:
    return sorted(
        {path for pattern in TEXTS for path in root.glob(pattern) if "_static" not in path.parts}
    )


def out_of_step(root: Path, former: set[Home] = frozenset()) -> dict[Path, str]:
    """File -> what it should hold, for every file that does not hold it."""
    home = read_home(root)
    before = stamped_home(root)
    former = {
        old
        for old in {*former, Home(f"https://github.com/{PLACEHOLDER}", "main"), before}
        if old and old != home
    }
    wanted = {path: stamp_notebook(root, path, home, former) for path in notebooks(root)}
    wanted |= {
        path: stamp_text(path.read_text(encoding="utf-8"), home, former)
        for path in text_files(root)
    }
    return {path: text for path, text in wanted.items() if path.read_text(encoding="utf-8") != text}


def fork(root: Path, url: str, branch: str | None) -> list[Path]:
    """Give the book another address, everywhere. Nothing is written unless everything can be."""
    former = read_home(root)
    home = Home(check_address(url), check_branch(branch or "main"))
    config = (root / "_config.yml").read_text(encoding="utf-8")
    write_home(root, home)
    try:
        changes = out_of_step(root, {former})
    except Exception:
        (root / "_config.yml").write_text(config, encoding="utf-8")
        raise
    for path, text in changes.items():
        path.write_text(text, encoding="utf-8")
    changed = [] if home == former else [root / "_config.yml"]
    return changed + list(changes)


def main(argv=None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when something is out of step"
    )
    parser.add_argument(
        "--fork", metavar="ADDRESS", help="the new address, e.g. https://github.com/me/book"
    )
    parser.add_argument("--branch", help="with --fork: the branch readers get (main)")
    args = parser.parse_args(argv)
    try:
        if args.fork is not None:
            changed = fork(root, args.fork, args.branch)
            home = read_home(root)
            print(
                f"The book lives at {home.url}, branch {home.branch}; {len(changed)} files changed."
            )
            for path in changed:
                print(f"  {path.relative_to(root)}")
            if not home.github:
                print("Colab opens notebooks from GitHub only: its links still need a copy there.")
            return 0
        changes = out_of_step(root)
        for path, text in changes.items():
            if args.check:
                print(f"{path.relative_to(root)}: out of step with _config.yml; run tools/stamp.py")
            else:
                path.write_text(text, encoding="utf-8")
                print(f"stamped {path.relative_to(root)}")
        return 1 if args.check and changes else 0
    except Fault as fault:
        print(f"tools/stamp.py: {fault}", file=sys.stderr)
        return 2 if not args.check else 1


if __name__ == "__main__":
    sys.exit(main())
