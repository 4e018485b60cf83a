"""The notebooks run from top to bottom."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

_NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.mark.usefixtures("cache")
def test_quickstart_notebook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BABELREC_NOTEBOOK_EPOCHS", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(_NOTEBOOKS / "01_quickstart.ipynb", as_version=4)
    NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(_NOTEBOOKS.parent)}}
    ).execute()
    shown = [
        output["data"]["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    answers: dict[str, list[str]] = eval(shown[-1])  # a literal that the last cell printed
    assert len(answers) == 5
    assert all(len(set(titles)) == 5 and all(titles) for titles in answers.values())
