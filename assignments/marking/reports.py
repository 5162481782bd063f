"""Results of a class as files: marks, a page a student, the platforms' tables, prose to read.

All text that comes from a student is escaped; a table's cell never starts a formula.
"""

import csv
import html
import io
import re
import shutil
from pathlib import Path

from . import batch
from .intake import Submission
from .master import Fault, Master

# Characters that draw nothing, turn the direction of text around, or cannot be written at all.
UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .7rem; text-align: left; }
tr { border-bottom: 1px solid #8886; } td.n { text-align: right; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid #8888;
  padding-left: .8rem; }
"""
BY_HAND = ["student", "question", "points", "comment"]


def clean(text: str) -> str:
    """Text of a student's that can stand in a page."""
    return html.escape(UNSEEN.sub("", text))


def cell(value: object) -> object:
    """A value that no spreadsheet takes for a formula."""
    if not isinstance(value, str):
        return value
    text = UNSEEN.sub(" ", value)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@", "|", "%")) else text


def typed(value: str | None) -> str:
    """What stands in a cell that `cell` wrote."""
    text = value or ""
    return text[1:] if text.startswith("'") and cell(text[1:]) == text else text


def table(rows: list[list]) -> str:
    """Rows as CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([cell(v) for v in row] for row in rows)
    return out.getvalue()


def page(title: str, body: str) -> str:
    """A page that loads nothing and runs nothing."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{clean(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def write_all(
    work: Master,
    found: list[Submission],
    results: list[tuple[Submission, dict]],
    out: Path,
    gradebook: Path | None = None,
    worksheet: Path | None = None,
    column: str = "",
) -> list[str]:
    """Write all reports below `out`; return what a teacher should look at, a line each.

    Raises:
        Fault: if by_hand.csv, the gradebook or the worksheet cannot be used; says why.
    """
    hand, troubles = read_by_hand(work, out)
    batch.write(out / "marks.csv", table(_marks(work, results, hand)))
    batch.write(out / "parts.csv", table(_parts(results)))
    batch.write(out / "by_hand.csv", table(_to_fill_in(results, hand)))
    batch.write(out / "by_hand.html", page(f"{work.title}: to read", _prose(work, results)))
    shutil.rmtree(out / "feedback", ignore_errors=True)
    for submission, result in results:
        name = batch.result_file(out, submission).with_suffix(".html").name
        text = page(work.title, _feedback(work, submission, result, hand))
        batch.write(out / "feedback" / name, text)
    totals = {id(s): total(work, r, hand.get(s.student, {})) for s, r in results}
    batch.write(out / "canvas.csv", table(_canvas(work, results, totals, gradebook, column)))
    batch.write(out / "moodle.csv", table(_moodle(work, results, totals, worksheet)))
    known = {submission.student for submission, _ in results}
    for student in [student for student in hand if student not in known]:
        troubles.append(f"by_hand.csv: nothing of {student!r} is marked here; is the name right?")
    for submission in found:
        name = submission.path.name
        if submission.problem:
            troubles.append(f"{name}: not marked: {submission.problem}")
        troubles += [f"{name}: {note}" for note in submission.notes]
    for submission, result in results:
        troubles += [f"{submission.student}: look at it: {line}" for line in result["look"]]
    troubles = [" ".join(UNSEEN.sub(" ", line).split()) for line in troubles]  # names may hold \n
    batch.write(out / "look.txt", "".join(f"{line}\n" for line in troubles))
    return troubles


def by_question(work: Master, result: dict, hand: dict) -> dict[str, float | None]:
    """Points of each question; None: marked by hand, and not marked yet."""
    points = {}
    for question in work.questions:
        if question.manual:
            points[question.name] = hand.get(question.name, (None,))[0]
        else:
            own = [p["got"] for p in result["parts"] if p["question"] == question.name]
            points[question.name] = sum(own)
    return points


def total(work: Master, result: dict, hand: dict) -> float:
    return sum(points or 0 for points in by_question(work, result, hand).values())


def _marks(work: Master, results: list, hand: dict) -> list[list]:
    names = [question.name for question in work.questions]
    most = [f"{question.name} (of {question.points:g})" for question in work.questions]
    rows = [["student", "number", *most, "total", "still by hand", "late", "notes"]]
    for submission, result in results:
        own = hand.get(submission.student, {})
        points = by_question(work, result, own)
        left = ", ".join(name for name in names if points[name] is None)
        shown = ["" if points[name] is None else points[name] for name in names]
        late = "late" if submission.late else ""
        notes = "; ".join([*submission.notes, *result["notes"]])[:500]
        sums = [total(work, result, own), left, late, notes]
        rows.append([submission.student, submission.number, *shown, *sums])
    return rows


def _parts(results: list) -> list[list]:
    rows = [["student", "question", "part", "points", "got", "feedback"]]
    for submission, result in results:
        for part in result["parts"]:
            keys = ("question", "part", "points", "got", "feedback")
            rows.append([submission.student, *(part[key] for key in keys)])
    return rows


def read_by_hand(work: Master, out: Path) -> tuple[dict, list[str]]:
    """student -> question -> (points or None, comment, points as they were typed).

    Raises:
        Fault: if it is there and no table of ours.
    """
    path, hand, troubles = out / "by_hand.csv", {}, []
    if not path.exists():
        return hand, troubles
    most = {q.name: q.points for q in work.questions if q.manual}
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:  # saved by Excel
        text = data.decode("cp1252", "replace")
    mark = ";" if text.startswith("student;") else ","  # Excel's, where the comma is decimal
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark)
    if not set(BY_HAND) <= set(rows.fieldnames or []):
        raise Fault(f"{path}: its first line must be {','.join(BY_HAND)}")
    for number, row in enumerate(rows, start=2):
        name, text = row["question"] or "", typed(row["points"]).strip()
        points = None
        try:
            points = float(text.replace(",", ".")) if text else None
        except ValueError:
            troubles.append(f"by_hand.csv, line {number}: {text!r} is no number of points")
        if name not in most:
            troubles.append(f"by_hand.csv, line {number}: no question {name!r} marked by hand")
        elif points is not None and not 0 <= points <= most[name]:
            troubles.append(f"by_hand.csv, line {number}: 0 to {most[name]:g} points, not {text}")
            points = None
        own = hand.setdefault(typed(row["student"]), {})
        own[name] = (points, typed(row["comment"]), text)
    return hand, troubles


def _to_fill_in(results: list, hand: dict) -> list[list]:
    """What was filled in stays; who is new gets an empty line."""
    rows, seen = [BY_HAND], set()
    for student, questions in hand.items():
        for name, (_, comment, text) in questions.items():
            seen.add((student, name))
            rows.append([student, name, text, comment])
    for submission, result in results:
        for answer in result["prose"]:
            if (submission.student, answer["question"]) not in seen:
                rows.append([submission.student, answer["question"], "", ""])
    return rows


def _prose(work: Master, results: list) -> str:
    """Question by question, the rubric first, then all answers."""
    parts = [f"<h1>{clean(work.title)}: to read</h1>"]
    parts.append("<p>Write the points into by_hand.csv and run the marker again.</p>")
    for question in work.questions:
        if not question.manual:
            continue
        parts.append(f"<h2>{clean(question.title)}</h2>")
        sample = [c.source for c in work.cells if c.role == "prose" and c.question == question.name]
        parts.append(f"<details open><summary>Rubric</summary>{_pre(sample)}</details>")
        for submission, result in results:
            text = [a["text"] for a in result["prose"] if a["question"] == question.name]
            empty = "" if any(text) else "<p><em>Nothing written.</em></p>"
            parts.append(f"<h3>{clean(submission.student)}</h3>{empty or _pre(text)}")
    return "\n".join(parts)


def _pre(texts: list[str]) -> str:
    return f"<pre>{clean(chr(10).join(texts))}</pre>"


def _feedback(work: Master, submission: Submission, result: dict, hand: dict) -> str:
    own = hand.get(submission.student, {})
    points = by_question(work, result, own)
    most = sum(question.points for question in work.questions)
    parts = [f"<h1>{clean(work.title)}</h1>", f"<p>{clean(submission.student)}</p>"]
    rows = "".join(
        f"<tr><td>{clean(q.title or q.name)}</td>"
        f'<td class="n">{"still to be read" if points[q.name] is None else f"{points[q.name]:g}"}'
        f" of {q.points:g}</td></tr>"
        for q in work.questions
    )
    parts.append(f"<table>{rows}<tr><th>Total</th>")
    parts.append(f'<td class="n">{total(work, result, own):g} of {most:g}</td></tr></table>')
    if result["notes"]:
        parts.append(f"<h2>When your cells ran</h2>{_pre(result['notes'])}")
    for question in work.questions:
        lost = [
            p for p in result["parts"] if p["question"] == question.name and p["got"] < p["points"]
        ]
        comment = own.get(question.name, (None, "", ""))[1]
        if lost or comment:
            parts.append(f"<h2>{clean(question.title or question.name)}</h2>")
        for part in lost:
            name = part["part"].replace("_", " ")
            parts.append(f"<p>{clean(name)}: {part['got']:g} of {part['points']:g}</p>")
            parts.append(_pre([part["feedback"]]))
        if comment:
            parts.append(f"<p>{clean(comment)}</p>")
    return "\n".join(parts)


def _read_table(path: Path, needed: str) -> tuple[list[str], list[dict]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            names, content = list(rows.fieldnames or []), list(rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Fault(f"{path}: {error}") from None
    if needed not in names:
        raise Fault(f"{path}: has no column {needed!r}; is it the platform's own export?")
    return names, content


def _canvas(work, results, totals, gradebook: Path | None, column: str) -> list[list]:
    """Canvas' gradebook with one column of marks; without its export, the ids are all there is."""
    head = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    mine = {s.user: s for s, _ in results if s.platform == "canvas"}
    numbers = {s.number: s for s, _ in results if s.number}
    if gradebook is None:
        rows = [[s.student, s.user, s.number, "", "", totals[id(s)]] for s in mine.values()]
        return [[*head, column or work.title], *rows]
    names, content = _read_table(gradebook, "ID")
    fits = [name for name in names if column and (name == column or name.startswith(f"{column} ("))]
    if column and not fits:
        raise Fault(f"{gradebook}: has no column {column!r}; it has {', '.join(names)[:300]}")
    shown = [name for name in head if name in names]
    rows = [[*shown, fits[0] if fits else work.title]]
    for row in content:
        known = mine.get(row["ID"]) or numbers.get(row.get("SIS User ID") or "")
        if known:
            rows.append([*(row[name] for name in shown), totals[id(known)]])
    return rows


def _moodle(work, results, totals, worksheet: Path | None) -> list[list]:
    """Moodle's offline grading worksheet, filled in; without it, what it needs at the least."""
    mine = {s.user: s for s, _ in results if s.platform == "moodle"}
    if worksheet is None:
        rows = [[f"Participant {s.user}", s.student, totals[id(s)]] for s in mine.values()]
        return [["Identifier", "Full name", "Grade"], *rows]
    names, content = _read_table(worksheet, "Identifier")
    if "Grade" not in names:
        raise Fault(f"{worksheet}: has no column 'Grade'; is it Moodle's grading worksheet?")
    for row in content:
        known = mine.get(row["Identifier"].removeprefix("Participant").strip())
        if known:
            row["Grade"] = totals[id(known)]
    return [names, *([row[name] for name in names] for row in content)]
