"""The `runs` command: list, run, verify, publish, table."""

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from . import table, verify, work, workers
from .state import STATES, all_runs, chosen, places, status

TEXT = (
    "The training runs the book quotes, as runs/manifest.toml lists them: which are recorded, "
    "which are stale or pending; make them, check them, publish them, print them."
)


def add(commands) -> None:
    """Add `runs` with its own commands to the parser of the command line."""
    parser = commands.add_parser("runs", help="the book's recorded experiments", description=TEXT)
    parser.set_defaults(run=run_list, json=False, tier=None, state=None, manifest=None)
    sub = parser.add_subparsers(metavar="WHAT")

    def command(name, run, help_):
        one = sub.add_parser(name, help=help_, description=help_)
        one.set_defaults(run=run)
        one.add_argument("--manifest", help="another manifest; its records lie beside it")
        return one

    one = command("list", run_list, "which runs are recorded, stale or pending (the default)")
    one.add_argument("--json", action="store_true", help="all about each run, as JSON")
    one.add_argument("--tier", type=int, help="only this tier: 0 (small) to 3")
    one.add_argument("--state", choices=STATES, help="only these")

    one = command("run", run_run, "make runs, and record them in the output folder")
    one.add_argument("names", nargs="*", help="runs, experiments or studies")
    one.add_argument(
        "--pending",
        action="store_true",
        help="those without a record, or whose record has another configuration",
    )
    one.add_argument("--tier", type=int, help="only this tier: 0 (small) to 3")
    one.add_argument("--gpu", action="store_true", help="on the GPU; otherwise on the CPU")
    one.add_argument("--minutes", type=float, help="stop by then; what is unfinished can go on")
    one.add_argument("--out", help="folder for all that is written (default: the manifest's)")
    one.add_argument("--continue", dest="source", help="a folder that an earlier --out was; copied")
    one.add_argument("--data", help="CIFAR-10 as a picture folder, or an archive of one")
    one.add_argument("--jobs", type=int, help="runs at once (default: what the machine carries)")
    one.add_argument("--threads", type=int, help="CPU threads of each run")
    one.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)

    one = command("verify", run_verify, "check every record; exit status 1 if one is not good")
    one.add_argument("--json", action="store_true", help="the result as JSON")

    one = command("publish", run_publish, "check records and copy them into the package")
    one.add_argument("folder", nargs="?", help="what --out was (default: the manifest's)")
    one.add_argument("--overwrite", action="store_true", help="also over another configuration")

    one = command("table", run_table, "results over the seeds")
    one.add_argument("names", nargs="*", help="studies, experiments or runs (default: all)")


def run_list(a: argparse.Namespace) -> None:
    """`runs list`."""
    where = places(a.manifest)
    found = [status(run, where) for run in chosen(all_runs(where), [], a.tier)]
    found = [s for s in found if a.state in (None, s.state)]
    if a.json:
        print(json.dumps([_as_dict(s) for s in found], indent=1))
        return
    for s in found:
        why = f"  {s.why}" if s.why else ""
        print(
            f"{s.run.experiment.tier}  {s.state:<9} {s.run.name:<36} {s.run.experiment.shows}{why}"
        )
    print(", ".join(f"{sum(s.state == state for s in found)} {state}" for state in STATES))


def _as_dict(s) -> dict:
    e = s.run.experiment
    return {
        "name": s.run.name,
        "experiment": e.name,
        "seed": s.run.seed,
        "tier": e.tier,
        "state": s.state,
        "why": s.why,
        "record": str(s.path) if s.path else None,
        "study": e.study or None,
        "shows": e.shows,
        "chapters": list(e.chapters),
        "command": f"python -m resnet_lib runs run {s.run.name}",
    }


def run_run(a: argparse.Namespace) -> int:
    """`runs run`. The exit status is 1 if a run failed."""
    for name in ("jobs", "threads", "minutes"):
        if getattr(a, name) is not None and not getattr(a, name) > 0:
            raise ValueError(f"--{name} {getattr(a, name)}: must be above 0")
    if a.gpu and not torch.cuda.is_available():
        raise ValueError("--gpu: torch sees no GPU here; leave it out to run on the CPU")
    if not (a.names or a.pending or a.tier is not None):
        raise ValueError("say which runs: names, --tier, or --pending")
    began, where = time.monotonic(), places(a.manifest)
    out = Path(a.out or where.manifest.parent).expanduser().absolute()
    where = replace(where, out=out if a.out else None)
    if a.data:
        os.environ["RESNET_LIB_DATA"] = str(Path(a.data).expanduser().absolute())
    runs = chosen(all_runs(where), a.names, a.tier)
    if a.worker:
        work.stop_with_parent()
        torch.set_num_threads(a.threads)
        device = "cuda" if a.gpu else "cpu"
        work.do(runs[0], out, where, device=device, beside=a.jobs)
        return 0
    if a.pending:
        # Fingerprints take seconds each: `list` compares them, and a run can be named.
        runs = [r for r in runs if status(r, where, fingerprints=False).state != "recorded"]
    out.mkdir(parents=True, exist_ok=True)
    if a.source:
        workers.bring(Path(a.source).expanduser(), out)
    options = {"gpu": a.gpu, "minutes": a.minutes, "jobs": a.jobs, "threads": a.threads}
    queue = workers.Queue(runs, out, where, began=began, again=bool(a.names), **options)
    # Once, before several processes would decode the same pictures.
    for experiment in {run.experiment.data: run.experiment for run in queue.waiting}.values():
        work.pictures(experiment)
    print(
        f"{queue.total} runs to do, {len(runs) - queue.total} done before; into {out}", flush=True
    )
    summary = queue.work_off()
    print(summary)
    return 1 if summary.failed else 0


def run_verify(a: argparse.Namespace) -> int:
    """`runs verify`. The exit status is 1 if a record is not good."""
    where = places(a.manifest)
    runs = all_runs(where)
    paths = sorted(p for folder in (where.published, where.new) for p in folder.glob("*.json"))
    found = {str(path): verify.problems(path, runs, where) for path in paths}
    if a.json:
        print(
            json.dumps([{"record": p, "problems": texts} for p, texts in found.items()], indent=1)
        )
    else:
        for path, texts in found.items():
            for text in texts:
                print(f"{path}: {text}")
        print(f"{len(found)} records, {sum(map(bool, found.values()))} not good")
    return 1 if any(found.values()) else 0


def run_publish(a: argparse.Namespace) -> None:
    """`runs publish`."""
    where = places(a.manifest)
    folder = Path(a.folder or where.manifest.parent).expanduser()
    copies = verify.publish(folder, all_runs(where), where, a.overwrite)
    print(f"{len(copies)} records copied to {where.published}")


def run_table(a: argparse.Namespace) -> None:
    """`runs table`."""
    where = places(a.manifest)
    runs = chosen(all_runs(where), a.names)
    print(table.table(runs, table.read_all([status(run, where) for run in runs])))
    sys.stdout.flush()
