"""Sets, splits and batches: every rule of `resnet_lib.data` that needs no file."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_lib import data
from resnet_lib.data import Data, Loader, Split, normalise, split_validation
from resnet_lib.data.core import mix

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def make_split(count=23, size=8, classes=3, channels=3):
    generator = torch.Generator().manual_seed(count)
    x = torch.randint(0, 256, (count, channels, size, size), generator=generator)
    return Split(x.to(torch.uint8), torch.arange(count) % classes)


def make_loader(split, batch_size=4, **options):
    return Loader(split, batch_size, mean=MEAN, std=STD, **options)


def samples(loader, epoch):
    """{bytes of the label position: picture} of one epoch, by sample, with labels = positions."""
    return {int(k): x for xs, ys in loader.epoch(epoch) for x, k in zip(xs, ys, strict=True)}


def numbered(count=23, size=8):
    """A split whose labels are the positions of the samples, to follow each of them."""
    return Split(make_split(count, size).x, torch.arange(count))


# Split and Data


@pytest.mark.parametrize(
    ("x", "y", "error", "words"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64), TypeError, "float32.*uint8"),
        (torch.zeros(2, 3, 4, 4).byte(), torch.zeros(2), TypeError, "y is of.*int64"),
        (torch.zeros(2, 4, 4).byte(), torch.zeros(2).long(), ValueError, r"\(2, 4, 4\).*\(N, C"),
        (torch.zeros(2, 1, 4, 4).byte(), torch.zeros(2, 1).long(), ValueError, r"wanted \(N,\)"),
        (torch.zeros(2, 1, 4, 4).byte(), torch.zeros(3).long(), ValueError, "2 pictures but 3"),
        ([[1]], torch.zeros(1).long(), TypeError, "list.*tensor"),
    ],
)
def test_a_split_refuses_what_is_no_split(x, y, error, words):
    with pytest.raises(error, match=words):
        Split(x, y)


def make_data(**changes):
    parts = {"name": "toy", "classes": ["a", "b", "c"], "source": "Made up."}
    return Data(**{**parts, "train": make_split(), "test": make_split(9), **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ["a", "b"]}, "train labels run from 0 to 2, but 2 classes"),
        ({"classes": ["a"]}, "at least two"),
        ({"classes": ["a", "b", "b"]}, "stands twice"),
        ({"test": make_split(9, size=7)}, r"\(3, 8, 8\).*\(3, 7, 7\)"),
        ({"test": make_split(9).subset(slice(0))}, "test part is empty"),
        ({"train": Split(make_split(2).x, torch.tensor([0, -1]))}, "run from -1"),
    ],
)
def test_data_refuses_labels_and_shapes_that_do_not_fit(changes, words):
    with pytest.raises(ValueError, match=words):
        make_data(**changes)


def test_mean_and_std_are_those_of_the_training_pixels():
    made = make_data()
    pixels = made.train.x.double() / 255
    assert made.shape == (3, 8, 8)
    assert made.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert made.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())


def test_a_channel_without_variation_can_be_normalised():
    flat = Split(torch.full((4, 1, 8, 8), 7, dtype=torch.uint8), torch.tensor([0, 1, 2, 0]))
    made = make_data(train=flat, test=flat)
    assert made.std == (1.0,)
    assert normalise(flat.x, made.mean, made.std).abs().max() < 1e-6


def test_the_fingerprint_sees_every_part():
    whole = make_data()
    assert whole.fingerprint == make_data().fingerprint
    assert len(whole.fingerprint) == 16
    pixel = Split(whole.train.x.clone(), whole.train.y)
    pixel.x[-1, -1, -1, -1] ^= 1
    label = Split(whole.test.x, whole.test.y.roll(1))
    changed = [{"train": pixel}, {"test": label}, {"classes": ["a", "b", "d"]}]
    prints = {make_data(**c).fingerprint for c in changed}
    assert len(prints) == 3 and whole.fingerprint not in prints


def test_importing_the_data_room_loads_no_heavy_library():
    code = (
        "import sys, resnet_lib.data; heavy = ['torchvision', 'PIL', 'matplotlib', 'sklearn']; "
        "print([m for m in heavy if m in sys.modules])"
    )
    root = Path(data.__file__).parents[2]
    answer = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stdout + answer.stderr


# digits, load, resize


def test_digits_is_whole_stratified_and_seeded():
    first, again, other = data.digits(), data.digits(), data.digits(seed=1)
    assert (len(first.train), len(first.test), first.shape) == (1347, 450, (1, 8, 8))
    assert first.train.x.max() == 255 and first.train.x.min() == 0
    counts = torch.bincount(first.test.y)
    assert counts.min() >= 43 and counts.max() <= 46
    assert first.fingerprint == again.fingerprint != other.fingerprint
    # Nothing lost and nothing twice: the pixel sum of both parts does not depend on the split.
    total = [int(d.train.x.long().sum() + d.test.x.long().sum()) for d in (first, other)]
    assert total[0] == total[1]


def test_load_knows_the_names_and_says_which():
    assert data.load("digits").name == "digits"
    assert data.load("digits", size=16).shape == (1, 16, 16)
    with pytest.raises(ValueError, match=r"cifar11.*digits, shapes10, cifar10, cifar100.*folder"):
        data.load("cifar11")
    with pytest.raises(data.FolderError, match="no such folder"):
        data.load("nowhere/at/all")
    with pytest.raises(ValueError, match="size is 0"):
        data.load("digits", size=0)


def test_resize_says_so_and_leaves_a_fitting_set_alone():
    made = make_data()
    assert data.resize(made, 8) is made
    small = data.resize(made, 4)
    assert small.shape == (3, 4, 4) and "resized from 8 to 4" in small.source
    assert small.train.x.float().mean() == pytest.approx(made.train.x.float().mean(), abs=2)


def test_resize_does_not_depend_on_how_many_pictures_are_done_at_once():
    made = make_data()
    large = data.resize(made, 2600).train.x  # three pictures at once; of all 23, 256 MiB hold three
    one = data.resize(make_data(train=made.train.subset(slice(22, 23))), 2600).train.x
    assert len(large) == 23 and large[22:].equal(one)


@pytest.mark.parametrize("size", [1100, 10**6, 10**30])
def test_a_size_that_no_memory_holds_is_refused_at_once(size):
    for make, fits in (
        (lambda: data.load("digits", size=size), 1093),
        (lambda: data.load("shapes10", size=size), 299),
        (lambda: data.shapes10(10, 10, size=size), 598),  # 500 are drawn at once all the same
        (lambda: data.resize(data.digits(), size), 1093),
    ):
        with pytest.raises(ValueError, match=rf"of {size} px .* 2 GiB; .* at most {fits}$"):
            make()
    assert 1797 * 1093**2 <= data.core.MAX_BYTES < 1797 * 1094**2
    with pytest.raises(ValueError, match="ask for fewer pictures"):
        data.shapes10(10**10, 10)


# Given statistics


def test_given_statistics_are_used_and_kept():
    given_ = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    plain, made = make_data(), make_data(statistics=given_)
    assert (made.mean, made.std) == given_ and plain.mean != made.mean
    assert replace(plain, statistics=([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])).std == given_[1]
    for kept in (data.resize(made, 4), data.fewer(made, 12)):
        assert (kept.mean, kept.std) == given_
    assert replace(made, statistics=None).mean == plain.mean
    assert made.fingerprint == plain.fingerprint  # the same pictures


@pytest.mark.parametrize(
    "statistics",
    [
        ((0.5,), (0.5,)),
        ((0.5, 0.5, 0.5), (0.5, 0.5)),
        ((0.5, 0.5), (0.5, 0.5, 0.5)),
        ((0.5, 0.5, 0.5), (0.5, 0.0, 0.5)),
        ((0.5, 0.5, 0.5), (0.5, -0.1, 0.5)),
        ((0.5, 0.5, 0.5), (0.5, float("nan"), 0.5)),
        ((0.5, float("inf"), 0.5), (0.5, 0.5, 0.5)),
        ((), ()),
    ],
)
def test_statistics_that_do_not_fit_are_refused(statistics):
    with pytest.raises(ValueError, match=r"toy: mean .* std .*wanted 3 number.*above 0"):
        make_data(statistics=statistics)


# fewer

WEIGHTS = torch.tensor([256, 1])


def made_numbered(count):
    """Three classes in turn; the first two pixels of a picture hold its position."""
    number = torch.arange(count)
    x = torch.stack([number // 256, number % 256], 1).to(torch.uint8).view(-1, 1, 1, 2)
    whole = Split(x, number % 3)
    return Data("toy", list("abc"), whole, whole, "Made up.")


@given(
    labels=st.lists(st.integers(0, 3), min_size=4, max_size=80),
    share=st.floats(0, 1),
    seed=st.integers(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_fewer_keeps_so_many_pictures_and_every_class_in_proportion(labels, share, seed):
    y = torch.tensor(labels)
    whole = Split(torch.arange(len(y), dtype=torch.uint8).view(-1, 1, 1, 1), y)
    made = Data("toy", list("abcd"), whole, whole, "Made up.")
    train = round(share * len(y))
    counts = torch.bincount(y, minlength=4)
    try:
        small = data.fewer(made, train, seed)
    except ValueError as error:
        assert "at least two of each class" in str(error)
        assert (counts[counts > 0] * train / len(y)).min() < 2
        return
    places = small.train.x.flatten().long()
    assert len(small.train) == train and places.tolist() == sorted({*places.tolist()})
    assert small.train.y.equal(y[places]) and small.test is made.test
    kept = torch.bincount(small.train.y, minlength=4)
    assert ((kept - counts * train / len(y)).abs() < 1).all()
    assert data.fewer(made, train, seed).fingerprint == small.fingerprint


def test_fewer_says_so_depends_on_its_seed_and_refuses_nonsense():
    made = make_data(train=make_split(3000, size=4), test=make_split(9, size=4))
    small = data.fewer(made, 1200)
    assert small.name == "toy, 1,200 training pictures"
    assert small.source == "Made up; 1,200 of its 3,000 training pictures."
    assert torch.bincount(small.train.y).tolist() == [400] * 3
    members = data.fewer(made_numbered(3000), 1200).train.x.flatten(1)[:, :2].long() @ WEIGHTS
    places = [members[members % 3 == k] // 3 for k in range(3)]  # each class is drawn by itself
    assert not places[0].equal(places[1]) and not places[1].equal(places[2])
    assert small.fingerprint != data.fewer(made, 1200, seed=1).fingerprint
    assert data.fewer(made, 3000) is made
    assert len(data.fewer(made, 6).train) == 6
    with pytest.raises(ValueError, match="3,001 training pictures wanted, there are 3,000"):
        data.fewer(made, 3001)
    for train, least in ((5, 1), (2, 0), (0, 0), (-7, -3)):
        with pytest.raises(ValueError, match=f"leave {least} of class .; wanted at least two"):
            data.fewer(made, train)


# split_validation


@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=60),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_a_stratified_split_keeps_every_sample_once_and_every_class_twice(labels, fraction, seed):
    y = torch.tensor(labels)
    split = Split(torch.arange(len(y), dtype=torch.uint8).view(-1, 1, 1, 1), y)
    counts = torch.bincount(y)
    if (counts == 1).any():
        with pytest.raises(ValueError, match="one sample"):
            split_validation(split, fraction, seed)
        return
    train, valid = split_validation(split, fraction, seed)
    both = torch.cat([train.x, valid.x]).flatten()
    assert sorted(both.tolist()) == list(range(len(y)))
    assert train.y.equal(y[train.x.flatten().long()])
    held = torch.bincount(valid.y, minlength=len(counts))
    for all_of_it, out in zip(counts.tolist(), held.tolist(), strict=True):
        assert all_of_it == 0 or 1 <= out < all_of_it
        assert abs(out - fraction * all_of_it) <= 1
    again = split_validation(split, fraction, seed)[1]
    assert again.x.equal(valid.x)


def test_a_split_depends_on_its_seed_and_refuses_nonsense():
    split = numbered(60)
    split = Split(split.x, split.y % 3)
    assert not split_validation(split, 0.2, 0)[1].x.equal(split_validation(split, 0.2, 1)[1].x)
    for fraction in (0, 1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            split_validation(split, fraction)
    with pytest.raises(ValueError, match="empty"):
        split_validation(split.subset(slice(0)))


# normalise


def test_normalise_is_the_formula_and_keeps_the_layout():
    x = make_split().x
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    wanted = (x.float() / 255 - mean) / std
    for layout in (torch.contiguous_format, torch.channels_last):
        got = normalise(x.contiguous(memory_format=layout), MEAN, STD)
        assert got.dtype == torch.float32 and got.is_contiguous(memory_format=layout)
        torch.testing.assert_close(got, wanted)


def test_normalise_says_what_it_wants():
    x = make_split().x
    with pytest.raises(TypeError, match=r"float32.*uint8"):
        normalise(x.float(), MEAN, STD)
    with pytest.raises(ValueError, match=r"\(23, 8, 8, 3\).*\(N, 3, H, W\).*permute"):
        normalise(x.permute(0, 2, 3, 1), MEAN, STD)
    with pytest.raises(ValueError, match=r"wanted \(N, 3"):
        normalise(x[0], MEAN, STD)
    with pytest.raises(ValueError, match="std"):
        normalise(x, MEAN, (0.1, 0.0, 0.2))


# Loader


def reference_sample(picture, down, right, flip, pad):
    """Crop and flip one uint8 picture (C, H, W) pixel by pixel, as torchvision's two steps do."""
    height, width = picture.shape[1:]
    out = torch.zeros_like(picture)
    for i in range(height):
        for j in range(width):
            row, column = i + down - pad, j + right - pad
            if 0 <= row < height and 0 <= column < width:
                out[:, i, j] = picture[:, row, column]
    return torch.flip(out, [2]) if flip else out


@pytest.mark.parametrize("augment", [("crop", "flip"), ("flip",), ("crop",)])
def test_crop_and_flip_equal_a_slow_reference(augment):
    split, pad, seed, epoch = numbered(11, size=6), 2, 5, 3
    got = samples(make_loader(split, augment=augment, shuffle=True, seed=seed, pad=pad), epoch)

    def draws(purpose, high, *shape):
        generator = torch.Generator().manual_seed(mix(seed, epoch, purpose))
        return torch.randint(0, high, shape, generator=generator)

    offset, flip = draws("crop", 2 * pad + 1, 11, 2), draws("flip", 2, 11)
    offset = offset if "crop" in augment else torch.full_like(offset, pad)
    flip = flip if "flip" in augment else torch.zeros_like(flip)
    for k, picture in enumerate(split.x):
        wanted = reference_sample(picture, *offset[k].tolist(), bool(flip[k]), pad)
        wanted = normalise(wanted[None], MEAN, STD)[0]
        torch.testing.assert_close(got[k], wanted, msg=f"sample {k}")


@given(batch=st.integers(1, 30), epoch=st.integers(0, 1000), seed=st.integers(0, 2**40))
@settings(max_examples=25, deadline=None)
def test_a_sample_does_not_depend_on_its_batch(batch, epoch, seed):
    split, options = numbered(), {"augment": ("crop", "flip"), "seed": seed}
    alone = samples(make_loader(split, 23, **options), epoch)
    batched = samples(make_loader(split, batch, shuffle=True, **options), epoch)
    assert set(batched) <= set(alone) and len(batched) >= 22
    for k, picture in batched.items():
        assert picture.equal(alone[k])


def test_an_epoch_repeats_itself_and_differs_from_the_next():
    loader = make_loader(numbered(), augment=("crop", "flip"), shuffle=True)
    first = [(x.clone(), y.clone()) for x, y in loader.epoch(7)]
    list(loader.epoch(8))
    again, following = list(loader.epoch(7)), list(loader.epoch(8))
    assert all(a.equal(c) and b.equal(d) for (a, b), (c, d) in zip(first, again, strict=True))
    order = [torch.cat([y for _, y in e]).tolist() for e in (first, following)]
    assert order[0] != order[1]
    assert sorted(order[0]) == sorted(order[1]) == list(range(23))
    one, two = samples(loader, 7), samples(loader, 8)
    assert sum(one[k].equal(two[k]) for k in one) < 5  # each sample is cut anew


def test_seed_and_epoch_do_not_add_up():
    split = numbered(200, size=4)

    def order(seed, epoch):
        loader = make_loader(split, 200, shuffle=True, seed=seed)
        return tuple(next(iter(loader.epoch(epoch)))[1].tolist())

    orders = [order(s, e) for s in range(4) for e in range(4)]
    assert len(set(orders)) == 16


def test_crops_and_flips_are_spread_evenly_and_independently():
    count = 4000
    marked = torch.zeros(count, 1, 9, 9, dtype=torch.uint8)
    marked[:, :, 4, 3] = 255  # off the middle, so that a flip shows
    split = Split(marked, torch.zeros(count, dtype=torch.int64))
    loader = Loader(split, count, mean=(0.0,), std=(1.0,), augment=("crop", "flip"), pad=2)
    picture = next(iter(loader.epoch(0)))[0][:, 0]
    place = picture.flatten(1).argmax(1)
    rows, columns = torch.bincount(place // 9, minlength=9), torch.bincount(place % 9, minlength=9)
    assert rows[2:7].min() > 700 and rows[2:7].sum() == count
    # Unflipped at 1..5, flipped at 3..7: 3, 4 and 5 get both.
    assert columns[[1, 2, 6, 7]].min() > 320 and columns[[3, 4, 5]].min() > 700


def test_without_shuffling_the_order_is_that_of_the_set():
    split = numbered()
    loader = make_loader(split, 5)
    batches = list(loader.epoch(0))
    assert len(loader) == len(batches) == 5 and len(batches[-1][1]) == 3
    assert torch.cat([y for _, y in batches]).equal(split.y)
    torch.testing.assert_close(torch.cat([x for x, _ in batches]), normalise(split.x, MEAN, STD))


@pytest.mark.parametrize("augment", [(), ("crop",), ("crop", "flip")])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_layout_is_the_one_asked_for(augment, channels_last):
    loader = make_loader(numbered(), augment=augment, channels_last=channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for x, y in loader.epoch(0):
        assert x.is_contiguous(memory_format=layout) and x.dtype == torch.float32
        assert y.dtype == torch.int64


@pytest.mark.parametrize(
    ("count", "batch", "options", "sizes"),
    [
        (9, 4, {}, [4, 4, 1]),
        (9, 4, {"shuffle": True}, [4, 4]),  # one sample alone breaks BatchNorm
        (10, 4, {"shuffle": True}, [4, 4, 2]),
        (10, 4, {"shuffle": True, "drop_last": True}, [4, 4]),
        (9, 4, {"drop_last": True}, [4, 4]),
        (3, 1, {"shuffle": True}, [1, 1, 1]),  # asked for
        (3, 8, {"shuffle": True}, [3]),
    ],
)
def test_the_last_batch(count, batch, options, sizes):
    loader = make_loader(numbered(count), batch, **options)
    assert [len(y) for _, y in loader.epoch(0)] == sizes
    assert len(loader) == len(sizes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"augment": ("crop", "rotate")}, "'rotate'.*crop.*flip"),
        ({"augment": "mixup"}, "'mixup'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"pad": -1}, "pad is -1"),
        ({"mean": (0.5,)}, "as there are 1 means"),
        ({"std": (0.5, 0.0, 1.0)}, "above 0"),
        ({"split": numbered(0)}, "empty"),
        ({"split": numbered(3), "drop_last": True}, "no whole batch.*smaller batch_size"),
        ({"split": numbered(1), "shuffle": True}, "no whole batch"),
    ],
)
def test_the_loader_refuses_with_a_reason(options, words):
    settings = {"split": numbered(), "batch_size": 4, "mean": MEAN, "std": STD, **options}
    with pytest.raises(ValueError, match=words):
        Loader(settings.pop("split"), settings.pop("batch_size"), **settings)


def test_a_single_name_is_an_augmentation_too():
    assert make_loader(numbered(), augment="flip").augment == ("flip",)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_gpu_yields_the_same_batches(channels_last):
    options = {"augment": ("crop", "flip"), "shuffle": True, "channels_last": channels_last}
    on_cpu = make_loader(numbered(), **options).epoch(1)
    on_gpu = make_loader(numbered(), device="cuda", **options).epoch(1)
    for (x, y), (xg, yg) in zip(on_cpu, on_gpu, strict=True):
        assert xg.device.type == "cuda" and yg.cpu().equal(y)
        torch.testing.assert_close(xg.cpu(), x)
