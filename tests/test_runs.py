"""The recorded runs: the manifest and its mistakes, states and why, workers that are killed at any
moment, records that were tampered with, publishing, tables."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_imports import GRAPH, MODULES

from resnet_lib import blocks, cli, create, recipe, records, train
from resnet_lib.runs import experiments, fingerprint, manifest, state, table, verify, work, workers

pytestmark = pytest.mark.xdist_group("runs")  # what they share is trained once
ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "runs" / "manifest.toml"
HEAD = """
[defaults]
data = "digits"
train_pictures = 300
options.widths = [4, 4, 8]
model = "resnet20"
tier = 0
seeds = [0, 1]
recipe = "tiny"
[recipes.tiny]
epochs = 2
batch_size = 64
augment = []
[recipes.new]
use = "tiny"
lr = 0.05
nesterov = false
"""
ENTRIES = """
[[entry]]
name = "one"
shows = "One."
[[entry]]
name = "depth"
tier = 1
seeds = [0]
[entry.members]
plain = { model = "plain20", recipe.warmup = 0.5, shows = "Plain." }
"""
STUDY = """
[[entry]]
name = "fix"
shows = "What each is worth."
expect_null = ["mean"]
[entry.from]
mean = [0.25]
[entry.to]
recipe = "new"
options.stem = "imagenet"
[entry.changes]
stem = ["options.stem"]
pace = ["recipe.lr", "recipe.nesterov"]
mean = ["mean"]
"""


def write(folder: Path, text: str = HEAD + ENTRIES) -> Path:
    path = folder / "manifest.toml"
    path.write_text(text)
    return path


def call(path: Path, *argv) -> tuple[int, str]:
    """(exit status, what was printed) of a `runs` command in this process."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(out):
        status = cli.main(["runs", str(argv[0]), "--manifest", str(path), *map(str, argv[1:])])
    return status, out.getvalue()


def listed(path: Path) -> dict[str, dict]:
    status, text = call(path, "list", "--json")
    assert status == 0, text
    return {row["name"]: row for row in json.loads(text)}


# --- the manifest


def test_the_books_manifest():
    """Every net can be built (reading does that), and the issue's list is there."""
    found = {e.name: e for e in manifest.read_manifest(BOOK)}
    tiers = {tier: [e for e in found.values() if e.tier == tier] for tier in range(4)}
    assert all(len(e.seeds) == 3 for e in tiers[1] + tiers[0]) and all(tiers.values())
    for depth in (20, 56):
        for kind in ("plain", "resnet"):
            e = found[f"cifar-{kind}{depth}"]
            assert e.tier == 1 and e.model == f"{kind}{depth}"
            assert e.recipe == train.Recipe(epochs=30, precision="bf16", channels_last=True)
    none, all_ = found["fix-none"], found["fix-all"]
    assert (none.std, all_.std) == ((0.2023, 0.1994, 0.2010), None)
    assert (none.all_options.get("stem"), all_.options["stem"]) == (None, "cifar")
    modern = replace(all_.recipe, decay_norm_bias=True, label_smoothing=0.0, ema=0.0)
    assert modern == train.Recipe(epochs=30, precision="bf16", channels_last=True)
    steps = 270_000
    for step, wanted in ((149, 0.1), (151, 0.01), (209, 0.01), (211, 0.001)):
        assert recipe.learning_rate(none.recipe, step * 1000, steps) == pytest.approx(wanted)
    assert found["article-a-270"].recipe == replace(none.recipe, epochs=270)
    tips = [e for e in found.values() if e.name.startswith("tips-")]
    assert len(tips) == 7
    for e in tips:
        old, new = (experiments.Run(x, 0).configuration() for x in (none, e))
        assert sum(old[k] != new[k] for k in old) == 1, f"{e.name} is not one departure"
    paper = found["paper-resnet20"].recipe
    steps = paper.epochs * (45_000 // 128)
    assert abs(steps - 64_000) < 200 and paper.milestones == (0.5, 0.75)
    for e in found.values():  # source article C trained in fp32
        fast = "fp32" if e.name.startswith("mystery-") else "bf16"
        assert e.recipe.precision == fast and e.data == "cifar10", e.name


def test_forms_and_what_they_inherit(tmp_path):
    one, plain = manifest.read_manifest(write(tmp_path))
    assert (one.name, one.tier, one.seeds) == ("one", 0, (0, 1))
    assert one.recipe == train.Recipe(epochs=2, batch_size=64, augment=())
    assert one.all_options == {"num_classes": 10, "in_channels": 1, "widths": [4, 4, 8]}
    assert (plain.name, plain.tier, plain.model) == ("depth-plain", 1, "plain20")
    assert plain.recipe == replace(one.recipe, warmup=0.5)
    assert plain.options == one.options


def test_a_study_is_one_at_a_time_in_and_one_at_a_time_out(tmp_path):
    found = {e.name: e for e in manifest.read_manifest(write(tmp_path, HEAD + STUDY))}
    fields = {"stem": "options.stem", "pace": "recipe.lr", "mean": "mean"}
    kinds = [f"fix-{kind}-{change}" for change in fields for kind in ("add", "without")]
    assert list(found) == ["fix-none", "fix-all", *kinds]
    assert {e.study for e in found.values()} == {"fix"}
    of = {name: experiments.Run(e, 0).configuration() for name, e in found.items()}
    for change, field in fields.items():
        for one, base, other in (("add", "none", "all"), ("without", "all", "none")):
            e, base, other = of[f"fix-{one}-{change}"], of[f"fix-{base}"], of[f"fix-{other}"]
            differ = {key for key in {*e, *base} if e.get(key) != base.get(key)}
            assert differ == {field} | ({"recipe.nesterov"} if change == "pace" else set())
            assert all(e.get(key) == other.get(key) for key in differ)
        assert found[f"fix-add-{change}"].expect_null == (change == "mean")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('shows = "One."', 'shwos = "One."', ["'one'", "unknown key 'shwos'", "known: "]),
        ('shows = "One."', "", ["'one'", "'shows' is missing"]),
        ('shows = "One."', 'shows = ""', ["'one'", "shows = ''"]),
        ('"resnet20"', '"resnet19"', ["'one'", "model = 'resnet19'"]),
        ('"plain20"', '"plain21"', ["'depth-plain'", "model = 'plain21'"]),
        ("epochs = 2", "epochs = 0", ["'one'", "recipe: epochs=0: must be at least 1"]),
        ("epochs = 2", "epochs = 2.5", ["'one'", "recipe: epochs = 2.5", "int"]),
        ("epochs = 2", 'epochs = "2"', ["'one'", "recipe: epochs = '2'", "int"]),
        ("epochs = 2", "epoch = 2", ["'one'", "recipe: unknown key 'epoch'"]),
        ("epochs = 2", "seed = 2", ["'one'", "recipe: unknown key 'seed'"]),
        ('recipe = "tiny"', 'recipe = "tidy"', ["'one'", "no [recipes.tidy]"]),
        ("epochs = 2", 'use = "tiny"', ["'one'", "[recipes.tiny] uses itself"]),
        ("widths = [4, 4, 8]", "wide = 4", ["'one'", "options", "'wide'"]),
        ("widths = [4, 4, 8]", "widths = [4, 4]", ["'one'", "options", "one of each per stage"]),
        ("widths = [4, 4, 8]", 'stem = "tiny"', ["'one'", "options", "stem='tiny'"]),
        ("tier = 0", "tier = 4", ["'one'", "tier = 4"]),
        ("tier = 0", 'tier = "0"', ["'one'", "tier = '0'"]),
        ("seeds = [0, 1]", "seeds = []", ["'one'", "seeds = ()"]),
        ("seeds = [0, 1]", "seeds = [1, 1]", ["'one'", "seeds = (1, 1)"]),
        ("seeds = [0, 1]", "seeds = 1", ["'one'", "seeds = 1"]),
        ('data = "digits"', 'data = "digit"', ["'one'", "data = 'digit'"]),
        ("train_pictures = 300", "train_pictures = 0", ["'one'", "train_pictures = 0"]),
        ("tier = 0", 'tier = 0\nstart = "warm"', ["'one'", "start = 'warm'", "bn-bias-1"]),
        ("tier = 0", "tier = 0\nstd = [0.1, 0.2]", ["'one'", "std = (0.1, 0.2)"]),
        ("tier = 0", "tier = 0\nstd = [0.0]", ["'one'", "std = (0.0,)"]),
        ("tier = 0", 'tier = 0\nchapters = "07"', ["'one'", "chapters = '07'"]),
        ('name = "depth"', 'name = "one"\n', []),
        ("plain = {", "plain = { tier = 0, name = 'x',", ["unknown key 'name'"]),
        ('name = "one"', 'name = "o/ne"', ["name = 'o/ne'"]),
        ('name = "one"\n', "", ["[[entry]] number 1 has no name"]),
        ("[[entry]]", "[[entries]]", ["unknown key 'entries'"]),
        ("[defaults]", "[defaults", ["line 2"]),
        ('[[entry]]\nname = "one"', '[entry]\nname = "one"', []),
        ("epochs = 2", "epochs = 2\n[recipes]\ntiny = 3", []),
        ("[defaults]", "defaults = 3\n[other]", ["unknown key 'other'"]),
        ("members", "membres", ["'depth'", "unknown key 'membres'"]),
    ],
)
def test_a_mistake_in_the_manifest(old, new, words, tmp_path):
    text = (HEAD + ENTRIES).replace(old, new)
    assert text != HEAD + ENTRIES
    if old == 'name = "depth"':  # two entries of one name
        text = HEAD + ENTRIES + '[[entry]]\nname = "one"\nshows = "Two."\n'
        words = ["the name 'one' stands twice"]
    path = write(tmp_path, text)
    with pytest.raises(ValueError) as error:
        manifest.read_manifest(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('mean = ["mean"]', "", "changes: mean: a field must stand in exactly one"),
        ('["options.stem"]', '["options.stem", "recipe.lr"]', "changes: recipe.lr: a field"),
        ('["options.stem"]', '["options.stem", "recipe.ema"]', "changes: recipe.ema: a field"),
        ('expect_null = ["mean"]', 'expect_null = ["std"]', "expect_null: no change 'std'"),
        ("[entry.from]", "[entry.form]", "'from' is missing"),
        ('shows = "What each is worth."', "", "'fix-none': the key 'shows' is missing"),
    ],
)
def test_a_mistake_in_a_study(old, new, words, tmp_path):
    with pytest.raises(ValueError, match=re.escape(words)):
        manifest.read_manifest(write(tmp_path, HEAD + STUDY.replace(old, new)))


def test_the_same_run_twice_under_two_names(tmp_path):
    text = HEAD + ENTRIES + '[[entry]]\nname = "two"\nshows = "Two."\n'
    with pytest.raises(ValueError, match="'one' and 'two' are the same run"):
        manifest.read_manifest(write(tmp_path, text))


def test_order_one_seed_of_everything_first(tmp_path):
    names = [run.name for run in state.all_runs(state.places(write(tmp_path)))]
    assert names == ["one-s0", "one-s1", "depth-plain-s0"]
    text = (HEAD + ENTRIES).replace("tier = 1\nseeds = [0]\n", "")
    names = [run.name for run in state.all_runs(state.places(write(tmp_path, text)))]
    assert names == ["one-s0", "depth-plain-s0", "one-s1", "depth-plain-s1"]


# --- how a net starts


@pytest.mark.parametrize("shift", [1, 2])
@pytest.mark.parametrize("model", ["plain20", "resnet20", "preact_resnet20", "resnet164"])
def test_start_bn_bias(model, shift):
    """It is added exactly where a ReLU sees it next: found by following the values, not names."""
    net = create(model, widths=(4, 4, 8))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    experiments.apply_start(net, f"bn-bias-{shift}")
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    wanted, fed = set(), {}
    names = {module: name for name, module in net.named_modules()}
    for module, name in names.items():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda _m, _i, out, n=name: fed.update({out: n}))
        elif isinstance(module, torch.nn.ReLU):
            module.register_forward_pre_hook(
                lambda _m, i: wanted.add(fed[i[0]]) if i[0] in fed else None
            )
    net.train()(torch.randn(2, 3, 8, 8))
    inside = {name for name in wanted if name.startswith("layer")}
    assert changed == {f"{name}.bias" for name in inside} and changed
    assert all((net.state_dict()[key] == shift).all() for key in changed)


def test_start_dirac():
    net = create("plain20", widths=(4, 4, 8))
    experiments.apply_start(net, "dirac")
    x = torch.randn(1, 4, 6, 6)
    assert torch.equal(net.layer1[0].conv1(x), x)
    assert not torch.equal(net.layer3[0].conv1.weight[:4], net.layer2[0].conv1.weight)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(net.conv1(torch.ones(1, 3, 4, 4)), torch.ones(1, 4, 4, 4))


# --- fingerprints


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The experiments of the small manifest."""
    return manifest.read_manifest(write(tmp_path_factory.mktemp("tiny")))


def marks(experiment, changes=None):
    return fingerprint.fingerprint(replace(experiment, **changes or {}))


def same(one, two) -> bool:
    pairs = zip(one, two, strict=True)
    return all(abs(a - b) <= fingerprint.TOLERANCE * abs(a) for a, b in pairs)


def test_a_fingerprint_is_the_same_again_whatever_the_threads(tiny):
    plain56 = replace(tiny[1], model="plain56", recipe=replace(tiny[1].recipe, lr=0.1))
    before = torch.random.get_rng_state()
    once = marks(plain56)
    assert torch.equal(torch.random.get_rng_state(), before)  # nobody's random numbers are used
    assert torch.get_default_dtype() == torch.float32 and len(once) == 6
    torch.set_num_threads(2)
    try:
        assert same(once, marks(plain56))
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 0.105},
        {"momentum": 0.8},
        {"nesterov": False},
        {"weight_decay": 4e-4},
        {"decay_norm_bias": False},
        {"schedule": "cosine"},
        {"schedule": "step"},
        {"warmup": 0.5},
        {"augment": ("crop",)},
        {"label_smoothing": 0.1},
        {"ema": 0.9},
        {"optimizer": "adam"},
    ],
    ids=str,
)
def test_a_fingerprint_notices_each_part_of_a_recipe(changes, tiny):
    one = tiny[0]
    assert not same(marks(one), marks(one, {"recipe": replace(one.recipe, **changes)}))


@pytest.mark.parametrize("what", ["schedule", "initialisation", "block", "loss", "optimiser"])
def test_a_fingerprint_notices_changed_code(what, tiny, monkeypatch):
    before = marks(tiny[0])
    if what == "schedule":
        old = train.learning_rate
        monkeypatch.setattr(train, "learning_rate", lambda r, s, n: old(r, s, n + 1))
    elif what == "initialisation":
        old = torch.nn.init.kaiming_normal_
        monkeypatch.setattr(
            torch.nn.init, "kaiming_normal_", lambda w, **k: old(w, **k | {"mode": "fan_in"})
        )
    elif what == "block":
        old = blocks.BasicBlock.forward
        monkeypatch.setattr(blocks.BasicBlock, "forward", lambda s, x: 1.001 * old(s, x))
    elif what == "loss":
        old = train.F.cross_entropy
        monkeypatch.setattr(train.F, "cross_entropy", lambda *a, **k: 1.001 * old(*a, **k))
    else:
        old = train.make_optimizer
        monkeypatch.setattr(
            train, "make_optimizer", lambda n, r: old(n, replace(r, momentum=r.momentum - 0.01))
        )
    assert not same(before, marks(tiny[0]))


def test_the_code_behind_a_cached_fingerprint_is_all_known():
    """Else the file of fingerprints would hide a change: follow the imports to their end."""
    todo, seen = [("runs", "fingerprint")], set()
    while todo:
        name = todo.pop()
        if name and name not in seen:
            seen.add(name)
            todo += GRAPH[name]
    known = fingerprint.DECIDING
    for path in (MODULES[name].relative_to(ROOT / "resnet_lib") for name in seen):
        if path.as_posix() not in ("runs/__init__.py",):  # a docstring
            assert path.as_posix() in known or path.parts[0] in known, f"{path} is not in DECIDING"


# --- runs, with real workers


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """(manifest, output folder, what was printed): all runs of the small manifest, two at once."""
    folder = tmp_path_factory.mktemp("recorded")
    path, out = write(folder), folder / "out folder"
    argv = ["run", "--pending", "--jobs", "2", "--threads", "1", "--out", out]
    status, said = call(path, *argv)
    assert status == 0, said
    return path, out, said


@pytest.fixture
def here(recorded, tmp_path):
    """A copy: the manifest, with the records where `list` looks for them."""
    path = write(tmp_path)
    shutil.copytree(recorded[1] / "records", tmp_path / "records")
    (tmp_path / "out").mkdir()
    shutil.copy(recorded[1] / "fingerprints.json", tmp_path / "out")
    return path


def test_run_writes_records_and_cleans_up(recorded):
    path, out, said = recorded
    runs = state.all_runs(state.places(path))
    assert [len(re.findall(rf"^recorded  {run.name} ", said, re.M)) for run in runs] == [1, 1, 1]
    assert re.search(r"^recorded +3$", said, re.M) and re.search(r"^pending +0$", said, re.M)
    left = sorted(p.name for p in out.iterdir())
    assert left == ["fingerprints.json", "records"]  # no checkpoints
    for run in runs:
        text = (out / "records" / f"{run.name}.json").read_text()
        record = json.loads(text)
        assert "\n" not in text and len(record["history"]) == 2
        assert record["experiment"] == run.experiment.name and record["recipe"]["seed"] == run.seed
        assert record["tier"] == run.experiment.tier and record["start"] == ""
        assert record["concurrent_jobs"] == 2 and record["provenance"]["threads"] == 1
        assert same(record["fingerprint"], marks(run.experiment))
        assert record["train_pictures"] + record["valid_pictures"] == 300
    found = records.find("one", out / "records")
    assert [r["recipe"]["seed"] for r in found] == [0, 1]
    assert records.find("on", out / "records") == [] and records.find("no-such-run") == []


def test_run_again_does_nothing(recorded):
    path, out, _ = recorded
    before = {p: p.stat().st_mtime_ns for p in (out / "records").iterdir()}
    status, said = call(path, "run", "--pending", "--out", out)
    assert status == 0 and "0 runs to do" in said
    assert {p: p.stat().st_mtime_ns for p in (out / "records").iterdir()} == before


def test_states(here):
    assert {row["state"] for row in listed(here).values()} == {"recorded"}
    row = listed(here)["one-s1"]
    assert row["experiment"] == "one" and row["seed"] == 1 and row["tier"] == 0
    assert row["shows"] == "One." and row["record"].endswith("records/one-s1.json")
    (here.parent / "records" / "one-s1.json").unlink()
    assert [r["state"] for r in listed(here).values()] == ["recorded", "pending", "recorded"]
    status, said = call(here, "list", "--state", "pending")
    assert status == 0 and "pending   one-s1" in said and "one-s0" not in said
    status, said = call(here, "list", "--tier", "1")
    assert "depth-plain-s0" in said and "one-s0" not in said


def test_runs_alone_lists(capsys, monkeypatch):
    """The book's own manifest, as `python -m resnet_lib runs`."""
    monkeypatch.setattr(state, "changed", lambda *_: "")
    assert cli.main(["runs"]) == 0
    assert "paper-resnet20-s0" in capsys.readouterr().out


def test_a_record_is_stale_when_the_configuration_changed(here):
    here.write_text(here.read_text().replace("warmup = 0.5", "warmup = 0.25"))
    rows = listed(here)
    assert [r["state"] for r in rows.values()] == ["recorded", "recorded", "stale"]
    why = rows["depth-plain-s0"]["why"]
    assert why == "recipe.warmup: recorded with 0.5, the manifest has 0.25"
    for old, new, field in (
        ("[4, 4, 8]", "[4, 8, 8]", "options.widths: recorded with [4, 4, 8], the manifest"),
        ("= 300", "= 301", "train_pictures: recorded with 300, the manifest has 301"),
        ("tier = 0", "tier = 0\nmean = [0.3]", "mean: recorded with None, the manifest has [0.3]"),
        ('"resnet20"', '"plain20"', "model: recorded with 'resnet20', the manifest has 'plain20'"),
        ("tier = 0", 'tier = 0\nstart = "dirac"', "start: recorded with '', the manifest has 'dir"),
    ):
        write(here.parent, (HEAD + ENTRIES).replace(old, new))
        assert field in listed(here)["one-s0"]["why"]


def test_a_recipe_field_that_an_old_record_lacks_counts_as_its_default(here):
    path = here.parent / "records" / "one-s0.json"
    record = json.loads(path.read_text())
    del record["recipe"]["ema"]
    path.write_text(json.dumps(record))
    assert listed(here)["one-s0"]["state"] == "recorded"
    write(here.parent, (HEAD + ENTRIES).replace("epochs = 2", "epochs = 2\nema = 0.9"))
    assert "recipe.ema: recorded with 0.0" in listed(here)["one-s0"]["why"]


def test_a_record_is_stale_when_the_code_computes_something_else(here, monkeypatch):
    (here.parent / "out" / "fingerprints.json").unlink()  # no source changed, so it would be used
    old = train.learning_rate
    monkeypatch.setattr(train, "learning_rate", lambda r, s, n: 0.99 * old(r, s, n))
    rows = listed(here)
    assert {r["state"] for r in rows.values()} == {"stale"}
    assert "the code computes something else: three-step losses" in rows["one-s0"]["why"]


def test_a_changed_source_is_not_answered_from_the_cache(here, monkeypatch):
    monkeypatch.setattr(fingerprint, "fingerprint", lambda e: [1.0] * 6)
    assert {r["state"] for r in listed(here).values()} == {"recorded"}
    monkeypatch.setattr(fingerprint, "source_hash", lambda: "another")
    assert {r["state"] for r in listed(here).values()} == {"stale"}


# --- verify, publish


def test_verify_finds_nothing_wrong(here):
    status, said = call(here, "verify")
    assert status == 0 and "3 records, 0 not good" in said


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda r: r["history"].pop(), "history: wanted epochs 1 to 2"),
        (lambda r: r["history"][0].pop("lr"), "history: each row needs"),
        (lambda r: r["history"][1].update(train_loss=float("nan")), "not finite"),
        (lambda r: r["test"]["best"].update(accuracy=91.2345), "no whole number of pictures"),
        (lambda r: r["test"]["last"].update(accuracy=100.0 + 100 / 450), "not within 0 to 100"),
        (lambda r: r["history"][1].update(valid_accuracy=93.21), "no whole number of pictures"),
        (lambda r: r["test"].update(best_epoch=3 - r["test"]["best_epoch"]), "best epoch is"),
        (lambda r: r["provenance"].pop("torch"), "provenance: missing torch"),
        (lambda r: r.pop("data"), "missing: data"),
        (lambda r: r.update(experiment="two"), "a record of two"),
        (lambda r: r.update(train_pictures=9999), "10029 pictures, wanted 300"),
        (lambda r: r["recipe"].update(lr=0.3), "stale: recipe.lr: recorded with 0.3"),
        (lambda r: r["recipe"].update(seed=5), "stale: recipe.seed: recorded with 5"),
        (lambda r: r["fingerprint"].__setitem__(2, 2.0), "stale: the code computes something"),
        (lambda r: r["fingerprint"].clear(), "stale: the code computes something"),
        (lambda r: r.update(history=3), "not a whole record"),
        (lambda r: r.clear(), "not a whole record"),
    ],
)
def test_verify_finds_a_record_that_was_tampered_with(damage, words, here):
    path = here.parent / "records" / "one-s0.json"
    record = json.loads(path.read_text())
    damage(record)
    path.write_text(json.dumps(record))
    status, said = call(here, "verify")
    assert status == 1 and f"{path}: " in said and words in said, said
    assert "1 not good" in said
    status, said = call(here, "verify", "--json")
    assert status == 1 and sum(bool(row["problems"]) for row in json.loads(said)) == 1
    status, said = call(here, "publish")
    assert status == 2 and words in said and not (here.parent / "published").exists()


def test_verify_finds_files_that_are_no_records(here):
    (here.parent / "records" / "one-s0.json").write_text('{"history": ')
    (here.parent / "records" / "two-s0.json").write_text("{}")
    status, said = call(here, "verify")
    assert status == 1 and "the manifest has no run called two-s0" in said
    assert "one-s0.json: not a whole record" in said and "2 not good" in said
    assert "the record cannot be read" in listed(here)["one-s0"]["why"]


def test_publish(here, monkeypatch):
    status, said = call(here, "publish")
    assert status == 0 and "3 records copied" in said
    shutil.rmtree(here.parent / "records")
    rows = listed(here)
    assert all("published" in r["record"] and r["state"] == "recorded" for r in rows.values())
    published = here.parent / "published"
    before = {p.name: p.read_bytes() for p in published.iterdir()}
    assert call(here, "publish", published)[0] == 0  # the same again changes nothing
    assert {p.name: p.read_bytes() for p in published.iterdir()} == before
    monkeypatch.setattr(verify, "MOST", 1000)
    status, said = call(here, "publish", published)
    assert status == 2 and "of 1,000 bytes" in said
    status, said = call(here, "publish", here.parent / "nothing")
    assert status == 2 and "there are no records" in said


def test_publish_does_not_replace_another_configuration_unasked(here):
    assert call(here, "publish")[0] == 0
    old = here.parent / "published" / "one-s0.json"
    record = json.loads(old.read_text())
    record["recipe"]["lr"] = 0.3
    old.write_text(json.dumps(record))
    status, said = call(here, "publish")
    assert status == 2 and "one-s0.json: would replace another configuration" in said
    assert json.loads(old.read_text())["recipe"]["lr"] == 0.3
    assert call(here, "publish", "--overwrite")[0] == 0
    assert json.loads(old.read_text())["recipe"]["lr"] == 0.1
    old.write_text("{")
    status, said = call(here, "publish")
    assert status == 2 and "one-s0.json: would replace another configuration" in said


# --- stopped, killed, failed


def slow(folder: Path, epochs: int = 40) -> Path:
    text = HEAD.replace("epochs = 2", f"epochs = {epochs}").replace("[0, 1]", "[0]")
    return write(folder, text + '[[entry]]\nname = "long"\nshows = "Long."\n')


def rows_of(history: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def wait_for(condition, what: str, seconds: float = 120):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.02)
    return found


def epochs_in(out: Path) -> int:
    try:
        return len(json.loads((out / "long-s0" / "history.json").read_text()))
    except (OSError, ValueError):
        return 0


def alive(text: str) -> list[int]:
    """Processes of this machine whose command line has `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if text in words:
                found.append(int(entry.name))
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.long)])
def test_killed_at_any_moment_it_ends_with_the_same_record(kills, tmp_path):
    """kill -9 of the command: its worker ends too, and the next call goes on bit for bit."""
    path, out = slow(tmp_path), tmp_path / "out folder"
    command = [sys.executable, "-m", "resnet_lib", "runs", "run", "--pending", "--threads", "1"]
    command += ["--manifest", str(path), "--out", str(out)]
    done = 0
    for _ in range(kills):
        parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        wait_for(lambda done=done: epochs_in(out) > done, "another epoch")
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        wait_for(lambda: not alive(f"--out {out} "), "the end of the worker", 20)
        done = epochs_in(out)
        assert 0 < done < 40
    assert list((out / "long-s0").glob("last*.pt")) and not (out / "records").exists()
    status, said = call(path, "run", "--pending", "--threads", "1", "--out", out)
    assert status == 0 and re.search(r"^recorded +1$", said, re.M), said
    found = json.loads((out / "records" / "long-s0.json").read_text())
    assert len(found["resumed"]) == kills
    where = state.places(path)
    other = work.do(state.all_runs(where)[0], tmp_path / "other", where, device="cpu")
    assert rows_of(found["history"]) == rows_of(other["history"]) and not other["resumed"]
    assert found["test"] == other["test"] and found["fingerprint"] == other["fingerprint"]


@pytest.mark.skipif(sys.platform == "win32", reason="locks of Unix")
def test_two_processes_do_not_work_in_one_folder(tmp_path):
    got = threading.Event()

    def second():
        with work._locked(tmp_path):
            got.set()

    with work._locked(tmp_path):
        threading.Thread(target=second, daemon=True).start()
        assert not got.wait(0.3)
    assert got.wait(10)


def test_the_rehearsal_of_the_gpu_command(tmp_path):
    """`runs run --pending --tier T --minutes M --out "$OUT"`, cut off by its own deadline; what
    comes back is read-only, and the next call on another machine goes on from it."""
    path, out = slow(tmp_path, epochs=100_000), tmp_path / "OUT"
    began = time.monotonic()
    command = [sys.executable, "-m", "resnet_lib", "runs", "run", "--pending", "--tier", "0"]
    command += ["--manifest", str(path), "--out", str(out), "--minutes", "0.3", "--jobs", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    taken = time.monotonic() - began
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert taken < 18 + 15  # 18 s, and the start of Python on a busy machine
    assert "unfinished 1  (long-s0: they go on with the same --out)" in done.stdout
    before = epochs_in(out)
    assert before > 0, (out / "long-s0" / "log.txt").read_text()
    for file in out.rglob("*"):
        file.chmod(0o555 if file.is_dir() else 0o444)
    again = tmp_path / "again"
    where = state.places(path)
    workers.bring(out, again)
    assert epochs_in(again) == before and all(p.stat().st_mode & 0o200 for p in again.rglob("*"))
    write(tmp_path, path.read_text().replace("epochs = 100000", "epochs = 99999"))
    with pytest.raises(ValueError, match=r"another configuration \(recipe.epochs changed\)"):
        work.do(state.all_runs(where)[0], again, where, device="cpu")
    for file in [*out.rglob("*")]:
        file.chmod(0o755)


def test_what_cannot_be_done_in_time_is_not_started(tmp_path, monkeypatch):
    """One run is known to take longer than is left; the next one is not known, and is started."""
    where = state.places(write(tmp_path))
    started = []

    class Done:
        returncode, stdin = 0, None

        def __init__(self, run):
            started.append(run.name)

        def poll(self):
            return 0

    def start(queue, run, before, large):
        queue.running.append(workers.Job(run, Done(run), time.monotonic(), before, large))

    monkeypatch.setattr(workers.Queue, "_start", start)
    monkeypatch.setattr(workers.work, "finished", lambda *_: None)
    runs = state.all_runs(where)
    queue = workers.Queue(runs, tmp_path / "out", where, minutes=1, say=lambda _: None)
    queue.pace = {workers._kind(runs[0]): 31.0}  # seconds an epoch, and there are two
    (tmp_path / "out" / "one-s1").mkdir(parents=True)
    (tmp_path / "out" / "one-s1" / "history.json").write_text("[{}]")  # one epoch is done
    (tmp_path / "out" / "depth-plain-s0").mkdir()
    for run in runs:
        (tmp_path / "out" / run.name / "log.txt").parent.mkdir(exist_ok=True)
        (tmp_path / "out" / run.name / "log.txt").write_text("")
    summary = queue.work_off()
    assert started == ["one-s1", "depth-plain-s0"] and summary.pending == ["one-s0"]


@pytest.mark.parametrize(
    ("gpu", "cores", "jobs", "model", "wanted"),
    [
        (False, 16, None, "resnet20", 1),
        (True, 16, None, "resnet20", 10),
        (True, 4, None, "resnet20", 4),
        (True, 16, None, "resnet18", 4),
        (True, 2, None, "resnet18", 2),
        (True, 16, None, "mixed", 5),  # three large ones and two small ones
        (True, 16, 3, "resnet18", 3),
        (False, 16, 3, "resnet20", 3),
    ],
)
def test_how_many_at_once(gpu, cores, jobs, model, wanted, tmp_path, monkeypatch):
    text = HEAD.replace("[0, 1]", str(list(range(20)))).replace("options.widths = [4, 4, 8]\n", "")
    text = text.replace('"resnet20"', f'"{model.replace("mixed", "resnet18")}"')
    text += '[[entry]]\nname = "x"\nshows = "X."\n'
    if model == "mixed":
        text += '[[entry]]\nname = "y"\nmodel = "resnet20"\nshows = "Y."\n'
    where = state.places(write(tmp_path, text))
    monkeypatch.setattr(workers, "cpu_cores", lambda: cores)

    def start(queue, run, before, large):
        queue.running.append(workers.Job(run, None, 0.0, before, large))

    monkeypatch.setattr(workers.Queue, "_start", start)
    queue = workers.Queue(state.all_runs(where), tmp_path, where, gpu=gpu, jobs=jobs)
    queue._start_what_fits()
    assert len(queue.running) == wanted


def test_a_run_that_diverges_does_not_stop_the_others(tmp_path):
    text = (HEAD + ENTRIES).replace("[0, 1]", "[0]").replace("warmup = 0.5", "lr = 1e30")
    path, out = write(tmp_path, text.replace("tier = 1", "tier = 0")), tmp_path / "out"
    status, said = call(path, "run", "depth", "one", "--jobs", "2", "--out", out)
    assert status == 1 and re.search(r"^failed +1$", said, re.M), said
    assert "recorded  one-s0" in said and re.search(r"failed    depth-plain-s0 .* became", said)
    message = (out / "depth-plain-s0" / "failed.txt").read_text()
    assert "learning rate is too high" in message
    assert listed(path)["depth-plain-s0"]["state"] == "pending"
    status, said = call(path, "run", "--pending", "--out", out)  # not tried again unless named
    assert status == 1 and "0 runs to do" in said and "became" in said


def test_weights_are_kept_where_wanted(tmp_path):
    text = HEAD.replace("[0, 1]", "[0]") + ENTRIES.replace(
        'shows = "One."', 'shows = "One."\nkeep_weights = true\nstart = "bn-bias-1"\nstd = [0.25]'
    )
    where = state.places(write(tmp_path, text))
    run = state.all_runs(where)[0]
    record = work.do(run, tmp_path / "out", where, device="cpu")
    assert record["std"] == [0.25] and record["start"] == "bn-bias-1"
    from resnet_lib import predict

    trained = predict.open_net(tmp_path / "out" / "weights" / "one-s0.safetensors")
    test = work.pictures(run.experiment).test
    found = train.evaluate(trained.net, test, mean=record["mean"], std=record["std"])
    assert found.accuracy == pytest.approx(record["test"]["best"]["accuracy"])
    assert work.do(run, tmp_path / "out", where, device="cpu")["seconds"] == record["seconds"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run"], "say which runs"),
        (["run", "two"], "no run, experiment, family or study is called 'two'"),
        (["run", "on"], "is called 'on'; there is one"),
        (["run", "one", "--jobs", "0"], "--jobs 0: must be above 0"),
        (["run", "one", "--minutes", "-1"], "--minutes -1.0: must be above 0"),
        (["run", "one", "--gpu"], "torch sees no GPU"),
        (["run", "one", "--continue", "nowhere"], "--continue nowhere: there is no such folder"),
        (["table", "fox"], "'fox'"),
    ],
)
def test_the_commands_refuse(argv, words, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = ["--out", tmp_path / "out"] if argv[0] == "run" else []
    status, said = call(write(tmp_path), *argv, *out)
    assert status == 2 and words in said and said.count("\n") == 1


def test_no_manifest(tmp_path):
    status, said = call(tmp_path / "manifest.toml", "list")
    assert status == 2 and "there is no such manifest" in said


# --- tables


def fake(seed: int, accuracy: float, trained: float = 99.0) -> dict:
    return {
        "recipe": {"seed": seed},
        "test": {"last": {"accuracy": accuracy}},
        "history": [{"train_accuracy": trained}],
        "provenance": {"device": "A GPU"},
        "data": "CIFAR-10, JPEG copy",
    }


def test_table(tmp_path):
    text = ENTRIES.replace('name = "one"', 'name = "one"\nrecipe.lr = 0.07')
    runs = state.all_runs(state.places(write(tmp_path, HEAD + text + STUDY)))
    accuracy = {
        "one": {0: 90.0, 1: 92.0},
        "fix-none": {0: 80.0, 1: 82.0},
        "fix-all": {0: 95.0},
        "fix-add-stem": {0: 85.0, 1: 88.0},
        "fix-without-stem": {0: 89.0, 1: 0.0},  # no seed 1 of "all" to compare with
        "fix-add-mean": {0: 79.75, 1: 82.25},
    }
    found = {n: {s: fake(s, a) for s, a in of.items()} for n, of in accuracy.items()}
    lines = table.table(runs, found).splitlines()
    line = {text.split()[0]: text for text in lines if text}
    assert "2/2  91.00 [90.00, 92.00]" in line["one"]
    assert line["one"].endswith("A GPU; CIFAR-10, JPEG copy")
    assert line["depth-plain"].split() == ["depth-plain", "0/1", "pending"]
    assert "+5.50 [+5.00, +6.00] n=2" in line["stem"] and "+6.00 [+6.00, +6.00] n=1" in line["stem"]
    assert "+0.00 [-0.25, +0.25] n=2" in line["mean"] and "(no effect expected)" in line["mean"]
    assert line["pace"].split() == ["pace", "pending", "pending"]


def test_the_table_command(here):
    status, said = call(here, "table", "one", "depth-plain-s0")
    assert status == 0 and said.count("digits, 300 training pictures") == 2 and "2/2" in said
    shutil.rmtree(here.parent / "records")
    assert call(here, "table")[1].count("pending") == 2
