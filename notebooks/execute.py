"""Executes the notebooks and stores their outputs: ``python notebooks/execute.py``, from the project directory.

The kernel's stderr (progress and warnings of this machine) is printed here but not stored.
"""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

_HERE = Path(__file__).resolve().parent


def execute(path: Path) -> None:
    """Runs one notebook from top to bottom and overwrites it."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(_HERE.parent)}}
    NotebookClient(notebook, timeout=3600, kernel_name="python3", resources=resources).execute()
    for cell in notebook.cells:
        # When each cell ran.
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            for output in cell.outputs:
                if output.output_type == "stream" and output.name == "stderr":
                    print(f"{path.name}, {cell.id}: {output.text}")
            cell.outputs = [each for each in cell.outputs if _is_for_readers(each)]
    # Kept as it is in the repository: the kernel adds the versions of this machine.
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)


def _is_for_readers(output: nbformat.NotebookNode) -> bool:
    """Whether an output is a result: not a log line, a warning, or the remains of a progress bar."""
    if output.output_type == "stream":
        return output.name != "stderr" and not output.text.startswith(("WARNING:", "INFO:"))
    return bool(output.output_type != "display_data" or "image/png" in output.data)


def main() -> None:
    """Executes every notebook here."""
    for path in sorted(_HERE.glob("*.ipynb")):
        execute(path)
        print(f"{path.name}: executed.")


if __name__ == "__main__":
    main()
