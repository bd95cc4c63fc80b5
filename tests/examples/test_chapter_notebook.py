"""The chapter as a notebook: it runs from its first cell to its last, shows what it says, and is committed with its outputs."""

import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent.parent
NOTEBOOK = ROOT / "examples" / "chapter13.ipynb"
LARGEST = 1_500_000  # bytes of a file that people clone and look at in the browser

sys.path.append(str(ROOT / "tools"))


def said(notebook):
    """All text that the cells printed."""
    return "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))


def pictures(notebook):
    return sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_says(tmp_path, monkeypatch):
    from run_notebook import run

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = run(NOTEBOOK, tmp_path)
    text = said(notebook)
    for counted in ("[28224, 56448, 56448, 73728, 2304]  together 217,152", "[7056, 14112, 18432, 18432, 576]  together 58,608"):
        assert counted in text
    for size in (3, 7, 15, 31, 63):
        assert f": {size} × {size} pixels;" in text
    right = [float(line.split("%")[0].split()[-1]) for line in text.splitlines() if "% right" in line]
    *_, warmed_up, normed, faster = right
    assert min(warmed_up, normed, faster) > 80
    assert normed > warmed_up - 1
    assert "144 products and a bias make" in text
    assert float(text.split("a difference of ")[1].split()[0]) < 1e-4
    assert text.rstrip().endswith("Nothing wrong was found (75 steps).")
    assert pictures(notebook) == 8
    assert list(tmp_path.iterdir()) == []  # it leaves nothing where it runs


def test_the_committed_notebook_has_its_outputs_and_nothing_of_the_machine_it_ran_on():
    raw = NOTEBOOK.read_text(encoding="utf-8")
    assert len(raw) < LARGEST
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert pictures(notebook) == 8
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any("traceback" in output for cell in code for output in cell.outputs)
    assert str(ROOT) not in raw
    assert "/tmp/" not in raw
