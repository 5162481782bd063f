"""The assignments: their solutions, the wrong and the unusual submissions, what is handed out."""

import json
import random
import re
import runpy
from pathlib import Path

import pytest

from assignments.marking import mark, master, release
from assignments.marking.__main__ import complain

ROOT = Path(__file__).resolve().parent.parent
NAMES = list(master.masters())
WORK = {name: master.find(name) for name in NAMES}
CORPUS = {
    name: runpy.run_path(str(ROOT / "tests" / "submissions" / f"{name}.py")) for name in NAMES
}
WRONG = [(name, *entry) for name in NAMES for entry in CORPUS[name]["WRONG"]]
UNUSUAL = [(name, *entry) for name in NAMES for entry in CORPUS[name]["UNUSUAL"]]
each = pytest.mark.parametrize("name", NAMES)


def test_there_are_five_and_enough_submissions():
    assert NAMES == ["a1", "a2", "a3", "a4", "a5"]
    assert len(WRONG) >= 60
    assert len(UNUSUAL) >= 10


@each
def test_points_and_minutes_add_up(name):
    """100 points; the minutes in the headings are an hour to two; prose is marked by hand."""
    work = WORK[name]
    assert sum(question.points for question in work.questions) == 100
    minutes = 0
    for question in work.questions:
        found = re.search(r"\((\d+) points · (\d+) minutes\)$", question.title)
        assert found, question.title
        assert int(found[1]) == question.points
        minutes += int(found[2])
    assert 60 <= minutes <= 120
    by_hand = [question.points for question in work.questions if question.manual]
    assert by_hand and sum(by_hand) <= 40
    for question in work.questions:
        if question.manual:
            sample = [c.source for c in work.cells if c.role == "prose"]
            assert any("Sample answer" in text and "Rubric" in text for text in sample)


@each
def test_parts_have_names_of_their_own_and_probes_import_nothing_of_ours(name):
    parts = [part.name for part in WORK[name].parts]
    assert len(parts) == len(set(parts))
    for part in WORK[name].parts:
        assert not re.search(r"\b(resnet_lib|torchvision|checks)\b", part.probe), part.name
        assert "import observe" not in part.source.replace(part.probe, ""), part.name


@each
def test_a_course_can_have_a_copy_of_its_own(name):
    work = WORK[name]
    copies = 1
    for choices in work.choices.values():
        assert len(choices) == len(set(choices)) > 1
        copies *= len(choices)
    assert copies >= 200
    drawn = {json.dumps(master.parameters(work, f"the secret of course {n}")) for n in range(40)}
    assert len(drawn) >= 35


@pytest.mark.parametrize("secret", ["", *(f"the secret of course number {n}" for n in range(4))])
@each
def test_the_solution_gets_all_marks(name, secret):
    work = WORK[name]
    result = mark.mark(work, mark.solved(work), "solution", "forked", secret)
    assert not result["notes"] and not result["look"]
    assert all(part["got"] == part["points"] for part in result["parts"]), result["parts"]


@pytest.mark.parametrize(
    ("name", "what", "edits", "parts", "words"), WRONG, ids=[f"{w[0]}-{w[1]}" for w in WRONG]
)
def test_a_wrong_submission_loses_the_right_marks_and_is_told_why(name, what, edits, parts, words):
    assert parts and words
    assert complain(WORK[name], edits, parts, words) == ""


@pytest.mark.parametrize(
    ("name", "what", "edits"), UNUSUAL, ids=[f"{entry[0]}-{entry[1]}" for entry in UNUSUAL]
)
def test_an_unusual_solution_loses_nothing(name, what, edits):
    assert complain(WORK[name], edits, set(), "") == ""


@each
def test_what_is_published_is_what_the_master_gives(name):
    assert release.drifted([name]) == []


def test_the_check_of_drift_sees_a_change(tmp_path, monkeypatch):
    copy = tmp_path / WORK["a1"].path.name
    text = (release.PUBLISHED / copy.name).read_text(encoding="utf-8")
    monkeypatch.setattr(release, "PUBLISHED", tmp_path)
    assert "is not what its master gives today" in release.drifted(["a1"])[0]
    copy.write_text(text.replace("minutes", "hours", 1), encoding="utf-8")
    assert "is not what its master gives today" in release.drifted(["a1"])[0]


@each
def test_what_is_published_gives_nothing_away_and_earns_nothing(name):
    """No solution, no hidden test, no rubric; handed in as it is, it gets no mark."""
    work = WORK[name]
    text = (release.PUBLISHED / work.path.name).read_text(encoding="utf-8")
    for word in (
        "# SOLUTION",
        "BEGIN",
        "def judge",
        "def probe",
        "Rubric",
        "Sample answer",
        "otter",
    ):
        assert word not in text
    hidden = {line.strip() for part in work.parts for line in part.source.split("\n")}
    shown = {
        line.strip()
        for cell in work.cells
        if cell.role in ("given", "skipped", "prompt")
        for line in cell.source.split("\n")
    }
    secret_lines = [line for line in hidden - shown if len(line) > 40]
    assert secret_lines and not [line for line in secret_lines if json.dumps(line)[1:-1] in text]
    result = mark.mark(work, json.loads(text), "nobody", "forked")
    assert not any(part["got"] for part in result["parts"])
    assert {part["feedback"] for part in result["parts"]} == {"not answered"}
    assert all(answer["text"] == "" for answer in result["prose"])


@each
def test_constant_answers_earn_nothing(name):
    """Whoever returns the same for everything has understood nothing."""
    work = WORK[name]
    for constant in ("0", "True", "[]", "None", "1.0"):
        code = {}
        for cell in work.cells:
            if cell.role == "answer":
                names = re.findall(r"^(?:def|class) (\w+)", cell.source, re.M)
                names += re.findall(r"^(\w+) = ", cell.source, re.M)
                code[cell.question] = code.get(cell.question, "") + "".join(
                    f"{word} = lambda *a, **k: {constant}\n" for word in names
                )
        result = mark.mark(work, mark.solved(work, code), "constant", "forked")
        kept = [part["part"] for part in result["parts"] if part["got"]]
        points = sum(part["got"] for part in result["parts"])
        assert points <= 5, f"{constant}: {kept}"


@each
def test_public_checks_know_the_solution_and_the_stub(name, tmp_path, capsys):
    """In one namespace, as in a notebook: the solution is correct, the stub not answered yet."""
    work = WORK[name]
    for solved, words in ((True, "correct"), (False, "not answered yet")):
        space, said = {"__name__": "__main__", "display": print}, []
        stubs = {}
        if not solved:
            text = (release.PUBLISHED / work.path.name).read_text(encoding="utf-8")
            cells = json.loads(text)["cells"]
            stubs = {cell["id"]: "".join(cell["source"]) for cell in cells}
        notebook = json.loads(work.path.read_text(encoding="utf-8"))
        inside = ""
        random.seed(0)
        for raw in notebook["cells"]:
            text = master.source(raw)
            if raw["cell_type"] == "raw":
                inside = text.split("\n")[0].removeprefix("# ")
                continue
            if raw["cell_type"] != "code" or inside == "BEGIN TESTS":
                continue
            if "experiment" in raw["metadata"].get("tags", []) or "lab.start(" in text:
                space.setdefault("here", Nothing())
                continue
            text = stubs.get(raw["id"], text)
            check = re.search(r"^(?:report = )?checks\.\w+\(", text, re.M)
            lines = text.split("\n")
            if check:
                value = shown(text, space)
                said.append(value)
            else:
                exec(compile("\n".join(lines), f"<{raw['id']}>", "exec"), space)
        assert said, "no public check"
        for value in said:
            assert words in value, value


class Nothing:
    """Takes the place of what only an experiment needs."""

    def __getattr__(self, name):
        return self

    def __call__(self, *args):
        return args[0] if args else self


def shown(text: str, space: dict) -> str:
    """What a notebook shows under a cell: the value of its last line."""
    import ast

    tree = ast.parse(text)
    last = tree.body.pop()
    exec(compile(tree, "<check>", "exec"), space)
    return repr(eval(compile(ast.Expression(last.value), "<check>", "eval"), space))
