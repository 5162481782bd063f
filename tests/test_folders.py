"""Picture folders: every fault is made for real, and the message must name file, cause and fix."""

import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_lib.data import (
    FolderError,
    PictureError,
    archive,
    cifar10,
    core,
    fit_picture,
    folders,
    image_folder,
    load,
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


def test_it_does_not_matter_how_many_pictures_are_under_way_at_once(tmp_path, monkeypatch):
    made = image_folder(make(tmp_path), cache=False)
    monkeypatch.setattr(folders, "AT_ONCE", 3)
    assert image_folder(tmp_path, cache=False).fingerprint == made.fingerprint


def test_scan_lists_without_raising(tmp_path):
    make(tmp_path / "train", count=2)
    make(tmp_path / "val", count=1)
    (tmp_path / "train" / "ants" / "bad.jpg").touch()
    found = scan(tmp_path)
    assert found.classes == ["ants", "bees"]
    assert (len(found.train), len(found.test), len(found.problems)) == (5, 2, 1)
    assert found.problems[0].path.name == "bad.jpg" and "empty" in found.problems[0].cause


# Archives

PACKED = {".zip": None, ".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz"}


def pack(root, file, outer=""):
    """An archive of what is in `root`, below a folder `outer` if given."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    names = [str(Path(outer) / path.relative_to(root)) for path in paths]
    mode = next(mode for ending, mode in PACKED.items() if file.name.endswith(ending))
    if mode is None:
        with zipfile.ZipFile(file, "w") as packed:
            for path, name in zip(paths, names, strict=True):
                packed.write(path, name)
    else:
        with tarfile.open(file, mode) as packed:
            for path, name in zip(paths, names, strict=True):
                packed.add(path, name)
    return file


def unpacked(cache):
    """What stands in the cache as unpacked, finished or not."""
    return sorted(path.name for path in cache.glob("unpacked-*/*"))


@pytest.mark.parametrize("ending", PACKED)
@pytest.mark.parametrize("outer", ["", "garden"])
def test_an_archive_is_as_good_as_its_folder(tmp_path, own_cache, monkeypatch, ending, outer):
    root = make(tmp_path / "insects")
    file = pack(root, tmp_path / f"pets{ending}", outer)
    made = image_folder(file)
    assert made.fingerprint == image_folder(root).fingerprint
    assert made.name == (outer or "pets") and unpacked(own_cache) == ["pets"]
    for name in ("_unzip", "_untar"):
        monkeypatch.setattr(archive, name, None)  # would raise
    monkeypatch.setattr(folders, "_decode", None)
    (tmp_path / "elsewhere").mkdir()
    moved = file.rename(tmp_path / "elsewhere" / file.name)
    monkeypatch.setenv("RESNET_LIB_DATA", str(moved))
    assert image_folder(moved).fingerprint == load(str(moved)).fingerprint == made.fingerprint
    assert cifar10().fingerprint == made.fingerprint
    assert not scan(moved).problems and len(scan(moved).train) == 10


def test_the_parts_of_an_archive_are_kept_apart(tmp_path):
    make(tmp_path / "set" / "train", count=3)
    make(tmp_path / "set" / "val", count=2)
    made = image_folder(pack(tmp_path / "set", tmp_path / "set.tar.gz"))
    assert (len(made.train), len(made.test)) == (6, 4)
    alone = image_folder(pack(tmp_path / "set" / "train", tmp_path / "one.zip", "train"))
    assert alone.name == "one" and alone.classes == ["ants", "bees"]


def test_a_streamed_archive(tmp_path):
    file = pack(make(tmp_path / "insects"), tmp_path / "insects.tar")
    memory, files = image_folder(file).train.x, image_folder(file, stream=True).train.x
    assert torch.stack([files[k] for k in range(len(files))]).equal(memory)


@pytest.mark.parametrize("ending", PACKED)
@pytest.mark.parametrize("part", [0, 0.1, 0.5, 0.8, -1])
def test_an_archive_cut_short_is_refused_and_leaves_nothing(tmp_path, own_cache, ending, part):
    file = pack(make(tmp_path / "insects"), tmp_path / f"pets{ending}")
    raw = file.read_bytes()
    if ending == ".tar":
        raw = raw.rstrip(b"\0")  # zeros fill it up to 10 kB
    file.write_bytes(raw[: int(len(raw) * part)] if part >= 0 else raw[:-1])
    error = expect(file, r"pets\S+: it cannot be unpacked \(.+\)\. Fix: copy or download it again")
    assert len(error.problems) == 1 and error.problems[0].path == file
    assert unpacked(own_cache) == []


def test_a_tar_file_that_ends_or_breaks_between_two_files_is_not_taken_for_whole(tmp_path):
    file = pack(make(tmp_path / "insects"), tmp_path / "pets.tar")
    with tarfile.open(file) as packed:
        place = packed.getmembers()[6].offset
    raw = file.read_bytes()
    for damaged in (raw[:place], raw[:place] + b"x" * 512 + raw[place + 512 :]):
        file.write_bytes(damaged)
        with tarfile.open(file) as packed:
            assert len(packed.getmembers()) == 6  # without a word
        expect(file, r"pets\.tar: it cannot be unpacked \(it is cut short or damaged")


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
def test_a_flipped_bit_in_an_archive_is_found(tmp_path, own_cache, ending):
    file = pack(make(tmp_path / "insects"), tmp_path / f"pets{ending}")
    raw = bytearray(file.read_bytes())
    # In a picture's bytes; of gzip, in the checksum at the very end.
    raw[raw.index(b"IDAT") + 8 if ending == ".zip" else len(raw) - 8] ^= 1
    file.write_bytes(raw)
    expect(file, "it cannot be unpacked .*CRC")
    assert unpacked(own_cache) == []


@pytest.mark.parametrize("name", ["../out.png", "ants/../../out.png", "/out.png", "..\\out.png"])
def test_a_zip_member_that_would_land_elsewhere_is_refused(tmp_path, own_cache, name):
    file = pack(make(tmp_path / "insects"), tmp_path / "pets.zip")
    with zipfile.ZipFile(file, "a") as packed:
        packed.writestr(name, b"bad")
    expect(file, r"pets\.zip: it cannot be unpacked \('.*out.png' would land outside")
    assert not list(own_cache.rglob("out.png")) and unpacked(own_cache) == []


def test_a_tar_member_that_would_land_elsewhere_is_refused(tmp_path, own_cache):
    file = tmp_path / "pets.tar.xz"
    with tarfile.open(file, "w:xz") as packed:
        packed.add(make(tmp_path / "insects"), "pets")
        packed.add(tmp_path / "insects" / "ants" / "0.png", "../out.png")
    expect(file, r"pets\.tar\.xz: it cannot be unpacked \(.*outside")
    assert not list(own_cache.rglob("out.png")) and unpacked(own_cache) == []


def test_links_in_an_archive_are_left_out(tmp_path):
    root = make(tmp_path / "insects")
    with tarfile.open(tmp_path / "pets.tar", "w") as packed:
        packed.add(root, "insects")
        for kind, name in ((tarfile.SYMTYPE, "soft.png"), (tarfile.LNKTYPE, "hard.png")):
            member = tarfile.TarInfo(f"insects/ants/{name}")
            member.type, member.linkname = kind, "/etc/passwd"
            packed.addfile(member)
    with zipfile.ZipFile(pack(root, tmp_path / "pets.zip"), "a") as packed:
        member = zipfile.ZipInfo("ants/soft.png")
        member.external_attr = 0o120777 << 16
        packed.writestr(member, "/etc/passwd")
    for name in ("pets.tar", "pets.zip"):
        assert len(scan(tmp_path / name).pictures) == 10
        assert not scan(tmp_path / name).problems


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
@pytest.mark.parametrize(("limit", "value"), [("MAX_FILES", 9), ("MAX_BYTES", 300)])
def test_an_archive_that_unpacks_to_too_much(
    tmp_path, own_cache, monkeypatch, ending, limit, value
):
    file = pack(make(tmp_path / "insects"), tmp_path / f"pets{ending}")
    monkeypatch.setattr(archive, limit, value)
    expect(file, r"cannot be unpacked \(it would unpack to more than .* files or .* GiB\)")
    assert unpacked(own_cache) == []


def test_a_zip_bomb_is_refused_by_the_limit_that_stands_there(tmp_path):
    file = tmp_path / "bomb.zip"
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("ants/0.png", b"")
        packed.infolist()[0].file_size = 65 * 1024**3  # as the directory of a bomb says
    expect(file, r"more than 2,000,000 files or 64 GiB")


def test_a_kill_while_unpacking_leaves_nothing_that_is_taken_for_whole(tmp_path, own_cache):
    file = pack(make(tmp_path / "insects"), tmp_path / "pets.zip")
    code = (
        "import os, sys; from pathlib import Path; from resnet_lib.data import archive\n"
        "whole = archive.shutil.copyfileobj\n"
        "def some(source, out):\n"
        "    whole(source, out)\n"
        "    if out.name.endswith('3.png'): os.kill(os.getpid(), 9)\n"
        "archive.shutil.copyfileobj = some\n"
        "archive.unpack(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    root = Path(folders.__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", code, file, own_cache], cwd=root)
    assert killed.returncode == -9
    (half,) = own_cache.glob("unpacked-*/*.part")
    assert len(list(half.rglob("*.png"))) == 4
    assert len(image_folder(file).train) == 8 and len(unpacked(own_cache)) == 2
    shutil.rmtree(half.with_name("pets"))
    os.utime(half, (1, 1))  # long ago: nobody works on it any more
    assert len(image_folder(file).train) == 8 and unpacked(own_cache) == ["pets"]


def test_where_an_archive_cannot_be_unpacked_it_says_how_to_choose(tmp_path, monkeypatch):
    file = pack(make(tmp_path / "insects"), tmp_path / "pets.zip")
    (tmp_path / "file").touch()
    monkeypatch.setenv("RESNET_LIB_CACHE", str(tmp_path / "file"))
    expect(file, r"pets\.zip: it cannot be unpacked .*Fix: make room .*set RESNET_LIB_CACHE")


def test_what_is_no_archive(tmp_path):
    page = tmp_path / "pets.zip"
    page.write_text("<html>please log in</html>")
    expect(page, r"pets\.zip: it cannot be unpacked \(File is not a zip file\)")
    expect(page.rename(tmp_path / "pets.tgz"), r"pets\.tgz: .*\(its start is missing or damaged")
    other = tmp_path / "pets.rar"
    other.touch()
    expect(other, r"pets\.rar: it is a file, not a folder or \.zip, \.tar, ")
    with pytest.raises(FolderError, match=r"gone\.zip: no such folder"):
        load(tmp_path / "gone.zip")


def test_a_bad_picture_in_an_archive_is_named(tmp_path):
    root = make(tmp_path / "insects")
    (root / "bees" / "3.png").write_bytes(b"")
    expect(pack(root, tmp_path / "pets.zip"), r"folder .*pets", r"bees/3\.png: the file is empty")
