"""A progress bar that is right where it is shown: in a notebook, in a terminal, in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress


def bar(loader, epoch: int, epochs: int, quiet: bool = False) -> Iterator:
    """The batches of one epoch of a `data.Loader`, and how far that is.

    A notebook gets one line of HTML that disappears at the end, so a saved page holds no remains;
    a terminal gets tqdm's bar; a log gets nothing (a line an epoch is enough there).
    """
    batches, total, title = loader.epoch(epoch), len(loader), f"epoch {epoch}/{epochs}"
    if quiet:
        return iter(batches)
    if _in_notebook():
        return _html(batches, total, title)
    if sys.stderr.isatty():
        with suppress(ImportError):  # only a bar: the package needs torch alone
            from tqdm import tqdm

            return iter(tqdm(batches, title, total, leave=False, ncols=80))
    return iter(batches)


def _in_notebook() -> bool:
    """True under a Jupyter kernel (Colab's too), not in a terminal's IPython."""
    if "IPython" not in sys.modules:  # then no kernel can be running
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


def _html(batches: Iterable, total: int, title: str) -> Iterator:
    from IPython.display import HTML, display

    began = shown = time.monotonic()
    handle = None
    try:
        for done, batch in enumerate(batches, 1):
            yield batch
            now = time.monotonic()
            if now - shown < 0.5:  # also: an epoch shorter than this shows nothing at all
                continue
            shown = now
            left = (now - began) / done * (total - done)
            words = f"{title}: {done} of {total}, {left:.0f} s left"
            line = HTML(
                f'<progress max="{total}" value="{done}" aria-label="{title}"></progress> {words}'
            )
            if handle is None:
                handle = display(line, display_id=True)
            else:
                handle.update(line)
    finally:
        if handle is not None:
            handle.update(HTML(""))
