"""The loop: schedules against closed forms, one step by hand, and what it must never do."""

import inspect
import json
import math
import os
import shutil
import sys
import sysconfig
from dataclasses import asdict, fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from resnet_lib import checkpoint, create, records, train
from resnet_lib.checkpoint import CheckpointError
from resnet_lib.data import Data, Loader, Split, split_validation
from resnet_lib.recipe import differences, from_plain
from resnet_lib.train import Recipe, TrainingError, evaluate, fit, fit_and_test, learning_rate

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
TINY = {"widths": [4, 4, 8], "num_classes": 3}
QUICK = Recipe(epochs=2, batch_size=16, lr=0.05, augment=(), warmup=0.1)


def split(count: int, seed: int = 0) -> Split:
    """Three classes told apart by their colour: red, green or blue is bright."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    x = torch.randint(0, 120, (count, 3, 8, 8), generator=generator)
    x[torch.arange(count), y] += 100
    return Split(x.to(torch.uint8), y)


@pytest.fixture(scope="module")
def parts():
    return split(60), split(21, seed=1)


@pytest.fixture(scope="module")
def colours():
    return Data("colours", ["red", "green", "blue"], split(60), split(30, seed=2), "made up")


def net(seed: int = 0, **options) -> nn.Module:
    torch.manual_seed(seed)
    return create("resnet20", **(TINY | options))


class Linear(nn.Module):
    """No BN: a loss that can be written down."""

    def __init__(self, classes: int = 3):
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(3 * 8 * 8, classes)

    def forward(self, x):
        return self.fc(x.flatten(1))


def run(model, parts, recipe=QUICK, **more):
    return fit(model, *parts, recipe, mean=MEAN, std=STD, quiet=True, **more)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# --- the learning rate


STEPS = st.integers(1, 400)
WARM = st.floats(0, 0.9)
SCHEDULE = st.sampled_from(train.SCHEDULES)


@given(SCHEDULE, STEPS, WARM)
def test_warm_up_rises_on_a_straight_line_to_the_peak(schedule, steps, warmup):
    recipe = Recipe(lr=0.3, schedule=schedule, warmup=warmup)
    warm = warmup * steps
    for step in range(math.ceil(warm)):
        # From 0 before the first step to lr where the other part begins: equal strides.
        assert learning_rate(recipe, step, steps) == pytest.approx(0.3 * (step + 1) / (warm + 1))
    rates = [learning_rate(recipe, s, steps) for s in range(steps)]
    assert all(0 < rate <= 0.3 + 1e-12 for rate in rates)


@given(st.sampled_from(["one-cycle", "cosine"]), STEPS, WARM)
def test_falling_schedules_against_their_closed_forms(schedule, steps, warmup):
    recipe = Recipe(lr=0.3, schedule=schedule, warmup=warmup)
    warm = warmup * steps
    for step in range(math.ceil(warm), steps):
        t = (step - warm) / (steps - warm) if steps - warm > 1 else step - warm
        wanted = {"one-cycle": 1 - t, "cosine": math.cos(math.pi * t / 2) ** 2}[schedule]
        assert learning_rate(recipe, step, steps) == pytest.approx(0.3 * wanted, abs=1e-12)


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.25])
def test_peak_end_and_continuity(schedule, warmup):
    recipe = Recipe(lr=0.3, schedule=schedule, warmup=warmup)
    steps = 1000
    rates = [learning_rate(recipe, s, steps) for s in range(steps + 1)]
    assert rates[int(warmup * steps)] == pytest.approx(0.3)  # the peak, where warm-up ends
    assert max(rates) == pytest.approx(0.3) and rates[-1] == pytest.approx(0, abs=1e-12)
    jumps = [abs(b - a) for a, b in pairwise(rates)]
    assert max(jumps) < 0.3 * 1.6 / (steps * min(warmup or 1, 1 - warmup))
    after = rates[int(warmup * steps) :]
    assert after == sorted(after, reverse=True)


def test_step_schedule_divides_at_half_and_at_three_quarters():
    recipe = Recipe(lr=0.1, schedule="step", warmup=0)
    rates = [learning_rate(recipe, s, 100) for s in range(100)]
    assert rates == pytest.approx([0.1] * 50 + [0.01] * 25 + [0.001] * 25)


def test_constant_stays():
    recipe = Recipe(lr=0.1, schedule="constant", warmup=0)
    assert {learning_rate(recipe, s, 37) for s in range(37)} == {0.1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"lr": 0},
        {"lr": -0.1},
        {"lr": math.nan},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"weight_decay": -1e-4},
        {"schedule": "cosinus"},
        {"warmup": 1.0},
        {"warmup": -0.1},
        {"valid": 0.0},
        {"valid": 1.0},
        {"precision": "fp8"},
        {"augment": ("rotate",)},
        {"augment": "flip"},  # a string is no tuple of names
    ],
    ids=str,
)
def test_a_recipe_refuses_nonsense_and_names_the_field(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError) as caught:
        Recipe(**wrong)
    assert str(caught.value).startswith(f"{name}={value!r}: must be ")


# --- fit


def test_fit_learns(parts):
    result = run(net(), parts, replace(QUICK, epochs=4))
    losses = [row["train_loss"] for row in result.history]
    assert losses[-1] < 0.5 * losses[0]
    assert result.history[-1]["valid_accuracy"] > 80  # chance is 33 %


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_two_steps_equal_sgd_by_hand(parts, nesterov, decay):
    """The textbook update with momentum, written out on a net without BN."""
    recipe = replace(
        QUICK, epochs=1, batch_size=30, momentum=0.8, nesterov=nesterov, weight_decay=decay
    )
    model, byhand = Linear(), Linear()
    run(model, parts, recipe)

    batches = list(Loader(parts[0], 30, mean=MEAN, std=STD, shuffle=True, seed=0).epoch(1))
    assert len(batches) == 2
    velocity = [torch.zeros_like(p) for p in byhand.parameters()]
    for step, (x, y) in enumerate(batches):
        gradients = torch.autograd.grad(F.cross_entropy(byhand(x), y), list(byhand.parameters()))
        with torch.no_grad():
            for p, v, g in zip(byhand.parameters(), velocity, gradients, strict=True):
                g = g + decay * p
                v.mul_(0.8).add_(g)
                p -= learning_rate(recipe, step, 2) * (g + 0.8 * v if nesterov else v)
    for a, b in zip(model.parameters(), byhand.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_same_seed_same_bits_and_another_seed_another_net(parts):
    recipe = replace(QUICK, augment=("crop", "flip"))
    first, again = (run(net(), parts, recipe) for _ in range(2))
    assert same(first.last, again.last) and same(first.best, again.best)
    rows = [
        [{k: v for k, v in r.items() if k != "seconds"} for r in f.history] for f in (first, again)
    ]
    assert rows[0] == rows[1]
    other = run(net(), parts, replace(recipe, seed=1))  # same weights, another order
    assert not same(first.last, other.last)


def test_best_and_last_are_apart(parts, monkeypatch):
    """Epoch 2 of 3 is made the best; later training must not reach into its weights."""
    real, scores, seen = train.evaluate, iter([30.0, 90.0, 60.0]), []

    def scored(model, *args, **kwargs):
        seen.append(checkpoint.snapshot(model))
        return replace(real(model, *args, **kwargs), accuracy=next(scores))

    monkeypatch.setattr(train, "evaluate", scored)
    model = net()
    result = run(model, parts, replace(QUICK, epochs=3))
    assert result.best_epoch == 2
    assert same(result.best, seen[1]) and same(result.last, seen[2])
    assert not same(result.best, result.last)
    assert same(result.last, checkpoint.snapshot(model))  # the net ends with the last weights


def test_best_and_last_are_apart_even_if_the_last_epoch_is_the_best(parts):
    result = run(net(), parts, replace(QUICK, epochs=1))
    kept = result.best["fc.weight"].clone()
    result.last["fc.weight"].zero_()
    assert torch.equal(result.best["fc.weight"], kept)


def test_the_best_weights_give_the_recorded_validation_numbers(parts):
    model = net()
    result = run(model, parts, replace(QUICK, epochs=3))
    best = max(r["valid_accuracy"] for r in result.history)
    row = result.history[result.best_epoch - 1]
    assert row["valid_accuracy"] == best
    fresh = net(seed=5)
    fresh.load_state_dict(result.best)
    found = evaluate(fresh, parts[1], mean=MEAN, std=STD, batch_size=QUICK.batch_size)
    assert (found.loss, found.accuracy) == (row["valid_loss"], row["valid_accuracy"])


def test_fit_has_no_way_to_the_test_set():
    names = list(inspect.signature(fit).parameters)
    assert names[:4] == ["net", "train", "valid", "recipe"]
    assert not any("test" in name or name == "data" for name in names)


def test_the_test_set_is_used_once_for_each_weights_and_after_training(colours, monkeypatch):
    calls = []
    real_fit, real_evaluate = train.fit, train.evaluate

    def spy_fit(model, *args, **kwargs):
        calls.append("fit begins")
        try:
            return real_fit(model, *args, **kwargs)
        finally:
            calls.append("fit ends")

    def spy(model, part, **kwargs):
        calls.append(("test" if part is colours.test else "other", checkpoint.snapshot(model)))
        found = real_evaluate(model, part, **kwargs)
        if part is colours.test:
            return found
        return replace(found, accuracy=90.0 if len(calls) == 2 else 30.0)  # epoch 1 is the best

    monkeypatch.setattr(train, "fit", spy_fit)
    monkeypatch.setattr(train, "evaluate", spy)
    result, record = fit_and_test(net(), colours, QUICK, model="resnet20", quiet=True)
    end = calls.index("fit ends")
    assert all(c[0] != "test" for c in calls[:end] if isinstance(c, tuple))
    after = calls[end + 1 :]
    assert [c[0] for c in after] == ["test", "test"]
    assert result.best_epoch == 1 and not same(result.best, result.last)
    assert same(after[0][1], result.best) and same(after[1][1], result.last)
    assert record["test"]["pictures"] == 30


class Still(nn.Module):
    """Training does not change it: logits are the mean colours, times one weight that is 0."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x.mean((2, 3)) + 0 * self.weight


@pytest.mark.parametrize("batch_size", [7, 16, 60])
def test_running_means_count_each_picture_once(parts, batch_size):
    """60 pictures in batches of 7 or 16: the last batch is short and must not weigh more."""
    result = run(Still(), parts, replace(QUICK, epochs=1, batch_size=batch_size))
    whole = evaluate(Still(), parts[0], mean=MEAN, std=STD)
    assert result.history[0]["train_loss"] == pytest.approx(whole.loss, rel=1e-5)
    assert result.history[0]["train_accuracy"] == pytest.approx(whole.accuracy)


def test_bfloat16_runs_and_learns(parts):
    result = run(net(), parts, replace(QUICK, precision="bf16"))
    assert result.last["fc.weight"].dtype == torch.float32  # weights stay in full precision
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    full = run(net(), parts)
    assert not same(full.last, result.last)  # it really computed in another precision


def test_channels_last_changes_the_layout_not_the_result(parts):
    recipe = replace(QUICK, epochs=1)
    plain = run(net(), parts, recipe)
    model = net()
    other = run(model, parts, replace(recipe, channels_last=True))
    assert model.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    for key in plain.last:
        torch.testing.assert_close(plain.last[key], other.last[key], rtol=1e-3, atol=1e-4)


# --- what goes wrong


def test_a_loss_that_is_not_finite_stops_and_keeps_what_was_good(parts, tmp_path):
    model = net()
    recipe = replace(QUICK, epochs=3, batch_size=20, schedule="constant", warmup=0)
    real = model.forward
    calls = iter(range(10**6))

    def spoiled(x):  # the second batch of epoch 2: 3 + 2 (validation) + 1 calls later
        return real(x) * (math.nan if next(calls) == 6 else 1)

    model.forward = spoiled
    with pytest.raises(TrainingError) as caught:
        run(model, parts, recipe, out=tmp_path)
    text = str(caught.value)
    assert "became nan at step 4 (epoch 2, learning rate 0.05)" in text
    assert "a tenth of it" in text and f"kept in {tmp_path}" in text
    for name in ("last.pt", "best.pt"):
        state, meta = checkpoint.load(tmp_path / name)
        assert meta["epoch"] == 1 and all(v.isfinite().all() for v in state.values())
        net(seed=3).load_state_dict(state)
    assert [row["epoch"] for row in json.loads((tmp_path / "history.json").read_text())] == [1]


def test_a_last_step_that_spoils_the_weights_is_noticed(parts, tmp_path):
    """The loss of the only step is finite, and the step throws the weights to infinity."""
    recipe = replace(QUICK, epochs=1, batch_size=60, lr=1e38, warmup=0, schedule="constant")
    with pytest.raises(TrainingError, match="at step 1") as caught:
        run(net(), parts, recipe, out=tmp_path)
    assert "kept in" not in str(caught.value)  # nothing was saved that could be kept
    assert not list(tmp_path.iterdir())


def test_a_label_too_high_is_refused_before_the_first_step(parts):
    model = net(num_classes=2)
    before = checkpoint.snapshot(model)
    with pytest.raises(ValueError, match="label 2 does not fit a net with 2 classes"):
        run(model, parts)
    after = checkpoint.snapshot(model)
    assert all(torch.equal(before[n], after[n]) for n, _ in model.named_parameters())


def test_too_little_memory_is_explained(parts):
    class Large(Linear):
        def forward(self, x):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    with pytest.raises(TrainingError, match=r"batch_size=16; try 8"):
        run(Large(), parts)


# --- evaluate


def test_evaluate_does_not_depend_on_the_batch_size(parts):
    model = net()
    found = [evaluate(model, parts[0], mean=MEAN, std=STD, batch_size=b) for b in (1, 7, 60, 999)]
    for other in found[1:]:
        assert other.loss == pytest.approx(found[0].loss, rel=1e-5)
        assert other.accuracy == found[0].accuracy and other.total == 60
        assert torch.equal(other.predicted, found[0].predicted)
        torch.testing.assert_close(other.probability, found[0].probability)


def test_evaluate_against_a_plain_calculation(parts):
    model = net().eval()
    x = (parts[0].x.float() / 255 - 0.5) / 0.25
    with torch.no_grad():
        logits = model(x)
    found = evaluate(model, parts[0], mean=MEAN, std=STD)
    assert found.loss == pytest.approx(F.cross_entropy(logits, parts[0].y).item(), rel=1e-5)
    assert torch.equal(found.predicted, logits.argmax(1))
    torch.testing.assert_close(found.probability, logits.softmax(1).max(1).values)
    right = (logits.argmax(1) == parts[0].y).sum().item()
    assert found.accuracy == pytest.approx(100 * right / 60)


@pytest.mark.parametrize("mode", [True, False])
def test_evaluate_puts_the_mode_back_and_changes_nothing(parts, mode):
    model = net().train(mode)
    before = checkpoint.snapshot(model)
    evaluate(model, parts[0], mean=MEAN, std=STD)
    assert model.training is mode and model.bn1.training is mode
    assert same(before, checkpoint.snapshot(model))
    bad = Split(parts[0].x, parts[0].y + 1)
    with pytest.raises(ValueError, match="label 3 does not fit a net with 3 classes"):
        evaluate(model, bad, mean=MEAN, std=STD)
    assert model.training is mode


@pytest.mark.parametrize("label", [3, -1, -100])
def test_a_wrong_label_is_named(parts, label):
    """-100 is the worst: cross_entropy leaves such a picture out without a word."""
    y = parts[0].y.clone()
    y[10] = label
    with pytest.raises(ValueError, match=f"label {label} does not fit a net with 3 classes"):
        evaluate(net(), Split(parts[0].x, y), mean=MEAN, std=STD)


# --- the record


def test_the_record_is_complete_and_plain(colours, tmp_path):
    model = net()
    seen = []
    result, record = fit_and_test(
        model,
        colours,
        QUICK,
        model="resnet20",
        options=TINY,
        out=tmp_path,
        on_epoch=lambda r: seen.append(len(r.history)),
        quiet=True,
    )
    assert seen == [1, 2]
    written = json.loads((tmp_path / "record.json").read_text(), parse_constant=pytest.fail)
    assert written == json.loads(json.dumps(record))
    assert written == records.read(tmp_path / "record.json")
    assert written["model"] == "resnet20" and written["options"] == TINY
    assert written["data"] == "colours" and written["data_fingerprint"] == colours.fingerprint
    assert written["classes"] == colours.classes and written["shape"] == [3, 8, 8]
    train_part, valid_part = split_validation(colours.train, QUICK.valid, QUICK.seed)
    counted = written["train_pictures"], written["valid_pictures"]
    assert counted == (len(train_part), len(valid_part)) and sum(counted) == 60
    assert from_plain(written["recipe"]) == QUICK
    assert [row["epoch"] for row in written["history"]] == [1, 2]
    keys = [
        "epoch",
        "lr",
        "train_loss",
        "train_accuracy",
        "valid_loss",
        "valid_accuracy",
        "seconds",
    ]
    assert all(list(row) == keys for row in written["history"])
    assert written["seconds"] > 0 and written["peak_memory"] > 1e6
    made = written["provenance"]
    assert made["resnet_lib"] == records.source_hash() and made["torch"] == torch.__version__
    assert made["device"].startswith("CPU: ") and made["threads"] == torch.get_num_threads()
    for which, state in (("best", result.best), ("last", result.last)):
        model.load_state_dict(state)
        found = evaluate(model, colours.test, mean=colours.mean, std=colours.std)
        wanted = {"loss": found.loss, "accuracy": found.accuracy}
        assert written["test"][which] == pytest.approx(wanted)
    assert json.loads((tmp_path / "history.json").read_text()) == written["history"]
    saved, meta = checkpoint.load(tmp_path / "best.pt")
    assert same(saved, result.best) and meta["epoch"] == result.best_epoch
    assert meta["recipe"]["batch_size"] == 16 and meta["classes"] == colours.classes


def test_progress_is_one_line_an_epoch(parts, capsys):
    fit(net(), *parts, replace(QUICK, epochs=1), mean=MEAN, std=STD)
    out = capsys.readouterr().out
    assert out.startswith("epoch  1/1  lr 0.") and out.count("\n") == 1
    assert "train " in out and "valid " in out and len(out) <= 80


@pytest.mark.parametrize(("pieces", "most"), [(1, 8), (2, 4), (3, 3), (4, 2)])
def test_evaluation_takes_no_more_memory_than_a_training_step(parts, pieces, most):
    """The biggest batch that the net ever sees is a part of the recipe's, also when measured."""
    model, sizes = Linear(), []
    model.register_forward_pre_hook(lambda _m, inputs: sizes.append(len(inputs[0])))
    run(model, parts, replace(QUICK, epochs=1, batch_size=8, accumulate=pieces))
    assert max(sizes) == most


def test_a_net_that_blew_up_gets_its_last_whole_epoch_back(parts):
    """Without a folder too: the reader's hour of finite epochs is not lost."""
    model = net()
    real = model.forward
    model.forward = lambda x: real(x) * (math.nan if seen else 1)
    seen = []
    kept = {}

    def after(result):
        kept.update(result.last)
        seen.append(1)  # from now on every loss is NaN

    with pytest.raises(TrainingError, match="has the weights of epoch 1 again"):
        run(model, parts, replace(QUICK, epochs=3), on_epoch=after)
    assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())


# --- each option against a calculation of its own


class Small(nn.Module):
    """One of each kind of weight: convolution, BN's scale and shift, matrix, bias."""

    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)
        with torch.no_grad():
            self.bn.weight.uniform_(0.5, 1.5)  # so that decay would be seen
            self.bn.bias.uniform_(-0.5, 0.5)

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).relu().mean((2, 3)))


ONE = replace(QUICK, epochs=1, batch_size=60, warmup=0, schedule="constant")  # one step


def batches(parts, recipe, epoch: int = 1):
    how = {"shuffle": True, "seed": recipe.seed, "augment": recipe.augment}
    return list(Loader(parts[0], recipe.batch_size, mean=MEAN, std=STD, **how).epoch(epoch))


def gradients(model, x, y, **how) -> list[torch.Tensor]:
    model.train()
    return list(torch.autograd.grad(F.cross_entropy(model(x), y, **how), list(model.parameters())))


@torch.no_grad()
def by_hand(weights, grads, memory, recipe, lr, decay):
    """One textbook step of each optimiser; `decay` holds a number for each weight."""
    memory.setdefault("t", 0)
    memory["t"] += 1
    t, beta = memory["t"], recipe.momentum
    for k, (w, g, d) in enumerate(zip(weights, grads, decay, strict=True)):
        m, v = memory.setdefault(k, (torch.zeros_like(w), torch.zeros_like(w)))
        if recipe.optimizer == "adamw":  # Loshchilov and Hutter 2019, algorithm 2, line 12
            w.mul_(1 - lr * d)
        else:
            g = g + d * w
        if recipe.optimizer == "sgd":
            m.mul_(beta).add_(g)
            w -= lr * (g + beta * m if recipe.nesterov else m)
        else:  # Kingma and Ba 2015, algorithm 1
            m.mul_(beta).add_((1 - beta) * g)
            v.mul_(0.999).add_(0.001 * g * g)
            w -= lr * (m / (1 - beta**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("spared", [False, True])
def test_three_steps_of_every_optimizer_by_hand(parts, optimizer, spared):
    recipe = replace(ONE, batch_size=20, optimizer=optimizer, momentum=0.8, lr=0.03)
    recipe = replace(recipe, weight_decay=0.3, decay_norm_bias=not spared, nesterov=spared)
    model, other = Small(), Small()
    run(model, parts, recipe)
    weights, memory = list(other.parameters()), {}
    decay = [0.0 if spared and w.dim() == 1 else 0.3 for w in weights]
    for x, y in batches(parts, recipe):
        by_hand(weights, gradients(other, x, y), memory, recipe, 0.03, decay)
    for (name, a), b in zip(model.named_parameters(), weights, strict=True):
        if name == "conv.bias":  # BN takes it out again: its gradient is rounding, Adam's food
            continue
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_spared_weights_do_not_move_at_all_without_a_gradient(parts, optimizer):
    """The loss is 0 * everything: only the decay can move a weight, and only where it may."""

    class Blind(Small):
        def forward(self, x):
            return super().forward(x) * 0

    for spared in (False, True):
        model, before = Blind(), dict(Small().named_parameters())
        recipe = replace(ONE, optimizer=optimizer, weight_decay=0.1, momentum=0)
        run(model, parts, replace(recipe, decay_norm_bias=not spared))
        for name, weight in model.named_parameters():
            still = torch.equal(weight, before[name])
            assert still == (spared and name not in ("conv.weight", "fc.weight")), name
            if not still and optimizer != "adam":  # decay alone: w - lr * d * w
                torch.testing.assert_close(weight, before[name] * (1 - 0.05 * 0.1))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_label_smoothing_against_its_closed_form(parts, share):
    """Szegedy 2016: the target is (1 - share) for the label, plus share / 3 for each class."""
    recipe = replace(ONE, label_smoothing=share)
    model, other = Small(), Small()
    result = run(model, parts, recipe)
    ((x, y),) = batches(parts, recipe)
    target = (1 - share) * F.one_hot(y, 3) + share / 3
    loss = -(target * other(x).log_softmax(1)).sum(1).mean()
    assert result.history[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()
    with torch.no_grad():
        for w in other.parameters():
            g = w.grad + recipe.weight_decay * w
            w -= 0.05 * (g + 0.9 * g)  # the first step of Nesterov's momentum
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    plain = evaluate(model, parts[1], mean=MEAN, std=STD)  # never smoothed
    assert result.history[0]["valid_loss"] == pytest.approx(plain.loss)


@pytest.mark.parametrize("pieces", [2, 3, 7, 25])
def test_accumulated_parts_are_one_batch_for_a_net_without_batch_statistics(parts, pieces):
    """60 pictures in batches of 50: the last one, of 10, has at most 5 parts."""
    recipe = replace(ONE, batch_size=50, label_smoothing=0.1)
    whole, inparts = Linear(), Linear()
    a = run(whole, parts, recipe)
    b = run(inparts, parts, replace(recipe, accumulate=pieces))
    for one, two in zip(whole.parameters(), inparts.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
    for key in ("train_loss", "train_accuracy"):
        assert a.history[0][key] == pytest.approx(b.history[0][key], rel=1e-5)


@given(st.integers(2, 50), st.integers(1, 25))
def test_a_part_is_never_one_picture_and_never_larger_than_measured(count, pieces):
    sizes = []

    def forward(x):
        sizes.append(len(x))
        return weight * x

    weight = torch.ones(1, requires_grad=True)
    x, y = torch.ones(count, 3), torch.zeros(count, dtype=torch.long)
    recipe = Recipe(batch_size=50, accumulate=pieces)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    how = (torch.optim.SGD([weight]), scaler, recipe, None)
    mean, right = train._gradients(forward, x, y, *how)
    assert sum(sizes) == count and min(sizes) >= 2 and len(sizes) <= pieces
    assert max(sizes) - min(sizes) <= 1
    if count == 50:
        assert max(sizes) == train._measured_as(recipe)["batch_size"]
    assert mean.item() == pytest.approx(math.log(3)) and right.item() == count


def test_accumulation_uses_the_statistics_of_each_part(parts):
    """60 pictures in 3 parts: the running mean of BN moves three times, by a tenth of each."""
    recipe = replace(ONE, accumulate=3)
    model, other = Small(), Small()
    run(model, parts, recipe)
    ((x, _y),) = batches(parts, recipe)
    wanted = torch.zeros(4)
    for part in x.tensor_split(3):
        with torch.no_grad():
            wanted = 0.9 * wanted + 0.1 * other.conv(part).mean((0, 2, 3))
    torch.testing.assert_close(model.bn.running_mean, wanted, rtol=1e-4, atol=1e-6)
    assert model.bn.num_batches_tracked == 3
    whole = Small()
    run(whole, parts, ONE)
    assert not torch.allclose(whole.bn.running_mean, wanted, rtol=1e-3)


@pytest.mark.parametrize("decay", [0.15, 0.999])
def test_the_moving_average_of_three_steps_by_hand(parts, decay):
    """Its decay is warmed up: 1/10, 2/11, 3/12, ... up to the one that was asked for."""
    recipe = replace(ONE, batch_size=20, ema=decay)
    model, plain, seen = Small(), Small(), []
    plain_weights = []
    real = Small.forward

    def forward(self, x):  # the weights at the start of each step
        if self is plain and self.training:
            plain_weights.append(checkpoint.snapshot(self))
        return real(self, x)

    Small.forward = forward
    try:
        result = run(model, parts, recipe, on_epoch=lambda r: seen.append(r.last))
        other = run(plain, parts, replace(recipe, ema=0.0))
    finally:
        Small.forward = real
    steps = [*plain_weights[1:], other.last]  # after each of the three
    wanted = checkpoint.snapshot(Small())
    for step, weights in enumerate(steps):
        d = min(decay, (1 + step) / (10 + step))
        wanted = {
            k: d * wanted[k] + (1 - d) * v if v.is_floating_point() else v
            for k, v in weights.items()
        }
    assert len(steps) == 3
    for key, value in wanted.items():
        torch.testing.assert_close(result.last[key], value, rtol=1e-5, atol=1e-6)
        assert key == "bn.num_batches_tracked" or not torch.equal(result.last[key], other.last[key])
    # The average is what was validated, kept, and what the net ends with.
    assert same(result.last, result.best) and same(result.last, checkpoint.snapshot(model))
    found = evaluate(model, parts[1], mean=MEAN, std=STD, batch_size=20)
    assert found.loss == result.history[0]["valid_loss"] and same(seen[0], result.last)
    for key in ("train_loss", "train_accuracy"):  # the training itself does not see it
        assert result.history[0][key] == other.history[0][key]


def test_the_saved_weights_are_the_average(parts, tmp_path):
    result = run(Small(), parts, replace(QUICK, ema=0.9), out=tmp_path)
    last, _, training = checkpoint.load_training(tmp_path / "last.pt")
    assert same(last, result.last) and same(checkpoint.load(tmp_path / "best.pt")[0], result.best)
    assert training["net"].keys() == last.keys() and not same(training["net"], last)
    run(Small(), parts, QUICK, out=tmp_path)
    assert checkpoint.load_training(tmp_path / "last.pt")[2]["net"] is None  # it is `last`


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits_multiply_and_the_weights_stay_in_32(parts, precision):
    seen = []

    class Seeing(Small):
        def forward(self, x):
            out = super().forward(x)
            seen.append((self.training, out.dtype))
            return out

    result = run(Seeing(), parts, replace(QUICK, precision=precision))
    wanted = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert {dtype for _, dtype in seen} == {wanted} and {t for t, _ in seen} == {True, False}
    assert {v.dtype for v in result.last.values()} == {torch.float32, torch.int64}
    assert result.history[1]["train_loss"] < result.history[0]["train_loss"]
    full = run(Small(), parts)
    assert not same(full.last, result.last)  # it really computed in another precision
    for key, value in full.last.items():
        torch.testing.assert_close(result.last[key], value, rtol=0.1, atol=0.05)


def test_a_step_with_an_infinite_gradient_is_skipped_and_halves_the_scale(parts, tmp_path):
    recipe = replace(ONE, epochs=1, batch_size=20, precision="fp16", momentum=0)
    model, weights, step = Small(), [], iter(range(9))

    def spoiled(gradient):
        weights.append(checkpoint.snapshot(model))
        return gradient * (math.inf if next(step) == 1 else 1)

    model.fc.weight.register_hook(spoiled)
    run(model, parts, recipe, out=tmp_path)
    names = [n for n, _ in model.named_parameters()]
    assert any(not torch.equal(weights[0][n], weights[1][n]) for n in names)
    assert all(torch.equal(weights[1][n], weights[2][n]) for n in names)  # skipped whole
    assert any(not torch.equal(weights[2][n], model.state_dict()[n]) for n in names)
    scaler = checkpoint.load_training(tmp_path / "last.pt")[2]["scaler"]
    assert scaler["scale"] == 2.0**15 and scaler["_growth_tracker"] == 1


def compiler() -> str:
    """Why `torch.compile` cannot be tested here; "" if it can."""
    names = (os.environ.get("CXX"), "c++", "g++", "clang++")
    if sys.platform == "win32" or not any(n and shutil.which(n) for n in names):
        return "no C++ compiler here"
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return "" if header.is_file() else "no headers of Python here"


@pytest.mark.parametrize(
    "backend",
    [
        "eager",  # traced by torch, and run as it stands: needs no compiler
        pytest.param(
            "inductor",
            marks=[
                pytest.mark.long,
                pytest.mark.skipif(bool(compiler()), reason=compiler() or "-"),
            ],
        ),
    ],
)
def test_a_compiled_net_learns_the_same(parts, backend, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    recipe = replace(ONE, batch_size=30, ema=0.5)
    model = Linear()
    compiled = run(model, parts, replace(recipe, compile=True))
    plain = run(Linear(), parts, recipe)
    assert compiled.last.keys() == plain.last.keys()  # no `_orig_mod.` in front
    for key, value in plain.last.items():
        torch.testing.assert_close(compiled.last[key], value, rtol=1e-4, atol=1e-5)


def test_compile_compiles_the_training_step_and_nothing_else(parts, monkeypatch):
    calls = []

    def compiled(model):
        def forward(x):
            calls.append((model.training, len(x)))
            return model(x)

        return forward

    monkeypatch.setattr(torch, "compile", compiled)
    run(Linear(), parts, replace(ONE, batch_size=30, compile=True, accumulate=2))
    assert calls == [(True, 15)] * 4
    run(Linear(), parts, ONE)
    assert len(calls) == 4


def test_a_compiler_that_fails_gives_one_clear_message(parts, monkeypatch):
    from torch._dynamo.exc import BackendCompilerFailed

    def backend():
        pass

    def compiled(_model):
        def forward(_x):
            raise BackendCompilerFailed(backend, RuntimeError("No working C++ compiler"), None)

        return forward

    monkeypatch.setattr(torch, "compile", compiled)
    with pytest.raises(TrainingError, match=r"leave compile out: .*No working C\+\+ compiler$"):
        run(Linear(), parts, replace(ONE, compile=True))


def test_a_mistake_in_the_net_is_not_blamed_on_the_compiler(parts):
    class Wrong(Linear):
        def forward(self, x):
            return self.fc(x)  # 8 columns for a matrix of 192

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run(Wrong(), parts)


@given(
    st.lists(st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9]), unique=True, max_size=4),
    st.integers(1, 300),
)
def test_milestones_divide_the_rate_by_ten(milestones, steps):
    milestones = tuple(sorted(milestones))
    recipe = Recipe(lr=0.3, schedule="step", warmup=0, milestones=milestones)
    rates = [learning_rate(recipe, s, steps) for s in range(steps)]
    wanted, passed = [], 0
    for step in range(steps):
        while passed < len(milestones) and step / steps >= milestones[passed] - 1e-12:
            passed += 1
        wanted.append(0.3 / 10**passed)
    assert rates == pytest.approx(wanted)


@pytest.mark.parametrize(
    "wrong",
    [
        {"optimizer": "lion"},
        {"milestones": (0.5, 0.2)},
        {"milestones": (0.0,)},
        {"milestones": (1.0,)},
        {"milestones": (math.nan,)},
        {"milestones": ("half",)},
        {"milestones": [0.5]},
        {"label_smoothing": 1.0},
        {"label_smoothing": -0.1},
        {"accumulate": 0},
        {"accumulate": 65},
        {"ema": 1.0},
        {"ema": -0.1},
        {"precision": "tf32"},
        {"seed": -1},
    ],
    ids=str,
)
def test_the_newer_fields_refuse_nonsense_too(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError) as caught:
        Recipe(**wrong)
    assert str(caught.value).startswith(f"{name}={value!r}: must be ")


def test_a_recipe_survives_json_and_an_older_one_means_the_defaults():
    recipe = replace(QUICK, milestones=(0.3, 0.6), optimizer="adamw", ema=0.9, augment=())
    plain = json.loads(json.dumps(asdict(recipe)))
    assert from_plain(plain) == recipe and differences(plain, recipe) == []
    new = ("optimizer", "decay_norm_bias", "milestones", "label_smoothing")
    new += ("accumulate", "ema", "compile")
    older = {k: v for k, v in json.loads(json.dumps(asdict(QUICK))).items() if k not in new}
    assert from_plain(older) == QUICK and differences(older, QUICK) == []
    assert len(differences(older, recipe)) == 3  # milestones, optimizer, ema


def test_every_field_that_differs_is_named_once():
    other = {
        "epochs": 3,
        "batch_size": 8,
        "lr": 0.5,
        "momentum": 0.5,
        "nesterov": False,
        "weight_decay": 0.5,
        "schedule": "step",
        "warmup": 0.5,
        "augment": ("flip",),
        "valid": 0.5,
        "precision": "bf16",
        "channels_last": True,
        "seed": 5,
        "optimizer": "adam",
        "decay_norm_bias": False,
        "milestones": (0.2,),
        "label_smoothing": 0.5,
        "accumulate": 2,
        "ema": 0.5,
        "compile": True,
    }
    assert list(other) == [f.name for f in fields(Recipe)]
    for name, value in other.items():
        lines = differences(asdict(QUICK), replace(QUICK, **{name: value}))
        assert lines == [f"{name}: {getattr(QUICK, name)!r} there, {value!r} now"]
    assert differences(asdict(QUICK) | {"depth": 5}, QUICK) == ["depth: unknown here"]


# --- a warm start


def start(model, colours, recipe=QUICK, **more):
    return fit_and_test(model, colours, recipe, model="resnet20", quiet=True, **more)


def test_a_warm_start_takes_the_weights_and_nothing_else(colours, tmp_path):
    """The same as a net that has these weights by itself: a new optimiser, any other recipe."""
    start(net(), colours, replace(QUICK, momentum=0.9), out=tmp_path)
    for name in ("best.pt", "last.pt"):
        path = tmp_path / name
        before = path.read_bytes()
        given = net(seed=7)
        given.load_state_dict(checkpoint.load(path)[0])
        recipe = replace(QUICK, epochs=1, lr=0.001, optimizer="adamw", batch_size=10, seed=4)
        alone, _ = start(given, colours, recipe)
        warm, record = start(net(seed=8), colours, recipe, init_from=path)
        assert same(alone.last, warm.last) and alone.history[0]["lr"] < 0.001
        assert record["init_from"] == checkpoint.fingerprint(checkpoint.load(path)[0])
        assert path.read_bytes() == before and record["resumed"] == []
    assert "init_from" not in start(net(), colours)[1]


def test_a_warm_start_that_does_not_fit_names_the_weights(colours, tmp_path):
    checkpoint.save(tmp_path / "other.pt", net(num_classes=5).state_dict(), {})
    with pytest.raises(CheckpointError, match=r"other.pt does not fit.*fc\.weight \(file \(5, 8\)"):
        start(net(), colours, init_from=tmp_path / "other.pt")
    torch.save({"stranger": torch.ones(1)}, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match=r"missing in the file.*unknown.*stranger"):
        start(net(), colours, init_from=tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match="no such weights file"):
        start(net(), colours, init_from=tmp_path / "nothing.pt")


@pytest.mark.parametrize(("pieces", "next_"), [(1, 2), (2, 4)])
def test_the_memory_message_names_what_can_be_tried(parts, pieces, next_):
    class Large(Linear):
        def forward(self, x):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    with pytest.raises(TrainingError) as caught:
        run(Large(), parts, replace(QUICK, accumulate=pieces))
    text = str(caught.value)
    assert "batch_size=16; try 8 " in text and f"accumulate={next_} " in text and "\n" not in text
