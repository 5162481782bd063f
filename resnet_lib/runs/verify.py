"""Is a record what a finished run writes? And: good records become part of the package."""

import json
import math
from pathlib import Path

from .. import records
from ..checkpoint import write_atomic
from .experiments import Run
from .state import Places, configuration, stale

MOST = 5_000_000  # bytes of all assets of the package together
KEYS = {
    *("experiment", "tier", "start", "picked", "fingerprint", "concurrent_jobs"),
    *("model", "options", "classes", "shape", "mean", "std"),
    *("data", "data_source", "data_fingerprint", "train_pictures", "valid_pictures"),
    *("recipe", "history", "test", "seconds", "peak_memory", "provenance"),
}
ROW = ("epoch", "lr", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "seconds")
WHERE = ("resnet_lib", "python", "torch", "device", "threads")


def problems(path: Path, runs: list[Run], where: Places) -> list[str]:
    """All that is wrong with a record, staleness included; empty for a good one."""
    run = next((run for run in runs if f"{run.name}.json" == path.name), None)
    if run is None:
        return [f"the manifest has no run called {path.stem}"]
    try:
        record = records.read(path)
        found = _form(record, run)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"not a whole record ({error!r})"]
    why = stale(path, run, where)
    return found + ([f"stale: {why}"] if why else [])


def _form(record: dict, run: Run) -> list[str]:
    if missing := KEYS - record.keys():
        return [f"missing: {', '.join(sorted(missing))}"]
    e, found = run.experiment, []
    history, test, epochs = record["history"], record["test"], record["recipe"]["epochs"]

    def check(fine: bool, words: str) -> None:
        if not fine:
            found.append(words)

    check(record["experiment"] == e.name, f"it is a record of {record['experiment']}")
    numbers = [row.get("epoch") for row in history]
    check(numbers == list(range(1, epochs + 1)), f"history: wanted epochs 1 to {epochs}, in order")
    whole = all(set(ROW) <= row.keys() for row in history)
    check(whole, f"history: each row needs {', '.join(ROW)}")
    missing = [key for key in WHERE if not record["provenance"].get(key)]
    check(not missing, f"provenance: missing {', '.join(missing)}")
    check(_finite(record), "a number is not finite")
    if found:
        return found
    shares = [row[f"{part}_accuracy"] for row in history for part in ("train", "valid")]
    shares += [test[which]["accuracy"] for which in ("best", "last")]
    check(all(0 <= share <= 100 for share in shares), "an accuracy is not within 0 to 100 %")
    best = max(history, key=lambda row: row["valid_accuracy"])["epoch"]
    check(test["best_epoch"] == best, f"test: the best epoch is {best}, not {test['best_epoch']}")
    parts = [("valid", row["valid_accuracy"], record["valid_pictures"]) for row in history]
    parts += [(f"test {w}", test[w]["accuracy"], test["pictures"]) for w in ("best", "last")]
    for part, share, count in parts:
        right = share * count / 100
        check(
            count > 0 and abs(right - round(right)) < 1e-6 * max(1, count),
            f"{part}: {share} % of {count} pictures is no whole number of pictures",
        )
    total = record["train_pictures"] + record["valid_pictures"]
    check(e.train_pictures in (None, total), f"{total} pictures, wanted {e.train_pictures}")
    check(record["classes"] and tuple(record["shape"]) == e.shape, f"shape {record['shape']}")
    for name, wanted in (("mean", e.mean), ("std", e.std)):
        check(wanted is None or list(wanted) == record[name], f"{name} {record[name]}")
    return found


def _finite(value) -> bool:
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def publish(folder: Path, runs: list[Run], where: Places, overwrite: bool = False) -> list[Path]:
    """Copy the good records in `folder` (or in `folder/records`) to the package's assets.

    All are checked before the first is copied. Returns the paths of the copies.

    Raises:
        ValueError: if there is none; if one is not good, naming each problem; if one would
            replace a record of another configuration (unless `overwrite`); or if the assets
            would become too large.
    """
    source = folder / "records" if (folder / "records").is_dir() else folder
    paths = sorted(source.glob("*.json"))
    if not paths:
        raise ValueError(f"{source}: there are no records")
    wrong = [f"{p.name}: {text}" for p in paths for text in problems(p, runs, where)]
    for path in paths if not (overwrite or wrong) else []:
        old = where.published / path.name
        if old.is_file() and _configuration(old) != _configuration(path):
            wrong.append(f"{path.name}: would replace another configuration; add --overwrite")
    if wrong:
        raise ValueError("nothing was published:\n  " + "\n  ".join(wrong))
    kept = [p for p in where.published.parent.rglob("*") if p.is_file()]
    kept = [p for p in kept if p.parent != where.published or p.name not in {q.name for q in paths}]
    total = sum(p.stat().st_size for p in [*kept, *paths])
    if total > MOST:
        raise ValueError(f"nothing was published: the assets would be {total:,} of {MOST:,} bytes")
    copies = []
    for path in paths:
        text = json.dumps(json.loads(path.read_text(encoding="utf-8")), separators=(",", ":"))
        write_atomic(where.published / path.name, text.encode())
        copies.append(where.published / path.name)
    return copies


def _configuration(path: Path) -> dict | None:
    try:
        return configuration(records.read(path))
    except (ValueError, KeyError, TypeError):
        return None  # not even that: a good record is no replacement for it without a word
