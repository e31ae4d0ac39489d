from __future__ import annotations

import numpy as np
import pytest
from zmanifold.neighbors import _tree as trees

import oracles


def adversarial(d):
    rng = np.random.default_rng(4)
    places = rng.normal(size=(9, d))
    return {
        "gaussian": rng.normal(size=(300, d)),
        "duplicates": np.repeat(places, 40, axis=0)[rng.permutation(360)],
        "constant": np.full((100, d), -2.5),
        "grid": rng.integers(0, 3, (300, d)).astype(float),
        "clusters 1e-6 apart at 1e4": 1e4 * (1 + np.repeat(places, 30, axis=0))
        + 1e-6 * rng.normal(size=(270, d)),
        "wild rows": rng.normal(size=(300, d)) * 10.0 ** rng.uniform(-9, 9, (300, 1)),
        "denormal differences": 1e-160 * rng.integers(0, 4, (200, d)) + 0.0,
        "one far away": np.vstack([rng.normal(size=(99, d)), np.full((1, d), 1e9)]),
        "a line": np.outer(np.arange(200.0), np.eye(d)[-1]),
    }


@pytest.mark.parametrize("d", [1, 2, 7])
@pytest.mark.parametrize("name", adversarial(1))
def test_against_the_loop(name, d):
    X = adversarial(d)[name]
    for k in (1, 5, 40, len(X) - 1):
        tree = trees.Tree.of(X, k)
        expected_d, expected_i = oracles.neighbors(X, k)
        distances, indices = np.empty((len(X), k)), np.empty((len(X), k), np.int64)
        rows = np.arange(len(X))
        # In any order: the last query's radius bounds the next one's.
        for order in (tree.rows, rows, rows[::-1].copy(), np.repeat(rows, 2)):
            indices[:] = -1
            tree.query(X, rows, order, distances, indices)
            np.testing.assert_array_equal(indices, expected_i)
            np.testing.assert_allclose(distances, expected_d, rtol=1e-12, atol=0)


def test_the_last_distances_alone(rng):
    X = rng.normal(size=(70, 3))
    tree, rows = trees.Tree.of(X), np.arange(70)
    distances, indices = np.empty((70, 9)), np.empty((70, 9), np.int64)
    tree.query(X, rows, rows, distances, indices)
    farthest, again = np.empty((70, 1)), np.empty((70, 9), np.int64)
    tree.query(X, rows, rows, farthest, again)
    np.testing.assert_array_equal(farthest[:, 0], distances[:, -1])
    np.testing.assert_array_equal(again, indices)
    tree.query(X, rows, rows, farthest, again, in_order=False)
    np.testing.assert_array_equal(farthest[:, 0], distances[:, -1])
    np.testing.assert_array_equal(again[:, -1], indices[:, -1])
    np.testing.assert_array_equal(np.sort(again), np.sort(indices))


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 64, 65, 1000])
def test_every_point_is_in_one_leaf_and_its_boxes(n, rng):
    X = rng.normal(size=(n, 3)).round(1)
    tree = trees.Tree.of(X)
    assert sorted(tree.rows) == list(range(n))
    np.testing.assert_array_equal(tree.columns.T, X[tree.rows])
    n_leaves = (len(tree.spans) + 1) // 2
    stops = tree.spans[-n_leaves:, 1]
    assert stops[-1] == n
    assert (tree.spans[-n_leaves:, 0] == np.r_[0, stops[:-1]]).all()
    assert (np.diff(np.r_[0, stops]) <= 32).all()
    for (low, high), (start, stop, first, axis) in zip(tree.boxes, tree.spans, strict=True):
        inside = X[tree.rows[start:stop]]
        np.testing.assert_array_equal(low, inside.min(axis=0))
        np.testing.assert_array_equal(high, inside.max(axis=0))
        assert first == tree.rows[start:stop].min()
        assert (high - low).argmax() == axis
    for left in range(1, len(tree.spans), 2):
        axis = tree.spans[left // 2, 3]
        cut = tree.boxes[left, 1, axis], tree.boxes[left + 1, 0, axis]
        assert cut[0] <= cut[1]
        assert tuple(tree.cuts[left // 2]) == cut


@pytest.mark.parametrize("d", [1, 3])
def test_copies_lie_by_their_row_numbers(d):
    """The first rows of many copies are met first, and nodes of later ones are passed over."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5, d))[rng.integers(0, 5, 4000)]
    tree = trees.Tree.of(X)
    constant = (tree.boxes[:, 0] == tree.boxes[:, 1]).all(axis=1)
    assert constant.sum() > 100
    for start, stop, first, _ in tree.spans[constant]:
        assert (np.diff(tree.rows[start:stop]) > 0).all()
        assert tree.rows[start] == first
