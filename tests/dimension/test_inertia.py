from __future__ import annotations

import numpy as np
import pytest
import torch
import zmanifold as zm
from zmanifold.dimension import _inertia as inertia
from zmanifold.dimension import fo as dimension

import oracles


def adversarial():
    rng = np.random.default_rng(2)
    spheres = rng.normal(size=(8, 30))
    return {
        "gaussian, d > k": rng.normal(size=(80, 40)) * np.arange(1, 41) ** -1.0,
        "gaussian, d < k": rng.normal(size=(80, 5)) * [1, 1, 0.5, 0.3, 0.1],
        "gaussian, d = k": rng.normal(size=(80, 21)) * np.arange(1, 22) ** -0.7,
        "one feature of many": np.outer(rng.normal(size=80), np.eye(30)[4]),
        "constant columns": np.c_[rng.normal(size=(80, 3)), np.full((80, 9), 7.3)],
        "clusters 1e-6 apart at 1e4": 1e4
        + 1e4 * np.repeat(spheres, 10, axis=0)
        + 1e-6 * rng.normal(size=(80, 30)),
        "wild columns": rng.normal(size=(80, 12)) * 10.0 ** np.arange(-6, 6),
        "wild rows": rng.normal(size=(80, 25)) * 10.0 ** rng.uniform(-5, 5, (80, 1)),
        "columns 1e-160 apart": rng.normal(size=(80, 5)) * [1, 1, 1e-160, 0.9, 1e-158],
        "tiny": 1e-155 * rng.normal(size=(80, 30)),
        "huge": 1e155 * rng.normal(size=(80, 6)),
        "binary": rng.integers(0, 2, (80, 9)).astype(float),
    }


def counted(X, indices, alpha=0.05):
    q = len(indices)
    out = np.full(q, -1), np.zeros(q, bool)
    inertia.count_significant(X, indices, np.arange(q), alpha, *out)
    return out


@pytest.mark.parametrize("name", adversarial())
@pytest.mark.parametrize("k", [2, 3, 21, 79])
def test_counts_against_singular_values(name, k):
    X = adversarial()[name]
    # The loop's squares must not leave float64's range.
    moderate = X / np.abs(X).max() if name in ("tiny", "huge") else X
    _, indices = oracles.neighbors(moderate, k)
    for alpha in (0.01, 0.05, 0.5, 0.95):
        expected, margins = oracles.fukunaga_olsen(moderate, indices, alpha)
        found, proven = counted(X, indices, alpha)
        clear = margins > 1e-6
        assert (found[proven & clear] == expected[proven & clear]).all()
        assert proven[clear].all()
        assert ((found == 0) == (expected == 0)).all()
        public = zm.LocalPCA(n_neighbors=k, alphaFO=alpha, device="cpu")
        public.fit(X, precomputed_knn=indices)
        assert (public.dimension_pw_[clear] == expected[clear]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("k", "d"), [(2, 50), (50, 2), (9, 9), (33, 64), (64, 33), (7, 1)])
def test_shapes_and_dtypes(k, d, dtype, rng):
    X = rng.normal(size=(90, d)).astype(dtype)
    indices = rng.integers(0, 90, (40, k))
    expected, margins = oracles.fukunaga_olsen(X.astype(float), indices)
    found, proven = counted(X, indices)
    spread = np.array([np.ptp(X[row], axis=0).max() > 0 for row in indices])
    assert (found == expected)[(margins > 1e-6) & spread].all()
    assert ((found == 0) == ~spread).all()
    assert proven.mean() > 0.9


@pytest.mark.parametrize(("k", "d"), [(9, 3), (40, 12), (6, 30)])
@pytest.mark.parametrize("scale", [1.0, 1e-310, 1e-40, 1e40, 1e306])
def test_scatter_matrices_have_trace_1(k, d, scale, rng):
    """Errors are bounded for that; none is left out or comes from another neighbourhood."""
    X = scale * rng.normal(size=(50, d))
    indices = rng.integers(0, 50, (20, k))
    m = min(k, d)
    centred, mean = np.zeros((m, max(k, d))), np.empty(d)
    scatters = np.zeros((20, m // 8 * 8 + 8, m // 8 * 8 + 8))
    order = np.arange(20)[::-1].copy()
    inertia._scatter(X, indices, order, centred, mean, scatters)
    for found, row in zip(scatters, order, strict=True):
        points = X[indices[row]] / scale
        points -= points.mean(axis=0)
        products = points.T @ points if d <= k else points @ points.T
        expected = products / products.trace()
        np.testing.assert_allclose(np.tril(found[:m, :m]), np.tril(expected), rtol=0, atol=1e-13)


@pytest.mark.parametrize("m", [1, 3, 4, 8, 11, 16, 24, 40])
@pytest.mark.parametrize("length", [5, 512, 600])
def test_products_stay_within_their_matrix(m, length, rng):
    rows = rng.normal(size=(m, length))
    room = np.full((m + 2, -(-m // 8) * 8), 7.0)
    inertia._products(rows, room[1:-1])
    np.testing.assert_allclose(np.tril(room[1 : m + 1, :m]), np.tril(rows @ rows.T), atol=1e-11)
    assert (room[[0, -1]] == 7).all()


def test_a_tie_with_the_threshold_is_left_open():
    """Eigenvalues 16, 4, 4: with alpha = 1/4 rounding decides, and a proof is impossible."""
    X = np.vstack([np.kron(np.diag([4.0, 2.0, 2.0]), [[1.0], [-1.0]]), np.zeros(3)])
    indices = np.arange(6)[None]
    assert not counted(X, indices, 0.25)[1].any()
    found, proven = counted(X, indices, 0.2499)
    assert (found[0], proven[0]) == (3, True)
    found, proven = counted(X, indices, 0.2501)
    assert (found[0], proven[0]) == (1, True)
    # Whoever decides, LocalPCA gives what the computed eigenvalues say.
    spectrum = zm.local_spectra(X, indices)[0]
    fitted = zm.LocalPCA(alphaFO=0.25).fit(X, precomputed_knn=indices, queries=[6])
    assert fitted.dimension_pw_[0] == (spectrum > 0.25 * spectrum[0]).sum()


def test_open_neighbourhoods_are_computed(monkeypatch, rng):
    """Those alone, and their answer takes the place of the count."""
    X = rng.normal(size=(60, 6))
    expected = zm.LocalPCA(n_neighbors=20).fit(X).dimension_pw_
    computed = []
    spectra, count = dimension.spectra_of, dimension._count

    def leave_some_open(points, indices, alpha, found, proven):
        count(points, indices, alpha, found, proven)
        proven[::7] = False
        found[::7] = -5

    monkeypatch.setattr(dimension, "_count", leave_some_open)
    monkeypatch.setattr(
        dimension, "spectra_of", lambda *a: computed.append(len(a[1])) or spectra(*a)
    )
    found = zm.LocalPCA(n_neighbors=20).fit(X).dimension_pw_
    assert computed == [9]
    np.testing.assert_array_equal(found, expected)


def tridiagonal(lower):
    """Diagonal and squared off-diagonal of a matrix given below its diagonal."""
    order = len(lower)
    padded = -(-order // 8) * 8
    work = np.zeros((padded, padded))
    work[:order, :order] = lower
    diagonal, squares = np.zeros((2, order))
    inertia._tridiagonal(work, diagonal, squares, np.full((6, padded), 7.0))
    return diagonal, squares


def test_reflections_of_next_to_nothing():
    """Entries whose squares underflow: what is no reflection must not be applied."""
    work = np.array([[0.5, 0, 0, 0], [0.3, 0.4, 0, 0], [0.2, 0.1, 0.1, 0], [0, 0, 0, 1e-320]])
    rest = work[:3, :3] + np.tril(work[:3, :3], -1).T
    for tiny in (1e-154, 1e-158, 1e-160, 1e-162, 1e-170):
        matrix = work.copy()
        matrix[3, :3] = tiny * np.array([3, 1, 2])
        diagonal, squares = tridiagonal(matrix)
        off = np.sqrt(squares[:-1])
        reduced = np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)
        expected = np.sort(np.r_[0, np.linalg.eigvalsh(rest)])
        np.testing.assert_allclose(np.linalg.eigvalsh(reduced), expected, atol=1e-14)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 17, 64, 65])
def test_reduction_to_tridiagonal_form(order, rng):
    """The bound on its error is generous: a thousandth of it holds, and the norm is kept."""
    for matrix in (
        rng.normal(size=(order, order)),
        np.eye(order),
        np.zeros((order, order)),
        np.outer(np.arange(float(order)), np.arange(order)),
        np.diag(10.0 ** -np.arange(order)) + 1e-12,
    ):
        symmetric = matrix @ matrix.T
        diagonal, squares = tridiagonal(np.tril(symmetric))
        off = np.sqrt(squares[:-1])
        reduced = np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)
        expected = np.linalg.eigvalsh(symmetric)
        error = 64 * order**2 * 2.0**-53 * np.trace(symmetric)
        np.testing.assert_allclose(np.linalg.eigvalsh(reduced), expected, rtol=0, atol=error)
        for shift in (0.0, 0.3 * expected[-1] + 1e-9, 2 * expected[-1] + 1):
            if np.abs(expected - shift).min() > 1e-6 * expected[-1]:
                assert inertia._count_above(diagonal, squares, shift) == (expected > shift).sum()
        low, high = inertia._largest(diagonal, squares)
        assert low - error <= expected[-1] <= high + error
        assert high - low <= 1e-6 * high


def test_spread_that_is_rounding_alone():
    """The mean of equal numbers is not always that number: differences from one of them are."""
    X = np.full((40, 3), 0.1)
    X[20:] += 1e-9
    indices = np.array([np.arange(20), np.arange(10, 30)])
    found, proven = counted(X, indices)
    assert found.tolist() == [0, 1]
    assert proven.all()


def test_orders_above_the_limit_are_computed(monkeypatch, rng):
    X = rng.normal(size=(60, 12))
    expected = zm.LocalPCA(n_neighbors=30).fit(X).dimension_pw_
    monkeypatch.setattr(dimension, "_MOST_COUNTED", 11)
    monkeypatch.setattr(dimension, "_count", lambda *a: pytest.fail("counted"))
    np.testing.assert_array_equal(zm.LocalPCA(n_neighbors=30).fit(X).dimension_pw_, expected)
    points = torch.from_numpy(X)
    found, degenerate = dimension.fukunaga_olsen(
        points, torch.from_numpy(zm.kneighbors(X, 30)[1]), alpha=0.05, memory=2**20
    )
    np.testing.assert_array_equal(found, expected)
    assert not degenerate.any()
