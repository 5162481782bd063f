"""Which runs are recorded, stale or pending, and why."""

from dataclasses import dataclass
from pathlib import Path

from .. import records
from .experiments import Run, flat
from .fingerprint import changed
from .manifest import read_manifest

ROOT = Path(__file__).parents[2]  # of a checkout
STATES = ("recorded", "stale", "pending")


@dataclass(frozen=True)
class Places:
    """Where things lie: the manifest, records that are published, and new ones beside it.

    With a manifest of your own everything lies beside that.
    """

    manifest: Path
    published: Path
    out: Path | None = None  # where a call of `run` writes; the checkout may be read-only

    @property
    def new(self) -> Path:
        return self.manifest.parent / "records"

    @property
    def cache(self) -> Path:
        """Fingerprints computed before; git ignores the folder."""
        return (self.out or self.manifest.parent / "out") / "fingerprints.json"


@dataclass(frozen=True)
class Status:
    """A run, its state (one of `STATES`), the record's path if there is one, and why."""

    run: Run
    state: str
    path: Path | None = None
    why: str = ""


def places(manifest: str | Path | None = None) -> Places:
    """The places of this checkout, or those beside another manifest.

    Raises:
        FileNotFoundError: if there is no manifest, as in an installed package.
    """
    own = ROOT / "runs" / "manifest.toml"
    path = Path(manifest).expanduser() if manifest else own
    if not path.is_file():
        advice = "" if manifest else "; run this in a checkout of the book, or name one"
        raise FileNotFoundError(f"{path}: there is no such manifest{advice}")
    published = records.runs_folder() if path == own else path.parent / "published"
    return Places(path, published)


def all_runs(where: Places) -> list[Run]:
    """All runs of the manifest in its order: a whole table with one seed comes before the next."""
    keyed = [
        ((e.tier, turn, place), Run(e, seed))
        for place, e in enumerate(read_manifest(where.manifest))
        for turn, seed in enumerate(e.seeds)
    ]
    return [run for _, run in sorted(keyed, key=lambda pair: pair[0])]


def chosen(runs: list[Run], names: list[str] = (), tier: int | None = None) -> list[Run]:
    """Those with one of these names (of a run, an experiment, a family, a study) and of that tier.

    Raises:
        ValueError: for a name that nothing has.
    """

    def called(run: Run, name: str) -> bool:
        return run.name == name or run.name.startswith(f"{name}-")

    for name in names:
        if not any(called(run, name) for run in runs):
            near = dict.fromkeys(r.experiment.name for r in runs if name in r.name)
            hint = f"; there is {', '.join([*near][:8])}" if near else ""
            raise ValueError(f"no run, experiment, family or study is called {name!r}{hint}")
    return [
        run
        for run in runs
        if tier in (None, run.experiment.tier)
        and (not names or any(called(run, name) for name in names))
    ]


def configuration(record: dict) -> dict:
    """What a record was made with, by field, as `Run.configuration` says what is wanted."""
    return flat(record["picked"], record["model"], record["options"], record["recipe"])


def differences(record: dict, run: Run) -> list[str]:
    """Each field in which the record's configuration is not the run's: old value, new value."""
    old, new = configuration(record), run.configuration()
    lines = []
    for key in dict.fromkeys([*new, *old]):
        was, now = (repr(c[key]) if key in c else "not given" for c in (old, new))
        if was != now and old.get(key) != new.get(key):
            lines.append(f"{key}: recorded with {was}, the manifest has {now}")
    return lines


def status(run: Run, where: Places, fingerprints: bool = True) -> Status:
    """The state of a run: the better one of its new and its published record counts."""
    found = []
    for folder in (where.new, where.published):
        path = folder / f"{run.name}.json"
        if path.is_file():
            why = stale(path, run, where, fingerprints)
            found.append(Status(run, "stale" if why else "recorded", path, why))
    return min(found, key=lambda s: s.state == "stale", default=Status(run, "pending"))


def stale(path: Path, run: Run, where: Places, fingerprints: bool = True) -> str:
    """Why a record does not count any more; "" if it does."""
    try:
        record = records.read(path)
        if lines := differences(record, run):
            return "; ".join(lines)
        wrong = fingerprints and changed(run.experiment, record["fingerprint"], where.cache)
        return wrong or ""
    except (ValueError, KeyError, TypeError) as error:
        return f"the record cannot be read ({error!r})"
