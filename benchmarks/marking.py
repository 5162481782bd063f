"""A dry run of a class: synthetic submissions marked in the sandbox, with time and memory.

    python benchmarks/marking.py [--assignment a2] [--size 200] [--keep FILE]

The class is made of the assignment's solution, its known wrong submissions and, one in twenty, work
that has to be stopped (an endless loop, too much memory, exit() in a cell). `--keep` writes the
lines into a file; the teachers' page shows assignments/dry_run.txt.
"""

import argparse
import json
import os
import platform
import runpy
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from assignments.marking import batch, intake, mark, master, reports, sandbox  # noqa: E402

TO_BE_STOPPED = (
    "while True: pass",
    "hoard = []\nwhile True: hoard.append(bytearray(10**8))",
    "import os\nos._exit(0)",
)


def write_class(work: master.Master, folder: Path, size: int) -> None:
    """Submissions as students would hand them in."""
    entries = runpy.run_path(str(ROOT / "tests" / "submissions" / f"{work.name}.py"))
    wrong = [edits for _, edits, *_ in entries["WRONG"]]
    answers = [cell.question for cell in work.cells if cell.role == "answer"]
    folder.mkdir(parents=True)
    for number in range(size):
        if number % 20 == 19:
            edits = {answers[0]: TO_BE_STOPPED[number // 20 % len(TO_BE_STOPPED)]}
        else:
            edits = wrong[number % len(wrong)] if number % 3 else {}
        notebook = mark.solved(work, edits)
        for cell in notebook["cells"]:
            if cell["source"].startswith("STUDENT_ID"):
                cell["source"] = f'STUDENT_ID = "s{number:03d}"'
        path = folder / f"s{number:03d}.ipynb"
        path.write_text(json.dumps(notebook), encoding="utf-8")


def stopped(marked: tuple) -> bool:
    return any("stopped:" in n or "took longer" in n for n in marked[1]["notes"])


class Peak(threading.Thread):
    """The largest memory of this process and of all below it, in MiB."""

    def __init__(self):
        super().__init__(daemon=True)
        self.value = 0
        self.over = threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self.over.wait(1):
            used = sum(sandbox.memory_of(p) for p in [me, *me.children(recursive=True)])
            self.value = max(self.value, used >> 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--assignment", default="a2")
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    work = master.find(args.assignment)
    engine = sandbox.choose()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place, "in"), Path(place, "out")
        write_class(work, folder, args.size)
        peak, start = Peak(), time.perf_counter()
        peak.start()
        found = intake.collect(folder, work)
        results = batch.run(work, found, out, engine, jobs=args.jobs)
        reports.write_all(work, found, results, out)
        seconds = time.perf_counter() - start
        peak.over.set()
        start = time.perf_counter()
        batch.run(work, found, out, engine, jobs=args.jobs)
        again = time.perf_counter() - start
    each = sorted(result["seconds"] for _, result in results)
    measured = {
        "assignment": args.assignment,
        "submissions": args.size,
        "marked": len(results),
        "stopped, or a cell of theirs": sum(map(stopped, results)),
        "minutes": round(seconds / 60, 1),
        "seconds each, median": round(statistics.median(each), 1),
        "seconds each, longest": each[-1],
        "seconds, when all is marked already": round(again, 1),
        "MiB of one submission, most": max(result["memory"] for _, result in results),
        "MiB in all, most": peak.value,
        "engine": engine,
        "on": f"{len(os.sched_getaffinity(0))} CPU cores, {platform.machine()}, "
        f"torch {torch.__version__}",
        "": f"{time.strftime('%Y-%m-%d')}, system load {load:.1f} before it began",
    }
    lines = "".join(f"{name:36} {value}\n" for name, value in measured.items())
    print(lines, end="")
    if args.keep:
        args.keep.write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
