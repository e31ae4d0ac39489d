from __future__ import annotations

import numpy as np
import pytest
import torch
import zmanifold as zm
from zmanifold._base.errors import InputError
from zmanifold.mixers.batches import Batches


@pytest.fixture
def digits():
    data = zm.load_dataset("digits", n_samples=100, random_state=0)
    return data.points, data.labels


@pytest.mark.parametrize("mixer", [zm.Mixup(), zm.ZetaMixup(2.0), zm.ZetaMixup(2.0, n_mix=3)])
def test_labels_are_mixed_as_points_are(digits, mixer):
    """One-hot labels appended to the points come out as the labels do."""
    X, y = digits
    joined = np.hstack([X.astype(float), np.eye(10)[y]])
    mixed, soft = zm.mixed_set(joined, y, mixer, batch_size=16, seed=3)
    np.testing.assert_allclose(soft, mixed[:, -10:], atol=1e-15)
    np.testing.assert_allclose(soft.sum(axis=1), 1)
    assert soft.max(axis=1).min() < 0.9


def test_it_is_the_set_that_sweeps_measure(digits):
    X, y = digits
    mixed, _ = zm.mixed_set(X, y, zm.ZetaMixup(2.8), batch_size=16, seed=5)
    swept = Batches(torch.from_numpy(X), y, None, 16, 2**20).mixed(zm.ZetaMixup(2.8), 5).numpy()
    np.testing.assert_array_equal(np.unique(mixed, axis=0), np.unique(swept, axis=0))
    assert mixed.dtype == np.float32


def test_rows_keep_their_place(digits):
    X, y = digits
    mixed, soft = zm.mixed_set(X, y, zm.ZetaMixup(30.0, anchored=True))
    np.testing.assert_allclose(mixed, X, atol=1e-6)
    np.testing.assert_array_equal(soft.argmax(axis=1), y)
    loose, _ = zm.mixed_set(X, y, zm.ZetaMixup(30.0))
    assert not np.allclose(loose, X, atol=0.1)


def test_none_copies(digits):
    X, y = digits
    mixed, soft = zm.mixed_set(X, y, None, num_classes=12)
    np.testing.assert_array_equal(mixed, X)
    assert not np.shares_memory(mixed, X)
    np.testing.assert_array_equal(soft, np.eye(12)[y])


@pytest.mark.parametrize("mixer", [zm.Mixup(), zm.Mixup(num_classes=10).forward])
def test_shape_seed_and_soft_labels(digits, mixer):
    X, y = digits
    images = X.reshape(-1, 1, 8, 8)
    mixed, soft = zm.mixed_set(images, y, mixer, seed=1)
    again, _ = zm.mixed_set(images, y, mixer, seed=1)
    other, _ = zm.mixed_set(images, y, mixer, seed=2)
    assert mixed.shape == images.shape
    np.testing.assert_array_equal(mixed, again)
    assert not np.array_equal(mixed, other)
    from_soft = zm.mixed_set(images, np.eye(10)[y], mixer, seed=1)
    np.testing.assert_array_equal(from_soft[0], mixed)
    np.testing.assert_allclose(from_soft[1], soft, atol=1e-6)


def test_a_short_last_batch_is_filled_from_the_start_of_the_shuffle(rng):
    seen = []

    def watch(x, y):
        seen.append(x)
        return x, y

    X, y = rng.normal(size=(100, 5)), np.arange(100) % 3
    mixed, soft = zm.mixed_set(X, y, watch, batch_size=32)
    assert [len(x) for x in seen] == [32] * 4
    assert torch.equal(seen[3][4:], seen[0][:28])
    # Nothing was mixed: everything is where it was.
    np.testing.assert_array_equal(mixed, X)
    np.testing.assert_array_equal(soft, np.eye(3)[y])


def test_a_called_mixer_sees_images_and_may_need_gradients(rng):
    X, y = rng.normal(size=(64, 1, 5, 8)).astype(np.float32), np.arange(64) % 2
    scale = torch.ones((), requires_grad=True)
    shapes = set()

    def watch(x, y):
        shapes.add(tuple(x.shape))
        return x * scale, torch.eye(2)[y] * scale

    assert zm.mixed_set(X, y, watch)[0].shape == X.shape
    assert shapes == {(32, 1, 5, 8)}
    mixed, _ = zm.mixed_set(X.tolist(), y.tolist(), Weights(torch.eye(32) * scale))
    np.testing.assert_array_equal(mixed, X)


def test_chunks_do_not_matter_and_mixing_is_in_float64(rng):
    X, y = rng.normal(size=(3000, 40)), np.arange(3000) % 2
    small = zm.mixed_set(X, y, zm.ZetaMixup(2.0), memory_limit=2**20)
    large = zm.mixed_set(X, y, zm.ZetaMixup(2.0), memory_limit=2**29)
    np.testing.assert_array_equal(small[0], large[0])
    np.testing.assert_array_equal(small[1], large[1])
    order = Batches(torch.from_numpy(X), y, None, 32, 2**20).rows(None, 0).order[:32]
    fixed = torch.rand(32, 32, dtype=torch.float64).softmax(dim=1)
    mixed, _ = zm.mixed_set(X, y, Weights(fixed))
    np.testing.assert_allclose(mixed[order], fixed.numpy() @ X[order], rtol=0, atol=1e-14)


class Weights:
    def __init__(self, values):
        self.values = values

    def weights(self, batch_size):
        return self.values


X, Y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((X, Y, zm.Mixup()), {"batch_size": 41}, "batch_size=41 is above the 40 points"),
        ((X, Y, zm.Mixup()), {"batch_size": 1}, "batch_size=1 is too small"),
        ((X, Y, zm.Mixup()), {"seed": -1}, "seed=-1 is too small"),
        ((X, Y, zm.Mixup()), {"num_classes": 1}, "y holds label 1 in row 1 but the classes are 0:"),
        ((X, Y - 1, zm.Mixup()), {}, "y holds the labels -1, 0 but mixing needs classes 0..K-1"),
        ((X, ["a", "b"] * 20, zm.Mixup()), {}, "y holds the labels 'a', 'b' but mixing needs"),
        ((X, Y[:3], zm.Mixup()), {}, r"y has shape \(3,\) for 40 samples"),
        ((X, Y, "mixup"), {}, "mixer 'mixup' has neither weights"),
        ((X, Y, zm.Mixup), {}, r"mixer Mixup is a class: give an object of it, Mixup\(\)"),
        ((X, Y, lambda x, y: (x, None)), {}, r"the mixer's second value has shape \(\) for 32"),
        ((X, Y, lambda x, y: (x, "ab")), {}, r"the mixer's second value has shape \(\) for 32"),
        ((X, Y, lambda x, y: (x, y + 1)), {}, "the mixer's labels holds label 2 in row"),
        ((X, Y, lambda x, y: (x, -torch.eye(2)[y])), {}, "labels holds 32 row.s. that are no soft"),
        ((X, Y, lambda x, y: (x, torch.eye(3)[y])), {}, "the mixer's labels has 3 columns"),
        ((X, Y, lambda x, y: ()), {}, "the mixer returned NoneType"),
        ((X, Y, lambda x, y: (x * np.nan, y)), {}, "made values that are not finite"),
        ((X, Y, lambda x, y: (x + 1j, y)), {}, "the mixer returned Tensor of shape"),
        ((X, Y, Weights(None)), {}, "the mixer's weights has dtype object"),
        (
            (X, Y, Weights([[1.0], [1.0, 2.0]])),
            {},
            "the mixer's weights has rows of unequal length",
        ),
        ((X, Y, Weights(torch.ones(3))), {}, r"the mixer's weights have shape \(3,\) for a batch"),
        ((X, Y, Weights(-torch.eye(32))), {}, "the mixed labels holds 40 row.s. that are no soft"),
        ((X, Y * 10**9, zm.Mixup()), {}, "y holds class 1000000000 but has 40 samples"),
        ((X, np.eye(2)[Y], zm.Mixup()), {"num_classes": 7}, "num_classes=7 but y has 2 columns"),
        (([[1.0], [1.0, 2.0]], [0, 1], None), {}, "X has rows of unequal length"),
        ((X[:0], Y[:0], None), {}, r"X has 0 point\(s\)"),
        ((X, Y, zm.ZetaMixup(n_mix=33)), {}, "n_mix=33 samples cannot be chosen from a batch"),
    ],
)
def test_bad_input(args, kwargs, message):
    with pytest.raises(InputError, match=message):
        zm.mixed_set(*args, **kwargs)
