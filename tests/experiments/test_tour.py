"""The notebook runs from top to bottom, and is committed without outputs."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
import zmanifold as zm
from nbclient import NotebookClient

TOUR = Path(__file__).parents[2] / "experiments" / "notebooks" / "tour.ipynb"


@pytest.fixture
def tour():
    return nbformat.read(TOUR, as_version=4)


def test_it_is_committed_without_outputs(tour):
    cells = [cell for cell in tour.cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


def test_it_uses_the_public_api_only(tour):
    source = "\n".join(cell.source for cell in tour.cells if cell.cell_type == "code")
    names = set(re.findall(r"\bzm\.(\w+)", source))
    assert {"mixed_set", "vicinity", "sweep_id"} <= names <= set(zm.__all__)
    imports = re.findall(r"from (zmanifold\S*) import (.*)", source)
    assert [module for module, _ in imports] == ["zmanifold.plotting"]
    assert not re.search(r"\b_\w+\(", source)


def test_it_runs(tour, tmp_path, monkeypatch):
    # The kernel draws into the notebook unless another back-end is set.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    client = NotebookClient(tour, timeout=None, resources={"metadata": {"path": tmp_path}})
    client.execute()
    outputs = [o for cell in tour.cells if cell.cell_type == "code" for o in cell.outputs]
    assert sum("image/png" in o.get("data", {}) for o in outputs) == 5
    tables = [o["data"]["text/plain"] for o in outputs if o.output_type == "execute_result"]
    assert len(tables) == 2
    assert "label_error" in tables[0]
    # Warnings go to stderr.
    streams = [o for o in outputs if o.output_type == "stream"]
    assert [stream.name for stream in streams] == ["stdout"]
    assert "γ_min = 1.72865" in streams[0].text
