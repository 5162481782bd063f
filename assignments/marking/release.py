"""From a master to what is handed out and what is marked with: student, solution, autograder.

`otter assign` does the transformation. Before it, the hidden tests get the two lines that let them
run in otter's autograder too, and the parameters their values; after it, the student's notebook
loses what only otter needs, so that it runs anywhere without otter.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from . import master
from .master import Fault

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "book" / "assignments"
RUN = (
    "import random\n"
    "_report = judge(lambda *case: probe(globals(), *case),"
    " cases(random.Random({seed}), PARAMETERS), PARAMETERS)\n"
    "assert _report.ok, _report\n"
)
COMMENT = re.compile(r"^<!-- (BEGIN|END) QUESTION -->\s*")


def secret_of(path: str | None) -> str:
    """The course secret in a file; "" without a file.

    Raises:
        Fault: if it cannot be read, or is too short to be one.
    """
    if not path:
        return ""
    try:
        secret = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Fault(f"the secret {path}: {error}") from None
    if len(secret) < 16:
        raise Fault(
            f"the secret in {path} has {len(secret)} characters; take at least 16, for example\n"
            "    python -c 'import secrets; print(secrets.token_hex())' > course.secret"
        )
    return secret


def release(names: list[str], out: Path, secret: str = "", publish: bool = True) -> list[Path]:
    """Make student/, solution/ and otter-autograder.zip of each assignment below `out`.

    Without a secret, `publish` copies the student's notebooks into the book.

    Raises:
        Fault: if a master is not in order, or otter refuses it.
    """
    made = []
    for name in names or list(master.masters()):
        work = master.find(name)
        folder = out / work.name
        shutil.rmtree(folder, ignore_errors=True)
        student = _assign(work, folder, secret)
        made.append(student)
        if publish and not secret:
            PUBLISHED.mkdir(parents=True, exist_ok=True)
            shutil.copy(student, PUBLISHED / student.name)
    return made


def drifted(names: list[str] | None = None) -> list[str]:
    """Which published copies are not what their master gives today. Runs otter on each."""
    found = []
    known = master.masters()
    with tempfile.TemporaryDirectory() as folder:
        for name in names or list(known):
            made = release([name], Path(folder), publish=False)[0]
            copy = PUBLISHED / made.name
            if not copy.is_file() or copy.read_bytes() != made.read_bytes():
                found.append(f"book/assignments/{made.name} is not what its master gives today")
    for copy in sorted(PUBLISHED.glob("a[0-9]*.ipynb")) if names is None else []:
        if copy.name not in {path.name for path in known.values()}:
            found.append(f"book/assignments/{copy.name} has no master")
    return found


def _assign(work: master.Master, folder: Path, secret: str) -> Path:
    values = master.parameters(work, secret)
    notebook = json.loads(work.path.read_text(encoding="utf-8"))
    tests = master.hidden(notebook)
    for cell in notebook["cells"]:
        text = master.source(cell)
        if text.startswith("# ASSIGNMENT CONFIG"):
            cell["source"] = f"{text}\nfiles: [observe.py]\ngenerate: true\n".replace(
                "generate: false", ""
            )
        elif cell["id"] in tests:
            seed = master.digest(secret or "public", work.name, cell["id"]) % 10**6
            cell["source"] = text.rstrip("\n") + "\n" + RUN.format(seed=seed)
        elif "parameters" in cell["metadata"].get("tags", []):
            cell["source"] = master.with_parameters(text, values)
    with tempfile.TemporaryDirectory() as place:
        source = Path(place, work.path.name)
        source.write_text(json.dumps(notebook), encoding="utf-8")
        shutil.copy(Path(__file__).with_name("observe.py"), place)
        (Path(place) / "requirements.txt").write_text("torch>=2.6\ntorchvision>=0.21\n")
        dist = Path(place, "dist")
        words = [sys.executable, "-m", "otter", "assign", "--no-run-tests"]
        result = subprocess.run(
            [*words, str(source), str(dist)], capture_output=True, text=True, cwd=place
        )
        if result.returncode:
            last = (result.stderr or result.stdout).strip().splitlines()[-1:]
            missing = "No module named otter" in result.stderr
            hint = "; it is in requirements-dev.txt" if missing else ""
            raise Fault(f"{work.path.name}: otter assign: {''.join(last)}{hint}")
        (folder / "student").mkdir(parents=True)
        (folder / "solution").mkdir()
        student = folder / "student" / work.path.name
        _write(student, tidied(json.loads((dist / "student" / work.path.name).read_text()), work))
        shutil.copy(dist / "autograder" / work.path.name, folder / "solution")
        for archive in (dist / "autograder").glob("*.zip"):
            shutil.copy(archive, folder / "otter-autograder.zip")
    return student


def tidied(notebook: dict, work: master.Master) -> dict:
    """The student's notebook without what only otter reads; every cell with an id that stays."""
    known = {cell.id for cell in work.cells}
    hand = iter(q.name for q in work.questions if q.manual)
    for cell in list(notebook["cells"]):
        text = COMMENT.sub("", COMMENT.sub("", master.source(cell)))
        if not text:
            notebook["cells"].remove(cell)
            continue
        cell["source"] = text.splitlines(keepends=True)
        if cell["id"] not in known:
            cell["id"] = f"{next(hand)}-answer"
        tags = [t for t in cell["metadata"].get("tags", []) if not t.startswith("otter")]
        kept = {k: v for k, v in cell["metadata"].items() if k in ("mystnb", "deletable")}
        cell["metadata"] = {**kept, **({"tags": tags} if tags else {})}
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    _label_folded(notebook["cells"])
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def _label_folded(cells: list[dict]) -> None:
    """What the page writes on a folded cell: which question's check is in it."""
    place, folded = "", {}
    for cell in cells:
        text = master.source(cell)
        found = re.match(r"## Question (\d+)", text)
        if found:
            place = f"The check of question {found[1]}"
        elif "hide-input" in cell["metadata"].get("tags", []) and "lab.start(" not in text:
            folded.setdefault(place or "Helpers of the checks", []).append(cell)
    for label, group in folded.items():
        for number, cell in enumerate(group, start=1):
            part = f", part {number} of {len(group)}" if len(group) > 1 else ""
            cell["metadata"].setdefault("mystnb", {"code_prompt_show": label + part})


def _write(path: Path, notebook: dict) -> None:
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
