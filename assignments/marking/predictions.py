"""The predictions of a class on one page: ``python -m assignments.marking predictions ...``

    predictions pool FOLDER --out OUT [--answers FILE]   OUT/predictions.html, OUT/predictions.csv
    predictions questions [--book FOLDER]                all questions, as a start for --answers

FOLDER, or a zip, holds the files `predictions.json` of the students, in subfolders or under any
names. Only the first prediction for a question is counted. The true values are on the pages of the
book; they are shown only with --answers, a TOML file with a table for each chapter: "question" =
value.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import re
import sys
import tomllib
from collections import Counter
from itertools import pairwise
from pathlib import Path

from assignments.marking import plainfiles
from assignments.marking.inventory import folder_of
from resnet_lib.guesses import FORMAT, LARGEST, LONGEST, is_plain

ROOT = Path(__file__).resolve().parents[2]
WORDS = 12  # different words shown; the others are counted together
LIMIT = 100_000  # bytes of a student's file


# --- the questions, as the chapters ask them


def questions(book: Path = ROOT / "book") -> dict[str, dict]:
    """Chapter -> {"title", "asks": {question: the comment above it}}, read from the notebooks."""
    found = {}
    for path in sorted(book.glob("[0-9]*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        title = "".join(cells[0]["source"]).splitlines()[0].lstrip("# ")
        for cell in cells:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code" and re.search(r"(?m)^guess = \{$", source):
                found[path.name[:2]] = {"title": title, "asks": asked(source)}
                break
    return found


def asked(source: str) -> dict[str, str]:
    """{question: the comment lines above it} of a guess cell."""
    tree = ast.parse(source)
    node = next(
        n.value
        for n in tree.body
        if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "guess"
    )
    lines, above, found = source.splitlines(), node.lineno, {}
    for key in node.keys:
        comment = [line.strip().lstrip("# ") for line in lines[above : key.lineno - 1]]
        found[key.value], above = " ".join(comment), key.end_lineno
    return found


# --- reading


def answers_of(held: object, known: dict) -> tuple[str, dict, int]:
    """(id, {(chapter, question): (first, later or None)}, answers to unknown questions)."""
    if not isinstance(held, dict) or held.get("format") != FORMAT:
        raise plainfiles.Refused("not a predictions file of this book")
    ident, chapters = held.get("id"), held.get("chapters")
    if not isinstance(ident, str) or not re.fullmatch(r"[0-9a-f]{16}", ident):
        raise plainfiles.Refused("its id is not one that a page of the book wrote")
    if set(held) != {"format", "id", "chapters"} or not isinstance(chapters, dict):
        raise plainfiles.Refused("other entries than a page of the book writes")
    found, unknown = {}, 0
    for chapter, entry in chapters.items():
        if not isinstance(entry, dict) or set(entry) != {"first", "later"}:
            raise plainfiles.Refused("a chapter without first and later guesses")
        if not all(isinstance(part, dict) for part in entry.values()):
            raise plainfiles.Refused("guesses that are no table")
        if not all(is_plain(value) for part in entry.values() for value in part.values()):
            raise plainfiles.Refused("a guess that is no number, short text or list")
        for question, first in entry["first"].items():
            if question in known.get(chapter, {"asks": {}})["asks"]:
                found[chapter, question] = first, entry["later"].get(question)
            else:
                unknown += 1
    if not found:
        raise plainfiles.Refused("no guess for a question of this book")
    return ident, found, unknown


def pool(folder: Path, known: dict) -> tuple[dict, list[str]]:
    """({file: its answers}, a line for each file with a problem)."""
    counted, problems, owner = {}, [], {}
    for name, path in plainfiles.collect(folder):
        shown = plainfiles.clean(name)
        try:
            ident, found, unknown = answers_of(plainfiles.read(path, LIMIT), known)
        except plainfiles.Refused as refused:
            problems.append(f"{shown}: {refused}; not counted")
            continue
        other = owner.get(ident)
        if other is not None:
            keep, drop = (other, shown) if len(counted[other]) >= len(found) else (shown, other)
            problems.append(f"{drop}: a copy, or an earlier state, of {keep}; not counted")
            if keep == other:
                continue
            del counted[other]
        owner[ident] = shown
        counted[shown] = found
        if unknown:
            problems.append(
                f"{shown}: {unknown} guess{'es' * (unknown > 1)} for questions that the book "
                "does not ask; the others count"
            )
    return counted, problems


# --- counting


def as_number(value) -> float | None:
    """A number, also one that was written in quotes or with a percent sign."""
    if isinstance(value, str) and plainfiles.NUMBER.fullmatch(value.strip().rstrip("% ")):
        value = float(value.strip().rstrip("% "))
    if not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
        return None
    return float(value) if abs(value) > 1 / LARGEST else 0.0


def as_word(value) -> str:
    """A text or a list as words that can be compared: case and spaces do not count."""
    if isinstance(value, list):
        return ", ".join(show(v) if as_number(v) is not None else as_word(v) for v in value)
    return " ".join(plainfiles.clean(value, LONGEST).casefold().split())


def show(number) -> str:
    number = number if isinstance(number, (int, float)) else as_number(number)
    whole = number == int(number) and abs(number) < 1e15
    return f"{int(number):,}" if whole else f"{number:.4g}"


def bars(values: list, answer=None) -> list[tuple[str, int, bool]]:
    """(label, how many, whether the answer lies there), numbers first, then words."""
    numbers = [n for n in map(as_number, values) if n is not None]
    words = Counter(as_word(v) for v in values if as_number(v) is None)
    aim = None if answer is None else as_number(answer)
    found = [
        (label, sum(inside(n) for n in numbers), aim is not None and inside(aim))
        for label, inside in bins(numbers)
    ]
    told = None if answer is None or aim is not None else as_word(answer)
    common = words.most_common(WORDS)
    found += [(word, n, word == told) for word, n in common]
    others = sum(words.values()) - sum(n for _, n in common)
    return found + ([("other words", others, False)] if others else [])


def bins(numbers: list[float]) -> list:
    """(label, test) of the bars for these numbers.

    Up to eight different numbers get a bar each. More are put into about eight equal ranges, or
    into powers of ten where they differ by more than that; the outermost are open, so that a
    single wild guess does not squeeze all others into one bar.
    """
    ordered = sorted(set(numbers))
    if len(ordered) <= 8:
        return [(show(v), lambda n, v=v: n == v) for v in ordered]
    numbers = sorted(numbers)
    low = numbers[math.ceil(0.05 * (len(numbers) - 1))]
    high = numbers[math.floor(0.95 * (len(numbers) - 1))]
    if low == high:
        low, high = ordered[0], ordered[-1]
    if low > 0 and high / low >= 1000:
        first, last = math.floor(math.log10(low)), math.floor(math.log10(high)) + 1
        step = math.ceil((last - first) / 10)
        edges = [float(f"1e{k}") for k in range(first, last + step, step)]
    elif high - low <= 1e-9 * max(abs(low), abs(high)):
        edges = [low, math.nextafter(high, math.inf)]
    else:
        step = nice((high - low) / 8)
        first, last = math.floor(low / step), math.floor(high / step) + 1
        edges = [float(f"{k * step:.12g}") for k in range(first, last + 1)]
    found = [(f"{show(a)} to {show(b)}", _between(a, b)) for a, b in pairwise(edges)]
    if ordered[0] < edges[0]:
        found.insert(0, (f"under {show(edges[0])}", _between(-math.inf, edges[0])))
    if ordered[-1] >= edges[-1]:
        found.append((f"{show(edges[-1])} or more", _between(edges[-1], math.inf)))
    return found


def _between(low, high):
    return lambda number: low <= number < high


def nice(step: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50, ... (and 0.5, 0.2, ...) that is not smaller."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))


# --- the page


def drawing(rows: list[tuple[str, int, bool]], about: str) -> str:
    """Bars as inline SVG; the colours come from the page."""
    most = max(n for _, n, _ in rows)
    labels = [label if len(label) <= 34 else label[:33] + "…" for label, _, _ in rows]
    left = 20 + 8 * max(len(label) + sum(ord(c) > 0x2E7F for c in label) for label in labels)
    height, wide = 26, 420
    parts = []
    for k, (label, (_, n, hit)) in enumerate(zip(labels, rows, strict=True)):
        y, width = k * height, wide * n / most
        note = f"{n}   ◀ answer" if hit else str(n)
        mark = ' class="mark"' if hit else ""
        parts.append(
            f'<text x="{left - 10}" y="{y + 18}" text-anchor="end">{plainfiles.text(label)}</text>'
            f'<rect{mark} x="{left}" y="{y + 4}" width="{width:.1f}" height="18"/>'
            f'<text x="{left + width + 8:.1f}" y="{y + 18}">{note}</text>'
        )
    box = f"0 0 {left + wide + 110} {height * len(rows) + 4}"
    words = plainfiles.text(f"Bars: {about}. The table below has the same numbers.")
    return (
        f'<svg role="img" viewBox="{box}" width="{left + wide + 110}" aria-label="{words}">'
        + "".join(parts)
        + "</svg>"
    )


def section(question: str, asks: str, given: list[tuple], answer) -> str:
    firsts = [first for first, _ in given]
    changed = sum(later is not None for _, later in given)
    numbers = sorted(n for n in map(as_number, firsts) if n is not None)
    said = f"n = {len(firsts)}"
    if numbers:
        half = (numbers[(len(numbers) - 1) // 2] + numbers[len(numbers) // 2]) / 2
        said += f"; median {show(half)}"
    said += f"; {changed} changed later" if changed else ""
    said += f"; answer: {show(answer) if as_number(answer) is not None else answer}" * (
        answer is not None
    )
    rows = bars(firsts, answer)
    shown = [(r[0] + (" (answer)" if r[2] else ""), r[1]) for r in rows]
    outside = answer is not None and not any(r[2] for r in rows)
    said += " (in no bar: nobody guessed it)" if outside else ""
    return (
        f"<h3>{plainfiles.text(question)}</h3>\n"
        + (f"<p>{plainfiles.text(asks)}</p>\n" if asks else "")
        + f'<p class="soft">{plainfiles.text(said)}</p>\n'
        + drawing(rows, f"{question}; {said}")
        + "<details><summary>As a table</summary>"
        + plainfiles.table(["first guess", "how many"], [list(r) for r in shown])
        + "</details>\n"
    )


def page(counted: dict, problems: list[str], known: dict, answers: dict) -> str:
    body = [
        f"<p>{len(counted)} file{'s' * (len(counted) != 1)}. Each student's first prediction "
        "counts. A range holds its first number, not its last.</p>"
    ]
    for chapter, about in known.items():
        parts = []
        for question, asks in about["asks"].items():
            key = chapter, question
            given = [found[key] for found in counted.values() if key in found]
            if given:
                answer = answers.get(chapter, {}).get(question)
                parts.append(section(question, asks, given, answer))
        if parts:
            body += [f"<h2>{plainfiles.text(about['title'])}</h2>", *parts]
    return "\n".join(body) + plainfiles.left_out(problems)


def read_answers(path: Path, known: dict) -> dict:
    """The teacher's own file: a question that the book does not ask is an error."""
    try:
        answers = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise plainfiles.Refused(f"{path}: {error}") from None
    for chapter, entries in answers.items():
        if not isinstance(entries, dict):
            raise plainfiles.Refused(f"{path}: {chapter} is no table; write [{chapter!r}]")
        for question, value in entries.items():
            if question not in known.get(chapter, {"asks": {}})["asks"]:
                raise plainfiles.Refused(f"{path}: chapter {chapter} does not ask {question!r}")
            if not is_plain(value):
                raise plainfiles.Refused(f"{path}: {question!r} needs a number or a text")
    return answers


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("predictions", description=__doc__.split("\n")[0])
    parser.add_argument("--book", type=Path, default=ROOT / "book", help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("pool", help="one page for a class")
    one.add_argument("folder", type=Path, help="folder or zip of the students' files")
    one.add_argument("--out", type=Path, required=True, help="where page and table go")
    one.add_argument("--answers", type=Path, help="TOML: show the true values too")
    commands.add_parser("questions", help="print all questions, for --answers")
    args = parser.parse_args(argv)
    known = questions(args.book)
    if args.command == "questions":
        for chapter, about in known.items():
            print(f'["{chapter}"]  # {about["title"]}')
            print("".join(f"# {json.dumps(q, ensure_ascii=False)} = \n" for q in about["asks"]))
        return 0
    try:
        answers = read_answers(args.answers, known) if args.answers else {}
        with folder_of(args.folder) as place:
            counted, problems = pool(place, known)
        args.out.mkdir(parents=True, exist_ok=True)
        rows = [["chapter", "question", "first", "later", "file"]]
        for name, found in counted.items():
            for (chapter, question), guesses in found.items():
                plain = [as_word(g) if isinstance(g, list) else g for g in guesses]
                rows.append([f"chapter {chapter}", question, *plain, name])
        plainfiles.write_csv(args.out / "predictions.csv", rows)
        body = page(counted, problems, known, answers)
        plainfiles.write_page(args.out / "predictions.html", "Predictions of the class", body)
    except (plainfiles.Refused, OSError) as error:
        print(f"predictions: {error}", file=sys.stderr)
        return 2
    for line in problems:
        print(line)
    print(f"{len(counted)} files counted; {args.out / 'predictions.html'}")
    return 0 if counted else 1


if __name__ == "__main__":
    sys.exit(main())
