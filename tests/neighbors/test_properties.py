"""Nearest neighbours of any set of points: what holds for every one of them."""

from __future__ import annotations

import numpy as np
import torch
import zmanifold as zm
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles
from pointsets import ANY, SEEDS, TIED, any_floats, point_sets

# float64 sums of 30 squares, their root, and the loop's own rounding.
ROUNDING = 40 * 2.0**-53


def floor(X):
    """What differences lose whose squares are below float64's range.

    The least square is 2**-1074: a sum of d of them is off by at most so much each. Data of
    moderate magnitude is searched as it is, all other data with its largest value at 2**480.
    """
    exponent = int(np.frexp(np.abs(X).max())[1])
    shift = 0 if abs(exponent) < 300 else exponent - 480
    return X.shape[1] ** 0.5 * 2.0 ** max(shift - 536, -1080) + 5e-324


def check(X, rows, k, distances, indices, *, true=None, atol=None):
    """The k nearest others, ascending; of exact copies those with the least row numbers."""
    true = oracles.distances(X) if true is None else true
    atol = floor(X) if atol is None else atol
    others = np.where(np.eye(len(X), dtype=bool), np.nan, true)[rows]
    np.testing.assert_allclose(distances, np.sort(others)[:, :k], rtol=ROUNDING, atol=atol)
    named = np.take_along_axis(others, indices, axis=1)
    np.testing.assert_allclose(distances, named, rtol=ROUNDING, atol=atol)
    assert (distances[:, 1:] >= distances[:, :-1]).all()
    # Different distances may round to the same denormal number.
    ties = (distances[:, 1:] == distances[:, :-1]) & (distances[:, 1:] > 1e-300)
    assert (indices[:, 1:] > indices[:, :-1])[ties].all()
    same = (X[:, None] == X[None]).all(axis=2)
    for row, near in zip(rows, indices.tolist(), strict=True):
        assert row not in near
        for j in near:
            assert set(np.flatnonzero(same[j][:j])) <= {*near, row}


@st.composite
def searches(draw, sets):
    X = draw(sets)
    k = draw(st.integers(1, len(X) - 1))
    queries = draw(st.none() | st.lists(st.integers(0, len(X) - 1), min_size=1, max_size=9))
    return X, k, queries


@given(searches(point_sets() | any_floats()))
def test_the_nearest(search):
    X, k, queries = search
    before = X.copy()
    distances, indices = zm.kneighbors(X, k, queries=queries)
    rows = list(range(len(X))) if queries is None else queries
    assert distances.shape == indices.shape == (len(rows), k)
    assert (distances.dtype, indices.dtype) == (np.float64, np.int64)
    check(X, rows, k, distances, indices)
    assert X.tobytes() == before.tobytes()


@given(searches(point_sets(TIED)))
def test_exact_ties_come_by_row_number(search):
    X, k, queries = search
    unit = 5e-324 if np.abs(X).max() < 1e-300 else 0.125
    expected_d, expected_i = oracles.neighbors(X / unit, k)
    rows = slice(None) if queries is None else queries
    distances, indices = zm.kneighbors(X, k, queries=queries)
    np.testing.assert_array_equal(indices, expected_i[rows])
    # Multiplying by the unit rounds a denormal once more.
    np.testing.assert_allclose(distances, expected_d[rows] * unit, rtol=ROUNDING, atol=unit * 1e-3)


@settings(max_examples=settings().max_examples // 2)
@given(
    st.sampled_from(["lattice", "line", "copies", "clusters", "far from the origin", "gaussian"]),
    st.integers(150, 600),
    st.sampled_from([1, 2, 3, 12, 13, 30]),
    st.integers(1, 60),
    SEEDS,
)
def test_more_points_than_lists_hold(kind, n, d, k, seed):
    """Trees of many leaves, lists that are cut, candidates that rounding leaves open."""
    X = ANY[kind](np.random.default_rng(seed), n, d)
    queries = np.random.default_rng(seed).choice(n, 40, replace=False)
    apart = np.sqrt(((X[queries, None] - X[None]) ** 2).sum(axis=2))
    apart[np.arange(40), queries] = np.inf
    expected = np.sort(apart, axis=1)[:, :k]
    distances, indices = zm.kneighbors(X, k)
    np.testing.assert_allclose(distances[queries], expected, rtol=ROUNDING, atol=0)
    some = zm.kneighbors(X, k, queries=queries)
    np.testing.assert_array_equal(some[0], distances[queries])
    np.testing.assert_array_equal(some[1], indices[queries])
    if kind in TIED:
        np.testing.assert_array_equal(some[1], np.argsort(apart, axis=1, kind="stable")[:, :k])


@given(searches(point_sets()))
def test_cosine(search):
    X, k, queries = search
    X = X + (np.abs(X).max(axis=1, keepdims=True) == 0)
    true = oracles.distances(X, "cosine")
    distances, indices = zm.kneighbors(X, k, queries=queries, metric="cosine")
    rows = list(range(len(X))) if queries is None else queries
    # Unit vectors are rounded, by either side: half of the squared difference is off by so much.
    error = (X.shape[1] + 8) * 2.0**-53
    slack = np.sqrt(2 * np.sort(true[rows])[:, 1 : k + 1]) * error + error**2
    others = np.where(np.eye(len(X), dtype=bool), np.nan, true)[rows]
    assert (np.abs(distances - np.sort(others)[:, :k]) <= slack).all()
    assert (np.abs(distances - np.take_along_axis(others, indices, axis=1)) <= 2 * slack).all()
    assert (distances[:, 1:] >= distances[:, :-1]).all()
    assert (indices != np.array(rows)[:, None]).all()
    assert distances.min() >= 0
    assert distances.max() <= 2 + 4 * error


@given(searches(point_sets()), st.sampled_from(["euclidean", "cosine"]))
def test_memory_threads_and_smaller_k_change_nothing(search, metric):
    X, k, queries = search
    if metric == "cosine":
        X = X + (np.abs(X).max(axis=1, keepdims=True) == 0)
    expected = zm.kneighbors(X, k, queries=queries, metric=metric)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found = zm.kneighbors(X, k, queries=queries, metric=metric, memory_limit=2**20)
            np.testing.assert_array_equal(found[0], expected[0])
            np.testing.assert_array_equal(found[1], expected[1])
    finally:
        torch.set_num_threads(threads)
    fewer = zm.kneighbors(X, (k + 1) // 2, queries=queries, metric=metric)
    np.testing.assert_array_equal(fewer[1], expected[1][:, : (k + 1) // 2])


@given(searches(point_sets()), st.integers(-140, 140))
def test_powers_of_two_scale_distances_exactly(search, exponent):
    X, k, queries = search
    if np.abs(X).max() < 1e-300 or np.abs(X).max() * 2.0**exponent > 1e307:
        return
    distances, indices = zm.kneighbors(X, k, queries=queries)
    scaled_d, scaled_i = zm.kneighbors(X * 2.0**exponent, k, queries=queries)
    lost = floor(X) * 2.0**exponent + floor(X * 2.0**exponent)
    if floor(X) == 0 or distances[distances > 0].min(initial=1.0) > 1e20 * lost:
        np.testing.assert_array_equal(scaled_i, indices)
    np.testing.assert_allclose(scaled_d, distances * 2.0**exponent, rtol=2e-16, atol=lost)
