"""Properties of vicinities and of measures of mixed sets, for any points and labels."""

from __future__ import annotations

import numpy as np
import torch
import zmanifold as zm
from hypothesis import given, settings
from hypothesis import strategies as st

from measured import check_mixed_set, check_vicinity
from pointsets import ANY, GENERAL, SEEDS, point_sets

# The reference squares plain float64s, in which denormal numbers vanish, and sums them in another
# order, which can decide whether a small number beside a huge one changes a distance.
LOOPED = {kind: make for kind, make in ANY.items() if kind not in ("denormal", "scaled rows")}
# In these kinds no two distances are equal, even after rounding.
UNTIED = {kind: GENERAL[kind] for kind in ("gaussian", "flat", "tiny", "huge", "scaled columns")}


@st.composite
def labelled(draw, kinds, *, soft=None):
    """Draw training and test samples of one kind, and labels in which every class occurs."""
    X = draw(point_sets(kinds, n=(5, 40)))
    rng = np.random.default_rng(draw(SEEDS))
    n_train = draw(st.integers(3, len(X) - 1))
    n_classes = draw(st.integers(2, min(4, n_train)))
    codes = rng.permutation(np.arange(n_train) % n_classes)
    if draw(st.booleans()) if soft is None else soft:
        shares = rng.dirichlet(np.ones(n_classes), n_train)
        # The largest entry of each label is that class.
        shares[np.arange(n_train), codes] += 1
        labels = shares / shares.sum(axis=1, keepdims=True)
    else:
        labels = codes
    test_y = rng.choice(codes, len(X) - n_train)
    return X[:n_train], labels, X[n_train:], test_y


SIZES = st.lists(st.floats(0, 1), min_size=1, max_size=3)


def sizes(shares, n):
    """Neighbourhood sizes from 1 to n, each once."""
    return tuple(dict.fromkeys(1 + round(share * (n - 1)) for share in shares))


def as_shares(labels):
    return labels if labels.ndim == 2 else np.eye(labels.max() + 1)[labels]


@given(labelled(LOOPED), SIZES, st.sampled_from(["euclidean", "cosine"]))
def test_vicinity_against_the_loop(data, shares, metric):
    train_x, train_y, test_x, test_y = data
    if metric == "cosine":
        # The reference's cosine distance suffers from cancellation for nearly equal directions.
        rng = np.random.default_rng(0)
        train_x, test_x = rng.normal(size=train_x.shape), rng.normal(size=test_x.shape)
        train_x, test_x = (np.hstack([a, np.ones((len(a), 1))]) for a in (train_x, test_x))
    result = zm.vicinity(
        train_x, train_y, test_x, test_y, n_neighbors=sizes(shares, len(train_x)), metric=metric
    )
    largest = max(np.abs(train_x).max(), np.abs(test_x).max(), 1.0)
    atol = 1e-14 if metric == "cosine" else 1e-14 * largest
    check_vicinity(result, train_x, as_shares(train_y), test_x, test_y, metric, atol=atol)


@given(labelled(ANY), SIZES, st.sampled_from(["euclidean", "cosine"]))
def test_what_any_vicinity_keeps_to(data, shares, metric):
    train_x, train_y, test_x, test_y = data
    if metric == "cosine":
        train_x, test_x = (x + (x == 0).all(axis=1)[:, None] for x in (train_x, test_x))
    k_values = sizes(shares, len(train_x))
    before = [a.tobytes() for a in data]
    given_x = train_x, train_y, test_x, test_y
    result = zm.vicinity(*given_x, n_neighbors=k_values, metric=metric)
    assert [a.tobytes() for a in data] == before
    n_classes, q = as_shares(train_y).shape[1], len(test_x)
    assert result.class_counts.shape == (len(k_values), q, n_classes)
    assert (result.class_counts.sum(axis=2) == np.array(k_values)[:, None]).all()
    for large, a in zip(k_values, result.class_counts, strict=True):
        for small, b in zip(k_values, result.class_counts, strict=True):
            assert small > large or (b <= a).all()
    assert result.label_mass.min() >= 0
    assert result.label_mass.max() <= 1 + 1e-14
    assert result.entropy.min() >= 0
    assert result.entropy.max() <= np.log(n_classes) + 1e-14
    assert (np.diff(result.distances, axis=1) >= 0).all()
    nearest = np.minimum(result.own_distance, result.other_distance)
    np.testing.assert_array_equal(nearest, result.distances[:, 0])
    frame, summary = result.to_frame(), result.summary()
    assert len(frame) == len(k_values) * q
    most = [
        [own[c] > max(np.delete(own, c)) for own, c in zip(counts, result.labels, strict=True)]
        for counts in result.class_counts
    ]
    assert summary["majority"].tolist() == np.mean(most, axis=1).tolist()
    assert summary["n_same"].tolist() == frame.groupby("n_neighbors", sort=False)[
        "n_same"
    ].mean().tolist()  # fmt: skip
    again = zm.vicinity(*given_x, n_neighbors=k_values, metric=metric, memory_limit=2**20)
    assert again.to_frame().equals(frame)
    order = np.random.default_rng(0).permutation(q)
    turned = zm.vicinity(
        train_x, train_y, test_x[order], test_y[order], n_neighbors=k_values, metric=metric
    )
    np.testing.assert_array_equal(turned.class_counts, result.class_counts[:, order])
    np.testing.assert_array_equal(turned.own_distance, result.own_distance[order])
    np.testing.assert_array_equal(turned.other_distance, result.other_distance[order])


@given(labelled(UNTIED), SIZES, SEEDS, st.integers(-100, 100))
def test_order_scale_and_names_do_not_matter_to_a_vicinity(data, shares, seed, exponent):
    train_x, train_y, test_x, test_y = data
    k_values = sizes(shares, len(train_x))
    expected = zm.vicinity(*data, n_neighbors=k_values)
    order = np.random.default_rng(seed).permutation(len(train_x))
    turned = zm.vicinity(train_x[order], train_y[order], test_x, test_y, n_neighbors=k_values)
    np.testing.assert_array_equal(turned.class_counts, expected.class_counts)
    np.testing.assert_array_equal(turned.own_distance, expected.own_distance)
    np.testing.assert_allclose(turned.label_mass, expected.label_mass, rtol=1e-14)
    np.testing.assert_allclose(turned.entropy, expected.entropy, rtol=1e-13, atol=1e-14)
    scale = 2.0**exponent
    scaled = zm.vicinity(train_x * scale, train_y, test_x * scale, test_y, n_neighbors=k_values)
    np.testing.assert_array_equal(scaled.class_counts, expected.class_counts)
    np.testing.assert_array_equal(scaled.distances, expected.distances * scale)
    if train_y.ndim == 1:
        names = np.array(["ant", "bee", "cow", "dog"])
        named = zm.vicinity(train_x, names[train_y], test_x, names[test_y], n_neighbors=k_values)
        np.testing.assert_array_equal(named.class_counts, expected.class_counts)
        assert named.classes.tolist() == names[: train_y.max() + 1].tolist()


def mixed_sets(draw, kinds):
    """Draw originals with hard labels, and mixed samples with soft ones."""
    X, labels, mixed, _ = draw(labelled(kinds, soft=False))
    mixer = draw(st.sampled_from([None, zm.Mixup(), zm.ZetaMixup(1.8), zm.ZetaMixup(40.0)]))
    if draw(st.booleans()) or len(mixed) < 2:
        return X, labels, *zm.mixed_set(X, labels, mixer, batch_size=draw(st.integers(2, len(X))))
    rng = np.random.default_rng(draw(SEEDS))
    return X, labels, mixed, rng.dirichlet(np.ones(labels.max() + 1), len(mixed))


@given(st.data(), st.floats(0, 1))
def test_metrics_against_the_loop(data, share):
    # Mixed points of a lattice have distances that are equal up to rounding.
    X, labels, mixed, soft = mixed_sets(data.draw, {k: ANY[k] for k in ("gaussian", "flat")})
    k = 1 + round(share * (min(len(X), len(mixed)) - 2))
    check_mixed_set(X, labels, mixed, soft, k)


@settings(max_examples=settings().max_examples // 2)
@given(st.data(), st.floats(0, 1))
def test_what_any_mixed_set_keeps_to(data, share):
    X, labels, mixed, soft = mixed_sets(data.draw, ANY)
    k = 1 + round(share * (min(len(X), len(mixed)) - 2))
    found = zm.mixed_set_metrics(X, labels, mixed, soft, n_neighbors=k)
    for name in ("precision", "recall", "coverage"):
        assert 0 <= getattr(found, name) <= 1
    # No mixed sample is in more balls than there are.
    assert 0 <= found.density <= len(X) / k
    assert (found.density > 0) == (found.precision > 0) == (found.coverage > 0)
    assert found.contradicted_mass.min() >= 0
    assert found.contradicted_mass.max() <= 1 + 1e-9
    assert found.label_entropy.min() >= 0
    assert found.label_entropy.max() <= np.log(soft.shape[1]) + 1e-14
    assert found.distance.min() >= 0
    assert found.relative_distance.min() >= 0
    assert not np.isnan(found.relative_distance).any()
    assert found.nearest.min() >= 0
    assert found.nearest.max() < len(X)
    _, first = np.unique(X, axis=0, return_index=True)
    assert set(found.nearest) <= set(first)
    again = zm.mixed_set_metrics(X, labels, mixed, soft, n_neighbors=k, memory_limit=2**20)
    np.testing.assert_equal(again.summary(), found.summary())
    hard = zm.mixed_set_metrics(X, labels, mixed, soft.argmax(axis=1), n_neighbors=k)
    np.testing.assert_array_equal(hard.label_error, found.label_error)
    if not np.ptp(X, axis=0).any():
        assert not np.isfinite(found.spread)
    # The originals, compared with themselves, lie on the manifold.
    own = zm.mixed_set_metrics(X, labels, X, labels, n_neighbors=k).summary()
    for name in ("precision", "recall", "coverage"):
        assert own[name] == 1
    assert own["distance"] == own["relative_distance"] == own["label_entropy"] == 0


MIXERS = (None, zm.Mixup(), zm.Mixup(0.2, per_sample=True), zm.ZetaMixup(0.0), zm.ZetaMixup(2.8),
          zm.ZetaMixup((1.0, 5.0), anchored=True), zm.ZetaMixup(60.0, n_mix=2))  # fmt: skip


@given(point_sets(), st.sampled_from(MIXERS), SEEDS, st.data())
def test_mixed_set(X, mixer, seed, data):
    n, d = X.shape
    n_classes = data.draw(st.integers(1, 5))
    y = np.random.default_rng(seed).integers(0, n_classes, n)
    size = data.draw(st.integers(2, n))
    before = X.tobytes(), y.tobytes()
    options = {"batch_size": size, "seed": seed, "num_classes": n_classes}
    mixed, soft = zm.mixed_set(X, y, mixer, **options)
    assert (X.tobytes(), y.tobytes()) == before
    assert (mixed.shape, mixed.dtype) == (X.shape, np.float64)
    assert (soft.shape, soft.dtype) == ((n, n_classes), np.float64)
    assert soft.min() >= 0
    # Each sample adds one rounding error to a row of weights, and one to the sum of products.
    np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=0, atol=(2 * size + 2) * 2.0**-53)
    # Mixed samples are in the bounding box of the originals, up to that error.
    room = (2 * size + 2) * 2.0**-53 * np.abs(X).max(axis=0) + 5e-324 * size
    assert (mixed >= X.min(axis=0) - room).all()
    assert (mixed <= X.max(axis=0) + room).all()
    assert not set(np.flatnonzero(soft.any(axis=0))) - set(y)
    if isinstance(mixer, zm.Mixup) and not mixer.per_sample and n % size == 0:
        # The weights of a sample over a batch sum to 1: the total of each class is unchanged.
        np.testing.assert_allclose(soft.sum(axis=0), np.bincount(y, minlength=n_classes))
    if mixer is None:
        np.testing.assert_array_equal(mixed, X)
        np.testing.assert_array_equal(soft, np.eye(n_classes)[y])
        assert not np.shares_memory(mixed, X)
    again = zm.mixed_set(X, np.eye(n_classes)[y], mixer, batch_size=size, seed=seed,
                         memory_limit=2**20)  # fmt: skip
    np.testing.assert_array_equal(again[0], mixed)
    np.testing.assert_array_equal(again[1], soft)
    shape = (n, 1, d, 1)
    images, _ = zm.mixed_set(torch.from_numpy(X).view(shape), y, mixer, **options)
    np.testing.assert_array_equal(images, mixed.reshape(shape))
    # Labels are mixed with the weights of the points.
    joined, _ = zm.mixed_set(np.hstack([X, np.eye(n_classes)[y]]), y, mixer, **options)
    np.testing.assert_allclose(joined[:, d:], soft, rtol=0, atol=1e-15 * size)
