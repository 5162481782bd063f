"""The progress bar: seen where a reader looks, gone afterwards, and never in a log."""

import gc
import sys
from types import ModuleType, SimpleNamespace

import pytest

from resnet_lib import progress

BATCHES = ["a", "b", "c", "d"]


class Loader:
    def __init__(self):
        self.asked = []

    def __len__(self):
        return len(BATCHES)

    def epoch(self, number):
        self.asked.append(number)
        yield from BATCHES


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves; it starts at 100 s."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def screen(monkeypatch):
    """What a notebook would show: a list of every text, the last one being what is left."""
    shown = []

    class HTML:
        def __init__(self, data):
            self.data = data

    def display(thing, display_id):
        assert display_id is True
        shown.append(thing.data)
        return SimpleNamespace(update=lambda other: shown.append(other.data))

    notebook, parts = ModuleType("IPython"), ModuleType("IPython.display")
    notebook.get_ipython = lambda: SimpleNamespace(kernel=object())
    parts.HTML, parts.display, notebook.display = HTML, display, parts
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    monkeypatch.setitem(sys.modules, "IPython.display", parts)
    return shown


def through(loader, clock, seconds=1.0, **more) -> list:
    seen = []
    for batch in progress.bar(loader, 3, 7, **more):
        seen.append(batch)
        clock[0] += seconds
    return seen


def test_a_notebook_sees_it_grow_and_then_nothing(screen, clock, capsys):
    loader = Loader()
    assert through(loader, clock) == BATCHES and loader.asked == [3]
    assert screen[-1] == ""  # a saved page holds no remains
    assert len(screen) == 5
    for done, text in enumerate(screen[:4], 1):
        assert f'max="4" value="{done}"' in text and 'aria-label="epoch 3/7"' in text
        assert text.endswith(f"epoch 3/7: {done} of 4, {4 - done} s left")
    assert capsys.readouterr() == ("", "")


def test_it_is_not_drawn_more_often_than_twice_a_second(screen, clock):
    assert through(Loader(), clock, seconds=0.3) == BATCHES
    assert [text.split(": ")[-1][:6] for text in screen] == ["2 of 4", "4 of 4", ""]


def test_a_short_epoch_shows_nothing(screen, clock):
    assert through(Loader(), clock, seconds=0.1) == BATCHES and not screen


def test_it_is_emptied_when_the_loop_is_left_early(screen, clock):
    for number, _ in enumerate(progress.bar(Loader(), 1, 1)):
        clock[0] += 1
        if number == 2:
            break
    gc.collect()
    assert len(screen) == 3 and screen[-1] == "" and "2 of 4" in screen[1]


def test_it_is_emptied_when_the_loop_is_broken_by_an_exception(screen, clock):
    """At once, although the traceback still holds all that was going on."""

    def loop():
        for number, _ in enumerate(progress.bar(Loader(), 1, 1)):
            clock[0] += 1
            if number == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        loop()
    assert caught.tb is not None and len(screen) == 3
    assert screen[-1] == "" and "2 of 4" in screen[1]


@pytest.mark.parametrize("where", ["quiet", "terminal's IPython", "no IPython running"])
def test_a_notebook_s_bar_is_for_notebooks(screen, clock, where, monkeypatch, capsys):
    instances = {"quiet": SimpleNamespace(kernel=1), "terminal's IPython": SimpleNamespace()}
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: instances.get(where))
    assert through(Loader(), clock, quiet=where == "quiet") == BATCHES
    assert not screen and capsys.readouterr() == ("", "")


@pytest.fixture
def no_notebook(monkeypatch):
    for name in [m for m in sys.modules if m.split(".")[0] == "IPython"]:
        monkeypatch.delitem(sys.modules, name)


def test_a_log_gets_nothing_and_nothing_is_imported(no_notebook, clock, capsys):
    assert through(Loader(), clock) == BATCHES
    assert capsys.readouterr() == ("", "")
    assert "IPython" not in sys.modules


@pytest.mark.parametrize("quiet", [False, True])
def test_a_terminal_gets_the_bar_of_tqdm(no_notebook, clock, monkeypatch, quiet):
    made = []

    def tqdm(batches, title, total, **how):
        made.append((title, total, how))
        return batches

    fake = ModuleType("tqdm")
    fake.tqdm = tqdm
    monkeypatch.setitem(sys.modules, "tqdm", fake)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert through(Loader(), clock, quiet=quiet) == BATCHES
    assert made == ([] if quiet else [("epoch 3/7", 4, {"leave": False, "ncols": 80})])


def test_a_terminal_with_the_real_tqdm(no_notebook, clock, monkeypatch, capsys):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert through(Loader(), clock) == BATCHES
    out, error = capsys.readouterr()
    assert out == "" and "epoch 3/7" in error and "\n" not in error.rstrip("\n")


def test_without_tqdm_training_needs_no_bar(no_notebook, clock, monkeypatch):
    """The package itself needs torch alone."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert through(Loader(), clock) == BATCHES
