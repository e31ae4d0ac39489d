from __future__ import annotations

import numpy as np
import pytest
import torch
import zmanifold as zm
from hypothesis import given, settings
from hypothesis import strategies as st
from zmanifold._base.errors import InputError

from measured import check_mixed_set


@pytest.mark.parametrize("dim", [2, 30])
@pytest.mark.parametrize("mixer", [None, zm.Mixup(), zm.ZetaMixup(1.8), zm.ZetaMixup(40.0)])
def test_against_the_loop(dim, mixer, rng, device):
    X, y = rng.normal(size=(90, dim)), np.arange(90) % 3
    check_mixed_set(X, y, *zm.mixed_set(X, y, mixer, batch_size=16), 4, device)


def test_other_sizes_and_independent_sets(rng):
    X, other = rng.normal(size=(60, 14)), rng.normal(size=(25, 14)) + 0.3
    check_mixed_set(X, np.arange(60) % 2, other, rng.dirichlet([1, 1], 25), 3)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), dim=st.sampled_from([1, 2, 14]), levels=st.sampled_from([2, 6]))
def test_duplicates_and_edges(seed, dim, levels):
    rng = np.random.default_rng(seed)
    X, mixed = (rng.integers(0, levels, (n, dim)).astype(float) for n in (22, 17))
    X[0, 0] += 1  # some spread
    check_mixed_set(X, rng.integers(0, 3, 22), mixed, np.eye(3)[rng.integers(0, 3, 17)], 3)


def test_by_hand():
    """Originals at 0, 1 (class 0) and 10, 12 (class 1); mixed samples at 0, 4 and 9."""
    X, y = [[0.0], [1.0], [10.0], [12.0]], [0, 0, 1, 1]
    mixed, soft = [[0.0], [4.0], [9.0]], [[1.0, 0.0], [0.4, 0.6], [0.7, 0.3]]
    found = zm.mixed_set_metrics(X, y, mixed, soft, n_neighbors=1)
    assert found.nearest.tolist() == [0, 1, 2]
    assert found.label_error.tolist() == [False, True, True]
    np.testing.assert_allclose(found.contradicted_mass, [0, 0.6, 0.7])
    assert found.distance.tolist() == [0, 3, 1]
    assert found.relative_distance.tolist() == [0, 3, 0.5]
    # Of the originals' balls, [-1, 1] and [0, 2] hold the first mixed sample, [8, 12] holds the
    # third, and [10, 14] holds none.
    assert (found.precision, found.density) == (2 / 3, 3 / 3)
    assert found.coverage == 3 / 4
    # Balls [-4, 4], [-1, 9], [4, 14] of the mixed samples hold every original.
    assert found.recall == 1
    assert found.spread == pytest.approx(np.var([0, 4, 9], ddof=1) / np.var([0, 1, 10, 12], ddof=1))


def test_the_originals_against_themselves(rng):
    X, y = rng.normal(size=(200, 5)), np.arange(200) % 2
    found = zm.mixed_set_metrics(X, y, X, y).summary()
    assert found == {
        "label_error": 0, "contradicted_mass": found["contradicted_mass"], "distance": 0,
        "relative_distance": 0, "label_entropy": 0, "precision": 1, "recall": 1,
        # Each sample is in its own ball and, at the boundary, in those whose fifth neighbour it is.
        "density": 1.2, "coverage": 1, "spread": 1,
    }  # fmt: skip
    # Strings and truth values can be classes, too.
    names = np.array(["cat", "dog"])[y]
    assert zm.mixed_set_metrics(X, names, X, names).summary() == found


def test_scale_changes_distances_alone(rng):
    X, y = rng.normal(size=(60, 20)), np.arange(60) % 2
    mixed, soft = zm.mixed_set(X, y, zm.Mixup())
    expected = zm.mixed_set_metrics(X, y, mixed, soft)
    scaled = zm.mixed_set_metrics(X * 2.0**500, y, mixed * 2.0**500, soft)
    np.testing.assert_array_equal(scaled.distance, expected.distance * 2.0**500)
    changed = {"distance": scaled.summary()["distance"]}
    assert scaled.summary() == expected.summary() | changed


def test_spread_far_from_the_origin_and_without_spread(rng):
    X = (rng.normal(size=(80, 70)) + 1e4).astype(np.float32)
    y, mixed = np.arange(80) % 2, X[:40]
    expected = mixed.astype(float).var(axis=0).sum() / X.astype(float).var(axis=0).sum()
    found = zm.mixed_set_metrics(X, y, mixed, y[:40]).spread
    assert found == pytest.approx(expected * (40 / 39) / (80 / 79), rel=1e-10)
    alike = np.full((40, 50), 0.1)
    assert zm.mixed_set_metrics(alike, y[:40], mixed[:, :50], y[:40]).spread == np.inf
    assert np.isnan(zm.mixed_set_metrics(alike, y[:40], alike, y[:40]).spread)


def test_chunks_and_threads_do_not_matter(rng, one_thread):
    X, y = rng.normal(size=(600, 30)), np.arange(600) % 3
    mixed = zm.mixed_set(X, y, zm.Mixup())
    expected = zm.mixed_set_metrics(X, y, *mixed)
    torch.set_num_threads(2)
    again = zm.mixed_set_metrics(X, y, *mixed, memory_limit=2**20)
    assert again.summary() == expected.summary()
    assert again.to_frame().equals(expected.to_frame())


X = np.random.default_rng(0).normal(size=(12, 3))
Y = np.arange(12) % 3
SOFT = np.eye(3)[Y]


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((X, Y, X, SOFT), {"n_neighbors": 12}, "n_neighbors=12 needs more than 12 points"),
        ((X, Y, X[:4], SOFT[:4]), {}, "n_neighbors=5 needs more than 5 points, got 4"),
        ((X, Y, X[:, :2], SOFT), {}, "mixed_x has 2 features but original_x has 3"),
        ((X, Y + 1, X, SOFT), {}, "original_y holds label 3 in row 2 but the classes are 0, 1, 2"),
        ((X, Y, X, SOFT[:, :2]), {}, r"mixed_y holds 4 row\(s\) that are no soft labels"),
        ((X, Y, X, Y + 1), {}, "mixed_y holds label 3 in row 2 but the classes are 0, 1, 2"),
        ((X, SOFT[:, :1] * 0 + 1, X, SOFT), {}, "original_y has 1 columns, soft labels of classes"),
        ((X, Y, X * np.inf, SOFT), {}, "mixed_x holds 36 NaN or inf"),
    ],
)
def test_bad_input(args, kwargs, message):
    with pytest.raises(InputError, match=message):
        zm.mixed_set_metrics(*args, **kwargs)
