from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "experiments"))
import figure_6


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(figure_6, "SYNTHETIC", ("helix-r3",))
    monkeypatch.setattr(figure_6, "GRID", (0, 1))
    monkeypatch.setattr(figure_6, "SEEDS", 1)
    load = figure_6.zm.load_dataset
    monkeypatch.setattr(
        figure_6.zm, "load_dataset", lambda name, **kwargs: load(name, n_samples=300, **kwargs)
    )


def test_it_draws_and_tabulates(small, tmp_path):
    figure_6.main(images="digits", out=tmp_path)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"figure_6.png", "figure_6.svg", "figure_6.json", "figure_6.md"}
    sidecar = json.loads((tmp_path / "figure_6.json").read_text())
    assert sidecar["command"] == "python experiments/figure_6.py --images digits"
    columns, *rows = sidecar["cells"]
    frame = pd.DataFrame(rows, columns=columns)
    row = sidecar["table"][0]
    zeta = frame.query("dataset == 'helix-r3' and n_neighbors == 8 and mixer == 'zeta'")
    assert row["15"] == pytest.approx(zeta[zeta["gamma"] == 15]["id_mean"].mean(), abs=1e-3)
    assert len(sidecar["table"]) == 2 * 2 * 2
    assert (tmp_path / "figure_6.md").read_text().count("\n") == 10


def test_below_from_needs_every_seed_and_everything_above():
    curve = pd.DataFrame({0: [1.0, 3.0, 1.0, 1.0], 1: [1.0, 1.0, 1.995, 1.0]}, index=[0, 1, 2, 3.5])
    reference = pd.Series({0: 2.0, 1: 2.0})
    assert figure_6.below_from(curve, reference) == 3.5
    assert figure_6.below_from(curve, reference + 0.1) == 2
    assert figure_6.below_from(curve, reference - 5) is None
    assert figure_6.below_from(curve, reference + 5) == 0
