"""The misconception inventory: its items, the students' notebook, and files that want no good."""

import contextlib
import csv
import io
import json
import os
import re
import zipfile
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from statistics import mean

import nbformat
import pytest
import torch

import resnet_lib
from assignments.marking import inventory, plainfiles
from resnet_lib.measure import count_parameters, macs

ROOT = Path(__file__).resolve().parent.parent
ITEMS = inventory.load()
N = len(ITEMS)
every_item = pytest.mark.parametrize("item", ITEMS, ids=lambda item: item["id"])


# --- the items


def test_twenty_items_with_keys_spread_evenly():
    assert N == 20 and len({item["id"] for item in ITEMS}) == N
    assert Counter(item["key"] for item in ITEMS) == dict.fromkeys("abcd", 5)


@every_item
def test_an_item_is_whole(item):
    options = [item[letter] for letter in "abcd"]
    assert len(set(options)) == 4 and item["stem"].endswith("?") and item["chapter"].isdigit()
    assert max(map(len, options)) <= 1.35 * min(map(len, options)), "options of unlike length"
    assert not re.search(r"\b(all|none) of the above\b|\bnot true\b", " ".join(options), re.I)
    for letter, (idea, found) in item["wrong"].items():
        assert letter != item["key"] and idea
        assert re.match(r"article [A-E]|field", found), found


def test_the_length_of_an_option_gives_nothing_away():
    right = [len(item[item["key"]]) for item in ITEMS]
    wrong = [[len(item[letter]) for letter in item["wrong"]] for item in ITEMS]
    assert abs(mean(right) / mean(map(mean, wrong)) - 1) < 0.03
    longest = sum(r > max(w) for r, w in zip(right, wrong, strict=True))
    shortest = sum(r < min(w) for r, w in zip(right, wrong, strict=True))
    assert longest <= 6 and shortest <= 6


@every_item
def test_the_proof_is_where_the_item_says(item):
    """A section of the chapter, or a paper."""
    if item["shown"].startswith("He et al. 2015, "):
        return
    (path,) = (ROOT / "book").glob(f"{item['chapter']}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    assert item["shown"] in re.findall(r"(?m)^#{2,3} (.+)$", prose)


def right(ident):
    (item,) = (item for item in ITEMS if item["id"] == ident)
    return item[item["key"]]


def test_keys_that_can_be_computed():
    with torch.device("meta"):
        residual = count_parameters(resnet_lib.resnet34(shortcut="A"))
        assert residual == count_parameters(resnet_lib.plain34())
        assert right("parameters").startswith("None")
        names = dict(resnet_lib.resnet34().named_modules())
        assert sum(name.endswith(".downsample") for name in names) == 3
        assert right("option-b").startswith("Three")
        work = {
            depth: macs(getattr(resnet_lib, f"resnet{depth}")(**options), (3, 224, 224)) / 1e9
            for depth, options in ((34, {}), (50, {"stride_in": "1x1"}))
        }
    assert 1 < work[50] / work[34] < 1.1 and right("cost").startswith("3.8 billion")
    x = torch.ones(1, 1, 8, 8, requires_grad=True)
    torch.nn.Conv2d(1, 1, 1, stride=2)(x).sum().backward()
    assert (x.grad == 0).float().mean() == 0.75 and right("stride").startswith("Three quarters")
    logits = torch.zeros(1, 10)
    logits[0, 0] = 1.0  # behind a softmax: certain, and right
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0]))
    assert loss > 1 and "far above zero" in right("softmax")
    net = torch.nn.Linear(1, 1)
    best = net.state_dict()
    torch.nn.init.constant_(net.weight, 7.0)
    assert best["weight"] == 7 and right("best-copy").startswith("The last weights")
    sizes = [len(part) for part in torch.arange(113).split(16)]
    assert sizes[-1] == 1 and set(sizes[:-1]) == {16} and "as much as 16" in right("batch-means")
    z = torch.tensor(0.5, requires_grad=True)
    (slope,) = torch.autograd.grad(-z + z, z)
    assert slope == 0 and "0 where F′(x) is −1" in right("derivative")


# --- the students' notebook


def test_the_released_notebook_is_up_to_date_and_gives_nothing_away():
    text = inventory.NOTEBOOK.read_text(encoding="utf-8")
    assert inventory.release(inventory.SOURCE, inventory.NOTEBOOK, check=True) == 0
    nbformat.validate(nbformat.reads(text, as_version=4))
    for item in ITEMS:
        assert all(json.dumps(item[k], ensure_ascii=False)[1:-1] in text for k in ("stem", *"abcd"))
        assert all(idea not in text for idea, _ in item["wrong"].values())
        assert item["shown"] not in text
    assert '"key"' not in text and "misconception" not in text.lower()


def test_check_notices_a_changed_word(tmp_path, capsys):
    copy = tmp_path / "inventory.ipynb"
    copy.write_text(inventory.notebook().replace("overfits", "overfit"), encoding="utf-8")
    assert inventory.main(["release", "--check", "--to", str(copy)]) == 1
    assert "out of step" in capsys.readouterr().out
    assert inventory.main(["release", "--to", str(copy)]) == 0
    assert inventory.main(["release", "--check", "--to", str(copy)]) == 0


def fill_in(folder, student='"s1"', when='"pre"', answers=None):
    """Run the notebook's cells as a student does; give what they say."""
    cells = json.loads(inventory.notebook())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    code[0] = f"STUDENT_ID = {student}\nWHEN = {when}"
    if answers is not None:
        code[1] = f"answers = {answers!r}"
    before = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec("\n".join(code), {})
    finally:
        os.chdir(before)
    return out.getvalue()


def test_a_student_fills_it_in(tmp_path):
    said = fill_in(tmp_path, answers={str(k): " C " for k in range(1, 20)})
    assert said.splitlines() == [
        "written: inventory_pre_s1.json (19 of 20 answered)",
        "no answer yet, or not a, b, c or d: 20",
    ]
    sheets, problems = inventory.gather(tmp_path, ITEMS)
    assert sheets == {("s1", "pre"): ["c"] * 19 + [None]} and not problems


@pytest.mark.parametrize(
    ("student", "when", "file"),
    [
        ('"..."', '"pre"', "inventory_pre_unnamed.json"),
        ("...", '"post"', "inventory_post_Ellipsis.json"),
        ('"../../x y"', '"post"', "inventory_post_x_y.json"),
        ("20231234", '" PRE "', "inventory_pre_20231234.json"),
        ('"张伟"', '"Post"', "inventory_post_张伟.json"),
    ],
)
def test_the_notebook_refuses_no_number_and_no_answer(student, when, file, tmp_path):
    said = fill_in(tmp_path, student, when, {"1": ["a"], "2": 7, "3": "A", "99": "b"})
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 1 and re.sub("_+", "_", names[0]) == file
    assert ("STUDENT_ID is empty" in said) == ('"..."' in student)
    sheets, _ = inventory.gather(tmp_path, ITEMS)
    assert next(iter(sheets.values())) == [None, None, "a"] + [None] * 17


@pytest.mark.parametrize("when", ['"..."', "...", '""', '"later"', '"pre post"', "1", '"p" * 999'])
def test_an_unclear_time_writes_nothing(when, tmp_path):
    """The notebook as it is handed out has none: nobody does the second date as the first."""
    said = fill_in(tmp_path, when=when, answers={"1": "a"})
    assert said.startswith("nothing written: WHEN is ") and 'neither "pre" nor "post"' in said
    assert said.count("\n") == 1 and len(said) < 140 and not list(tmp_path.iterdir())
    cells = json.loads(inventory.notebook())["cells"]
    assert any('WHEN = "..."' in line for cell in cells for line in cell["source"])


def on_another_day(path):
    """The file as if it had been written long ago; give its text."""
    old = re.sub(r'"date": "[^"]+"', '"date": "2020-02-29"', path.read_text(encoding="utf-8"))
    path.write_text(old, encoding="utf-8")
    return old


def test_an_answer_changed_on_the_same_day_replaces_the_file(tmp_path):
    fill_in(tmp_path, answers={"1": "a", "2": "b"})
    said = fill_in(tmp_path, answers={"1": "a", "2": "b"})  # run again: nothing changes
    assert said.startswith("written: ") and len(list(tmp_path.iterdir())) == 1
    for letter in "cd":
        said = fill_in(tmp_path, answers={"1": "a", "2": letter})
        assert said.splitlines()[:2] == [
            "replaced: today's earlier inventory_pre_s1.json; "
            "what it held is kept in inventory_pre_s1.old",
            "written: inventory_pre_s1.json (2 of 20 answered)",
        ]
    sheets, problems = inventory.gather(tmp_path, ITEMS)  # the file of before does not count
    assert list(sheets.values()) == [["a", "d"] + [None] * 18] and not problems
    kept = (tmp_path / "inventory_pre_s1.old").read_text(encoding="utf-8")
    assert re.findall('"2": "(.)"', kept) == ["b", "c"]  # a course of one day loses nothing


def test_answers_of_another_day_are_not_overwritten(tmp_path):
    """Who leaves "pre" standing at the second date keeps the answers of the first."""
    file = tmp_path / "inventory_pre_s1.json"
    fill_in(tmp_path, answers={"1": "a"})
    old = on_another_day(file)
    said = fill_in(tmp_path, answers={"1": "b"})
    assert said.startswith("nothing written: inventory_pre_s1.json is of another day")
    assert said.count("\n") == 1 and "set WHEN right" in said and "rename that file" in said
    assert file.read_text(encoding="utf-8") == old and len(list(tmp_path.iterdir())) == 1
    assert "written: inventory_post_s1.json" in fill_in(tmp_path, when='"post"', answers={"1": "b"})
    # The same answers again do not move it to today, where it could be replaced.
    assert fill_in(tmp_path, answers={"1": "a"}).startswith("written: ")
    assert file.read_text(encoding="utf-8") == old
    file.rename(tmp_path / "first.json")
    assert fill_in(tmp_path, answers={"1": "b"}).startswith("written: ")


@pytest.mark.parametrize("old", [b'{"format": "resnet', b"[]", b"\xff\xfe", b"my own notes"])
def test_a_file_that_is_not_ours_is_not_overwritten(old, tmp_path):
    file = tmp_path / "inventory_pre_s1.json"
    file.write_bytes(old)
    assert fill_in(tmp_path).startswith("nothing written: ") and file.read_bytes() == old
    file.write_bytes(b"")  # but nothing is lost with an empty one
    assert fill_in(tmp_path).startswith("written: ") and file.read_bytes()


# --- marking


def write(folder, name, student, when, letters, /, **changes):
    held = {
        "format": inventory.FORMAT,
        "version": inventory.version(ITEMS),
        "when": when,
        "student": student,
        "answers": {str(k): letter for k, letter in enumerate(letters, 1)},
    }
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(held | changes), encoding="utf-8")
    return path


KEYS = [item["key"] for item in ITEMS]
WRONG = [next(letter for letter in "abcd" if letter != key) for key in KEYS]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def run(folder, capsys=None):
    out = folder.parent / "out"
    code = inventory.main(["mark", str(folder), "--out", str(out)])
    marks, items = (
        list(csv.DictReader(io.StringIO((out / name).read_text(encoding="utf-8-sig"))))
        for name in ("inventory_marks.csv", "inventory_items.csv")
    )
    page = (out / "inventory.html").read_text(encoding="utf-8")
    return code, marks, items, page


def test_a_class_is_marked(folder, capsys):
    write(folder, "x/1.json", "s1", "pre", WRONG)
    write(folder, "2.json", "s1", "post", KEYS)
    write(folder, "3.json", "s2", "pre", [None] * 20)
    write(folder, "4.json", "s2", "post", WRONG)
    write(folder, "5.json", "s3", "pre", KEYS)  # never came back
    code, marks, items, page = run(folder)
    assert code == 0 and "5 files counted" in capsys.readouterr().out
    assert [(m["student"], m["when"], m["right"], m["answered"]) for m in marks] == [
        ("s1", "pre", "0", "20"),
        ("s1", "post", "20", "20"),
        ("s2", "pre", "0", "0"),
        ("s2", "post", "0", "20"),
        ("s3", "pre", "20", "20"),
    ]
    assert {m["degradation"] for m in marks} == {"0", "1", ""}
    first = items[0]
    assert (first["n pre"], first["n post"]) == ("3", "2")
    assert (float(first["right pre"]), float(first["right post"])) == (0.3333, 0.5)
    assert float(first["gain"]) == 0.5  # of those who did both: 0 of 2, then 1 of 2
    assert first["misconception pre"] == ITEMS[0]["wrong"][WRONG[0]][0]
    assert (float(first["its share pre"]), float(first["its share post"])) == (0.3333, 0.5)
    assert "33\xa0%" in page and "a deeper net must overfit (50\xa0%)" in page


def test_the_gain():
    assert inventory.gain(0.5, 0.75) == 0.5 and inventory.gain(0, 0) == 0
    assert inventory.gain(1, 1) is None and inventory.gain(0.5, 0.25) == -0.5


def test_only_before_the_course(folder):
    write(folder, "1.json", "s1", "pre", KEYS)
    _, _, items, page = run(folder)
    assert items[0]["gain"] == "" and items[0]["right post"] == "" and "–" in page


BAD = {
    "empty.json": (b"", "empty"),
    "spaces.json": (b" \n", "empty"),
    "cut.json": (b'{"format": "resnet_lib inv', "not a JSON file, or cut off"),
    "huge.json": (b'{"a": "' + b"x" * 30_000 + b'"}', "larger than 20 kB"),
    "deep.json": (b"[" * 15_000, "not a JSON file, or cut off"),
    "number.json": (b"1" * 9_000, "not a JSON file, or cut off"),
    "binary.json": (b"\x80\x04\x95\x00", "not a JSON file, or cut off"),
    "nan.json": (b'{"format": NaN}', "NaN is not a number"),
    "twice.json": (b'{"format": 1, "format": 2}', "the same name twice"),
    "list.json": (b"[]", "not an answer file"),
    "null.json": (b"null", "not an answer file"),
    "other.json": (b'{"format": "x"}', "not an answer file"),
    "notebook.json": (b'{"cells": []}', "not an answer file"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line_and_stops_nobody(name, folder, capsys):
    raw, words = BAD[name]
    (folder / name).write_bytes(raw)
    write(folder, "good.json", "s1", "pre", KEYS)
    code, marks, _, page = run(folder)
    said = capsys.readouterr().out.splitlines()
    assert code == 0 and len(marks) == 1 and len(said) == 2
    assert said[0].startswith(f"{name}: ") and words in said[0] and words in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": "00000000"}, "another version"),
        ({"version": ["x"]}, "another version"),
        ({"when": "mid"}, 'neither "pre" nor "post"'),
        ({"when": ["pre"]}, 'neither "pre" nor "post"'),
        ({"student": 7}, "student is no text"),
        ({"student": "x" * 61}, "longer than 60"),
        ({"answers": list("abcd")}, "answers are no table"),
        ({"answers": {"21": "a"}}, "answers are no table"),
        ({"answers": {"1": "e"}}, "the answer to question 1 is not"),
        ({"answers": {"2": ["a"]}}, "the answer to question 2 is not"),
        ({"answers": {"3": True}}, "the answer to question 3 is not"),
        ({"answers": {"4": "ab"}}, "the answer to question 4 is not"),
        ({"answers": {"5": ""}}, "the answer to question 5 is not"),
    ],
)
def test_a_wrong_entry_is_named(changes, words, folder, capsys):
    write(folder, "odd.json", "s1", "pre", KEYS, **changes)
    code, marks, *_ = run(folder)
    said = capsys.readouterr().out.splitlines()
    assert code == 1 and not marks and len(said) == 2 and words in said[0]


def test_a_second_file_of_the_same_student_is_named(folder, capsys):
    write(folder, "a.json", "s1", "pre", KEYS)
    write(folder, "b.json", "s1", "pre", WRONG)
    write(folder, "c.json", "", "pre", WRONG)
    write(folder, "d.json", "", "pre", WRONG)
    _, marks, *_ = run(folder)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "b.json: s1 has a pre file already (a.json); not counted"
    assert said[1] == "c.json: no student number in it; counted under its file name"
    assert [m["right"] for m in marks] == ["20", "0", "0"]


def test_what_is_no_plain_file_is_not_opened(folder, capsys):
    secret = folder.parent / "secret.json"
    write(folder.parent, "secret.json", "s9", "pre", KEYS)
    (folder / "link.json").symlink_to(secret)
    (folder / "away").symlink_to(folder.parent)
    (folder / "folder.json").mkdir()
    os.mkfifo(folder / "pipe.json")
    write(folder, ".hidden.json", "s2", "pre", KEYS)
    write(folder, "__MACOSX/x.json", "s3", "pre", KEYS)
    code, marks, *_ = run(folder)
    said = capsys.readouterr().out
    assert code == 1 and not marks
    assert "link.json: a link, which is not followed" in said
    assert "pipe.json: not a plain file" in said


HOSTILE = [
    '=HYPERLINK("http://x.example","a")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    " =1+1",
    "\t=1",
    "＝1",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a\nb,c\r\nd",
    "\u202egnp.exe",
    "\ud800",
]


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.attributes = Counter(), Counter()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found[tag] += 1
        self.attributes.update(name for name, _ in attrs)


@pytest.mark.parametrize("student", HOSTILE)
def test_a_hostile_name_does_nothing(student, folder):
    write(folder, "plain.json", "s1", "pre", WRONG)
    _, _, _, quiet = run(folder)
    write(folder, "x.json", student, "pre", WRONG)
    write(folder, "y.json", student, "pre", WRONG)  # so that its name stands in a line of the page
    _, marks, _, page = run(folder)
    raw = (folder.parent / "out" / "inventory_marks.csv").read_text(encoding="utf-8-sig")
    assert len(marks) == 2 and raw.count("\n") == 3
    name = next(m["student"] for m in marks if m["student"] != "s1")
    assert not name.lstrip(" ").startswith(plainfiles.FORMULA)
    assert not plainfiles.UNSEEN.search(page.replace("\n", ""))
    tags, before = Tags(page), Tags(quiet)
    new = {"h2": 1, "ul": 1, "li": 1}  # the list of files that were not counted
    assert tags.found - before.found == new
    assert not {"script", "img", "link", "iframe"} & tags.found.keys()
    assert not any(name.startswith("on") or name in ("src", "href") for name in tags.attributes)


def test_a_hostile_file_name(folder, capsys):
    for name in ("<img src=x>.json", "a\nb.json", "=1.json", "\u202e.json"):
        (folder / name).write_text("{")
    (folder / os.fsdecode(b"\xff.json")).write_text("{")
    _, _, _, page = run(folder)
    assert "<img" not in page and len(capsys.readouterr().out.splitlines()) == 6


def zipped(folder):
    """The folder as a learning platform gives it."""
    with zipfile.ZipFile(folder.parent / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.rglob("*.json"):
            archive.write(path, path.relative_to(folder))
        archive.writestr("../out.json", "{}")  # not unpacked
    return folder.parent / "in.zip"


def test_a_zip_is_marked_as_its_folder(folder, capsys):
    write(folder, "x/1.json", "s1", "pre", WRONG)
    write(folder, "2.json", "s1", "post", KEYS)
    (folder / "huge.json").write_text('["' + "x" * 30_000 + '"]')
    as_folder, said = run(folder), capsys.readouterr().out
    assert run(zipped(folder)) == as_folder and as_folder[0] == 0
    assert capsys.readouterr().out == said and "huge.json: larger than 20 kB" in said
    names = {path.name for path in folder.parent.rglob("*")}
    assert "unpacked" not in names and "out.json" not in names


def damaged(archive, way):
    """A zip that is cut off, has a broken list of files, or broken contents."""
    raw = bytearray(archive.read_bytes())
    at = {"cut": 0, "list": raw.rindex(b"PK\1\2"), "contents": 40}[way]
    raw = raw[: len(raw) // 2] if way == "cut" else raw[:at] + b"\xff" * 9 + raw[at + 9 :]
    archive.write_bytes(raw)
    return archive


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("cut", "in.zip is not a folder, and no zip that can be read: give the folder or the zip"),
        ("list", "download it again, or give the folder"),
        ("contents", "unpack it yourself, and give the folder"),
    ],
)
def test_a_damaged_zip_is_one_line(way, words, folder, capsys):
    write(folder, "1.json", "s1", "pre", KEYS)
    archive = damaged(zipped(folder), way)
    assert inventory.main(["mark", str(archive), "--out", str(folder.parent / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("inventory: ") and words in said and said.count("\n") == 1
    assert not (folder.parent / "out").exists()


def test_a_missing_folder_is_named(tmp_path, capsys):
    assert inventory.main(["mark", str(tmp_path / "no"), "--out", str(tmp_path / "out")]) == 2
    assert "no is not a folder" in capsys.readouterr().err


def test_two_hundred_students(folder):
    for k in range(200):
        write(folder, f"{k}.json", f"s{k:03d}", "pre", KEYS if k % 4 else WRONG)
        write(folder, f"{k}b.json", f"s{k:03d}", "post", KEYS)
    code, marks, items, _ = run(folder)
    assert code == 0 and len(marks) == 400
    assert all(float(item["right pre"]) == 0.75 and float(item["gain"]) == 1 for item in items)
