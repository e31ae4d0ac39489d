from __future__ import annotations

import numpy as np
import pytest
from zmanifold.dimension import _inertia as inertia
from zmanifold.dimension import _inertia_small as small


def matrices(order, rng):
    """A batch of matrices of trace 1: few ranks, multiple and tiny eigenvalues, zeros."""
    made = []
    for member in range(small.BATCH):
        rows = rng.normal(size=(order, rng.integers(1, 2 * order + 1)))
        rows *= 10.0 ** rng.uniform(-rng.choice([0, 3, 90]), 0, (order, 1))
        special = {1: np.eye(order), 2: np.zeros((order, order)), 3: np.ones((order, order))}
        special[4] = np.diag(np.r_[np.ones(order // 2 + 1), np.full(order - order // 2 - 1, 0.2)])
        matrix = special.get(member, rows @ rows.T)
        made.append(matrix / (np.trace(matrix) or 1.0))
    return np.array(made)


def counted(made, alpha):
    order = made.shape[1]
    least, proven = np.empty(small.BATCH), np.empty(small.BATCH, bool)
    given = np.ascontiguousarray(made.transpose(1, 2, 0))
    scratch = np.full((3 * order + 11, small.BATCH), np.nan)
    small.count_batch(given, alpha, 1e-12, scratch, least, proven)
    return least, proven


@pytest.mark.parametrize("order", [1, 2, 3, 5, 8, 12, 24])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.5, 0.95])
def test_counts_against_eigenvalues(order, alpha, rng):
    made = matrices(order, rng)
    spectra = np.linalg.eigvalsh(made)
    thresholds = alpha * spectra[:, -1:]
    expected = (spectra > thresholds).sum(axis=1)
    clear = (np.abs(spectra - thresholds) > 1e-6 * spectra[:, -1:]).all(axis=1)
    least, proven = counted(made, alpha)
    np.testing.assert_array_equal(least[proven & clear], expected[proven & clear])
    # Zeros have no largest eigenvalue, and those at the threshold itself stay open.
    assert clear.mean() > 0.9
    assert proven[clear].mean() > 0.95


def test_an_eigenvalue_at_the_threshold_is_left_open():
    made = np.tile(np.diag([2 / 3, 1 / 3]), (small.BATCH, 1, 1))
    for alpha in (0.5 - 2e-8, 0.5, 0.5 + 2e-8):
        assert not counted(made, alpha)[1].any()
    for alpha, expected in ((0.4999, 2), (0.5001, 1)):
        least, proven = counted(made, alpha)
        assert proven.all()
        assert (least == expected).all()


@pytest.mark.parametrize("q", [1, 31, 32, 33, 100])
def test_batches_give_what_single_matrices_give(q, rng, monkeypatch):
    """Whole batches and a rest, in any order, without spread and among others."""
    X = rng.normal(size=(200, 6)) * [1, 1, 0.5, 0.3, 0.2, 0.1]
    X[:9] = X[0]
    indices = rng.integers(0, 200, (q, 9))
    indices[0] = np.arange(9)
    order = rng.permutation(q)
    assert inertia._MOST_BATCHED >= 6
    in_batches = np.full(q, -1), np.zeros(q, bool)
    inertia.count_significant(X, indices, order, 0.05, *in_batches)
    # One at a time, each in a group of its own.
    alone = np.full(q, -1), np.zeros(q, bool)
    for i in range(q):
        inertia.count_significant(X, indices, np.array([i]), 0.05, *alone)
    for found, expected in zip(in_batches, alone, strict=True):
        np.testing.assert_array_equal(found, expected)
    spectra = [np.linalg.eigvalsh(np.cov(X[rows].T)) for rows in indices]
    expected = [(s > 0.05 * s[-1]).sum() for s in spectra]
    np.testing.assert_array_equal(in_batches[0][1:], expected[1:])
    assert in_batches[0][0] == 0
    assert in_batches[1].all()
