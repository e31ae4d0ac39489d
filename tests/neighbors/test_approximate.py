from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch
import zmanifold as zm
from zmanifold._base.errors import InputError
from zmanifold.neighbors import approximate
from zmanifold.neighbors.approximate import search_approximately
from zmanifold.sweep import COLUMNS, cells
from zmanifold.sweep import plan as sweep

import oracles

pytest.importorskip("pynndescent")
# pynndescent compiles on its first call.
pytestmark = pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaWarning")


def test_its_examples():
    tried = doctest.testmod(approximate)
    assert (tried.failed, tried.attempted) == (0, 7)


def share_within(found, X, rows, j):
    """The recall at j by the definition, from all pairs."""
    shares = []
    for row, near in zip(rows, found, strict=True):
        away = np.sqrt(((X - X[row]) ** 2).sum(axis=1))
        limit = np.sort(np.delete(away, row))[j - 1]
        shares.append((away[near[:j]] <= limit * (1 + 1e-12)).mean())
    return np.mean(shares)


@pytest.mark.parametrize("d", [3, 20])
def test_the_recall_is_what_was_found(rng, d):
    X = rng.normal(size=(3000, d))
    rows = np.sort(rng.choice(3000, 200, replace=False))
    found, recall = search_approximately(
        torch.from_numpy(X), 12, torch.from_numpy(rows), seed=1, memory=2**24
    )
    found = found.numpy()
    assert all(len(set(near)) == 12 for near in found)
    assert not (found == rows[:, None]).any()
    for j in (1, 5, 12):
        assert recall[j - 1] == pytest.approx(share_within(found, X, rows, j))
    assert recall.min() > 0.9
    away = np.linalg.norm(X[found] - X[rows][:, None], axis=2)
    assert (np.diff(away, axis=1) >= 0).all()


def test_a_poor_search_is_seen(rng, monkeypatch):
    """The recall comes from the rows that were found: strangers lower it."""
    import pynndescent

    class Poor(pynndescent.NNDescent):
        @property
        def neighbor_graph(self):
            rows, away = super().neighbor_graph
            rows = rows.copy()
            rows[:, 1::2] = np.roll(rows, len(rows) // 2, axis=0)[:, 1::2]
            return rows, away

    X = torch.from_numpy(rng.normal(size=(2000, 5)))
    monkeypatch.setattr(pynndescent, "NNDescent", Poor)
    _, recall = search_approximately(X, 10, torch.arange(2000), seed=0, memory=2**24)
    assert recall[9] < 0.9


def test_copies_and_rows_that_were_not_found(monkeypatch):
    import pynndescent

    class Short(pynndescent.NNDescent):
        @property
        def neighbor_graph(self):
            rows, away = super().neighbor_graph
            rows = rows.copy()
            rows[::3, 4:] = -1
            return rows, away

    X = np.repeat(np.arange(100.0)[:, None] * [1.0, 2.0], 3, axis=0)
    monkeypatch.setattr(pynndescent, "NNDescent", Short)
    rows = torch.arange(300)
    found, _ = search_approximately(torch.from_numpy(X), 6, rows, seed=0, memory=2**24)
    _, exact = oracles.neighbors(X, 6)
    np.testing.assert_array_equal(found[::3].numpy(), exact[::3])


def test_a_sweep_says_its_recall(tmp_path):
    X = zm.make_helix(1500, random_state=0)[0]
    settings = {"mixers": [None, zm.ZetaMixup(2.8)], "n_neighbors": (8, 30), "seeds": 2}
    with pytest.warns(UserWarning, match=r"approximate neighbours: recall [01]\.\d+ on average"):
        result = zm.sweep_id(
            X, neighbors_method="approximate", progress=False, journal=tmp_path / "a", **settings
        )
    frame = result.to_frame()
    assert tuple(frame.columns) == (*COLUMNS, "recall")
    assert frame["recall"].between(0.9, 1).all()
    assert result.settings["neighbors_method"] == "approximate"
    exact = zm.sweep_id(X, progress=False, **settings).to_frame()
    assert tuple(exact.columns) == COLUMNS
    assert (frame["id_mean"] - exact["id_mean"]).abs().max() < 0.1
    with pytest.warns(UserWarning, match="recall"):
        again = zm.sweep_id(X, neighbors_method="approximate", progress=False, **settings)
    assert again.to_frame().drop(columns="seconds").equals(frame.drop(columns="seconds"))
    with pytest.raises(InputError, match="neighbors_method='approximate', now None"):
        zm.sweep_id(X, progress=False, journal=tmp_path / "a", **settings)


@pytest.mark.parametrize("recall", [0.94, 0.96])
def test_a_low_recall_is_flagged(monkeypatch, recall):
    search = cells.search_approximately

    def worse(*args, **kwargs):
        return search(*args, **kwargs)[0], np.full(8, recall)

    monkeypatch.setattr(cells, "search_approximately", worse)
    with pytest.warns(UserWarning, match=f"recall {recall}"):
        result = zm.sweep_id(
            zm.make_helix(400, random_state=0)[0], mixers=None, n_neighbors=8, seeds=1,
            neighbors_method="approximate", progress=False,
        )  # fmt: skip
    (row,) = result.rows
    assert row["flags"] == ("low-recall" if recall < 0.95 else "")


def test_the_command_prints_it(run, tmp_path):
    arguments = ["digits", "--n-samples", "400", "--gamma", "2", "--seeds", "1", "--neighbors", "8"]
    out = tmp_path / "a.csv"
    code, _, err = run("sweep-id", *arguments, "--neighbors-method", "approximate", "--out", out)
    assert code == 0
    assert err.startswith("approximate neighbours: recall")
    assert "recall" in out.read_text().splitlines()[0]


@pytest.mark.parametrize("method", ["aproximate", "", None, 3])
def test_unknown_methods_are_refused(method):
    with pytest.raises(InputError, match="unknown neighbors_method"):
        zm.sweep_id(np.eye(40), mixers=[None], neighbors_method=method)


def test_without_pynndescent(monkeypatch):
    monkeypatch.setattr(approximate, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'zmanifold\[approximate\]'"):
        zm.sweep_id(np.eye(40), mixers=[None], neighbors_method="approximate")


def test_what_is_not_held_is_searched_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "holds", lambda *_: False)
    np.save(tmp_path / "x.npy", np.eye(40))
    X = np.load(tmp_path / "x.npy", mmap_mode="r")
    with pytest.raises(InputError, match="raise the limit, or search exactly"):
        sweep.prepare_sweep(X, mixers=[None], n_neighbors=3, neighbors_method="approximate")
