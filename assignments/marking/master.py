"""A master notebook read: its cells, questions, hidden parts and parameters.

Masters are in otter-grader's format (raw cells `# BEGIN QUESTION`, ...). What is added to it: a
hidden test cell defines `cases`, `probe` and `judge` (CONTRIBUTING says how); a cell tagged
"parameters" holds one choice an entry; a cell tagged "experiment" is never run by the marker.
"""

import ast
import hashlib
import hmac
import json
import random
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parent.parent
CONFIG = re.compile(r'^""" *# BEGIN TEST CONFIG\n(.*?)\n""" *# END TEST CONFIG\n', re.S)
ENTRY = re.compile(r'^    "(\w+)": (.+?),\s*# one of (.+)$')


class Fault(Exception):
    """A master notebook that is not in order; says where."""


@dataclass(frozen=True)
class Part:
    """A hidden test: `probe` is the source that goes into the sandbox, `source` all of the cell."""

    question: str
    name: str
    points: float
    source: str
    probe: str


@dataclass(frozen=True)
class Cell:
    """A cell of the student's notebook. `role`: given, skipped, experiment, answer, prose, prompt.

    Of an answer and of prose, `source` is the solution.
    """

    id: str
    kind: str
    source: str
    role: str
    question: str = ""


@dataclass
class Question:
    name: str
    title: str
    points: float
    manual: bool
    parts: list[Part] = field(default_factory=list)


@dataclass
class Master:
    name: str
    path: Path
    title: str
    cells: list[Cell]
    questions: list[Question]
    choices: dict[str, list]
    parameters: dict

    @property
    def parts(self) -> list[Part]:
        return [part for question in self.questions for part in question.parts]


def masters(folder: Path = FOLDER) -> dict[str, Path]:
    """Short name -> file: {"a1": .../a1_degradation_and_gradients.ipynb, ...}."""
    return {path.name.split("_")[0]: path for path in sorted(folder.glob("a[0-9]*_*.ipynb"))}


def find(name: str, folder: Path = FOLDER) -> "Master":
    """The master called `name` ("a2").

    Raises:
        Fault: if there is none, or if it is not in order.
    """
    known = masters(folder)
    if name not in known:
        raise Fault(f"no assignment {name!r}; there are {', '.join(known) or 'none'}")
    return read(known[name])


def read(path: Path) -> Master:
    """Read a master.

    Raises:
        Fault: if something in it is not in order; says in which cell.
    """
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells, questions, choices, parameters, title = [], [], {}, {}, ""
    question, block = None, ""
    for raw in notebook["cells"]:
        text, kind = source(raw), raw["cell_type"]
        tags = raw["metadata"].get("tags", [])
        mark = text.strip().split("\n")[0]
        if kind == "raw":
            if mark == "# BEGIN QUESTION":
                asked = yaml.safe_load(text)
                question = Question(
                    asked["name"], "", asked.get("points", 0), asked.get("manual", False)
                )
                questions.append(question)
            elif mark == "# END QUESTION":
                _complete(question, path)
                question = None
            elif mark in ("# BEGIN SOLUTION", "# BEGIN TESTS"):
                block = mark.removeprefix("# BEGIN ")
            elif mark in ("# END SOLUTION", "# END TESTS"):
                block = ""
            elif mark != "# ASSIGNMENT CONFIG":
                raise Fault(f"{path.name}, cell {raw['id']}: a raw cell that means nothing here")
            continue
        if block == "TESTS":
            question.parts.append(_part(question.name, text, f"{path.name}, cell {raw['id']}"))
            continue
        if block == "SOLUTION":
            role = "answer" if kind == "code" else "prose"
            cells.append(Cell(raw["id"], kind, text, role, question.name))
            continue
        if kind == "markdown":
            title = title or next(
                (s[2:].strip() for s in text.split("\n") if s.startswith("# ")), ""
            )
            if question and not question.title:
                question.title = _heading(text)
            name = question.name if question else ""
            cells.append(Cell(raw["id"], kind, text, "prompt", name))
            continue
        if "parameters" in tags:
            choices, parameters = _choices(text, f"{path.name}, cell {raw['id']}")
        # Neither runs here: a public check asks what the hidden one asks, an experiment takes long.
        skipped = "lab.start(" in text or question is not None
        role = "experiment" if "experiment" in tags else "skipped" if skipped else "given"
        cells.append(Cell(raw["id"], kind, text, role))
    short = path.name.split("_")[0]
    return Master(short, path, title, cells, questions, choices, parameters)


def hidden(notebook: dict) -> set[str]:
    """The ids of the cells between BEGIN TESTS and END TESTS."""
    found, testing = set(), False
    for cell in notebook["cells"]:
        if cell["cell_type"] == "raw":
            testing = source(cell).startswith("# BEGIN TESTS")
        elif testing:
            found.add(cell["id"])
    return found


def source(cell: dict) -> str:
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def _heading(text: str) -> str:
    found = re.search(r"^#+ (.+)$", text, re.M)
    return found[1].strip() if found else ""


def _part(question: str, text: str, where: str) -> Part:
    found = CONFIG.match(text)
    if not found:
        raise Fault(f"{where}: a hidden test starts with its TEST CONFIG")
    config = yaml.safe_load(found[1])
    body = text[found.end() :]
    functions = {n.name: n for n in ast.parse(body).body if isinstance(n, ast.FunctionDef)}
    if missing := {"cases", "probe", "judge"} - functions.keys():
        raise Fault(f"{where}: there is no function {', '.join(sorted(missing))}")
    if not config.get("hidden") or "name" not in config or "points" not in config:
        raise Fault(f"{where}: its config needs name, points and hidden: true")
    probe = ast.get_source_segment(body, functions["probe"])
    return Part(question, config["name"], config["points"], body, probe)


def _complete(question: Question, path: Path) -> None:
    total = sum(part.points for part in question.parts)
    if not question.manual and total != question.points:
        raise Fault(f"{path.name}, {question.name}: {question.points} points, its parts {total}")
    if question.manual and question.parts:
        raise Fault(f"{path.name}, {question.name}: marked by hand, and yet it has hidden tests")


def _choices(text: str, where: str) -> tuple[dict, dict]:
    """The values of this copy and the choices that stand behind them in comments."""
    values = ast.literal_eval(text.split("=", 1)[1].strip())
    choices = {}
    for line in text.split("\n"):
        if found := ENTRY.match(line):
            choices[found[1]] = list(ast.literal_eval(f"[{found[3]}]"))
    for name, value in values.items():
        if value not in choices.get(name, []):
            raise Fault(f"{where}: {name} = {value!r} is none of its choices")
    return choices, values


def digest(secret: str, *what: str) -> int:
    """A number that nobody can know who does not know the secret."""
    return int.from_bytes(
        hmac.new(secret.encode(), "/".join(what).encode(), hashlib.sha256).digest(), "big"
    )


def parameters(master: Master, secret: str) -> dict:
    """The parameters of this course's copy; without a secret those of the public one."""
    if not secret:
        return dict(master.parameters)
    draw = random.Random(digest(secret, master.name, "parameters"))
    return {name: draw.choice(values) for name, values in master.choices.items()}


def with_parameters(text: str, values: dict) -> str:
    """The cell of parameters, with other values."""
    lines = []
    for line in text.split("\n"):
        found = ENTRY.match(line)
        lines.append(f'    "{found[1]}": {json.dumps(values[found[1]])},' if found else line)
    return "\n".join(lines)
