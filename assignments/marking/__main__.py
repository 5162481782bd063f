"""Hand out assignments, mark what comes back.

release        student notebooks, solutions and autograders from the masters
mark           a folder or zip of submissions: marks, feedback, the platforms' tables
gradescope     a zip to upload as Gradescope's autograder
inventory      the misconception inventory: marks and the class
predictions    what a class predicted, as histograms
image          the container image in which submissions run
try, corpus    for who changes an assignment: its own solution; the known wrong submissions
"""

import argparse
import re
import runpy
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from . import batch, gradescope, intake, mark, master, release, reports, sandbox
from .master import Fault

ROOT = Path(__file__).resolve().parents[2]


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] in (["inventory"], ["predictions"]):
        from . import inventory, predictions

        return (inventory if argv[0] == "inventory" else predictions).main(argv[1:])
    args = _parser().parse_args(argv)
    try:
        return args.does(args)
    except (Fault, sandbox.Refused, OSError) as fault:  # OSError: a full disk, a folder read-only
        print(f"marking: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("marking: stopped; what is marked is kept, the same command goes on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m assignments.marking",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = commands.add_parser("release", help="student notebooks, solutions and autograders")
    one.add_argument("assignments", nargs="*", help="a1 a2 ...; none: all")
    one.add_argument("--out", type=Path, default=ROOT / "_build" / "assignments")
    one.add_argument("--secret-file", help="draws other parameters; nothing goes into the book")
    one.add_argument(
        "--check", action="store_true", help="only say what in the book is out of date"
    )
    one.set_defaults(does=_release)

    one = commands.add_parser("mark", help="mark a folder or zip of submissions")
    one.add_argument("assignment")
    one.add_argument("submissions", type=Path)
    one.add_argument(
        "--out", type=Path, required=True, help="results and reports; run again: goes on"
    )
    one.add_argument("--secret-file", help="the one it was released with")
    one.add_argument("--jobs", type=int, help="submissions side by side (all cores)")
    one.add_argument("--due", type=_date, help='"2026-11-30 23:59"; a file of later is late')
    one.add_argument("--engine", default="auto", help="auto, docker, podman, bubblewrap, user")
    one.add_argument("--trusted", action="store_true", help="no sandbox: for your own work only")
    one.add_argument("--gradebook", type=Path, help="Canvas' exported gradebook, to be filled in")
    one.add_argument("--column", default="", help="the name of its column")
    one.add_argument("--worksheet", type=Path, help="Moodle's grading worksheet, to be filled in")
    for limit, what in LIMITS.items():
        default = getattr(sandbox.Limits(), limit)
        one.add_argument(f"--{limit}", type=int, default=default, help=f"{what} ({default:g})")
    one.set_defaults(does=_mark)

    one = commands.add_parser("gradescope", help="a zip to upload as Gradescope's autograder")
    one.add_argument("assignment")
    one.add_argument("--out", type=Path)
    one.add_argument("--secret-file")
    one.set_defaults(does=_gradescope)

    one = commands.add_parser("gradescope-run", help="what that zip runs there")
    one.add_argument("assignment")
    one.set_defaults(does=lambda args: gradescope.run(args.assignment, gradescope.place()))

    one = commands.add_parser("image", help="make the container image (docker or podman)")
    one.add_argument("--engine", default="docker", choices=("docker", "podman"))
    one.set_defaults(does=_image)

    one = commands.add_parser("try", help="mark a master's own solution and show each part")
    one.add_argument("assignment")
    one.set_defaults(does=_try)

    one = commands.add_parser("corpus", help="mark the known wrong and unusual submissions")
    one.add_argument("assignment")
    one.add_argument("-k", default="", help="only those whose name holds this")
    one.set_defaults(does=_corpus)
    return parser


LIMITS = {
    "wall": "seconds a submission",
    "cpu": "processor seconds a submission",
    "memory": "MiB a submission",
    "processes": "processes and threads a submission",
    "disk": "MiB a submission may write",
}


def _release(args) -> int:
    if args.check:
        found = release.drifted(args.assignments or None)
        for line in found:
            print(f"{line}; run: make assignments")
        return 1 if found else 0
    secret = release.secret_of(args.secret_file)
    for path in release.release(args.assignments, args.out, secret):
        print(f"{path}{'' if secret else f', and book/assignments/{path.name}'}")
        if secret and re.search(r"github\.com/[A-Z]+/[A-Z]+@", path.read_text(encoding="utf-8")):
            print("  its set-up cell installs from nowhere yet: run `make fork REPO=...` first")
    print("Solutions and hidden tests lie beside them: hand out student/ alone.")
    return 0


def _mark(args) -> int:
    work = master.find(args.assignment)
    secret = release.secret_of(args.secret_file)
    limits = sandbox.Limits(**{name: getattr(args, name) for name in LIMITS})
    engine = sandbox.choose(args.engine, args.trusted)
    with batch.alone(args.out):
        found = intake.collect(args.submissions, work, args.due, args.out / "unpacked")
        results = batch.run(work, found, args.out, engine, secret, limits, args.jobs)
        tables = (args.gradebook, args.worksheet, args.column)
        troubles = reports.write_all(work, found, results, args.out, *tables)
    for line in troubles:
        print(line)
    if args.due and any(submission.platform == "canvas" for submission in found):
        print("--due is not used for Canvas' files: their names say which are late.")
    unread = reports.unread(work, results, args.out)
    print(f"{len(results)} marked of {len(found)} files; answers still to be read: {unread}.")
    print(f"In {args.out}: marks.csv, parts.csv, canvas.csv, moodle.csv,")
    print("feedback/ (a page for each student), by_hand.html and by_hand.csv (what is to be read),")
    print("look.txt (the lines above).")
    return 0


def _date(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write it as 2026-11-30 23:59") from None


def _gradescope(args) -> int:
    work = master.find(args.assignment)
    target = args.out or ROOT / "_build" / "assignments" / work.name / "gradescope.zip"
    print(gradescope.build(work, target, release.secret_of(args.secret_file)))
    return 0


def _image(args) -> int:
    folder = Path(__file__).parent
    return subprocess.run([args.engine, "build", "-t", sandbox.IMAGE, str(folder)]).returncode


def _try(args) -> int:
    work = master.find(args.assignment)
    result = mark.mark(work, mark.solved(work), "solution", "forked")
    for note in [*result["notes"], *result["look"]]:
        print(note)
    for part in result["parts"]:
        print(f"{part['question']}.{part['part']}: {part['got']} of {part['points']}")
        if part["feedback"]:
            print("   ", part["feedback"].replace("\n", "\n    "))
    return 0 if all(part["got"] == part["points"] for part in result["parts"]) else 1


def _corpus(args) -> int:
    work = master.find(args.assignment)
    entries = runpy.run_path(str(ROOT / "tests" / "submissions" / f"{work.name}.py"))
    cases = [*entries["WRONG"], *((name, edits, set(), "") for name, edits in entries["UNUSUAL"])]
    cases = [case for case in cases if args.k in case[0]]
    wrong = 0
    for name, edits, parts, words in cases:
        if complaint := complain(work, edits, parts, words):
            wrong += 1
            print(f"{name}:\n    " + complaint.replace("\n", "\n    "))
    print(f"{len(cases)} submissions, {wrong} not marked as they should be")
    return 1 if wrong else 0


def complain(work: master.Master, edits: dict, parts: set, words: str) -> str:
    """What is wrong with the marks of a known submission; "" when they are as they should be."""
    result = mark.mark(work, mark.solved(work, edits), "corpus", "forked")
    lost = {part["part"] for part in result["parts"] if part["got"] < part["points"]}
    told = "\n".join(p["feedback"] for p in result["parts"] if p["got"] < p["points"])
    if lost != set(parts):
        return f"loses {sorted(lost)}, not {sorted(parts)}\n{told}\n" + "\n".join(result["notes"])
    if result["look"]:
        return "our own check stopped: " + "; ".join(result["look"])
    return "" if words in told else f"is not told {words!r}, but\n{told}"


if __name__ == "__main__":
    sys.exit(main())
