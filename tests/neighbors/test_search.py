from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse
import torch
import zmanifold as zm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import poisson
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors
from zmanifold._base import matmul as multiplying
from zmanifold._base import scaling
from zmanifold._base.errors import InputError
from zmanifold.neighbors import _bfloat16 as bfloat16
from zmanifold.neighbors import _differences as differences
from zmanifold.neighbors import _exhaustive as exhaustive
from zmanifold.neighbors import _filter as filtering
from zmanifold.neighbors import _measuring as measuring
from zmanifold.neighbors import _projections as projections
from zmanifold.neighbors import _rows as whole_rows
from zmanifold.neighbors import _search as searches
from zmanifold.neighbors import _shortlists as shortlists
from zmanifold.neighbors import _tiles as tiling
from zmanifold.neighbors import api as neighbors

import oracles


@pytest.fixture(params=["tiles", "projections", "bfloat16", "torch"])
def by(request, monkeypatch):
    """All searches by products: those of a CPU, and that of a GPU run on the CPU."""
    if request.param == "bfloat16":
        monkeypatch.setattr(tiling, "_bfloat16_pays", lambda _: True)
        monkeypatch.setattr(tiling, "_mostly_proven", lambda *_: True)
    if request.param == "projections":
        monkeypatch.setattr(tiling, "_projections_pay", lambda _: True)
        monkeypatch.setattr(projections, "_MOST_COST", math.inf)
    if request.param == "torch":
        monkeypatch.setattr(tiling, "search_tiles", whole_rows.search_rows)
        monkeypatch.setattr(measuring, "measure_candidates", differences._write_nearest_by_torch)
    return request.param


def ceiling(made, sizes, distances):
    """The least of the ceilings that hold at these distances."""
    every = torch.full_like(distances, math.inf)
    found = [made.ceiling(sizes, within).values(distances) for within in (distances, every)]
    return torch.minimum(*found)


def floor(made, sizes, distances):
    """The largest of the floors that hold at these distances."""
    every = torch.full_like(distances, math.inf)
    found = [made.floor(sizes, within).values(distances) for within in (distances, every)]
    return torch.maximum(*found)


def adversarial():
    """Sets on which a matrix product alone, or dropping column 0, is wrong."""
    rng = np.random.default_rng(1)
    clusters = 1e4 + 1e4 * np.repeat(rng.normal(size=(10, 20)), 15, axis=0)
    line = np.zeros((60, 16))
    line[:, 3] = np.arange(60)
    return {
        "gaussian": rng.normal(size=(150, 20)),
        "shifted by 1e4": rng.normal(size=(150, 20)) + 1e4,
        "duplicates": np.repeat(rng.normal(size=(12, 20)), 12, axis=0),
        "constant": np.full((80, 20), 3.7),
        "clusters 1e-6 apart at 1e4": clusters + 1e-6 * rng.normal(size=clusters.shape),
        "ties on a line": line,
        "wild scales": rng.normal(size=(120, 20)) * 10.0 ** rng.uniform(-6, 6, (120, 1)),
        "wild columns": rng.normal(size=(120, 20)) * 10.0 ** np.arange(-10, 10),
        "tiny": 1e-160 * rng.normal(size=(90, 20)),
        "huge": 1e160 * rng.normal(size=(90, 20)),
        "binary": rng.integers(0, 2, (200, 15)).astype(float),
        "a sentinel row": with_rows(rng.normal(size=(150, 20)), [7], 1e8),
        "rows beyond float32's squares": with_rows(rng.normal(size=(150, 20)), [7, 60], 3e38),
        "rows of three scales": rng.normal(size=(150, 20)) * rng.choice([1, 1e20, 1e40], (150, 1)),
        "heavy tails": rng.lognormal(0, 4, (150, 20)),
        "a sentinel column": np.c_[
            rng.normal(size=(150, 19)), np.where(rng.random(150) < 0.3, -1e4, 0)
        ],
    }  # fmt: skip


def with_rows(X, rows, value):
    X[rows] = value
    return X


@pytest.mark.parametrize("name", adversarial())
@pytest.mark.parametrize("k", [1, 8, 50])
def test_products_against_the_loop(name, k, by, device):
    X = adversarial()[name]
    # The loop's squares must not leave float64's range.
    scale = np.abs(X).max() if name in ("tiny", "huge") else 1.0
    expected_d, expected_i = oracles.neighbors(X / scale, k)
    distances, indices = zm.kneighbors(X, k, device=device)
    np.testing.assert_allclose(distances, expected_d * scale, rtol=1e-9, atol=0)
    np.testing.assert_array_equal(indices, expected_i)


@pytest.mark.parametrize("dim", [1, 2, 3, 12])
@pytest.mark.parametrize("copies", [1, 7])
def test_tree_against_the_loop(dim, copies, rng):
    X = np.repeat(rng.normal(size=(30, dim)), copies, axis=0)
    for k in (1, 5, len(X) - 1):
        distances, indices = zm.kneighbors(X, k, device="cpu")
        expected, rows = oracles.neighbors(X, k)
        np.testing.assert_allclose(distances, expected, rtol=1e-12, atol=1e-15)
        np.testing.assert_array_equal(indices, rows)


@pytest.mark.parametrize("name", adversarial())
def test_queries_that_are_no_rows(name, by, device):
    """The rows of one half among those of the other, near and far from them."""
    X = adversarial()[name]
    scale = np.abs(X).max() if name in ("tiny", "huge") else 1.0
    points, queries = X[::2] / scale, np.concatenate([X[1::2], X[:9:2], -3 * X[:9]]) / scale
    for k in (1, 8, len(points)):
        expected_d, expected_i = oracles.neighbors_of(points, queries, k)
        distances, indices = neighbors.search(
            torch.from_numpy(points).to(device), k,
            queries=torch.from_numpy(queries).to(device), memory=2**20,
        )  # fmt: skip
        np.testing.assert_allclose(distances.cpu(), expected_d, rtol=1e-9, atol=0)
        np.testing.assert_array_equal(indices.cpu(), expected_i)


def test_copies_of_few_places(by, rng):
    """More copies than neighbours: only the first of them stay in the pool, by their rows."""
    X = np.repeat(rng.normal(size=(6, 20)), 40, axis=0)[rng.permutation(240)]
    _, expected = oracles.neighbors(X, 10)
    np.testing.assert_array_equal(zm.kneighbors(X, 10)[1], expected)


def test_one_point_more_than_candidates(by):
    """All points almost equally far: the one that the filter leaves out may be the nearest."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(22, 20))
        X *= (1 + 1e-9 * rng.normal(size=(22, 1))) / np.linalg.norm(X, axis=1, keepdims=True)
        query = np.zeros((1, 20))
        _, expected = oracles.neighbors_of(X, query, 5)
        found = neighbors.search(
            torch.from_numpy(X), 5, queries=torch.from_numpy(query), memory=2**20
        )
        np.testing.assert_array_equal(found[1], expected)


@pytest.mark.parametrize("scale", [1e-200, 1e-60, 1e60])
def test_queries_of_another_magnitude(scale, rng):
    X, queries = rng.normal(size=(40, 20)) * scale, rng.normal(size=(9, 20))
    (points, at), _ = scaling.rescaled(torch.from_numpy(X), torch.from_numpy(queries))
    distances, indices = neighbors.search(points, 4, queries=at, memory=2**20)
    expected_d, expected_i = oracles.neighbors_of(points.numpy(), at.numpy(), 4)
    np.testing.assert_array_equal(indices, expected_i)
    np.testing.assert_allclose(distances, expected_d)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_cosine_of_extreme_lengths(scale, rng):
    X = rng.normal(size=(60, 20))
    expected = zm.kneighbors(X, 7, metric="cosine")[1]
    np.testing.assert_array_equal(zm.kneighbors(X * scale, 7, metric="cosine")[1], expected)


@pytest.mark.parametrize("dim", [2, 20])
def test_small_differences_beside_huge_ones(dim, rng):
    """Squares of the small ones would vanish if the largest number were brought down to 1."""
    X = rng.normal(size=(40, dim))
    _, expected = oracles.neighbors(X, 5)
    both = np.concatenate([X * 1e-150, X * 1e150])
    distances, indices = zm.kneighbors(both, 5)
    np.testing.assert_array_equal(indices[:40], expected)
    true = np.take_along_axis(oracles.distances(X), expected, axis=1)
    np.testing.assert_allclose(distances[:40], true * 1e-150, rtol=1e-9)


def test_cosine_of_short_vectors_beside_long_ones(rng):
    """Squares of a short vector vanish at the long one's scale: it has a direction all the same."""
    X = rng.normal(size=(40, 3))
    _, expected = oracles.neighbors(X, 5, "cosine")
    lengths = np.where(np.arange(40) % 2, 1e-170, 1.0)[:, None]
    np.testing.assert_array_equal(zm.kneighbors(X * lengths, 5, metric="cosine")[1], expected)
    lengths = 10.0 ** rng.uniform(-290, 290, (40, 1))
    np.testing.assert_array_equal(zm.kneighbors(X * lengths, 5, metric="cosine")[1], expected)
    largest = zm.kneighbors([[1.79e308, 0.0], [0.0, 5e-324], [3.0, 1.0]], 2, metric="cosine")
    assert largest[1].tolist() == [[2, 1], [2, 0], [0, 1]]


def test_the_largest_numbers():
    assert zm.kneighbors([[1.75e308], [1.5e308], [0.0]], 1)[1].tolist() == [[1], [0], [1]]


@pytest.mark.parametrize("dim", [5, 13, 30])
def test_permuted_coordinates_tie(dim):
    """Sums that differ in their order of terms alone: equal distances come by row number."""
    rng = np.random.default_rng(0)
    base = rng.integers(1, 100, dim) / 8
    X = np.stack([np.zeros(dim), *[rng.permutation(base) for _ in range(30)]])
    assert zm.kneighbors(X, 12, queries=[0])[1][0].tolist() == list(range(1, 13))


def test_working_memory_bounds_the_buffers(monkeypatch, rng):
    X = rng.normal(size=(4000, 20))
    tiles, lists, rows = [], [], []
    product, make, values = multiplying.product, shortlists.Shortlists.of, filtering.Filter.values
    monkeypatch.setattr(
        tiling, "product", lambda a, b: tiles.append(len(a) * len(b)) or product(a, b)
    )
    monkeypatch.setattr(
        shortlists.Shortlists, "of", lambda q, c, **k: lists.append(q * c) or make(q, c, **k)
    )
    zm.kneighbors(X, 5, memory_limit=2**20)
    # A thread holds a tile in two dtypes at most, a list two 4-byte numbers an entry; it has room
    # for twice its length, and is copied in the end.
    held = 8 * max(tiles) * torch.get_num_threads()
    assert held + 8 * 3 * max(lists) <= 2**20
    # Besides, a list's first limit comes from the products with some of the points.
    side = math.isqrt(2**20 // (16 * torch.get_num_threads()))
    assert sum(tiles) == 4000 * (4000 + min(side // 2, 4000 // 32))
    monkeypatch.setattr(tiling, "search_tiles", whole_rows.search_rows)
    monkeypatch.setattr(
        filtering.Filter, "values",
        lambda self, left, out=None: rows.append(len(left.matrix)) or values(self, left, out),
    )  # fmt: skip
    zm.kneighbors(X, 5, memory_limit=2**20)
    assert max(rows) * 4 * 4000 <= 2**20


@pytest.mark.parametrize("by", ["tiles", "projections", "bfloat16"], indirect=True)
def test_mirrored_tiles(by, monkeypatch, rng):
    """Every point asks and tiles are small: each serves its rows and its columns."""
    X = np.concatenate([rng.normal(size=(400, 20)), np.repeat(rng.normal(size=(20, 20)), 5, 0)])
    # What rounding leaves open differs from point to point.
    X[::3] *= 10.0 ** rng.uniform(-3, 1, (len(X[::3]), 1))
    _, expected = oracles.neighbors(X, 30)
    tiles = []
    product = multiplying.product
    monkeypatch.setattr(
        tiling, "product", lambda a, b: tiles.append(len(a) * len(b)) or product(a, b)
    )
    for side in (7, 64):
        monkeypatch.setattr(tiling, "_TILE_SIDE", side)
        if 4 * torch.get_num_threads() * side < len(X):
            tiles.clear()
        np.testing.assert_array_equal(zm.kneighbors(X, 30)[1], expected)
    monkeypatch.setattr(tiling, "_TILE_SIDE", 16)
    tiles.clear()
    asked = []
    whole = filtering.Filter.ceiling
    monkeypatch.setattr(
        filtering.Filter, "ceiling",
        lambda self, norms, within: asked.append((self, norms)) or whole(self, norms, within),
    )  # fmt: skip
    np.testing.assert_array_equal(zm.kneighbors(X, 30)[1], expected)
    if by != "bfloat16":
        (points,), _ = scaling.rescaled(torch.from_numpy(X))
        used, norms = asked[0]
        assert torch.equal(norms, used.left(points).sizes)
    n_strips = -(-len(X) // 16)
    # What bfloat16 leaves open is searched again.
    assert len(tiles) >= n_strips * (n_strips + 1) // 2
    assert by == "bfloat16" or len(tiles) == n_strips * (n_strips + 1) // 2


def test_ties_of_many_copies_stay_cheap_in_the_tree():
    """Nodes of later rows at the same distance are passed over: 10,000 x 10,000 are not met."""
    X = np.repeat(np.arange(4.0), 10_000)[:, None]
    distances, indices = zm.kneighbors(X, 3)
    assert (distances == 0).all()
    assert indices[0].tolist() == [1, 2, 3]
    assert indices[-1].tolist() == [30_000, 30_001, 30_002]


def test_tree_and_products_agree(rng, monkeypatch):
    X = rng.normal(size=(400, 5))
    by_tree = zm.kneighbors(X, 20, device="cpu")
    monkeypatch.setattr(searches, "_TREE_MAX_DIM", 0)
    by_products = zm.kneighbors(X, 20, device="cpu")
    np.testing.assert_array_equal(by_tree[1], by_products[1])
    np.testing.assert_allclose(by_tree[0], by_products[0], rtol=1e-14)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_against_scikit_learn_on_digits(metric, device):
    X = load_digits().data
    theirs = NearestNeighbors(n_neighbors=128, metric=metric).fit(X)
    expected, _ = theirs.kneighbors()
    distances, indices = zm.kneighbors(X, 128, metric=metric, device=device)
    np.testing.assert_allclose(distances, expected, atol=1e-7)
    assert (indices != np.arange(len(X))[:, None]).all()


def test_float32_far_from_the_origin_is_exact(rng):
    X = (rng.normal(size=(2000, 16)) + 1e4).astype(np.float32)
    _, expected = oracles.neighbors(X[:300], 8)
    _, indices = zm.kneighbors(X[:300], 8)
    np.testing.assert_array_equal(indices, expected)
    helix, _ = zm.make_helix(2000, random_state=0)
    near, _ = zm.kneighbors(helix.astype(np.float32), 8)
    assert near.dtype == np.float32
    theirs = NearestNeighbors(n_neighbors=8).fit(helix.astype(np.float32).astype(float))
    np.testing.assert_allclose(near, theirs.kneighbors()[0], rtol=1e-6)


def test_cosine_against_the_loop(rng, device):
    X = rng.normal(size=(120, 30))
    expected_d, expected_i = oracles.neighbors(X, 10, "cosine")
    distances, indices = zm.kneighbors(X, 10, metric="cosine", device=device)
    np.testing.assert_allclose(distances, expected_d, atol=1e-14)
    np.testing.assert_array_equal(indices, expected_i)
    # Lengths do not matter.
    lengths = 10.0 ** rng.uniform(-3, 3, (120, 1))
    np.testing.assert_array_equal(zm.kneighbors(X * lengths, 10, metric="cosine")[1], expected_i)


@pytest.mark.parametrize("dim", [3, 40])
def test_results_do_not_depend_on_chunks_threads_or_queries(dim, rng, one_thread):
    X = np.concatenate([rng.normal(size=(900, dim)), np.zeros((300, dim))])
    expected = zm.kneighbors(X, 30)
    torch.set_num_threads(2)
    for result in (zm.kneighbors(X, 30, memory_limit=2**20), zm.kneighbors(X, 30)):
        np.testing.assert_array_equal(result[0], expected[0])
        np.testing.assert_array_equal(result[1], expected[1])
    queries = np.array([5, 1100, 17, 5])
    some = zm.kneighbors(X, 30, queries=queries)
    np.testing.assert_array_equal(some[0], expected[0][queries])
    np.testing.assert_array_equal(some[1], expected[1][queries])
    everything = zm.kneighbors(X, 30, queries=np.arange(len(X)))
    np.testing.assert_array_equal(everything[1], expected[1])


def test_smaller_k_is_a_prefix(rng):
    X = rng.integers(0, 3, (500, 20)).astype(float)
    large, small = zm.kneighbors(X, 60)[1], zm.kneighbors(X, 8)[1]
    np.testing.assert_array_equal(large[:, :8], small)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", adversarial())
def test_the_filters_bound_holds_for_every_pair(name, dtype):
    (points,), _ = scaling.rescaled(torch.from_numpy(adversarial()[name]))
    n = len(points)
    made = filtering.Filter.of(points, dtype, n, points)
    placed = made.left(points)
    norms = placed.sizes
    assert torch.equal(placed.matrix, made.right.matrix)
    values = made.values(placed)
    true = (points[:, None] - points[None]).norm(dim=2)
    # Each pair in turn: at its own distance the point's value must not exceed the ceiling.
    for j in range(n):
        assert (values[:, j] <= ceiling(made, norms, true[:, j])).all()
        assert (values[:, j] >= floor(made, norms, true[:, j])).all()
    if name == "gaussian":
        # And it says something: a distance a hundredth shorter is told apart for all far pairs.
        far = [values[:, j] > ceiling(made, norms, 0.99 * true[:, j]) for j in range(n)]
        assert torch.stack(far).double().mean() > 0.99 - 1 / n


@pytest.mark.parametrize("p", [1, 5, 12])
@pytest.mark.parametrize("name", [*adversarial(), "planar"])
def test_projections_keep_within_the_filters_bound(name, p, rng):
    """Along principal directions and others; a set that lies in these gains next to nothing."""
    sets = adversarial() | {"planar": rng.normal(size=(90, 2)) @ rng.normal(size=(2, 20))}
    (points,), _ = scaling.rescaled(torch.from_numpy(sets[name]))
    made = filtering.Filter.of(points, torch.float32, len(points), points)
    left = made.left(points)
    placed, norms = left.matrix, left.sizes
    true = (points[:, None] - points[None]).norm(dim=2)
    _, _, principal = np.linalg.svd(placed.double().numpy())
    others, _ = np.linalg.qr(rng.normal(size=(len(principal), p)))
    for directions in (principal[:p].T, others):
        projected = projections.Projections.along(torch.from_numpy(directions.copy()), placed)
        assert torch.equal(projected.placed(placed), projected.points)
        products = multiplying.product(projected.points, projected.points)
        values = made.squares.double() - 2 * products.double()
        for j in range(len(points)):
            assert (values[:, j] <= ceiling(made, norms, true[:, j])).all()
        if name == "planar" and directions is not others and p >= 2:
            assert (values >= made.values(left) - 1e-5).all()


def test_directions_that_are_not_quite_orthonormal_lengthen_nothing(rng):
    directions = np.linalg.qr(rng.normal(size=(30, 6)))[0] + 1e-3 * rng.normal(size=(30, 6))
    points = torch.from_numpy(rng.normal(size=(40, 30))).float()
    projected = projections.Projections.along(torch.from_numpy(directions), points)
    assert np.linalg.norm(projected.basis.numpy(), 2) < 1
    exact = points.double() @ points.double().mT
    assert (projected.points.double() @ projected.points.double().mT >= exact - 1e-5).all()


def test_projections_are_made_where_they_spare_much(rng):
    steep = rng.normal(size=(3000, 100)) * np.arange(1, 101) ** -1.5
    projected = projections.Projections.of(torch.from_numpy(steep).float(), 0.005)
    assert projected is not None
    assert 8 <= projected.basis.shape[1] <= 25
    assert projected.points.shape == (3000, projected.basis.shape[1] + 1)
    # In all directions alike, or with most points among the wanted, nothing is spared.
    alike = torch.from_numpy(rng.normal(size=(3000, 100))).float()
    assert projections.Projections.of(alike, 0.005) is None
    assert projections.Projections.of(torch.from_numpy(steep).float(), 0.5) is None
    # Too few features or points to leave any out.
    assert projections.Projections.of(alike[:, :4], 0.005) is None
    assert projections.Projections.of(alike[:1], 0.005) is None


@pytest.mark.parametrize("slow", [False, True])
def test_projections_are_for_large_searches_on_slow_processors(slow, monkeypatch):
    monkeypatch.setattr(tiling, "multiplies_slowly", lambda: slow)

    def serve(n, d, q, memory=2**30):
        points = torch.empty(n, d, device="meta")
        asked = searches.Queries(points, torch.arange(q))
        return tiling._projections_pay(searches.Search.of(points, asked, 1, memory=memory))

    assert serve(60_000, 784, 60_000) is slow
    assert serve(50_000, 3072, 50_000) is slow
    assert not serve(20_000, 784, 20_000)
    assert not serve(60_000, 784, 2_000)
    assert not serve(200_000, 64, 200_000)
    # Their points would take more than a quarter of the working memory.
    assert not serve(60_000, 784, 60_000, 2**27)


def test_projections_spare_most_products(monkeypatch, rng):
    X = rng.normal(size=(3000, 200)) * np.arange(1, 201) ** -1.5
    expected = zm.kneighbors(X, 20)
    monkeypatch.setattr(tiling, "_projections_pay", lambda _: True)
    widths = []
    product = multiplying.product
    monkeypatch.setattr(tiling, "product", lambda a, b: widths.append(a.shape[1]) or product(a, b))
    found = zm.kneighbors(X, 20)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert max(widths[-10:]) <= 51


@pytest.mark.parametrize("name", adversarial())
def test_the_bound_in_bfloat16_holds_for_every_pair(name):
    (points,), _ = scaling.rescaled(torch.from_numpy(adversarial()[name]))
    made = bfloat16.BFloat16Filter.of(points, points)
    if name in ("rows beyond float32's squares", "rows of three scales"):
        # Not for bfloat16: see `test_points_too_far`.
        assert made.frame.partial
        return
    left = made.left(points)
    sizes = left.sizes
    assert torch.equal(left.matrix, made.mirrored().matrix)
    values = -2 * multiplying.product(left.matrix, made.right.matrix).double()
    true = (points[:, None] - points[None]).norm(dim=2)
    for j in range(len(points)):
        assert (values[:, j] <= ceiling(made, sizes, true[:, j])).all()
    if name == "gaussian":
        far = [values[:, j] > ceiling(made, sizes, 0.97 * true[:, j]) for j in range(len(points))]
        assert torch.stack(far).double().mean() > 0.99 - 1 / len(points)


def test_the_bound_in_bfloat16_holds_for_queries_that_are_no_rows():
    """Products of many terms of one sign, coordinates halfway between two of bfloat16's."""
    rng = np.random.default_rng(0)
    sign = rng.choice([-1.0, 1.0], (60, 1))
    halfway = 1 + 2.0**-8 + 2.0**-7 * rng.integers(0, 100, (60, 300))
    exact = torch.from_numpy(rng.normal(size=(60, 300))).bfloat16().double().numpy()
    for points, queries in [
        (adversarial()["gaussian"][:100], adversarial()["gaussian"][100:] * 3),
        (sign * (1 + 1e-3 * rng.normal(size=(60, 2000))), np.ones((3, 2000))),
        (np.r_[halfway, -halfway], np.r_[halfway + 2.0**-20, -halfway]),
        (np.r_[exact, -exact], exact),
        (1e-30 * rng.normal(size=(60, 20)), np.ones((3, 20))),
    ]:
        points, queries = torch.from_numpy(points), torch.from_numpy(queries)
        made = bfloat16.BFloat16Filter.of(points, queries)
        left = made.left(queries)
        sizes = left.sizes
        values = -2 * multiplying.product(left.matrix, made.right.matrix).double()
        true = (queries[:, None] - points[None]).norm(dim=2)
        for j in range(len(points)):
            assert (values[:, j] <= ceiling(made, sizes, true[:, j])).all()


@pytest.mark.parametrize("kind", ["rows", "queries", "float64"])
def test_points_too_far(by, kind, rng):
    """Rows whose float32 squares overflow where those of the rest do not vanish."""
    X = rng.normal(size=(300, 20))
    X[::30] *= 10.0 ** rng.uniform(20, 100 if kind == "float64" else 30, (10, 1))
    if kind != "float64":
        X = X.astype(np.float32).astype(np.float64)
    points = torch.from_numpy(X) if kind == "float64" else torch.from_numpy(X).float()
    made = filtering.Filter.of(points, torch.float32, 310, points)
    assert made.partial
    assert (made.norms == math.inf).sum() == 10
    assert (made.squares[:300][made.norms == math.inf] == 4).all()
    assert made.points.isfinite().all()
    if kind == "queries":
        points, queries = points[100:], points[:100]
        expected = oracles.neighbors_of(points, queries, 9)
        given = {"queries": queries}
    else:
        expected = oracles.neighbors(X, 9)
        given = {"rows": torch.arange(300)}
    distances, indices = neighbors.search(points, 9, **given, memory=2**22)
    ordinary = np.arange(len(indices)) % 30 != 0
    np.testing.assert_array_equal(indices[ordinary], expected[1][ordinary])
    np.testing.assert_allclose(distances, expected[0], rtol=1e-12)


OUTLYING = {
    "a row of 1e8": lambda X, rng: with_rows(X, [7], 1e8),
    "a row of 1e15": lambda X, rng: with_rows(X, [7], 1e15),
    "a row of 3e38": lambda X, rng: with_rows(X, [7], 3e38),
    "1 % of rows": lambda X, rng: with_rows(X, np.arange(0, len(X), 100), 1e8),
    "1 % of rows, each its own": lambda X, rng: np.where(
        np.arange(len(X))[:, None] % 100 == 3, X * 1e8, X
    ),
    "a constant column": lambda X, rng: np.c_[X, np.full(len(X), 1e9)],
    "1 % of a column": lambda X, rng: np.c_[X, np.where(np.arange(len(X)) % 100 == 3, -999, 0)],
    "heavy tails": lambda X, rng: rng.lognormal(0, 4, X.shape),
    "rows with heavy tails": lambda X, rng: X * rng.lognormal(0, 4, (len(X), 1)),
    "Cauchy": lambda X, rng: rng.standard_cauchy(X.shape),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["rows", "queries"])
@pytest.mark.parametrize("name", OUTLYING)
def test_outlying_values_leave_the_others_proven(name, kind, dtype, monkeypatch):
    """What is searched again is a few queries, not all of them, and compares few points."""
    rng = np.random.default_rng(0)
    X = torch.from_numpy(OUTLYING[name](rng.normal(size=(3000, 30)), rng)).to(dtype)
    again = []
    search_again = exhaustive.search_exhaustively
    monkeypatch.setattr(
        tiling, "search_exhaustively", lambda *a: again.append(len(a[1])) or search_again(*a)
    )
    given = {"rows": torch.arange(3000)} if kind == "rows" else {"queries": X[::3] + 0.25}
    found = neighbors.search(X, 10, **given, memory=2**26)
    assert again[0] <= 0.03 * len(found[0])
    # One by one, without any bound.
    at = X[::97] if kind == "rows" else given["queries"][::33]
    apart = torch.linalg.vector_norm(X.double() - at[:, None].double(), dim=2)
    if kind == "rows":
        apart[torch.arange(len(at)), torch.arange(0, 3000, 97)] = math.inf
    expected = apart.sort(dim=1).values[:, :10]
    torch.testing.assert_close(found[0][:: 97 if kind == "rows" else 33], expected, rtol=1e-12,
                               atol=0)  # fmt: skip


def test_far_clusters_compare_with_their_own_alone(monkeypatch, rng):
    """What float32 leaves open is settled around each cluster, not around all of them."""
    X = rng.normal(size=(2000, 30))
    X[:, 4] = np.where(rng.random(2000) < 0.3, 1e8, X[:, 4])
    compared = []
    write = exhaustive.write_nearest
    monkeypatch.setattr(
        exhaustive,
        "write_nearest",
        lambda s, candidates: compared.append(candidates.numel()) or write(s, candidates),
    )
    monkeypatch.setattr(exhaustive, "_TOGETHER", 128)
    zm.kneighbors(X, 10)
    assert sum(compared) < 2000 * 2000 / 10


@pytest.mark.parametrize("name", adversarial())
@pytest.mark.parametrize("by", ["tiles", "projections", "bfloat16"], indirect=True)
def test_out_of_order_the_same_neighbours_are_found(name, by):
    """Few candidates are measured then: the others' values tell that they are nearer or farther."""
    (points,), _ = scaling.rescaled(torch.from_numpy(adversarial()[name]))
    given = {"rows": torch.arange(len(points)), "farthest_only": True, "memory": 2**26}
    for k in (1, 6, 30):
        expected_d, expected_i = neighbors.search(points, k, **given)
        found_d, found_i = neighbors.search(points, k, **given, in_order=False)
        np.testing.assert_array_equal(found_d, expected_d)
        np.testing.assert_array_equal(found_i[:, -1], expected_i[:, -1])
        np.testing.assert_array_equal(found_i.sort(dim=1).values, expected_i.sort(dim=1).values)


@pytest.mark.parametrize("narrow", [False, True])
def test_bounds_turned_round(narrow):
    """Of values they give distances on the safe side, and hardly beyond."""
    (points,), _ = scaling.rescaled(torch.from_numpy(adversarial()["gaussian"]))
    if narrow:
        made = bfloat16.BFloat16Filter.of(points, points)
    else:
        made = filtering.Filter.of(points, torch.float32, len(points), points)
    sizes = made.mirrored().sizes
    distances = (points[0] - points).norm(dim=1)
    for within in (torch.full_like(distances, math.inf), distances * 1.5):
        for bound in (made.ceiling(sizes, within), made.floor(sizes, within)):
            values = bound.values(distances)
            back = bound.distances(values)
            beyond = bound.side * (bound.values(back) - values)
            assert (beyond[1:] < 0).all()
            assert (back - distances)[1:].abs().max() < 1e-9
            assert (bound.distances(bound.offset - 1) >= 0).all()
            if within.isinf().all():
                continue
            # Beyond that they say nothing.
            assert (bound.values(within * 1.01)[1:] * bound.side == math.inf).all()
            found = bound.distances(bound.values(within) * 2 + 9)[1:]
            assert (found == (within[1:] if bound.side > 0 else math.inf)).all()


@pytest.mark.parametrize("queries", [None, np.arange(0, 3000, 2)])
def test_products_in_bfloat16_leave_little_to_be_searched_again(queries, monkeypatch, rng):
    X = rng.normal(size=(3000, 200)) * np.arange(1, 201) ** -0.7
    expected = zm.kneighbors(X, 20, queries=queries)
    again = []
    in_float32 = tiling._search_in_float32
    monkeypatch.setattr(
        tiling, "_search_in_float32", lambda s: again.append(len(s.queries)) or in_float32(s)
    )
    monkeypatch.setattr(tiling, "_bfloat16_pays", lambda _: True)
    found = zm.kneighbors(X, 20, queries=queries)
    assert sum(again) < 0.1 * len(found[0])
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    # Clusters narrower than bfloat16 can tell: after a try, all is left to float32.
    again.clear()
    close = rng.normal(size=(3, 200))[rng.integers(0, 3, 1500)] + 1e-4 * rng.normal(
        size=(1500, 200)
    )
    found = zm.kneighbors(close, 20)
    assert again == [1500]
    np.testing.assert_array_equal(found[1], oracles.neighbors(close, 20)[1])


@pytest.mark.parametrize(("able", "tiles"), [(False, False), (True, False), (True, True)])
def test_products_in_bfloat16_are_for_many_queries_and_features(able, tiles, monkeypatch):
    monkeypatch.setattr(tiling, "multiplies_bfloat16", lambda: able)
    monkeypatch.setattr(tiling, "multiplies_bfloat16_tiles", lambda: tiles)

    def serve(n, d, q):
        points = torch.empty(n, d, device="meta")
        asked = searches.Queries(points, torch.arange(q))
        return tiling._bfloat16_pays(searches.Search.of(points, asked, 1, memory=2**30))

    assert serve(60_000, 784, 60_000) is able
    assert serve(50_000, 3072, 5_000) is able
    assert serve(60_000, 784, 2_000) is tiles
    assert not serve(60_000, 784, 100)
    assert not serve(60_000, 64, 60_000)
    assert not serve(5_000, 784, 5_000)


@pytest.mark.parametrize("by", ["tiles", "projections", "bfloat16"], indirect=True)
def test_first_limits_that_were_too_low(by, monkeypatch, rng):
    X = rng.normal(size=(900, 20))
    expected_d, expected_i = oracles.neighbors(X, 30)
    short = []
    search_again = exhaustive.search_exhaustively
    monkeypatch.setattr(tiling, "_safe_rank", lambda expected: 1)
    monkeypatch.setattr(
        tiling, "search_exhaustively", lambda *a: short.append(len(a[1])) or search_again(*a)
    )
    distances, indices = zm.kneighbors(X, 30)
    assert short[0] > 100
    np.testing.assert_allclose(distances, expected_d, rtol=1e-12)
    np.testing.assert_array_equal(indices, expected_i)


def test_lists_that_were_kept_too_short_still_bound_the_distance(monkeypatch, rng):
    """What is searched again need not look at every point."""
    points = torch.from_numpy(rng.normal(size=(3000, 20)))
    bounds = []
    monkeypatch.setattr(tiling, "_TILE_SIDE", 64)
    monkeypatch.setattr(tiling, "_safe_rank", lambda expected: math.ceil(expected))
    monkeypatch.setattr(
        tiling,
        "search_exhaustively",
        lambda search, left: bounds.append(search.distances[left, -1]),
    )
    rows = torch.arange(len(points))
    neighbors.search(points, 30, rows=rows, farthest_only=True, in_order=False, memory=2**26)
    assert len(bounds[0]) > 1000
    assert bounds[0].isfinite().double().mean() > 0.1


def test_first_limits_are_seldom_too_low():
    for expected in (0.01, 0.5, 3.0, 20.0, 100.0):
        assert poisson.sf(tiling._safe_rank(expected) - 1, expected) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_filters_bounds_hold_for_queries_that_are_no_rows(dtype):
    """Products of many terms of one sign, and queries so large that points nearly vanish."""
    rng = np.random.default_rng(0)
    sign = rng.choice([-1.0, 1.0], (60, 1))
    tiny = 1e-30 * rng.normal(size=(69, 20))
    for points, queries in [
        (adversarial()["gaussian"][:100], adversarial()["gaussian"][100:] * 3),
        (sign * (1 + 1e-3 * rng.normal(size=(60, 2000))), np.ones((3, 2000))),
        (tiny[:60], np.concatenate([tiny[60:], np.ones((1, 20))])),
    ]:
        points, queries = torch.from_numpy(points), torch.from_numpy(queries)
        made = filtering.Filter.of(points, dtype, len(points), queries)
        placed = made.left(queries)
        norms, values = placed.sizes, made.values(placed)
        true = (queries[:, None] - points[None]).norm(dim=2)
        for j in range(len(points)):
            assert (values[:, j] <= ceiling(made, norms, true[:, j])).all()
            assert (values[:, j] >= floor(made, norms, true[:, j])).all()


def test_undecided_rows_are_searched_again(by, monkeypatch):
    calls = []
    original = exhaustive.search_exhaustively
    for module in (tiling, whole_rows):
        monkeypatch.setattr(
            module, "search_exhaustively", lambda *a: (calls.append(len(a[1])), original(*a))
        )
    X = adversarial()["constant"]
    zm.kneighbors(X, 5)
    assert calls == [len(X)]
    calls.clear()
    zm.kneighbors(adversarial()["gaussian"], 5)
    assert calls == [0]


def test_many_copies_stay_cheap():
    """All 6,000 rows alike: only k + 1 copies may be compared, not 6,000 x 6,000 rows."""
    X = torch.ones(6000, 64)
    assert len(exhaustive._first_copies(X, 9)) == 9
    distances, indices = zm.kneighbors(X, 8)
    assert (distances == 0).all()
    assert indices[0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert indices[5000].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_group_minima_select_the_smallest():
    values = torch.randint(0, 40, (30, 240), generator=torch.Generator().manual_seed(0)).float()
    for count, groups_of in ((1, 4), (7, 6), (20, 12), (100, 5)):
        kept, columns = whole_rows._smallest(values, count, groups_of)
        expected = values.sort(dim=1).values[:, :count]
        assert torch.equal(kept.sort(dim=1).values, expected)
        assert torch.equal(values.gather(1, columns), kept)
        assert all(len(set(row)) == count for row in columns.tolist())


def test_precision_setting_is_restored_and_not_used(by, rng, monkeypatch):
    X = rng.normal(size=(300, 64)).astype(np.float32)
    expected = zm.kneighbors(X, 10)[1]
    inside = []
    product, values = multiplying.product, filtering.Filter.values

    def seen(call):
        def wrapper(*args, **kwargs):
            inside.append(torch.get_float32_matmul_precision())
            return call(*args, **kwargs)

        return wrapper

    monkeypatch.setattr(tiling, "product", seen(product))
    monkeypatch.setattr(filtering.Filter, "values", seen(values))
    torch.set_float32_matmul_precision("medium")
    try:
        np.testing.assert_array_equal(zm.kneighbors(X, 10)[1], expected)
        assert torch.get_float32_matmul_precision() == "medium"
        assert set(inside) == {"highest"}
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_product_keeps_its_bound_whatever_precision_is_asked_for(rng):
    a, b = (torch.from_numpy(rng.normal(size=(300, 700)).astype(np.float32)) for _ in range(2))
    exact = a.double() @ b.double().mT
    bound = 702 * 2.0**-24 * a.double().norm(dim=1)[:, None] * b.double().norm(dim=1)
    torch.set_float32_matmul_precision("medium")
    try:
        with multiplying.full_precision():
            assert ((multiplying.product(a, b) - exact).abs() <= bound).all()
    finally:
        torch.set_float32_matmul_precision("highest")


def test_tensors_come_back_for_tensors(device):
    X = torch.rand(50, 20, device=device, dtype=torch.float64)
    distances, indices = zm.kneighbors(X, 3)
    assert distances.device.type == indices.device.type == device
    assert distances.dtype == torch.float64
    assert indices.dtype == torch.int64


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    n=st.integers(2, 40),
    dim=st.sampled_from([1, 2, 5, 13, 30]),
    levels=st.sampled_from([1, 2, 5, 1000]),
)
def test_any_small_set(data, n, dim, levels):
    seed = data.draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    X = rng.integers(0, levels, (n, dim)) / 8.0
    k = data.draw(st.integers(1, n - 1))
    # Whole numbers: distances that tie do so exactly, and row numbers decide.
    expected, rows = oracles.neighbors(X, k)
    distances, indices = zm.kneighbors(X, k)
    np.testing.assert_allclose(distances, expected, rtol=1e-12, atol=0)
    np.testing.assert_array_equal(indices, rows)


@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X.astype(np.float32),
        lambda X: X.astype(np.float16),
        lambda X: X.astype(np.int64),
        lambda X: X.astype(np.uint16),
        lambda X: X.astype(">f8"),
        lambda X: X.astype(np.longdouble),
        np.asfortranarray,
        lambda X: X.tolist(),
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: X[::-1][::-1],
        lambda X: torch.from_numpy(X).to(torch.bfloat16),
        lambda X: torch.from_numpy(X).to(torch.uint64),
        lambda X: torch.complex(torch.zeros(40, 15).double(), -torch.from_numpy(X)).conj().imag,
    ],
)
def test_any_real_array(convert):
    X = np.random.default_rng(0).integers(0, 50, (40, 15)).astype(float)
    _, expected = oracles.neighbors(X, 4)
    _, indices = zm.kneighbors(convert(X), 4)
    np.testing.assert_array_equal(np.asarray(indices), expected)


@pytest.mark.parametrize("dtype", ["uint16", "uint8", "int16", "float16"])
def test_narrow_types_become_float32_as_arrays_and_as_tensors(dtype):
    X = np.arange(8).reshape(4, 2).astype(dtype)
    assert zm.kneighbors(X, 1)[0].dtype == np.float32
    assert zm.kneighbors(torch.from_numpy(X), 1)[0].dtype == torch.float32


def test_read_only_arrays_and_memory_maps(tmp_path):
    X = np.random.default_rng(0).normal(size=(30, 15))
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(zm.kneighbors(mapped, 3)[1], zm.kneighbors(X, 3)[1])


GOOD = np.random.default_rng(0).normal(size=(10, 4))


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((GOOD, 10), {}, "n_neighbors=10 needs more than 10 points, got 10: lower n_neighbors"),
        ((GOOD, 0), {}, "n_neighbors=0 is too small"),
        ((GOOD, 2.0), {}, "n_neighbors=2.0 is not a whole number"),
        ((GOOD, True), {}, "n_neighbors=True is not a whole number"),
        ((GOOD[:1], 1), {}, r"X has 1 point\(s\) .* but at least 2"),
        ((GOOD[:0], 1), {}, r"X has 0 point\(s\)"),
        ((GOOD[:, :0], 1), {}, r"X has 0 feature\(s\)"),
        ((GOOD[0], 1), {}, r"X has 1 dimension\(s\) but must be 2-D"),
        ((GOOD[None], 1), {}, r"X has 3 dimension\(s\)"),
        ((np.where(GOOD > 1, np.nan, GOOD), 2), {}, "NaN or inf, the first is nan at row"),
        ((np.where(GOOD > 1, -np.inf, GOOD), 2), {}, "NaN or inf, the first is -inf at row"),
        ((GOOD + 1j, 2), {}, "X is complex"),
        ((torch.from_numpy(GOOD) + 1j, 2), {}, "X is complex"),
        ((GOOD.astype(object), 2), {}, "X has dtype object"),
        ((GOOD.astype(str), 2), {}, "X has dtype <U"),
        (([[1, 2], [3]], 1), {}, "rows of unequal length"),
        ((scipy.sparse.csr_matrix(GOOD), 2), {}, r"convert it with X.toarray\(\)"),
        ((torch.eye(4).to_sparse(), 2), {}, r"convert it with X.to_dense\(\)"),
        ((torch.empty(5, 3, device="meta"), 2), {}, "a tensor without values"),
        ((np.ma.masked_greater(GOOD, 1), 2), {}, "X is masked: drop or impute"),
        ((GOOD * np.longdouble("1e400"), 2), {}, "40 NaN or inf, the first is -?inf at row 0"),
        ((list(torch.eye(3).bfloat16()), 1), {}, r"X is a list that NumPy cannot read: .*torch.st"),
        ((GOOD, 2), {"metric": ["cosine"]}, "unknown metric"),
        ((GOOD, 2), {"metric": "cosin"}, "unknown metric 'cosin': did you mean 'cosine'"),
        ((GOOD * 0, 2), {"metric": "cosine"}, r"10 zero vector\(s\), the first in row 0"),
        ((GOOD, 2), {"device": "gpu"}, "unknown device 'gpu'"),
        ((GOOD, 2), {"device": "cuda:99"}, "device='cuda:99' is asked for but torch finds"),
        ((GOOD, 2), {"device": "meta"}, "unknown device 'meta'"),
        ((GOOD, 2), {"queries": [10]}, "queries holds row 10 but the data has rows 0 to 9"),
        ((GOOD, 2), {"queries": [-1]}, "queries holds row -1"),
        ((GOOD, 2), {"queries": []}, "queries has shape|queries is empty"),
        ((GOOD, 2), {"queries": [[1]]}, "queries has shape"),
        ((GOOD, 2), {"queries": [0.5]}, "must be a 1-D array of row numbers"),
        ((GOOD, 2), {"queries": GOOD[:, 0] > 0}, r"np.flatnonzero\(mask\)"),
        ((GOOD, 2), {"queries": [[1], [2, 3]]}, r"queries has shape \(\) and dtype object"),
        ((GOOD, 2), {"queries": torch.ones(2).bfloat16()}, "queries has shape .* dtype float"),
        ((GOOD, 2), {"queries": torch.eye(2).to_sparse()}, r"it with queries.to_dense\(\)"),
        ((GOOD, 2), {"queries": np.ma.array([0, 1], mask=[0, 1])}, "queries is masked: leave out"),
        ((GOOD, 2), {"memory_limit": 5}, "memory_limit=5 is below 1 MiB"),
    ],
)
def test_bad_input(args, kwargs, message):
    with pytest.raises(InputError, match=message):
        zm.kneighbors(*args, **kwargs)
