"""The example notebooks, run from top to bottom as somebody who opens them would; each ends by checking what it claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "deploy" / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))


def cells(name: str) -> list[dict[str, Any]]:
    return list(json.loads((FOLDER / name).read_text(encoding="utf-8"))["cells"])


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_what_it_showed(name: str) -> None:
    code = [cell for cell in cells(name) if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert "assert " in "".join(code[-1]["source"])
    assert cells(name)[0]["source"][0].startswith("# ")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_shows_its_pictures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("ipykernel", "matplotlib", "xarray"):
        pytest.importorskip(package, reason=f"the notebooks need {package}")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient: pip install nbclient ipykernel")
    import nbformat

    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parents[1]))  # this deblur, in the kernel's process too
    book = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(book)
    nbclient.NotebookClient(book, timeout=180, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.get("data", {}) for cell in book.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in data for data in shown) >= 1  # a plot
    assert any(
        "data:image/png;base64," in data.get("text/html", "") for data in shown
    )  # a result shows itself
    assert list(tmp_path.iterdir()) == []
