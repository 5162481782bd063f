"""Weights files: what goes in comes out, and nothing bad gets in, whatever happens to the file."""

import copy
import json
import math
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from resnet_lib import checkpoint, create, predict, records
from resnet_lib.checkpoint import (
    CheckpointError,
    load,
    load_training,
    load_weights,
    previous_of,
    save,
    snapshot,
)

ROOT = Path(__file__).resolve().parent.parent
META = {"model": "resnet20", "classes": ["a", "é"], "mean": [0.5, 0.1], "epoch": 3, "none": None}
FORMATS = [".pt", ".safetensors"]
SMALL = {"widths": [2, 2, 4], "num_classes": 3}


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return create("resnet20", **SMALL)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(params=FORMATS)
def file(request, tmp_path):
    path = tmp_path / f"net{request.param}"
    save(path, net().state_dict(), META)
    return path


# --- what goes in comes out


def test_round_trip(file):
    state, meta = load(file)
    assert same(state, net().state_dict()) and meta == META
    assert {v.dtype for v in state.values()} == {torch.float32, torch.int64}
    other = net(seed=1)
    load_weights(other, state)
    assert same(other.state_dict(), net().state_dict())
    assert [p.name for p in file.parent.iterdir()] == [file.name]  # nothing left beside it


@pytest.mark.parametrize("suffix", FORMATS)
def test_round_trip_of_odd_tensors(tmp_path, suffix):
    state = {
        "half": torch.randn(3).to(torch.bfloat16),
        "scalar": torch.tensor(7),
        "empty": torch.empty(0, 4),
        "yes": torch.tensor([True, False]),
        "transposed": torch.randn(3, 4).t(),
        "channels last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "parameter": nn.Parameter(torch.randn(2)),
    }
    save(tmp_path / f"odd{suffix}", state, {})
    read, meta = load(tmp_path / f"odd{suffix}")
    assert meta == {} and same(read, state)
    assert not any(v.requires_grad for v in read.values())


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.module."]
)
def test_prefixes_of_wrappers_are_stripped(tmp_path, prefix):
    wrapped = {prefix + k: v for k, v in net().state_dict().items()}
    torch.save(wrapped, tmp_path / "wrapped.pt")
    state, meta = load(tmp_path / "wrapped.pt")
    assert same(state, net().state_dict()) and meta == {}
    other = net(seed=1)
    load_weights(other, wrapped)  # also straight from memory
    assert same(other.state_dict(), net().state_dict())


def test_a_prefix_of_only_some_keys_belongs_to_the_net():
    state = {"module.weight": torch.ones(1), "bias": torch.ones(1)}
    assert checkpoint.strip_prefixes(state) == state
    assert checkpoint.strip_prefixes({}) == {}


def test_a_bare_state_dict_and_the_usual_wrapping_are_read(tmp_path):
    torch.save(net().state_dict(), tmp_path / "bare.pth")
    torch.save({"state_dict": net().state_dict(), "epoch": 3}, tmp_path / "usual.pth")
    assert same(load(tmp_path / "bare.pth")[0], net().state_dict())
    assert same(load(tmp_path / "usual.pth")[0], net().state_dict())


def test_a_snapshot_is_a_copy():
    model = net()
    before = model.fc.weight.detach().clone()
    kept, view = snapshot(model), model.state_dict()
    with torch.no_grad():
        model.fc.weight.zero_()
    assert torch.equal(kept["fc.weight"], before) and not kept["fc.weight"].requires_grad
    assert view["fc.weight"].abs().sum() == 0  # why it is needed: a state dict is no copy
    assert kept.keys() == view.keys()


# --- a state that does not fit


def test_all_that_does_not_fit_is_in_one_message_and_nothing_is_changed():
    state = snapshot(net(seed=1))
    state["fc.weight"] = torch.zeros(5, 4)
    state["stranger"] = state.pop("bn1.bias")
    del state["layer3.0.conv1.weight"]
    model = net()
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, state, "some.pt")
    text = str(caught.value)
    assert text.startswith("some.pt does not fit this ResNet. ")
    assert "2 missing in the file: bn1.bias, layer3.0.conv1.weight" in text
    assert "1 unknown to the net: stranger" in text
    assert "1 of another shape: fc.weight (file (5, 4), net (3, 4))" in text
    assert same(model.state_dict(), net().state_dict())


def test_a_long_list_is_cut_with_a_count():
    with pytest.raises(CheckpointError, match=r"and \d+ more"):
        load_weights(net(), {}, "empty.pt")


# --- files that are no weights


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path)
    text = str(caught.value)
    assert str(path) in text and "weights_only=False" not in text
    return text


def test_a_file_cut_short_is_refused(file):
    whole = file.read_bytes()
    cuts = [1, 4, 8, 9, 100, len(whole) // 3, len(whole) // 2, len(whole) - 100, len(whole) - 1]
    for cut in cuts:
        file.write_bytes(whole[:cut])
        assert "not a readable weights file" in refused(file), cut


def test_every_flipped_bit_is_noticed(file):
    """A file with a wrong weight in it is worse than no file."""
    whole = file.read_bytes()
    values = net().state_dict()["layer1.0.conv1.weight"].numpy().tobytes()
    start = whole.index(values)
    places = [start, start + len(values) // 2, start + len(values) - 1]
    places += [whole.index(b"resnet20")]  # and one in what the file says about the net
    for place in places:
        broken = bytearray(whole)
        broken[place] ^= 4
        file.write_bytes(broken)
        assert "not a readable weights file" in refused(file), place


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "content",
    [b"", b"<html>404</html>", b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x03\x04", os.urandom(999)],
    ids=["empty", "web page", "picture", "zip", "noise"],
)
def test_foreign_files_are_refused(tmp_path, suffix, content):
    path = tmp_path / f"foreign{suffix}"
    path.write_bytes(content)
    assert "not a readable weights file" in refused(path)


def test_a_missing_file_and_a_folder(tmp_path):
    assert "there is no such weights file" in refused(tmp_path / "nowhere.pt")
    assert "there is no such weights file" in refused(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"epoch": 3},
        {1: torch.zeros(1)},
        torch.zeros(2),
        {"state": 5, "meta": {}},
        {"state": {"a": torch.zeros(1)}, "meta": 5},
        {"model": {"a": torch.zeros(1)}, "optimizer": {}},
    ],
    ids=["list", "numbers", "keys", "tensor", "state", "meta", "foreign"],
)
def test_plain_values_that_are_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    assert "holds no state dict" in refused(tmp_path / "other.pt")


def test_a_missing_library_is_not_the_file_s_fault(tmp_path, monkeypatch):
    save(tmp_path / "net.safetensors", net().state_dict(), META)
    for name in [m for m in sys.modules if m.split(".")[0] == "safetensors"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "safetensors", None)  # as if it were not installed
    with pytest.raises(ImportError) as caught:
        load(tmp_path / "net.safetensors")
    assert caught.value.name == "safetensors"
    assert "there is no such weights file" in refused(tmp_path / "nowhere.safetensors")


# --- files that contradict themselves


FULL = {
    "model": "resnet20",
    "options": SMALL,
    "classes": ["a", "b", "c"],
    "shape": [3, 8, 8],
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 1],
    "data": "toy",
}


def test_a_file_that_says_all_opens(tmp_path):
    save(tmp_path / "net.pt", net().state_dict(), FULL)
    opened = predict.open_net(tmp_path / "net.pt")
    assert same(opened.net.state_dict(), net().state_dict()) and opened.meta == FULL
    assert not opened.net.training and {p.device.type for p in opened.net.parameters()} == {"cpu"}
    pixels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    assert predict.predict_pixels(opened, pixels).sum(1).allclose(torch.ones(2))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": None}, "does not say data"),
        ({"model": ["resnet20"]}, "its net cannot be built"),
        ({"model": "resnet20000"}, "its net cannot be built: there is no model"),
        ({"options": []}, "its net cannot be built"),
        ({"options": {"num_classes": 10**19}}, "its net cannot be built"),
        ({"options": {"num_classes": -3}}, "its net cannot be built"),
        ({"options": {"num_classes": 10**13}}, "its net cannot be built"),
        ({"options": SMALL | {"widths": [16, 16, 16]}}, "does not fit this ResNet.* of another"),
        ({"options": SMALL | {"in_channels": 10**6}, "shape": [10**6, 8, 8]}, "its mean is"),
        ({"options": SMALL | {"include_top": False}}, "no fc layer"),
        ({"classes": ["a", "b"]}, "2 classes, but its net has 3 outputs"),
        ({"classes": "abc"}, "not a list of names"),
        ({"classes": [1, 2, 3]}, "not a list of names"),
        ({"shape": [3, 8]}, r"its shape is \[3, 8\], not \[3, height, width\]"),
        ({"shape": [3, 8, 8, 8]}, "its shape is"),
        ({"shape": [1, 8, 8]}, "its shape is"),
        ({"shape": [3, 0, 8]}, "its shape is"),
        ({"shape": [3, "8", 8]}, "its shape is"),
        ({"shape": 8}, "its shape is 8"),
        ({"mean": [0.5]}, "its mean is.* each of 3 channels"),
        ({"std": ["a", "b", "c"]}, "its std is"),
        ({"recipe": 5}, "its recipe is 5"),
        ({"recipe": {"batch_size": "many"}}, "its recipe is"),
    ],
    ids=lambda value: json.dumps(value)[:50] if isinstance(value, dict) else None,
)
def test_a_file_that_contradicts_itself_is_refused_by_name(changes, words, tmp_path):
    path = tmp_path / "net.pt"
    meta = {k: v for k, v in (FULL | changes).items() if v is not None}
    save(path, net().state_dict(), meta)
    with pytest.raises(CheckpointError, match=words) as caught:
        predict.open_net(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("way", ["torch", "torch, old format", "pickle"])
def test_code_in_a_file_is_never_executed(tmp_path, way):
    path, mark = tmp_path / "evil.pt", tmp_path / "executed"
    content = {"state": {"a": torch.zeros(1), "b": Evil(mark)}, "meta": {}}
    if way == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=way == "torch")
    refused(path)
    assert not mark.exists()
    if way == "pickle":  # the trap is armed: an unsafe reader would have run it
        pickle.loads(path.read_bytes())
        assert mark.exists()


# --- saving


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "value", [np.float32(0.5), np.int64(3), Path("x"), torch.tensor(1.0), {1, 2}], ids=type
)
def test_meta_that_would_make_the_file_unreadable_is_refused(tmp_path, suffix, value):
    path = tmp_path / f"net{suffix}"
    save(path, net().state_dict(), META)
    with pytest.raises(CheckpointError, match="meta must be plain values"):
        save(path, net(seed=1).state_dict(), {"accuracy": value})
    assert same(load(path)[0], net().state_dict())  # the old file is as it was


def test_a_numpy_float64_becomes_a_plain_number(tmp_path):
    """It is a subclass of float and looks harmless, but a pickled one could not be read."""
    save(tmp_path / "net.pt", net().state_dict(), {"accuracy": np.float64(0.5)})
    value = load(tmp_path / "net.pt")[1]["accuracy"]
    assert type(value) is float and value == 0.5


def test_a_file_that_cannot_be_flushed_leaves_the_old_one(file, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(file, net(seed=1).state_dict(), META)
    assert same(load(file)[0], net().state_dict())
    assert [p.name for p in file.parent.iterdir()] == [file.name]


LIMITED = """
import resource, signal, sys
import torch
from resnet_lib import checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing raises OSError, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    checkpoint.save(sys.argv[1], {"a": torch.ones(50_000)}, {})
except OSError as error:
    print("refused:", error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are a Unix matter")
def test_a_real_limit_on_file_size_leaves_the_old_file(tmp_path):
    path = tmp_path / "net.pt"
    save(path, {"a": torch.zeros(3)}, {"old": True})
    done = child(LIMITED, path).communicate(timeout=120)
    assert done[0].startswith("refused: "), done
    assert load(path)[1] == {"old": True}
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt"]


def child(code: str, path: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


FORKING = """
import os, sys, time
import torch
from resnet_lib import checkpoint

torch.set_num_threads(1)
flush = os.fsync


def slowly(descriptor):  # as a slow disk does it: more kills come in the middle
    flush(descriptor)
    time.sleep(0.01)


os.fsync = slowly
print("ready", flush=True)
for line in sys.stdin:  # one process for each kill, forked: importing torch anew takes seconds
    pid = os.fork()
    if pid == 0:
        k = int(line)
        while True:
            state = {"a": torch.full((400_000,), float(k))}
            checkpoint.save(sys.argv[1], state, {"k": k})
            os.write(1, f"saved {k}\\n".encode())
            k += 1
    print("child", pid, flush=True)
    os.waitpid(pid, 0)
    print("killed", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kills", [12, pytest.param(150, marks=pytest.mark.long)])
def test_kill_9_while_saving_never_leaves_an_unreadable_file(tmp_path, kills):
    path = tmp_path / "net.pt"
    save(path, {"a": torch.full((400_000,), -1.0)}, {"k": -1})
    chance = random.Random(0)
    parent = subprocess.Popen(
        [sys.executable, "-c", FORKING, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert parent.stdout.readline() == "ready\n"
        last, in_the_middle = -1, 0
        for kill in range(kills):
            parent.stdin.write(f"{1000 * (kill + 1)}\n")
            parent.stdin.flush()
            lines = [parent.stdout.readline(), parent.stdout.readline()]
            while not any(line.startswith("child") for line in lines):
                lines.append(parent.stdout.readline())
            pid = int(next(line for line in lines if line.startswith("child")).split()[1])
            time.sleep(chance.uniform(0, 0.04))
            os.kill(pid, signal.SIGKILL)
            while (line := parent.stdout.readline()) != "killed\n":
                lines.append(line)
            said = max(int(s.split()[1]) for s in lines if s.startswith("saved"))
            state, meta = load(path)  # readable, and whole
            assert (state["a"] == meta["k"]).all() and meta["k"] > last
            assert meta["k"] in (said, said + 1)  # the last one that was reported, or one more
            last = meta["k"]
            left = [p for p in tmp_path.iterdir() if p != path]
            in_the_middle += bool(left)
            for p in left:
                assert p.name.endswith(".part")
                p.unlink()
        assert in_the_middle, "no kill came in the middle of a write"
    finally:
        parent.kill()
        parent.wait()
        parent.stdin.close()
        parent.stdout.close()


def test_saving_into_a_new_folder(tmp_path):
    save(tmp_path / "a" / "b" / "net.pt", net().state_dict(), META)
    assert json.dumps(load(tmp_path / "a" / "b" / "net.pt")[1]) == json.dumps(META)


# --- what a run needs to go on

TRAINING = {
    "history": [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}],
    "optimizer": {
        "state": {0: {"momentum_buffer": torch.arange(6.0).view(2, 3), "step": torch.tensor(3.0)}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "foreach": None, "params": [0, 1]}],
    },
    "net": None,
    "word": "wörd",
    "yes": True,
    "best": {"a": torch.ones(2, 2).to(memory_format=torch.contiguous_format)},
}


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        alike = isinstance(b, torch.Tensor) and (a.dtype, a.shape) == (b.dtype, b.shape)
        return alike and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


def test_training_goes_in_and_comes_out(tmp_path):
    path = tmp_path / "last.pt"
    save(path, net().state_dict(), META, TRAINING)
    state, meta, training = load_training(path)
    assert same(state, net().state_dict()) and meta == META and equal(training, TRAINING)
    assert same(load(path)[0], state) and load(path)[1] == META  # and for those who want no more
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_the_file_before_is_kept_under_its_name(tmp_path):
    path, previous = tmp_path / "last.pt", tmp_path / "last.previous.pt"
    assert previous_of(path) == previous and previous_of(str(path)) == previous
    assert previous_of("a.b/last.safetensors") == Path("a.b/last.previous.safetensors")
    wholes = []
    for epoch in range(4):
        save(path, net().state_dict(), {"epoch": epoch}, TRAINING)
        wholes.append(path.read_bytes())
        if epoch:
            assert previous.read_bytes() == wholes[epoch - 1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.previous.pt", "last.pt"]
    save(tmp_path / "best.pt", net().state_dict(), META)  # weights alone: none is kept
    save(tmp_path / "best.pt", net(1).state_dict(), META)
    assert not (tmp_path / "best.previous.pt").exists()


@pytest.mark.parametrize("suffix", FORMATS)
def test_weights_alone_do_not_pretend_to_be_a_run(tmp_path, suffix):
    save(tmp_path / f"net{suffix}", net().state_dict(), META)
    with pytest.raises(CheckpointError, match=r"weights alone.*--init-from") as caught:
        load_training(tmp_path / f"net{suffix}")
    assert str(tmp_path) in str(caught.value)
    torch.save(net().state_dict(), tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match="weights alone"):
        load_training(tmp_path / "foreign.pt")


def test_training_in_a_format_that_cannot_hold_it_is_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(CheckpointError, match=r"training.*\.pt"):
        save(path, net().state_dict(), META, TRAINING)
    assert not path.exists()


@pytest.mark.parametrize(
    "value",
    [np.float64(0.5), np.float32(1), np.int64(3), np.bool_(True), np.ones(2), Path("x"), {1}, b"x"],
    ids=type,
)
@pytest.mark.parametrize("place", ["value", "list", "key"])
def test_training_that_a_safe_reader_would_refuse_is_refused_at_once(tmp_path, value, place):
    path = tmp_path / "last.pt"
    save(path, net().state_dict(), META, TRAINING)
    before = path.read_bytes()
    if place == "key" and type(value).__hash__ is None:
        pytest.skip("no key of a dict")
    wrong = {"value": {"a": value}, "list": [(1, value)]}.get(place) or {value: 1}
    with pytest.raises(CheckpointError, match=rf"plain .* only, not a {type(value).__name__}: "):
        save(path, net(1).state_dict(), META, TRAINING | {"more": wrong})
    assert path.read_bytes() == before and not previous_of(path).exists()


PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**40), 2**40),
        st.floats(allow_nan=False),
        st.text(max_size=4),
        st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=4).map(torch.tensor),
        st.lists(st.integers(-9, 9), min_size=1, max_size=4).map(torch.tensor),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, min_size=1, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers(0, 9)), inner, max_size=3),
    ),
    max_leaves=8,
)


def leaves(value, path=()):
    """Ways to all values that are not nested."""
    if isinstance(value, dict):
        for k in value:
            yield from leaves(value[k], (*path, k))
    elif isinstance(value, (list, tuple)):
        for k, inner in enumerate(value):
            yield from leaves(inner, (*path, k))
    else:
        yield path


def changed(value, path, random_):
    """`value` with another leaf at `path`."""
    if path:
        k, *rest = path
        if isinstance(value, dict):
            return {n: changed(v, rest, random_) if n == k else v for n, v in value.items()}
        return type(value)(changed(v, rest, random_) if n == k else v for n, v in enumerate(value))
    if isinstance(value, torch.Tensor):
        way = random_.choice(["value", "dtype", "shape"])
        if way == "dtype":
            return value.to(torch.float64)
        if way == "shape":
            return value[None]
        other = value.clone()
        other.view(-1).view(torch.uint8)[random_.randrange(other.nbytes)] ^= 1 << random_.randrange(
            8
        )
        return other
    if isinstance(value, bool):
        return random_.choice([not value, int(value), None])
    if isinstance(value, int):
        return random_.choice([value + 1, -value - 1, str(value), float(value)])
    if isinstance(value, float):
        return random_.choice([math.nextafter(value, 1e9), str(value), None])
    if isinstance(value, str):
        return random_.choice([value + " ", [value]])
    return random_.choice(["None", False, 0])


@settings(deadline=None, max_examples=60)
@given(PLAIN, st.randoms(use_true_random=False))
def test_any_changed_value_changes_the_checksum(value, random_):
    """The content is that of a file with the old checksum: every flip is found."""
    value = {"x": value, "fixed": [1, 2.0]}
    path = random_.choice(list(leaves(value)))
    other = changed(value, path, random_)
    sums = checkpoint._sum_of_all(value), checkpoint._sum_of_all(other)
    assert (sums[0] == sums[1]) == equal(value, other)
    assert sums[0] == checkpoint._sum_of_all(copy.deepcopy(value))


@settings(deadline=None, max_examples=25)
@given(st.randoms(use_true_random=False))
def test_a_file_with_any_other_value_is_refused(random_):
    """Written anew with one value changed and the old checksums, as bad memory would do it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "last.pt"
        save(path, {"a": torch.ones(2)}, META, TRAINING)
        content = torch.load(path, weights_only=True)
        key = random_.choice(["training", "meta", "state"])
        way = random_.choice(list(leaves(content[key])))
        content[key] = changed(content[key], way, random_)
        torch.save(content, path)
        with pytest.raises(CheckpointError, match="the checksum is wrong"):
            load_training(path)


@pytest.mark.parametrize("gone", ["training_sha256", "sha256"])
def test_training_without_its_checksum(tmp_path, gone):
    save(tmp_path / "last.pt", {"a": torch.ones(2)}, META, TRAINING)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    del content[gone]
    torch.save(content, tmp_path / "last.pt")
    if gone == "training_sha256":
        refused(tmp_path / "last.pt")
    else:  # as files of before checksums
        assert load(tmp_path / "last.pt")[1] == META


def test_every_flipped_bit_of_the_training_part_is_noticed_in_the_file(tmp_path):
    path = tmp_path / "last.pt"
    save(path, net().state_dict(), META, TRAINING)
    whole = path.read_bytes()
    buffer = TRAINING["optimizer"]["state"][0]["momentum_buffer"].numpy().tobytes()
    for place in (whole.index(buffer), whole.index(buffer) + 23, whole.index(b"history")):
        broken = bytearray(whole)
        broken[place] ^= 2
        path.write_bytes(broken)
        assert "not a readable weights file" in refused(path)


@pytest.mark.parametrize("call", [1, 2])
def test_a_rename_that_fails_leaves_the_old_file_in_its_place(tmp_path, monkeypatch, call):
    """The first one moves the old file away: if the second one fails, it has to come back."""
    path = tmp_path / "last.pt"
    save(path, net().state_dict(), META, TRAINING)
    before, calls, real = path.read_bytes(), [], os.replace

    def full(*args):
        calls.append(args)
        if len(calls) == call:
            raise OSError(28, "No space left on device")
        return real(*args)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        save(path, net(1).state_dict(), META, TRAINING)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_the_published_file_still_loads():
    """Written before there was anything to go on with."""
    state, meta = load(records.asset(predict.BOOKS_OWN_NET))
    record = records.read(predict.BOOKS_OWN_NET.removesuffix(".safetensors"))
    assert meta["model"] == record["model"] and state["fc.weight"].shape[0] == 10
    with pytest.raises(CheckpointError, match="weights alone"):
        load_training(records.asset(predict.BOOKS_OWN_NET))
