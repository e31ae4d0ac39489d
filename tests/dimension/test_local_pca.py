from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import zmanifold as zm
from skdim.datasets import BenchmarkManifolds
from skdim.id import lPCA
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.estimator_checks import parametrize_with_checks
from zmanifold._base.errors import InputError
from zmanifold.dimension import neighborhoods

import oracles

# An eigenvalue this near to its threshold, relative to the largest, may fall on either side: it
# is what float64 SVD and float64 Gram matrices of well-scaled data can differ by.
NEAR = 1e-9


def scikit_dimension(X, indices):
    with warnings.catch_warnings():
        # It divides by eigenvalues that are zero.
        warnings.simplefilter("ignore")
        return lPCA(ver="FO").fit_pw(np.asarray(X), precomputed_knn=indices).dimension_pw_


def manifold(name, n):
    intrinsic, ambient, _ = BenchmarkManifolds()._dict_truth[name]
    return BenchmarkManifolds(random_state=0).generate(name, n=n, dim=ambient, d=intrinsic)


def data_sets():
    rng = np.random.default_rng(0)
    gaussian = rng.normal(size=(300, 20)) * np.linspace(1, 0.1, 20)
    return {
        "helix": zm.make_helix(800, random_state=0)[0],
        "helix in R12": zm.make_helix(800, ambient_dim=12, random_state=0)[0],
        "paraboloid": zm.make_paraboloid(800, random_state=0)[0],
        "roll": manifold("M7_Roll", 600),
        "nonlinear": manifold("M6_Nonlinear", 400),
        "sphere": manifold("M1_Sphere", 400),
        "70-D cube": manifold("M10d_Cubic", 300),
        "digits": load_digits().data[:700],
        "gaussian": gaussian,
        "shifted by 1e4": gaussian + 1e4,
        "duplicates": np.repeat(gaussian[:60], 5, axis=0),
        "with a constant column": np.hstack([gaussian, np.full((300, 1), 5.0)]),
    }


@pytest.mark.parametrize("name", data_sets())
@pytest.mark.parametrize("k", [8, 40, 128])
def test_equals_scikit_dimension_at_every_point(name, k, device):
    X = data_sets()[name]
    _, indices = zm.kneighbors(X, k, device=device)
    fitted = zm.LocalPCA(n_neighbors=k, device=device).fit(X)
    # The same neighbourhoods for both: among ties either choice is a right one.
    theirs = scikit_dimension(X, indices)
    naive, margins = oracles.fukunaga_olsen(X, indices)
    near = margins < NEAR
    np.testing.assert_array_equal(naive[~near], theirs[~near])
    np.testing.assert_array_equal(fitted.dimension_pw_[~near], theirs[~near])
    assert near.mean() <= 0.01, f"{near.sum()} points lie within rounding of the threshold"
    assert fitted.dimension_ == fitted.dimension_pw_.mean()
    assert fitted.dimension_pw_.dtype == np.int64


@pytest.mark.parametrize("name", ["helix", "paraboloid", "nonlinear"])
def test_equals_scikit_dimensions_own_neighbours(name):
    X = data_sets()[name]
    theirs = lPCA(ver="FO").fit_pw(X, n_neighbors=20).dimension_pw_
    np.testing.assert_array_equal(zm.LocalPCA(n_neighbors=20).fit(X).dimension_pw_, theirs)


@pytest.mark.parametrize("shift", [0.0, 1e4])
@pytest.mark.parametrize("name", ["helix", "digits", "gaussian", "70-D cube"])
def test_float32_equals_the_float64_of_the_same_values(name, shift, device):
    X = (data_sets()[name] + shift).astype(np.float32)
    single = zm.LocalPCA(n_neighbors=30, device=device).fit(X)
    double = zm.LocalPCA(n_neighbors=30, device=device).fit(X.astype(np.float64))
    np.testing.assert_array_equal(single.dimension_pw_, double.dimension_pw_)


@pytest.mark.parametrize("shape", [(8, 3), (8, 8), (8, 9), (9, 8), (2, 5), (40, 12)])
def test_spectra_against_the_loop(shape, rng, device):
    k, d = shape
    X = rng.normal(size=(100, d)) * np.linspace(3, 0.01, d)
    _, indices = zm.kneighbors(X, k)
    spectra = zm.local_spectra(X, indices, device=device)
    assert spectra.shape == (100, min(k - 1, d))
    assert (np.diff(spectra, axis=1) <= 0).all()
    expected = [oracles.spectrum(X[row]) for row in indices]
    np.testing.assert_allclose(spectra, expected, rtol=1e-10, atol=1e-14)


def test_the_threshold_is_strict():
    """Eigenvalues 1 and exactly 0.25: not counted at alpha = 0.25, counted just below."""
    X = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, 0.0]])
    given = {"precomputed_knn": [[0, 1, 2, 3]], "queries": [4]}
    assert zm.LocalPCA(alphaFO=0.25).fit(X, **given).dimension_pw_.tolist() == [1]
    assert zm.LocalPCA(alphaFO=0.2499).fit(X, **given).dimension_pw_.tolist() == [2]


def test_the_threshold_itself_does_not_depend_on_where_a_neighbourhood_lies():
    """Eigenvalues at the threshold but for rounding, which follows the place in a chunk."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        d, m = rng.integers(7, 30), 7
        cross = np.zeros((2 * m, d))
        cross[np.arange(2 * m), np.arange(2 * m) // 2] = np.tile([1.0, -1.0], m)
        cross[:2] *= 2
        X = np.vstack([cross @ np.linalg.qr(rng.normal(size=(d, d)))[0], np.zeros(d)])
        indices = np.tile(np.arange(2 * m), (9, 1))
        found = zm.LocalPCA(alphaFO=0.25).fit(X, precomputed_knn=indices, queries=[2 * m] * 9)
        assert found.dimension_pw_.tolist() == [1] * 9


def test_spectra_of_the_largest_numbers():
    """A variance beyond float64 is infinite."""
    X = np.array([[1.7e308, 0.0], [-1.7e308, 1.0], [0.0, 2.0]])
    assert zm.local_spectra(X, [[0, 1, 2]]).tolist() == [[np.inf, 0]]
    assert zm.LocalPCA(n_neighbors=2).fit(X).dimension_pw_.tolist() == [1, 1, 1]


def test_without_spread_the_dimension_is_zero(device):
    for X in (np.full((50, 4), 3.3), np.full((50, 30), -7.1, np.float32), np.zeros((50, 13))):
        fitted = zm.LocalPCA(n_neighbors=8, device=device).fit(X)
        assert fitted.dimension_pw_.tolist() == [0] * 50
        assert fitted.n_degenerate_ == 50


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_points_that_coincide_up_to_rounding_have_no_spread(dtype, shift, device):
    """All outputs of a batch are its mean at γ = 0; sums in other orders differ in last digits."""
    X = torch.from_numpy(zm.make_helix(512, random_state=0)[0] + shift).to(device, dtype)
    generator = torch.Generator(device).manual_seed(0)
    mixer = zm.ZetaMixup(0.0)
    y = torch.ones(32, 1, device=device)
    batches = [mixer(batch, y, generator=generator)[0] for batch in X.split(32)]
    fitted = zm.LocalPCA(n_neighbors=8).fit(torch.cat(batches))
    assert fitted.n_degenerate_ == 512
    assert fitted.dimension_ == 0


def test_one_unit_in_the_last_place_is_no_spread():
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        point = rng.uniform(1, 2, 20).astype(dtype)
        X = np.where(rng.random((50, 20)) < 0.5, point, np.nextafter(point, dtype(9)))
        assert X.dtype == dtype
        assert zm.LocalPCA(n_neighbors=20).fit(X).n_degenerate_ == 50
        # A hundred units are.
        wide = point + 100 * np.spacing(point) * rng.integers(-9, 9, (50, 20)).astype(dtype)
        assert zm.LocalPCA(n_neighbors=20).fit(wide).n_degenerate_ == 0


def test_small_but_real_spread_counts():
    rng = np.random.default_rng(0)
    for scale in (1e-9, 1e-150, 1e150):
        X = scale * rng.normal(size=(100, 3))
        assert zm.LocalPCA(n_neighbors=20).fit(X).dimension_ == 3
    X = 1e4 + 1e-6 * rng.normal(size=(100, 3))
    assert zm.LocalPCA(n_neighbors=20).fit(X).dimension_ == 3


@pytest.mark.parametrize("transform", ["rotation", "shift", "scale", "permutation"])
def test_invariances(transform, rng):
    X = zm.make_paraboloid(500, random_state=0)[0]
    expected = zm.LocalPCA(n_neighbors=30).fit(X).dimension_pw_
    order = np.arange(500)
    if transform == "rotation":
        moved = X @ np.linalg.qr(rng.normal(size=(12, 12)))[0]
    elif transform == "shift":
        moved = X + 100
    elif transform == "scale":
        moved = X * 1e-7
    else:
        order = rng.permutation(500)
        moved = X[order]
    found = zm.LocalPCA(n_neighbors=30).fit(moved).dimension_pw_
    np.testing.assert_array_equal(found, expected[order])


@pytest.mark.parametrize("name", ["helix", "digits"])
def test_results_do_not_depend_on_chunks_threads_or_queries(name, one_thread):
    X = data_sets()[name]
    expected = zm.LocalPCA(n_neighbors=40).fit(X).dimension_pw_
    torch.set_num_threads(2)
    for limit in (None, 2**20, 2**23):
        found = zm.LocalPCA(n_neighbors=40, memory_limit=limit).fit(X).dimension_pw_
        np.testing.assert_array_equal(found, expected)
    queries = np.array([3, 600, 77])
    some = zm.LocalPCA(n_neighbors=40).fit(X, queries=queries)
    np.testing.assert_array_equal(some.dimension_pw_, expected[queries])
    assert some.dimension_ == expected[queries].mean()
    everything = zm.LocalPCA(n_neighbors=40).fit(X, queries=np.arange(len(X)))
    np.testing.assert_array_equal(everything.dimension_pw_, expected)


def test_memory_is_bounded(monkeypatch):
    """No piece of work holds more neighbourhoods than the limit allows."""
    pieces = []
    run_chunks = neighborhoods.run_chunks
    monkeypatch.setattr(
        neighborhoods,
        "run_chunks",
        lambda work, total, size, device: (
            pieces.append(size),
            run_chunks(work, total, size, device),
        ),
    )
    X = np.random.default_rng(0).normal(size=(300, 60)).astype(np.float32)
    zm.local_spectra(X, zm.kneighbors(X, 50)[1], memory_limit=2**21)
    assert pieces[0] * (50 * 60 * 8) < 2**21


@parametrize_with_checks(
    [zm.LocalPCA(n_neighbors=3)],
    expected_failed_checks=lambda _: {
        "check_dtype_object": "object arrays are refused, with the conversion that helps"
    },
)
def test_scikit_learns_own_checks(estimator, check, recwarn):
    # The checks fit small integers and lists; some warn about what they try.
    check(estimator)


def test_is_a_scikit_learn_estimator():
    estimator = zm.LocalPCA(n_neighbors=7, alphaFO=0.1)
    copy = clone(estimator)
    assert copy.get_params() == estimator.get_params()
    assert copy.set_params(n_neighbors=9).n_neighbors == 9
    assert repr(estimator) == "LocalPCA(alphaFO=0.1, n_neighbors=7)"
    X = data_sets()["gaussian"]
    assert estimator.fit(X, np.zeros(len(X))) is estimator
    assert estimator.n_features_in_ == 20


def test_neighbours_in_any_order_give_the_same(rng):
    X = rng.normal(size=(300, 9))
    _, indices = zm.kneighbors(X, 20)
    expected = zm.LocalPCA(n_neighbors=20).fit(X).dimension_pw_
    for order in (np.arange(20)[::-1], rng.permutation(20)):
        fitted = zm.LocalPCA().fit(X, precomputed_knn=indices[:, order])
        np.testing.assert_array_equal(fitted.dimension_pw_, expected)


def test_the_neighbours_of_scikit_learn_need_their_first_column_dropped():
    """With it the mean was 4.62 instead of 4.41 on a paraboloid."""
    X = zm.make_helix(500, random_state=0)[0]
    theirs = NearestNeighbors(n_neighbors=9).fit(X).kneighbors(X, return_distance=False)
    with pytest.raises(InputError, match=r"drop that column, knn\[:, 1:\]"):
        zm.LocalPCA().fit(X, precomputed_knn=theirs)
    found = zm.LocalPCA().fit(X, precomputed_knn=theirs[:, 1:])
    np.testing.assert_array_equal(
        found.dimension_pw_, zm.LocalPCA(n_neighbors=8).fit(X).dimension_pw_
    )
    # Of some queries their own rows count, not the positions.
    with pytest.raises(InputError, match="the query itself in 1 of 2 rows, first in row 1"):
        zm.LocalPCA().fit(X, precomputed_knn=[[0, 1], [7, 2]], queries=[5, 7])
    zm.LocalPCA().fit(X, precomputed_knn=[[0, 1], [1, 2]], queries=[5, 7])


X = np.random.default_rng(0).normal(size=(20, 4))
KNN = np.zeros((20, 3), int)


@pytest.mark.parametrize(
    ("params", "args", "message"),
    [
        ({"n_neighbors": 20}, {"X": X}, "n_neighbors=20 needs more than 20 points, got 20"),
        ({"n_neighbors": 1}, {"X": X}, "n_neighbors=1 is too small: give an integer >= 2"),
        (
            {"n_neighbors": 3},
            {"X": X[:, :1]},
            r"X has 1 feature\(s\) .* a minimum of 2 is required",
        ),
        ({"ver": "Fo"}, {"X": X}, "unknown ver 'Fo': did you mean 'FO'"),
        ({"alphaFO": 1.0}, {"X": X}, "alphaFO=1.0 must lie strictly between 0 and 1"),
        ({"alphaFO": "x"}, {"X": X}, "alphaFO='x' must lie"),
        ({"n_neighbors": 3}, {"X": X * np.nan}, "80 NaN or inf"),
        ({"device": "cuda:77"}, {"X": X}, "use device='cpu' or 'auto'"),
        ({}, {"X": X, "precomputed_knn": KNN[:5]}, "5 rows for 20 query points"),
        ({}, {"X": X, "precomputed_knn": KNN + 20}, "the neighbourhoods holds row 20"),
        ({}, {"X": X, "precomputed_knn": KNN[:, :1]}, r"\(queries, k\) with k >= 2"),
        ({}, {"X": X, "precomputed_knn": KNN + 0.5}, "row numbers"),
        ({}, {"X": X, "precomputed_knn": KNN - 1}, "holds row -1 but the data has rows 0 to 19"),
        (
            {},
            {"X": X, "precomputed_knn": zm.kneighbors(X, 3)[1][:, [0, 1, 0]]},
            r"holds neighbour \d+ twice in row 0: give distinct neighbours",
        ),
        (
            {},
            {"X": X, "precomputed_knn": np.c_[np.arange(20), zm.kneighbors(X, 3)[1]]},
            r"the query itself in 20 of 20 rows, first in row 0, column 0, .* drop that column, "
            r"knn\[:, 1:\]",
        ),
        ({}, {"X": X, "precomputed_knn": [[0, 1], [2]]}, r"shape \(\) but must be \(queries, k\)"),
        ({}, {"X": X, "precomputed_knn": torch.zeros(20, 3).bfloat16()}, "row numbers"),
        ({}, {"X": X, "precomputed_knn": torch.from_numpy(KNN).to_sparse()}, r"to_dense\(\)"),
    ],
)
def test_bad_input(params, args, message):
    with pytest.raises(InputError, match=message):
        zm.LocalPCA(**params).fit(args["X"], precomputed_knn=args.get("precomputed_knn"))
