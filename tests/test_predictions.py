"""A class's predictions pooled: what is counted, how it is binned, and files that want no good."""

import csv
import io
import json
import os
import tomllib
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from assignments.marking import predictions
from resnet_lib import guesses, lab

ROOT = Path(__file__).resolve().parent.parent
KNOWN = predictions.questions()
FIRST = "plain-8: training error (%)"
WORST = "worth most"


# --- the questions


def test_every_chapter_asks_and_every_question_is_found():
    assert len(KNOWN) >= 13 and all(about["asks"] for about in KNOWN.values())
    assert KNOWN["01"]["title"] == "01 · Degradation"
    assert KNOWN["01"]["asks"][FIRST] == "Error on the training pictures, in percent."
    assert "worth the most" in KNOWN["07"]["asks"][WORST]


CHAPTERS = sorted((ROOT / "book").glob("[0-9]*.ipynb"))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_keeps_its_guesses(path):
    """Nothing is answered in the committed book, and the guess cell ends by keeping them."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    (guess,) = (code for code in codes if "guess = {\n" in code and code.startswith("guess"))
    assert guess.endswith("\n}\nhere.keep(guess)")
    names = {}
    exec(guess.removesuffix("here.keep(guess)"), names)
    assert set(names["guess"].values()) == {...}
    assert names["guess"].keys() == KNOWN[path.name[:2]]["asks"].keys()
    assert all(len(question) <= guesses.LONGEST for question in names["guess"])


def test_comments_belong_to_the_question_below_them():
    text = (
        'guess = {\n    # One,\n    # two.\n    "a": ...,\n    "b": ...,\n    # c?\n    "c": 3,\n}'
    )
    assert predictions.asked(text) == {"a": "One, two.", "b": "", "c": "c?"}


# --- counting


def labels(values, answer=None):
    return [(label, n) for label, n, _ in predictions.bars(values, answer)]


def test_few_different_numbers_get_a_bar_each():
    assert labels([0, 2, 2, 1.5, "2"]) == [("0", 1), ("1.5", 1), ("2", 3)]


def test_many_numbers_are_put_into_round_ranges():
    found = labels([k + 0.5 for k in range(80)])
    assert found == [(f"{k} to {k + 10}", 10) for k in range(0, 80, 10)]


def test_a_wild_guess_does_not_squeeze_the_others():
    found = labels([*range(40), 1_000_000, -5000])
    assert found[0] == ("under 0", 1) and found[-1] == ("40 or more", 1) and len(found) >= 8
    assert sum(n for _, n in found) == 42


def test_numbers_far_apart_are_put_into_powers_of_ten():
    found = labels([1, 3, 10, 50, 99, 200, 1000, 3000, 20_000, 99_999])
    assert found == [
        ("1 to 10", 2),
        ("10 to 100", 3),
        ("100 to 1,000", 1),
        ("1,000 to 10,000", 2),
        ("10,000 to 100,000", 2),
    ]


@pytest.mark.parametrize(
    "values",
    [
        [1e100, -1e100, *range(9)],
        [5e-324 * k for k in range(1, 20)],
        [1 + k * 2e-16 for k in range(30)],
        [0.1 * k for k in range(100)],
        [-(10.0**k) for k in range(-100, 101, 5)],
        [10.0**k for k in range(-99, 100, 3)],
        [7] * 50 + list(range(20)),
        [0] * 100 + list(range(9)),
    ],
)
def test_each_number_is_counted_once_in_few_bars(values):
    found = labels(values)
    assert sum(n for _, n in found) == len(values) and 1 <= len(found) <= 14
    assert len({label for label, _ in found}) == len(found)


def test_words_are_counted_without_case_and_spaces():
    found = labels(["Stem", " stem ", "no  idea", [1, "A"], "50 %", 50])
    assert found == [("50", 2), ("stem", 2), ("no idea", 1), ("1, a", 1)]
    many = labels([f"word {chr(97 + k)}" for k in range(20)])
    assert len(many) == 13 and many[-1] == ("other words", 8)


def test_the_bar_with_the_answer_is_marked():
    values = [k + 0.5 for k in range(80)]
    hits = [label for label, _, hit in predictions.bars(values, 33.3) if hit]
    assert hits == ["30 to 40"]
    assert [b[0] for b in predictions.bars(["a", "B", 3], " b") if b[2]] == ["b"]
    assert not any(hit for _, _, hit in predictions.bars([1, 2], 3))
    assert not any(hit for _, _, hit in predictions.bars([1, 2]))


# --- pooling


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def student(folder, name, guess, chapter="01", later=None):
    """A file as a page of the book writes it."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    guesses.keep(chapter, guess, place)
    if later:
        guesses.keep(chapter, later, place)
    return place / guesses.FILE


def forged(**changes):
    held = {
        "format": guesses.FORMAT,
        "id": "0123456789abcdef",
        "chapters": {"01": {"first": {FIRST: 5}, "later": {}}},
    }
    return json.dumps(held | changes)


def pool(folder, *more):
    out = folder.parent / "out"
    code = predictions.main(["pool", str(folder), "--out", str(out), *map(str, more)])
    page = (out / "predictions.html").read_text(encoding="utf-8")
    rows = (out / "predictions.csv").read_text(encoding="utf-8-sig")
    return code, page, list(csv.DictReader(io.StringIO(rows)))


def test_a_class_is_pooled_with_first_guesses_only(folder, capsys):
    student(folder, "s1", {FIRST: 5}, later={FIRST: 90})
    student(folder, "s2", {FIRST: 7})
    student(folder, "s3", {WORST: "Stem"}, chapter="07")
    code, page, rows = pool(folder)
    assert code == 0 and capsys.readouterr().out.splitlines()[-1].startswith("3 files counted")
    assert [(r["chapter"], r["first"], r["later"]) for r in rows] == [
        ("chapter 01", "5", "90"),
        ("chapter 01", "7", ""),
        ("chapter 07", "Stem", ""),
    ]
    assert "n = 2; median 6; 1 changed later" in page and ">90<" not in page
    assert page.count("<svg ") == page.count("<table>") == 2 and "02 ·" not in page
    assert '<tr><th scope="row">7</th><td class="n">1</td></tr>' in page
    assert "Error on the training pictures, in percent." in page


def test_a_page_of_the_book_and_the_teacher_understand_each_other(folder, monkeypatch, capsys):
    """From `here.keep` to the page, without a hand in between."""
    monkeypatch.chdir(folder)
    lab.Here(torch.device("cpu"), "a test", "quick", "fp32", "01").keep({FIRST: 12, "x": ...})
    _, page, rows = pool(folder)
    assert [r["first"] for r in rows] == ["12"] and "n = 1" in page


def test_the_answer_is_shown_only_when_the_teacher_gives_it(folder, tmp_path, capsys):
    student(folder, "s1", {FIRST: 5})
    student(folder, "s2", {FIRST: 7})
    _, page, _ = pool(folder)
    assert "answer" not in page
    file = tmp_path / "answers.toml"
    file.write_text(f'["01"]\n"{FIRST}" = 7\n')
    _, page, _ = pool(folder, "--answers", file)
    assert "answer: 7" in page and "7 (answer)" in page and page.count("◀ answer") == 1
    file.write_text(f'["01"]\n"{FIRST}" = 6\n')
    assert "answer: 6 (in no bar" in pool(folder, "--answers", file)[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x =", "answers.toml: "),
        ("x = 1", "is no table"),
        ('["01"]\n"no such" = 1', "does not ask 'no such'"),
        (f'["01"]\n"{FIRST}" = true', "needs a number or a text"),
    ],
)
def test_a_mistake_in_the_answers_is_named(text, words, folder, tmp_path, capsys):
    file = tmp_path / "answers.toml"
    file.write_text(text)
    args = ["pool", str(folder), "--out", str(tmp_path / "o"), "--answers", str(file)]
    assert predictions.main(args) == 2 and words in capsys.readouterr().err


def test_the_list_of_questions_is_a_start_for_the_answers(capsys):
    assert predictions.main(["questions"]) == 0
    text = capsys.readouterr().out
    assert f'# "{FIRST}" = ' in text and tomllib.loads(text).keys() == KNOWN.keys()
    filled = text.replace(f'# "{FIRST}" = ', f'"{FIRST}" = 3')
    assert tomllib.loads(filled)["01"] == {FIRST: 3}


def test_copies_and_earlier_states_count_once(folder, capsys):
    file = student(folder, "s1", {FIRST: 5})
    (folder / "a copy.json").write_bytes(file.read_bytes())
    guesses.keep("07", {WORST: "stem"}, folder / "s1")
    (folder / "z.json").write_bytes(file.read_bytes())
    _, _, rows = pool(folder)
    said = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 and {r["file"] for r in rows} == {"s1/predictions.json"}
    assert "a copy.json: a copy, or an earlier state, of s1/predictions.json; not counted" in said
    assert "z.json: a copy, or an earlier state, of s1/predictions.json; not counted" in said


BAD = {
    "empty": ("", "empty"),
    "cut": (forged()[:-5], "not a JSON file, or cut off"),
    "huge": ('["' + "x" * 100_001 + '"]', "larger than 100 kB"),
    "deep": ("[" * 90_000, "not a JSON file, or cut off"),
    "long number": ("9" * 90_000, "not a JSON file, or cut off"),
    "list": ("[]", "not a predictions file"),
    "format": (forged(format="other"), "not a predictions file"),
    "format list": (forged(format=["x"]), "not a predictions file"),
    "id": (forged(id="<b>"), "its id"),
    "id number": (forged(id=5), "its id"),
    "more": (forged(more=1), "other entries"),
    "chapters": (forged(chapters=[1]), "other entries"),
    "chapter": (forged(chapters={"01": []}), "without first and later"),
    "parts": (forged(chapters={"01": {"first": {}, "later": {}, "x": 1}}), "without first"),
    "no table": (forged(chapters={"01": {"first": [], "later": {}}}), "guesses that are no table"),
    "true": (forged(chapters={"01": {"first": {FIRST: True}, "later": {}}}), "a guess that is no"),
    "object": (forged(chapters={"01": {"first": {FIRST: {}}, "later": {}}}), "a guess that is no"),
    "null": (forged(chapters={"01": {"first": {FIRST: None}, "later": {}}}), "a guess that is no"),
    "long": (forged(chapters={"01": {"first": {FIRST: "x" * 201}, "later": {}}}), "a guess that"),
    "later": (forged(chapters={"01": {"first": {FIRST: 1}, "later": {FIRST: {}}}}), "a guess that"),
    "inf": (forged().replace(": 5", ": 1e999"), "a guess that is no"),
    "nan": (forged().replace(": 5", ": NaN"), "NaN is not a number"),
    "twice": ('{"id": 1, "id": 2}', "the same name twice"),
    "other": (forged(chapters={"99": {"first": {"x": 1}, "later": {}}}), "no guess for a question"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line_and_stops_nobody(name, folder, capsys):
    text, words = BAD[name]
    (folder / "bad.json").write_text(text)
    student(folder, "s1", {FIRST: 5})
    capsys.readouterr()
    code, page, rows = pool(folder)
    said = capsys.readouterr().out.splitlines()
    assert code == 0 and len(rows) == 1 and len(said) == 2
    assert said[0].startswith("bad.json: ") and words in said[0] and words in page


def test_unknown_questions_are_left_out_and_said(folder, capsys):
    first = {FIRST: 5, "my own": 3, "<b>": 4}
    (folder / "a.json").write_text(forged(chapters={"01": {"first": first, "later": {}}}))
    _, page, rows = pool(folder)
    assert "a.json: 2 guesses for questions that the book does not ask" in capsys.readouterr().out
    assert len(rows) == 1 and "my own" not in page


def test_nothing_at_all(folder, capsys):
    assert pool(folder)[0] == 1
    assert predictions.main(["pool", str(folder / "no"), "--out", str(folder / "o")]) == 2
    assert "no is not a folder" in capsys.readouterr().err


def test_a_zip_is_pooled_as_its_folder(folder, capsys):
    student(folder, "s1", {FIRST: 5})
    student(folder, "s2", {FIRST: 7})
    (folder / "huge.json").write_text('["' + "x" * 100_001 + '"]')
    archive = folder.parent / "in.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        for path in folder.rglob("*.json"):
            made.write(path, path.relative_to(folder))
    capsys.readouterr()
    as_folder, said = pool(folder), capsys.readouterr().out
    assert pool(archive) == as_folder and as_folder[0] == 0 and len(as_folder[2]) == 2
    assert capsys.readouterr().out == said and "huge.json: larger than 100 kB" in said
    archive.write_bytes(archive.read_bytes()[:-30])
    assert predictions.main(["pool", str(archive), "--out", str(folder / "o")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no zip that can be read: give the folder" in said


def test_links_and_pipes_are_not_opened(folder, tmp_path, capsys):
    (tmp_path / "secret.json").write_text(forged())
    (folder / "link.json").symlink_to(tmp_path / "secret.json")
    os.mkfifo(folder / "pipe.json")
    code, _, rows = pool(folder)
    said = capsys.readouterr().out
    assert code == 1 and not rows
    assert "link.json: a link, which is not followed" in said
    assert "pipe.json: not a plain file" in said


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.attributes = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize(
    "value",
    [
        "<script>alert(1)</script>",
        "</text></svg><img src=x onerror=alert(1)>",
        '" onload="alert(1)',
        "&lt;b&gt;",
        "=1+1",
        "@x",
        ["=1", "<i>"],
        "a\n\x00\u202eb",
        "\ud800",
    ],
    ids=repr,
)
def test_a_hostile_guess_does_nothing(value, folder):
    (folder / "a.json").write_text(
        forged(chapters={"07": {"first": {WORST: value}, "later": {WORST: value}}})
    )
    code, page, rows = pool(folder)
    tags = Tags(page)
    assert code == 0 and len(rows) == 1
    assert not {"script", "img", "i", "b"} & tags.found
    assert not any(name.startswith("on") for name in tags.attributes)
    assert "src" not in tags.attributes and "href" not in tags.attributes
    for text in (rows[0]["first"], rows[0]["later"]):
        assert not text.startswith(("=", "+", "-", "@")) and "\n" not in text
    assert "\u202e" not in page and "\x00" not in page


def test_the_page_needs_nothing_and_suits_light_and_dark(folder):
    student(folder, "s1", {FIRST: 5})
    _, page, _ = pool(folder)
    assert "default-src 'none'" in page and "prefers-color-scheme: dark" in page
    assert "http:" not in page and "https:" not in page and 'lang="en"' in page
    assert '<svg role="img"' in page and "aria-label=" in page


def test_two_hundred_students(folder):
    for k in range(200):
        (folder / f"{k}.json").write_text(
            forged(id=f"{k:016x}", chapters={"01": {"first": {FIRST: k / 2}, "later": {}}})
        )
    code, page, rows = pool(folder)
    assert code == 0 and len(rows) == 200 and "n = 200" in page
