"""The package's shape: who imports whom, what `import resnet_lib` loads, and how long things are.

Imports are read from the syntax tree, inside functions too, so nothing has to be executed. A
module that does not exist yet is not missed, but a new one has to be entered in `MAY_IMPORT`.
"""

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "resnet_lib"
FILES = sorted(PACKAGE.rglob("*.py"))

MAY_IMPORT = {
    "shapes": set(),
    "data": set(),  # its own parts may import each other
    "checkpoint": set(),
    "records": set(),
    "plots": set(),
    "guesses": {"checkpoint"},
    "lab": {"guesses"},
    "blocks": set(),
    "models": {"blocks"},
    "recipe": {"data"},
    "progress": set(),
    "run_state": {"checkpoint", "recipe"},
    "train": {"checkpoint", "records", "data", "recipe", "progress", "run_state"},
    "measure": {"models"},
    "checks": {"models", "shapes", "measure"},
    "predict": {"models", "data", "checkpoint", "records"},
    "diagram": {"plots"},
    "runs": {"models", "data", "recipe", "train", "checkpoint", "records"},
    "__init__": {"models", "checks"},
    "__main__": {"cli"},
}
MAY_IMPORT["cli"] = {*MAY_IMPORT, "cli"} - {"__main__"}
# The budgets, in lines of code. The core had 2,000 until training could be resumed and picture
# folders larger than the memory could be streamed. CHECKS tells a reader what is wrong, and grows
# with the mistakes that readers make. RUNS records what the book quotes: who reads or runs a
# chapter never meets it. OTHERS had 950 until predictions could be kept for a class.
CORE = {
    "blocks",
    "models",
    "shapes",
    "data",
    "recipe",
    "train",
    "run_state",
    "checkpoint",
    "measure",
    "predict",
    "lab",
    "progress",
}
CHECKS = {"checks"}
OTHERS = {"plots", "diagram", "records", "cli", "guesses"}
RUNS = {"runs"}
NOT_AT_IMPORT = ("torchvision", "PIL", "matplotlib", "sklearn", "safetensors", "torchsummary")


def module_name(path: Path) -> tuple[str, ...]:
    """("data", "core") for resnet_lib/data/core.py, ("data",) for its __init__, () for the top."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


MODULES = {module_name(path): path for path in FILES}


def name_of(path: Path) -> str:
    """The module's entry in MAY_IMPORT: its first part, "__init__" for the package itself."""
    return (module_name(path) or ("__init__",))[0]


def imported(path: Path, source: str) -> set[tuple[str, ...]]:
    """Modules of ours that a source file imports, each as a tuple as in `module_name`."""
    folder = path.relative_to(PACKAGE).parts[:-1]
    found = set()

    def ours(module: tuple[str, ...], names: list[str]) -> None:
        for name in names or [""]:
            whole = (*module, name)
            found.add(whole if whole in MODULES else module)

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            module = tuple((node.module or "").split(".")) if node.module else ()
            if node.level:
                up = node.level - 1
                assert up <= len(folder), f"{path}: an import from outside of the package"
                ours((*folder[: len(folder) - up], *module), names)
            elif module[:1] == (PACKAGE.name,):
                ours(module[1:], names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = tuple(alias.name.split("."))
                if parts[0] == PACKAGE.name:
                    ours(parts[1:], [])
    return found


GRAPH = {name: imported(path, path.read_text()) for name, path in MODULES.items()}


@pytest.mark.parametrize(
    ("path", "source", "wanted"),
    [
        ("train.py", "from . import checkpoint as c, blocks", {("checkpoint",), ("blocks",)}),
        ("train.py", "def f():\n    from .blocks import conv3x3", {("blocks",)}),
        ("train.py", "import resnet_lib.models as m\nimport torch", {("models",)}),
        ("train.py", "from resnet_lib import create, shapes", {(), ("shapes",)}),
        ("data/core.py", "from .. import blocks\nfrom ..models import ResNet", None),
        ("train.py", "from torch import nn\nfrom resnet_library import x", set()),
    ],
)
def test_the_reader_of_imports(path, source, wanted):
    """The tests below are worth nothing if this overlooks a way to import."""
    wanted = {("blocks",), ("models",)} if wanted is None else wanted
    assert imported(PACKAGE / path, source) == wanted


def test_every_module_is_known():
    unknown = {name_of(path) for path in FILES} - MAY_IMPORT.keys()
    assert not unknown, f"say in MAY_IMPORT what {sorted(unknown)} may import, and in which budget"


@pytest.mark.parametrize("name", MODULES, ids=lambda name: ".".join(name) or "__init__")
def test_who_imports_whom(name):
    top = (name or ("__init__",))[0]
    for other in GRAPH[name]:
        other_top = (other or ("__init__",))[0]
        if other_top != top:
            allowed = MAY_IMPORT.get(top, set())
            assert other_top in allowed, f"{top} may import {sorted(allowed)}, not {other_top}"


def test_no_cycles():
    """Walk the graph; a module met again on the way down closes a cycle."""
    done = set()

    def visit(name, way):
        if name in way:
            circle = [*way[way.index(name) :], name]
            raise AssertionError(" -> ".join(".".join(m) or "__init__" for m in circle))
        if name not in done:
            for other in sorted(GRAPH[name] - {name}):
                visit(other, [*way, name])
            done.add(name)

    for name in GRAPH:
        visit(name, [])


def test_importing_the_package_needs_torch_alone():
    code = (
        "import sys, resnet_lib\n"
        f"loaded = [m for m in {NOT_AT_IMPORT} if m in sys.modules]\n"
        "assert not loaded, loaded\n"
        "assert resnet_lib.resnet20 and resnet_lib.__version__\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_length_of_a_module(path):
    assert len(path.read_text().splitlines()) <= 350


def code_lines(source: str) -> int:
    """Lines with code on them: neither blank, nor only a comment, nor a docstring."""
    quiet = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in quiet:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
            and isinstance(node.body[0].value, ast.Constant)
            and isinstance(node.body[0].value.value, str)
        ):
            lines.difference_update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def test_the_counter_of_code_lines():
    top = '"""Title.\n\nMore."""\n\nx = 1  # one\n# no\n'
    function = 'def f():\n    """Doc."""\n    return """a\n\nb"""\n'
    assert code_lines(top) == 1
    assert code_lines(top + function) == 1 + 1 + 3


@pytest.mark.parametrize(
    ("names", "limit"),
    [(CORE, 2600), (CHECKS, 1680), (OTHERS, 1010), (RUNS, 1050)],
    ids=["core", "checks", "plots records cli", "runs"],
)
def test_size_of_the_package(names, limit):
    sizes = {}
    for path in FILES:
        if name_of(path) in names:
            key = path.relative_to(PACKAGE).as_posix()
            sizes[key] = code_lines(path.read_text())
    assert sum(sizes.values()) <= limit, f"{sum(sizes.values())} code lines: {sizes}"


def test_the_budgets_cover_every_module():
    assert MAY_IMPORT.keys() - {"__init__", "__main__"} == CORE | CHECKS | OTHERS | RUNS
