"""A folder of pictures, one sub-folder a class: listed, checked, decoded once."""

from __future__ import annotations

import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from . import pictures
from .archive import ENDINGS, is_archive, unpack
from .cache import cache_file, cache_folder, read_cache, write_cache
from .core import Data, Split, largest_size, stratified
from .pictures import SUFFIXES, PictureError
from .stream import Files, cores

SHOWN = 20  # problems in one message
AT_ONCE = 4096  # pictures; a million tasks that wait for a thread would take gigabytes
DEFAULT_SIZE = 64  # pixels, where the pictures differ in size
HELD_OUT = ("test", "val", "valid", "validation")  # the first one found is the test part
LAYOUT = "put each class into a folder of its own: <class>/*.jpg or train/<class>/*.jpg"
# Pictures all the same, so skipping them would quietly shrink a class.
UNREADABLE = re.compile(
    r"\.(hei[cf]|avif|jxl|jp2|j2k|svg|psd|raw|dng|cr[23]|nef|arw|ico|p[bgnp]m|pdf|eps|tga|exr|mp4|mov)"
)
CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"


class FolderError(ValueError):
    """All that is wrong with a picture folder, in one message; `problems` is the whole list."""

    def __init__(self, root: Path, problems: list[PictureError]):
        self.root, self.problems = root, problems
        lines = [f"{len(problems)} problem(s) in the picture folder {root}:"]
        for p in problems[:SHOWN]:
            inside = p.path != root and p.path.is_relative_to(root)
            name = p.path.relative_to(root) if inside else p.path
            lines.append(f"  - {name}: {p.cause}. Fix: {p.fix}.")
        if len(problems) > SHOWN:
            lines.append(f"  ... and {len(problems) - SHOWN} more")
        super().__init__("\n".join(lines))


@dataclass
class Listing:
    """What `scan` found. `train` and `test` hold (path, class index); `test` is None where the
    folder has no test part of its own. `problems` have `.path`, `.cause` and `.fix`; `ignored` are
    the links and the files that are no pictures.
    """

    root: Path
    classes: list[str] = field(default_factory=list)
    train: list[tuple[Path, int]] = field(default_factory=list)
    test: list[tuple[Path, int]] | None = None
    problems: list[PictureError] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)

    @property
    def pictures(self) -> list[tuple[Path, int]]:
        """All pictures, training part first."""
        return self.train + (self.test or [])

    def problem(self, path: Path, cause: str, fix: str) -> None:
        """Note a problem."""
        self.problems.append(PictureError(path, cause, fix))


def _folders(path: Path) -> list[Path]:
    """Sub-folders sorted as strings (torchvision's order: "10" before "2"), without hidden ones."""
    found = [p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__"))]
    return sorted(found, key=lambda p: p.name)


def _list_class(folder: Path, listing: Listing) -> list[Path]:
    """Picture files below one class folder, sorted; what is odd goes into the listing."""
    files, foreign, ignored = [], Counter(), []
    if folder.is_symlink():
        listing.problem(folder, "the class is a link, not followed", "put a real folder there")
        return files

    def closed(error: OSError) -> None:  # else os.walk would pass over it without a word
        listing.problem(Path(error.filename), f"{error.strerror}", "change its permissions")

    for directory, subfolders, names in os.walk(folder, onerror=closed):  # follows no links
        subfolders[:] = sorted(s for s in subfolders if not s.startswith("."))
        ignored += [p for s in subfolders if (p := Path(directory, s)).is_symlink()]
        for path in (Path(directory, name) for name in sorted(names)):
            suffix = path.suffix.lower()
            if path.name.startswith("."):  # also macOS's "._cat.jpg", which is no picture
                continue
            if UNREADABLE.fullmatch(suffix):
                foreign[suffix] += 1
            elif suffix in SUFFIXES and not path.is_symlink():
                files.append(path)
            else:
                ignored.append(path)
    if foreign:
        what = ", ".join(f"{count} {suffix}" for suffix, count in sorted(foreign.items()))
        cause = f"it holds {'' if files else 'only '}files that cannot be read here ({what})"
        listing.problem(folder, cause, "convert them to JPEG or PNG, or delete them")
    elif not files:
        cause = "the class has no picture"
        cause += f" (ignored: {len(ignored)} link(s) or other files)" if ignored else ""
        listing.problem(folder, cause, "add pictures, or delete the folder")
    listing.ignored += ignored
    return files


def _structure(root: str | Path) -> Listing:
    """The listing with the problems that show without opening a file."""
    root = Path(root).expanduser()
    listing = Listing(root)
    if is_archive(root):
        try:
            listing.root = root = unpack(root, cache_folder())
        except PictureError as error:
            listing.problems.append(error)
            return listing
    if not root.is_dir():
        cause = f"it is a file, not a folder or {ENDINGS}" if root.exists() else "no such folder"
        listing.problem(root, cause, f"give the path of a folder (looked from {Path.cwd()})")
        return listing
    inside = {p.name.lower(): p for p in _folders(root)}
    # A class may be called "train" too: but a part of the set has folders in it.
    train, test = inside.get("train"), None
    if train and _folders(train):
        test = next((inside[name] for name in HELD_OUT if name in inside), None)
    else:
        train = root
    names = {}
    for part, folder in (("train", train), ("test", test)):
        if folder is None:
            continue
        classes = _folders(folder)
        names[part] = [c.name for c in classes]
        files = [p for p in folder.iterdir() if not p.name.startswith(".")]
        if loose := sum(p.suffix.lower() in SUFFIXES for p in files):
            cause = f"{loose} picture(s) lie loose in it and belong to no class"
            listing.problem(folder, cause, LAYOUT)
        if not classes:
            listing.problem(folder, "no class folders", LAYOUT)
        found = [(f, k) for k, c in enumerate(classes) for f in _list_class(c, listing)]
        setattr(listing, part, found)
        if found and not any(path.parent in classes for path, _ in found):
            # "Training" and "Testing" would become two classes; or a zip has an outer folder.
            cause = f"{', '.join(names[part][:5])}: only folders in them; are they classes?"
            fix = "give the folder one level deeper, or call its parts train and test"
            listing.problem(folder, cause, fix)
    listing.classes = names["train"]
    if len(listing.classes) == 1:
        cause = f"one class ({listing.classes[0]}); a classifier needs at least two"
        listing.problem(train, cause, LAYOUT)
    if test and names["test"] != names["train"]:
        there, here = set(names["train"]), set(names["test"])
        only = [", ".join(sorted(side)) or "none" for side in (there - here, here - there)]
        cause = f"other classes than in {train.name} (only there: {only[0]}; only here: {only[1]})"
        listing.problem(test, cause, "give both the same class folders, or labels would not agree")
    if not test:
        for k, count in Counter(k for _, k in listing.train).items():
            if count == 1:
                cause = "one picture; training and test need one each"
                listing.problem(train / listing.classes[k], cause, "add pictures")
    return listing


def _each(work, listing: Listing, what: str) -> list:
    """`work(index, path)` for all pictures, in threads (Pillow decodes without the lock).

    A PictureError goes into the listing's problems, and its place in the result is None.
    """

    def guarded(item):
        try:
            return work(*item)
        except PictureError as error:
            return error

    paths = [path for path, _ in listing.pictures]
    with pictures.no_bomb_warning(), ThreadPoolExecutor(min(32, cores())) as pool:
        starts = range(0, len(paths), AT_ONCE)
        chunks = (pool.map(guarded, enumerate(paths[s : s + AT_ONCE], s)) for s in starts)
        results = chain.from_iterable(chunks)
        if len(paths) > 2000:
            from tqdm import tqdm

            results = tqdm(results, desc=what, total=len(paths), disable=None)
        results = list(results)
    failed = [r for r in results if isinstance(r, PictureError)]
    listing.problems += failed
    return [None if isinstance(r, PictureError) else r for r in results]


def scan(root: str | Path) -> Listing:
    """List a picture folder, or an archive of one, and find all that is wrong by decoding it once.

    Never raises for what it finds: see `Listing`. Links are not followed; names that start with a
    dot are not even listed.
    """
    listing = _structure(root)
    _each(lambda index, path: pictures.read_picture(path)[1], listing, "checking")
    return listing


def _decode(listing: Listing, size: int | None) -> tuple[np.ndarray, int]:
    """All pictures, uint8 (N, 3, S, S), and how many files had more than one frame."""
    if size is None:
        known = len(listing.problems)
        sizes = set(_each(lambda index, path: pictures.size_of(path), listing, "measuring"))
        del listing.problems[known:]  # they come again with the decoding
        size = _side(sizes)
    count = len(listing.pictures)
    if count and size > (fits := largest_size(count, channels=3)):
        cause = f"{count} pictures of {size} px take {count * 3 * size**2 / 1024**3:.1f} GiB"
        fix = f"give a smaller size=, at most {fits}, or stream=True"
        listing.problem(listing.root, cause, fix)
        return np.empty(0, np.uint8), 0
    out = np.empty((count, 3, size, size), np.uint8)

    def work(index: int, path: Path) -> bool:
        out[index], several = pictures.read_fitted(path, size)
        return several

    return out, sum(filter(None, _each(work, listing, "decoding")))


def _check(listing: Listing, size: int | None) -> tuple[np.ndarray, int]:
    """As `_decode`, but no pixels are kept: uint8 (N, 3, S, 0), so S is all that the cache gets."""

    def work(index: int, path: Path) -> tuple[tuple[int, int], bool]:
        array, several = pictures.read_picture(path)
        return array.shape[:2], several

    found = [f for f in _each(work, listing, "checking") if f]
    size = size or _side({shape for shape, _ in found})
    return np.empty((len(listing.pictures), 3, size, 0), np.uint8), sum(s for _, s in found)


def _side(sizes: set[tuple[int, int]]) -> int:
    """The side of the pictures where all are the same square, else DEFAULT_SIZE."""
    side = next(iter(sizes)) if len(sizes) == 1 else None
    return side[0] if side and side[0] == side[1] else DEFAULT_SIZE


def image_folder(
    root: str | Path,
    *,
    size: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    cache: bool = True,
    stream: bool = False,
) -> Data:
    """Your own pictures, uint8 (N, 3, size, size): the name of a folder is the class in it.

    `root/train/<class>/*` with `root/test`, `root/val` or `root/valid` (the first of them that is
    there), or `root/<class>/*` alone; then `test_fraction` of each class, chosen by `seed`, is the
    test part. Classes are sorted as strings, as torchvision's ImageFolder does ("10" before "2").
    `root` may also be an archive (.zip, .tar, .tar.gz, .tgz, .tar.xz) of such a folder, which is
    unpacked once into `cache_folder()`.

    Each picture is read as `open_picture` does and fitted as `fit_picture` does. Without `size`,
    pictures that are all the same square stay as they are; else `size` is 64 (`source` says it).

    The decoded set is kept in `cache_folder()` and found again as long as no file changed its
    name, length or date; `cache=False` neither reads nor writes it. Its `name` is the first line
    of `root/name.txt` if there is one, else the name of the folder.

    `stream=True` is for a set larger than the memory: every file is decoded once to check it (the
    cache keeps that it was), and again whenever `Loader` needs it. The batches are the same.

    Raises FolderError (a ValueError) that lists everything wrong with the folder: unreadable
    files, empty classes, fewer than two classes, different classes in the two parts, more than
    2 GiB of pixels. Raises ValueError for a size below 16 px or a fraction outside 0..1.
    """
    if size is not None and size < pictures.MIN_SIDE:
        raise ValueError(f"size is {size}; wanted at least {pictures.MIN_SIDE} pixels")
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction is {test_fraction}; wanted a number between 0 and 1")
    listing = _structure(root)
    how = (size, "stream") if stream else (size,)
    keep = cache and not listing.problems
    file = cache_file(listing.root, listing.pictures, *how) if keep else None
    kept = read_cache(file, len(listing.pictures)) if file else None
    x, several = kept or (_check if stream else _decode)(listing, size)
    if listing.problems:
        raise FolderError(listing.root, listing.problems)
    if file and not kept:
        write_cache(file, x, several)
    side = x.shape[2]
    paths, labels = zip(*listing.pictures, strict=True)
    x = Files.listed(listing.root, paths, side) if stream else torch.from_numpy(x)
    whole = Split(x, torch.tensor(labels))
    if listing.test is None:
        train, test = (whole.subset(i) for i in stratified(whole.y, test_fraction, seed))
    else:
        count = len(listing.train)
        train, test = whole.subset(slice(None, count)), whole.subset(slice(count, None))
    folder = listing.root.resolve().name
    source = f"Picture folder {folder}, {side}x{side} px"
    source += f"; first frame only of {several} animated or many-page file(s)" if several else ""
    source += f"; {len(listing.ignored)} file(s) or link(s) ignored" if listing.ignored else ""
    return Data(_name(listing, side) or folder, listing.classes, train, test, source + ".")


def _name(listing: Listing, side: int) -> str:
    given = listing.root / "name.txt"
    if given.is_file():
        return given.read_text(encoding="utf-8", errors="replace").strip().split("\n")[0].strip()
    # The well-known set as lossy JPEG files: results on it must not be taken for CIFAR-10's.
    copy = (
        " ".join(listing.classes) == CIFAR10_CLASSES
        and (len(listing.train), len(listing.test or ()), side) == (50_000, 10_000, 32)
        and all(path.suffix.lower() in (".jpg", ".jpeg") for path, _ in listing.pictures)
    )
    return "CIFAR-10, JPEG copy" if copy else ""
