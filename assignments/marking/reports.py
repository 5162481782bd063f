"""Results of a class as files: marks, a page a student, the platforms' tables, prose to read.

All text that comes from a student is escaped; a table's cell never starts a formula.
"""

import csv
import io
import json
import re
import shutil
from pathlib import Path

from . import batch, intake, plainfiles
from .intake import Submission
from .master import Fault, Master, Question
from .plainfiles import text as shown

BY_HAND = ["student", "question", "points", "comment"]
LONGEST = 100_000  # characters of a text, or of a cell
PRINTED = 10_000  # characters of what experiments printed
WEIGHT = re.compile(r" \(\d[^()]*points[^()]*\)$")  # behind the title of a question


def typed(value: str | None) -> str:
    """What stands in a cell that `table` wrote."""
    text = value or ""
    return text[1:] if text.startswith("'") and _cell(text[1:]) == text else text


def _cell(value: str) -> object:
    return plainfiles.cell(value, LONGEST, lines=True)


def table(rows: list[list]) -> str:
    """Rows as CSV; a comment may have several lines."""
    return plainfiles.csv_text(rows, LONGEST, lines=True)


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
    tables = {"marks": _marks(work, results, hand), "parts": _parts(results)}
    tables["by_hand"] = _to_fill_in(results, hand)
    for name, rows in tables.items():  # by the mark in front spreadsheet programs know UTF-8
        batch.write(out / f"{name}.csv", "\ufeff" + table(rows))
    body = _prose(work, results)
    batch.write(out / "by_hand.html", plainfiles.page(f"{work.title}: to read", body))
    shutil.rmtree(out / "feedback", ignore_errors=True)
    for submission, result in results:
        name = batch.result_file(out, submission).with_suffix(".html").name
        body = _feedback(work, submission, result, hand)
        batch.write(out / "feedback" / name, plainfiles.page(work.title, body))
    totals = {id(s): total(work, r, hand.get(s.student, {})) for s, r in results}
    batch.write(out / "canvas.csv", table(_canvas(work, results, totals, gradebook, column)))
    batch.write(out / "moodle.csv", table(_moodle(work, results, totals, worksheet)))
    known = {submission.student for submission, _ in results}
    for student in [student for student in hand if student not in known]:
        troubles.append(f"by_hand.csv: nothing of {student!r} is marked here; is the name right?")
    for submission in found:
        name = submission.path.name
        if submission.student not in name:  # Moodle's folders hold files of one name
            name = f"{submission.student}, {name}"
        if submission.problem:
            troubles.append(f"{name}: not marked: {submission.problem}")
        troubles += [f"{name}: {note}" for note in submission.notes]
    for submission, result in results:
        troubles += [f"{submission.student}: look at it: {line}" for line in result["look"]]
        troubles += [f"{submission.student}: {result['copy']}"] if result["copy"] else []
    others = sum(bool(result["copy"]) for _, result in results)
    if others > len(results) / 2:
        troubles.insert(0, f"{others} of {len(results)} have another copy: --secret-file right?")
    troubles = [plainfiles.clean(line, 1000) for line in troubles]  # names may hold \n
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


def unread(work: Master, results: list, out: Path) -> int:
    """How many answers have no points by hand yet."""
    hand, _ = read_by_hand(work, out)
    points = [by_question(work, result, hand.get(s.student, {})) for s, result in results]
    return sum(list(own.values()).count(None) for own in points)


def _marks(work: Master, results: list, hand: dict) -> list[list]:
    names = [question.name for question in work.questions]
    most = [f"{question.name} (of {question.points:g})" for question in work.questions]
    rows = [["student", "number", *most, "total", "still by hand", "late", "notes"]]
    for submission, result in results:
        own = hand.get(submission.student, {})
        points = by_question(work, result, own)
        left = ", ".join(name for name in names if points[name] is None)
        given = ["" if points[name] is None else points[name] for name in names]
        late = "late" if submission.late else ""
        notes = "; ".join([*submission.notes, *result["notes"]])[:500]
        sums = [total(work, result, own), left, late, notes]
        rows.append([submission.student, submission.number, *given, *sums])
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
            points = int(points) if points is not None and points.is_integer() else points
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
    from markdown_it import MarkdownIt  # for a teacher; where Gradescope runs it is not

    ours = MarkdownIt("commonmark", {"html": False}).enable("table")
    parts = ["<p>Write the points into by_hand.csv and run the same command again.</p>"]
    parts.append("<p>Texts stand here as they were typed: tables and formulas as Markdown. ")
    parts.append("Figures are in the notebooks.</p>")
    values = results[0][1]["parameters"] if results else {}
    own = "" if values == work.parameters else ": a private copy, to which numbers of the sample "
    own += "answers may not belong" if own else ""
    rows = [[name, json.dumps(value)] for name, value in values.items()]
    parts.append(f"<details><summary>PARAMETERS{own}</summary>")
    parts.append(plainfiles.table(["name", "value"], rows) + "</details>")
    printed = [intake.printed(submission, work)[:PRINTED] for submission, _ in results]
    for question in work.questions:
        if not question.manual:
            continue
        parts.append(f"<h2>{shown(question.title)}</h2>")
        sample = [c.source for c in work.cells if c.role == "prose" and c.question == question.name]
        sample = ours.render("\n\n".join(sample))
        parts.append(f"<details open><summary>Rubric</summary>{sample}</details>")
        for (submission, result), said in zip(results, printed, strict=True):
            text = [a["text"] for a in result["prose"] if a["question"] == question.name]
            empty = "" if any(text) else "<p><em>Nothing written.</em></p>"
            parts.append(f"<h3>{shown(_who(submission))}</h3>{empty or _pre(text)}")
            if said:
                head = "What the experiments printed in this notebook"
                parts.append(f"<details><summary>{head}</summary>{_pre([said])}</details>")
    return "\n".join(parts)


def _who(submission: Submission) -> str:
    """The student, and the number in the notebook (experiments start from it)."""
    if submission.number == submission.student:
        return submission.student
    number = f"STUDENT_ID {submission.number}" if submission.number else "no STUDENT_ID"
    return f"{submission.student} · {number}"


def _pre(texts: list[str]) -> str:
    return f"<pre>{shown(chr(10).join(texts), LONGEST, lines=True)}</pre>"


def _title(question: Question) -> str:
    return WEIGHT.sub("", question.title) or question.name


def _feedback(work: Master, submission: Submission, result: dict, hand: dict) -> str:
    own = hand.get(submission.student, {})
    points = by_question(work, result, own)
    most = sum(question.points for question in work.questions)
    rows = [
        [_title(q), "not read yet" if points[q.name] is None else f"{points[q.name]:g}", q.points]
        for q in work.questions
    ]
    word = "Total so far" if None in points.values() else "Total"
    rows.append([word, f"{total(work, result, own):g}", most])
    parts = [f"<p>{shown(_who(submission))}</p>"]
    parts.append(plainfiles.table(["question", "your points", "of"], rows))
    lost = [part for part in result["parts"] if part["got"] < part["points"]]
    if lost:
        text = "Your work was asked with fresh inputs: the numbers below are not those of the "
        text += "checks in your notebook, and where they do not fit the arguments of your function "
        text += "they are those from which its input was made. If a line is unclear or seems wrong "
        text += "to you, ask."
    else:
        text = "Everything that the machine marks is right."
    parts.append(f"<p>{text}</p>")
    if result["copy"]:
        text = f"Your notebook is not the copy of this course: {result['copy']}."
        parts.append(f"<p>{shown(text, 300)}</p>")
    if result["notes"]:
        parts.append(f"<h2>When your cells ran</h2>{_pre(result['notes'])}")
    for question in work.questions:
        here = [part for part in lost if part["question"] == question.name]
        comment = own.get(question.name, (None, "", ""))[1]
        if here or comment:
            parts.append(f"<h2>{shown(_title(question))}</h2>")
        for part in here:
            name = part["part"].replace("_", " ")
            parts.append(f"<p>{shown(name)}: {part['got']:g} of {part['points']:g}</p>")
            parts.append(_pre([part["feedback"]]))
        if comment:
            parts.append(_pre([comment]))
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
    # A number inside is only said: it finds a row for a plain file, never a second one for
    # work that Canvas knows the owner of.
    numbers = {s.number: s for s, _ in results if s.number and not s.platform}
    if gradebook is None:
        rows = [[s.student, s.user, s.number, "", "", totals[id(s)]] for s in mine.values()]
        return [[*head, column or work.title], *rows]
    names, content = _read_table(gradebook, "ID")
    fits = [name for name in names if column and (name == column or name.startswith(f"{column} ("))]
    if column and not fits:
        raise Fault(f"{gradebook}: has no column {column!r}; it has {', '.join(names)[:300]}")
    kept = [name for name in head if name in names]
    rows = [[*kept, fits[0] if fits else work.title]]
    for row in content:
        known = mine.get(row["ID"]) or numbers.get(row.get("SIS User ID") or "")
        if known:
            rows.append([*(row[name] for name in kept), totals[id(known)]])
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
