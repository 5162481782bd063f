"""A reader's predictions, kept in a small file that a teacher can pool."""

import json
import os
import secrets
from pathlib import Path

from .checkpoint import write_atomic

FILE = "predictions.json"
FORMAT = "resnet_lib predictions 1"
WANTED = "a number, a short text in quotes, or a list of these"
LONGEST, LARGEST = 200, 1e100  # characters of a text, values of a list; size of a number


def keep(chapter: str, guess: dict, folder: str | Path = ".") -> None:
    """Write the answered guesses of a chapter to `predictions.json`, and say so in one line.

    The first answer to a question stays. A changed one is written beside it, as "later". Chapters
    share the file. Nothing is written while nothing is answered, and nothing is ever raised: a page
    goes on, whatever happens to its file.
    """
    try:
        print(_keep(chapter, guess, Path(folder) / FILE))
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        print(f"{FILE} cannot be used here ({reason}): nothing kept. The page goes on.")


def is_plain(value) -> bool:
    """A finite number, a short text, or a short list of these. True and False are neither."""
    if isinstance(value, list):
        return len(value) <= LONGEST and all(is_plain(v) and type(v) is not list for v in value)
    if isinstance(value, str):
        return len(value) <= LONGEST
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) <= LARGEST  # which no infinity and no NaN is


def _keep(chapter, guess, path):
    if not isinstance(guess, dict):
        return f"guess is not a dict ({type(guess).__name__}): nothing kept"
    given = {q: v for q, v in guess.items() if v is not ... and v is not None}
    if not given:
        return "not answered yet: nothing kept"
    kept = {q: v for q, v in given.items() if isinstance(q, str) and is_plain(v)}
    odd = ", ".join(repr(q) for q in given if q not in kept)
    if not kept:
        return f"nothing kept: write {WANTED}, for {odd}"
    book = _read(path)
    before = json.dumps(book)
    entry = book["chapters"].setdefault(chapter, {"first": {}, "later": {}})
    for question, value in kept.items():
        if entry["first"].setdefault(question, value) != value:
            entry["later"][question] = value
        else:  # as at first (again)
            entry["later"].pop(question, None)
    if json.dumps(book) != before:
        write_atomic(path, json.dumps(book, indent=1, ensure_ascii=False).encode())
    said = f"kept in {FILE}: {len(kept)} of {len(guess)} guesses"
    changed = sum(question in entry["later"] for question in kept)
    said += f"; {changed} changed, the first one stays too" if changed else ""
    said += f"; not {odd}: write {WANTED}" if odd else ""
    return said + (" (folder icon on the left)" if "COLAB_RELEASE_TAG" in os.environ else "")


def _read(path):
    if not path.exists():
        return {"format": FORMAT, "id": secrets.token_hex(8), "chapters": {}}
    try:
        book = json.loads(path.read_text(encoding="utf-8"))
        chapters = book["chapters"].values() if book["format"] == FORMAT else [None]
        assert all(isinstance(entry[part], dict) for entry in chapters for part in entry)
        assert all({"first", "later"} <= entry.keys() for entry in chapters)
    except OSError:
        raise
    except Exception:
        raise ValueError("the file of this name is damaged or another's; rename it") from None
    return book
