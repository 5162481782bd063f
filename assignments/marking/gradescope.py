"""A zip for Gradescope, and what runs there.

Gradescope starts a container for each submission, as root. In it the submission runs as a user
without rights, in bubblewrap where the container allows it; the masters belong to root alone.
"""

import json
import os
import zipfile
from pathlib import Path

from . import intake, mark, master, sandbox

ROOT = Path(__file__).resolve().parents[2]
TORCH = "https://download.pytorch.org/whl/cpu"  # PyTorch's own address of the builds without CUDA
SETUP = f"""#!/usr/bin/env bash
set -euo pipefail
apt-get update -qq
apt-get install -y -qq --no-install-recommends python3 python3-venv bubblewrap util-linux
python3 -m venv /opt/marking
/opt/marking/bin/pip install -q --index-url {TORCH} torch torchvision
/opt/marking/bin/pip install -q -r /autograder/source/requirements.txt
"""
RUN = """#!/usr/bin/env bash
chmod -R go-rwx /autograder/source /opt/marking/lib/python3*/site-packages/torchvision || true
cd /autograder/source
exec /opt/marking/bin/python -m assignments.marking gradescope-run {name}
"""
REQUIREMENTS = "numpy\npyyaml\npsutil>=6\n"


def build(work: master.Master, target: Path, secret: str = "") -> Path:
    """Write the zip: the package, this marker, one master and the course's secret."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as zipped:
        _add(zipped, "setup.sh", SETUP, 0o755)
        _add(zipped, "run_autograder", RUN.format(name=work.name), 0o755)
        _add(zipped, "requirements.txt", REQUIREMENTS, 0o644)
        if secret:
            _add(zipped, "course.secret", secret + "\n", 0o600)
        for folder in ("resnet_lib", "assignments/marking"):
            for path in sorted((ROOT / folder).rglob("*.py")):
                _add(zipped, path.relative_to(ROOT).as_posix(), path.read_text("utf-8"), 0o644)
        text = work.path.read_text(encoding="utf-8")
        _add(zipped, f"assignments/{work.path.name}", text, 0o600)
    return target


def _add(zipped: zipfile.ZipFile, name: str, text: str, mode: int) -> None:
    info = zipfile.ZipInfo(name)  # of a fixed date: the same content gives the same file
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    zipped.writestr(info, text)


def run(name: str, place: Path) -> int:
    """Mark what lies in `place`/submission and write `place`/results/results.json."""
    work = master.find(name)
    secret_file = place / "source" / "course.secret"
    secret = secret_file.read_text(encoding="utf-8").strip() if secret_file.is_file() else ""
    results = place / "results"
    results.mkdir(parents=True, exist_ok=True)
    marked = _marked(work, place / "submission", secret)
    (results / "results.json").write_text(json.dumps(marked, indent=1), encoding="utf-8")
    return 0


def _marked(work: master.Master, folder: Path, secret: str) -> dict:
    found = intake.collect(folder, work)
    fine = [submission for submission in found if not submission.problem]
    if len(fine) != 1:
        reasons = "\n".join(f"{s.path.name}: {s.problem}" for s in found if s.problem)
        many = f"Hand in one notebook of this assignment; {len(fine)} were found."
        return {"score": 0, "output": f"{many}\n{reasons}", "output_format": "text"}
    try:
        engine = sandbox.choose("bubblewrap")
    except sandbox.Refused:
        engine = sandbox.choose("user")
    submission = fine[0]
    notebook, _, _ = intake.opened(submission.path)
    student = mark.attempt(submission.student, submission.sha256)
    result = mark.mark(work, notebook, student, engine, secret)
    tests = [
        {
            "name": f"{part['question']} {part['part'].replace('_', ' ')}",
            "score": part["got"],
            "max_score": part["points"],
            "output": part["feedback"] or "correct",
            "output_format": "text",
            "visibility": "visible",
        }
        for part in result["parts"]
    ]
    by_hand = sum(question.points for question in work.questions if question.manual)
    lines = [*result["notes"], f"{by_hand:g} points are marked by hand."]
    if result["copy"]:
        lines.insert(0, f"This notebook is not the copy of this course: {result['copy']}.")
    if submission.notes:  # for the teacher's eyes
        told = {"name": "look at it", "score": 0, "max_score": 0, "visibility": "hidden"}
        tests.append({**told, "output": "\n".join(submission.notes), "output_format": "text"})
    return {
        "output": "\n".join(lines),
        "output_format": "text",
        "tests": tests,
        "execution_time": round(result["seconds"]),
    }


def place() -> Path:
    """Where Gradescope puts things; another folder for trying it out."""
    return Path(os.environ.get("AUTOGRADER_ROOT", "/autograder"))
