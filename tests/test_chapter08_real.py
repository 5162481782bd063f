"""Chapter 08 runs unchanged on a real folder of photographs, where one is at hand (slow)."""

import tarfile
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "book" / "08_your_own_images.ipynb"
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "ants-bees-256px.tar.xz"


@pytest.mark.long
def test_the_page_runs_on_photographs(tmp_path, monkeypatch):
    if not PHOTOGRAPHS.is_file():
        pytest.skip(f"needs the photographs in {PHOTOGRAPHS.name}, not published with this")
    nbclient = pytest.importorskip("nbclient")
    with tarfile.open(PHOTOGRAPHS) as tar:
        tar.extractall(tmp_path, filter="data")
    monkeypatch.setenv("RESNET_LIB_DATA", str(tmp_path / "ants_bees"))
    monkeypatch.setenv("RESNET_LIB_SIZE", "quick")
    notebook = nbformat.read(PAGE, as_version=4)
    where = {"metadata": {"path": str(PAGE.parent)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=where).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    printed = "".join(out["text"] for out in outputs if out.get("name") == "stdout")
    assert "folder of your own: ants_bees" in printed
    assert "1 = bees" in printed and "of 153" in printed
    assert not [out["text"] for out in outputs if out.get("name") == "stderr"]
