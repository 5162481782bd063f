"""One file from the first of several sources that delivers it whole; standard library only."""

from __future__ import annotations

import hashlib
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

BLOCK = 1 << 16


class DownloadError(RuntimeError):
    """No source delivered the file; the message says what each did and what to do by hand."""


class _SourceFailed(Exception):
    """This source is no good now: the next one, please."""


class _Cut(_SourceFailed):
    """The connection ended early, but something came: worth another try."""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(
    urls: Sequence[str],
    path: str | Path,
    *,
    sha256: str,
    size: int,
    min_speed: float = 100_000,
    patience: float = 30.0,
    timeout: float = 20.0,
    retries: int = 3,
    progress: bool = True,
) -> Path:
    """Download `path` from the first of `urls` that delivers a file with this SHA-256.

    What has arrived stays in `<path>.part` and is continued, from another source too, and in the
    next call. A source is left for the next one when it is dead, when `timeout` seconds bring
    nothing, when it delivers less than `min_speed` bytes a second for `patience` seconds, when it
    breaks off more than `retries` times, or when the whole file has another checksum (the file is
    then deleted). Only a file with the right checksum ever gets the name `path`.

    `size` in bytes. Raises DownloadError when all sources failed, OSError when the disk refuses.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for url in urls:
        left = retries
        while True:
            resumed = part.exists() and part.stat().st_size > 0
            try:
                _receive(url, part, size, min_speed, patience, timeout, progress)
                if sha256_of(part) == sha256:
                    os.replace(part, path)
                    return path
                part.unlink()
                if not resumed:
                    raise _SourceFailed("delivered a file with another checksum (deleted)")
                # Perhaps the earlier piece was bad, not this source: once more from the start.
            except _SourceFailed as failure:
                if isinstance(failure, _Cut) and left > 0:
                    left -= 1
                    continue
                reasons.append(f"  - {url}: {failure}")
                break
    raise DownloadError(
        f"{path.name} could not be downloaded. The sources said:\n"
        + "\n".join(reasons or ["  - (no sources given)"])
        + "\nTry again later (what has arrived is kept and continued), or get the file "
        f"({size:,} bytes) by other means, check that its SHA-256 is\n  {sha256}\n"
        f"and put it into {path.parent} under the name {path.name}."
    )


def _receive(url, part, size, min_speed, patience, timeout, progress) -> None:
    """Bring `part` to its full length from `url`, continuing where it ends."""
    have = part.stat().st_size if part.exists() else 0
    if have == size:
        return
    if have > size:
        part.unlink()
        have = 0
    request = urllib.request.Request(url, headers={"User-Agent": "resnet_lib"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # "nothing beyond": the piece is not from this file
            part.unlink()
            raise _Cut("cannot continue the piece that was there") from None
        raise _SourceFailed(f"HTTP status {error.code} ({error.reason})") from None
    except (OSError, HTTPException) as error:
        raise _SourceFailed(f"no connection ({getattr(error, 'reason', error)})") from None
    with answer:
        # A server that ignores Range answers 200 and sends the file from its start: so do we.
        begin = have if answer.status == 206 else 0
        piece, length = answer.headers.get("Content-Range"), answer.headers.get("Content-Length")
        if begin and not (piece or "").startswith(f"bytes {have}-"):
            raise _SourceFailed("answered with another piece than asked for")
        whole = (piece.rpartition("/")[2] if begin else length) or ""
        if whole.isdigit() and int(whole) != size:
            raise _SourceFailed(f"offers {int(whole):,} bytes instead of {size:,}")
        with open(part, "r+b" if begin else "wb") as file:
            file.seek(begin)
            _copy(answer, file, begin, size, min_speed, patience, progress)


def _copy(answer, file, got, size, min_speed, patience, progress) -> None:
    """Copy the answer to its end, from byte `got` on; leave a source that is too slow."""
    window, window_start = 0, time.monotonic()
    shown = window_start
    while True:
        try:
            block = answer.read1(BLOCK)  # what is there now, so that a trickle is noticed
        except TimeoutError:
            raise _SourceFailed("nothing more arrived in time") from None
        except (OSError, HTTPException) as error:
            raise _Cut(f"broke off after {got:,} bytes ({error})") from None
        if not block and got < size:
            raise _Cut(f"broke off after {got:,} of {size:,} bytes")
        if not block:
            return
        if got + len(block) > size:
            raise _SourceFailed(f"sends more than {size:,} bytes")
        file.write(block)
        got += len(block)
        window += len(block)
        now = time.monotonic()
        if now - window_start >= patience:
            speed = window / (now - window_start)
            if speed < min_speed and got < size:
                raise _SourceFailed(f"too slow ({speed / 1000:.0f} kB/s)")
            window, window_start = 0, now
        if progress and now - shown >= 5:
            print(f"{got / 1e6:.0f} MB of {size / 1e6:.0f}", file=sys.stderr)
            shown = now
