"""Picture folders: every fault is made for real, and the message must name file, cause and fix."""

import os
import re
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_lib.data import (
    FolderError,
    PictureError,
    core,
    fit_picture,
    folders,
    image_folder,
    open_picture,
    scan,
)

GREY = (90, 120, 150)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test touches the reader's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("RESNET_LIB_CACHE", str(folder))
    return folder


def save(path, size=(20, 20), colour=GREY, mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def make(root, classes=("ants", "bees"), count=5, size=(20, 20), suffix=".png"):
    """root/<class>/k.png, each picture with a colour of its own."""
    for c, name in enumerate(classes):
        for k in range(count):
            save(root / name / f"{k}{suffix}", size, (40 * c, 20 * k, 200))
    return root


def expect(root, *wanted, **options):
    """The error names all `wanted` (regular expressions), once per problem, with a fix."""
    with pytest.raises(FolderError) as caught:
        image_folder(root, **options)
    message = str(caught.value)
    for words in wanted:
        assert re.search(words, message), message
    assert all(line.count("Fix:") == 1 for line in message.splitlines() if line[:4] == "  - ")
    if root.exists():
        assert len(scan(root).problems) == len(caught.value.problems) or "GiB" in message
    return caught.value


# What works


def test_one_level_is_split_stratified_and_seeded(tmp_path):
    made = image_folder(make(tmp_path / "garden", count=10))
    assert made.name == "garden" and made.classes == ["ants", "bees"]
    assert torch.bincount(made.train.y).tolist() == [8, 8]
    assert torch.bincount(made.test.y).tolist() == [2, 2]
    assert made.shape == (3, 20, 20)  # all the same square: left as they are
    assert image_folder(tmp_path / "garden").fingerprint == made.fingerprint
    assert image_folder(tmp_path / "garden", seed=1).fingerprint != made.fingerprint
    pixels = torch.cat([made.train.x, made.test.x])[:, :, 3, 3].tolist()
    assert sorted(pixels) == sorted([40 * c, 20 * k, 200] for c in range(2) for k in range(10))
    # Each picture has the label of its own folder.
    assert (made.train.x[:, 0, 0, 0] // 40).tolist() == made.train.y.tolist()


@pytest.mark.parametrize("held_out", ["test", "val", "valid"])
def test_two_parts_are_kept_apart(tmp_path, held_out):
    make(tmp_path / "train", count=3)
    make(tmp_path / held_out, count=2)
    made = image_folder(tmp_path)
    assert (len(made.train), len(made.test)) == (6, 4)
    assert made.test.y.tolist() == [0, 0, 1, 1]


def test_test_comes_before_val(tmp_path):
    for part, count in (("train", 3), ("val", 2), ("test", 1)):
        make(tmp_path / part, count=count)
    assert len(image_folder(tmp_path).test) == 2


def test_a_train_folder_alone_is_split(tmp_path):
    make(tmp_path / "train", count=5)
    assert len(image_folder(tmp_path).test) == 2


def test_a_class_may_be_called_train(tmp_path):
    assert image_folder(make(tmp_path, ("car", "plane", "train"))).classes[2] == "train"


def test_pictures_of_several_sizes_become_64_and_it_says_so(tmp_path):
    save(make(tmp_path) / "ants" / "wide.jpg", (90, 30))
    made = image_folder(tmp_path)
    assert made.shape == (3, 64, 64) and "64x64" in made.source
    assert image_folder(tmp_path, size=32).shape == (3, 32, 32)


def test_the_name_can_be_given(tmp_path):
    (make(tmp_path) / "name.txt").write_text("My insects\nphotographed in 2024\n")
    assert image_folder(tmp_path).name == "My insects"


def test_cifar10_as_jpeg_files_says_that_it_is_a_copy(tmp_path, monkeypatch):
    names = folders.CIFAR10_CLASSES.split()
    listing = folders.Listing(tmp_path, names)
    listing.train = [(Path("a.jpg"), 0)] * 50_000
    listing.test = [(Path("a.jpeg"), 0)] * 10_000
    assert folders._name(listing, 32) == "CIFAR-10, JPEG copy"
    assert folders._name(listing, 16) == ""
    listing.test[7] = (Path("a.png"), 0)
    assert folders._name(listing, 32) == ""


def test_real_photographs():
    shared = Path(folders.__file__).parents[3] / "shared" / "data" / "ants-bees-256px.tar.xz"
    if not shared.is_file():
        pytest.skip(f"needs the photographs in {shared.name}, which are not published with this")
    root = Path(os.environ["RESNET_LIB_CACHE"])
    with tarfile.open(shared) as tar:
        tar.extractall(root, filter="data")
    made = image_folder(root / "ants_bees", size=64)
    assert made.classes == ["ants", "bees"] and made.name == "ants_bees"
    assert (len(made.train), len(made.test)) == (245, 153)
    assert torch.bincount(made.train.y).tolist() == [124, 121]
    assert all(0.2 < m < 0.8 for m in made.mean) and all(0.1 < s < 0.4 for s in made.std)


# Faults 1 to 18


def test_1_and_2_all_bad_files_come_in_one_message(tmp_path):
    ants = make(tmp_path, size=(200, 200)) / "ants"
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    for name in ("cut.jpg", "cut.png"):
        Image.fromarray(noise).save(ants / name)
        whole = (ants / name).read_bytes()
        (ants / name).write_bytes(whole[: len(whole) // 2])
    (ants / "empty.jpg").touch()
    (ants / "page.jpg").write_text("\n<!doctype html><title>404</title>")
    (ants / "text.png").write_text("no picture")
    error = expect(
        tmp_path,
        r"5 problem\(s\)",
        r"ants/cut\.jpg: it is cut short.*Fix: .*again",
        r"ants/cut\.png: it is cut short",
        r"ants/empty\.jpg: the file is empty \(0 bytes\)",
        r"ants/page\.jpg: it holds a web page.*failed download",
        r"ants/text\.png: it is not a JPEG, PNG.*Fix: .*save it as JPEG",
    )
    assert {p.path.name for p in error.problems} >= {"cut.jpg", "page.jpg"}


def test_a_flipped_byte_in_a_png_is_found(tmp_path):
    path = save(make(tmp_path) / "ants" / "bad.png", (64, 64))
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"IDAT") + 10] ^= 255
    path.write_bytes(raw)
    expect(tmp_path, r"ants/bad\.png: it is cut short or damaged")


def test_2_macos_shadows_are_ignored(tmp_path):
    for folder in ("", "ants", "bees"):
        (make(tmp_path) / folder / "._0.png").write_bytes(b"\0\5\26\7")
    assert len(image_folder(tmp_path).train) == 8


def test_3_formats_that_cannot_be_read(tmp_path):
    make(tmp_path)
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "a.HEIC").write_bytes(b"x")
    (tmp_path / "cats" / "b.heic").write_bytes(b"x")
    (tmp_path / "ants" / "c.avif").write_bytes(b"x")
    expect(
        tmp_path,
        r"cats: it holds only files that cannot be read here \(2 \.heic\)\. Fix: convert",
        r"ants: it holds files that cannot be read here \(1 \.avif\)\. Fix: convert",
    )


def test_3_gif_is_read(tmp_path):
    assert len(image_folder(make(tmp_path, suffix=".gif")).train) == 8


def test_4_an_empty_class(tmp_path):
    make(tmp_path)
    (tmp_path / "cats").mkdir()
    (tmp_path / "dogs").mkdir()
    (tmp_path / "dogs" / "notes.txt").touch()
    expect(tmp_path, r"cats: the class has no picture\. Fix: add", r"dogs: .*ignored: 1 link")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="all folders open to root")
def test_4_a_closed_folder(tmp_path):
    make(tmp_path)
    save(tmp_path / "ants" / "closed" / "0.png").parent.chmod(0)
    expect(tmp_path, "ants/closed: Permission denied. Fix: change its permissions")


def test_5_hidden_folders_are_no_classes(tmp_path):
    make(tmp_path)
    for folder in (".ipynb_checkpoints", "__MACOSX", "ants/.thumbnails"):
        save(tmp_path / folder / "0.png", (30, 30))
    made = image_folder(tmp_path)
    assert made.classes == ["ants", "bees"] and len(made.train) + len(made.test) == 10


def test_6_no_class_folders_or_no_folder(tmp_path):
    expect(tmp_path / "nowhere", "nowhere: no such folder. Fix: .*looked from")
    expect(save(tmp_path / "a.png"), r"a\.png: it is a file")
    expect(tmp_path, r"1 picture\(s\) lie loose", "no class folders. Fix: put each class into")


def test_6_pictures_beside_the_classes_are_not_lost(tmp_path):
    save(make(tmp_path) / "forgotten.jpg")
    expect(tmp_path, r"1 picture\(s\) lie loose in it and belong to no class")


def test_6_the_wrong_level(tmp_path):
    for part in ("Training", "Testing"):
        make(tmp_path / part)
    expect(tmp_path, "Testing, Training: only folders in them; are they classes.*one level deeper")


def test_7_one_class(tmp_path):
    expect(make(tmp_path, ["ants"]), r"one class \(ants\).*at least two")


def test_8_other_classes_in_the_test_part(tmp_path):
    make(tmp_path / "train", ("ants", "bees", "cats"))
    make(tmp_path / "test", ("ants", "cats", "dogs"))
    expect(tmp_path, r"test: other classes than in train \(only there: bees; only here: dogs\)")


def test_9_classes_sort_as_strings(tmp_path):
    assert image_folder(make(tmp_path, ("2", "9", "10"))).classes == ["10", "2", "9"]


def test_16_too_many_pixels_are_refused_before_decoding(tmp_path):
    # A PNG of which only the header is there: it states 20,000 x 20,000 pixels.
    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    for name, side in (("huge", 20_000), ("large", 7_000)):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        bytes_ = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")
        (make(tmp_path) / "ants" / f"{name}.png").write_bytes(bytes_)
    expect(
        tmp_path,
        r"ants/huge\.png: it has more than 40 megapixels. Fix: make it smaller",
        r"ants/large\.png: it has more than 40 megapixels",
    )


def test_16_other_formats_are_not_opened(tmp_path):
    save(make(tmp_path) / "ants" / "a.png", format="PPM")
    expect(tmp_path, r"ants/a\.png: it is not a JPEG, PNG, WEBP, BMP, TIFF, GIF picture")


def test_17_pictures_too_small_for_a_network(tmp_path):
    make(tmp_path)
    save(tmp_path / "ants" / "dot.png", (1, 1))
    save(tmp_path / "bees" / "flat.png", (100, 15))
    expect(tmp_path, r"ants/dot\.png: it is 1x1 pixels, below 16", r"bees/flat\.png: it is 100x15")


def test_18_links_are_not_followed(tmp_path):
    root = make(tmp_path / "real")
    (root / "ants" / "again").symlink_to(root / "ants", target_is_directory=True)
    (root / "bees" / "twin.png").symlink_to(root / "bees" / "0.png")
    made = image_folder(root)
    assert len(made.train) + len(made.test) == 10
    assert "2 file(s) or link(s) ignored" in made.source
    assert {p.name for p in scan(root).ignored} == {"again", "twin.png"}


def test_18_a_class_that_is_a_link_is_not_lost_silently(tmp_path):
    root = make(tmp_path / "real")
    (root / "cats").symlink_to(root / "ants", target_is_directory=True)
    expect(root, "cats: the class is a link, not followed. Fix:")


# 10 to 15: what a picture becomes


def solid(path):
    array = open_picture(path)
    assert array.dtype == np.uint8 and array.shape == (20, 20, 3)
    return array[10, 10].tolist()


def test_10_sixteen_bits_are_rescaled_not_clipped(tmp_path):
    values = np.full((20, 20), 32896, dtype=np.uint16)  # 128 of 255
    Image.fromarray(values).save(tmp_path / "deep.png")
    Image.fromarray(values).save(tmp_path / "deep.tif")
    assert solid(tmp_path / "deep.png") == solid(tmp_path / "deep.tif") == [128] * 3


def test_11_floating_point(tmp_path):
    path = save(tmp_path / "half.tif", colour=0.5, mode="F")
    assert solid(path) == [128] * 3
    for value in (300.0, -1.0, float("nan")):
        path = save(tmp_path / "odd.tif", colour=value, mode="F")
        with pytest.raises(PictureError, match=r"odd\.tif: .*floating-point.*Fix: save it as"):
            open_picture(path)
    path = save(tmp_path / "long.tif", colour=70000, mode="I")
    with pytest.raises(PictureError, match="32-bit whole numbers"):
        open_picture(path)


def test_12_transparency_lies_on_white(tmp_path):
    assert solid(save(tmp_path / "a.png", colour=(255, 0, 0, 0), mode="RGBA")) == [255] * 3
    assert solid(save(tmp_path / "b.png", colour=(0, 0, 0, 128), mode="RGBA")) == [127] * 3
    assert solid(save(tmp_path / "c.png", colour=(0, 0), mode="LA")) == [255] * 3
    assert solid(save(tmp_path / "d.png", transparency=(9, 9, 9), colour=(9, 9, 9))) == [255] * 3
    palette = Image.new("RGB", (20, 20), (9, 9, 9)).convert("P")
    palette.save(tmp_path / "e.gif", transparency=palette.getpixel((0, 0)))
    assert solid(tmp_path / "e.gif") == [255] * 3


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "wanted"),
    [
        ("L", 77, ".png", [77] * 3),
        ("1", 1, ".png", [255] * 3),
        ("LA", (77, 255), ".png", [77] * 3),
        ("P", None, ".png", [0] * 3),
        ("CMYK", (0, 255, 255, 0), ".jpg", [255, 0, 0]),
        ("RGB", GREY, ".webp", list(GREY)),
        ("RGB", GREY, ".bmp", list(GREY)),
        ("YCbCr", (128, 128, 128), ".jpg", [128] * 3),
    ],
)
def test_13_colour_modes(tmp_path, mode, colour, suffix, wanted):
    path = tmp_path / f"a{suffix}"
    Image.new(mode, (20, 20), colour or 0).save(path)
    assert np.abs(np.array(solid(path)) - wanted).max() <= 3


def test_14_animations_give_their_first_frame_and_say_so(tmp_path):
    make(tmp_path)
    frames = [Image.new("RGB", (20, 20), c) for c in ("red", "blue")]
    for name in ("a.gif", "a.webp", "a.tif"):
        frames[0].save(
            tmp_path / "ants" / name, save_all=True, append_images=frames[1:], lossless=True
        )
        assert solid(tmp_path / "ants" / name)[0] > 250
    assert "first frame only of 3 animated" in image_folder(tmp_path).source
    assert "first frame only of 3 animated" in image_folder(tmp_path).source  # from the cache too


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_15_every_exif_rotation_is_applied(tmp_path, suffix):
    upright = Image.new("RGB", (40, 24), "white")
    upright.paste((255, 0, 0), (0, 0, 20, 12))  # red in the upper left quarter
    method = Image.Transpose
    stored = {2: method.FLIP_LEFT_RIGHT, 3: method.ROTATE_180, 4: method.FLIP_TOP_BOTTOM}
    stored |= {5: method.TRANSPOSE, 6: method.ROTATE_90, 7: method.TRANSVERSE, 8: method.ROTATE_270}
    for number, how in stored.items():
        exif = Image.Exif()
        exif[0x0112] = number
        path = tmp_path / f"{number}{suffix}"
        upright.transpose(how).save(path, exif=exif)
        array = open_picture(path).astype(int)
        assert array.shape == (24, 40, 3), number
        assert array[4, 8, 1] < 40 and array[20, 8, 1] > 200 and array[4, 32, 1] > 200, number


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(PictureError, match=r"cat\.jpg: it cannot be opened \(No such file"):
        open_picture(tmp_path / "cat.jpg")


def test_fitting_keeps_the_middle_and_the_proportions():
    array = np.zeros((40, 100, 3), np.uint8)
    array[:, 30:70] = 200  # the middle square, exactly
    fitted = fit_picture(array, 20)
    assert fitted.shape == (20, 20, 3) and fitted.dtype == np.uint8
    assert (fitted == 200).all()
    assert fit_picture(array.transpose(1, 0, 2), 20).min() == 200
    square = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    assert fit_picture(square, 24) is square
    assert fit_picture(square, 48).shape == (48, 48, 3)


def test_shrinking_averages_instead_of_picking():
    checker = np.indices((64, 64)).sum(0) % 2 * 255
    fitted = fit_picture(np.repeat(checker[..., None], 3, 2).astype(np.uint8), 16)
    assert np.abs(fitted[2:-2, 2:-2].astype(int) - 127).max() <= 3


# Size, settings, cache


def test_a_set_too_large_for_memory(tmp_path):
    error = expect(
        make(tmp_path), r"10 pictures of 20000 px take 11\.2 GiB.*smaller size=", size=20_000
    )
    fits = int(re.search(r"at most (\d+)", str(error))[1])
    assert 10 * 3 * fits**2 <= core.MAX_BYTES < 10 * 3 * (fits + 1) ** 2


def test_settings_out_of_range(tmp_path):
    with pytest.raises(ValueError, match="size is 8; wanted at least 16"):
        image_folder(make(tmp_path), size=8)
    with pytest.raises(ValueError, match=r"test_fraction is 1\.5"):
        image_folder(tmp_path, test_fraction=1.5)


def test_one_picture_cannot_be_split(tmp_path):
    save(make(tmp_path) / "cats" / "only.png")
    expect(tmp_path, "cats: one picture; training and test need one each. Fix: add")


def test_at_most_twenty_problems_are_shown(tmp_path):
    make(tmp_path)
    for k in range(27):
        (tmp_path / "ants" / f"bad{k:02}.png").touch()
    error = expect(tmp_path, r"27 problem\(s\)", "and 7 more")
    assert str(error).count("bad") == 20 and len(error.problems) == 27


def test_the_second_time_nothing_is_decoded(tmp_path, own_cache, monkeypatch):
    first = image_folder(make(tmp_path))
    assert len(list(own_cache.iterdir())) == 1
    monkeypatch.setattr(folders, "_decode", None)  # would raise
    assert image_folder(tmp_path).fingerprint == first.fingerprint
    with pytest.raises(TypeError):
        image_folder(tmp_path, cache=False)
    with pytest.raises(TypeError):
        image_folder(tmp_path, size=32)


def test_a_changed_file_is_decoded_again(tmp_path):
    first = image_folder(make(tmp_path))
    path = tmp_path / "ants" / "0.png"
    save(path, colour=(1, 2, 3))
    os.utime(path, (1, 1))  # in case the clock is coarse
    assert image_folder(tmp_path).fingerprint != first.fingerprint
    path.rename(path.with_name("zero.png"))
    assert len(image_folder(tmp_path).train) == len(first.train)


@pytest.mark.parametrize("damage", ["cut", "foreign", "empty", "flipped", "other"])
def test_a_damaged_cache_is_made_anew(tmp_path, own_cache, damage):
    first = image_folder(make(tmp_path))
    (kept,) = own_cache.iterdir()
    raw = kept.read_bytes()
    middle = len(raw) // 2
    flipped = raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]
    new = {"cut": raw[:middle], "foreign": b"hello", "empty": b"", "flipped": flipped}
    if damage == "other":
        np.savez(kept, x=np.zeros((3, 3, 20, 20), np.uint8), several=0)
    else:
        kept.write_bytes(new[damage])
    assert image_folder(tmp_path).fingerprint == first.fingerprint
    assert kept.read_bytes() == raw and len(list(own_cache.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_only_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RESNET_LIB_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="not kept"):
        assert len(image_folder(make(tmp_path / "set")).train) == 8


def test_scan_lists_without_raising(tmp_path):
    make(tmp_path / "train", count=2)
    make(tmp_path / "val", count=1)
    (tmp_path / "train" / "ants" / "bad.jpg").touch()
    found = scan(tmp_path)
    assert found.classes == ["ants", "bees"]
    assert (len(found.train), len(found.test), len(found.problems)) == (5, 2, 1)
    assert found.problems[0].path.name == "bad.jpg" and "empty" in found.problems[0].cause
