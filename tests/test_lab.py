"""What a notebook's first cell says, and which size and precision it chooses."""

import json
from pathlib import Path

import pytest
import torch

from resnet_lib import lab


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
