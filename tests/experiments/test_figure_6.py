from __future__ import annotations

import json

import pandas as pd
import pytest

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
    table, note, verdicts = (tmp_path / "figure_6.md").read_text().split("\n\n")
    assert table.count("\n") == 9
    # Digits saturate at k = 8 and not at k = 128, the helix nowhere.
    marked = ["†" in line for line in table.splitlines()[2:]]
    assert marked == [False] * 4 + [True] * 2 + [False] * 2
    digits = next(row for row in sidecar["table"] if (row["dataset"], row["k"]) == ("digits", 8))
    assert f"| {digits['original']:.2f}† | {digits['mixup']:.2f}† |" in table
    assert digits["flags"]["original"] == ["saturated"]
    assert frame.query("dataset == 'digits' and n_neighbors == 8")["flags"].iloc[0] == "saturated"
    assert note.startswith("† saturated: more than a tenth of the points lie within 1 of k - 1")
    assert verdicts.count("\n") == 6


def test_a_flag_of_any_seed_marks_the_mean():
    rows = pd.DataFrame({"flags": ["", "few-batches;degenerate", "saturated;bimodal", "bimodal"]})
    assert figure_6.flags_of(rows[:2]) == []
    assert figure_6.flags_of(rows[3:]) == ["bimodal"]
    assert figure_6.flags_of(rows) == ["saturated", "bimodal"]
    assert figure_6.notes([{"flags": {"mixup": [], "15": []}}]) == ""
    assert figure_6.notes([{"flags": {"mixup": [], "15": ["bimodal"]}}]).startswith("\n‡ bimodal:")


def test_verdicts_are_counted_from_the_table():
    gammas = {f"{g:.4g}": 5.0 for g in figure_6.TABLE_GAMMAS}
    row = {"dataset": "digits", "k": 8, "mixer": "zeta", "original": 4.0, "mixup": 4.005}
    row |= gammas | {"15": 2.5, "below_mixup_from": 0.0, "below_original_from": None}
    later = row | {"mixup": 4.5, "below_mixup_from": 2.4, "below_original_from": 6.0}
    anchored = row | {"mixer": "zeta-anchored", "below_mixup_from": None, "15": 5.0}
    inflated, below, controlled, under = figure_6.verdicts([row, later, anchored]).split("\n")[2:6]
    assert "higher than the original in 1 of 2 cases" in inflated
    assert "for all γ >= γ_min in Eq. 6: 1 of 2 cases; anchored: 0 of 1 cases" in below
    assert "at γ = 15 in Eq. 6: 2 of 2 cases; anchored: 0 of 1 cases" in below
    assert "at γ_min in Eq. 6: 2 of 2 cases; anchored: 0 of 1 cases" in controlled
    assert "k = 8: from 5.0 to 2.5 (50% less, Eq. 6)" in controlled
    assert "from some γ on in Eq. 6: 1 of 2 cases; anchored: 0 of 1 cases" in under


def test_below_from_needs_every_seed_and_everything_above():
    curve = pd.DataFrame({0: [1.0, 3.0, 1.0, 1.0], 1: [1.0, 1.0, 1.995, 1.0]}, index=[0, 1, 2, 3.5])
    reference = pd.Series({0: 2.0, 1: 2.0})
    assert figure_6.below_from(curve, reference) == 3.5
    assert figure_6.below_from(curve, reference + 0.1) == 2
    assert figure_6.below_from(curve, reference - 5) is None
    assert figure_6.below_from(curve, reference + 5) == 0
