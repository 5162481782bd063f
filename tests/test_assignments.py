"""The assignments: their solutions, the wrong and the unusual submissions, what is handed out."""

import ast
import contextlib
import io
import json
import os
import re
import runpy
import time
from pathlib import Path

import nbclient
import nbformat
import pytest

from assignments.marking import mark, master, release
from assignments.marking.__main__ import complain, main

ROOT = Path(__file__).resolve().parent.parent
NAMES = list(master.masters())
WORK = {name: master.find(name) for name in NAMES}
CORPUS = {
    name: runpy.run_path(str(ROOT / "tests" / "submissions" / f"{name}.py")) for name in NAMES
}
WRONG = [(name, *entry) for name in NAMES for entry in CORPUS[name]["WRONG"]]


def quick(name: str, number: int) -> bool:
    """Some of each assignment, evenly spread; `make test-long` marks the others."""
    step = max(1, len(CORPUS[name]["WRONG"]) // 12)
    return number % step == 0


MARKED = [
    pytest.param(
        name, *entry, id=f"{name}-{entry[0]}", marks=() if quick(name, number) else pytest.mark.long
    )
    for name in NAMES
    for number, entry in enumerate(CORPUS[name]["WRONG"])
]
UNUSUAL = [(name, *entry) for name in NAMES for entry in CORPUS[name]["UNUSUAL"]]
each = pytest.mark.parametrize("name", NAMES)


def test_there_are_five_and_enough_submissions():
    assert NAMES == ["a1", "a2", "a3", "a4", "a5"]
    assert len(WRONG) >= 300
    assert sum(not param.marks for param in MARKED) >= 60
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


def test_the_teachers_page_has_the_masters_points_and_minutes():
    text = (ROOT / "book" / "teachers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) · [^|]+\|[^|]+\| (\d+) \| (\d+) \| (\d+) \|$", text, re.M)
    asked = []
    for name, work in WORK.items():
        minutes = sum(int(re.search(r"(\d+) minutes", q.title)[1]) for q in work.questions)
        by_hand = sum(question.points for question in work.questions if question.manual)
        asked.append((name[1:], str(minutes), str(100 - by_hand), str(by_hand)))
    assert rows == asked


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


@pytest.mark.parametrize(
    "secret",
    [
        "",
        *(
            pytest.param(
                f"the secret of course number {n}", marks=pytest.mark.long if n > 1 else ()
            )
            for n in range(4)
        ),
    ],
)
@each
def test_the_solution_gets_all_marks(name, secret):
    work = WORK[name]
    result = mark.mark(work, mark.solved(work), "solution", "forked", secret)
    assert not result["notes"] and not result["look"]
    assert all(part["got"] == part["points"] for part in result["parts"]), result["parts"]


@pytest.mark.parametrize(("name", "what", "edits", "parts", "words"), MARKED)
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
    copy.write_text(text.replace("minutes", "hours", 1), encoding="utf-8")
    assert "is not what its master gives today" in release.drifted(["a1"])[0]


@pytest.mark.long
def test_the_check_of_drift_sees_a_missing_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(release, "PUBLISHED", tmp_path)
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
        if cell.role in ("given", "skipped", "experiment", "prompt")
        for line in cell.source.split("\n")
    }
    secret_lines = [line for line in hidden - shown if len(line) > 40 and line[:4] != "def "]
    assert secret_lines and not [line for line in secret_lines if json.dumps(line)[1:-1] in text]
    result = mark.mark(work, json.loads(text), "nobody", "forked")
    assert not any(part["got"] for part in result["parts"])
    assert {part["feedback"] for part in result["parts"]} == {"not answered"}
    assert all(answer["text"] == "" for answer in result["prose"])


@each
def test_a_folded_cell_says_which_check_is_in_it(name):
    cells = json.loads((release.PUBLISHED / WORK[name].path.name).read_text())["cells"]
    question, labels = "", []
    for cell in cells:
        text = master.source(cell)
        if text.startswith("## Question "):
            question = text.split()[2]
        if "hide-input" in cell["metadata"].get("tags", []) and "lab.start(" not in text:
            label = cell["metadata"]["mystnb"]["code_prompt_show"]
            assert label.startswith(f"The check of question {question}" if question else "Helpers")
            labels.append(label)
    assert labels and len(labels) == len(set(labels))


@pytest.mark.parametrize(
    "constant",
    ["0", "[]", *(pytest.param(c, marks=pytest.mark.long) for c in ("True", "None", "1.0"))],
)
@each
def test_constant_answers_earn_nothing(name, constant):
    """Whoever returns the same for everything has understood nothing."""
    work = WORK[name]
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


def run_all(work: master.Master, stubs: bool) -> str:
    """What the cells of a notebook print and show, without set-up and experiments."""
    told = io.StringIO()
    space = {"__name__": "__main__", "display": print, "here": Nothing()}
    if stubs:
        text = (release.PUBLISHED / work.path.name).read_text(encoding="utf-8")
        notebook = json.loads(text)
    else:
        notebook = json.loads(work.path.read_text(encoding="utf-8"))
    tests = master.hidden(notebook)
    for raw in notebook["cells"]:
        text = master.source(raw)
        skipped = "experiment" in raw["metadata"].get("tags", []) or "lab.start(" in text
        if raw["cell_type"] != "code" or raw["id"] in tests or skipped:
            continue
        tree = ast.parse(text)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(told):
            exec(compile(tree, f"<{raw['id']}>", "exec"), space)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), f"<{raw['id']}>", "eval"), space)
                print("" if value is None else repr(value))
    return told.getvalue()


class Nothing:
    """Takes the place of what only an experiment needs."""

    def __getattr__(self, name):
        return self

    def __call__(self, *args):
        return args[0] if args else self


@each
def test_the_public_checks_call_the_solution_correct(name):
    told = run_all(WORK[name], stubs=False)
    questions = sum(not question.manual for question in WORK[name].questions)
    assert told.count(": correct") >= questions
    assert "not yet" not in told and "not answered" not in told and "broken" not in told


@each
def test_run_all_reaches_the_end_of_what_is_handed_out(name):
    told = run_all(WORK[name], stubs=True)
    questions = sum(not question.manual for question in WORK[name].questions)
    assert told.count("not answered yet") >= questions
    assert ": correct" not in told and "broken" not in told


@pytest.mark.long
@pytest.mark.parametrize("what", ["solution", "student"])
@each
def test_the_whole_notebook_runs(name, what, tmp_path):
    """With its experiments, at size quick, as a reader runs it; 90 s at most."""
    release.release([name], tmp_path, publish=False)
    notebook = nbformat.read(tmp_path / name / what / WORK[name].path.name, as_version=4)
    environment = {**os.environ, "RESNET_LIB_SIZE": "quick", "PYTHONPATH": str(ROOT)}
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": tmp_path}}
    )
    start = time.monotonic()
    client.execute(env=environment)
    print(f"{name} {what}: {time.monotonic() - start:.0f} s")
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", output


def test_a_private_copy_is_not_published(tmp_path, capsys):
    secret = tmp_path / "course.secret"
    secret.write_text("the secret of a private course")
    before = {path: path.read_bytes() for path in release.PUBLISHED.iterdir()}
    assert (
        main(["release", "a3", "--secret-file", str(secret), "--out", str(tmp_path / "out")]) == 0
    )
    assert {path: path.read_bytes() for path in release.PUBLISHED.iterdir()} == before
    made = tmp_path / "out" / "a3" / "student" / WORK["a3"].path.name
    nowhere = "github.com/" + "OWNER/REPO@" in made.read_text()  # until somebody forks the book
    assert ("installs from nowhere yet" in capsys.readouterr().out) == nowhere
    assert made.read_bytes() != before[release.PUBLISHED / made.name]
    result = mark.mark(
        WORK["a3"], mark.solved(WORK["a3"]), "x", "forked", "the secret of a private course"
    )
    assert all(part["got"] == part["points"] for part in result["parts"])
