"""A simulated Colab: torch and friends are there, this repository is not, the cells run as is.

The environment is a fresh venv whose site-packages link to this one's, without `resnet_lib`,
`torchsummary` and the tools that only build the book. The notebook lies alone in a folder.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "book").glob("[0-9]*.ipynb"))
HANDED_OUT = sorted((ROOT / "book" / "assignments").glob("a[0-9]*.ipynb"))
NOT_IN_COLAB = ("resnet_lib", "__editable__", "torchsummary", "jupyter_book", "sphinx", "myst")

RUN = """
import json, sys
import nbformat
from nbclient import NotebookClient

book = nbformat.read(sys.argv[1], 4)
client = NotebookClient(book, timeout=600, resources={"metadata": {"path": "."}})
client.execute()
nbformat.write(book, "done.ipynb")
"""

pytestmark = pytest.mark.long


def colab(folder: Path) -> Path:
    """Make the environment in `folder`; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    command = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    there = Path(subprocess.check_output(command, text=True).strip())
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        ours = entry.name.lower().startswith(NOT_IN_COLAB)
        if not ours and not (there / entry.name).exists():
            (there / entry.name).symlink_to(entry)
    return python


def freeze(python: Path, env: dict) -> set[str]:
    command = [python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"]
    return set(subprocess.check_output(command, text=True, env=env).split())


def copy_of_the_source(folder: Path) -> Path:
    """What a clone holds of the package; built there, so that nothing is written here."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        folder.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "resnet_lib", folder / "resnet_lib", ignore=ignore)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colab")
    python = colab(folder / "environment")
    source = copy_of_the_source(folder / "source")
    archive = shutil.make_archive(str(folder / "source"), "zip", folder, "source")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "RESNET_LIB"))}
    env |= {"HOME": str(folder), "RESNET_LIB_SOURCE": str(source), "RESNET_LIB_SIZE": "quick"}
    env["PATH"] = f"{python.parent}{os.pathsep}{env['PATH']}"
    return folder, python, env, Path(archive)


def test_the_environment_has_torch_but_not_us(place):
    _, python, env, _ = place
    code = "import torch, torchvision, importlib.util as u; print(u.find_spec('resnet_lib'))"
    run = subprocess.run([python, "-c", code], capture_output=True, text=True, env=env, cwd="/")
    assert run.stdout.strip() == "None", run.stderr


@pytest.mark.parametrize("notebook", [*NOTEBOOKS, *HANDED_OUT], ids=lambda p: p.stem[:2])
def test_a_notebook_runs_to_its_end(place, notebook):
    folder, python, env, _ = place
    content = folder / "content" / notebook.stem
    content.mkdir(parents=True)
    shutil.copy(notebook, content)
    before = freeze(python, env)
    run = subprocess.run(
        [python, "-c", RUN, notebook.name], cwd=content, env=env, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-3000:]
    after = freeze(python, env)
    assert before <= after, f"removed or changed: {before - after}"
    added = {line.split("==")[0].replace("-", "_") for line in after - before}
    assert added <= {"resnet_lib", "torchsummary"}
    done = json.loads((content / "done.ipynb").read_text(encoding="utf-8"))
    cells = [c for c in done["cells"] if c["cell_type"] == "code"]
    assert all(c["execution_count"] for c in cells)
    said = "".join("".join(o.get("text", "")) for o in cells[0]["outputs"])
    assert "Runs on:" in said and "restart" not in said.lower()


def test_a_zip_is_a_source_too(place):
    folder, python, env, archive = place
    target = folder / "from_zip"
    command = [python, "-m", "pip", "install", "-q", "--no-deps", "--target", target, archive]
    subprocess.run(command, check=True, env=env)
    assert (target / "resnet_lib" / "assets" / "chapters.json").exists()
    assert (target / "resnet_lib" / "data" / "__init__.py").exists()


def test_no_way_to_the_source_is_one_clear_message(place, tmp_path):
    _, _, env, _ = place
    python = colab(tmp_path / "environment")  # a fresh one: the other has the package by now
    cell = json.loads(NOTEBOOKS[0].read_text(encoding="utf-8"))["cells"][1]
    env = {**env, "RESNET_LIB_SOURCE": str(tmp_path / "nowhere.zip")}
    run = subprocess.run(
        [python, "-c", "".join(cell["source"])],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0
    assert "RESNET_LIB_SOURCE" in run.stderr and "Traceback" not in run.stderr
