"""A class marked: side by side, each result kept as soon as it is there.

Started again after it was stopped, it marks only what has no result of the same file, the same
assignment, the same secret and the same marker.
"""

import ctypes
import fcntl
import hashlib
import json
import multiprocessing
import os
import re
import signal
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import resnet_lib
from resnet_lib.checkpoint import write_atomic

from . import intake, mark, master, sandbox
from .intake import Submission


@dataclass(frozen=True)
class Job:
    """All that a worker needs to mark one submission."""

    assignment: Path
    path: Path
    student: str
    sha256: str
    target: Path
    version: str
    engine: str
    secret: str
    limits: sandbox.Limits


def version(work: master.Master, secret: str) -> str:
    """Changes when anything that decides a mark changes: the marker, the checks, the master."""
    digest = hashlib.sha256(work.path.read_bytes() + secret.encode())
    for folder in (Path(__file__).parent, Path(resnet_lib.__file__).parent):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def result_file(out: Path, submission: Submission) -> Path:
    """A name that no student's name can make strange."""
    key = f"{submission.platform}/{submission.user or submission.student}"
    readable = re.sub(r"[^A-Za-z0-9]+", "-", submission.student).strip("-")[:40]
    return out / "results" / f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:10]}.json"


def read_result(path: Path) -> dict | None:
    """A result, or None: not there, or not whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write(path: Path, text: str) -> None:
    """All of it or nothing: a kill leaves the old file or the new one."""
    write_atomic(path, text.encode())


@contextmanager
def alone(out: Path):
    """One marker at a time in a folder; the lock goes with the process, however it ends.

    Raises:
        master.Fault: if another one is at work there.
    """
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise master.Fault(f"{out}: another marker is at work there") from None
        yield


def run(
    work: master.Master,
    submissions: list[Submission],
    out: Path,
    engine: str,
    secret: str = "",
    limits: sandbox.Limits | None = None,
    jobs: int | None = None,
    say=print,
) -> list[tuple[Submission, dict]]:
    """Mark what has no result yet; return all results, in the order of the submissions."""
    stamp = version(work, secret)
    todo = []
    for submission in submissions:
        if submission.problem:
            continue
        target = result_file(out, submission)
        old = read_result(target)
        if not old or (old.get("sha256"), old.get("version")) != (submission.sha256, stamp):
            args = (submission.path, submission.student, submission.sha256, target, stamp, engine)
            todo.append(Job(work.path, *args, secret, limits or sandbox.Limits()))
    fine = sum(not submission.problem for submission in submissions)
    say(f"{fine} to be marked, {fine - len(todo)} of them marked before; engine: {engine}")
    for number, (job, error) in enumerate(_side_by_side(todo, jobs), start=1):
        say(f"[{number}/{len(todo)}] {job.student}" + (f": {error}" if error else ""))
    results = []
    for submission in submissions:
        if not submission.problem:
            found = read_result(result_file(out, submission))
            if found:
                results.append((submission, found))
            else:
                submission.problem = "could not be marked: the marker itself stopped; run it again"
    return results


def _side_by_side(todo: list[Job], jobs: int | None):
    """(job, error) as they finish. When a worker dies, what it left is marked one by one."""
    jobs = min(jobs or len(os.sched_getaffinity(0)), max(1, len(todo)))
    left = []
    if not todo:
        return
    with _pool(jobs) as pool:
        futures = {pool.submit(_one, job): job for job in todo}
        try:
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except BrokenProcessPool:
                    left.append(futures[future])
        except KeyboardInterrupt:
            print("stopping: those in work are marked to their end", file=sys.stderr)
            raise
        finally:  # stopped from the keyboard, it does not mark the rest first
            pool.shutdown(cancel_futures=True)
    for job in left:
        with _pool(1) as pool:
            try:
                yield job, pool.submit(_one, job).result()
            except BrokenProcessPool:
                yield job, "the marker's worker died"


def _pool(jobs: int) -> ProcessPoolExecutor:
    spawn = multiprocessing.get_context("spawn")
    slots = spawn.Queue()
    for slot in range(jobs):
        slots.put(slot)
    return ProcessPoolExecutor(jobs, spawn, _begin, (slots, os.getpid()))


_slot = 0
_master = lru_cache(maxsize=1)(master.read)  # a worker marks one assignment, many times


def _begin(slots, parent: int) -> None:
    """A worker dies with its parent, so that nothing goes on after a kill."""
    global _slot
    _slot = slots.get()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(1)


def _one(job: Job) -> str:
    """Mark one submission in this worker and keep the result; "" or what went wrong."""
    try:
        work = _master(job.assignment)
        notebook, problem, data = intake.opened(job.path)
        if notebook is None or hashlib.sha256(data).hexdigest() != job.sha256:
            return f"changed while it was marked: {problem or 'run the marker again'}"
        student = mark.attempt(job.student, job.sha256)
        result = mark.mark(work, notebook, student, job.engine, job.secret, job.limits, _slot)
        kept = {"student": job.student, "sha256": job.sha256, "version": job.version, **result}
        write(job.target, json.dumps(kept, indent=1))
    except Exception as error:
        return f"the marker itself stopped: {type(error).__name__}: {str(error)[:200]}"
    return ""
