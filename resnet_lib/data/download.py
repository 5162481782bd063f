"""One file from the first of several sources that delivers it whole; standard library only."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
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
    size: int | None = None,
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

    `size` in bytes, where known, is checked too. Raises DownloadError when all sources failed,
    OSError when the disk refuses.
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
        + f"\nTry again later (what has arrived is kept and continued), or get {path.name}"
        + (f" ({size:,} bytes)" if size else "")
        + f" by other means, check that its SHA-256 is\n  {sha256}\nand put it into {path.parent}."
    )


def _receive(url, part, size, min_speed, patience, timeout, progress) -> None:
    """Bring `part` to its full length from `url`, continuing where it ends."""
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have >= size:
        if have == size:
            return
        part.unlink()
        have = 0
    request = urllib.request.Request(url, headers={"User-Agent": "resnet_lib"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            begin, total = _extent(answer, have)
            if size is not None and total is not None and total != size:
                raise _SourceFailed(f"offers {total:,} bytes instead of {size:,}")
            # A server that ignores Range sends the file from its start: so do we.
            with open(part, "r+b" if begin else "wb") as file:
                file.seek(begin)
                got = _copy(answer, file, begin, size or total, min_speed, patience, progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # "nothing beyond": the piece is not from this file
            part.unlink()
            raise _Cut("cannot continue the piece that was there") from None
        raise _SourceFailed(f"HTTP status {error.code} ({error.reason})") from None
    except TimeoutError:
        raise _SourceFailed(f"nothing arrived for {timeout:g} s") from None
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError) as error:
        what = getattr(error, "reason", None) or error
        kind = _Cut if part.exists() and part.stat().st_size > have else _SourceFailed
        raise kind(f"no connection ({what})") from None
    wanted = size if size is not None else total
    if wanted is not None and got < wanted:
        raise _Cut(f"broke off after {got:,} of {wanted:,} bytes")


def _extent(answer, have: int) -> tuple[int, int | None]:
    """(first byte that comes, bytes of the whole file or None) as the server states them."""
    length = answer.headers.get("Content-Length")
    if answer.status == 206:
        stated = re.match(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if not stated or int(stated[1]) != have:
            raise _SourceFailed("answered with another piece than asked for")
        return have, None if stated[2] == "*" else int(stated[2])
    return 0, int(length) if length and length.isdigit() else None


def _copy(answer, file, got: int, total, min_speed, patience, progress) -> int:
    """Copy to the end of the answer; returns the length of the file. Leaves slow sources."""
    window, window_start = 0, time.monotonic()
    shown = time.monotonic()
    while block := answer.read1(BLOCK):  # what is there now, so that a trickle is noticed
        if total is not None and got + len(block) > total:
            raise _SourceFailed(f"sends more than {total:,} bytes")
        file.write(block)
        got += len(block)
        window += len(block)
        now = time.monotonic()
        if now - window_start >= patience:
            speed = window / (now - window_start)
            if speed < min_speed and (total is None or got < total):
                raise _SourceFailed(f"too slow ({speed / 1000:.0f} kB/s)")
            window, window_start = 0, now
        if progress and now - shown >= 2:
            share = f" of {total / 1e6:.0f}" if total else ""
            print(f"\r{got / 1e6:.0f}{share} MB", end="", file=sys.stderr, flush=True)
            shown = now
    return got
