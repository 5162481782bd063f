"""The tools around the book: one address, the notebook gate, what a build decides. No browser."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import build
import gate
import pytest
import stamp
import yaml

ROOT = Path(__file__).resolve().parents[1]
LEAVE = shutil.ignore_patterns(
    ".git",
    ".venv",
    "_build",
    ".local",
    "mathjax",
    "__pycache__",
    "assets",
    ".pytest_cache",
    ".hypothesis",
    ".ruff_cache",
    "*.egg-info",
    "runs",
)


@pytest.fixture
def tree(tmp_path):
    """A copy of the working tree, to be spoilt."""
    return Path(shutil.copytree(ROOT, tmp_path / "book of mine", ignore=LEAVE, symlinks=True))


def chapter(tree: Path) -> Path:
    return stamp.notebooks(tree)[0]


def edit(path: Path, change) -> None:
    book = json.loads(path.read_text(encoding="utf-8"))
    change(book)
    path.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def texts(tree: Path) -> dict[str, str]:
    found = {}
    for path in tree.rglob("*"):
        if path.is_file() and "_static" not in path.parts:
            try:
                found[path.relative_to(tree).as_posix()] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
    return found


# The stamps -------------------------------------------------------------------------------------


def test_this_tree_is_stamped():
    assert gate.stamps(ROOT) == []


def test_every_setup_cell_is_the_template():
    home = stamp.read_home(ROOT)
    for path in stamp.notebooks(ROOT):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        first = next(cell for cell in cells if cell["cell_type"] == "code")
        assert "".join(first["source"]) == stamp.setup_cell(ROOT, home, path.name[:2])
        assert "hide-input" in first["metadata"]["tags"]


def test_a_fork_reaches_every_copy_and_comes_back(tree):
    before = texts(tree)
    home = stamp.read_home(tree)
    readme = tree / "README.md"
    line = (
        "[Colab](https://colab.research.google.com/github/"
        f"{home.path}/blob/{home.branch}/book/x.ipynb) "
        f"[zip]({home.url}/archive/{home.branch}.zip) git clone {home.url}.git ({home.path}) "
        "https://github.com/pytorch/vision/blob/main/README.md\n"
    )
    readme.write_text(
        (readme.read_text(encoding="utf-8") if readme.exists() else "") + line, encoding="utf-8"
    )
    assert stamp.main([], root=tree) == 0
    assert (
        stamp.main(
            ["--fork", "https://github.com/Jane.Doe/res-nets.git/", "--branch", "v2"], root=tree
        )
        == 0
    )
    assert stamp.main(["--check"], root=tree) == 0
    assert stamp.read_home(tree) == stamp.Home("https://github.com/Jane.Doe/res-nets", "v2")
    after = texts(tree)
    assert "/github/Jane.Doe/res-nets/blob/v2/book/x.ipynb" in after["README.md"]
    assert (
        "git clone https://github.com/Jane.Doe/res-nets.git (Jane.Doe/res-nets)"
        in after["README.md"]
    )
    assert "https://github.com/pytorch/vision/blob/main/README.md" in after["README.md"]
    assert (
        "git+https://github.com/Jane.Doe/res-nets@v2"
        in after[chapter(tree).relative_to(tree).as_posix()]
    )
    own = ("tools/", "tests/")  # speak of addresses, hold none
    left = [name for name, text in after.items() if home.path in text and not name.startswith(own)]
    assert left == []
    # once more: nothing to do; a second fork and the way back: as it was
    assert stamp.fork(tree, "https://github.com/Jane.Doe/res-nets", "v2") == []
    assert stamp.main(["--fork", "https://github.com/zz-second/zz-fork"], root=tree) == 0
    assert stamp.main(["--fork", home.url, "--branch", home.branch], root=tree) == 0
    now = texts(tree)
    now["README.md"] = now["README.md"].removesuffix(line)
    before.setdefault("README.md", "")
    assert now == before


def test_the_address_stands_where_it_is_stamped_and_nowhere_else(tree):
    """An address that no one else has: every occurrence of it was put there by the stamps."""
    stamp.fork(tree, "https://github.com/zz-only-here/zz-book", "main")
    home = stamp.read_home(tree)
    config = tree / "_config.yml"
    stamped = {
        path.relative_to(tree).as_posix()
        for path in [*stamp.notebooks(tree), *stamp.text_files(tree), config]
    }
    here = "tests/test_shell.py"
    holding = {name for name, text in texts(tree).items() if home.path in text and name != here}
    assert holding <= stamped
    assert "_config.yml" in holding
    placeholder = {
        name
        for name, text in texts(tree).items()
        if stamp.PLACEHOLDER in text and not name.startswith(("tools/", "tests/"))
    }
    assert placeholder == set()


def test_a_hand_edited_address_is_noticed_and_stamped(tree):
    home = stamp.read_home(tree)
    config = tree / "_config.yml"
    config.write_text(
        config.read_text(encoding="utf-8").replace(home.url, "https://github.com/me/mine"),
        encoding="utf-8",
    )
    assert stamp.main(["--check"], root=tree) == 1
    assert stamp.main([], root=tree) == 0
    assert stamp.main(["--check"], root=tree) == 0
    assert "me/mine" in chapter(tree).read_text(encoding="utf-8")


def test_a_changed_setup_cell_is_noticed(tree):
    def change(book):
        cell = next(cell for cell in book["cells"] if cell["cell_type"] == "code")
        cell["source"] = [*cell["source"], "\nprint(1)"]

    edit(chapter(tree), change)
    assert any(chapter(tree).name in finding for finding in gate.stamps(tree))


@pytest.mark.parametrize(
    "address",
    [
        "",
        "me/mine",
        "http://github.com/me/mine",
        "git@github.com:me/mine.git",
        "ssh://git@github.com/me/mine",
        "https://github.com/me",
        "https://github.com/me/mine/tree/main",
        "https://github.com/me/mi ne",
        "https://github.com/me/mine?x=1",
        "https://github/me/mine",
        'https://github.com/me/mine"; rm -rf x',
    ],
)
def test_a_bad_address_changes_nothing(tree, address, capsys):
    before = texts(tree)
    assert stamp.main(["--fork", address], root=tree) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and "tools/stamp.py:" in said
    assert texts(tree) == before


def test_a_bad_branch_changes_nothing(tree):
    before = texts(tree)
    assert stamp.main(["--fork", "https://github.com/me/mine", "--branch", "a b"], root=tree) == 2
    assert texts(tree) == before


def test_setup_cell_installs_alone_and_says_what_to_do(tmp_path, monkeypatch):
    """Run it where resnet_lib is not: one pip call, no dependencies, a readable message."""
    source = stamp.setup_cell(ROOT, stamp.Home("https://github.com/me/mine", "main"), "05")
    ast.parse(source)
    calls = []

    class Done:
        returncode = 1

    import importlib.util

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(
        subprocess, "run", lambda command, **options: calls.append(command) or Done()
    )
    for given, wanted in ((None, "git+https://github.com/me/mine@main"), ("book.zip", "book.zip")):
        calls.clear()
        if given:
            monkeypatch.setenv("RESNET_LIB_SOURCE", given)
        else:
            monkeypatch.delenv("RESNET_LIB_SOURCE", raising=False)
        with pytest.raises(SystemExit, match=r"RESNET_LIB_SOURCE") as stop:
            exec(compile(source, "setup", "exec"), {})
        assert wanted in str(stop.value)
        assert calls == [[sys.executable, "-m", "pip", "install", "-q", "--no-deps", wanted]]


# The gate -----------------------------------------------------------------------------------------


def test_the_gate_lets_this_tree_pass():
    assert gate.findings(ROOT) == []


def markdown(text):
    def change(book):
        book["cells"].append(
            {"cell_type": "markdown", "id": "planted", "metadata": {}, "source": [text]}
        )

    return change


def on_code(**values):
    def change(book):
        next(cell for cell in book["cells"] if cell["cell_type"] == "code").update(values)

    return change


def drop_id(book):
    del book["cells"][-1]["id"]


def same_id(book):
    book["cells"][-1]["id"] = book["cells"][0]["id"]


FAULTS = {
    "outputs": (
        on_code(outputs=[{"output_type": "stream", "name": "stdout", "text": ["1"]}]),
        "has outputs",
    ),
    "count": (on_code(execution_count=3), "execution count"),
    "directive": (markdown("```{note}\nhello\n```"), "directive"),
    "colon directive": (markdown(":::{tip}\nhello\n:::"), "directive"),
    "role": (markdown("see {doc}`index`"), "role"),
    "target": (markdown("(here)=\n## Here"), "target"),
    "substitution": (markdown("by {{ author }}"), "substitution"),
    "relative picture": (markdown("![a block](../images/block.png)"), "relative path"),
    "relative picture in HTML": (markdown('<img src="block.png" alt="a block">'), "relative path"),
    "no alt text": (markdown("![](https://example.org/a.png)"), "alt text"),
    "no id": (drop_id, "no id"),
    "id twice": (same_id, "occurs twice"),
    "myst import": (on_code(source=["from myst_nb import glue"]), "not there in Colab"),
    "second title": (markdown("# Another title"), "titles"),
    "backslash formula": (markdown(r"\[ x + 1 \]"), "formula"),
    "details left open": (markdown("<details><summary>Hint</summary>\n\nx"), "details"),
    "old format": (lambda book: book.update(nbformat_minor=2), "4.5"),
    "kernel": (lambda book: book["metadata"].update(kernelspec={"name": "venv"}), "kernel"),
    "editor's metadata": (lambda book: book["metadata"].update(colab={}), "editor"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_gate_catches(tree, fault):
    change, word = FAULTS[fault]
    path = chapter(tree)
    edit(path, change)
    found = gate.in_notebook(path)
    assert found and all("\n" not in finding for finding in found)
    assert any(word in finding for finding in found), found
    command = [sys.executable, str(tree / "tools" / "gate.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert path.name in done.stdout


@pytest.mark.parametrize(
    "text",
    [
        "a set {a, b} and `{x}` and $\\{W_i\\}$",
        "```python\nx = {'a': 1}\nprint(f'{x}`y`')\n```",
        "a formula $F(x, \\{W_i\\})$\n\n$$\n\\begin{aligned} a &= b \\\\[2pt] c \\end{aligned}\n$$",
        "![a block, drawn](https://example.org/block.png)",
        "<details>\n<summary>Hint</summary>\n\nx\n\n</details>",
        "use `\\[` for a bracket; 中文（shortcut）",
    ],
)
def test_the_gate_lets_plain_markdown_pass(text):
    assert gate.in_markdown(text) == []


# When the book has to be built ------------------------------------------------------------------


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A book of three files, its build recorded instead of run."""
    (tmp_path / "resnet_lib" / "assets").mkdir(parents=True)
    (tmp_path / "book" / "_static").mkdir(parents=True)
    for name in (
        "resnet_lib/__init__.py",
        "resnet_lib/assets/w.json",
        "book/05_x.ipynb",
        "book/_static/book.css",
    ):
        (tmp_path / name).write_text("x")
    (tmp_path / "_config.yml").write_text("title: x")
    built = []

    def run(root):
        cache = root / "_build" / ".jupyter_cache"
        built.append("kept" if cache.exists() else "dropped")
        assert not (root / "_build" / "html").exists()
        cache.mkdir(parents=True, exist_ok=True)
        (root / "_build" / "html").mkdir()
        (root / "_build" / "html" / "index.html").write_text("x")
        return 0

    monkeypatch.setattr(build, "run_jupyter_book", run)
    monkeypatch.delenv("RESNET_LIB_SIZE", raising=False)
    return tmp_path, built


def test_nothing_changed_nothing_built(small, capsys):
    root, built = small
    assert build.main(root) == 0
    assert build.main(root) == 0
    assert built == ["dropped"]
    assert "Nothing changed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "cache"),
    [
        ("resnet_lib/__init__.py", "dropped"),
        ("resnet_lib/assets/w.json", "dropped"),
        ("book/05_x.ipynb", "kept"),
        ("book/_static/book.css", "kept"),
        ("_config.yml", "kept"),
        ("book/new.md", "kept"),
        ("resnet_lib/new.py", "dropped"),
    ],
)
def test_what_a_change_brings_about(small, name, cache):
    root, built = small
    build.main(root)
    (root / name).write_text("y")
    build.main(root)
    assert built == ["dropped", cache]
    build.main(root)
    assert len(built) == 2


def test_another_size_or_version_executes_everything(small, monkeypatch):
    root, built = small
    build.main(root)
    monkeypatch.setenv("RESNET_LIB_SIZE", "lesson")
    build.main(root)
    monkeypatch.setattr(build, "versions", lambda: ["torch 9"])
    build.main(root)
    assert built == ["dropped"] * 3


def test_leftovers_are_no_change(small):
    root, built = small
    build.main(root)
    (root / "resnet_lib" / "__pycache__").mkdir()
    (root / "resnet_lib" / "__pycache__" / "a.pyc").write_text("x")
    (root / "book" / ".ipynb_checkpoints").mkdir()
    (root / "book" / ".ipynb_checkpoints" / "a.ipynb").write_text("x")
    build.main(root)
    assert len(built) == 1


def test_a_failed_build_is_built_again(small, monkeypatch):
    root, built = small
    good = build.run_jupyter_book
    monkeypatch.setattr(build, "run_jupyter_book", lambda root: 1)
    assert build.main(root) == 1
    monkeypatch.setattr(build, "run_jupyter_book", good)
    assert build.main(root) == 0
    assert len(built) == 1


def test_a_change_during_the_build_is_not_lost(small, monkeypatch):
    root, built = small
    good = build.run_jupyter_book

    def run(root):
        (root / "resnet_lib" / "__init__.py").write_text("edited meanwhile")
        return good(root)

    monkeypatch.setattr(build, "run_jupyter_book", run)
    build.main(root)
    monkeypatch.setattr(build, "run_jupyter_book", good)
    build.main(root)
    assert built == ["dropped", "dropped"]


def test_a_notebook_error_is_the_last_word(tmp_path, capsys):
    log = [
        "reading sources... ",
        "book/05_x.ipynb: WARNING: Executing notebook failed: CellExecutionError",
        "Traceback (most recent call last):",
        "------------------",
        "assert 1 == 2",
        "AssertionError: 1 is not 2",
        "===============================================================================",
    ]
    progress = build.Progress(tmp_path)
    for line in log:
        progress.line(line)
    build.explain(tmp_path, log, progress.trouble)
    said = capsys.readouterr().err
    assert "AssertionError: 1 is not 2" in said
    assert "05_x.ipynb" in said


def test_old_python_is_told_so():
    source = (ROOT / "tools" / "build.py").read_text(encoding="utf-8")
    head = source.split("import contextlib")[0]
    ast.parse(head, feature_version=(3, 7))
    guard = head.replace("sys.version_info < (3, 11)", "True")
    done = subprocess.run([sys.executable, "-c", guard], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Python 3.11 or newer" in done.stderr


def test_make_refuses_old_python(tree):
    old = tree / "python-old"
    old.write_text(
        "#!/bin/sh\n"
        f'exec "{sys.executable}" -c '
        '"import sys; sys.version_info = (3, 9); exec(sys.argv[1])" "$2"\n'
    )
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "book", f"PYTHON={old.name}"],
        cwd=tree,
        env={**os.environ, "PATH": f"{tree}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "needs Python 3.11" in done.stderr
    assert not (tree / ".venv").exists()


def test_make_lists_its_targets():
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("book", "test", "test-long", "serve", "clean", "fork", "format", "lint"):
        assert re.search(rf"(?m)^\s+{target}\s+\S", done.stdout), target


# The page shell ---------------------------------------------------------------------------------


def test_the_contents_and_the_configuration_agree_with_the_tree():
    import pages

    assert all(pages.source(document) for document in pages.documents())
    listed = {f"{document}.ipynb" for document in pages.documents()}
    notebooks = {path.relative_to(ROOT).as_posix() for path in stamp.notebooks(ROOT)}
    assert {name for name in notebooks if not name.startswith("assignments/")} <= listed
    assert not any(name.startswith("assignments/") for name in listed)  # masters hold solutions
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert config["execute"]["raise_on_error"] is True
    assert config["execute"]["execute_notebooks"] == "cache"


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize(("theme", "ground"), [("light", "#ffffff"), ("dark", "#14181e")])
def test_the_palette_stands_out(theme, ground):
    style = (ROOT / "book" / "_static" / "book.css").read_text(encoding="utf-8")
    blocks = re.findall(rf'html\[data-theme="{theme}"\] \{{([^}}]*)\}}', style)
    values = dict(re.findall(r"--(rl-[\w]+): (#[0-9a-f]{6});", "".join(blocks)))
    for name, least in [
        *((f"rl-c{i}", 3.0) for i in range(6)),
        ("rl-soft", 4.5),
        ("rl-accent", 4.5),
    ]:
        light, dark = sorted((_luminance(values[name]), _luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= least, (name, values[name])


def test_nothing_of_the_shell_names_another_host():
    """Style sheet, scripts and templates of ours fetch nothing; MathJax is whole and licensed."""
    for path in (ROOT / "book" / "_static").rglob("*"):
        if path.suffix in {".css", ".js"} and "mathjax" not in path.parts:
            assert not re.search(r"https?://(?!www\.w3\.org/)", path.read_text(encoding="utf-8")), (
                path
            )
    mathjax = ROOT / "book" / "_static" / "mathjax"
    assert (mathjax / "LICENSE").exists()
    script = (mathjax / "tex-mml-chtml.js").read_text(encoding="utf-8")
    fonts = set(re.findall(r"MathJax_[A-Za-z0-9]+(?:-[A-Za-z]+)?(?=\.woff)", script)) or {
        "MathJax_Main-Regular"
    }
    have = {path.stem for path in mathjax.rglob("*.woff")}
    assert fonts <= have
