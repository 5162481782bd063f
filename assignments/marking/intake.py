"""A folder of what students handed in, sorted out without running any of it.

Whose it is, whether it can be read, whether it is late, twice there, or another assignment: each
trouble is one line. Understood are plain files, Canvas' and Moodle's "download all" (folder or
zip).
"""

import ast
import hashlib
import json
import os
import re
import shutil
import stat
import time
import zipfile
import zlib
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath

from .mark import STUB, _bare, _id
from .master import Fault, Master, source

LARGEST = 20 * 2**20  # bytes of a submission; most of a large one is pictures in outputs
MOST_CELLS = 1000
MOST_TEXT = 3_000_000  # characters in all cells
# What a damaged zip or a strange name in it raises.
UNREADABLE = (OSError, EOFError, ValueError, OverflowError, RuntimeError)
UNREADABLE += (zipfile.BadZipFile, zlib.error)
CANVAS = re.compile(r"^(?P<name>[^_]+)_(?P<late>LATE_)?(?P<user>\d+)_(?P<upload>\d+)_(?P<file>.+)$")
MOODLE = re.compile(r"^(?P<name>.+)_(?P<user>\d+)_assignsubmission_\w+$")
NUMBER = re.compile(r"""^STUDENT_ID\s*=\s*["']([^"'\\\n]{1,60})["']""", re.M)
COPY = re.compile(r"[ _-]?\(?(?<!\d)(\d{1,2})\)?$")  # a longer number is a student's


@dataclass
class Submission:
    """`student` is who gets the mark: the learning platform's word, else the number inside.

    `problem` says why it cannot be marked ("" when it can); `notes` is what a teacher should know.
    """

    path: Path
    student: str = ""
    platform: str = ""
    user: str = ""
    number: str = ""
    late: bool = False
    sha256: str = ""
    code: str = ""
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    order: tuple = ()


def collect(
    place: Path, master: Master, due: datetime | None = None, unpacked: Path | None = None
) -> list[Submission]:
    """All that lies in `place`, a folder or a zip (unpacked into `unpacked`); one each student.

    Raises:
        Fault: if `place` is not there, or is no folder and no zip.
    """
    if place.is_file() and zipfile.is_zipfile(place):
        place = unpack(place, unpacked)
    if not place.is_dir():
        raise Fault(f"{place}: no such folder, and no zip of submissions")
    found = [
        _looked_at(path, place, master, due)
        for path in sorted(place.rglob("*"))
        if not path.is_dir() and not _system(path.relative_to(place))
    ]
    _same_student(found)
    _same_code(found)
    return found


def _system(path: Path) -> bool:
    """Files that a computer put there, not a student."""
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts[:-1])
    name = path.name
    return hidden or name.startswith("._") or (name.startswith(".") and path.suffix != ".ipynb")


def unpack(archive: Path, target: Path) -> Path:
    """The regular files of a zip; nothing outside `target`, nothing larger than a submission.

    Raises:
        Fault: if one cannot be unpacked.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    try:
        zipped = zipfile.ZipFile(archive)
    except UNREADABLE as error:
        text = f"{archive}: its list of files cannot be read ({error})"
        raise Fault(f"{text}: download it again, or give the folder") from None
    with zipped:
        for info in zipped.infolist():
            name = PurePosixPath(info.filename.replace("\\", "/"))
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir() or ".." in name.parts or name.is_absolute() or kind == stat.S_IFLNK:
                continue
            path = target / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with zipped.open(info) as packed:
                    path.write_bytes(packed.read(LARGEST + 1))
                when = time.mktime((*info.date_time, 0, 0, -1))  # decides what is late, and newest
                os.utime(path, (when, when))
            except UNREADABLE as error:
                text = f"{archive}: {info.filename[:80]!r} cannot be unpacked ({error})"
                raise Fault(f"{text}: unpack it yourself, and give the folder") from None
    return target


def opened(path: Path) -> tuple[dict | None, str, bytes]:
    """(notebook, "", bytes), or (None, why not, bytes). The outputs are dropped."""
    if path.is_symlink() or not path.is_file():
        return None, "not a regular file", b""
    size = path.stat().st_size
    if size > LARGEST:
        text = f"{size / 2**20:.0f} MiB is too large (at most {LARGEST >> 20}): ask for a copy"
        return None, f"{text} without outputs", b""
    if not size:
        return None, "the file is empty", b""
    if path.suffix != ".ipynb":
        return None, f"a {path.suffix or 'nameless'} file is not a notebook (.ipynb)", b""
    try:
        data = path.read_bytes()
    except OSError as error:
        return None, f"cannot be read: {error.strerror}", b""
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return None, f"cannot be read as a notebook: {str(error)[:80]}", data
    if problem := _malformed(notebook):
        return None, f"cannot be read as a notebook: {problem}", data
    for cell in notebook["cells"]:
        cell.pop("outputs", None)
    return notebook, "", data


def printed(submission: Submission, master: Master) -> str:
    """What the experiments printed when the student ran them. Text alone; figures are left out.

    Outputs are the student's to write: what is not of the right form is left out.
    """
    ids = {cell.id for cell in master.cells if cell.role == "experiment"}
    texts = {_bare(cell.source) for cell in master.cells if cell.role == "experiment"}
    try:
        raw = submission.path.read_bytes()
        if hashlib.sha256(raw).hexdigest() != submission.sha256:
            return ""  # not the file that was marked
        cells = json.loads(raw.decode("utf-8-sig"))["cells"]
    except (OSError, ValueError):
        return ""
    said = []
    for cell in cells:
        if _id(cell) not in ids and _bare(source(cell)) not in texts:
            continue
        outputs = cell.get("outputs")
        for output in outputs if isinstance(outputs, list) else []:
            if not isinstance(output, dict):
                continue
            text, data = output.get("text"), output.get("data")
            if isinstance(data, dict):  # with another form beside it, it is a figure
                text = data.get("text/plain") if len(data) == 1 else None
            lines = text if isinstance(text, list) else [text]
            said += [line for line in lines if isinstance(line, str)] + ["\n"]
    return re.sub(r"\n\s*\n", "\n", "".join(said)).strip()


def _malformed(notebook: object) -> str:
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        return "it has no list of cells"
    if len(notebook["cells"]) > MOST_CELLS:
        return f"{len(notebook['cells'])} cells are too many"
    size = 0
    for number, cell in enumerate(notebook["cells"], start=1):
        text = cell.get("source") if isinstance(cell, dict) else None
        if not isinstance(text, str) and not (
            isinstance(text, list) and all(isinstance(line, str) for line in text)
        ):
            return f"cell {number} has no source"
        size += len(text) if isinstance(text, str) else sum(map(len, text))
    return f"{size / 1e6:.0f} million characters are too many" if size > MOST_TEXT else ""


def _looked_at(path: Path, root: Path, master: Master, due: datetime | None) -> Submission:
    work = Submission(path)
    _named(work, root)
    notebook, work.problem, data = opened(path)
    if notebook is None:
        work.student = printable(work.student or path.stem)
        return work
    work.sha256 = hashlib.sha256(data).hexdigest()
    codes = [source(cell) for cell in notebook["cells"] if cell.get("cell_type") == "code"]
    found = [NUMBER.search(text) for text in codes]
    work.number = next((match[1].strip() for match in found if match), "")
    work.number = "" if set(work.number) <= {"."} else work.number
    _whose(work, root, master)
    work.student = printable(work.student)
    work.code = _own(notebook, master)
    if work.code is None:
        work.problem = f"is not assignment {master.name}: none of its cells is in it"
        work.code = ""
    if known := _published(codes, master):
        work.notes.append(f"as in the published solution: {', '.join(known)}")
    handed_in = datetime.fromtimestamp(path.stat().st_mtime)
    if due and work.platform != "canvas" and handed_in > due:
        work.late = True
        work.notes.append(f"late: the file is of {handed_in:%Y-%m-%d %H:%M}")
    elif work.late:
        work.notes.append("late: Canvas says so")
    return work


def printable(name: str) -> str:
    """A student's name or number as it can stand in a line, a table and a page."""
    return "".join(c for c in name if c.isprintable())[:80].strip() or "nameless"


def _named(work: Submission, root: Path) -> None:
    """What the names of the file and of its folder say."""
    copy = COPY.search(work.path.stem)
    work.order = (work.path.stat(follow_symlinks=False).st_mtime, int(copy[1]) if copy else 0)
    if found := CANVAS.match(work.path.name):
        work.platform, work.user, work.late = "canvas", found["user"], bool(found["late"])
        work.student, work.order = found["name"], (int(found["upload"]), 0)
    for folder in work.path.relative_to(root).parts[:-1]:
        if found := MOODLE.match(folder):
            work.platform, work.user, work.student = "moodle", found["user"], found["name"]


def _whose(work: Submission, root: Path, master: Master) -> None:
    if work.platform:
        return
    stem, folder = work.path.stem, work.path.parent
    if work.number:
        work.student = work.number
        if work.number not in stem:
            work.notes.append(f"named {work.path.name}; by the number inside it is {work.number}'s")
        return
    # Who leaves the name as it was handed out may have a folder of an own name.
    own_folder = COPY.sub("", stem) == master.path.stem and folder != root
    work.student = folder.name if own_folder else stem
    work.notes.append(f"no STUDENT_ID inside: taken for {work.student}'s by its name")


def _own(notebook: dict, master: Master) -> str | None:
    """The student's own code, for comparing; None if no cell of the assignment is there."""
    texts = {_bare(cell.source) for cell in master.cells}
    codes, known = [], False
    for cell in notebook["cells"]:
        text = _bare(source(cell))
        ours = text in texts
        known = known or (ours and len(text) > 30 and cell.get("cell_type") == "markdown")
        if cell.get("cell_type") == "code" and not ours and not text.startswith("STUDENT_ID"):
            codes.append(text)
    return "\n".join(codes) if known else None


def _published(codes: list[str], master: Master) -> list[str]:
    """Longer functions and classes that are the master's own, but for comments and layout."""
    ours = [cell.source for cell in master.cells if cell.role == "answer"]
    known = {dump for _, dump in _defined(ours)}
    return sorted({name for name, dump in _defined(codes) if dump in known and len(dump) > 800})


def _defined(texts: list[str]) -> list[tuple[str, str]]:
    """(name, form) of the functions and classes in cells."""
    found = []
    for text in texts:
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        kinds = (ast.FunctionDef, ast.ClassDef)
        found += [(node.name, ast.dump(node)) for node in tree.body if isinstance(node, kinds)]
    return found


def _same_student(found: list[Submission]) -> None:
    """Only the newest of a student is marked.

    A number inside is only said: where files of different names give the same one, the file that
    is named by the number counts, so that nobody can replace the work of another.
    """
    said: dict[str, list[Submission]] = {}
    for work in found:
        if not work.problem and not work.platform and work.number:
            said.setdefault(work.number, []).append(work)
    for number, several in said.items():
        if len({_base(work) for work in several}) > 1:
            for work in several:
                if _base(work) != number:
                    work.problem = f"says {number} inside, as another file does: whose is it?"
    newest: dict[str, Submission] = {}
    for work in sorted((w for w in found if not w.problem), key=lambda w: w.order):
        key = f"{work.platform}/{work.user or work.student}"
        if key in newest:
            newest[key].problem = f"an older copy: {work.path.name} is marked instead"
        newest[key] = work
    for work in newest.values():
        same = [
            w for w in newest.values() if w.number and w.number == work.number and w is not work
        ]
        if work.platform and same:
            others = ", ".join(other.student for other in same)
            work.notes.append(f"STUDENT_ID {work.number}, as {others[:200]}: whose is it?")
    names: dict[str, list[Submission]] = {}
    for work in newest.values():
        names.setdefault(work.student, []).append(work)
    for several in names.values():  # two people of one name, told apart by the platform
        for work in several if len(several) > 1 else []:
            work.student = f"{work.student} {work.user}".strip()


def _base(work: Submission) -> str:
    """The name of the file without the number of a copy: "s1 (2)" is "s1"."""
    stem = work.path.stem
    return stem if stem.endswith(work.number) else COPY.sub("", stem)


def _same_code(found: list[Submission]) -> None:
    """Equal work of two students is told to the teacher; what it means is not ours to say."""
    by_code: dict[str, list[Submission]] = {}
    for work in found:
        if not work.problem and len(work.code.replace("...", "").replace(STUB, "")) > 400:
            by_code.setdefault(work.code, []).append(work)
    for same in by_code.values():
        for work in same if len(same) > 1 else []:
            others = ", ".join(w.student for w in same if w is not work)
            work.notes.append(f"the same code, letter by letter, as {others[:200]}")
