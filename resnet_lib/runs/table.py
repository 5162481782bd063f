"""Recorded results over their seeds, as a plain table; pending ones are said to be pending."""

from collections.abc import Callable
from statistics import mean

from .. import records
from ..records import spread, test_accuracy
from .experiments import Experiment, Run
from .state import Status

Records = dict[str, dict[int, dict]]  # experiment -> seed -> record


def read_all(states: list[Status]) -> Records:
    """The records that count, by experiment and seed."""
    found = {}
    for s in states:
        if s.state == "recorded":
            found.setdefault(s.run.experiment.name, {})[s.run.seed] = records.read(s.path)
    return found


def table(runs: list[Run], found: Records) -> str:
    """A line for each experiment; below it, for each study, what each of its changes is worth."""
    experiments = list({run.experiment.name: run.experiment for run in runs}.values())
    lines = [f"{'experiment':<34}{'n':>4}  {'test accuracy %':<24}{'training %':>10}  device; data"]
    lines += [_line(e, found.get(e.name, {})) for e in experiments]
    for study in dict.fromkeys(e.study for e in experiments if e.study):
        lines += ["", *_study(study, [e for e in experiments if e.study == study], found)]
    return "\n".join(lines)


def _line(e: Experiment, of: dict[int, dict]) -> str:
    start = f"{e.name:<34}{f'{len(of)}/{len(e.seeds)}':>4}  "
    if not of:
        return f"{start}pending"
    trained = mean(r["history"][-1]["train_accuracy"] for r in of.values())
    told = {f"{r['provenance']['device']}; {r['data']}": None for r in of.values()}
    accuracy = spread([test_accuracy(r) for r in of.values()])
    return f"{start}{accuracy:<24}{trained:>10.2f}  {' | '.join(told)}"


def paired(one: dict[int, dict], two: dict[int, dict], value: Callable = test_accuracy) -> list:
    """`value` of one minus that of two, for each seed that both have."""
    return [value(one[seed]) - value(two[seed]) for seed in sorted(one.keys() & two.keys())]


def _study(study: str, experiments: list[Experiment], found: Records) -> list[str]:
    title = f"{study}: points of test accuracy"
    lines = [f"{title:<34}{'added to none':<28}{'lost when left out of all':<28}"]
    of = {e.name: found.get(e.name, {}) for e in experiments}
    for e in experiments:
        prefix, _, change = e.name.removeprefix(f"{study}-").partition("-")
        if prefix != "add":
            continue
        pairs = (
            (of[e.name], of.get(f"{study}-none", {})),
            (of.get(f"{study}-all", {}), of.get(f"{study}-without-{change}", {})),
        )
        cells = []
        for one, two in pairs:
            values = paired(one, two)
            cells.append(f"{spread(values, '+.2f')} n={len(values)}" if values else "pending")
        null = "  (no effect expected)" if e.expect_null else ""
        lines.append(f"  {change:<32}{cells[0]:<28}{cells[1]:<28}{null}".rstrip())
    return lines
