from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import zmanifold as zm
from zmanifold._base.errors import InputError
from zmanifold.datasets import Dataset
from zmanifold.training import make_classifier, train
from zmanifold.training._augment import randomness

from trainings import same


@pytest.mark.parametrize("mixer", [None, zm.Mixup(), zm.ZetaMixup(2.8)])
def test_it_learns(digits, mixer):
    training, test = digits
    done = train(training, mixer=mixer, epochs=15, batch_size=50, test=test, progress=False)
    frame = done.to_frame()
    assert frame["loss"].iloc[-1] < frame["loss"].iloc[0]
    assert frame["test_accuracy"].iloc[-1] == done.accuracy(test) > 0.85
    assert not done.model.training
    # The rate falls to a fifth after 40, 60 and 80 per cent of the epochs.
    expected = [0.1] * 6 + [0.02] * 3 + [0.004] * 3 + [0.0008] * 3
    np.testing.assert_allclose(frame["learning_rate"], expected)


def test_a_step_is_nesterovs_with_weight_decay(digits):
    """The reference writes the update out: v = 0.9 v + g, w -= rate (g + 0.9 v), g with decay."""
    training, _ = digits
    settings = {"epochs": 2, "batch_size": 100, "learning_rate": 0.05, "weight_decay": 0.01}
    done = train(training, seed=5, device="cpu", progress=False, **settings)
    model = make_classifier("small", (1, 8, 8), 10, seed=5)
    images = torch.from_numpy(training.points).view(-1, 1, 8, 8)
    model.standardise(images)
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    for epoch, rate in enumerate([0.05, 0.05 * 0.2]):
        shuffle, _ = randomness(5, epoch, 300, torch.device("cpu"))
        for rows in shuffle.view(3, 100):
            chosen = model(images[rows]).log_softmax(dim=1)
            loss = -chosen[torch.arange(100), torch.from_numpy(training.labels)[rows]].mean()
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for p, g, v in zip(model.parameters(), gradients, velocity, strict=True):
                    g = g + 0.01 * p
                    v.mul_(0.9).add_(g)
                    p.sub_(rate * (g + 0.9 * v))
    for ours, by_hand in zip(done.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, by_hand, rtol=1e-3, atol=2e-4)


def test_one_seed_one_result(digits):
    training, _ = digits
    settings = {"mixer": zm.Mixup(), "epochs": 2, "batch_size": 50, "flip": True, "crop": 1}
    first, again = (train(training, seed=3, progress=False, **settings) for _ in range(2))
    other = train(training, seed=4, progress=False, **settings)
    assert same(first, again)
    assert not same(first, other)
    assert first.settings["mixer"] == repr(zm.Mixup())


def test_a_test_set_may_lack_classes_and_number_them_otherwise(digits):
    training, test = digits
    some = np.flatnonzero(test.labels >= 5)
    known = tuple("abcdefghij")
    lacking = dataclasses.replace(test, points=test.points[some], labels=test.labels[some])
    renumbered = dataclasses.replace(lacking, labels=lacking.labels - 5, class_names=known[5:])
    training = dataclasses.replace(training, class_names=known)
    done = train(training, test=renumbered, epochs=2, batch_size=50, progress=False)
    right = (done.model.predict(lacking.points) == lacking.labels).mean()
    assert right > 0.3
    assert done.accuracy(lacking) == done.history[-1]["test_accuracy"] == right


def test_a_called_mixer_and_soft_labels(digits):
    training, _ = digits
    soft = dataclasses.replace(training, labels=np.eye(10)[training.labels])
    seen = []

    def watch(x, y):
        seen.append((tuple(x.shape), tuple(y.shape), torch.rand(())))
        return x, y

    plain = train(training, epochs=1, batch_size=50, progress=False)
    assert same(plain, train(soft, epochs=1, batch_size=50, progress=False))
    assert same(plain, train(training, mixer=watch, epochs=1, batch_size=50, progress=False))
    assert {entry[:2] for entry in seen} == {((50, 1, 8, 8), (50, 10))}
    drawn = [float(entry[2]) for entry in seen]
    train(training, mixer=watch, epochs=1, batch_size=50, progress=False)
    # Draws from torch's global generator depend on the seed, too.
    assert [float(entry[2]) for entry in seen[len(drawn) :]] == drawn


def test_a_diverging_loss_is_a_failure(digits):
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1: lower the learning"):
        train(digits[0], epochs=1, batch_size=50, learning_rate=1e30, progress=False)


IMAGES = Dataset(np.random.default_rng(0).random((20, 64)), np.arange(20) % 2, (1, 8, 8), None, "x")


@pytest.mark.parametrize(
    ("change", "kwargs", "message"),
    [
        ({"image_shape": None}, {}, "'x' holds no images"),
        ({"labels": None}, {}, "'x' has no labels"),
        ({"labels": np.zeros(20, int)}, {}, "'x' holds a single class but a classifier needs"),
        ({"labels": np.arange(19)}, {}, "labels has shape"),
        ({}, {"batch_size": 21}, "batch_size=21 is above the 20 images: lower batch_size"),
        ({}, {"epochs": 0}, "epochs=0 is too small"),
        ({}, {"crop": -1}, "crop=-1 is too small"),
        ({}, {"learning_rate": 0}, "learning_rate=0 must be a positive number"),
        ({}, {"weight_decay": -1}, "weight_decay=-1 must be"),
        ({}, {"arch": "resnet"}, "unknown architecture 'resnet': did you mean 'resnet18'"),
        ({}, {"mixer": "zeta"}, "mixer 'zeta' has neither weights"),
        ({}, {"device": "gpu"}, "unknown device 'gpu'"),
    ],
)
def test_bad_input(change, kwargs, message):
    with pytest.raises(InputError, match=message):
        train(
            dataclasses.replace(IMAGES, **change), **{"batch_size": 10, "progress": False} | kwargs
        )


def weighted(x, y):
    return x, y, torch.linspace(0, 2, len(x))


def test_loss_weights(digits):
    """One step by the gradient of the mean of w * CE, written out."""
    training, _ = digits
    done = train(training, mixer=weighted, epochs=1, batch_size=300, weight_decay=0, progress=False)
    model = make_classifier("small", (1, 8, 8), 10, seed=0)
    images = torch.from_numpy(training.points).view(-1, 1, 8, 8)
    model.standardise(images)
    rows, _ = randomness(0, 0, 300, torch.device("cpu"))
    chosen = model(images[rows]).log_softmax(dim=1)
    losses = -chosen[torch.arange(300), torch.from_numpy(training.labels)[rows]]
    loss = (torch.linspace(0, 2, 300) * losses).mean()
    loss.backward()
    assert done.history[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for ours, p in zip(done.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, p - 0.1 * 1.9 * p.grad, rtol=1e-3, atol=1e-4)


class Fitted:
    """Replace each sample of a batch by the sample of the same row in the set it was fitted to."""

    seen = []  # noqa: RUF012  # shared, because training calls copies of the mixer

    def fit(self, X, y):
        self.X, self.y = X, y
        self.seen.append(("fit", *X.shape, *y.shape))

    def __call__(self, x, y, indices):
        self.seen.append(len(indices))
        assert torch.equal(x, self.X[indices])
        return self.X[indices], self.y[indices]

    def __repr__(self):
        return "Fitted()"


def test_a_mixer_is_fitted_to_the_whole_set_first(digits):
    training, _ = digits
    mixer = Fitted()
    done = train(training, mixer=mixer, epochs=2, batch_size=100, progress=False)
    assert mixer.seen == [("fit", 300, 1, 8, 8, 300, 10), *[100] * 7]
    # The user's object is unchanged: a copy was fitted.
    assert not hasattr(mixer, "X")
    assert same(done, train(training, epochs=2, batch_size=100, progress=False))


def four(x, y):
    """The convention of most published code."""
    other = torch.randperm(len(x))
    return 0.7 * x + 0.3 * x[other], y, y[other], 0.7


class Buffered(torch.nn.Module):
    """A module whose buffer is called as a linear mixer's method is."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weights", torch.tensor(0.7))

    def forward(self, x, y):
        other = torch.randperm(len(x))
        return torch.lerp(x[other], x, self.weights), torch.lerp(y[other], y, self.weights)


class Drawing:
    """An object that draws weights and is not called."""

    def weights(self, batch_size):
        return 0.7 * torch.eye(batch_size) + 0.3 * torch.eye(batch_size)[torch.randperm(batch_size)]


@pytest.mark.parametrize("mixer", [Buffered(), Drawing()], ids=lambda m: type(m).__name__)
def test_each_protocol_trains_alike(digits, mixer):
    """The same mixing as a 4-tuple, a module with a buffer called weights, or by weights alone."""
    training, _ = digits
    options = {"epochs": 1, "batch_size": 50, "progress": False}
    expected, found = (train(training, mixer=m, **options) for m in (four, mixer))
    assert found.history[0]["loss"] == pytest.approx(expected.history[0]["loss"], rel=1e-4)
