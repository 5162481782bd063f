"""A folder of pictures, one sub-folder a class: listed, checked, decoded once."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from .core import Data, Split, stratified
from .pictures import (
    FORMATS,
    MIN_SIDE,
    SUFFIXES,
    PictureError,
    _open,
    fit_picture,
    no_bomb_warning,
    read_picture,
)

SHOWN = 20  # problems in one message
MAX_BYTES = 2 * 1024**3  # of the decoded set
DEFAULT_SIZE = 64  # pixels, where the pictures differ in size
HELD_OUT = ("test", "val", "valid", "validation")  # the first one found is the test part
# Pictures that would silently be missing from the training set if they were merely skipped.
UNREADABLE = set(
    [".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".svg", ".psd", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".ico", ".ppm", ".pgm", ".pdf", ".eps", ".tga", ".exr", ".hdr", ".mp4", ".mov"]
)
CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@dataclass(frozen=True)
class Problem:
    """What is wrong with `path` (relative to the root), why, and what to do."""

    path: str
    cause: str
    fix: str

    def __str__(self) -> str:
        return f"{self.path}: {self.cause}. Fix: {self.fix}."


class FolderError(ValueError):
    """Everything that is wrong with a picture folder, in one message; `problems` has the list."""

    def __init__(self, root: Path, problems: list[Problem]):
        self.root, self.problems = root, problems
        lines = [f"{len(problems)} problem(s) in the picture folder {root}:"]
        lines += [f"  - {problem}" for problem in problems[:SHOWN]]
        if len(problems) > SHOWN:
            lines.append(f"  ... and {len(problems) - SHOWN} more")
        super().__init__("\n".join(lines))


@dataclass
class Listing:
    """What `scan` found: `train` and `test` hold (path, class index); `test` is None where the
    folder has no part of its own for it. `ignored` are the files and links left out, with reason.
    """

    root: Path
    classes: list[str] = field(default_factory=list)
    train: list[tuple[Path, int]] = field(default_factory=list)
    test: list[tuple[Path, int]] | None = None
    problems: list[Problem] = field(default_factory=list)
    ignored: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def pictures(self) -> list[tuple[Path, int]]:
        """All pictures, training part first."""
        return self.train + (self.test or [])


def _folders(path: Path) -> list[Path]:
    """Sub-folders by name, as strings sort (torchvision's order: "10" before "2")."""
    found = [p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__"))]
    return sorted(found, key=lambda p: p.name)


def _list_class(folder: Path, listing: Listing) -> list[Path]:
    """Picture files below one class folder, sorted; what is odd goes into the listing."""
    files, foreign = [], Counter()
    before = len(listing.ignored)
    relative = str(folder.relative_to(listing.root))
    if folder.is_symlink():
        fix = "replace the link by a real folder"
        listing.problems.append(Problem(relative, "the class is a link, not followed", fix))
        return []
    for directory, subfolders, names in os.walk(folder):  # does not follow links
        for name in sorted(subfolders):
            if Path(directory, name).is_symlink():
                listing.ignored.append((Path(directory, name), "a link, not followed"))
        subfolders[:] = sorted(s for s in subfolders if not s.startswith("."))
        for name in sorted(names):
            path, suffix = Path(directory, name), Path(name).suffix.lower()
            if name.startswith("."):  # also macOS's "._cat.jpg", which is no picture
                continue
            if path.is_symlink():
                listing.ignored.append((path, "a link, not followed"))
            elif suffix in SUFFIXES:
                files.append(path)
            elif suffix in UNREADABLE:
                foreign[suffix] += 1
            else:
                listing.ignored.append((path, "not a picture"))
    if foreign:
        what = ", ".join(f"{count} {suffix}" for suffix, count in sorted(foreign.items()))
        only = "only files that" if not files else "files that"
        cause = f"it holds {only} cannot be read here ({what})"
        fix = f"convert them to {FORMATS[0]} or {FORMATS[1]}, or delete them"
        listing.problems.append(Problem(relative, cause, fix))
    elif not files:
        left = len(listing.ignored) - before
        cause = "the class has no picture" + (f" ({left} file(s) or link(s) ignored)" if left else "")
        listing.problems.append(Problem(relative, cause, "add pictures, or delete the folder"))
    return files


def _structure(root: str | Path) -> Listing:
    """The listing with the problems that show without opening a file."""
    root = Path(root).expanduser()
    listing = Listing(root)

    def problem(path, cause: str, fix: str) -> Listing:
        listing.problems.append(Problem(str(path), cause, fix))
        return listing

    layout = "put each class into a folder of its own: <class>/*.jpg or train/<class>/*.jpg"
    if not root.exists():
        return problem(root, "no such folder", f"check the path (looked from {Path.cwd()})")
    if not root.is_dir():
        return problem(root, "it is a file, not a folder", "unpack it, and give the folder")
    parts = {p.name.lower(): p for p in _folders(root)}
    # A class may be called "train" too: a part of the set has folders in it, a class has pictures.
    train = parts.get("train")
    train = train if train is not None and _folders(train) else None
    test = next((parts[name] for name in HELD_OUT if name in parts), None) if train else None
    names = {}
    for part, folder in (("train", train or root), ("test", test)):
        if folder is None:
            continue
        classes = _folders(folder)
        names[part] = [c.name for c in classes]
        loose = sum(p.suffix.lower() in SUFFIXES for p in folder.iterdir())
        if not classes:
            cause = f"no class folders ({loose} picture(s) lie loose in it)"
            return problem(folder if folder == root else folder.name, cause, layout)
        if loose:
            cause = f"{loose} picture(s) lie beside the class folders and belong to no class"
            problem(folder if folder == root else folder.name, cause, "move or delete them")
        found = [(f, k) for k, c in enumerate(classes) for f in _list_class(c, listing)]
        setattr(listing, part, found)
    listing.classes = names["train"]
    if len(names["train"]) == 1:
        cause = f"one class ({names['train'][0]}); a classifier needs at least two"
        problem(train.name if train else root, cause, layout)
    if names.get("test", names["train"]) != names["train"]:
        a, b = set(names["train"]), set(names["test"])
        cause = f"{train.name} and {test.name} have different classes"
        for missing, part in ((sorted(b - a), train), (sorted(a - b), test)):
            if missing:
                cause += f"; missing in {part.name}: {', '.join(missing)}"
        problem(test.name, cause, "give both the same class folders, or labels would be mixed up")
    if test is None:
        for k, count in sorted(Counter(k for _, k in listing.train).items()):
            if count == 1:
                cause = "one picture; training and test need one each"
                problem(listing.classes[k], cause, "add pictures, or delete the folder")
    return listing


def _each(work: Callable[[Path], object], paths: list[Path], what: str) -> list:
    """`work` on all paths in threads (Pillow decodes without the lock); PictureErrors as results."""

    def guarded(path: Path):
        try:
            return work(path)
        except PictureError as error:
            return error

    with no_bomb_warning(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(guarded, paths)
        if len(paths) > 2000:
            from tqdm import tqdm

            results = tqdm(results, desc=what, total=len(paths), file=sys.stderr)
        return list(results)


def _add_errors(listing: Listing, results: list) -> None:
    for error in results:
        if isinstance(error, PictureError):
            relative = str(error.path.relative_to(listing.root))
            listing.problems.append(Problem(relative, error.cause, error.fix))


def scan(root: str | Path) -> Listing:
    """List a picture folder and find all that is wrong with it, by decoding every file once.

    Never raises for what it finds: `.problems` has everything, `.classes` the names in index
    order, `.train` and `.test` the files, `.ignored` what was left out (links are not followed;
    names that start with a dot are not even listed).
    """
    listing = _structure(root)
    paths = [path for path, _ in listing.pictures]
    _add_errors(listing, _each(lambda path: read_picture(path)[1], paths, "checking"))
    return listing


def _size_of(path: Path) -> tuple[int, int]:
    with _open(path) as image:
        return image.size


def _decode(listing: Listing, size: int | None) -> tuple[np.ndarray, int]:
    """All pictures, uint8 (N, 3, S, S), and how many files had more than one frame."""
    paths = [path for path, _ in listing.pictures]
    if size is None:
        sizes = _each(_size_of, paths, "measuring")
        seen = {s for s in sizes if not isinstance(s, PictureError)}
        width, height = seen.pop() if len(seen) == 1 else (0, 1)
        size = width if width == height else DEFAULT_SIZE
    total = len(paths) * 3 * size * size
    if total > MAX_BYTES:
        fits = int((MAX_BYTES / (3 * len(paths))) ** 0.5)
        cause = f"{len(paths)} pictures of {size}x{size} are {total / 1024**3:.1f} GiB in memory"
        fix = f"give a smaller size=; up to {fits} px fit into {MAX_BYTES / 1024**3:.0f} GiB"
        listing.problems.append(Problem(str(listing.root), cause, fix))
        return np.empty(0), 0
    out = np.empty((len(paths), 3, size, size), np.uint8)
    place = {path: k for k, path in enumerate(paths)}

    def work(path: Path) -> bool:
        array, several = read_picture(path)
        out[place[path]] = fit_picture(array, size).transpose(2, 0, 1)
        return several

    results = _each(work, paths, "decoding")
    _add_errors(listing, results)
    return out, sum(r is True for r in results)


def cache_folder() -> Path:
    """`$RESNET_LIB_CACHE`, or `~/.cache/resnet_lib`; not created here."""
    return Path(os.environ.get("RESNET_LIB_CACHE") or "~/.cache/resnet_lib").expanduser()


def _cache_file(listing: Listing, size: int | None) -> Path:
    digest = hashlib.sha256(repr(("v1", size)).encode() + os.fsencode(listing.root.resolve()))
    for path, label in listing.pictures:
        status = path.stat()
        digest.update(b"\0" + os.fsencode(path.relative_to(listing.root)))
        digest.update(repr((label, status.st_size, status.st_mtime_ns)).encode())
    return cache_folder() / f"folder-{digest.hexdigest()[:24]}.npz"


def _read_cache(file: Path, count: int) -> tuple[np.ndarray, int] | None:
    try:
        with np.load(file, allow_pickle=False) as stored:
            x, several = stored["x"], int(stored["several"])
    except Exception:  # missing, cut short, foreign: made anew
        return None
    usable = x.dtype == np.uint8 and x.ndim == 4 and x.shape[:2] == (count, 3)
    return (x, several) if usable else None


def _write_cache(file: Path, x: np.ndarray, several: int) -> None:
    beside = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(beside, "wb") as stream:
                np.savez(stream, x=x, several=several)
            os.replace(beside, file)  # a reader sees the old file or the new one, never half of one
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(f"decoded pictures not kept for next time: {error}", stacklevel=3)


def image_folder(
    root: str | Path,
    *,
    size: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    cache: bool = True,
) -> Data:
    """Your own pictures, uint8 (N, 3, size, size): the name of a folder is the class in it.

    `root/train/<class>/*` with `root/test`, `root/val` or `root/valid` (the first of them that is
    there), or `root/<class>/*` alone; then `test_fraction` of each class, chosen by `seed`, is the
    test part. Classes are sorted as strings, as torchvision's ImageFolder does ("10" before "2").
    Each picture is read as `open_picture` does and fitted as `fit_picture` does. Without `size`,
    pictures that are all the same square stay as they are; else `size` is 64, and `source` says so.

    The decoded set is kept in `cache_folder()` and found again as long as no file changed its
    name, length or date; `cache=False` neither reads nor writes it. Its `name` is the first line
    of `root/name.txt` if there is one, else the name of the folder.

    Raises FolderError (a ValueError) that lists everything wrong with the folder: unreadable
    files, empty classes, fewer than two classes, different classes in the two parts, more than
    2 GiB of pixels. Raises ValueError for a size below 16 px or a fraction outside 0..1.
    """
    if size is not None and size < MIN_SIDE:
        raise ValueError(f"size is {size}; wanted at least {MIN_SIDE} pixels")
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction is {test_fraction}; wanted a number between 0 and 1")
    listing = _structure(root)
    pictures = listing.pictures
    file = _cache_file(listing, size) if cache and not listing.problems else None
    kept = _read_cache(file, len(pictures)) if file else None
    x, several = kept or _decode(listing, size)
    if listing.problems:
        raise FolderError(listing.root, listing.problems)
    if file and not kept:
        _write_cache(file, x, several)
    whole = Split(torch.from_numpy(x), torch.tensor([label for _, label in pictures]))
    if listing.test is None:
        train, test = (whole.subset(i) for i in stratified(whole.y, test_fraction, seed))
    else:
        count = len(listing.train)
        train, test = whole.subset(slice(None, count)), whole.subset(slice(count, None))
    name = _name(listing, x.shape[-1])
    notes = [f"Picture folder {listing.root.resolve().name}, {x.shape[-1]}x{x.shape[-1]} px"]
    if several:
        notes.append(f"first frame only of {several} animated or many-page file(s)")
    if listing.ignored:
        notes.append(f"{len(listing.ignored)} file(s) or link(s) ignored")
    return Data(name, listing.classes, train, test, "; ".join(notes) + ".")


def _name(listing: Listing, size: int) -> str:
    given = listing.root / "name.txt"
    if given.is_file():
        lines = given.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines:
            return lines[0].strip()
    # The well-known set as lossy JPEG files: results on it must not be taken for CIFAR-10's.
    copy = (
        [c.lower() for c in listing.classes] == CIFAR10_CLASSES
        and (len(listing.train), len(listing.test or ())) == (50_000, 10_000)
        and size == 32
        and all(re.search(r"\.jpe?g$", p.name, re.I) for p, _ in listing.pictures)
    )
    return "CIFAR-10, JPEG copy" if copy else listing.root.resolve().name
