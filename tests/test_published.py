"""The records that come with the book: whole, not stale, and what the chapters say of them holds.

A claim is tested on every study that is recorded; a pending one is no failure.
"""

from statistics import mean

import pytest

from resnet_lib import records
from resnet_lib.runs import state, verify

WHERE = state.places()
RUNS = state.all_runs(WHERE)
PATHS = sorted(WHERE.published.glob("*.json"))
FIRST = {path.stem.rpartition("-s")[0]: path for path in reversed(PATHS)}  # a seed of each


def accuracies(name: str, part: str) -> dict[int, float]:
    """By seed, in percent: of the last epoch ("train"), or of the test pictures ("test")."""
    of = {
        "train": lambda r: r["history"][-1]["train_accuracy"],
        "test": records.test_accuracy,
    }[part]
    return {r["recipe"]["seed"]: of(r) for r in records.find(name)}


def recorded(*names: str) -> bool:
    return all(len(records.find(name)) == 3 for name in names)


def test_there_are_records():
    assert len(PATHS) >= 81


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_published_record_is_whole_and_of_the_manifests_configuration(path):
    run = next(run for run in RUNS if run.name == path.stem)
    assert not state.stale(path, run, WHERE, fingerprints=False)
    assert verify._form(records.read(path), run) == []


@pytest.mark.parametrize("path", FIRST.values(), ids=FIRST)
def test_the_code_still_gives_the_losses_of_the_record(path, tmp_path):
    """Three steps computed anew; all seeds of an experiment hold the same numbers."""
    record = records.read(path)
    run = next(run for run in RUNS if run.name == path.stem)
    fresh = state.Places(WHERE.manifest, WHERE.published, tmp_path)
    assert not state.stale(path, run, fresh)
    for other in records.find(record["experiment"]):
        assert other["fingerprint"] == record["fingerprint"]


@pytest.mark.parametrize("size", ["small", "cifar"])
@pytest.mark.parametrize("part", ["train", "test"])
def test_degradation(size, part):
    """Chapter 01: the deeper plain net is the worse one, in training too, with every seed.

    A shortcut makes the deep net trainable. That it is better than the shallow one is *not*
    claimed at the small size.
    """
    names = [f"{size}-{net}" for net in ("plain20", "plain56", "resnet20", "resnet56")]
    if not recorded(*names):
        pytest.skip(f"{size}: pending")
    plain20, plain56, _, resnet56 = (accuracies(name, part) for name in names)
    for seed in plain56:
        assert plain56[seed] < plain20[seed] - 2
        assert plain56[seed] < resnet56[seed] - 5


def test_what_chapter_01_says_of_the_rescues_at_the_small_size():
    """None of the moves brings plain-56 to the training error of plain-20, with any seed."""
    shallow = accuracies("small-plain20", "train")
    moves = {r.experiment.name for r in RUNS if r.experiment.name.startswith("small-rescue-")}
    recorded_moves = [name for name in sorted(moves) if records.find(name)]
    assert len(recorded_moves) >= 7
    for name in recorded_moves:
        assert max(accuracies(name, "train").values()) < min(shallow.values()), name


def test_what_chapter_04_says_of_projections_everywhere_at_the_small_size():
    """Option C is behind A with every seed, by more than A-end, the control, ever moves."""
    names = ("small-resnet20", "small-shortcut-C", "small-shortcut-A-end")
    a, c, same = (accuracies(name, "test") for name in names)
    assert max(c[s] - a[s] for s in a) < -max(abs(same[s] - a[s]) for s in a)


def test_what_chapter_01_says_of_small_residual_nets():
    """They degrade too, by the training error, but by less than half of what plain nets lose."""
    lost = {}
    for family in ("plain", "resnet"):
        shallow, deep = (accuracies(f"small-{family}{depth}", "train") for depth in (20, 56))
        lost[family] = mean(shallow[s] - deep[s] for s in shallow)
    assert 0 < lost["resnet"] < lost["plain"] / 2


@pytest.mark.parametrize("study", ["small-fix", "fix"])
def test_what_chapter_07_says_of_the_fix_table(study):
    """The stem is worth more than the expected null ever moved, added or left out."""
    arms = ("none", "all", "add-cifar-stem", "without-cifar-stem", "add-true-std")
    names = [f"{study}-{arm}" for arm in (*arms, "without-true-std")]
    if not recorded(*names):
        pytest.skip(f"{study}: pending")
    none, full, add, without, add_null, without_null = (accuracies(n, "test") for n in names)
    null = [abs(add_null[s] - none[s]) for s in none]
    null += [abs(full[s] - without_null[s]) for s in none]
    added = mean(add[s] - none[s] for s in none)
    left_out = mean(full[s] - without[s] for s in none)
    assert min(added, left_out) > 0 and max(added, left_out) > max(null)
    assert mean(full.values()) > mean(none.values())


def test_what_chapter_07_says_of_augmentation_in_short_runs():
    """In the small study the nets underfit, and augmentation costs accuracy with every seed."""
    bare, base = accuracies("small-tips-no-augment", "test"), accuracies("small-fix-none", "test")
    assert all(bare[seed] > base[seed] for seed in base)
    trained = accuracies("small-fix-none", "train")
    assert abs(mean(trained.values()) - mean(base.values())) < 3
