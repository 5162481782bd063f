"""Many runs, several at once, each in a process of its own, within a given time."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch

from ..models import create
from . import work
from .experiments import Run
from .state import ROOT, Places

LARGE = 5e6  # parameters; nets with more than that share a GPU with few others
AT_ONCE = {"small": 10, "large": 4}  # runs that together keep one GPU busy
COPIED = ("records/*.json", "weights/*", "fingerprints.json")
SHARES = 20  # of one GPU: a small net takes 2, a large one 5


def say(line: str) -> None:
    """Print at once, also into a file: it may be all that is left in the end."""
    print(line, flush=True)


@dataclass
class Job:
    """A run under way: its process, when that was started, and how many epochs it found done."""

    run: Run
    process: subprocess.Popen
    began: float
    epochs_before: int
    large: bool


@dataclass
class Summary:
    """What became of the runs, by name; `failed` says why."""

    recorded: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = ("recorded", "unfinished", "failed", "pending")
        lines = [f"{part:<11}{len(getattr(self, part))}" for part in parts]
        lines[2:3] = [lines[2], *(f"  {name}: {why}" for name, why in self.failed.items())]
        if self.unfinished:
            lines[1] += f"  ({', '.join(self.unfinished)}: they go on with the same --out)"
        return "\n".join(lines)


@dataclass
class Queue:
    """Works through `runs` in their order; see `work_off`.

    `jobs` runs at once (default: on a GPU as many as keep it busy, but no more than there are
    CPU cores; on a CPU one), each with `threads` CPU threads. A run that failed before is left
    out, unless `again`. `say` is told a line for each run.
    """

    runs: list[Run]
    out: Path
    where: Places
    gpu: bool = False
    minutes: float | None = None
    jobs: int | None = None
    threads: int | None = None
    began: float = field(default_factory=time.monotonic)
    again: bool = False
    say: Callable = say

    def __post_init__(self):
        self.summary, self.running, self.pace, self.cores = Summary(), [], {}, cpu_cores()
        # The workers are ended a little before the time is over, so that all is said in time.
        margin = min(5.0, 6.0 * (self.minutes or 0))
        left = 60 * self.minutes - margin if self.minutes else float("inf")
        self.deadline = self.began + left
        self.waiting = []
        for run in self.runs:
            failed = self.out / run.name / work.FAILED
            if work.finished(self.out, run, self.where) is not None:
                shutil.rmtree(self.out / run.name, ignore_errors=True)
                self.summary.recorded.append(run.name)
            elif failed.is_file() and not self.again:
                self.summary.failed[run.name] = failed.read_text(encoding="utf-8").strip()
            else:
                self.waiting.append(run)
        self.total = len(self.waiting)

    def work_off(self) -> Summary:
        """Run all until they are done or the time is over; what is cut off goes on next time.

        One line for each finished run. A run that fails does not stop the others.
        """
        try:
            while self.waiting or self.running:
                if time.monotonic() >= self.deadline:
                    break
                self._start_what_fits()
                if not self.running:
                    break  # nothing of what is left would be done in time
                time.sleep(0.1)
                self._collect()
        finally:
            for job in self.running:
                job.process.kill()  # all files are written atomically, after each epoch
            for job in self.running:
                job.process.wait()
                self._close(job)
            self._collect(ended=True)
        self.summary.pending = [run.name for run in self.waiting]
        return self.summary

    def at_once(self, large: bool) -> int:
        """The most runs of that size that share the machine."""
        if self.jobs is not None:
            return self.jobs
        limit = min(AT_ONCE["large" if large else "small"], self.cores) if self.gpu else 1
        return max(1, min(limit, self.total))

    def _start_what_fits(self) -> None:
        left = self.deadline - time.monotonic()
        for run in list(self.waiting):
            if len(self.running) >= (self.jobs or (self.cores if self.gpu else 1)):
                return
            large = _large(run)
            taken = sum(SHARES // AT_ONCE["large" if j.large else "small"] for j in self.running)
            share = SHARES // AT_ONCE["large" if large else "small"]
            if self.jobs is None and self.running and taken + share > SHARES:
                return  # in order: a small one does not overtake
            before = _epochs_done(self.out / run.name)
            estimate = self.pace.get(_kind(run), 0.0) * (run.recipe.epochs - before)
            if estimate > left:
                continue
            self.waiting.remove(run)
            self._start(run, before, large)

    def _start(self, run: Run, before: int, large: bool) -> None:
        beside = self.at_once(large)
        threads = self.threads or max(1, min(4, self.cores // beside))
        command = [sys.executable, "-m", "resnet_lib", "runs", "run", run.name, "--worker"]
        command += ["--out", str(self.out), "--manifest", str(self.where.manifest)]
        command += ["--jobs", str(beside), "--threads", str(threads)]
        command += ["--gpu"] if self.gpu else []
        # The package is found wherever we are called from, and libraries obey --threads too.
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
        (self.out / run.name).mkdir(parents=True, exist_ok=True)
        with open(self.out / run.name / "log.txt", "ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment
            )
        self.running.append(Job(run, process, time.monotonic(), before, large))

    def _collect(self, ended: bool = False) -> None:
        for job in list(self.running):
            if job.process.poll() is None:
                continue
            self.running.remove(job)
            self._close(job)
            name, seconds = job.run.name, time.monotonic() - job.began
            folder = self.out / name
            if (record := work.finished(self.out, job.run, self.where)) is not None:
                self.summary.recorded.append(name)
                # The epochs' own time: starting up would weigh too much in a run nearly done.
                rows = record["history"][job.epochs_before :]
                if rows:
                    self.pace[_kind(job.run)] = sum(r["seconds"] for r in rows) / len(rows)
                accuracy = record["test"]["last"]["accuracy"]
                self.say(f"recorded  {name:<34} test {accuracy:5.2f} %  {seconds:6.1f} s")
            elif ended:
                self.summary.unfinished.append(name)
            else:
                source = folder / (work.FAILED if (folder / work.FAILED).is_file() else "log.txt")
                text = (
                    source.read_text(encoding="utf-8", errors="replace") if source.is_file() else ""
                )
                why = (text.strip().splitlines() or ["nothing was said"])[-1]
                why += f" (exit status {job.process.returncode})"
                self.summary.failed[name] = why
                self.say(f"failed    {name:<34} {why}")

    def _close(self, job: Job) -> None:
        if job.process.stdin:
            job.process.stdin.close()


def cpu_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bring(source: Path, out: Path) -> None:
    """Copy records and unfinished runs from `source`, which may be read-only, to `out`.

    What is in `out` already stays. Killed in the middle, it leaves no half-copied run.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"--continue {source}: there is no such folder")
    folders = [p.parent for p in source.glob("*/configuration.json")]
    single = [p for pattern in COPIED for p in source.glob(pattern)]
    for path in folders + single:
        target = out / path.relative_to(source)
        if target.exists():
            continue
        beside = target.with_name(f".{target.name}.part")
        shutil.rmtree(beside, ignore_errors=True)
        for file in [p for p in path.iterdir() if p.is_file()] if path.is_dir() else [path]:
            copy = beside / file.name if path.is_dir() else beside
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)  # without the mode: it must be writable
        beside.rename(target)


def _kind(run: Run) -> str:
    """Runs of one kind take about the same time for an epoch."""
    e = run.experiment
    parts = (e.model, e.options, e.data, e.train_pictures, e.size, e.recipe.batch_size)
    return json.dumps(parts, sort_keys=True)


def _epochs_done(folder: Path) -> int:
    try:
        return len(json.loads((folder / "history.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return 0


def _large(run: Run) -> bool:
    return _parameters(run.experiment.model, json.dumps(run.experiment.all_options)) > LARGE


@cache
def _parameters(model: str, options: str) -> int:
    with torch.device("meta"):
        net = create(model, **json.loads(options))
    return sum(p.numel() for p in net.parameters())
