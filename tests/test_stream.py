"""Streamed picture folders: the batches are those from memory, and a lost file is named."""

import os
import pickle
import shutil
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resnet_lib import create
from resnet_lib.data import (
    AUGMENTATIONS,
    FolderError,
    Loader,
    PictureError,
    Split,
    core,
    fewer,
    folders,
    image_folder,
    load,
    pictures,
    resize,
    split_validation,
)
from resnet_lib.train import Recipe, evaluate, fit

NUMBERS = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    """No test touches the reader's cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("RESNET_LIB_CACHE", str(folder))
        yield folder


def make(root: Path, count: int = 12, seed: int = 0) -> Path:
    """root/{ants,bees}/k: noise, of several sizes and two formats."""
    rng = np.random.default_rng(seed)
    for name in ("ants", "bees"):
        (root / name).mkdir(parents=True)
        for k in range(count):
            pixels = rng.integers(0, 256, (*rng.integers(16, 40, 2), 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{k:02}.{('png', 'jpg')[k % 2]}")
    return root


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same folder in memory and streamed, pictures of 16 px."""
    root = make(tmp_path_factory.mktemp("insects"))
    return image_folder(root, size=16), image_folder(root, size=16, stream=True)


def same_batches(first, second) -> None:
    """Bit for bit, layout included."""
    for (x, y), (a, b) in zip(first, second, strict=True):
        assert x.equal(a) and y.equal(b) and x.stride() == a.stride()
        assert a.dtype == torch.float32


def same_epoch(memory: Split, files: Split, epoch: int, workers: int, **options) -> None:
    options = {**NUMBERS, **options}
    first, second = Loader(memory, **options), Loader(files, workers=workers, **options)
    assert len(first) == len(second)
    same_batches(first.epoch(epoch), second.epoch(epoch))


# The same as from memory


@given(
    chosen=st.lists(st.integers(0, 18), min_size=2, max_size=25),  # in any order, twice too
    batch_size=st.integers(2, 9),
    augment=st.lists(st.sampled_from(AUGMENTATIONS), unique=True),
    shuffle=st.booleans(),
    channels_last=st.booleans(),
    epoch=st.integers(0, 5),
    seed=st.integers(0, 5),
    pad=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_a_streamed_folder_yields_the_batches_of_the_one_in_memory(
    both, chosen, batch_size, epoch, **options
):
    memory, files = (data.train.subset(torch.tensor(chosen)) for data in both)
    same_epoch(memory, files, epoch, workers=0, batch_size=batch_size, **options)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("shuffle", [False, True])
def test_worker_processes_change_nothing(both, workers, shuffle):
    options = {"batch_size": 4, "augment": AUGMENTATIONS, "shuffle": shuffle, "seed": 3}
    same_epoch(both[0].train, both[1].train, 1, workers, **options)
    same_epoch(both[0].test, both[1].test, 1, workers, drop_last=True, **options)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_later_epoch_alone_is_that_of_a_series(both, workers):
    options = {"batch_size": 5, "augment": AUGMENTATIONS, "shuffle": True, "workers": workers}
    series, alone = (Loader(both[1].train, **NUMBERS, **options) for _ in range(2))
    third = [list(series.epoch(epoch)) for epoch in (1, 2, 3)][-1]
    same_batches(third, alone.epoch(3))


@pytest.mark.long
def test_workers_that_are_started_afresh_yield_the_same(both):
    """As on macOS and Windows: a worker gets what can be pickled, nothing else."""
    before = torch.multiprocessing.get_start_method()
    torch.multiprocessing.set_start_method("spawn", force=True)
    try:
        same_epoch(both[0].train, both[1].train, 2, workers=2, batch_size=6, shuffle=True)
    finally:
        torch.multiprocessing.set_start_method(before, force=True)


def test_what_a_worker_gets_can_be_pickled(both):
    files = pickle.loads(pickle.dumps(both[1].train.x))
    assert files[4].equal(both[0].train.x[4])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_gets_the_same_batches(both, workers):
    options = {"batch_size": 4, "augment": AUGMENTATIONS, "shuffle": True, "device": "cuda"}
    same_epoch(both[0].train, both[1].train, 1, workers, **options)


def test_files_are_indexed_as_the_tensor_they_stand_for(both):
    (memory, files) = (data.train.x for data in both)
    assert files.shape == memory.shape and files.dim() == 4 and files.dtype == memory.dtype
    assert torch.cat(list(files.split(5))).equal(memory)
    assert files[3].equal(memory[3]) and files[torch.tensor(3)].equal(memory[3])
    mask = torch.arange(len(files)) % 3 == 1
    for index in (slice(2, 7), slice(1, None, 4), mask):
        assert torch.cat(list(files[index].split(2))).equal(memory[index])
    with pytest.raises(IndexError):
        files[len(files)]


def test_parts_of_a_streamed_set_hold_the_same_pictures(both):
    for part in (lambda d: split_validation(d.train, 0.3, 1)[1], lambda d: fewer(d, 10).train):
        memory, files = part(both[0]), part(both[1])
        assert files.y.equal(memory.y)
        assert torch.cat(list(files.x.split(9))).equal(memory.x)


def test_training_and_evaluation_come_out_the_same_to_the_last_bit(both):
    recipe = Recipe(epochs=1, batch_size=4, lr=0.05)
    results = []
    for data in both:
        torch.manual_seed(0)
        net = create("resnet20", widths=[4, 4, 8], num_classes=2)
        train, valid = split_validation(data.train, 0.3)
        result = fit(net, train, valid, recipe, mean=data.mean, std=data.std, quiet=True)
        drawn = torch.rand(1).item()  # streaming takes nothing from the generator of the nets
        found = evaluate(net, data.test, mean=data.mean, std=data.std)
        for row in result.history:
            row.pop("seconds")
        results.append((result.history, drawn, found.loss, found.probability.tolist()))
    assert results[0] == results[1]


# Statistics, fingerprint, size


def test_mean_and_std_are_exact_as_long_as_the_set_is_small(both):
    assert both[0].mean == both[1].mean and both[0].std == both[1].std


def test_mean_and_std_of_a_large_set_come_from_a_fixed_sample(both, monkeypatch):
    monkeypatch.setattr(core, "SAMPLE", 5)
    exact, sampled, again = (replace(both[k]) for k in (0, 1, 1))  # new: nothing is cached
    assert exact.mean == both[0].mean  # in memory all are counted
    assert sampled.mean == again.mean != exact.mean
    assert sampled.mean == pytest.approx(exact.mean, abs=0.1)
    assert sampled.std == pytest.approx(exact.std, abs=0.1)


def test_the_fingerprint_sees_names_lengths_labels_and_classes(tmp_path):
    first = image_folder(make(tmp_path / "a"), stream=True).fingerprint
    moved = shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert image_folder(moved, stream=True).fingerprint == first
    assert image_folder(moved, stream=True, seed=1).fingerprint != first
    assert image_folder(moved, stream=True, size=32).fingerprint != first
    prints = [first]
    (moved / "ants" / "00.png").rename(moved / "ants" / "0.png")
    prints.append(image_folder(moved, stream=True).fingerprint)
    with open(moved / "ants" / "0.png", "ab") as file:
        file.write(b"longer")
    prints.append(image_folder(moved, stream=True).fingerprint)
    (moved / "bees").rename(moved / "wasps")
    prints.append(image_folder(moved, stream=True).fingerprint)
    streamed = image_folder(moved, stream=True)
    relabelled = replace(streamed, train=Split(streamed.train.x, streamed.train.y.flip(0)))
    assert len({*prints, relabelled.fingerprint}) == 5


def test_a_streamed_set_is_resized_by_reading_it_at_that_size(both):
    small = resize(both[1], 24)
    assert small.shape == (3, 24, 24) and "read at 24 px" in small.source
    root, name = small.train.x.root, os.fsdecode(small.train.x.names[2])
    wanted = pictures.fit_picture(pictures.open_picture(root / name), 24)
    assert small.train.x[2].permute(1, 2, 0).numpy().tolist() == wanted.tolist()
    assert resize(both[1], 16) is both[1]


def test_more_than_two_gibibytes_can_be_streamed(tmp_path):
    make(tmp_path)
    with pytest.raises(FolderError, match=r"24 pictures of 20000 px.*smaller size=.*stream=True"):
        image_folder(tmp_path, size=20_000)
    large = image_folder(tmp_path, size=20_000, stream=True)
    assert large.train.x.shape[1:] == resize(large, 30_000).shape[:1] + (20_000, 20_000)


def test_load_passes_it_on_and_refuses_it_for_sets_in_memory(tmp_path):
    streamed = load(make(tmp_path), stream=True)
    assert load(tmp_path).train.x.shape == streamed.train.x.shape  # each has a cache of its own
    assert load(tmp_path, stream=True).fingerprint == streamed.fingerprint
    streamed = load(tmp_path, size=20, stream=True)
    assert not isinstance(streamed.train.x, torch.Tensor) and streamed.shape == (3, 20, 20)
    assert isinstance(load(tmp_path).train.x, torch.Tensor)
    for name in ("digits", "cifar10"):
        with pytest.raises(ValueError, match=f"picture folders; {name}"):
            load(name, stream=True)


@pytest.mark.parametrize("sizes", [[(20, 20)], [(20, 30)], [(20, 20), (20, 30)]])
def test_the_size_of_the_pictures_is_found_as_for_a_set_in_memory(tmp_path, sizes):
    for k in range(8):
        path = tmp_path / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", sizes[k % len(sizes)]).save(path)
    memory, files = image_folder(tmp_path), image_folder(tmp_path, stream=True)
    assert memory.shape == files.shape and memory.source == files.source


# Faults


def test_every_file_is_checked_before_the_first_epoch_and_again_when_it_changed(
    tmp_path, monkeypatch
):
    first = image_folder(make(tmp_path), stream=True)
    with monkeypatch.context() as patch:
        patch.setattr(folders, "_check", None)  # would raise
        patch.setattr(folders, "_decode", None)
        assert image_folder(tmp_path, stream=True).fingerprint == first.fingerprint
        with pytest.raises(TypeError):
            image_folder(tmp_path, stream=True, cache=False)
    for name in ("00.png", "03.jpg"):
        path = tmp_path / "bees" / name
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FolderError, match=r"2 problem(.|\n)*00\.png(.|\n)*03\.jpg.*cut short"):
        image_folder(tmp_path, stream=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_goes_in_mid_epoch_is_named_in_one_line(tmp_path, workers):
    streamed = image_folder(make(tmp_path), size=16, stream=True)
    batches = Loader(streamed.train, 2, **NUMBERS, workers=workers).epoch(0)
    next(batches)
    gone = streamed.train.x.root / os.fsdecode(streamed.train.x.names[-1])
    gone.unlink()
    with pytest.raises(PictureError) as caught:
        list(batches)
    error = caught.value
    assert error.path == gone
    wanted = "it cannot be opened (No such file or directory). Fix: check its path and permissions."
    assert str(error) == f"{gone}: {wanted}"
    shown = "".join(traceback.format_exception(error))  # all that a reader sees
    assert shown.count("Traceback") == 1 and "Caught" not in shown
    assert not torch.multiprocessing.active_children()  # though the traceback is still there


def test_fit_passes_that_message_on(tmp_path):
    streamed = image_folder(make(tmp_path), size=16, stream=True)
    files = streamed.train.x
    (files.root / os.fsdecode(files.names[7])).write_bytes(b"<html>")
    net = create("resnet20", widths=[4, 4, 8], num_classes=2)
    recipe = Recipe(epochs=1, batch_size=4)
    with pytest.raises(PictureError, match="holds a web page") as caught:
        fit(net, streamed.train, streamed.test, recipe, **NUMBERS, quiet=True)
    assert "\n" not in str(caught.value) and "worker" not in str(caught.value)


def test_a_worker_that_dies_is_explained(both, monkeypatch):
    def dies(path, size):
        if torch.utils.data.get_worker_info():
            os._exit(1)
        raise AssertionError("not in a worker")

    monkeypatch.setattr(pictures, "read_fitted", dies)
    batches = Loader(both[1].train, 4, **NUMBERS, workers=1).epoch(0)
    with pytest.raises(RuntimeError, match=r"process that decodes pictures died .*workers=0"):
        list(batches)
    assert not torch.multiprocessing.active_children()


def test_a_loader_that_is_left_early_leaves_no_process_behind(both):
    batches = Loader(both[1].train, 2, **NUMBERS, workers=2).epoch(0)
    next(batches)
    same_epoch(both[0].train, both[1].train, 2, workers=1, batch_size=5)  # another one meanwhile
    next(batches)
    batches.close()
    assert not torch.multiprocessing.active_children()


def test_files_are_pictures_and_never_labels(both):
    files = both[1].train.x
    with pytest.raises(TypeError, match=r"y is of.*int64"):
        Split(files, files)
    with pytest.raises(ValueError, match="19 pictures but 3"):
        Split(files, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="workers is -1"):
        Loader(both[1].train, 4, **NUMBERS, workers=-1)
    with pytest.raises(ValueError, match="as there are 1 means"):
        Loader(both[1].train, 4, mean=(0.5,), std=(0.5,))
