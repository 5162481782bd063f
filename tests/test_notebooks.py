"""The chapter notebooks as text, and their exercises: the solution passes, the stub says so,
typical wrong answers get the right word.

An exercise is run without its page: only those earlier statements that it needs (found in the
syntax tree) are executed, and `fit`, should it be among them, trains on a handful of pictures.
"""

import ast
import builtins
import contextlib
import io
import json
import re
import runpy
import symtable
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
import pytest
import torch

from resnet_lib import lab, train

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "book").glob("[0-9]*.ipynb"))
HEADING = re.compile(r"^### (\d+) · (.+)$", re.M)
EFFORT = re.compile(r"\((essential · )?(easy|medium|hard) · (\d+) minutes\)$")
SOLUTION = re.compile(r"<details><summary>Solution</summary>(.*?)</details>", re.S)
every_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def code(cell: dict) -> str:
    """Python of a cell, without the lines that only Jupyter understands."""
    return "\n".join("" if re.match(r"\s*[%!]", s) else s for s in source(cell).split("\n"))


# --- as text


@every_chapter
def test_every_cell_has_an_id_of_its_own_and_the_format_is_valid(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    ids = [cell.get("id") for cell in notebook.cells]
    assert all(ids) and len(ids) == len(set(ids))


@every_chapter
def test_a_code_cell_fits_on_a_screen(path):
    for cell in cells(path)[2:]:  # the stamped set-up cell has a rule of its own
        if cell["cell_type"] == "code":
            lines = [s for s in source(cell).split("\n") if s.strip() and s.strip()[0] != "#"]
            assert len(lines) <= 25, f"{cell['id']}: {len(lines)} lines of code"


def alt_texts(text: str) -> list[str]:
    """What stands behind `alt=` in a cell: a string, or a name that is given a string there."""
    tree, found = ast.parse(text), []
    strings = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for value in (k.value for k in node.keywords if k.arg == "alt"):
                if isinstance(value, ast.Constant):
                    found.append(value.value)
                elif isinstance(value, ast.Name) and value.id in strings:
                    found.append(strings[value.id])
                else:
                    raise AssertionError(f"alt={ast.unparse(value)}: write the text itself")
    return found


def test_the_reader_of_alt_texts():
    assert alt_texts('f(alt="a " "b")\ng(x, alt=\n    "c")') == ["a b", "c"]
    assert alt_texts('alt = "a" "b"\nf(g(alt=alt))') == ["ab"]
    for unclear in ('f(alt=f"a {b}")', "f(alt=alt)"):
        with pytest.raises(AssertionError, match="write the text itself"):
            alt_texts(unclear)


@every_chapter
def test_the_page_and_the_code_have_the_same_alt_text(path):
    """Colab reads it from the code, the book from the metadata."""
    for cell in cells(path):
        stored = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt")
        if cell["cell_type"] == "code":
            assert sorted(set(alt_texts(code(cell)))) == ([stored] if stored else []), cell["id"]
        else:
            assert stored is None, cell["id"]


@every_chapter
def test_the_executed_page_is_clean(path):
    """No error and nothing on the error stream: neither warnings nor progress bars."""
    folder = ROOT / "_build" / "jupyter_execute"
    copies = sorted(folder.rglob(path.name)) if folder.is_dir() else []
    if not copies:
        pytest.skip("the book is not built: make book")
    for copy in copies:
        for cell in cells(copy):
            for output in cell.get("outputs", []):
                shown = f"{cell.get('id')}: {str(output)[:600]}"
                assert output["output_type"] != "error", shown
                assert output.get("name") != "stderr", shown


@every_chapter
def test_no_chapter_takes_many_times_its_budget(path):
    """45 s a page at size quick. Machines differ: only a gross excess fails."""
    file = ROOT / "_build" / "timings.json"
    taken = json.loads(file.read_text()) if file.is_file() else {}
    if f"book/{path.stem}" not in taken:
        pytest.skip("the book is not built: make book")
    seconds = taken[f"book/{path.stem}"]["seconds"]
    assert seconds is None or seconds < 6 * 45, f"{seconds:.0f} s, and the budget is 45 s"


# --- exercises


@dataclass
class Exercise:
    number: int
    heading: str
    index: int  # of its code cell
    text: str  # the Markdown behind its code cell, to the next heading

    @property
    def solution(self) -> str:
        found = SOLUTION.search(self.text)
        assert found, f"exercise {self.number} has no solution"
        blocks = re.findall(r"^```python\n(.*?)^```", found[1], re.S | re.M)
        assert blocks, f"the solution of exercise {self.number} has no code"
        return "\n".join(blocks)

    def expected(self) -> tuple[str, str]:
        """("correct", ""), or ("not yet", the word the check has to name), as the page says."""
        found = re.search(r"expected to say \*not yet\*, and to name the (\w+)", self.text)
        return ("not yet", found[1]) if found else ("correct", "")


def exercises(path: Path) -> list[Exercise]:
    """In the order of the page; the first code cell behind a heading belongs to it."""
    found, heading = [], None
    for index, cell in enumerate(cells(path)):
        text = source(cell)
        if cell["cell_type"] == "code":
            if heading:
                found.append(Exercise(int(heading[1]), heading[2], index, ""))
                heading = None
            continue
        matches = list(HEADING.finditer(text))
        if found and not found[-1].text:
            found[-1].text = text[: matches[0].start()] if matches else text
        heading = matches[-1] if matches else heading
    return found


ALL = [(path, exercise) for path in CHAPTERS for exercise in exercises(path)]
every_exercise = pytest.mark.parametrize(
    ("path", "exercise"), ALL, ids=[f"{p.stem[:2]}-{e.number}" for p, e in ALL]
)


def bound(statement: ast.stmt) -> tuple[set[str], set[str]]:
    """(names it gives a new value, names whose value it may change)."""
    top = symtable.symtable(ast.unparse(statement), "cell", "exec")
    stored = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)):
        return stored, set()
    changed = set()
    for node in ast.walk(statement):
        held = node.func if isinstance(node, ast.Call) else node
        is_change = isinstance(node, ast.Call) or isinstance(getattr(node, "ctx", None), ast.Store)
        if is_change and isinstance(held, (ast.Attribute, ast.Subscript)):
            while isinstance(held, (ast.Attribute, ast.Subscript)):
                held = held.value
            if isinstance(held, ast.Name):
                changed.add(held.id)
    simple = isinstance(statement, (ast.Assign, ast.AnnAssign)) and not stored & loaded(statement)
    return (stored, changed) if simple else (set(), stored | changed)


def loaded(statement: ast.stmt) -> set[str]:
    """Names it takes from outside, also inside of functions; arguments are not among them."""
    names, tables = set(), [symtable.symtable(ast.unparse(statement), "cell", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        top = table.get_type() == "module"
        names |= {
            s.get_name()
            for s in table.get_symbols()
            if s.is_referenced() and (top or s.is_global())
        }
    return names


def needed_for(statements: list[ast.stmt], before: list[ast.stmt]) -> list[ast.stmt]:
    """Those of `before` without which `statements` could not run."""
    wanted = set().union(*map(loaded, statements)) - set(dir(builtins))
    imports = [s for s in before if isinstance(s, (ast.Import, ast.ImportFrom))]
    modules = set().union(*(bound(s)[0] for s in imports))  # calling nn.Conv2d does not change nn
    kept = []
    for statement in reversed(before):
        new, changed = bound(statement)
        if wanted & (new | (changed - modules)):
            kept.append(statement)
            wanted = (wanted - new) | (loaded(statement) - set(dir(builtins)))
    return kept[::-1]


def test_the_finder_of_what_is_needed():
    before = ast.parse(
        "import math\na = 1\nb = []\nfor k in range(3):\n    b.append(k)\n"
        "print(a)\na = 5\ndef f():\n    return math.pi + a\nc = f()\nd = b\nd[0] = 9\n"
    ).body
    kept = [ast.unparse(s).split("\n")[0] for s in needed_for(ast.parse("f()").body, before)]
    assert kept == ["import math", "a = 5", "def f():"]
    kept = [ast.unparse(s).split("\n")[0] for s in needed_for(ast.parse("d").body, before)]
    assert kept == ["b = []", "for k in range(3):", "d = b", "d[0] = 9"]


def with_answer(text: str, answer: str) -> list[ast.stmt]:
    """The exercise's cell with the statements of `answer` in place of the stub of the same name."""
    body, filled = ast.parse(text).body, ast.parse(answer).body
    names = set().union(*(set().union(*bound(s)) for s in filled))
    at = [k for k, s in enumerate(body) if bound(s)[0] & names]
    stubs = set().union(*(bound(body[k])[0] for k in at)) if at else set()
    assert names & stubs, f"the answer gives {sorted(names)}, which no stub of the cell has"
    return [*body[: at[0]], *filled, *(s for k, s in enumerate(body) if k > at[0] and k not in at)]


def tiny_fit(real):
    def fit(net, part, valid, recipe, **options):
        recipe = replace(recipe, epochs=1, batch_size=16)
        first = slice(None, 32)
        return real(net, part.subset(first), valid.subset(first), recipe, **options)

    return fit


def run(path: Path, exercise: Exercise, monkeypatch, answer: str | None = None) -> str:
    """Everything that the exercise's cell shows."""
    page = cells(path)
    text = code(page[exercise.index])
    body = ast.parse(text).body if answer is None else with_answer(text, answer)
    setup = next(k for k, cell in enumerate(page) if cell["cell_type"] == "code")
    before = [
        statement
        for cell in page[setup + 1 : exercise.index]
        if cell["cell_type"] == "code"
        for statement in ast.parse(code(cell)).body
    ]
    here = lab.Here(torch.device("cpu"), "a test", "quick", "fp32")
    names = {"__name__": "__main__", "here": here, "lab": lab}
    monkeypatch.setattr(train, "fit", tiny_fit(train.fit))
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(ast.Module(needed_for(body, before), []), path.name, "exec"), names)
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(ast.Module(body, []), path.name, "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), path.name, "eval"), names)
            if value is not None:
                print(value)
    return out.getvalue()


@every_chapter
def test_exercises_are_found_and_say_what_they_cost(path):
    found = exercises(path)
    page = "\n".join(source(c) for c in cells(path) if c["cell_type"] == "markdown")
    section = page.partition("\n## Exercises\n")[2].partition("\n## ")[0]
    assert [e.number for e in found] == list(range(1, section.count("\n### ") + 1))
    efforts = [EFFORT.search(e.heading) for e in found]
    assert all(efforts), [e.heading for e in found]
    if int(path.name[:2]) <= 8:  # a core chapter
        assert len(found) >= 4 and sum(bool(m[1]) for m in efforts) == 2
    for exercise in found:
        assert "<details><summary>Hint</summary>" in exercise.text, exercise.number
        assert exercise.text.count("<details>") == exercise.text.count("</details>")
        assert exercise.solution


@every_exercise
def test_an_empty_exercise_says_so_and_never_raises(path, exercise, monkeypatch):
    said = run(path, exercise, monkeypatch)
    assert "not answered yet" in said and "correct" not in said and "not yet" not in said


@every_exercise
def test_the_solution_gets_the_verdict_that_the_page_promises(path, exercise, monkeypatch):
    said = run(path, exercise, monkeypatch, exercise.solution)
    verdict, word = exercise.expected()
    assert "not answered" not in said
    assert verdict in said and word in said, said
    assert {"correct": "not yet", "not yet": ": correct"}[verdict] not in said, said


def wrong_answers(path: Path) -> list[tuple]:
    """`WRONG` of tests/wrong_answers/chapterNN.py: (exercise, answer, words the check must say)."""
    file = Path(__file__).parent / "wrong_answers" / f"chapter{path.name[:2]}.py"
    return runpy.run_path(str(file))["WRONG"] if file.is_file() else []


ANSWERS = [(p, *answer) for p in CHAPTERS for answer in wrong_answers(p)]


@pytest.mark.parametrize(
    ("path", "number", "answer", "words"),
    ANSWERS,
    ids=[f"{p.stem[:2]}-{n}-{w[-1][:30]}" for p, n, _, w in ANSWERS],
)
def test_a_wrong_answer_gets_the_right_word(path, number, answer, words, monkeypatch):
    exercise = next(e for e in exercises(path) if e.number == number)
    said = run(path, exercise, monkeypatch, answer)
    assert [word for word in words if word not in said] == [], said


@every_exercise
def test_every_exercise_has_wrong_answers_to_learn_from(path, exercise):
    known = [answer for number, answer, _ in wrong_answers(path) if number == exercise.number]
    assert len(set(known)) >= 3, "write at least three into tests/wrong_answers"
