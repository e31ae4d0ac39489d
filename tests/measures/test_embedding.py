from __future__ import annotations

import sys

import numpy as np
import pytest
import zmanifold as zm
from zmanifold._base.errors import InputError
from zmanifold.measures._embedding import embed


@pytest.fixture(scope="module")
def digits():
    return zm.load_dataset("digits", n_samples=500, random_state=0)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_training_point_is_placed_near_its_own_place(digits, metric):
    """Distances are compared in the final frame: the library moves all points as it places some."""
    X = digits.points
    embedding = embed(X, X[:200], metric=metric)
    extent = np.ptp(embedding.train, axis=0).max()
    away = np.linalg.norm(embedding.test - embedding.train[:200], axis=1)
    assert np.median(away) < 0.01 * extent
    assert np.quantile(away, 0.95) < 0.1 * extent
    # A placed point is nearest to the cluster of its class.
    nearest = np.linalg.norm(embedding.test[:, None] - embedding.train[None], axis=2)
    nearest[np.arange(200), np.arange(200)] = np.inf
    assert (digits.labels[nearest.argmin(axis=1)] == digits.labels[:200]).mean() > 0.9


def test_one_seed_one_embedding(digits):
    first, again = (embed(digits.points[:150], digits.points[:5], seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.train, again.train)
    np.testing.assert_array_equal(first.test, again.test)


def test_lengths_do_not_matter_to_the_cosine(digits):
    X = digits.points[:150]
    scaled = X * np.random.default_rng(0).uniform(0.5, 2, (150, 1)).astype(np.float32)
    first, second = (embed(a, a[:3]) for a in (X, scaled))
    near = [
        np.linalg.norm(e.train[:, None] - e.train, axis=2).argsort()[:, 1:6]
        for e in (first, second)
    ]
    shared = [len(set(a) & set(b)) for a, b in zip(*near, strict=True)]
    assert np.mean(shared) > 3.5


def _clusters(rng):
    labels = np.repeat(np.arange(4), 50)
    centres = 20 * rng.normal(size=(4, 6))
    return centres, centres[labels] + rng.normal(size=(200, 6)), labels


@pytest.mark.parametrize(
    ("offset", "scale"),
    [(0, 1), (1e9, 1), (-1e12, 1e-20), (0, 1e-300), (0, 1e20), (0, 1e38), (0, 1e300)],
)
def test_clusters_far_from_the_origin_and_of_any_scale(offset, scale, rng):
    """Their picture is that at scale 1: float32 holds what tells samples apart."""
    centres, X, labels = _clusters(rng)
    embedding = embed((X + offset) * scale, (centres + offset) * scale, metric="euclidean")
    away = np.linalg.norm(embedding.train[:, None] - embedding.train, axis=2)
    near = away.argsort(axis=1)[:, 1:6]
    assert (labels[near] == labels[:, None]).mean() == 1
    away = np.linalg.norm(embedding.test[:, None] - embedding.train, axis=2)
    assert (labels[away.argsort(axis=1)[:, :5]] == np.arange(4)[:, None]).all()


def test_clusters_of_the_largest_float32_numbers(rng):
    _, X, labels = _clusters(rng)
    largest = np.float32(3e38 / np.abs(X).max())
    embedding = embed(X.astype("f4") * largest, X[:1].astype("f4"), metric="euclidean")
    away = np.linalg.norm(embedding.train[:, None] - embedding.train, axis=2)
    assert (labels[away.argsort(axis=1)[:, 1:6]] == labels[:, None]).mean() == 1


def test_a_constant_column_and_a_placed_sample_far_away(rng):
    _, X, labels = _clusters(rng)
    X, far = np.c_[X, np.full(200, 1e15)], np.full((1, 7), 1e300)
    embedding = embed(X, far, metric="euclidean")
    away = np.linalg.norm(embedding.train[:, None] - embedding.train, axis=2)
    assert (labels[away.argsort(axis=1)[:, 1:6]] == labels[:, None]).mean() == 1
    assert np.isfinite(embedding.test).all()


GOOD = np.random.default_rng(0).normal(size=(100, 5))


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        (
            (np.ones((100, 5)), GOOD[:2]),
            {},
            "all alike, of which the t-SNE embedding would not be finite",
        ),
        (
            (np.arange(1, 101)[:, None] * np.ones(5), GOOD[:2]),
            {},
            "train_x holds samples that are all",
        ),
        ((GOOD, GOOD[:2, :3]), {}, "test_x has 3 features but train_x has 5"),
        ((GOOD * np.inf, GOOD), {}, "train_x holds 500 NaN or inf"),
        ((GOOD, GOOD[:2] * 0), {}, "test_x holds 2 zero vector"),
        ((GOOD, GOOD), {"metric": "l1"}, "unknown metric 'l1'"),
        ((GOOD, GOOD), {"perplexity": 40}, "perplexity=40 must be at least 1 and below a third"),
        ((GOOD, GOOD), {"seed": -1}, "seed=-1 is too small"),
    ],
)
def test_bad_input(args, kwargs, message):
    with pytest.raises(InputError, match=message):
        embed(*args, **kwargs)


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    with pytest.raises(InputError, match=r"t-SNE needs openTSNE: pip install 'zmanifold\[tsne\]'"):
        embed(GOOD, GOOD[:2])
