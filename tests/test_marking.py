"""From a submission to marks, reports and platform tables; restarting; releasing."""

import collections
import csv
import gc
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from datetime import datetime
from pathlib import Path

import pytest
import torch
import torchvision  # noqa: F401
import toy

from assignments.marking import (
    batch,
    gradescope,
    intake,
    mark,
    master,
    release,
    reports,
    sandbox,
)
from assignments.marking.__main__ import main
from resnet_lib import checks

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> master.Master:
    return master.read(toy.write_master(tmp_path_factory.mktemp("masters")))


def marked(work, answer: str | None = None, notebook: dict | None = None, **options) -> dict:
    notebook = notebook or mark.solved(work, {"q1": answer} if answer else None)
    return mark.mark(work, notebook, "someone", "forked", **options)


def got(result: dict) -> dict:
    return {part["part"]: part["got"] for part in result["parts"]}


# --- one submission


def test_the_solution_gets_all_marks(work):
    assert got(marked(work)) == {"product": 10, "successor": 5}


@pytest.mark.parametrize("secret", ["", "one secret of a course", "another secret of a course"])
def test_the_solution_fits_every_copy(work, secret):
    assert got(marked(work, secret=secret)) == {"product": 10, "successor": 5}


def test_a_published_answer_does_not_fit_a_private_copy(work):
    secrets = [f"the secret of course number {n}" for n in range(12)]
    published = "def product(n): return 2 * n\ndef successor(n): return n + 1"
    marks = [got(marked(work, published, secret=secret))["product"] for secret in secrets]
    assert got(marked(work, published))["product"] == 10
    fits = [master.parameters(work, secret)["times"] == 2 for secret in secrets]
    assert [mark == 10 for mark in marks] == fits
    assert sum(fits) < 6


def test_the_same_work_gets_the_same_inputs_and_new_work_others(work, monkeypatch):
    asked = []
    monkeypatch.setattr(
        sandbox, "run", lambda _, text, *a: asked.append(text) or sandbox.Outcome(b"", "", 0, 0)
    )
    for student in ("a/1", "a/1", "a/2", "b/1"):
        mark.mark(work, mark.solved(work), student, "forked")
    assert asked[0] == asked[1]
    assert len(set(asked)) == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("def product(n): return n", "it gives back what it got"),
        ("def product(n): ...", "not answered"),
        ("def product(n): return ...", "not answered"),
        ("def product(n): raise NotImplementedError", "not answered"),
        ("def product(n) return 1", "there is no product"),
        ("def product(n): raise ValueError('so')", "raises ValueError: so (answer to q1, line 1)"),
        ("def product(n): return {}['k']", "raises KeyError"),
        ("def product(n): import torchvision", "not there when work is marked"),
        ("def product(n): return object()", "a object"),
        ("def product(): return 1", "takes 0 positional arguments"),
        ("def product(n): return float('nan')", "returns nan"),
        ("import os\ndef product(n): os._exit(3)", "exit status 3"),
        ("def product(n): exit()", "raises SystemExit"),
    ],
)
def test_what_is_wrong_is_said(work, answer, words):
    assert "torchvision" in sys.modules  # imported before the fork, it is not there all the same
    result = marked(work, answer + "\n")
    assert got(result)["product"] == 0
    assert words in result["parts"][0]["feedback"]
    assert not result["look"]


def test_a_tensor_of_the_right_shape_is_said_to_have_other_values():
    report = checks.function("f", torch.zeros, torch.ones, [(9,)])
    text = mark.feedback(report)
    assert "returns a tensor of shape (9,)" in text
    assert "expected: other values in this shape" in text
    assert "expected: a tensor of shape (8,)" in mark.feedback(
        checks.function("f", torch.zeros, lambda n: torch.ones(n - 1), [(9,)])
    )


def test_an_error_in_a_cell_is_said_and_the_next_cells_run(work):
    notebook = mark.solved(work, {"q1": "1 / 0"})
    notebook["cells"].append({"cell_type": "code", "metadata": {}, "source": toy.RIGHT})
    result = marked(work, notebook=notebook)
    assert got(result) == {"product": 10, "successor": 5}
    assert any("ZeroDivisionError" in note and "line 1" in note for note in result["notes"])


def test_lines_for_ipython_do_no_harm(work):
    source = "%matplotlib inline\n!ls\n" + toy.RIGHT + "\ndisplay(1)\nproduct?"
    assert got(marked(work, source)) == {"product": 10, "successor": 5}


def test_a_given_cell_is_run_as_it_was_given(work):
    notebook = mark.solved(work)
    for cell in notebook["cells"]:
        if "GIVEN = 1" in cell["source"]:
            cell["source"] = "GIVEN = 99"
        if cell["source"].startswith("PARAMETERS"):
            cell["source"] = 'PARAMETERS = {"times": 99, "word": "red"}'
    assert got(marked(work, notebook=notebook)) == {"product": 10, "successor": 5}
    notebook["cells"] = [c for c in notebook["cells"] if "GIVEN = " not in c["source"]]
    assert got(marked(work, notebook=notebook)) == {"product": 10, "successor": 5}


@pytest.mark.parametrize("keep", ["none", "colab"])
def test_cells_are_known_again_without_their_ids(work, keep):
    notebook = mark.solved(work)
    for cell in notebook["cells"]:
        own = cell.pop("id")
        if keep == "colab":
            cell["metadata"]["id"] = own
    assert got(marked(work, notebook=notebook)) == {"product": 10, "successor": 5}


@pytest.mark.parametrize(
    ("source", "number"),
    [
        ("%%time\n" + toy.RIGHT, 15),
        ("%%bash\nrm -rf /", 0),
        (toy.RIGHT.replace("return n + 1", "return (n + 1\n        % 10**9)"), 15),
        (toy.RIGHT.replace("\n", "\r\n"), 15),
        ("class Odd(Exception):\n    def __str__(self): return self.gone\nraise Odd", 0),
    ],
)
def test_python_is_run_as_jupyter_runs_it(work, source, number):
    result = marked(work, source)
    assert sum(got(result).values()) == number
    assert not any("stopped: the program" in note for note in result["notes"])


def test_an_import_added_to_a_given_cell_is_there(work):
    notebook = mark.solved(work, {"q1": toy.RIGHT.replace("n + 1", "math.floor(n + GIVEN)")})
    for cell in notebook["cells"]:
        if "GIVEN = 1" in cell["source"]:
            cell["source"] = "import torch\nimport math\n\nGIVEN = 99"
    assert got(marked(work, notebook=notebook)) == {"product": 10, "successor": 5}


def test_an_answer_written_into_the_question_itself_is_read(work):
    notebook = mark.solved(work)
    cells = [cell for cell in notebook["cells"] if not cell["source"].startswith("**Sample")]
    next(c for c in cells if "Question 2" in c["source"])["source"] += "\n\nMy reason."
    assert marked(work, notebook={"cells": cells})["prose"][0]["text"].endswith("My reason.")


def test_experiments_and_public_checks_do_not_run(work):
    """Those of the toy would stop with an error."""
    assert marked(work)["notes"] == []


def test_prose_is_found_by_its_question(work):
    notebook = mark.solved(work)
    cells = [cell for cell in notebook["cells"] if not cell["source"].startswith("**Sample")]
    at = next(i for i, cell in enumerate(cells) if "Question 2" in cell["source"])
    cells[at + 1 : at + 1] = [
        {"cell_type": "markdown", "id": "mine", "metadata": {}, "source": ["My ", "reason."]},
        {"cell_type": "markdown", "id": "more", "metadata": {}, "source": "And more."},
    ]
    answers = marked(work, notebook={"cells": cells})["prose"]
    assert answers == [{"question": "q2", "points": 20, "text": "My reason.\n\nAnd more."}]


def test_a_students_own_long_experiments_do_not_cost_marks(work, monkeypatch):
    monkeypatch.setattr(mark, "CELL_SECONDS", 3)
    monkeypatch.setattr(mark, "PATIENCE", 4)
    notebook = mark.solved(work)
    own = {"cell_type": "code", "metadata": {}, "source": "while True: pass"}
    notebook["cells"] = [own] * 4 + notebook["cells"]
    result = marked(work, notebook=notebook)
    assert got(result) == {"product": 10, "successor": 5}
    assert [note.split(" took ")[-1] for note in result["notes"]][:4] == [
        "longer than 3 s",
        "longer than 3 s",
        "longer than 2 s",
        "longer than 2 s",
    ]


# --- plain data


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        -(10**30),
        1.5,
        "text",
        [1, [2, "x"]],
        (1, 2),
        {"a": [1, None]},
        torch.arange(6.0).reshape(2, 3),
        torch.tensor([[True, False]]),
        torch.zeros(0, 3),
        torch.tensor(7),
        ...,
    ],
)
def test_plain_data_comes_through(value):
    from assignments.marking import driver

    back = mark.decode(json.loads(json.dumps(driver.plain(value))))
    if isinstance(value, torch.Tensor):
        assert back.dtype == value.dtype and torch.equal(back, value)
    else:
        assert type(back) is type(value) and back == value


def test_a_bfloat16_tensor_and_a_parameter_come_as_floats():
    from assignments.marking import driver

    half = mark.decode(driver.plain(torch.ones(2, dtype=torch.bfloat16)))
    assert half.dtype == torch.float32
    assert torch.equal(mark.decode(driver.plain(torch.nn.Parameter(torch.ones(2)))), torch.ones(2))


def test_what_is_a_list_or_a_dict_by_birth_comes_through():
    from assignments.marking import driver

    class Liar(list):
        def __getitem__(self, key):
            return [99]

        __iter__ = __len__ = __getitem__

    pairs = collections.OrderedDict(a=torch.ones(2, 3).shape)
    assert mark.decode(driver.plain(pairs)) == {"a": (2, 3)}
    assert mark.decode(driver.plain(Liar([1, 2]))) == [1, 2]


@pytest.mark.parametrize(
    "value",
    [
        {"tensor": "", "dtype": "float32", "shape": [6]},
        {"tensor": "", "dtype": "float32", "shape": [10**9, 100]},
        {"float": 10**400},
        10**400,
        {"tensor": "!!", "dtype": "float32", "shape": [1]},
        {"tensor": "AAAAAA==", "dtype": "object", "shape": [1]},
        {"tensor": "AAAAAA==", "dtype": "float32", "shape": [9999999]},
        {"tensor": "AAAAAA==", "dtype": "float32", "shape": "x"},
        {"tensor": "AAAA", "dtype": "float32", "shape": [1]},
        {"float": "import os"},
        {"list": 3},
        {"dict": [[{"list": []}, 1]]},
        {"dict": [1]},
        {"strange": {"x": 1}},
        {},
        1.5,
        [1],
    ],
)
def test_what_is_not_of_the_form_is_something_strange(value):
    assert isinstance(mark.decode(value), mark.Strange)


def test_a_flood_of_tiny_lines_does_not_keep_the_marker_busy():
    start = time.monotonic()
    outcome = sandbox.Outcome(b"\n" * 2**24 + b'["cell", "a", "b"]\n' * 2**18, "", 1, 1)
    mark._sort(outcome, {})
    assert time.monotonic() - start < 5


def test_code_that_breaks_the_parser_is_only_wrong(work):
    for source in ("-" * 300_000 + "1", "a" + ".a" * 300_000, "x = '\ud800'", "\0"):
        assert got(marked(work, source)) == {"product": 0, "successor": 0}


# --- a class


def hand_in_class(work, folder: Path, size: int = 4) -> None:
    for number in range(size):
        right = "def product(n): return PARAMETERS['times'] * n" if number % 2 else "x = 1"
        code = f"{right}\ndef successor(n): return n + 1\n" + f"# {number} " * 200
        toy.hand_in(folder / f"s{number}.ipynb", mark.solved(work, {"q1": code}), f"s{number}")


def table(path: Path) -> list[dict]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def run_class(work, folder: Path, out: Path, **options):
    found = intake.collect(folder, work, unpacked=out / "unpacked")
    results = batch.run(work, found, out, "forked", say=lambda *_: None, **options)
    return found, results, reports.write_all(work, found, results, out)


def test_a_class_is_marked_and_marked_again_only_where_something_changed(work, tmp_path):
    hand_in_class(work, tmp_path / "in")
    _, results, _ = run_class(work, tmp_path / "in", tmp_path / "out", jobs=2)
    assert [r["student"] for _, r in results] == ["s0", "s1", "s2", "s3"]
    rows = table(tmp_path / "out" / "marks.csv")
    assert [row["q1 (of 15)"] for row in rows] == ["5", "15", "5", "15"]
    assert {row["still by hand"] for row in rows} == {"q2"}
    files = sorted((tmp_path / "out" / "results").iterdir())
    before = [file.stat().st_mtime_ns for file in files]
    toy.hand_in(tmp_path / "in" / "s2.ipynb", mark.solved(work, {"q1": toy.RIGHT}), "s2")
    run_class(work, tmp_path / "in", tmp_path / "out")
    after = [file.stat().st_mtime_ns for file in files]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, False, True]
    assert table(tmp_path / "out" / "marks.csv")[2]["q1 (of 15)"] == "15"


def test_another_secret_marks_anew(work, tmp_path):
    assert batch.version(work, "") != batch.version(work, "a secret of sixteen letters")


def test_points_given_by_hand_are_added_and_kept(work, tmp_path):
    hand_in_class(work, tmp_path / "in", 2)
    out = tmp_path / "out"
    run_class(work, tmp_path / "in", out)
    assert [row["points"] for row in table(out / "by_hand.csv")] == ["", ""]
    text = (out / "by_hand.csv").read_text().replace("s0,q2,,", 's0,q2,"12,5","well, said"')
    (out / "by_hand.csv").write_text(text.replace("s1,q2,,", "s1,q2,21,"))
    _, _, troubles = run_class(work, tmp_path / "in", out)
    assert table(out / "marks.csv")[0]["total"] == "17.5"
    assert any("0 to 20 points, not 21" in line for line in troubles)
    assert table(out / "by_hand.csv")[0]["comment"] == "well, said"
    pages = sorted((out / "feedback").iterdir())
    assert "well, said" in pages[0].read_text()


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("between", [",", ";"])
def test_the_table_may_come_back_from_a_spreadsheet(work, tmp_path, coding, between):
    lines = [["student", "question", "points", "comment"], ["José", "q2", '"7,5"', "schön"]]
    lines += [["'t Hooft", "q2", "15?", "'tis good"], ["'=1", "q2", "3", "'-1 for the form"]]
    text = "\r\n".join(between.join(line) for line in lines)
    (tmp_path / "by_hand.csv").write_bytes(text.encode(coding))
    hand, troubles = reports.read_by_hand(work, tmp_path)
    assert hand["José"]["q2"][:2] == (7.5, "schön")
    assert hand["=1"]["q2"][:2] == (3, "-1 for the form")
    assert troubles == ["by_hand.csv, line 3: '15?' is no number of points"]
    assert ["'t Hooft", "q2", "15?", "'tis good"] in reports._to_fill_in([], hand)


def test_points_for_somebody_who_is_not_there_are_told(work, tmp_path):
    (tmp_path / "by_hand.csv").write_text("student,question,points,comment\nJosè,q2,5,\n")
    assert "nothing of 'Josè' is marked" in reports.write_all(work, [], [], tmp_path)[0]


def test_a_by_hand_table_of_another_form_is_refused(work, tmp_path):
    (tmp_path / "by_hand.csv").write_text("a,b\n1,2\n")
    with pytest.raises(master.Fault, match="its first line must be student,question"):
        reports.read_by_hand(work, tmp_path)


def test_everything_that_can_lie_in_a_folder_gets_one_clear_line(work, tmp_path):
    folder = tmp_path / "in"
    hand_in_class(work, folder, 2)
    good = mark.solved(work, {"q1": toy.RIGHT + "\n# a long remark" * 40})
    (folder / "empty.ipynb").write_bytes(b"")
    (folder / "corrupt.ipynb").write_text('{"cells": [')
    (folder / "binary.ipynb").write_bytes(bytes(range(256)))
    (folder / "deep.ipynb").write_text('{"cells": ' + "[" * 200_000)
    (folder / "list.ipynb").write_text("[]")
    (folder / "nosource.ipynb").write_text('{"cells": [{"cell_type": "code"}]}')
    (folder / "many.ipynb").write_text(json.dumps({"cells": [{"source": ""}] * 1001}))
    (folder / "other.ipynb").write_text('{"cells": [{"cell_type": "code", "source": "x = 1"}]}')
    (folder / "essay.docx").write_bytes(b"PK")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "link.ipynb").symlink_to(folder / "s0.ipynb")
    with open(folder / "huge.ipynb", "wb") as file:
        file.truncate(60 * 2**20)
    toy.hand_in(folder / "final version.ipynb", good, "s7")
    toy.hand_in(folder / "s8.ipynb", mark.solved(work), "...")
    toy.hand_in(folder / "s9.ipynb", good, "s9")
    toy.hand_in(folder / "by me.ipynb", good, "s0")
    (folder / "endless.ipynb").write_text(json.dumps({"cells": [{"source": "x" * 4_000_000}]}))
    old = toy.hand_in(folder / "s1 (1).ipynb", good, "s1")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    found = intake.collect(folder, work, due=datetime(2100, 1, 1))
    troubles = {s.path.name: s.problem for s in found if s.problem}
    for name, words in {
        "empty.ipynb": "the file is empty",
        "corrupt.ipynb": "cannot be read as a notebook",
        "binary.ipynb": "cannot be read as a notebook",
        "deep.ipynb": "cannot be read as a notebook",
        "list.ipynb": "it has no list of cells",
        "nosource.ipynb": "cell 1 has no source",
        "many.ipynb": "1001 cells are too many",
        "other.ipynb": "is not assignment a9",
        "essay.docx": "a .docx file is not a notebook",
        "link.ipynb": "not a regular file",
        "huge.ipynb": "60 MiB is too large",
        "s1 (1).ipynb": "an older copy: s1.ipynb is marked instead",
        "by me.ipynb": "says s0 inside, as another file does",
        "endless.ipynb": "4 million characters are too many",
    }.items():
        assert words in troubles.pop(name)
    assert not troubles
    notes = {s.path.name: " ".join(s.notes) for s in found if not s.problem}
    assert set(notes) == {"s0.ipynb", "s1.ipynb", "s8.ipynb", "s9.ipynb", "final version.ipynb"}
    assert "by the number inside it is s7's" in notes["final version.ipynb"]
    assert "no STUDENT_ID inside: taken for s8's" in notes["s8.ipynb"]
    assert "the same code, letter by letter, as s7" in notes["s9.ipynb"]
    assert notes["s0.ipynb"] == ""
    late = intake.collect(folder, work, due=datetime(2001, 1, 1))
    assert all(s.late for s in late if not s.problem)


def test_a_second_download_of_a_file_that_ends_in_the_number_is_its_copy(work, tmp_path):
    for name in ("a9_2026001", "a9_2026001 (1)", "a9_2026002", "a9_2026002_2"):
        path = toy.hand_in(tmp_path / f"{name}.ipynb", mark.solved(work), name.split("_")[1][:7])
        os.utime(path, (1_000_000_000, 1_000_000_000))
    found = {s.path.stem: s.problem for s in intake.collect(tmp_path, work)}
    assert not found["a9_2026001 (1)"] and not found["a9_2026002_2"]
    assert found["a9_2026001"] == "an older copy: a9_2026001 (1).ipynb is marked instead"
    assert found["a9_2026002"] == "an older copy: a9_2026002_2.ipynb is marked instead"


def test_a_folder_a_student_and_another_assignment(work, tmp_path):
    for name in ("anna", "bo"):
        toy.hand_in(tmp_path / name / "a9_toy.ipynb", mark.solved(work), "...")
    other = master.find("a2")
    toy.hand_in(tmp_path / "c" / "c.ipynb", mark.solved(other), "c")
    found = {s.student: s.problem for s in intake.collect(tmp_path, work)}
    assert found == {"anna": "", "bo": "", "c": found["c"]}
    assert "is not assignment a9" in found["c"]


def test_the_published_solution_is_recognised(tmp_path):
    work = master.find("a2")
    copied = mark.solved(work)
    for cell in copied["cells"]:
        if "class BasicBlock" in cell["source"]:
            cell["source"] = cell["source"].replace("\n\n", "\n\n# my own idea\n\n")
    toy.hand_in(tmp_path / "s1.ipynb", copied, "s1")
    own = {"q2": "class BasicBlock:\n    pass", "q3": "class Bottleneck:\n    pass", "q4": "x = 1"}
    toy.hand_in(tmp_path / "s2.ipynb", mark.solved(work, own), "s2")
    notes = {s.student: " ".join(s.notes) for s in intake.collect(tmp_path, work)}
    assert "as in the published solution: BasicBlock, Bottleneck" in notes["s1"]
    assert "published" not in notes["s2"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def f():\n    ...", {"f"}),
        ("def f():\n    x = 1\n    return ...", {"f"}),
        ("x = ...", {"x"}),
        ("class A:\n    y = ...", {"A"}),
        ("class A:\n    def g(self):\n        ...", {"A"}),
        ("def f(x):\n    try:\n        return x[..., 0]\n    except E:\n        ...", set()),
        ("def f():\n    ...\ndef f():\n    return 1", set()),
        ("def f(:", set()),
    ],
)
def test_where_the_dots_still_stand(text, names):
    assert mark.unwritten([text]) == names


def test_canvas_and_moodle_downloads_are_understood(work, tmp_path):
    folder = tmp_path / "in"
    solved = mark.solved(work)
    toy.hand_in(folder / "lilei_11_901_a9_toy.ipynb", solved, "2026001")
    toy.hand_in(folder / "lilei_11_907_a9_toy-1.ipynb", solved, "2026001")
    toy.hand_in(folder / "hanmeimei_LATE_12_905_a9_toy.ipynb", solved, "2026002")
    toy.hand_in(folder / "Ana Lima_77_assignsubmission_file" / "a9_toy.ipynb", solved, "2026003")
    toy.hand_in(folder / "Ana Lima_78_assignsubmission_file" / "a9_toy.ipynb", solved, "2026004")
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in folder.rglob("*.ipynb"):
            zipped.write(path, path.relative_to(folder))
        zipped.writestr("../../outside.ipynb", "{}")
        zipped.writestr("/absolute.ipynb", "{}")
    found, results, _ = run_class(work, archive, tmp_path / "out")
    fine = {s.user: s for s in found if not s.problem}
    assert {u: s.student for u, s in fine.items()} == {
        "11": "lilei",
        "12": "hanmeimei",
        "77": "Ana Lima",
        "78": "Ana Lima 78",
    } or sorted(s.student for s in fine.values()) == [
        "Ana Lima 77",
        "Ana Lima 78",
        "hanmeimei",
        "lilei",
    ]
    assert fine["12"].late and not fine["11"].late
    assert fine["11"].path.name.startswith("lilei_11_907")
    assert not (tmp_path.parent / "outside.ipynb").exists()
    out = tmp_path / "out"
    book = tmp_path / "gradebook.csv"
    book.write_text(
        "Student,ID,SIS User ID,SIS Login ID,Section,A9 (55),Final\n"
        "    Points Possible,,,,,15,\nLi Lei,11,x,lilei,1,,\nNobody,99,y,n,1,,\n"
    )
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(
        "Identifier,Full name,Grade,Feedback comments\nParticipant 77,Ana Lima,,\n"
        "Participant 5,Nobody,,\n"
    )
    reports.write_all(work, found, results, out, book, sheet, "A9")
    assert (out / "canvas.csv").read_text() == (
        "Student,ID,SIS User ID,SIS Login ID,Section,A9 (55)\nLi Lei,11,x,lilei,1,15\n"
    )
    assert table(out / "moodle.csv")[0]["Grade"] == "15"
    assert table(out / "moodle.csv")[1]["Grade"] == ""
    with pytest.raises(master.Fault, match="has no column 'B2'"):
        reports.write_all(work, found, results, out, book, None, "B2")
    with pytest.raises(master.Fault, match="is it the platform's own export"):
        reports.write_all(work, found, results, out, sheet)


def test_one_students_characters_do_not_cost_a_class_its_reports(work, tmp_path):
    """A lone surrogate cannot be written in any coding; a line break would forge a line."""
    code = "raise ValueError('\\ud800')\n" + "# why" * 100
    notebook = mark.solved(work, {"q1": code})
    notebook["cells"][-1:] = [{"cell_type": "markdown", "source": "\udfff", "id": "c14"}]
    path = toy.hand_in(tmp_path / "in" / "a.ipynb", notebook, "s\ud800")
    os.rename(path, os.fsencode(path.parent) + b"/\xff\x1b[31m\nb.ipynb: fine.ipynb")
    toy.hand_in(tmp_path / "in" / "s1.ipynb", mark.solved(work), "s1")
    _, results, troubles = run_class(work, tmp_path / "in", tmp_path / "out")
    assert len(results) == 2
    assert len((tmp_path / "out" / "look.txt").read_text().splitlines()) == len(troubles)
    assert not any(set(line) & set("\x1b\n\ud800\udcff") for line in troubles)


def test_a_zip_leads_nowhere_else_and_keeps_its_times(work, tmp_path):
    good = json.dumps(mark.solved(work))
    for name in (f"/{tmp_path}/slip.ipynb", f"{tmp_path}/slip.ipynb".replace("/", "\\")):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
            zipped.writestr(name, good)
            zipped.writestr(zipfile.ZipInfo("s2.ipynb", (2026, 1, 1, 0, 0, 0)), good)
        found = intake.collect(tmp_path / "a.zip", work, datetime(2026, 2, 1), tmp_path / "un")
        assert [(s.path.name, s.late) for s in found] == [("s2.ipynb", False)]
    assert not (tmp_path / "slip.ipynb").exists()
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.rindex(b"PARAMETERS")] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(master.Fault, match="cannot be unpacked"):
        intake.collect(tmp_path / "a.zip", work, unpacked=tmp_path / "un")


def test_a_zip_whose_list_of_files_is_damaged_is_named(work, tmp_path):
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("s1.ipynb", "{}")
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02")] = 0
    archive.write_bytes(data)
    with pytest.raises(master.Fault, match=r"all\.zip: its list of files cannot be read"):
        intake.collect(archive, work, unpacked=tmp_path / "un")


def test_a_byte_order_mark_costs_nothing(work, tmp_path):
    path = toy.hand_in(tmp_path / "s1.ipynb", mark.solved(work), "s1")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [s.problem for s in intake.collect(tmp_path, work)] == [""]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_on_a_full_disk_the_old_file_stays(tmp_path, monkeypatch):
    batch.write(tmp_path / "r.json", "old")
    real = open
    monkeypatch.setattr("builtins.open", lambda path, *a, **k: real("/dev/full", *a, **k))
    with pytest.raises(OSError, match="No space left"):
        batch.write(tmp_path / "r.json", "new" * 10000)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
    assert (tmp_path / "r.json").read_text() == "old"


def test_no_text_of_a_students_becomes_a_page_or_a_formula(work, tmp_path):
    evil = "</pre><script>alert(1)</script>\u202e=1+1"
    code = f"def product(n): raise ValueError({evil!r})\ndef successor(n): return {evil!r}"
    toy.hand_in(tmp_path / "in" / "x.ipynb", mark.solved(work, {"q1": code}), "=cmd|<b>x</b>")
    run_class(work, tmp_path / "in", tmp_path / "out")
    out = tmp_path / "out"
    pages = [*(out / "feedback").iterdir(), out / "by_hand.html"]
    for path in pages:
        text = path.read_text()
        assert "<script" not in text and "<b>x" not in text and "\u202e" not in text
        assert "default-src 'none'" in text
    for path in out.glob("*.csv"):
        for row in csv.reader(io.StringIO(path.read_text())):
            assert not any(value.startswith(("=", "+", "-", "@")) for value in row)
    assert all(path.is_relative_to(out) for path in out.rglob("*"))


def test_killed_at_any_point_it_goes_on_and_loses_nothing(work, tmp_path):
    """The command is killed again and again; every result that was there stays as it was."""
    hand_in_class(work, tmp_path / "in", 6)
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\n"
        "from assignments.marking import batch, intake, master, reports\n"
        "if __name__ == '__main__':\n"
        f"    work = master.read(Path({str(work.path)!r}))\n"
        f"    out = Path({str(tmp_path / 'out')!r})\n"
        "    with batch.alone(out):\n"
        f"        found = intake.collect(Path({str(tmp_path / 'in')!r}), work)\n"
        "        results = batch.run(work, found, out, 'trusted', jobs=2)\n"
        "        reports.write_all(work, found, results, out)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    seen: dict[str, str] = {}
    kills, folder = 0, tmp_path / "out" / "results"
    while True:
        process = subprocess.Popen([sys.executable, str(script)], env=environment, cwd=tmp_path)
        start, more = time.monotonic(), len(seen) + 1
        while process.poll() is None and time.monotonic() - start < 120:
            if kills < 3 and len(list(folder.glob("*.json"))) >= more:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.02)
        process.wait()
        for path in folder.glob("*.json"):
            text = path.read_text()
            assert json.loads(text)["parts"]
            assert seen.setdefault(path.name, text) == text, "marked twice"
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert kills >= 2
    assert len(table(tmp_path / "out" / "marks.csv")) == len(seen) == 6


def test_stopped_from_the_keyboard_it_does_not_mark_the_rest_first(work, tmp_path):
    hand_in_class(work, tmp_path / "in", 5)
    found = intake.collect(tmp_path / "in", work)

    def stop(line):
        if line.startswith("[1/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch.run(work, found, tmp_path / "out", "trusted", jobs=1, say=stop)
    gc.collect()  # ends the generator
    assert len(list((tmp_path / "out" / "results").iterdir())) < 5


def test_a_sandbox_that_does_not_start_costs_no_student_marks(work, monkeypatch):
    failed = sandbox.Outcome(b"", "ended with status 126: setpriv: failed to execute", 0.3, 0)
    monkeypatch.setattr(sandbox, "run", lambda *a: failed)
    with pytest.raises(RuntimeError, match="did not start"):
        marked(work)


def test_a_half_written_result_counts_as_none(work, tmp_path):
    hand_in_class(work, tmp_path / "in", 1)
    run_class(work, tmp_path / "in", tmp_path / "out")
    file = next((tmp_path / "out" / "results").iterdir())
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    run_class(work, tmp_path / "in", tmp_path / "out")
    before, after = json.loads(whole), json.loads(file.read_text())
    assert before["parts"] == after["parts"]


def test_only_one_marker_at_a_time(tmp_path):
    with batch.alone(tmp_path):
        second = batch.alone(tmp_path)
        with pytest.raises(master.Fault, match="another marker is at work"):
            second.__enter__()
    with batch.alone(tmp_path):
        pass


def test_a_file_that_changes_while_it_is_marked_is_not_mixed_up(work, tmp_path):
    path = toy.hand_in(tmp_path / "s.ipynb", mark.solved(work), "s")
    args = (tmp_path / "r.json", "v", "trusted", "", sandbox.Limits())
    job = batch.Job(work.path, path, "s", "0" * 64, *args)
    assert "changed while it was marked" in batch._one(job)
    assert not (tmp_path / "r.json").exists()


def test_a_page_says_what_a_student_and_a_reader_need(work, tmp_path):
    code = toy.RIGHT.replace("n + 1", "n")
    notebook = mark.solved(work, {"q1": code})
    sample = next(cell for cell in notebook["cells"] if cell["source"].startswith("**Sample"))
    sample["source"] = "| a |\n|---|"
    toy.hand_in(tmp_path / "in" / "lilei_11_901_a9_toy.ipynb", notebook, "2026001")
    toy.hand_in(tmp_path / "in" / "ana_12_902_a9_toy.ipynb", mark.solved(work), "...")
    toy.hand_in(tmp_path / "in" / "2026003.ipynb", mark.solved(work), "2026003")
    run_class(work, tmp_path / "in", tmp_path / "out")
    out = tmp_path / "out"
    text = (out / "by_hand.html").read_text()
    for who in ("lilei · STUDENT_ID 2026001", "ana · no STUDENT_ID", "2026003"):
        assert f"<h3>{who}</h3>" in text
    assert "| a |\n|---|" in text, "the lines of an answer stay lines"
    pages = {path.name.split("-")[0]: path.read_text() for path in (out / "feedback").iterdir()}
    assert "Everything that the machine marks is right." in pages["ana"]
    assert "fresh inputs" in pages["lilei"] and "successor: 0 of 5" in pages["lilei"]
    assert "Question 1 · Products</th>" in pages["lilei"], "points and minutes have left the title"
    assert "Total so far" in pages["ana"] and "not read yet" in pages["ana"]
    by_hand = (out / "by_hand.csv").read_bytes()
    assert by_hand.startswith(b"\xef\xbb\xbfstudent"), "Excel would not know that it is UTF-8"
    text = by_hand.decode("utf-8-sig").replace("ana,q2,,", 'ana,q2,20,"one\nand <two>"')
    (out / "by_hand.csv").write_text(text, encoding="utf-8")
    run_class(work, tmp_path / "in", out)
    assert "one\nand &lt;two&gt;" in next((out / "feedback").glob("ana-*")).read_text()
    assert [row["total"] for row in table(out / "marks.csv")][1:] == ["35", "10"]
    assert "Total so far" not in next((out / "feedback").glob("ana-*")).read_text()
    assert '"one\nand <two>"' in (out / "by_hand.csv").read_bytes().decode("utf-8-sig")


def test_a_number_inside_gives_nobody_a_second_row_in_canvas(work, tmp_path):
    """An SIS number typed into another's notebook: who handed in nothing gets no mark."""
    toy.hand_in(tmp_path / "in" / "fischer_6_901_a9_toy.ipynb", mark.solved(work), "s106")
    toy.hand_in(tmp_path / "in" / "s107.ipynb", mark.solved(work), "s107")
    found, results, _ = run_class(work, tmp_path / "in", tmp_path / "out")
    book = tmp_path / "gradebook.csv"
    rows = ["Fischer,6,s999", "Gone,7,s106", "Own,8,s107"]
    book.write_text("Student,ID,SIS User ID\n" + "\n".join(rows) + "\n")
    reports.write_all(work, found, results, tmp_path / "out", book)
    filled = [row["Student"] for row in table(tmp_path / "out" / "canvas.csv")]
    assert filled == ["Fischer", "Own"]


def test_work_on_another_copy_is_told_to_teacher_and_student(work, tmp_path):
    public, mine, edited = mark.solved(work), mark.solved(work), mark.solved(work)
    secret = next(
        text
        for text in (f"the secret of course {n}" for n in range(99))
        if master.parameters(work, text)["times"] != work.parameters["times"]
    )
    values = master.parameters(work, secret)
    other = next(n for n in work.choices["times"] if n not in (values["times"], 3, 2))
    for notebook, numbers in ((mine, values), (edited, {**values, "times": other})):
        cell = next(c for c in notebook["cells"] if c["source"].startswith("PARAMETERS"))
        cell["source"] = master.with_parameters(cell["source"], numbers)
    for name, notebook in (("s1", public), ("s2", mine), ("s3", edited)):
        toy.hand_in(tmp_path / "in" / f"{name}.ipynb", notebook, name)
    _, results, troubles = run_class(work, tmp_path / "in", tmp_path / "out", secret=secret)
    said = [result["copy"] for _, result in results]
    assert said[0] == "PARAMETERS is that of the public copy" and said[1] == ""
    assert said[2] == "PARAMETERS has other values: times"
    assert "s1: PARAMETERS is that of the public copy" in troubles
    assert troubles[0] == "2 of 3 have another copy: --secret-file right?"
    pages = {p.name[:2]: p.read_text() for p in (tmp_path / "out" / "feedback").iterdir()}
    assert "that of the public copy" in pages["s1"] and "not the copy" not in pages["s2"]
    page = (tmp_path / "out" / "by_hand.html").read_text()
    assert re.search(rf">times</t[dh]>\s*<td[^>]*>{values['times']}</td>", page)
    assert "a private copy" in page
    run_class(work, tmp_path / "in", tmp_path / "out")  # the secret forgotten
    assert "have another copy" in (tmp_path / "out" / "look.txt").read_text()


def test_a_reader_sees_what_the_experiments_printed(work, tmp_path):
    """Of the experiments alone, as text; outputs of any other form cost nobody anything."""
    html = {"data": {"text/html": "<i>drawn</i>", "text/plain": "a figure"}}
    fine = [
        {"text": ["loss <b>0.5</b>\n", "error 7 %\n"]},
        html,
        {"data": {"text/plain": "[4, 2]"}},
    ]
    odd = [7, {"text": 5}, {"data": 3}, {"data": {"text/plain": [1, "still\n"]}}, None]
    for name, outputs in (("s1", fine), ("s2", odd), ("s3", {"text": "no list"}), ("s4", "x")):
        notebook = mark.solved(work)
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"] = [{"text": "of another cell"}]
                if cell["source"].startswith("raise AssertionError"):
                    cell["outputs"] = outputs
        toy.hand_in(tmp_path / "in" / f"{name}.ipynb", notebook, name)
    run_class(work, tmp_path / "in", tmp_path / "out")
    page = (tmp_path / "out" / "by_hand.html").read_text()
    assert "<pre>loss &lt;b&gt;0.5&lt;/b&gt;\nerror 7 %\n[4, 2]</pre>" in page
    assert "<pre>still</pre>" in page and page.count("What the experiments printed") == 2
    assert "drawn" not in page and "a figure" not in page and "of another cell" not in page


def test_a_cell_that_stopped_is_named_before_what_is_missing(work):
    result = marked(work, "def product(n) return 1\n")
    assert "the cell of this answer stopped, see above" in result["parts"][0]["feedback"]
    assert "stopped" not in marked(work, "def product(n): return 1\n")["parts"][0]["feedback"]
    right = marked(work, toy.RIGHT + "\n1 / 0\n")["parts"][0]
    assert right["got"] == right["points"] and right["feedback"] == ""


def test_any_module_of_the_books_is_refused_in_words(work):
    result = marked(work, "def product(n):\n    from resnet_lib.blocks import BasicBlock\n")
    assert "resnet_lib.blocks is not there when work is marked" in result["parts"][0]["feedback"]


def test_two_of_one_number_on_a_platform_are_told(work, tmp_path):
    for name in ("Ana_77_assignsubmission_file", "Bo_78_assignsubmission_file"):
        toy.hand_in(tmp_path / name / "a9_toy.ipynb", mark.solved(work), "s202")
    found = intake.collect(tmp_path, work)
    assert not any(s.problem for s in found)
    assert ["STUDENT_ID s202, as Bo: whose is it?" in s.notes for s in found] == [True, False]


def test_stopped_from_the_keyboard_it_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def stop(*_args, **_more):
        raise KeyboardInterrupt

    (tmp_path / "in").mkdir()
    monkeypatch.setattr(batch, "run", stop)
    words = ["mark", "a2", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--trusted"]
    assert main(words) == 130
    said = capsys.readouterr().err
    assert "the same command goes on" in said and "Traceback" not in said


def test_a_line_to_look_at_says_whose_file_it_is(work, tmp_path):
    (tmp_path / "in" / "Ana Lima_77_assignsubmission_file").mkdir(parents=True)
    (tmp_path / "in" / "Ana Lima_77_assignsubmission_file" / "a9_toy.ipynb").write_text("")
    (tmp_path / "in" / "s2.ipynb").write_text("")
    assert reports.write_all(work, intake.collect(tmp_path / "in", work), [], tmp_path) == [
        "Ana Lima, a9_toy.ipynb: not marked: the file is empty",
        "s2.ipynb: not marked: the file is empty",
    ]


def test_an_empty_entry_of_a_platform_comes_back_as_it_was():
    assert reports.table([["-", "-1+1", "%x", 2]]) == "-,'-1+1,'%x,2\r\n"


def test_characters_that_draw_nothing_are_left_out_of_a_text_and_hide_no_formula():
    assert reports._pre(["a\u200bb\r\n\tc\rd\ufeff"]) == "<pre>ab\n\tc\nd</pre>"
    for start in ("\u202e", "\ufeff ", "\r\n", "\x00"):
        value = reports.table([[start + "=1+1"]]).lstrip('"')
        assert value.startswith("'")


# --- masters and releases


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("points: 15", "points: 14", "14 points, its parts 15"),
        ("def judge(", "def jugde(", "there is no function judge"),
        ("hidden: true", "hidden: false", "hidden: true"),
        ('"times": 2,', '"times": 9,', "is none of its choices"),
        ("manual: true", "manual: false", "20 points, its parts 0"),
        ("# END TESTS", "# FIN TESTS", "means nothing here"),
    ],
)
def test_a_master_that_is_not_in_order_is_refused(work, tmp_path, old, new, words):
    text = work.path.read_text(encoding="utf-8")
    changed = text.replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1])
    assert changed != text
    path = tmp_path / "a9_toy.ipynb"
    path.write_text(changed, encoding="utf-8")
    with pytest.raises(master.Fault, match=words):
        master.read(path)


def test_the_students_copy_has_no_solution_and_no_hidden_test(work, tmp_path):
    student = release._assign(work, tmp_path / "a9", "a secret of sixteen letters")
    text = student.read_text(encoding="utf-8")
    for word in ("judge", "SOLUTION", "Sample answer", "Rubric", "one of", "otter", "TEST CONFIG"):
        assert word not in text
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads(text)["cells"]}
    values = master.parameters(work, "a secret of sixteen letters")
    assert json.dumps(values["times"]) in cells["c03"]
    assert "    ..." in cells["c08"]
    assert cells["q2-answer"] == mark.STUB
    assert (tmp_path / "a9" / "otter-autograder.zip").stat().st_size
    solution = (tmp_path / "a9" / "solution" / "a9_toy.ipynb").read_text()
    assert "Sample answer" in solution


def test_an_untouched_copy_loses_all_and_is_told_so(work, tmp_path):
    student = release._assign(work, tmp_path / "a9", "")
    result = marked(work, notebook=json.loads(student.read_text()))
    assert got(result) == {"product": 0, "successor": 0}
    assert {part["feedback"] for part in result["parts"]} == {"not answered"}
    assert result["prose"][0]["text"] == ""


@pytest.mark.long
def test_otters_own_autograder_agrees(work, tmp_path):
    release._assign(work, tmp_path / "a9", "")
    for name, code, points in (("right", toy.RIGHT, 15), ("half", toy.RIGHT + "\nproduct = 1", 5)):
        notebook = json.loads((tmp_path / "a9" / "solution" / "a9_toy.ipynb").read_text())
        for cell in notebook["cells"]:
            if cell["id"] == "c08":
                cell["source"] = code
        notebook["cells"] = [c for c in notebook["cells"] if "AssertionError" not in c["source"]]
        path = tmp_path / f"{name}.ipynb"
        path.write_text(json.dumps(notebook))
        words = [sys.executable, "-m", "otter", "run", "-a", "a9/otter-autograder.zip", path.name]
        subprocess.run(words, cwd=tmp_path, capture_output=True, check=True)
        tests = json.loads((tmp_path / "results.json").read_text())["tests"]
        assert sum(test.get("score") or 0 for test in tests) == points


def test_a_secret_that_is_too_short_is_refused(tmp_path):
    path = tmp_path / "s"
    path.write_text("short\n")
    with pytest.raises(master.Fault, match="has 5 characters"):
        release.secret_of(str(path))
    with pytest.raises(master.Fault, match="No such file"):
        release.secret_of(str(tmp_path / "none"))
    path.write_text("a secret that is long enough\n")
    assert release.secret_of(str(path)) == "a secret that is long enough"


# --- Gradescope and the command line


def test_the_gradescope_zip_marks_what_is_handed_in(work, tmp_path, monkeypatch):
    monkeypatch.setattr(master, "find", lambda name: work)
    place = tmp_path / "autograder"
    archive = gradescope.build(work, tmp_path / "z.zip", "a secret of sixteen letters")
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(place / "source")
        names = zipped.namelist()
        assert {"setup.sh", "run_autograder", "requirements.txt", "course.secret"} <= set(names)
        assert zipped.getinfo("run_autograder").external_attr >> 16 & 0o100
        assert not any("test" in name or "book/" in name for name in names)
    assert (place / "source" / "assignments" / "a9_toy.ipynb").is_file()
    monkeypatch.setattr(sandbox, "choose", lambda *a, **k: "trusted")
    toy.hand_in(place / "submission" / "mine.ipynb", mark.solved(work), "s1")
    assert gradescope.run("a9", place) == 0
    result = json.loads((place / "results" / "results.json").read_text())
    assert [test["score"] for test in result["tests"]] == [10, 5, 0]
    assert [test["max_score"] for test in result["tests"]] == [10, 5, 0]
    note = result["tests"][2]  # what is said of whose file it is, or where the code is from
    assert note["visibility"] == "hidden" and "by the number inside" in note["output"]
    assert "by the number inside" not in result["output"]
    assert "is that of the public copy" in result["output"]
    assert "20 points are marked by hand" in result["output"]
    (place / "submission" / "mine.ipynb").write_text("{")
    gradescope.run("a9", place)
    result = json.loads((place / "results" / "results.json").read_text())
    assert result["score"] == 0 and "cannot be read as a notebook" in result["output"]


def test_the_zip_runs_by_itself(work, tmp_path):
    """As on Gradescope: the unpacked zip alone, started by its command, in an empty folder."""
    place = tmp_path / "autograder"
    with zipfile.ZipFile(gradescope.build(work, tmp_path / "z.zip")) as zipped:
        zipped.extractall(place / "source")
    toy.hand_in(place / "submission" / "mine.ipynb", mark.solved(work), "s1")
    absent = "markdown_it", "nbformat", "matplotlib", "sklearn", "safetensors", "tqdm", "otter"
    (place / "site").mkdir()  # these are not installed there
    (place / "site" / "sitecustomize.py").write_text(
        "import sys\nclass Absent:\n    def find_spec(self, name, *_):\n"
        f"        if name.split('.')[0] in {absent}:\n"
        "            raise ModuleNotFoundError(name)\nsys.meta_path.insert(0, Absent())\n"
    )
    environment = {"AUTOGRADER_ROOT": str(place), "PATH": os.environ["PATH"]}
    environment["PYTHONPATH"] = str(place / "site")
    words = [sys.executable, "-m", "assignments.marking", "gradescope-run", "a9"]
    done = subprocess.run(
        words, cwd=place / "source", env=environment, capture_output=True, text=True
    )
    if "no safe place" in done.stderr:
        pytest.skip("neither bubblewrap nor root here")
    assert done.returncode == 0, done.stderr
    result = json.loads((place / "results" / "results.json").read_text())
    assert [test["score"] for test in result["tests"]] == [10, 5, 0]


def test_the_command_line_says_what_is_wrong(tmp_path, capsys):
    assert main(["mark", "a77", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "no assignment 'a77'" in capsys.readouterr().err
    assert (
        main(["mark", "a2", str(tmp_path / "none"), "--out", str(tmp_path / "o"), "--trusted"]) == 2
    )
    assert "no such folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["mark", "a2", str(tmp_path), "--out", str(tmp_path / "o"), "--due", "30.11.2026"])
    assert "write it as 2026-11-30 23:59" in capsys.readouterr().err
