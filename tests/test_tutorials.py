"""The tutorials run from end to end, and what is stored of them is fit to be read."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))

each_tutorial = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def code_of(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_is_one_for_each_family():
    assert [path.stem for path in TUTORIALS] == ["learn_a_metric", "learn_an_initialisation", "learn_the_optimizer"]


@each_tutorial
def test_it_was_run_in_order_and_nothing_went_wrong(path):
    cells = code_of(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert not [output for output in outputs if str(Path.home()) in str(output) or ".venv" in str(output)]


@each_tutorial
def test_its_pictures_are_there_and_small(path):
    pictures = [
        output.data["image/png"]
        for cell in code_of(path)
        for output in cell.outputs
        if "data" in output and "image/png" in output.data
    ]
    assert len(pictures) >= 2
    assert path.stat().st_size < 500_000


@pytest.mark.slow
@each_tutorial
def test_it_runs(path, glyph_directory, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(glyph_directory))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
