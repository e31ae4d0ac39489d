from __future__ import annotations

import json

import numpy as np
import pytest
import zmanifold as zm

import figure_7


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figure_7")
    figure_7.main(out=folder)
    return folder


def test_it_draws_and_counts_all_test_samples(drawn):
    names = {path.name for path in drawn.iterdir()}
    assert names == {"figure_7.png", "figure_7.svg", "figure_7.json"}
    sidecar = json.loads((drawn / "figure_7.json").read_text())
    assert len(sidecar["vicinity"]) == 2 * (2 + 2 * len(figure_7.GAMMAS)) * 2
    for row in sidecar["vicinity"]:
        counts = np.array(row["samples_by_same"])
        assert counts.sum() == 512
        assert row["mean_same"] == pytest.approx(counts @ np.arange(row["k"] + 1) / 512, abs=1e-3)
        majority = counts[np.arange(row["k"] + 1) > row["k"] / 2].sum() / 512
        assert row["share_with_majority"] == pytest.approx(majority, abs=1e-4)
    X, _ = zm.make_spirals(random_state=0)
    local = {row["mixer"]: row["mean_dimension"] for row in sidecar["local_id"]}
    assert local["original"] == round(zm.LocalPCA(n_neighbors=8).fit(X).dimension_, 4)


def test_the_sample_follows_from_the_rule():
    """The gain of the drawn sample is the median of those of the boundary samples."""
    X, y = zm.make_spirals(random_state=0)
    T, u = zm.make_spirals(random_state=1000)
    sample = figure_7.typical_sample(X, y, T, u)
    distance = np.linalg.norm(T[:, None] - X[None], axis=2)
    own = np.where(u[:, None] == y, distance, np.inf).min(axis=1)
    other = np.where(u[:, None] != y, distance, np.inf).min(axis=1)
    zone = np.argsort(np.abs(own - other))[:51]
    assert sample in zone
    gains = []
    for mixer in (zm.ZetaMixup(4.0), zm.Mixup()):
        mixed, soft = zm.mixed_set(X, y, mixer)
        near = np.argsort(np.linalg.norm(T[:, None] - mixed[None], axis=2), axis=1)[:, :16]
        gains.append((soft.argmax(axis=1)[near] == u[:, None]).sum(axis=1))
    gain = gains[0] - gains[1]
    assert gain[sample] == np.median(gain[zone])


def test_places_are_spread_out():
    X = np.array([[0.0, 0], [1, 0], [9, 0], [0, 5], [8, 1]])
    assert figure_7.spread_out(X, 3).tolist() == [0, 2, 3]
