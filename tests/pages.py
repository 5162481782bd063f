"""What the page tests and tools/screenshots.py share: the list of pages, a server, a browser."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import threading
from functools import partial
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
]


def _documents(entry) -> list[str]:
    found = [entry[key] for key in ("root", "file") if key in entry]
    for key in ("chapters", "sections", "parts", "subtrees", "entries"):
        for child in entry.get(key, ()):
            found += _documents(child)
    return found


def documents(root: Path = ROOT) -> list[str]:
    """Every document of the table of contents, without suffix."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    return [name.removesuffix(".md").removesuffix(".ipynb") for name in _documents(toc)]


def pages() -> list[str]:
    return [f"{name}.html" for name in documents()] + ["genindex.html", "search.html"]


def source(document: str) -> Path | None:
    found = [ROOT / f"{document}{suffix}" for suffix in (".ipynb", ".md")]
    return next((path for path in found if path.exists()), None)


def chromium() -> str | None:
    return (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    )


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serve(folder: Path = HTML):
    """A web server on a free port of this machine; its address."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def launch():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=ARGS)
        try:
            yield browser
        finally:
            browser.close()


def settle(page) -> None:
    """Wait until the page is loaded, its formulas are set and two frames were drawn."""
    page.wait_for_load_state("load")
    page.evaluate(
        """async () => {
            if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
            await document.fonts.ready;
            for (const img of document.images) if (img.loading === "lazy") img.loading = "eager";
            await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
        }"""
    )
