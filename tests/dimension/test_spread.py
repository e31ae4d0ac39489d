"""A neighbourhood's spread and spectrum are those of its own values, whatever lies beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import zmanifold as zm
from skdim.id import lPCA
from zmanifold.dimension import Tolerance
from zmanifold.dimension import _spread as spreading
from zmanifold.dimension import fo as rule

import oracles


def helix(dtype="float64"):
    return zm.make_helix(2000, random_state=0)[0].astype(dtype)


def beside(name, dtype):
    """Sets in which something is very large or small beside the rest."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(400, 6)) * [1, 1, 1, 0.3, 0.1, 0.01]
    wide = rng.normal(size=(400, 30)) * np.arange(1, 31) ** -1.0
    sets = {
        "one row of 1e8": np.vstack([X, np.full((1, 6), 1e8)]),
        "one row of 1e15": np.vstack([X, np.full((1, 6), 1e15)]),
        "rows of -999": np.where(np.arange(400)[:, None] % 50 == 7, -999.0, X),
        "one row of 3.4e38": np.vstack([X, np.full((1, 6), 3.4e38)]),
        "one entry of 1e20": np.where(np.arange(2400).reshape(400, 6) == 77, 1e20, X),
        "a column of 1e9": np.c_[X, np.full(400, 1e9)],
        "a column that is -999 for some": np.c_[X, np.where(rng.random(400) < 0.1, -999, 0)],
        "a column of 1e9 beside 30": np.c_[wide, np.full(400, 1e9)],
        "heavy tails": rng.lognormal(0, 4, (400, 5)),
        "heavy tails beside 30": wide * rng.lognormal(0, 4, (400, 1)),
        "columns of mixed scales": X * [1e8, 1e8, 1e8, 1e-8, 1e-8, 1e-8],
        "rows of mixed scales": X * 10.0 ** rng.uniform(-15, 15, (400, 1)),
        "offset 1e4": X + 1e4,
        "offset 1e6": 10 * X + 1e6,
        "1e-30": X * 1e-30,
        "1e-40": X * 1e-40,
        "1e37": X * 1e37,
    }
    return sets[name].astype(dtype)


NAMES = [
    "one row of 1e8", "one row of 1e15", "rows of -999", "one row of 3.4e38", "one entry of 1e20",
    "a column of 1e9", "a column that is -999 for some", "a column of 1e9 beside 30",
    "heavy tails", "heavy tails beside 30", "columns of mixed scales", "rows of mixed scales",
    "offset 1e4", "offset 1e6", "1e-30", "1e-40", "1e37",
]  # fmt: skip


def margin(k, d):
    """How far rounding moves an eigenvalue at most, relative to the largest.

    The bound of `count_significant`, relative to the trace of a matrix of order m, which is at
    most m times the largest eigenvalue, for the eigenvalue and the threshold; and what lies at the
    threshold itself is not counted.
    """
    m, length = min(k, d), max(k, d)
    return 2 * m * (length + 64 * m**2 + 8 * k + 100) * 2.0**-53 + (k + d) * 2.0**-50


def of_every_path(X, indices):
    """Counts and degenerate points by the CPU's code and by that of a GPU."""
    points, rows = torch.from_numpy(X), torch.from_numpy(indices)
    yield rule.fukunaga_olsen(points, rows, alpha=0.05, memory=2**22)
    with pytest.MonkeyPatch.context() as patch:
        # Neither compiled code nor a count by it: what a GPU runs.
        patch.setattr(spreading, "_look_on_cpu", spreading._look_by_torch)
        patch.setattr(
            rule,
            "_count",
            lambda p, i, alpha, *out: rule._count_by_sign_function(p, i, alpha, 2**22, *out),
        )
        yield rule.fukunaga_olsen(points, rows, alpha=0.05, memory=2**22)
        patch.setattr(rule, "_MOST_COUNTED", 0)
        yield rule.fukunaga_olsen(points, rows, alpha=0.05, memory=2**22)


# Of 30 features 25 neighbours span fewer dimensions, 32 all of them.
CASES = [(name, k) for name in NAMES for k in (8, *[25] * ("30" in name), 32)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "k"), CASES)
def test_every_point_equals_a_naive_svd_in_float64(name, k, dtype):
    X = beside(name, dtype)
    _, indices = zm.kneighbors(X, k)
    expected, margins = oracles.fukunaga_olsen(X, indices)
    spread = oracles.spreads(X, indices, 1 if dtype == "float32" else 64)
    expected = np.where(spread <= 1, 0, expected)
    clear = margins > margin(k, X.shape[1])
    assert clear.all()
    fitted = zm.LocalPCA(n_neighbors=k).fit(X, precomputed_knn=indices)
    np.testing.assert_array_equal(fitted.dimension_pw_, expected)
    assert fitted.n_degenerate_ == (spread <= 1).sum()
    assert fitted.n_degenerate_ <= 20
    for dimension, degenerate in of_every_path(X, indices):
        np.testing.assert_array_equal(dimension, expected)
        np.testing.assert_array_equal(degenerate, spread <= 1)


def scikit_dimension(X, k):
    with np.errstate(divide="ignore", invalid="ignore"):
        return lPCA(ver="FO").fit_pw(X, n_neighbors=k).dimension_pw_


def without_ties(X, k):
    """Neighbours by naive loops, and where the k-th is nearer than the next, but for rounding."""
    distances, indices = oracles.neighbors(X, k + 1)
    clear = distances[:, k] - distances[:, k - 1] > 1e-9 * distances[:, k]
    return indices[:, :k], clear


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [8, 32])
@pytest.mark.parametrize(
    "name", ["one row of 1e8", "a column of 1e9", "heavy tails", "columns of mixed scales"]
)
def test_search_and_rule_together_equal_naive_loops(name, k, dtype):
    """What README states: every point whose k-th neighbour is no tie."""
    X = beside(name, dtype)
    indices, clear = without_ties(X, k)
    # All others are equally far from the row of 1e8, but for rounding.
    assert (~clear).sum() == (name == "one row of 1e8")
    expected, _ = oracles.fukunaga_olsen(X, indices)
    found = zm.LocalPCA(n_neighbors=k).fit(X).dimension_pw_
    np.testing.assert_array_equal(found[clear], expected[clear])
    # scikit-dimension computes in the points' type: float64 is the same for both.
    theirs = scikit_dimension(X.astype("float64"), k)
    np.testing.assert_array_equal(found[clear], theirs[clear])


def test_scikit_dimension_computes_in_the_points_type():
    """Beside a column of 1e9 its float32 has no digits left for the others; the truth is 4.145."""
    X = beside("a column of 1e9", "float32")
    ours = zm.LocalPCA(n_neighbors=32).fit(X).dimension_
    assert (scikit_dimension(X, 32).mean(), ours) == (1, 4.145)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_named_values(dtype):
    """Of a helix with a sentinel row, or a constant column: right is what it is without them."""

    def fit(X):
        return zm.LocalPCA(n_neighbors=8).fit(X).dimension_

    X = helix(dtype)
    assert fit(X) == 1.4385
    for value in (1e8, -999, 1e15, 3.4e38):
        with_row = np.vstack([X, np.full((1, 3), value, dtype)])
        # The row's own neighbours are all equally far but for rounding.
        assert fit(with_row) * 2001 - fit(X) * 2000 in (1, 2, 3)
        assert zm.LocalPCA(n_neighbors=8).fit(with_row).n_degenerate_ == 0
    assert fit(np.c_[X, np.full(2000, 1e9, dtype)]) == 1.4385
    tails = np.random.default_rng(1).lognormal(0, 4, (4000, 5)).astype("float32")
    assert fit(tails.astype(dtype)) == 2.859


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-300, 1e-160, 1e160, 1e300, 1.7e308])
def test_float64s_whole_range(scale, rng):
    X = rng.integers(-99, 100, (60, 4)) / (99 if scale > 1 else 1)
    expected = zm.LocalPCA(n_neighbors=9).fit(X)
    found = zm.LocalPCA(n_neighbors=9).fit(X * scale)
    np.testing.assert_array_equal(found.dimension_pw_, expected.dimension_pw_)
    indices = zm.kneighbors(X, 9)[1]
    for dimension, _ in of_every_path(X * scale, indices):
        np.testing.assert_array_equal(dimension, expected.dimension_pw_)


def test_a_tolerance_holds_for_its_members_and_coordinates():
    points = np.zeros((6, 2))
    points[:3, 0] = [0, 1e-9, 2e-9]
    points[3:, 1] = [0, 1e-9, 2e-9]
    indices = torch.tensor([[0, 1, 2], [3, 4, 5], [0, 2, 3]])
    groups = torch.tensor([0, 0, 0, 1, 1, 1])
    for values, expected in (
        ([[0, 0], [0, 0]], [False, False, False]),
        ([[1.1e-9, 0], [0, 1.1e-9]], [True, True, False]),
        ([[1.1e-9, 0], [1.1e-9, 0]], [True, False, True]),
        ([[9e-10, 0], [0, 1.1e-9]], [False, True, False]),
        # A member's own tolerance alone: the others are 2e-9 apart.
        ([[0, 0], [9.0, 9.0]], [False, True, False]),
    ):
        tolerance = Tolerance(groups, torch.tensor(values).double())
        for look in (spreading._look_on_cpu, spreading._look_by_torch):
            found = look(torch.from_numpy(points), indices, tolerance, 2**20)
            assert found.tolist() == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_unit_of_one_coordinate(dtype):
    """Of float32 a single unit is rounding and two are not; of float64 64 and 65."""
    units = 1 if dtype == "float32" else 64
    for value in (1.0, 1e6, 1e-30):
        # From a power of two on, where a unit is the spacing.
        base = np.array(2 ** np.ceil(np.log2(value)), dtype)
        for more, expected in ((units, True), (units + 1, False)):
            points = np.full((3, 4), base, dtype)
            points[1, 2] += more * np.spacing(base)
            for memory in (1, 2**20):
                found = spreading.without_spread(
                    torch.from_numpy(points), torch.tensor([[0, 1, 2], [0, 2, 1]]), None, memory
                )
                assert found.tolist() == [expected] * 2
