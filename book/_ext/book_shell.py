"""The page shell: less than the stock theme has, and a description for every page.

* sphinx-thebe is disconnected: its script declares a constant twice, an error on every page.
* The print header of the theme, a second <h1> on every page, is left out (templates/layout.html).
* Every page gets a description of its own: its first paragraph.
* Execution times go to ``_build/timings.json`` (see tools/build.py).
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

from docutils import nodes

HERE = Path(__file__).parent
SCRIPTS_LEFT_OUT = ("sphinx-thebe.js", "sphinx-thebe.css", "THEBE_JS_URL")


def drop_thebe(app, config):
    """Disconnect whatever sphinx-thebe connected; runs after every extension's setup()."""
    for listeners in app.events.listeners.values():
        listeners[:] = [
            entry for entry in listeners if not entry.handler.__module__.startswith("sphinx_thebe")
        ]
    config.templates_path.insert(0, str(HERE / "templates"))


def _wanted(asset) -> bool:
    text = f"{getattr(asset, 'filename', asset)} {getattr(asset, 'attributes', {}).get('body', '')}"
    return not any(name in text for name in SCRIPTS_LEFT_OUT)


def first_paragraph(doctree) -> str:
    """The text of the first real paragraph of a page, cut at a word near 160 characters."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = re.sub(r"\s+", " ", paragraph.astext()).strip()
        if len(text) >= 30:
            return text if len(text) <= 160 else text[:160].rsplit(" ", 1)[0].rstrip(",;:") + " …"
    return ""


def page_context(app, pagename, templatename, context, doctree):
    if not str(app.env.doc2path(pagename)).endswith(".ipynb"):  # Colab opens notebooks only
        context["header_buttons"] = [
            button
            for button in context.get("header_buttons", [])
            if button.get("label") != "launch-buttons"
        ]
    for kind in ("script_files", "css_files"):
        if kind in context:
            context[kind] = [asset for asset in context[kind] if _wanted(asset)]
    text = (first_paragraph(doctree) if doctree else "") or app.config.html_title
    context["metatags"] = (
        context.get("metatags", "")
        + f'\n<meta name="description" content="{html.escape(text, quote=True)}" />'
    )


def write_timings(app, exception):
    """What each notebook took when it was executed, from myst-nb or from its cache."""
    if exception is not None or app.builder.name != "html":
        return
    timings = {}
    for docname in sorted(app.env.found_docs):
        run = getattr(app.env, "nb_metadata", {}).get(docname, {}).get("exec_data")
        if run:
            timings[docname] = {"seconds": run["runtime"], "executed": run["mtime"]}
    path = Path(app.outdir).parent / "timings.json"
    path.write_text(json.dumps(timings, indent=1) + "\n", encoding="utf-8")


def setup(app):
    app.connect("config-inited", drop_thebe, priority=900)
    app.connect("html-page-context", page_context, priority=990)
    app.connect("build-finished", write_timings, priority=990)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
