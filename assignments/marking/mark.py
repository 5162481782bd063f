"""One submission becomes one result: run in the sandbox, compared here.

The sandbox answers with plain data. Here `Replay` stands for the student's work: asked for a case
it gives what came out there, and `judge` compares it through `resnet_lib.checks`.
"""

import ast
import base64
import json
import random
import sys
import textwrap
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from resnet_lib.checks import Finding, Report

from . import observe, sandbox
from .master import Cell, Master, Part, digest, parameters, source, with_parameters

# A probe imports it by this name, beside a submission and here.
sys.modules.setdefault("observe", observe)
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "int64": torch.int64,
    "int32": torch.int32,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
CELL_SECONDS = 10
PATIENCE = 30  # seconds for all cells; after that each gets two
PROBE_SECONDS = 20  # of the processor; three times as much by the clock
LONGEST = 1_000_000  # characters of one cell
MOST_LINES = 20_000  # of what the driver says
READ = 50_000  # characters of an answer that a person reads


@dataclass(frozen=True)
class Strange:
    """Something that came back and is no plain data."""

    text: str

    def __repr__(self) -> str:
        return self.text


class Replay:
    """What the student's work gave for each case."""

    def __init__(self, cases: list[tuple]):
        self.cases = [json.dumps(case) for case in cases]
        self.answers: dict[int, dict] = {}
        self.reason = "nothing came back"

    def __call__(self, *case):
        number = self.cases.index(json.dumps(case))
        if number not in self.answers:
            raise RuntimeError(self.reason)
        answer = self.answers[number]
        if "error" in answer:
            kind, text = (str(word)[:400] for word in answer["error"][:2])
            if kind == "NotImplementedError":
                raise NotImplementedError(text)
            name = kind if kind.isidentifier() else "Error"
            raise type(name, (Exception,), {})(text)
        return decode(answer.get("value"))


def decode(value: object, depth: int = 0) -> object:
    """Plain data from what the driver wrote. What does not fit becomes a `Strange`."""
    if value is None or type(value) is bool:
        return value
    if type(value) is int:  # larger ones cannot be compared with a float
        return value if value.bit_length() < 256 else Strange("a very large int")
    if type(value) is str:
        return value[:20_000]
    if type(value) is not dict or depth > 6:
        return Strange("something that is no plain data")
    try:
        if value.get("unanswered") is True:
            return ...
        if "float" in value:
            return float(value["float"])
        if "list" in value:
            items = [decode(item, depth + 1) for item in value["list"]]
            return tuple(items) if value.get("tuple") is True else items
        if "dict" in value:
            return {decode(k, depth + 1): decode(v, depth + 1) for k, v in value["dict"]}
        if "tensor" in value:
            raw = bytearray(base64.b64decode(value["tensor"], validate=True))
            dtype = DTYPES[value["dtype"]]
            # `reshape` refuses a shape that does not fit: it would show this process' memory.
            flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.zeros(0, dtype=dtype)
            return flat.reshape([int(n) for n in value["shape"]])
    except (TypeError, ValueError, KeyError, RuntimeError, OverflowError):
        return Strange("something that is no plain data")
    return Strange(str(value.get("strange", "something that is no plain data"))[:80])


def mark(
    master: Master,
    notebook: dict,
    student: str,
    engine: str,
    secret: str = "",
    limits: sandbox.Limits | None = None,
    slot: int = 0,
) -> dict:
    """Run and judge one submission.

    Args:
        notebook: the submission, a notebook as a dict; `intake.opened` has looked at its form.
        student: decides, with `secret`, the fresh inputs: the same work gets the same mark again.

    Returns:
        {"parts": [{"question", "part", "points", "got", "feedback"}], "prose": [{"question",
        "points", "text"}], "notes": [...], "look": [parts where our own check stopped],
        "copy": what is wrong with the copy, "parameters", "seconds", "memory"}; memory in MiB.
    """
    values = parameters(master, secret)
    cases = {}
    for part in master.parts:
        draw = random.Random(digest(secret, master.name, student, part.name))
        cases[part] = [tuple(case) for case in space(part)["cases"](draw, values)]
    cells = program(master, notebook, values)
    probes = [
        [f"{part.question}.{part.name}", part.probe, cases[part], PROBE_SECONDS]
        for part in master.parts
    ]
    text = json.dumps({"cells": cells, "patience": PATIENCE, "probes": probes})
    outcome = sandbox.run(engine, text.encode(), limits or sandbox.Limits(), slot)
    if outcome.stopped.startswith("ended") and not outcome.output.startswith(b'["begin"]'):
        raise RuntimeError(f"the sandbox did not start: {outcome.stopped}")  # not the student's
    replays = {f"{part.question}.{part.name}": Replay(cases[part]) for part in master.parts}
    notes = _sort(outcome, replays)
    open_names = unwritten([text for _, text, _ in cells])
    parts, look = [], []
    for part in master.parts:
        name = f"{part.question}.{part.name}"
        if any(f"'{word}'" in part.probe.replace('"', "'") for word in open_names):
            report, broken = Report(part.name, answered=False), ""
        else:
            report, broken = judged(part, replays[name], cases[part], values)
        if broken:
            look.append(f"{name}: {broken}")
        stopped = any(note.startswith(f"answer to {part.question} stopped") for note in notes)
        parts.append(
            {
                "question": part.question,
                "part": part.name,
                "points": part.points,
                "got": part.points if report.ok else 0,
                "feedback": feedback(report, stopped),
            }
        )
    return {
        "parts": parts,
        "prose": prose(master, notebook),
        "notes": notes,
        "look": look,
        "copy": another_copy(master, notebook, values),
        "parameters": values,
        "seconds": outcome.seconds,
        "memory": outcome.memory,
    }


def attempt(student: str, sha256: str) -> str:
    """Who asks for a mark, with which file: handed in again, other work meets other inputs."""
    return f"{student}/{sha256}"


def judged(part: Part, run, cases: list[tuple], values: dict) -> tuple[Report, str]:
    """The report on one part, and what went wrong in our own check ("" normally)."""
    try:
        return space(part)["judge"](run, cases, values), ""
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        found = Finding("broken", "the check could not read what your work gives: ask your teacher")
        return Report(part.name, findings=[found]), reason


@lru_cache(maxsize=256)
def space(part: Part) -> dict:
    """What a hidden test cell defines. It is ours, and runs here."""
    names = {"__name__": f"part_{part.name}"}
    exec(compile(part.source, f"<{part.question}.{part.name}>", "exec"), names)
    return names


def feedback(report: Report, stopped: bool = False) -> str:
    """What a student reads; `stopped`: the cell of the answer did not run to its end."""
    lines = []
    if stopped and not report.ok:
        lines.append("the cell of this answer stopped, see above")  # one cause, said first
    if not report.answered:
        return "\n".join([*lines, "not answered"])
    for found in report.findings:
        if found.expected and found.what == f"returns {found.expected}":  # a tensor, by its shape
            found = replace(found, expected="other values in this shape")
        lines.append(str(found))
    return "\n".join(lines)


def _sort(outcome: sandbox.Outcome, replays: dict[str, Replay]) -> list[str]:
    """Put each line of the driver's where it belongs; give back what a student should know.

    The lines are claims of untrusted code: what is not of the right form is left out.
    """
    notes, ended, forged = [], False, False
    for raw in outcome.output.split(b"\n", MOST_LINES)[:MOST_LINES]:
        try:
            line = json.loads(raw)
            kind, rest = line[0], line[1:]
            if kind == "cell":
                notes.append(f"{str(rest[0])[:60]} stopped: {str(rest[1])[:300]}")
            elif kind == "probe" and isinstance(rest[1], int) and isinstance(rest[2], dict):
                kept = replays[rest[0]].answers.setdefault(rest[1], rest[2])
                forged = forged or kept is not rest[2]
            elif kind == "died":
                replays[rest[0]].reason = f"it {str(rest[1])[:80]}"
            elif kind == "end":
                ended = True
        except (ValueError, TypeError, LookupError, RecursionError):
            continue
    if not ended:
        reason = outcome.stopped or "the program ended early (exit() in a cell?)"
        notes.append(
            f"The work was stopped: {reason}. What had not been asked by then counts as 0."
        )
        for replay in replays.values():
            if replay.reason == "nothing came back":
                replay.reason = f"the work was stopped: {reason}"
    if forged:  # the driver says each once
        notes.insert(0, "A cell wrote answers of its own past the questions: read the code.")
    return notes[:40]


def program(master: Master, notebook: dict, values: dict) -> list[list]:
    """The cells to run: the student's, in their order, with the given ones as we gave them.

    A given cell that was deleted runs first. Public checks and experiments do not run.
    """
    given = {cell.id: cell for cell in master.cells if cell.kind == "code"}
    by_text = {_bare(cell.source): cell for cell in given.values() if cell.role != "answer"}
    cells, seen = [], set()
    for number, raw in enumerate(notebook["cells"], start=1):
        if raw.get("cell_type") != "code":
            continue
        text = source(raw)[:LONGEST]
        known = given.get(_id(raw)) or by_text.get(_bare(text))
        if known is None or known.role == "answer" or known.id in seen:
            label = f"answer to {known.question}" if known else f"cell {number}"
            cells.append([label, text, CELL_SECONDS])
        elif known.role == "given":
            if _bare(text) != _bare(known.source):  # an import may have been added to it
                cells.append([f"cell {number}", text, CELL_SECONDS])
            cells.append([f"cell {number}", restored(master, known, text, values), CELL_SECONDS])
        if known is not None and known.role != "answer":
            seen.add(known.id)
    missing = [c for c in given.values() if c.role == "given" and c.id not in seen]
    first = [["a given cell", restored(master, c, c.source, values), CELL_SECONDS] for c in missing]
    return [["the set-up", STAND_INS, CELL_SECONDS], *first, *cells]


def another_copy(master: Master, notebook: dict, values: dict) -> str:
    """Whether the parameters in a notebook are others than those it is marked with: how."""
    for raw in notebook["cells"]:
        text = source(raw).strip()
        if raw.get("cell_type") == "code" and text.startswith("PARAMETERS = "):
            break
    else:
        return ""
    try:
        given = ast.literal_eval(text.removeprefix("PARAMETERS = "))
        changed = [name for name in values if given[name] != values[name]]
    except (SyntaxError, ValueError, TypeError, KeyError, RecursionError, MemoryError):
        return "PARAMETERS is not as it was handed out"
    if changed and given == master.parameters:
        return "PARAMETERS is that of the public copy"
    return f"PARAMETERS has other values: {', '.join(changed)}" if changed else ""


def unwritten(texts: list[str]) -> set[str]:
    """Names whose last definition still holds the three dots of the copy that was handed out."""
    names = set()
    for text in texts:
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                own = {node.name}
            elif isinstance(node, ast.Assign):
                own = {target.id for target in node.targets if isinstance(target, ast.Name)}
            else:
                continue
            names = names | own if _dots(node) else names - own
    return names


def _dots(node: ast.AST) -> bool:
    """Whether three dots stand where a statement of a function, a method or a class should."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return any(map(_dots, node.body))
    value = node.value if isinstance(node, (ast.Expr, ast.Return, ast.Assign)) else None
    return isinstance(value, ast.Constant) and value.value is ...


def restored(master: Master, cell: Cell, text: str, values: dict) -> str:
    """A given cell as it was given. The student's number is the student's to change."""
    if cell.source.startswith("STUDENT_ID"):
        return text
    if cell.source.startswith("PARAMETERS"):
        return with_parameters(cell.source, values)
    return cell.source


def _bare(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().split("\n"))


def _id(raw: dict) -> str:
    """Colab keeps the id of a cell in its metadata."""
    metadata = raw.get("metadata")
    found = raw.get("id") or (metadata.get("id") if isinstance(metadata, dict) else None)
    return found if isinstance(found, str) else ""


def prose(master: Master, notebook: dict) -> list[dict]:
    """The answers that a person marks: the cells of the question that are not ours."""
    answers = []
    ours = {_bare(cell.source) for cell in master.cells if cell.role == "prompt"}
    prompts = {cell.id: cell.question for cell in master.cells if cell.role == "prompt"}
    texts, at = {}, ""
    for raw in notebook["cells"]:
        if raw.get("cell_type") != "markdown":
            if raw.get("cell_type") == "code" and _id(raw) in {c.id for c in master.cells}:
                at = ""
            continue
        text = source(raw)[:LONGEST]
        if _id(raw) in prompts or _bare(text) in ours:
            at = prompts.get(_id(raw), at)
        if at and text.strip() != STUB and _bare(text) not in ours:
            texts.setdefault(at, []).append(text.strip())
    for question in master.questions:
        if question.manual:
            text = "\n\n".join(texts.get(question.name, []))[:READ]
            answers.append({"question": question.name, "points": question.points, "text": text})
    return answers


def solved(master: Master, edits: dict[str, str] | None = None) -> dict:
    """The master's own solution as a submission; `edits` replaces answers by question."""
    cells = []
    for cell in master.cells:
        text = (
            (edits or {}).get(cell.question, cell.source) if cell.role == "answer" else cell.source
        )
        cells.append({"cell_type": cell.kind, "id": cell.id, "metadata": {}, "source": text})
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


STUB = "_Type your answer here, replacing this text._"
# What a student's cells may import and the sandbox does not have: the book's checks and figures do
# nothing there, other people's blocks are refused in words.
STAND_INS = (
    textwrap.dedent("""
    import sys, types

    class _Nothing(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return self
        def __call__(self, *args, **kwargs):
            return self

    class _Absent:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ABSENT:
                raise ModuleNotFoundError(f"{name} is not there when work is marked")

    for _name in [name for name in sys.modules if name.split(".")[0] in ABSENT]:
        del sys.modules[_name]  # imported before the fork, where there is no sandbox
    for _name in ("resnet_lib", "resnet_lib.checks", "resnet_lib.plots", "resnet_lib.lab"):
        sys.modules[_name] = _Nothing(_name)
    sys.modules["resnet_lib"].__path__ = []  # its other modules are asked for, and refused in words
    sys.meta_path.insert(0, _Absent())
    here = _Nothing("here")
""")
    .replace("ABSENT", repr(sandbox.MASKED))
    .strip()
)
