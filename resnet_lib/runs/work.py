"""One run from beginning to end, in this process. Killed at any moment, it can go on."""

import json
import os
import shutil
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from .. import data as data_module
from .. import records, train
from ..checkpoint import save, write_atomic
from .experiments import Experiment, Run
from .fingerprint import cached
from .state import Places, stale

FAILED = "failed.txt"


def do(run: Run, out: Path, where: Places, *, device: str, beside: int = 1) -> dict:
    """Train, test and record one run; returns the record, which is in `out/records` then.

    Its checkpoints lie in `out/<run>` until it is finished. `beside` is how many runs share the
    machine: the times in the record are then no benchmark.

    Raises:
        TrainingError: if it diverges; `out/<run>/failed.txt` has the message.
        ValueError: if unfinished checkpoints in `out/<run>` are of another configuration.
    """
    e, folder, path = run.experiment, out / run.name, record_path(out, run)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if (record := finished(out, run, where)) is None:
            for half_written in folder.glob(".*.part"):
                half_written.unlink()
            (folder / FAILED).unlink(missing_ok=True)
            _same_configuration(folder / "configuration.json", run)
            data = pictures(e)
            try:
                marks = cached(e, where.cache)
                net = e.build(run.seed)
                result, record = train.fit_and_test(
                    net,
                    data,
                    run.recipe,
                    model=e.model,
                    options=e.all_options,
                    device=device,
                    out=folder,
                    resume=True,
                )
            except train.TrainingError as error:
                # No memory: that may be the neighbours' doing, and the next call tries again.
                if not isinstance(error.__context__, torch.OutOfMemoryError):
                    write_atomic(folder / FAILED, f"{error}\n".encode())
                raise
            about = {"experiment": e.name, "tier": e.tier, "start": e.start, "picked": e.picked()}
            record = about | record | {"fingerprint": marks, "concurrent_jobs": beside}
            if e.keep_weights:
                meta = {k: v for k, v in record.items() if k not in ("history", "provenance")}
                save(out / "weights" / f"{run.name}.safetensors", result.best, meta)
            write_atomic(path, json.dumps(record, separators=(",", ":")).encode())
    shutil.rmtree(folder, ignore_errors=True)
    return record


def record_path(out: Path, run: Run) -> Path:
    """Where the record of a finished run goes."""
    return out / "records" / f"{run.name}.json"


def finished(out: Path, run: Run, where: Places) -> dict | None:
    """The run's record in `out` if there is one, and it is not stale."""
    path = record_path(out, run)
    if not path.is_file() or stale(path, run, where):
        return None
    return records.read(path)


def pictures(e: Experiment) -> data_module.Data:
    """The data of an experiment. Raises what `data.load` and `data.fewer` raise."""
    data = data_module.load(e.data)
    if e.train_pictures:
        data = data_module.fewer(data, e.train_pictures)
    if e.size:
        data = data_module.resize(data, e.size)
    if e.mean or e.std:
        data = replace(data, statistics=(e.mean or data.mean, e.std or data.std))
    return data


def stop_with_parent() -> None:
    """End this process as soon as the one that started it is gone, even by kill -9.

    It holds the other end of our standard input. Two workers on one folder would quarrel.
    """

    def watch():
        while os.read(0, 4096):  # not sys.stdin: its lock would be held when Python ends
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _same_configuration(path: Path, run: Run) -> None:
    wanted = run.configuration()
    if path.is_file():
        old = json.loads(path.read_text(encoding="utf-8"))
        if changed := [k for k in {*old, *wanted} if old.get(k) != wanted.get(k)]:
            raise ValueError(
                f"{path.parent} holds an unfinished run of another configuration "
                f"({', '.join(sorted(changed))} changed); remove that folder to begin anew"
            )
    write_atomic(path, json.dumps(wanted).encode())


@contextmanager
def _locked(folder: Path):
    """One process at a time in this folder; the system lets go of the lock if it dies."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with open(folder / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
