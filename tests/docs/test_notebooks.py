from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow_file

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One study for all of them: what a notebook has trained and labelled, the next finds made."""
    return tmp_path_factory.mktemp("notebooks") / "study"


@pytest.mark.notebook
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_from_top_to_bottom(file, folder, monkeypatch):
    monkeypatch.setenv("WORKBENCH_NOTEBOOK_STUDY", str(folder))
    notebook = nbformat.read(file, as_version=4)
    NotebookClient(
        notebook, timeout=900, resources={"metadata": {"path": str(file.parent)}}
    ).execute()
    assert all(cell.get("execution_count") for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_committed_without_output(file):
    for cell in nbformat.read(file, as_version=4).cells:
        assert not cell.get("outputs"), (
            f"{file.name} holds output: clear it, the tests make it anew"
        )
