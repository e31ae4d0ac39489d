from __future__ import annotations

import numpy as np
import pytest
from zmanifold.neighbors import _measuring as measuring
from zmanifold.neighbors._sorting import sort_first

import oracles


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("padding", [0, 5])
def test_measuring_against_the_loop(dtype, padding, rng):
    X = (100 + rng.normal(size=(60, 11))).astype(dtype)
    X[10:20] = X[30:40]
    candidates = np.stack([rng.permutation(np.delete(np.arange(60), i)) for i in range(60)])
    candidates = np.insert(candidates, rng.integers(0, 59, padding), -1, axis=1)
    expected_d, expected_i = oracles.neighbors(X, 25)
    order = rng.permutation(60)
    distances, indices = np.empty((60, 25)), np.empty((60, 25), np.int64)
    measuring._measure(X, X, candidates, order, distances, indices, True)
    np.testing.assert_array_equal(indices, expected_i)
    np.testing.assert_allclose(distances, expected_d, rtol=1e-13)
    farthest, again = np.empty((60, 1)), np.empty((60, 25), np.int64)
    measuring._measure(X, X, candidates, order, farthest, again, False)
    np.testing.assert_array_equal(farthest[:, 0], distances[:, -1])
    np.testing.assert_array_equal(again[:, -1], indices[:, -1])
    np.testing.assert_array_equal(np.sort(again), np.sort(indices))


@pytest.mark.parametrize("levels", [1, 2, 40, 10**9])
@pytest.mark.parametrize("count", [1, 2, 16, 17, 40, 500])
def test_sorting(count, levels):
    rng = np.random.default_rng(count)
    found = rng.integers(0, levels, count) / 7.0
    near = rng.permutation(count)
    order = np.lexsort((near, found))
    for k in {1, count // 2 + 1, count}:
        out, rows, ends = np.empty(count), np.empty(count, np.int64), np.empty(count + 1, np.int64)
        sort_first(found, near, count, k, True, out, rows, ends)
        np.testing.assert_array_equal(out[:k], found[order][:k])
        np.testing.assert_array_equal(rows[:k], near[order][:k])
        # The k smallest are there, the largest of them in the k-th place.
        sort_first(found, near, count, k, False, out, rows, ends)
        assert (out[k - 1], rows[k - 1]) == (found[order][k - 1], near[order][k - 1])
        assert set(rows[:k]) == set(near[order][:k])
        np.testing.assert_array_equal(np.sort(out[:k]), found[order][:k])


@pytest.mark.parametrize("gap", [5e-324, 1e-300, 1e300])
def test_sorting_distances_of_any_size(gap):
    """Buckets are as wide as the range over their number, where that is a number."""
    found = np.r_[np.zeros(20), np.full(20, gap)]
    near = np.arange(40)[::-1].copy()
    out, rows, ends = np.empty(40), np.empty(40, np.int64), np.empty(41, np.int64)
    sort_first(found, near, 40, 40, True, out, rows, ends)
    np.testing.assert_array_equal(out, found)
    np.testing.assert_array_equal(rows, np.r_[20:40, 0:20])
