"""A packed picture folder, unpacked once; nothing that stands in the archive is trusted."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tarfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path

from .download import sha256_of
from .pictures import PictureError

ENDINGS = ".zip, .tar, .tar.gz, .tgz, .tar.xz"
NAME = re.compile(r"(.*)\.(zip|tar|tar\.gz|tgz|tar\.xz)", re.IGNORECASE)
MAX_FILES = 2_000_000
MAX_BYTES = 64 * 1024**3  # unpacked
DAY = 24 * 3600  # seconds


def is_archive(path: Path) -> bool:
    """Whether `path` is a file whose name ends as an archive's: see ENDINGS."""
    return bool(NAME.fullmatch(path.name)) and path.is_file()


def unpack(file: Path, into: Path) -> Path:
    """The folder with the content of an archive, below `into`; unpacked there if it is not yet.

    It is found again by the SHA-256 of the archive. Links are left out. If all is in one outer
    folder, that one is returned. It gets its name when it is complete: a kill leaves nothing half.

    Raises PictureError, with path, cause and fix, for an archive that is damaged, has files that
    would land elsewhere, or holds more than 2 million files or 64 GiB, and for a full disk.
    """
    beside = None
    try:
        home = into.absolute() / f"unpacked-{sha256_of(file)[:24]}"
        place = home / (NAME.fullmatch(file.name)[1].strip(". ") or "pictures")
        if not place.is_dir():
            beside = home / f"{place.name}.{os.getpid()}.part"
            beside.mkdir(parents=True)
            _remove_old_parts(home)
            (_unzip if file.suffix.lower() == ".zip" else _untar)(file, beside)
            with suppress(OSError):  # another process was faster
                os.rename(beside, place)
        return _without_outer(place)
    except Exception as error:  # a damaged archive can fail anywhere
        why = (str(error) or repr(error)).splitlines()[0]
        if why.endswith(":"):  # then tarfile lists what each kind of archive misses in it
            why = "its start is missing or damaged, or it is no archive"
        fix = "copy or download it again, or unpack it by hand and give the folder"
        if isinstance(error, OSError) and error.errno:  # the disk; BadGzipFile has no number
            fix = f"make room and see to the permissions of {into}, or set RESNET_LIB_CACHE"
        raise PictureError(file, f"it cannot be unpacked ({why})", fix) from None
    finally:
        if beside:
            shutil.rmtree(beside, ignore_errors=True)


def _remove_old_parts(home: Path) -> None:
    """What killed processes left behind; a younger one may still be at work."""
    for old in home.glob("*.part"):
        if time.time() - old.stat().st_mtime > DAY:
            shutil.rmtree(old, ignore_errors=True)


def _without_outer(place: Path) -> Path:
    """`place`, or its only folder if that holds the classes: cats.zip with cats/tabby/1.jpg."""
    inside = [p for p in place.iterdir() if p.is_dir() and not p.name.startswith((".", "__"))]
    if len(inside) != 1 or inside[0].name.lower() == "train":
        return place
    return inside[0] if any(p.is_dir() for p in inside[0].iterdir()) else place


def _must_be_bounded(files: int, size: int) -> None:
    if files > MAX_FILES or size > MAX_BYTES:
        limit = f"{MAX_FILES:,} files or {MAX_BYTES / 1024**3:.3g} GiB"
        raise ValueError(f"it would unpack to more than {limit}")


class _Header(tarfile.TarInfo):
    """tarfile takes a damaged or missing header for the end, and the rest would quietly be lost."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # the zeros that end every tar file
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"it is cut short or damaged: {error}") from None


def _untar(file: Path, target: Path) -> None:
    files = size = 0
    with tarfile.open(file, tarinfo=_Header) as packed:
        while member := packed.next():
            files, size = files + 1, size + member.size
            _must_be_bounded(files, size)
            if member.isfile() or member.isdir():
                packed.extract(member, target, filter="data")
            packed.members.clear()  # else a million of them stay in memory
        packed.fileobj.read(2**24)  # to the end, where gzip and xz keep their checksums


def _unzip(file: Path, target: Path) -> None:
    with zipfile.ZipFile(file) as packed:
        members = packed.infolist()
        _must_be_bounded(len(members), sum(member.file_size for member in members))
        for member in members:
            name = member.filename.replace("\\", "/")  # some tools on Windows write these
            place = Path(os.path.abspath(target / name))
            if not place.is_relative_to(target):
                raise ValueError(f"{member.filename!r} would land outside of the folder")
            if name.endswith("/"):
                place.mkdir(parents=True, exist_ok=True)
            elif not stat.S_ISLNK(member.external_attr >> 16):
                place.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(member) as source, open(place, "wb") as out:
                    shutil.copyfileobj(source, out)
