"""Every page of the built book in a real browser: at home, without errors, readable by everyone.

Needs ``make book`` before, and chromium (or CHROMIUM=<path>). Where there is no browser the tests
are skipped, and the last lines of the run say so; in continuous integration (CI is set) they fail
instead.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from urllib.parse import urlsplit

import pages as book
import pytest
import stamp

VIEWS = {"light": ("light", 1280, 900), "dark": ("dark", 1280, 900), "phone": ("light", 375, 812)}
PAGES = book.pages()
DOCUMENTS = book.documents()


def shown(views, names=PAGES):
    """Run a test once for each page in each of these views.

    Opening a page costs more than most tests of it, so the fixture is the module's: pytest then
    puts the tests of one page together, and they share it, opened once. It groups by the place in
    the list: a shorter list has to be a beginning of the longest, all pages in light first.
    """
    params = []
    for view in views:
        for name in names:
            label = f"{view}-{name.removesuffix('.html')}"
            group = pytest.mark.xdist_group(label)  # one process, or it is opened twice
            params.append(pytest.param((view, name), id=label, marks=group))
    return pytest.mark.parametrize("visit", params, indirect=True, scope="module")


everywhere = shown(VIEWS)
in_light = shown(["light"])
documents_in_light = shown(["light"], [f"{document}.html" for document in DOCUMENTS])


def _unavailable() -> str | None:
    if not (book.HTML / "index.html").exists():
        return "the book is not built: make book"
    if book.chromium() is None:
        return "no browser: install chromium, or set CHROMIUM to one"
    try:
        import axe_playwright_python  # noqa: F401
        import playwright  # noqa: F401
    except ImportError as error:
        return f"{error}: pip install -r requirements-dev.txt"
    return None


@pytest.fixture(scope="module")
def address():
    with book.serve() as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    reason = _unavailable()
    if reason:
        if os.environ.get("CI"):
            pytest.fail(f"In continuous integration the pages have to be looked at, but: {reason}")
        pytest.skip(reason)
    with book.launch() as browser:
        yield browser


class Visit:
    """One page, opened, with what it asked for and what it complained of."""

    def __init__(self, browser, view="light"):
        scheme, width, height = VIEWS[view]
        self.context = browser.new_context(
            color_scheme=scheme,
            viewport={"width": width, "height": height},
            reduced_motion="reduce",
        )
        self.abroad: list[str] = []
        self.errors: list[str] = []
        self.host = ""
        self.view = view
        self.name = ""
        self.context.route("**/*", self._route)
        self.page = self.context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("response", self._response)

    def _route(self, route):
        parts = urlsplit(route.request.url)
        if parts.scheme in ("data", "blob") or f"{parts.scheme}://{parts.netloc}" == self.host:
            route.continue_()
        else:
            self.abroad.append(route.request.url)
            route.abort()

    def _console(self, message):
        if message.type == "error":
            self.errors.append(f"{message.text} {message.location.get('url', '')}")

    def _response(self, response):
        if response.status >= 400:
            self.errors.append(f"{response.status} {response.url}")

    def open(self, base, name):
        parts = urlsplit(base)
        self.host = f"{parts.scheme}://{parts.netloc}"
        self.abroad.clear()
        self.errors.clear()
        self.name = name
        self.page.goto(f"{base}/{name}")
        book.settle(self.page)
        return self.page


@pytest.fixture(scope="module")
def visits(browser):
    visits = {view: Visit(browser, view) for view in VIEWS}
    yield visits
    for visit in visits.values():
        visit.context.close()


@pytest.fixture(scope="module")
def visit(request, visits, address):
    """A page in a view, opened: see `shown`. A test leaves it as it was, or stands at the end."""
    view, name = request.param
    visits[view].open(address, name)
    return visits[view]


@pytest.fixture(scope="module")
def light(browser):
    visit = Visit(browser)
    yield visit
    visit.context.close()


def _markdown(document: str) -> str:
    """The prose of a page's source, without code."""
    path = book.source(document)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    text = re.sub(r"(?ms)^[ \t]*(`{3,}|~{3,}).*?^[ \t]*\1[ \t]*$", "", text)
    return re.sub(r"`[^`\n]*`", "", text)


def test_every_page_of_the_contents_was_built():
    reason = _unavailable()
    if reason and "not built" in reason and not os.environ.get("CI"):
        pytest.skip(reason)
    missing = [name for name in [*PAGES, "index.html"] if not (book.HTML / name).exists()]
    assert not missing
    known = {*PAGES, "index.html"}
    built = {path.relative_to(book.HTML).as_posix() for path in book.HTML.rglob("*.html")}
    assert not {name for name in built if not name.startswith(("_static", "_sources"))} - known


@everywhere
def test_quiet_and_at_home(visit):
    """No request leaves the host, nothing is missing, no error in the console, formulas set."""
    assert visit.abroad == []
    assert visit.errors == []
    facts = visit.page.evaluate(
        """() => ({
            lang: document.documentElement.lang,
            title: document.title,
            description: document.querySelector("meta[name=description]")?.content || "",
            h1: document.querySelectorAll("h1").length,
            thebe: document.documentElement.innerHTML.includes("THEBE"),
        })"""
    )
    assert facts["lang"] == "en"
    assert facts["title"]
    assert len(facts["description"]) >= 20
    assert facts["h1"] == 1
    assert not facts["thebe"]


@documents_in_light
def test_formulas_are_set(visit):
    page = visit.page
    source = _markdown(visit.name.removesuffix(".html"))
    wanted = len(
        re.findall(r"\$\$.+?\$\$|(?<![\\$])\$[^$\s](?:[^$\n]*[^$\s])?\$", source, flags=re.S)
    )
    got = page.locator(".bd-article mjx-container").count()
    assert got >= wanted > 0 or wanted == 0, f"{wanted} formulas in the source, {got} on the page"
    assert page.locator("mjx-merror").count() == 0
    text = page.evaluate(
        """() => {
            const article = document.querySelector(".bd-article").cloneNode(true);
            article.querySelectorAll("pre, code, script, mjx-container").forEach(e => e.remove());
            return article.textContent;
        }"""
    )
    for raw in (r"\[", r"\]", r"\(", "$$", r"\begin{", r"\frac", ":::", "| |", "|—"):
        assert raw not in text
    broken = page.evaluate(
        """() => [...document.fonts]
            .filter(f => f.family.startsWith("MJX") && f.status === "error").length"""
    )
    assert broken == 0


@in_light
def test_every_picture_is_there_and_described(visit):
    bad = visit.page.evaluate(
        r"""() => {
            const bad = [];
            const path = /[\\/]\S*\.\w{2,4}$|^\S+\.(png|svg|jpe?g|gif|webp)$|^_build|^\.\.?\//i;
            for (const img of document.querySelectorAll("img")) {
                const alt = (img.getAttribute("alt") || "").trim();
                const ours = img.closest(".bd-article");
                if (!img.naturalWidth) bad.push("not loaded: " + img.src);
                if (ours && alt.length < 8) bad.push("no alt text: " + img.src);
                if (path.test(alt)) bad.push("a path for alt text: " + alt);
            }
            const skip = "[aria-hidden=true], mjx-container, button, .admonition-title";
            for (const svg of document.querySelectorAll(".bd-article :is(svg, object, canvas)")) {
                if (svg.closest(skip)) continue;
                const name = (svg.getAttribute("aria-label") || "").trim();
                if (!svg.closest("[role=img]")) bad.push("drawing without role=img");
                else if (name.length < 8 && !svg.closest("[role=img][aria-label]"))
                    bad.push("drawing without a description");
            }
            for (const figure of document.querySelectorAll(".rl-figure"))
                if (!figure.querySelector("figcaption")?.textContent.trim())
                    bad.push("figure without caption");
            return bad;
        }"""
    )
    assert bad == []


@in_light
def test_no_line_of_code_or_output_is_cut_on_a_desktop(visit):
    """The folded setup cell is the exception."""
    cut = visit.page.evaluate(
        """() => [...document.querySelectorAll("div.cell:not(.tag_hide-input) pre")]
            .filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1)
            .map(e => [e.scrollWidth - e.clientWidth, e.textContent.split("\\n").reduce(
                (a, b) => a.length >= b.length ? a : b).slice(0, 110)])"""
    )
    assert cut == []


@everywhere
def test_one_search_box(visit):
    """One way to search is visible: a field or a button, not two of them."""
    seen = visit.page.evaluate(
        """() => [...document.querySelectorAll(
                ".search-button, .search-button-field, .search-button__button, " +
                "form.bd-search, input[type=search]")]
            .filter(e => e.checkVisibility({ visibilityProperty: true }))
            .filter(e => { const r = e.getBoundingClientRect();
                           return r.width > 0 && r.right > 0 && r.left < innerWidth; })
            .filter((e, i, all) => !all.some(o => o !== e && o.contains(e)))
            .map(e => e.outerHTML.slice(0, 120))"""
    )
    projector = "/sessions/" in visit.name and visit.view != "phone"  # no sidebar there
    assert len(seen) == (0 if projector else 1), seen


@everywhere
def test_figures_are_left_alone(visit):
    """The theme neither inverts nor tints a picture, in the dark above all."""
    looks = visit.page.evaluate(
        """() => [...document.querySelectorAll(
                ".bd-article img, .rl-figure, .rl-figure *, " +
                ".cell_output, .cell_output .text_html")]
            .filter(e => !e.closest("button"))
            .map(e => [e.tagName, getComputedStyle(e)])
            .map(([tag, style]) => [tag, style.filter, style.backgroundColor])"""
    )
    assert [look for look in looks if look[1] != "none"] == []
    clear = ("rgba(0, 0, 0, 0)", "transparent")
    assert [
        look for look in looks if look[0] in ("FIGURE", "svg", "IMG") and look[2] not in clear
    ] == []
    colours = visit.page.evaluate(
        """() => { const c = getComputedStyle(document.documentElement);
                   return [0, 1, 2, 3, 4, 5].map(i => c.getPropertyValue(`--rl-c${i}`)); }"""
    )
    assert len(set(colours)) == 6 and all(colours)


def notebooks_of_this_tree() -> set[str]:
    """What git has, or will have; without git (an unpacked zip) what there is."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "*.ipynb"]
    if shutil.which("git") and (book.ROOT / ".git").exists():
        done = subprocess.run(command, cwd=book.ROOT, capture_output=True, text=True, check=True)
        return set(done.stdout.split())
    return {path.relative_to(book.ROOT).as_posix() for path in book.ROOT.glob("book/**/*.ipynb")}


@documents_in_light
def test_colab_links_open_tracked_notebooks(visit):
    home = stamp.read_home(book.ROOT)
    tracked = notebooks_of_this_tree()
    start = f"https://colab.research.google.com/github/{home.path}/blob/{home.branch}/"
    links = visit.page.evaluate(
        "() => [...document.querySelectorAll('a[href*=\"colab.research\"]')].map(a => a.href)"
    )
    if book.source(visit.name.removesuffix(".html")).suffix == ".ipynb":
        assert links
    for link in links:
        assert link.startswith(start), link
        assert link.removeprefix(start) in tracked, link


@documents_in_light
def test_links_inside_the_book_lead_somewhere(visit):
    """Every link to another page of the book, and every anchor, exists."""
    links = visit.page.evaluate(
        """() => [...document.querySelectorAll("main a[href]")]
            .map(a => a.href).filter(href => href.startsWith(location.origin))"""
    )
    dead = []
    for link in sorted(set(links)):
        parts = urlsplit(link)
        target = book.HTML / parts.path.lstrip("/")
        if not target.exists():
            dead.append(link)
        elif parts.fragment and target.suffix == ".html":
            text = target.read_text(encoding="utf-8")
            if f'id="{parts.fragment}"' not in text and parts.fragment != "main-content":
                dead.append(link)
    assert dead == []


# The last two open every hint and solution, and leave them open; the very last takes words away.


@everywhere
def test_no_page_is_wider_than_the_window(visit):
    page = visit.page
    page.evaluate("() => document.querySelectorAll('details').forEach(d => { d.open = true; })")
    wide = page.evaluate(
        """() => {
            const room = document.documentElement.clientWidth;
            const boxed = e => {
                for (let p = e; p && p !== document.body; p = p.parentElement) {
                    const c = getComputedStyle(p);
                    if (c.overflowX !== "visible" && p !== e) return true;
                    if (c.position === "fixed") return true;
                }
                return false;
            };
            const over = [...document.querySelectorAll("main *")]
                .filter(e => e.getBoundingClientRect().right > room + 1)
                .filter(e => e.checkVisibility() && !boxed(e))
                .map(e => `${e.tagName}.${e.className}`.slice(0, 80));
            return { scroll: document.documentElement.scrollWidth - room, over: over.slice(0, 5) };
        }"""
    )
    assert wide["scroll"] <= 0, wide
    assert wide["over"] == []


@everywhere
def test_nothing_serious_for_axe(visit):
    """axe-core, with every hint and solution open: on the desktop, in the dark, on a phone.

    Contrast takes nearly all its time, on thousands of words of code and labels of figures that
    look alike: for it, and after all else was asked, one of each look stays (in each figure anew).
    What does not ask for colours is not asked again in the dark.
    """
    from axe_playwright_python.sync_playwright import Axe

    page = visit.page
    page.evaluate("() => document.querySelectorAll('details').forEach(d => { d.open = true; })")
    book.settle(page)
    assert page.evaluate("() => document.documentElement.dataset.theme") == (
        "dark" if visit.view == "dark" else "light"
    )
    others = {"rules": {"color-contrast": {"enabled": False}}}
    if visit.view == "dark":
        others = {"runOnly": ["link-in-text-block"]}
    only = {"resultTypes": ["violations"]}  # all that is in order takes long to tell
    violations = Axe().run(page, options=only | others).response["violations"]
    page.evaluate(
        """() => {
            const seen = new Set(), again = [], figures = [...document.querySelectorAll("svg")];
            for (const word of document.querySelectorAll(".highlight pre span, svg text")) {
                const grounds = [figures.indexOf(word.closest("svg"))];  // in each figure anew
                for (let e = word; !e.matches(".highlight, svg"); e = e.parentElement)
                    grounds.push(getComputedStyle(e).backgroundColor);
                const style = getComputedStyle(word);
                const ground = getComputedStyle(word.closest(".highlight, svg"));
                const look = [style.color, style.fill, style.fontSize, style.fontWeight,
                              style.opacity, ground.backgroundColor, ...grounds].join();
                if (seen.has(look)) again.push(word);
                seen.add(look);
            }
            again.forEach(word => word.remove());
        }"""
    )
    contrast = Axe().run(page, options=only | {"runOnly": ["color-contrast"]})
    violations += contrast.response["violations"]
    serious = [
        f"{found['impact']} {found['id']}: {node['html'][:140]} ({node['failureSummary'][:160]})"
        for found in violations
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"][:4]
    ]
    assert serious == []


@pytest.mark.parametrize("name", PAGES)
def test_opened_as_a_file(light, name):
    page = light.open(book.HTML.as_uri(), name)
    assert light.abroad == []
    assert light.errors == []
    if name.startswith("book/") and "$" in _markdown(name.removesuffix(".html")):
        assert page.locator("mjx-container").count() > 0


def test_search_finds(light, address):
    page = light.open(address, "search.html?q=ResNet")
    page.wait_for_selector("#search-results li", timeout=10_000)
    assert page.locator("#search-results li").count() >= 1
    assert light.abroad == []
    assert light.errors == []


def test_search_box_leads_to_hits(light, address):
    page = light.open(address, PAGES[0])
    page.keyboard.press("Control+k")
    page.locator("#pst-search-dialog input[type=search]").fill("ResNet")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=ResNet*")
    page.wait_for_selector("#search-results li", timeout=10_000)
    assert light.errors == []
