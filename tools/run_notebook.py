"""Run a notebook from its first cell to its last and keep the outputs in it: `python tools/run_notebook.py examples/chapter13.ipynb`.

What differs from one run to the next without meaning anything (times of execution, the machine's Python) is left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

SECONDS_A_CELL = 300


def run(path: Path, folder: Path | None = None) -> NotebookNode:
    """Execute a notebook's cells.

    Args:
        path: the .ipynb file; it is not changed.
        folder: the working directory; the file's own unless given.

    Returns:
        The notebook with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=SECONDS_A_CELL, kernel_name="python3", resources={"metadata": {"path": str(folder or path.parent)}}
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata = {}
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    return notebook


def main() -> None:
    """Execute each notebook that is named and write it back."""
    for name in sys.argv[1:]:
        nbformat.write(run(Path(name)), Path(name))
        print(f"{name}: {Path(name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
