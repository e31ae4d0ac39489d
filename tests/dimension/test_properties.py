"""Local dimension of any set of points: what holds for every one of them, and what leaves it."""

from __future__ import annotations

import numpy as np
import torch
import zmanifold as zm
from hypothesis import given
from hypothesis import strategies as st
from zmanifold.dimension import fukunaga_olsen

import oracles
from pointsets import ANY, GENERAL, SEEDS, any_floats, point_sets

UNIT = 2.0**-53
ALPHAS = st.sampled_from([0.05, 0.25, 0.5]) | st.floats(1e-6, 0.999)


def moderate(X):
    """The points times a power of two that brings the largest value to about 1."""
    return np.ldexp(X, -exponent_of(X))


def exponent_of(X):
    return np.frexp(np.abs(X).max())[1]


def decided(X, indices, alpha, error):
    """The rule at each neighbourhood by the loop, and where rounding cannot change it.

    Let every coordinate be off by `error` times the largest norm R. A singular value s of k
    centred points then moves by at most sqrt(k) error R (Weyl), so the quotient of two squares
    by about 4 of that over the largest s. The rounding of k differences adds (k + 2) units of
    the largest. Without spread are points that vary in no coordinate by more than 64 units.
    """
    k, d = indices.shape[1], X.shape[1]
    counts, margins = oracles.fukunaga_olsen(X, indices, alpha)
    apart = np.array([np.abs(X[row] - X[row[0]]).max() for row in indices])
    spread = oracles.spreads(X, indices, 64)
    # Divided by their largest difference, points have singular values from 1 / 2 on.
    beside = off = np.zeros(len(indices))
    if error > 0:
        largest = np.linalg.norm(moderate(X), axis=1).max()
        beside = error * largest / np.ldexp(np.where(apart > 0, apart, 1), -exponent_of(X))
        off = 4 * spread * beside
    moved = 4 * np.sqrt(k) * (beside + (k + 2) * UNIT * np.sqrt(d))
    clear = (np.minimum(margins, 1) - 2.0**-40) / 2 > moved
    clear = np.where(spread <= 1, spread + off <= 0.5, clear & (spread - off > 2))
    return np.where(spread <= 1, 0, counts), clear


def settled(X, k, error):
    """Where the k nearest are the same if every distance is off by 2 `error` R."""
    if k == len(X) - 1:
        return np.ones(len(X), bool)
    X = moderate(X)
    ordered = np.sort(oracles.distances(X), axis=1)
    return ordered[:, k + 1] - ordered[:, k] > 4 * error * np.linalg.norm(X, axis=1).max()


def neighborhoods(draw, X):
    """Draw neighbourhoods of every size: the nearest points, or any rows, repeats among them."""
    n = len(X)
    k = draw(st.integers(2, n - 1))
    if draw(st.booleans()):
        return zm.kneighbors(X, k)[1]
    rng = np.random.default_rng(draw(SEEDS))
    return rng.integers(0, n, (draw(st.integers(1, n)), k))


SETS = point_sets(n=(3, 40), d=(2, 3, 12, 13, 30)) | any_floats(n=(3, 12), d=(2, 12))


@given(st.data(), SETS, ALPHAS)
def test_the_rule(data, X, alpha):
    indices = neighborhoods(data.draw, X)
    before = X.copy()
    counts, degenerate = fukunaga_olsen(
        torch.from_numpy(X), torch.from_numpy(indices), alpha=alpha, memory=2**22
    )
    expected, clear = decided(X, indices, alpha, 0)
    found = counts.numpy()
    np.testing.assert_array_equal(found[clear], expected[clear])
    assert found.dtype == np.int64
    assert found.min() >= 0
    assert found.max() <= min(indices.shape[1] - 1, X.shape[1])
    assert (degenerate.numpy() == (found == 0)).all()
    assert X.tobytes() == before.tobytes()


@given(SETS, st.data())
def test_its_own_neighbours_are_the_nearest(X, data):
    """The search for the rule sorts nothing, so sums run in another order."""
    k = data.draw(st.integers(2, len(X) - 1))
    _, indices = zm.kneighbors(X, k)
    expected, clear = decided(X, indices, 0.05, 0)
    found = zm.LocalPCA(n_neighbors=k).fit(X).dimension_pw_
    np.testing.assert_array_equal(found[clear], expected[clear])


@given(st.integers(2, 12), st.integers(0, 18), st.integers(1, 7), st.integers(1, 7), SEEDS)
def test_what_equals_the_threshold_does_not_count(m, more, short, longer, seed):
    """The ends of m axes, turned: one or several long ones, the others of eigenvalue alpha."""
    rng = np.random.default_rng(seed)
    d = m + more
    n_long = int(rng.integers(1, m))
    lengths = np.where(np.arange(m) < n_long, short + longer, short)
    ends = np.zeros((2 * m, d))
    ends[np.arange(2 * m), np.arange(2 * m) // 2] = np.repeat(lengths, 2) * np.tile([1, -1], m)
    X = ends @ np.linalg.qr(rng.normal(size=(d, d)))[0]
    at = (short / (short + longer)) ** 2
    indices = np.array([rng.permutation(2 * m) for _ in range(9)])
    for alpha, expected in ((at, n_long), (at * (1 + 1e-9), n_long), (at * (1 - 1e-9), m)):
        found, _ = fukunaga_olsen(
            torch.from_numpy(X), torch.from_numpy(indices), alpha=alpha, memory=2**22
        )
        assert found.tolist() == [expected] * 9


@given(st.data(), SETS)
def test_spectra(data, X):
    indices = neighborhoods(data.draw, X)
    spectra = zm.local_spectra(X, indices)
    k, exponent = indices.shape[1], int(np.frexp(np.abs(X).max())[1])
    assert spectra.shape == (len(indices), min(k - 1, X.shape[1]))
    assert spectra.dtype == np.float64
    assert (spectra[:, 1:] <= spectra[:, :-1]).all()
    scaled = moderate(X)
    expected = np.array([oracles.spectrum(scaled[row]) for row in indices])
    largest = expected[:, :1]
    moved = np.sqrt(k) * (k + 2) * UNIT * np.linalg.norm(scaled, axis=1).max()
    off = 2 * np.sqrt(largest) * moved + moved**2 + 2.0**-40 * largest
    with np.errstate(over="ignore", under="ignore"):
        low, high = (np.ldexp(expected + s * off, 2 * exponent) for s in (-1, 1))
    assert (spectra >= np.nextafter(low, -np.inf)).all()
    assert (spectra <= np.nextafter(high, np.inf)).all()
    assert spectra.min() >= 0


MOVES = ("rotation", "translation", "scaling", "power of two", "permutation")
LOOSE = {kind: GENERAL[kind] for kind in ("gaussian", "flat", "far from the origin")}


@given(st.data(), point_sets(LOOSE, n=(4, 40), d=(2, 3, 12, 13, 30)), st.sampled_from(MOVES))
def test_moves_leave_the_dimension_as_it_is(data, X, move):
    n, d = X.shape
    k = data.draw(st.integers(2, n - 1))
    rng = np.random.default_rng(data.draw(SEEDS))
    order, error = np.arange(n), 0.0
    if move == "rotation":
        # Sums of d products, and a Q that is orthogonal up to the rounding of its columns.
        moved, error = X @ np.linalg.qr(rng.normal(size=(d, d)))[0], 8 * d**1.5 * UNIT
    elif move == "translation":
        moved, error = X + rng.normal(size=d) * 10 ** rng.uniform(-3, 6), UNIT
    elif move == "scaling":
        moved, error = X * rng.uniform(0.1, 10) * 10 ** rng.uniform(-150, 150), UNIT
    elif move == "power of two":
        moved = X * 2.0 ** int(rng.integers(-490, 490))
    else:
        order = rng.permutation(n)
        moved = X[order]
    before = zm.LocalPCA(n_neighbors=k).fit(X)
    after = zm.LocalPCA(n_neighbors=k).fit(moved)
    if move == "power of two":
        np.testing.assert_array_equal(after.dimension_pw_, before.dimension_pw_)
        return
    clear = np.ones(n, bool)
    for P, off in ((X[order], 0.0), (moved, error)):
        clear &= decided(P, zm.kneighbors(P, k)[1], 0.05, off)[1]
        clear &= settled(P, k, off + (d + 2) * UNIT)
    np.testing.assert_array_equal(after.dimension_pw_[clear], before.dimension_pw_[order][clear])
    assert clear.mean() > 0.5


DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
          "uint32", "uint64", "bool")  # fmt: skip


@given(st.sampled_from(DTYPES), st.integers(1, 200), st.integers(3, 40), st.integers(2, 30),
       st.data())  # fmt: skip
def test_without_spread(dtype, value, n, d, data):
    """A constant, and places with more copies than neighbours."""
    k = data.draw(st.integers(2, n - 1))
    fitted = zm.LocalPCA(n_neighbors=k).fit(np.full((n, d), value % 128).astype(dtype))
    assert fitted.dimension_pw_.tolist() == [0] * n
    assert fitted.n_degenerate_ == n
    places = np.random.default_rng(value).integers(0, 2, (3, d)).astype(dtype)
    copies = np.repeat(places, k + 1, axis=0)
    assert zm.LocalPCA(n_neighbors=k).fit(copies).n_degenerate_ == len(copies)


@given(st.data(), point_sets(n=(3, 40), d=(2, 13, 30)))
def test_queries_memory_and_threads_change_nothing(data, X):
    n = len(X)
    k = data.draw(st.integers(2, n - 1))
    queries = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=9))
    expected = zm.LocalPCA(n_neighbors=k).fit(X).dimension_pw_
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            fitted = zm.LocalPCA(n_neighbors=k, memory_limit=2**20).fit(X, queries=queries)
            np.testing.assert_array_equal(fitted.dimension_pw_, expected[queries])
    finally:
        torch.set_num_threads(threads)


@given(point_sets({"lattice": ANY["lattice"]}, n=(3, 40), d=(2, 13, 30)), st.data())
def test_one_rule_for_all_dtypes(X, data):
    """Whole numbers are the same numbers in every type."""
    X = X * 8 + 3
    k = data.draw(st.integers(2, len(X) - 1))
    expected = zm.LocalPCA(n_neighbors=k).fit(X)
    dtype = data.draw(st.sampled_from([*DTYPES[:-1], torch.bfloat16, torch.float16, torch.int32]))
    given_x = torch.from_numpy(X).to(dtype) if isinstance(dtype, torch.dtype) else X.astype(dtype)
    found = zm.LocalPCA(n_neighbors=k).fit(given_x)
    np.testing.assert_array_equal(found.dimension_pw_, expected.dimension_pw_)
    assert found.n_degenerate_ == expected.n_degenerate_
    spectra = zm.local_spectra(given_x, zm.kneighbors(given_x, k)[1])
    np.testing.assert_array_equal(spectra, zm.local_spectra(X, zm.kneighbors(X, k)[1]))
