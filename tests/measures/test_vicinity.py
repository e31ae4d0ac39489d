from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import zmanifold as zm
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from zmanifold._base.errors import InputError

import oracles
from measured import check_vicinity


@pytest.mark.parametrize("dim", [2, 20])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("soft", [False, True])
def test_against_the_loop(dim, metric, soft, rng, device):
    train_x, test_x = rng.normal(size=(90, dim)) + 0.2, rng.normal(size=(25, dim))
    labels = rng.dirichlet(np.full(4, 0.4), 90) if soft else np.eye(4)[rng.integers(0, 4, 90)]
    test_y = rng.integers(0, 4, 25)
    result = zm.vicinity(
        train_x, labels if soft else labels.argmax(1), test_x, test_y,
        n_neighbors=(5, 1, 90), metric=metric, device=device,
    )  # fmt: skip
    check_vicinity(result, train_x, labels, test_x, test_y, metric)
    distances, indices = oracles.neighbors_of(train_x, test_x, 90, metric)
    np.testing.assert_array_equal(result.indices, indices)
    np.testing.assert_allclose(result.distances, distances, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 40),
    dim=st.sampled_from([1, 2, 13, 30]),
    levels=st.sampled_from([1, 2, 5, 1000]),
)
def test_any_small_set(seed, n, dim, levels):
    """With few distinct values nearly all distances tie, and ties come by row number."""
    rng = np.random.default_rng(seed)
    train_x, test_x = rng.integers(0, levels, (n, dim)), rng.integers(0, levels, (9, dim))
    train_y = np.concatenate([[0, 1], rng.integers(0, 3, n - 2)])
    test_y = rng.choice(np.unique(train_y), 9)
    k = int(rng.integers(1, n + 1))
    result = zm.vicinity(train_x, train_y, test_x, test_y, n_neighbors=k)
    check_vicinity(result, train_x, np.eye(train_y.max() + 1)[train_y], test_x, test_y)


def test_by_hand():
    """Five training samples on a line, one test sample at 0."""
    train_x = [[1.0], [-2.0], [3.0], [-4.0], [7.0]]
    train_y = ["b", "a", "b", "b", "a"]
    result = zm.vicinity(train_x, train_y, [[0.0]], ["a"], n_neighbors=(1, 4))
    frame = result.to_frame()
    assert frame["n_same"].tolist() == [0, 1]
    assert frame["count_a"].tolist() == [0, 1]
    assert frame["count_b"].tolist() == [1, 3]
    assert frame["label_mass"].tolist() == [0, 0.25]
    assert frame["entropy"].tolist() == pytest.approx(
        [0, -0.25 * np.log(0.25) - 0.75 * np.log(0.75)]
    )
    assert frame["own_distance"].tolist() == [2, 2]
    assert frame["other_distance"].tolist() == [1, 1]
    summary = result.summary()
    assert summary["majority"].tolist() == [0, 0]
    assert summary["nearer_own"].tolist() == [0, 0]


def test_order_of_sizes_and_ties_by_hand():
    train_x, train_y = [[1.0], [-1.0], [5.0], [6.0]], ["a", "b", "b", "c"]
    result = zm.vicinity(train_x, train_y, [[0.0], [5.5]], ["a", "b"], n_neighbors=(2, 4, 1))
    assert result.indices.tolist() == [[0, 1, 2, 3], [2, 3, 0, 1]]
    frame = result.to_frame()
    assert frame["sample"].tolist() == [0, 1] * 3
    assert frame["label"].tolist() == ["a", "b"] * 3
    assert frame["n_neighbors"].tolist() == [2, 2, 4, 4, 1, 1]
    assert frame["n_same"].tolist() == [1, 1, 1, 2, 1, 1]
    summary = result.summary()
    # Equal counts are no majority, and an equal distance is not nearer.
    assert summary["majority"].tolist() == [0, 0.5, 1]
    assert summary["nearer_own"].tolist() == [0, 0, 0]


def test_the_majority_is_the_nearest_neighbour_classifier():
    X, y = load_digits(return_X_y=True)
    # Distances of whole numbers tie, and scikit-learn takes any of the tied neighbours.
    X = X + np.random.default_rng(0).normal(scale=1e-3, size=X.shape)
    result = zm.vicinity(X[:1200], y[:1200], X[1200:], y[1200:], n_neighbors=(1, 9))
    for k, row in zip((1, 9), result.summary().itertuples(), strict=True):
        theirs = KNeighborsClassifier(k).fit(X[:1200], y[:1200])
        share = theirs.predict_proba(X[1200:])
        own = share[np.arange(len(share)), y[1200:]]
        best_other = np.where(np.eye(10, dtype=bool)[y[1200:]], -1, share).max(1)
        assert row.majority == (own > best_other).mean()
        assert row.n_same == pytest.approx(own.mean() * k)
    nearest = {c: KNeighborsClassifier(1).fit(X[:1200][y[:1200] == c], y[:1200][y[:1200] == c])
               for c in range(10)}  # fmt: skip
    by_class = np.column_stack([nearest[c].kneighbors(X[1200:])[0][:, 0] for c in range(10)])
    own = np.eye(10, dtype=bool)[y[1200:]]
    np.testing.assert_allclose(result.own_distance, by_class[own], rtol=1e-12)
    others = np.where(own, np.inf, by_class).min(1)
    np.testing.assert_allclose(result.other_distance, others, rtol=1e-12)


@pytest.mark.parametrize("dim", [3, 40])
def test_results_do_not_depend_on_chunks_or_threads(dim, rng, one_thread):
    train_x, test_x = rng.normal(size=(700, dim)), rng.normal(size=(300, dim))
    train_y, test_y = rng.integers(0, 3, 700), rng.integers(0, 3, 300)
    expected = zm.vicinity(train_x, train_y, test_x, test_y)
    torch.set_num_threads(2)
    for limit in (2**20, None):
        again = zm.vicinity(train_x, train_y, test_x, test_y, memory_limit=limit)
        assert again.to_frame().equals(expected.to_frame())


def test_scale_and_far_queries():
    """Queries are far outside the data, and squares of values leave the range of float64."""
    rng = np.random.default_rng(3)
    train_x, train_y = rng.normal(size=(60, 20)), rng.integers(0, 2, 60)
    test_x, test_y = rng.normal(size=(10, 20)) * np.logspace(0, 9, 10)[:, None], np.arange(10) % 2
    expected = zm.vicinity(train_x, train_y, test_x, test_y)
    check_vicinity(expected, train_x, np.eye(2)[train_y], test_x, test_y, atol=1e-5)
    for scale in (2.0**500, 2.0**-500):
        scaled = zm.vicinity(train_x * scale, train_y, test_x * scale, test_y)
        np.testing.assert_array_equal(scaled.indices, expected.indices)
        np.testing.assert_array_equal(scaled.distances, expected.distances * scale)
        np.testing.assert_array_equal(scaled.own_distance, expected.own_distance * scale)


def test_dtypes_mix(rng):
    train_x, test_x = rng.integers(0, 9, (50, 15)), rng.integers(0, 9, (5, 15))
    train_y, test_y = np.arange(50) % 2, np.arange(5) % 2
    expected = zm.vicinity(train_x, train_y, test_x, test_y).to_frame()
    for to_train, to_test in [
        (np.float32, np.float64),
        (np.float16, np.int8),
        (np.float64, np.uint8),
    ]:
        given = train_x.astype(to_train), train_y, test_x.astype(to_test), test_y
        np.testing.assert_allclose(zm.vicinity(*given).to_frame(), expected, rtol=1e-6)
    tensors = map(torch.from_numpy, (train_x, train_y, test_x, test_y))
    np.testing.assert_allclose(zm.vicinity(*tensors).to_frame(), expected)


def test_a_number_may_be_an_array():
    for k in (np.array(3), torch.tensor(3), np.int8(3)):
        assert zm.vicinity(X, Y, T, U, n_neighbors=k).n_neighbors == (3,)


def test_the_function_keeps_its_name():
    code = (
        "import zmanifold as zm; from zmanifold.measures._vicinity import VicinityResult;"
        "assert callable(zm.vicinity) and zm.VicinityResult is VicinityResult"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


X = np.random.default_rng(0).normal(size=(12, 3))
Y = np.arange(12) % 3
T, U = X[:4] + 0.1, Y[:4]
SOFT = np.eye(3)[Y]


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((X, Y, T, U), {"n_neighbors": 13}, "n_neighbors=13 needs at least 13 training samples"),
        ((X, Y, T, U), {"n_neighbors": 0}, "n_neighbors=0 is too small"),
        ((X, Y, T, U), {"n_neighbors": (0, 2)}, "n_neighbors=0 is too small: give an integer >= 1"),
        ((X, Y, T, U), {"n_neighbors": b"3"}, "n_neighbors=b'3' is not a whole number"),
        ((X, Y, T, U), {"n_neighbors": {3: 1}}, "n_neighbors={3: 1} is not a whole number"),
        ((X, Y, T, U), {"n_neighbors": ()}, "n_neighbors is empty"),
        ((X, Y, T, [[0], [1, 2], [0], [1]]), {}, r"test_y has shape \(\) for 4 samples"),
        ((X, torch.eye(12).to_sparse(), T, U), {}, "train_y is a sparse or quantized tensor"),
        ((X, torch.eye(12, device="meta"), T, U), {}, "train_y is a tensor without values"),
        ((X, SOFT[:, :2] * 0 + [0.6, 0.4], T, U), {}, "train_y holds a single class, 0"),
        ((X, Y, T, U), {"n_neighbors": 2.5}, "n_neighbors=2.5 is not a whole number"),
        ((X, Y, T[:, :2], U), {}, "test_x has 2 features but train_x has 3: give both the same"),
        ((X, Y, T, [0, 1, 2, 7]), {}, "test_y holds label 7 in row 3 but the classes are 0, 1, 2"),
        ((X, SOFT, T, [0, 1, 2, 3]), {}, "test_y holds label 3 in row 3 but the classes are"),
        ((X, SOFT, T, [0, 1, -1, 2]), {}, "test_y holds label -1 in row 2"),
        (
            (X[Y < 2], SOFT[Y < 2], T, U),
            {},
            r"label 2 in row 2 but no training sample has that class \(train_y has 0, 1\)",
        ),
        ((X, Y * 0, T, U * 0), {}, "train_y holds a single class, 0, but a vicinity needs"),
        ((X, np.ones((12, 1)), T, U * 0), {}, "train_y holds a single class, 0"),
        ((X, SOFT * [1, 1, 0], T, U), {}, "no soft labels, the first is row 2 with .* sum 0"),
        ((X, SOFT * 3 - [1, 1, 0], T, U), {}, "the first is row 0 with least entry -1 and sum 1"),
        ((X, SOFT * np.nan, T, U), {}, "give entries >= 0 that sum to 1"),
        ((X, Y.astype(float), T, U), {}, "train_y has dtype float64 but hard labels are integers"),
        ((X, Y[:5], T, U), {}, r"train_y has shape \(5,\) for 12 samples: give one"),
        ((X, Y, T, U[:2]), {}, r"test_y has shape \(2,\) for 4 samples"),
        ((X, Y, T, SOFT[:4]), {}, r"test_y has shape \(4, 3\) but test samples have one class"),
        ((X, Y, T, ["a"] * 4), {}, "test_y holds <U1 labels but the classes are 0, 1, 2"),
        ((X, Y, T[:0], U[:0]), {}, r"test_x has 0 point\(s\) .* but at least 1 is needed"),
        ((X, Y, T * np.nan, U), {}, "test_x holds 12 NaN or inf"),
        ((X * [[0]] * 1, Y, T, U), {"metric": "cosine"}, r"train_x holds 12 zero vector\(s\)"),
        ((X, Y, T * 0, U), {"metric": "cosine"}, r"test_x holds 4 zero vector\(s\), the first in"),
        ((X, Y, T, U), {"metric": "manhattan"}, "unknown metric 'manhattan'"),
        ((X, Y, T, U), {"memory_limit": 5}, "memory_limit=5 is below 1 MiB"),
    ],
)  # fmt: skip
def test_bad_input(args, kwargs, message):
    with pytest.raises(InputError, match=message):
        zm.vicinity(*args, **{"n_neighbors": 3} | kwargs)
