"""The procedural pictures: the same everywhere, balanced, and no test picture in training."""

import pytest
import torch

from resnet_lib.data import shapes10

# Pixels are computed only by operations that IEEE 754 fixes to the last bit, so this holds on
# every machine. Whoever changes a picture changes it here, and reruns the records made with it.
FINGERPRINT = "6d16b0f6fbcd462a"


@pytest.fixture(scope="module")
def small():
    return shapes10(620, 120)


def test_the_pictures_are_the_recorded_ones(small):
    assert small.shape == (3, 32, 32) and small.train.x.dtype == torch.uint8
    assert small.fingerprint == shapes10(620, 120).fingerprint == FINGERPRINT


def test_the_first_pictures_do_not_depend_on_how_many_are_drawn(small):
    fewer = shapes10(37, 11)  # within a chunk of 500; `small` reaches into a second
    assert fewer.train.x.equal(small.train.x[:37]) and fewer.train.y.equal(small.train.y[:37])
    assert fewer.test.x.equal(small.test.x[:11]) and fewer.test.y.equal(small.test.y[:11])


def test_every_class_comes_equally_often(small):
    assert torch.bincount(small.train.y).tolist() == [62] * 10
    assert torch.bincount(small.test.y).tolist() == [12] * 10
    assert len(small.classes) == 10
    assert small.train.y[:10].tolist() != small.train.y[10:20].tolist()  # but in random order


def test_training_and_test_pictures_are_all_different(small):
    every = torch.cat([small.train.x, small.test.x]).flatten(1)
    assert len(torch.unique(every, dim=0)) == 740


def test_seed_rotation_and_size_do_something(small):
    assert not shapes10(20, 10, seed=1).train.x.equal(small.train.x[:20])
    upright = shapes10(20, 10, rotation=0)
    assert upright.train.y.equal(small.train.y[:20])
    assert not upright.train.x.equal(small.train.x[:20])
    assert shapes10(20, 10, size=48).shape == (3, 48, 48)


def test_colour_says_nothing_about_the_class():
    made = shapes10(3000, 10)
    colours = made.train.x.float().mean((2, 3))
    means = torch.stack([colours[made.train.y == k].mean(0) for k in range(10)])
    within = colours.std(0) / (300**0.5)
    assert ((means - colours.mean(0)) / within).abs().max() < 4.5


def test_the_pictures_use_the_whole_range(small):
    pixels = small.train.x.float()
    assert pixels.min() == 0 and pixels.max() == 255
    assert pixels.flatten(1).std(1).min() > 8  # none is flat


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_train": 9}, "at least 10"),
        ({"n_test": 0}, "at least 10"),
        ({"size": 7}, "below 8 px"),
        ({"rotation": -1}, "0 to 180"),
        ({"rotation": 200}, "0 to 180"),
    ],
)
def test_nonsense_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        shapes10(**options)
