"""A run that was stopped goes on as if nothing had happened: to the last bit, from any moment."""

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from resnet_lib import checkpoint, create, predict, records, run_state, train
from resnet_lib.checkpoint import CheckpointError, load, load_training, previous_of
from resnet_lib.data import Data, Split
from resnet_lib.train import Recipe, TrainingError, fit, fit_and_test

ROOT = Path(__file__).resolve().parent.parent
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
RECIPE = Recipe(epochs=4, batch_size=12, lr=0.05, warmup=0.1)
FILES = ["best.pt", "history.json", "last.previous.pt", "last.pt"]


def split(count: int, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    x = torch.randint(0, 160, (count, 3, 6, 6), generator=generator)
    x[torch.arange(count), y] += 40
    return Split(x.to(torch.uint8), y)


TRAIN, VALID = split(34), split(15, seed=1)  # the last batch is a short one


class Net(nn.Module):
    """Weights of every kind, batch statistics, and dropout, which draws random numbers."""

    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.drop(self.bn(self.conv(x)).relu().mean((2, 3))))


def run(model, recipe=RECIPE, **more):
    return fit(model, TRAIN, VALID, recipe, mean=MEAN, std=STD, quiet=True, **more)


class Stop(Exception):
    """What a kill is for a test in one process."""


def stopped(out, after: int, recipe=RECIPE, **more) -> None:
    """A run that was stopped after so many epochs."""

    def stop(result):
        if len(result.history) == after:
            raise Stop

    with suppress(Stop):
        run(Net(), recipe, out=out, on_epoch=stop, **more)


def equal(a, b) -> bool:
    """The same nested values, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


def rows(history) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def as_whole(result, model, out, whole, its_model, its_out) -> None:
    """Nothing tells the run that was stopped from the one that was not, apart from `resumed`."""
    assert rows(result.history) == rows(whole.history)
    assert result.best_epoch == whole.best_epoch
    assert equal(result.last, whole.last) and equal(result.best, whole.best)
    assert equal(checkpoint.snapshot(model), checkpoint.snapshot(its_model))
    files_as_whole(out, its_out)


def files_as_whole(out, its_out) -> None:
    mine, its = load_training(out / "last.pt"), load_training(its_out / "last.pt")
    assert equal(mine[0], its[0])
    for key in ("best", "best_epoch", "net", "optimizer", "scaler"):
        assert equal(mine[2][key], its[2][key]), key
    assert rows(mine[2]["history"]) == rows(its[2]["history"])
    assert equal(load(out / "best.pt")[0], load(its_out / "best.pt")[0])
    written = [json.loads((folder / "history.json").read_text()) for folder in (out, its_out)]
    assert rows(written[0]) == rows(written[1]) == rows(mine[2]["history"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(result, net, folder) of a run that was never stopped."""
    out, model = tmp_path_factory.mktemp("whole"), Net()
    return run(model, out=out), model, out


def contents(folder) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in Path(folder).iterdir()}


# --- every epoch, every option


def every_epoch(**changes) -> None:
    recipe = replace(RECIPE, **changes)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        stages, model = [], Net()

        def keep(_result):
            stages.append((folder / "whole" / "last.pt").read_bytes())

        result = run(model, recipe, out=folder / "whole", on_epoch=keep)
        assert result.resumed == []
        for epoch in range(1, recipe.epochs + 1):
            out, again = folder / str(epoch), Net(seed=9)  # all weights have to come from the file
            out.mkdir()
            (out / "last.pt").write_bytes(stages[epoch - 1])
            torch.rand(epoch)  # the state of the random numbers is another one
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = run(again, recipe, out=out, resume=True)
            assert found.resumed == ([epoch] if epoch < recipe.epochs else [])
            as_whole(found, again, out, result, model, folder / "whole")


OPTIONS = {
    "optimizer": st.sampled_from(["sgd", "adam", "adamw"]),
    "ema": st.sampled_from([0.0, 0.9]),
    "precision": st.sampled_from(["fp32", "bf16", "fp16"]),
    "accumulate": st.integers(1, 3),
    "label_smoothing": st.sampled_from([0.0, 0.1]),
    "schedule": st.sampled_from(train.SCHEDULES),
    "augment": st.sampled_from([(), ("flip",), ("crop", "flip")]),
    "channels_last": st.booleans(),
    "nesterov": st.booleans(),
    "decay_norm_bias": st.booleans(),
    "momentum": st.sampled_from([0.0, 0.9]),
    "batch_size": st.sampled_from([8, 12, 34]),
    "epochs": st.integers(1, 4),
    "seed": st.integers(0, 2**63 - 1),
}
SLOW = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=8, **SLOW)
@given(st.fixed_dictionaries(OPTIONS))
def test_resumed_after_any_epoch_it_is_the_same_run_bit_for_bit(options):
    every_epoch(**options)


@pytest.mark.long
@settings(max_examples=100, **SLOW)
@given(st.fixed_dictionaries(OPTIONS))
def test_resumed_with_many_more_options(options):
    every_epoch(**options)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_resumed_with_each_optimizer_and_an_average(optimizer, precision):
    every_epoch(optimizer=optimizer, precision=precision, ema=0.9, accumulate=2)


def test_resumed_again_and_again(tmp_path, whole):
    for epoch in (1, 2, 3):
        stopped(tmp_path, epoch, resume=True)
    model = Net(seed=5)
    result = run(model, out=tmp_path, resume=True)
    assert result.resumed == [1, 2, 3]
    assert load_training(tmp_path / "last.pt")[2]["resumed"] == [1, 2, 3]
    as_whole(result, model, tmp_path, *whole)


def test_an_epoch_that_was_not_finished_is_done_again(tmp_path, whole):
    model, calls = Net(), iter(range(99))
    real = model.forward

    def broken_off(x):
        if next(calls) == 10:  # 3 steps and 2 to validate in each epoch: within the third
            raise Stop
        return real(x)

    model.forward = broken_off
    with pytest.raises(Stop):
        run(model, out=tmp_path)
    again = Net()
    result = run(again, out=tmp_path, resume=True)
    assert result.resumed == [2]
    as_whole(result, again, tmp_path, *whole)


# --- kill -9 at any moment

KILLED = replace(RECIPE, epochs=6, ema=0.9, optimizer="adamw")
FORKING = """
import os, sys, time
sys.path[:0] = sys.argv[3:]
import torch
import test_resume as t

torch.set_num_threads(1)
flush, rename = os.fsync, os.replace


def slowly(real):  # as a slow disk does it: more kills come in the middle of the writing
    def call(*args):
        time.sleep(0.002)
        return real(*args)

    return call


t.run(t.Net(), t.KILLED)  # what is imported late is imported now
os.fsync, os.replace = slowly(flush), slowly(rename)
print("ready", flush=True)
for _line in sys.stdin:  # a process for each kill, forked: importing torch anew takes seconds
    pid = os.fork()
    if pid == 0:
        t.run(t.Net(), t.KILLED, out=sys.argv[1], copy_to=sys.argv[2], resume=True)
        os._exit(0)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


def python(code: str, *argv) -> subprocess.Popen:
    return subprocess.Popen(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            code,
            *map(str, argv),
            str(ROOT),
            str(ROOT / "tests"),
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def copies_equal(out, copy) -> None:
    for name in ("last.pt", "best.pt", "history.json"):
        assert (out / name).read_bytes() == (copy / name).read_bytes(), name


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("runs", [1, pytest.param(12, marks=pytest.mark.long)])
def test_kill_9_at_any_moment(tmp_path, runs):
    chance, states, kills, late = random.Random(runs), set(), 0, 0
    for number in range(runs):
        out, copy = tmp_path / f"{number}", tmp_path / f"{number} copy"
        parent = python(FORKING, out, copy)
        try:
            assert parent.stdout.readline() == "ready\n"
            for attempt in range(200):
                parent.stdin.write("\n")
                parent.stdin.flush()
                pid = int(parent.stdout.readline())
                time.sleep(chance.uniform(0, 0.1 + 0.02 * attempt))  # longer, so that it ends
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                if (status := int(parent.stdout.readline())) == 0:
                    break
                assert status == signal.SIGKILL, "it failed by itself"
                kills += 1
                there = {p.name for p in out.iterdir()} if out.exists() else set()
                states.add("part" if any(n.endswith(".part") for n in there) else "whole")
                if "last.previous.pt" in there and "last.pt" not in there:
                    states.add("between")
            else:
                raise AssertionError("it never came to an end")
        finally:
            parent.kill()
            parent.wait()
            parent.stdin.close()
            parent.stdout.close()
        model = Net()
        result = run(model, KILLED, out=tmp_path / "whole")
        files_as_whole(out, tmp_path / "whole")
        copies_equal(out, copy)
        resumed = load_training(out / "last.pt")[2]["resumed"]
        assert resumed == sorted(resumed)
        late += bool(resumed)
        assert equal(load(out / "last.pt")[0], result.last)
    if runs > 1:  # one run may be lucky; so many may not
        assert kills >= 3 * runs and late >= runs / 2 and {"part", "between"} <= states, (
            kills,
            late,
            states,
        )


ONCE = """
import os, sys
sys.path[:0] = sys.argv[3:]
import torch
import test_resume as t

torch.set_num_threads(1)
t.run(t.Net(), t.KILLED)  # what is imported late is imported now
print("ready", flush=True)
t.run(t.Net(), t.KILLED, out=sys.argv[1], copy_to=sys.argv[2], resume=True)
os._exit(0)  # torch takes its time to leave
"""


@pytest.mark.long
def test_kill_9_of_processes_that_share_nothing(tmp_path):
    out, copy, chance = tmp_path / "run", tmp_path / "copy", random.Random(1)
    kills = 0
    for attempt in range(40):
        child = python(ONCE, out, copy)
        assert child.stdout.readline() == "ready\n"
        with suppress(subprocess.TimeoutExpired):
            child.wait(chance.uniform(0.02, 0.15 + 0.02 * attempt))
        child.kill()
        status = child.wait()
        child.stdin.close()
        child.stdout.close()
        if status == 0:
            break
        kills += 1
        if kills == 3:
            shutil.rmtree(out, ignore_errors=True)  # the machine is gone, the copy is not
    run(Net(), KILLED, out=tmp_path / "whole")
    assert status == 0 and kills
    files_as_whole(out, tmp_path / "whole")
    copies_equal(out, copy)


# --- files as a crash leaves them


@pytest.mark.parametrize("part", [None, "half", "whole"])
def test_a_crash_between_the_two_renames(tmp_path, part, whole):
    stopped(tmp_path / "next", 3)
    stopped(tmp_path / "run", 2)
    out = tmp_path / "run"
    os.replace(out / "last.pt", out / "last.previous.pt")
    new = (tmp_path / "next" / "last.pt").read_bytes()
    if part:
        beside = out / ".last.pt.4711.part"
        beside.write_bytes(new if part == "whole" else new[: len(new) // 2])
    model = Net(seed=5)
    with pytest.warns(UserWarning, match=re.escape(f"{out / 'last.pt'}: there is no")) as said:
        result = run(model, out=out, resume=True)
    assert f"Going on from {out / 'last.previous.pt'}" in str(said[0].message)
    assert result.resumed == [2]
    as_whole(result, model, out, *whole)
    assert sorted(p.name for p in out.iterdir()) == FILES  # nothing is left beside them


DAMAGES = ["cut", "flipped", "empty", "missing", "text"]


def damage(path: Path, kind: str) -> None:
    data = bytearray(path.read_bytes())
    if kind == "missing":
        path.unlink()
        return
    if kind == "flipped":  # in the optimiser's values, which `load` alone would not look at
        state = load_training(path)[2]["optimizer"]["state"]
        place = data.index(state[0]["momentum_buffer"].numpy().tobytes())
        data[place] ^= 4
    changed = {"cut": data[: len(data) // 2], "empty": b"", "text": b"<html>404</html>"}
    path.write_bytes(changed.get(kind, data))


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_named_and_the_one_before_is_used(tmp_path, kind, whole, monkeypatch):
    stopped(tmp_path, 3)
    damage(tmp_path / "last.pt", kind)
    real = os.replace

    def watched(old, new):
        if Path(new).name == "last.previous.pt":  # what is kept there must be of use
            load_training(old)
        return real(old, new)

    monkeypatch.setattr(os, "replace", watched)
    model = Net(seed=5)
    with pytest.warns(UserWarning, match=re.escape(f"{tmp_path / 'last.pt'}: ")) as said:
        result = run(model, out=tmp_path, resume=True)
    assert len(said) == 1
    assert f"Going on from {tmp_path / 'last.previous.pt'}" in str(said[0].message)
    assert result.resumed == [2]
    as_whole(result, model, tmp_path, *whole)


@pytest.mark.parametrize("kind", DAMAGES)
def test_if_no_file_can_be_read_all_are_named_and_none_is_touched(tmp_path, kind):
    out, copy = tmp_path / "run", tmp_path / "copy"
    stopped(out, 3, copy_to=copy)
    for folder in (out, copy):
        for name in ("last.pt", "last.previous.pt"):
            damage(folder / name, "cut" if (folder, name) == (out, "last.pt") else kind)
    before = contents(out), contents(copy)
    with pytest.raises(CheckpointError, match="no run can go on from here") as caught:
        run(Net(), out=out, copy_to=copy, resume=True)
    for name in ("last.pt", "last.previous.pt"):
        assert f"{out / name}: " in str(caught.value)
        assert kind == "missing" or f"{copy / name}: " in str(caught.value)
    assert (contents(out), contents(copy)) == before


def test_weights_alone_are_no_run_to_go_on_with(tmp_path):
    """A `last.pt` of before runs could be resumed."""
    checkpoint.save(tmp_path / "last.pt", Net().state_dict(), {"epoch": 1})
    with pytest.raises(CheckpointError, match=r"holds weights alone.*--init-from"):
        run(Net(), out=tmp_path, resume=True)


def test_nothing_there_begins_anew(tmp_path, whole):
    model = Net()
    result = run(model, out=tmp_path / "new", copy_to=tmp_path / "copy", resume=True)
    assert result.resumed == []
    as_whole(result, model, tmp_path / "new", *whole)


def test_a_run_that_was_finished_is_not_trained_again(tmp_path, whole):
    shutil.copytree(whole[2], tmp_path / "run")
    model, trained = Net(seed=5), []
    model.register_forward_hook(lambda m, _i, _o: trained.append(m.training))
    result = run(model, out=tmp_path / "run", resume=True)
    assert not trained and result.resumed == []
    assert result.history == whole[0].history  # the seconds too
    as_whole(result, model, tmp_path / "run", *whole)
    kept, new = contents(whole[2]), contents(tmp_path / "run")
    assert all(new[name] == kept[name] for name in FILES if name != "best.pt")


@pytest.mark.parametrize("epochs", [2, 4])
@pytest.mark.parametrize("gone", [("best.pt",), ("history.json", "best.pt"), ("history.json",)])
@pytest.mark.parametrize("how", ["missing", "older"])
def test_a_crash_between_the_files_is_repaired(tmp_path, epochs, gone, how, whole, monkeypatch):
    """`last.pt` is written first; here it is alone, or beside what belongs to an epoch before."""
    out = tmp_path / "run"
    stopped(out, 1)
    before = contents(out)
    stopped(out, epochs, resume=True)
    for name in gone:
        (out / name).unlink()
        if how == "older":
            (out / name).write_bytes(before[name])
    copy = tmp_path / "copy"
    seen = []

    class Enough(Exception):
        pass

    def first(*_args, **_kwargs):
        seen.append(contents(out))
        raise Enough

    if epochs < 4:
        monkeypatch.setattr(train, "_gradients", first)
        with pytest.raises(Enough):
            run(Net(), out=out, copy_to=copy, resume=True)
    else:
        run(Net(), out=out, copy_to=copy, resume=True)
    training = load_training(out / "last.pt")[2]
    state, meta = load(out / "best.pt")
    assert equal(state, training["best"]) and meta["epoch"] == training["best_epoch"]
    assert json.loads((out / "history.json").read_text()) == training["history"]
    assert len(training["history"]) == epochs
    copies_equal(out, copy)


# --- another configuration


@pytest.fixture(scope="module")
def colours():
    return Data("colours", ["red", "green", "blue"], split(40), split(12, seed=2), "made up")


TINY = {"widths": [2, 2, 4], "num_classes": 3}


def real_net(seed: int = 0):
    torch.manual_seed(seed)
    return create("resnet20", **TINY)


SHORT = replace(RECIPE, epochs=2)


def experiment(data, recipe=SHORT, net=None, **more):
    how = {"model": "resnet20", "options": TINY, "quiet": True} | more
    return fit_and_test(net or real_net(), data, recipe, **how)


@pytest.fixture(scope="module")
def half(colours, tmp_path_factory):
    """A folder with the first of two epochs of an experiment."""
    out = tmp_path_factory.mktemp("half")

    def stop(_result):
        raise Stop

    with suppress(Stop):
        experiment(colours, out=out, on_epoch=stop)
    return out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recipe": {"lr": 0.06}}, ["lr: 0.05 there, 0.06 now"]),
        ({"recipe": {"epochs": 3}}, ["epochs: 2 there, 3 now"]),
        (
            {"recipe": {"optimizer": "adam", "ema": 0.5, "milestones": (0.2,), "augment": ()}},
            [
                "augment: ('crop', 'flip') there, () now",
                "ema: 0.0 there, 0.5 now",
                "milestones: (0.5, 0.75) there, (0.2,) now",
                "optimizer: 'sgd' there, 'adam' now",
            ],
        ),
        ({"model": "resnet32"}, ["model: 'resnet20' there, 'resnet32' now"]),
        ({"options": TINY | {"shortcut": "B"}}, ["options: {"]),
        ({"data": "other"}, ["data_fingerprint: '", "mean: [", "std: ["]),
        ({"data": "renamed"}, ["data: 'colours' there, 'colors' now"]),
        ({"data": "classes"}, ["classes: ["]),
        ({"data": "fewer"}, ["data_fingerprint: '", "pictures: ["]),
        ({"init_from": True}, ["init_from: None there, '"]),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else None,
)
def test_another_configuration_is_refused_by_name(changes, words, half, colours, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(half, out)
    names = colours.classes
    other = {
        "other": Data("colours", names, split(40, seed=7), colours.test, "made up"),
        "renamed": Data("colors", names, colours.train, colours.test, "made up"),
        "classes": Data("colours", ["r", "g", "b"], colours.train, colours.test, "made up"),
        "fewer": Data("colours", names, split(36), colours.test, "made up"),
    }
    before = contents(out)
    recipe = replace(SHORT, **changes.get("recipe", {}))
    how = {k: v for k, v in changes.items() if k not in ("recipe", "data")}
    if "init_from" in how:
        checkpoint.save(tmp_path / "start.pt", real_net().state_dict(), {})
        how["init_from"] = tmp_path / "start.pt"
    data = other.get(changes.get("data"), colours)
    with pytest.raises(CheckpointError, match="has another configuration") as caught:
        experiment(data, recipe, out=out, resume=True, **how)
    text = str(caught.value)
    assert text.startswith(f"{out / 'last.pt'}: ") and f"--init-from {out / 'last.pt'}" in text
    lines = [line[2:] for line in text.splitlines() if line.startswith("  ")]
    for word in words:
        assert any(line.startswith(word) for line in lines), (word, text)
    if "recipe" in changes:
        assert lines == words
    assert contents(out) == before  # nothing was touched


def test_where_the_data_came_from_may_change(half, colours, tmp_path):
    shutil.copytree(half, tmp_path / "run")
    moved = Data("colours", colours.classes, colours.train, colours.test, "another address")
    result, _ = experiment(moved, out=tmp_path / "run", resume=True)
    assert result.resumed == [1]


def rewritten(path: Path, change) -> None:
    """The same file with another `meta`, checksum and all."""
    state, meta, training = load_training(path)
    change(meta)
    previous = previous_of(path)
    before = previous.read_bytes() if previous.exists() else None
    checkpoint.save(path, state, meta, training)
    previous.unlink() if before is None else previous.write_bytes(before)


NEW = ("optimizer", "decay_norm_bias", "milestones", "label_smoothing", "accumulate", "ema")


def test_a_file_from_before_a_field_existed_means_its_default(half, colours, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(half, out)
    rewritten(out / "last.pt", lambda m: [m["recipe"].pop(name) for name in (*NEW, "compile")])
    with pytest.raises(CheckpointError, match=r"ema: 0\.0 there, 0\.5 now"):
        experiment(colours, replace(SHORT, ema=0.5), out=out, resume=True)
    model, its = real_net(1), real_net()
    result, record = experiment(colours, net=model, out=out, resume=True)
    whole, its_record = experiment(colours, net=its, out=tmp_path / "whole")
    as_whole(result, model, out, whole, its, tmp_path / "whole")
    assert record["test"] == its_record["test"] and record["resumed"] == [1]


@pytest.mark.parametrize(
    ("name", "was"), [("threads", 64), ("torch", "2.0.0"), ("device", "CPU: abacus")]
)
def test_another_machine_is_warned_of_and_not_refused(name, was, half, colours, tmp_path):
    shutil.copytree(half, tmp_path / "run")
    rewritten(tmp_path / "run" / "last.pt", lambda m: m["made"].update({name: was}))
    now = records.made_on()[name]
    with pytest.warns(UserWarning, match="not bit for bit") as said:
        result, _ = experiment(colours, out=tmp_path / "run", resume=True)
    assert str(said[0].message).endswith(f"{name}: {was} before, {now} now")
    assert result.resumed == [1] and len(result.history) == 2


def test_more_threads_are_warned_of(tmp_path, monkeypatch):
    stopped(tmp_path, 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.warns(UserWarning, match="threads: 1 before, 2 now"):
        assert len(run(Net(), out=tmp_path, resume=True).history) == 4


def test_an_experiment_that_was_stopped_ends_with_the_same_record(half, colours, tmp_path):
    """And a finished one is tested anew, with the same answer, without training."""
    out = tmp_path / "run"
    shutil.copytree(half, out)
    _, record = experiment(colours, net=real_net(3), out=out, resume=True)
    _, its = experiment(colours, out=tmp_path / "whole")
    free = ("history", "seconds", "resumed", "peak_memory")
    assert {k: v for k, v in record.items() if k not in free} == {
        k: v for k, v in its.items() if k not in free
    }
    assert rows(record["history"]) == rows(its["history"]) and record["resumed"] == [1]
    (out / "record.json").unlink()
    _, again = experiment(colours, net=real_net(4), out=out, resume=True)
    assert again["test"] == its["test"] and again["history"] == record["history"]
    assert json.loads((out / "record.json").read_text())["test"] == its["test"]
    for name in ("best.pt", "last.pt"):
        opened = predict.open_net(out / name)
        assert opened.meta["classes"] == colours.classes and not opened.net.training
        assert predict.predict_pixels(opened, colours.test.x).shape == (12, 3)


def test_a_warm_start_is_resumed_with_the_same_start(colours, tmp_path):
    checkpoint.save(tmp_path / "start.pt", real_net(5).state_dict(), {})
    how = {"init_from": tmp_path / "start.pt", "out": tmp_path / "run"}

    def stop(_result):
        raise Stop

    with suppress(Stop):
        experiment(colours, on_epoch=stop, **how)
    with pytest.raises(CheckpointError, match=r"init_from: '\w+' there, None now"):
        experiment(colours, out=tmp_path / "run", resume=True)
    result, record = experiment(colours, resume=True, **how)
    assert result.resumed == [1]
    whole, _ = experiment(colours, **(how | {"out": tmp_path / "whole"}))
    assert equal(result.last, whole.last)
    assert record["init_from"] == checkpoint.fingerprint(load(tmp_path / "start.pt")[0])


# --- the second folder


def test_the_copies_are_equal_byte_for_byte(tmp_path, colours):
    out, copy = tmp_path / "run", tmp_path / "deep" / "copy"
    seen = []

    def compare(_result):
        mine, its = contents(out), contents(copy)
        assert mine == its
        seen.append(sorted(mine))

    experiment(colours, replace(SHORT, epochs=3), out=out, copy_to=copy, on_epoch=compare)
    assert seen == [[n for n in FILES if n != "last.previous.pt"], FILES, FILES]
    assert contents(out) == contents(copy) and (copy / "record.json").is_file()


@pytest.mark.parametrize("kind", ["a file in the way", "below a file", "read-only", "full"])
def test_a_copy_that_fails_is_warned_of_and_training_goes_on(tmp_path, kind, monkeypatch, whole):
    copy = tmp_path / "copy"
    if kind == "a file in the way":
        copy.write_text("my notes")
    elif kind == "below a file":
        copy.write_text("my notes")
        copy = copy / "folder"
    elif kind == "read-only":
        if not hasattr(os, "geteuid") or os.geteuid() == 0:
            pytest.skip("no permission stops this user")
        copy.mkdir(mode=0o500)
    else:
        real = checkpoint.write_atomic

        def full(path, *args):
            if Path(path).parent == copy:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(path, *args)

        monkeypatch.setattr(checkpoint, "write_atomic", full)
    out, model = tmp_path / "run", Net()
    with pytest.warns(UserWarning, match=re.escape(f"the copy to {copy} failed")) as said:
        result = run(model, out=out, copy_to=copy)
    assert all("training goes on" in str(w.message) for w in said)
    as_whole(result, model, out, *whole)
    if kind == "a file in the way":
        assert copy.read_text() == "my notes"


def scored(monkeypatch, *accuracies) -> None:
    """Validation says what the test wants."""
    real, scores = train.evaluate, iter(accuracies)
    monkeypatch.setattr(
        train, "evaluate", lambda *a, **k: replace(real(*a, **k), accuracy=next(scores))
    )


def test_a_copy_that_failed_for_a_while_is_made_good(tmp_path, monkeypatch):
    """The best epoch was the first; its copy failed, and no later epoch is as good."""
    out, copy = tmp_path / "run", tmp_path / "copy"
    copy.write_text("in the way")
    scored(monkeypatch, 90.0, 30.0, 40.0, 50.0)

    def after(result):
        if len(result.history) == 2:
            copy.unlink()

    with pytest.warns(UserWarning, match="failed"):
        result = run(Net(), out=out, copy_to=copy, on_epoch=after)
    assert result.best_epoch == 1 and equal(load(copy / "best.pt")[0], result.best)
    assert contents(out) == contents(copy)


@pytest.mark.parametrize("epochs", [1, 3, 4])
def test_the_machine_is_gone_and_the_copy_is_not(tmp_path, epochs, whole):
    """A notebook in the cloud: its disk is a new one, the mounted folder the old."""
    out, copy = tmp_path / "run", tmp_path / "copy"
    stopped(out, epochs, copy_to=copy)
    shutil.rmtree(out)
    model = Net(seed=5)
    result = run(model, out=out, copy_to=copy, resume=True)
    assert result.resumed == ([epochs] if epochs < 4 else [])
    as_whole(result, model, out, *whole)
    copies_equal(out, copy)


@pytest.mark.parametrize("further", ["out", "copy", "out, before", "both"])
def test_the_further_of_both_folders_counts(tmp_path, further, whole):
    out, copy = tmp_path / "run", tmp_path / "copy"
    stopped(out, 3 if further != "copy" else 1)
    stopped(copy, 3 if further in ("copy", "both") else 1)
    if further == "out, before":  # its last.pt is gone: the one before is still further
        stopped(out, 3)
        (out / "last.pt").unlink()
    model = Net(seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if further == "out, before" else "error")
        result = run(model, out=out, copy_to=copy, resume=True)
    assert result.resumed == [2 if further == "out, before" else 3]
    as_whole(result, model, out, *whole)
    copies_equal(out, copy)


def test_a_broken_file_here_and_a_whole_one_there(tmp_path, whole):
    out, copy = tmp_path / "run", tmp_path / "copy"
    stopped(out, 3, copy_to=copy)
    damage(out / "last.pt", "cut")
    model = Net(seed=5)
    with pytest.warns(UserWarning) as said:  # the message names the file that is really used
        result = run(model, out=out, copy_to=copy, resume=True)
    assert f"Going on from {copy / 'last.pt'}" in str(said[0].message)
    assert result.resumed == [3]
    as_whole(result, model, out, *whole)


def test_a_home_folder_is_found_by_its_short_name(tmp_path, monkeypatch, colours):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    experiment(colours, out="~/run", copy_to=Path("~/copy"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "run"]
    assert sorted(contents("run")) == sorted([*FILES, "record.json"])
    assert contents("run") == contents("copy")


def test_copies_need_a_folder_of_the_run(tmp_path):
    for more in ({"copy_to": tmp_path}, {"resume": True}):
        with pytest.raises(ValueError, match="need out="):
            run(Net(), **more)


# --- a full disk, a loss that is no number


@pytest.mark.parametrize("name", ["fsync", "replace"])
@pytest.mark.parametrize("call", range(5))
def test_a_full_disk_keeps_the_old_files(tmp_path, name, call, whole, monkeypatch):
    """In the third epoch, at each place where something is written, the disk is full."""
    out = tmp_path / "run"
    stopped(out, 2)
    before, calls, real = contents(out), [], getattr(os, name)

    def full(*args):
        calls.append(args)
        if len(calls) == call + 1 + skipped:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)

    skipped = 2  # history.json and best.pt, as the run is taken up
    with monkeypatch.context() as patch:
        patch.setattr(os, name, full)
        with suppress(OSError):
            stopped(out, 3, resume=True)
    if call == 0 or (name, call) == ("replace", 1):  # last.pt, or its second rename
        assert (out / "last.pt").read_bytes() == before["last.pt"]
        assert (out / "history.json").read_bytes() == before["history.json"]
    assert not [p.name for p in out.iterdir() if p.name.endswith(".part")]
    assert len(load_training(out / "last.pt")[2]["history"]) in (2, 3)
    model = Net(seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no file is broken, so nothing is to be said
        result = run(model, out=out, resume=True)
    as_whole(result, model, out, *whole)


def test_a_loss_that_is_no_number_leaves_the_files_to_go_on_from(tmp_path, whole):
    stopped(tmp_path, 2)
    before = contents(tmp_path)
    model = Net()
    real = model.forward
    model.forward = lambda x: real(x) * float("nan")
    with pytest.raises(TrainingError, match=r"epoch 3.*weights of epoch 2 again.*is kept in"):
        run(model, out=tmp_path, resume=True)
    after = contents(tmp_path)
    assert {n: after[n] for n in FILES if n != "best.pt"} == {
        n: before[n] for n in FILES if n != "best.pt"
    }
    assert equal(checkpoint.snapshot(model), load(tmp_path / "last.pt")[0])
    again = Net()
    as_whole(run(again, out=tmp_path, resume=True), again, tmp_path, *whole)


# --- what is in the file


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_file_holds_plain_things_only(tmp_path, optimizer):
    recipe = replace(SHORT, optimizer=optimizer, ema=0.9, precision="fp16", decay_norm_bias=False)
    run(Net(), recipe, out=tmp_path)

    def walk(value):
        if isinstance(value, dict):
            assert type(value) is dict
            for key, inner in value.items():
                assert type(key) in (str, int)
                walk(inner)
        elif isinstance(value, (list, tuple)):
            assert type(value) in (list, tuple)
            for inner in value:
                walk(inner)
        else:
            assert value is None or type(value) in (bool, int, float, str, torch.Tensor)
            assert not isinstance(value, torch.Tensor) or value.device.type == "cpu"

    for name in ("last.pt", "last.previous.pt", "best.pt"):
        content = torch.load(tmp_path / name, weights_only=True)
        walk(content)
        assert set(content) >= {"state", "meta", "sha256"}
        assert ("training" in content) == (name != "best.pt")


def test_meta_says_what_a_file_is(tmp_path):
    run(Net(), SHORT, out=tmp_path, meta={"note": "mine"})
    for name, epoch in (("last.pt", 2), ("last.previous.pt", 1)):
        _, meta, training = load_training(tmp_path / name)
        assert meta["note"] == "mine" and meta["epoch"] == epoch == len(training["history"])
        assert meta["recipe"] == json.loads(json.dumps(asdict(SHORT)))
        assert meta["made"] == records.made_on() and meta["pictures"] == [34, 15]
    assert run_state.LAST == "last.pt"
