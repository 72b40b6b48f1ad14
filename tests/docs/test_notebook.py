"""The notebook runs from its first cell on and prints what is committed."""

from __future__ import annotations

import json
import sys

import pytest
from doc_pages import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def outputs(notebook) -> list[str]:
    """What each code cell printed or showed."""
    found = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            texts = [output.get("text", output.get("data", {}).get("text/plain", "")) for output in cell["outputs"]]
            found.append("".join("".join(text) for text in texts))
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_as_a_run_leaves_it(path):
    """No errors, no paths, no times; every cell has run, in order."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 5 and [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(output["output_type"] == "stream" and output["name"] == "stdout" for cell in code
               for output in cell["outputs"])
    assert all(outputs(notebook)), "a cell that shows nothing"
    assert path.stat().st_size < 30_000


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_prints_what_is_committed(path, tmp_path):
    pytest.importorskip("nbclient", reason="pip install 'bitkiln[docs]'")
    sys.path.insert(0, str(path.parent))
    from run import executed  # docs/notebooks/run.py

    committed = json.loads(path.read_text(encoding="utf-8"))
    assert outputs(executed(path, tmp_path)) == outputs(committed), "run python docs/notebooks/run.py"
