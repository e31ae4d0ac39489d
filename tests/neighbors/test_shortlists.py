from __future__ import annotations

import numpy as np
import pytest
import torch
from zmanifold.neighbors import _shortlists as shortlists
from zmanifold.neighbors._tiles import _safe_rank


def smallest(values, length):
    return np.sort(values, axis=1)[:, :length]


@pytest.mark.parametrize("levels", [3, 50, 10**6])
@pytest.mark.parametrize("length", [1, 6, 30])
@pytest.mark.parametrize("width", [1, 7, 8, 100, 600])
def test_the_smallest_of_all_tiles(length, width, levels):
    """Whatever the tiles' widths and sides, and with ties: the values are those of a full sort."""
    rng = np.random.default_rng(length)
    q, n = 23, 600
    products = rng.integers(0, levels, (q, n)).astype(np.float32)
    squares = rng.integers(0, levels, n).astype(np.float32)
    own = np.where(rng.random(q) < 0.5, rng.integers(0, n, q), -1)
    values = squares - 2 * products
    values[np.arange(q), own] = np.where(own < 0, values[np.arange(q), own], np.inf)
    lists = shortlists.Shortlists.of(q, length)
    for first in rng.permutation(np.arange(0, n, width)):
        for rows in (slice(0, 11), slice(11, q)):
            part = slice(first, min(first + width, n))
            tile = np.ascontiguousarray(products[rows, part])
            insert = lists.insert
            if rng.random() < 0.5:
                insert, tile = lists.insert_transposed, np.ascontiguousarray(tile.T)
            insert(tile, squares[part], rows.start, first, own[rows])
    lists.finish(slice(0, q))
    kept = np.sort(lists.values[:, :length], axis=1)
    np.testing.assert_array_equal(kept, smallest(values, length))
    columns = lists.columns[:, :length]
    np.testing.assert_array_equal(np.sort(values[np.arange(q)[:, None], columns], axis=1), kept)
    for i in range(q):
        assert len(set(columns[i])) == length
        left_out = np.setdiff1d(np.arange(n), columns[i])
        assert (values[i, left_out] >= lists.limits[i]).all()
        assert kept[i, -1] <= lists.limits[i]


@pytest.mark.parametrize("side", ["insert", "insert_transposed", "estimate_limits"])
def test_tiles_of_bfloat16_are_read_as_their_bits(side, rng):
    q, n, length = 30, 403, 9
    products = torch.from_numpy(rng.normal(size=(q, n)).astype(np.float32)).bfloat16()
    if side == "insert_transposed":
        products = products.T.contiguous()
    squares = rng.normal(size=len(products) if side == "insert_transposed" else n)
    made = []
    for tile in products.float().numpy(), products.view(torch.uint16).numpy():
        lists = shortlists.Shortlists.of(q, length)
        given = (length,) if side == "estimate_limits" else (0, np.arange(q))
        getattr(lists, side)(tile, squares.astype(np.float32), 0, *given)
        if side != "estimate_limits":
            lists.finish(slice(0, q))
            assert (lists.counts == length).all()
        made.append(lists)
    single, narrow = made
    np.testing.assert_array_equal(single.limits, narrow.limits)
    if side != "estimate_limits":
        np.testing.assert_array_equal(single.columns[:, :length], narrow.columns[:, :length])
        np.testing.assert_array_equal(single.values[:, :length], narrow.values[:, :length])


@pytest.mark.parametrize("excess", [0.0, 0.5, 1e4])
@pytest.mark.parametrize("side", ["insert", "insert_transposed"])
@pytest.mark.parametrize("own", [False, True])
def test_the_smallest_of_tiles_of_projections(side, excess, own, rng):
    """Products that are too large by any amount: values are those of the points themselves."""
    q, n, d, width, length = 15, 500, 6, 70, 20
    at = rng.integers(-4, 5, (q, d)).astype(np.float32)
    points = rng.integers(-4, 5, (n, d)).astype(np.float32)
    squares = (points**2).sum(axis=1)
    products = at @ points.T
    values = squares - 2 * products
    rows = np.arange(q) if own else np.full(q, -1)
    if own:
        values[rows, rows] = np.inf
    projected = products + (excess * rng.random((q, n))).astype(np.float32)
    lists = shortlists.Shortlists.of(q, length)
    for first in rng.permutation(np.arange(0, n, width)):
        part = slice(first, min(first + width, n))
        tile = np.ascontiguousarray(
            projected[:, part] if side == "insert" else projected[:, part].T
        )
        getattr(lists, side)(
            tile, squares[part], 0, first, rows, unprojected=(at, points[part]),
        )  # fmt: skip
    lists.finish(slice(0, q))
    kept = np.sort(lists.values[:, :length], axis=1)
    np.testing.assert_array_equal(kept, smallest(values, length))
    found = np.take_along_axis(values, lists.columns[:, :length].astype(int), axis=1)
    np.testing.assert_array_equal(np.sort(found, axis=1), kept)


@pytest.mark.parametrize("levels", [3, 40, 10**6])
@pytest.mark.parametrize("side", ["insert", "insert_transposed"])
def test_lists_are_kept_short_while_few_columns_were_seen(levels, side):
    """Of columns in random order; equal values, of which many come later, are not missed."""
    rng = np.random.default_rng(levels)
    q, n, width, length = 20, 4000, 100, 60
    products = -rng.integers(0, levels, (q, n)).astype(np.float32)
    lists = shortlists.Shortlists.of(q, length)
    counts = []
    for first in range(0, n, width):
        tile = np.ascontiguousarray(products[:, first : first + width])
        keep = min(length, _safe_rank(length * (first + width) / n))
        given = tile if side == "insert" else np.ascontiguousarray(tile.T)
        getattr(lists, side)(given, np.zeros(width, np.float32), 0, first, np.full(q, -1), keep)
        counts.append(lists.counts.max())
    lists.finish(slice(0, q))
    kept = np.sort(lists.values[:, :length], axis=1)
    np.testing.assert_array_equal(kept, smallest(-2 * products, length))
    assert np.isfinite(lists.limits).all()
    if levels > 1000:
        assert counts[2] <= 1.25 * _safe_rank(length * 3 * width / n) < length / 2


def test_lists_are_scattered_to_their_queries(rng):
    products = rng.normal(size=(9, 30)).astype(np.float32)
    lists, scattered = shortlists.Shortlists.of(9, 12), shortlists.Shortlists.of(9, 12, spare=False)
    rows, names = rng.permutation(9), rng.permutation(30)
    lists.insert(products, np.zeros(30, np.float32), 0, 0, np.full(9, -1))
    lists.limits[3], lists.counts[3] = 0, 5
    lists.finish(slice(0, 9))
    lists.scatter(slice(0, 9), rows, names, scattered)
    for i, row in enumerate(rows):
        found = lists.columns[i, :12]
        expected = np.where(found >= 0, names[found], -1)
        np.testing.assert_array_equal(scattered.columns[row], expected)
        np.testing.assert_array_equal(scattered.values[row], lists.values[i, :12])
        assert (scattered.counts[row], scattered.limits[row]) == (lists.counts[i], lists.limits[i])
    assert (scattered.columns[rows[3]] == -1).sum() == 7


@pytest.mark.parametrize("rank", [1, 9, 64])
def test_estimated_limits(rank, rng):
    """Below them there are as many columns as promised, and hardly more."""
    tile, squares = rng.normal(size=(50, 515)), rng.normal(size=515)
    tile, squares = tile.astype(np.float32), squares.astype(np.float32)
    lists = shortlists.Shortlists.of(60, 200)
    lists.estimate_limits(tile, squares, 10, rank)
    below = (squares - 2 * tile < lists.limits[10:, None]).sum(axis=1)
    assert (below >= rank).all()
    assert (below.mean() < 1.2 * rank + 1) or rank == 64
    assert np.isinf(lists.limits[:10]).all()
