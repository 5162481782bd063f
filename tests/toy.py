"""A tiny assignment for the tests of the marker, and submissions to it."""

import json
from pathlib import Path

import nbformat

PART = '''""" # BEGIN TEST CONFIG
name: {name}
points: {points}
hidden: true
""" # END TEST CONFIG
def cases(draw, parameters):
    return [(draw.randrange(10, 10**6),) for _ in range(3)]


def probe(answers, n):
    return answers["{name}"](n)


def judge(run, cases, parameters):
    from resnet_lib import checks

    hints = {{"it gives back what it got": lambda n: n}}
    return checks.function("{name}", run, lambda n: {right}, cases, hints)
'''


def write_master(folder: Path, name: str = "a9_toy") -> Path:
    """Two functions for the machine (10 and 5 points), one answer for a person (20)."""
    raw, md = nbformat.v4.new_raw_cell, nbformat.v4.new_markdown_cell
    code = nbformat.v4.new_code_cell
    cells = [
        raw(
            "# ASSIGNMENT CONFIG\ninit_cell: false\nexport_cell: false\ncheck_all_cell: false\n"
            "runs_on: default\ntests: {files: true, ok_format: true}\ngenerate: false"
        ),
        md("# A9 · Toy\n\n**Two functions and a reason.**"),
        code('STUDENT_ID = "..."  # your number, in quotes'),
        code(
            'PARAMETERS = {\n    "times": 2,  # one of 2, 3, 4, 5, 6, 7\n'
            '    "word": "red",  # one of "red", "blue"\n}'
        ),
        code("import torch\n\nGIVEN = 1"),
        raw("# BEGIN QUESTION\nname: q1\npoints: 15\ncheck_cell: false"),
        md("## Question 1 · Products (15 points · 2 minutes)"),
        raw("# BEGIN SOLUTION"),
        code(
            'def product(n):\n    return PARAMETERS["times"] * n  # SOLUTION\n\n\n'
            "def successor(n):\n    return n + GIVEN  # SOLUTION"
        ),
        raw("# END SOLUTION"),
        raw("# BEGIN TESTS"),
        code(PART.format(name="product", points=10, right='parameters["times"] * n')),
        code(PART.format(name="successor", points=5, right="n + 1")),
        raw("# END TESTS"),
        code("print(product(1), successor(1))"),
        raw("# END QUESTION"),
        raw("# BEGIN QUESTION\nname: q2\npoints: 20\nmanual: true"),
        md("## Question 2 · Why (20 points · 5 minutes)"),
        raw("# BEGIN SOLUTION"),
        md("**Sample answer** Because.\n\n**Rubric** 20: a reason"),
        raw("# END SOLUTION"),
        raw("# END QUESTION"),
        code('raise AssertionError("an experiment does not run when work is marked")'),
        md("Hand it in."),
    ]
    cells[3].metadata["tags"] = ["parameters"]
    cells[-2].metadata["tags"] = ["experiment"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    for number, cell in enumerate(cells):
        cell["id"] = f"c{number:02d}"
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


RIGHT = (
    'def product(n):\n    return PARAMETERS["times"] * n\n\n\ndef successor(n):\n    return n + 1'
)


def hand_in(path: Path, work: dict, number: str, extra: list | None = None) -> Path:
    """Write `work` (of `mark.solved`) as the notebook of student `number`."""
    for cell in work["cells"]:
        if cell["source"].startswith("STUDENT_ID"):
            cell["source"] = f'STUDENT_ID = "{number}"  # your number, in quotes'
    work["cells"] += extra or []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(work), encoding="utf-8")
    return path
