"""What a notebook's first cell says, and which size and precision it chooses."""

import json
import random
from pathlib import Path

import pytest
import torch

from resnet_lib import guesses, lab


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """No GPU, no size from outside, not in Colab."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("RESNET_LIB_SIZE", "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla T4")
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))


def test_on_a_cpu(capsys):
    here = lab.start("05")
    said = capsys.readouterr().out
    threads = torch.get_num_threads()
    name = f"CPU, {threads} thread{'s' * (threads > 1)}"
    assert f"Runs on: {name}   torch {torch.__version__}   size: quick" in said
    assert "Data:    shapes10" in said and "Time:    " in said
    assert here.device == torch.device("cpu") and here.size == "quick"
    assert here.precision in ("fp32", "bf16") and "GPU" not in said


def test_on_a_gpu(a_gpu, capsys):
    here = lab.start("05")
    said = capsys.readouterr().out
    assert "Runs on: Tesla T4" in said and "size: lesson" in said and "No GPU" not in said
    assert here.device == torch.device("cuda") and here.size == "lesson"
    assert here.precision == "fp16"  # a T4 only emulates bfloat16


@pytest.mark.parametrize("size", lab.SIZES)
def test_the_size_from_the_environment(size, monkeypatch, capsys):
    monkeypatch.setenv("RESNET_LIB_SIZE", size)
    here = lab.start("05")
    said = capsys.readouterr().out
    assert here.size == size and f"size: {size}" in said
    assert here.pick("q", "l", "f") == size[0]
    # A forgotten GPU is pointed out before the long cells, not after.
    assert ("No GPU is switched on" in said) is (size != "quick")


def test_an_empty_size_is_as_not_set(monkeypatch, request):
    """As a shell or a CI file leaves it: RESNET_LIB_SIZE= in front of the command."""
    monkeypatch.setenv("RESNET_LIB_SIZE", "")
    assert lab.start("05").size == "quick"
    request.getfixturevalue("a_gpu")
    assert lab.start("05").size == "lesson"


@pytest.mark.parametrize("size", [" ", "Quick", "huge"])
def test_a_wrong_size_is_refused(size, monkeypatch):
    monkeypatch.setenv("RESNET_LIB_SIZE", size)
    with pytest.raises(ValueError, match=f"RESNET_LIB_SIZE='{size}': choose one of quick, lesson"):
        lab.start("05")


def test_in_colab_without_a_gpu(monkeypatch, capsys):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    lab.start("05")
    assert "Runtime > Change runtime type > T4 GPU now" in capsys.readouterr().out


def test_the_measured_time(monkeypatch, tmp_path, capsys):
    about = {"05": {"data": "D", "seconds": {"quick": {"value": 31.6, "on": "2 cores"}}}}
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "chapters.json").write_text(json.dumps(about))
    monkeypatch.setattr(lab, "files", lambda _package: tmp_path)
    lab.start("05")
    assert "Time:    about 32 s when measured on 2 cores" in capsys.readouterr().out
    monkeypatch.setenv("RESNET_LIB_SIZE", "full")
    lab.start("05")
    assert "Time:    not yet measured at size full" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ("fpu avx2 avx512f avx512_bf16 avx512_vnni", "bf16"),
        ("fpu avx2 amx_tile amx_bf16", "bf16"),
        ("fpu avx2 avx512f avx512_vnni", "fp32"),
        ("fp asimd", "fp32"),
        (None, "fp32"),
    ],
    ids=["avx512", "amx", "without", "arm", "not Linux"],
)
def test_fast_precision_on_a_cpu(flags, wanted, monkeypatch):
    def read_text(path, *_args, **_kwargs):
        assert str(path) == "/proc/cpuinfo"
        if flags is None:
            raise FileNotFoundError(path)
        return f"processor\t: 0\nmodel name\t: X\nflags\t\t: {flags}\n"

    monkeypatch.setattr(Path, "read_text", read_text)
    assert lab.fast_precision(torch.device("cpu")) == wanted


@pytest.mark.parametrize(
    ("native", "capability", "wanted"),
    [(True, (8, 0), "bf16"), (False, (7, 5), "fp16"), (False, (6, 1), "fp32")],
)
def test_fast_precision_on_a_gpu_asks_for_the_hardware(native, capability, wanted, monkeypatch):
    """torch says yes for a T4 too unless it is asked without emulation."""
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or native,
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert lab.fast_precision(torch.device("cuda")) == wanted


def test_every_chapter_is_described():
    root = Path(__file__).resolve().parent.parent
    about = json.loads((root / "resnet_lib" / "assets" / "chapters.json").read_text())
    for path in (root / "book").glob("[0-9]*.ipynb"):
        chapter = about[path.name[:2]]
        assert chapter["title"] and chapter["data"]
        assert set(chapter["seconds"]) <= set(lab.SIZES)


# --- predictions


@pytest.fixture
def kept(tmp_path, monkeypatch, capsys):
    """Keep guesses of chapter 05 in an empty folder; give what is said and what the file holds."""
    monkeypatch.chdir(tmp_path)

    def keep(guess, chapter="05"):
        here = lab.Here(torch.device("cpu"), "a test", "quick", "fp32", chapter)
        assert here.keep(guess) is None
        file = tmp_path / "predictions.json"
        said = capsys.readouterr().out
        assert said.count("\n") == 1
        held = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        return said.strip(), held

    return keep


def test_a_page_knows_its_chapter(monkeypatch, capsys):
    assert lab.start("05").chapter == "05"


def test_nothing_answered_writes_nothing(kept, tmp_path):
    said, held = kept({"a": ..., "b": ...})
    assert said == "not answered yet: nothing kept" and held is None
    assert not list(tmp_path.iterdir())


def test_guesses_are_kept_for_several_chapters(kept, tmp_path):
    said, held = kept({"a": 3, "b": "two words", "c": [1, 2.5], "d": ...})
    assert said == "kept in predictions.json: 3 of 4 guesses"
    said, held = kept({"宽度": 7}, chapter="06")
    assert held["chapters"] == {
        "05": {"first": {"a": 3, "b": "two words", "c": [1, 2.5]}, "later": {}},
        "06": {"first": {"宽度": 7}, "later": {}},
    }
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.json"]


def test_the_first_guess_stays_and_a_later_one_stands_beside_it(kept):
    _, first = kept({"a": 3, "b": ...})
    said, held = kept({"a": 4, "b": 1})
    assert "2 of 2 guesses; 1 changed, the first one stays" in said
    assert held["chapters"]["05"] == {"first": {"a": 3, "b": 1}, "later": {"a": 4}}
    assert held["id"] == first["id"]
    said, held = kept({"a": 3, "b": 1})
    assert "changed" not in said and held["chapters"]["05"]["later"] == {}


def test_the_same_guesses_again_do_not_touch_the_file(kept, tmp_path):
    kept({"a": 3})
    before = (tmp_path / "predictions.json").stat().st_ino
    kept({"a": 3})
    assert (tmp_path / "predictions.json").stat().st_ino == before


@pytest.mark.parametrize(
    "value",
    [True, torch.tensor(1.0), {"x": 1}, (1, 2), b"x", [[1]], "x" * 201, [0] * 201]
    + [float("nan"), float("inf"), 10**5000, 1j, len],
    ids=lambda value: str(type(value).__name__),
)
def test_what_is_not_plain_is_not_kept(value, kept):
    said, held = kept({"a": 3, "odd one": value})
    assert "kept in predictions.json: 1 of 2 guesses; not 'odd one': write a number" in said
    assert held["chapters"]["05"]["first"] == {"a": 3}
    said, _ = kept({"odd one": value})
    assert "nothing kept: write a number" in said and "'odd one'" in said


def test_a_guess_that_is_no_dict(kept):
    assert kept([1, 2]) == ("guess is not a dict (list): nothing kept", None)
    assert kept(...)[0] == "guess is not a dict (ellipsis): nothing kept"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"format": "x"}', "[" * 100_000, "\x00"]
    + ['{"format": "resnet_lib predictions 1"}']
    + ['{"format": "resnet_lib predictions 1", "chapters": {"05": {"first": 1, "later": {}}}}']
    + ['{"format": "resnet_lib predictions 1", "chapters": {"05": {"first": {}}}}'],
)
def test_a_file_of_somebody_else_is_left_alone(text, kept, tmp_path, monkeypatch):
    file = tmp_path / "predictions.json"
    file.write_text(text)
    lab.Here(torch.device("cpu"), "a test", "quick", "fp32", "05").keep({"a": 3})
    assert file.read_text() == text and len(list(tmp_path.iterdir())) == 1


def test_a_damaged_file_is_named(kept, tmp_path, monkeypatch, capsys):
    (tmp_path / "predictions.json").write_text("{")
    lab.Here(torch.device("cpu"), "a test", "quick", "fp32", "05").keep({"a": 3})
    assert "damaged or another's; rename it): nothing kept" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("resnet_lib.checkpoint.open", refuse, raising=False)
    lab.Here(torch.device("cpu"), "a test", "quick", "fp32", "05").keep({"a": 3})
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "(Permission denied): nothing kept" in said
    (tmp_path / "predictions.json").mkdir()
    lab.Here(torch.device("cpu"), "a test", "quick", "fp32", "05").keep({"a": 3})
    assert "(Is a directory): nothing kept" in capsys.readouterr().out


def test_a_kill_while_writing_leaves_the_old_file(kept, tmp_path, monkeypatch):
    kept({"a": 3})
    before = (tmp_path / "predictions.json").read_text()

    def stop(_file):
        raise KeyboardInterrupt

    monkeypatch.setattr(guesses.os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        lab.Here(torch.device("cpu"), "a test", "quick", "fp32", "05").keep({"a": 4})
    assert (tmp_path / "predictions.json").read_text() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_in_colab_the_file_is_pointed_out(kept, monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    assert kept({"a": 3})[0].endswith("1 of 1 guesses (folder icon on the left)")


def test_keeping_does_not_touch_the_random_numbers(kept):
    torch.manual_seed(0)
    random.seed(0)
    wanted = torch.rand(1).item(), random.random()
    torch.manual_seed(0)
    random.seed(0)
    kept({"a": 3})
    assert (torch.rand(1).item(), random.random()) == wanted
