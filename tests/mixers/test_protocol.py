"""Mixers of any kind, called in one way: what they return, and where randomness is from."""

from __future__ import annotations

import functools
import random
import threading

import numpy as np
import pytest
import torch
import zmanifold as zm
from torch import nn
from zmanifold._base.errors import InputError
from zmanifold.mixers import apply, describe, fitted, identify, label_of, strength
from zmanifold.sweep import plan

X = torch.arange(12.0, dtype=torch.float64).reshape(6, 2)
Y = torch.tensor([0, 1, 2, 0, 1, 2])
SOFT = torch.nn.functional.one_hot(Y, 3).double()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def swapped(x, y, lam=0.7):
    other = torch.randperm(len(x))
    return lam * x + (1 - lam) * x[other], y, y[other], lam


def nested(x, y):
    x_mixed, *labels = swapped(x, y)
    return x_mixed, tuple(labels)


class Gentle(nn.Module):
    """A module with a buffer called weights, which draws none."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weights", torch.ones(2))

    def forward(self, x, y):
        return x + self.weights, y


class OnlyWeights:
    def weights(self, batch_size):
        return torch.eye(batch_size).roll(1, 0)


class ApartWeights:
    """Labels stay, samples are halved with the next."""

    def weights(self, batch_size):
        eye = torch.eye(batch_size)
        return (eye + eye.roll(1, 0)) / 2, eye


def check(mixed, labels, lam):
    """Each mixed sample and its label are lam of one and 1 - lam of another sample."""
    for x, label in zip(mixed, labels, strict=True):
        pairs = [
            (i, j)
            for i in range(6)
            for j in range(6)
            if torch.allclose(lam * X[i] + (1 - lam) * X[j], x)
        ]
        assert any(torch.allclose(lam * SOFT[i] + (1 - lam) * SOFT[j], label) for i, j in pairs)


@pytest.mark.parametrize("mixer", [swapped, nested])
@pytest.mark.parametrize("y", [Y, SOFT])
def test_two_labels_and_their_share(mixer, y):
    mixed, labels, weights = apply(mixer, X, y, generator(), num_classes=3)
    check(mixed, labels.double(), 0.7)
    assert weights is None
    labels_of_sweeps = zm.mixed_set(X.numpy(), Y.numpy(), mixer, batch_size=6)[1]
    np.testing.assert_allclose(np.sort(labels_of_sweeps.max(axis=1))[0], 0.7, rtol=1e-6)


def test_one_share_a_sample():
    lam = torch.linspace(0, 1, 6)

    def mixer(x, y):
        return x, y, y.flip(0), lam

    _, labels, _ = apply(mixer, X, Y, generator(), num_classes=3)
    expected = lam[:, None] * SOFT + (1 - lam[:, None]) * SOFT.flip(0)
    torch.testing.assert_close(labels.double(), expected.double())


def test_samples_alone_and_loss_weights():
    mixed, labels, weights = apply(lambda x, y: 2 * x, X, Y, generator())
    assert torch.equal(mixed, 2 * X)
    assert labels is Y
    assert weights is None
    given = torch.arange(6.0)
    assert torch.equal(apply(lambda x, y: (x, y, given), X, Y, generator())[2], given)


def test_weights_without_a_call():
    mixed, labels, _ = apply(OnlyWeights(), X, SOFT, generator())
    assert torch.equal(mixed, X.roll(1, 0))
    assert torch.equal(labels, SOFT.roll(1, 0))
    mixed, labels, _ = apply(ApartWeights(), X, SOFT, generator())
    assert torch.equal(mixed, (X + X.roll(1, 0)) / 2)
    assert torch.equal(labels, SOFT)
    mixed, labels = zm.mixed_set(X.numpy(), Y.numpy(), ApartWeights(), batch_size=6)
    np.testing.assert_array_equal(labels, SOFT)
    assert not np.array_equal(mixed, X)


def test_ours_get_soft_labels_where_they_lack_the_number_of_classes():
    _, labels, _ = apply(zm.Mixup(), X, Y, generator(), num_classes=3)
    assert labels.shape == (6, 3)
    torch.testing.assert_close(labels.sum(dim=1).double(), torch.ones(6).double())


def test_a_buffer_called_weights_is_no_method():
    assert torch.equal(apply(Gentle(), X, Y, generator())[0], X + 1)


@pytest.mark.parametrize("draw", [np.random.rand, random.random, lambda: float(torch.rand(()))])
def test_global_generators_are_seeded_and_put_back(draw):
    def mixer(x, y):
        return x + draw(), y

    np.random.seed(5)
    random.seed(5)
    torch.manual_seed(5)
    before = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()
    first = apply(mixer, X, Y, generator(1))[0]
    after = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()
    assert before == after
    assert torch.equal(first, apply(mixer, X, Y, generator(1))[0])
    assert not torch.equal(first, apply(mixer, X, Y, generator(2))[0])
    # Of one generator, each batch has its own.
    one = generator(1)
    assert torch.equal(apply(mixer, X, Y, one)[0], first)
    assert not torch.equal(apply(mixer, X, Y, one)[0], first)


def test_inputs_never_change():
    x, y = X.clone(), SOFT.clone()
    for mixer in (swapped, OnlyWeights(), zm.Mixup(), zm.ZetaMixup(2.0)):
        apply(mixer, x, y, generator())
        assert torch.equal(x, X)
        assert torch.equal(y, SOFT)


class Nearby:
    """Each sample moves to the next row of the data set."""

    def fit(self, X, y):
        self.X = X

    def __call__(self, x, y, indices):
        assert torch.equal(self.X[indices], x)
        return self.X[(indices + 1) % len(self.X)], y


def test_a_mixer_that_is_fitted_sees_the_whole_set_and_rows():
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(70, 3)), np.arange(70) % 2
    mixer = Nearby()
    mixed, _ = zm.mixed_set(points, labels, mixer, batch_size=16)
    np.testing.assert_array_equal(mixed, np.roll(points, -1, axis=0))
    assert not hasattr(mixer, "X")
    options = {"n_neighbors": 8, "seeds": 1, "progress": False}
    found, original = (zm.sweep_id(points, mixers=[m], **options).rows[0] for m in (mixer, None))
    assert found["id_mean"] == original["id_mean"]
    assert fitted(zm.Mixup(), X, Y) is not None


class Latent:
    latent = True

    def __call__(self, x, y):
        return x.sum(dim=1, keepdim=True), y


def test_a_latent_mixer_makes_outputs_not_samples():
    assert apply(Latent(), X, Y, generator(), latent=True)[0].shape == (6, 1)
    for call in (
        lambda: apply(Latent(), X, Y, generator()),
        lambda: zm.mixed_set(X.numpy(), Y.numpy(), Latent()),
        lambda: zm.sweep_id(X.numpy(), mixers=[Latent()], n_neighbors=2),
    ):
        with pytest.raises(InputError, match="'Latent' mixes inside a network and makes no samp"):
            call()


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda x, y: (x, y, 0.3), "returned float of shape .. as third value for 6 samples"),
        (lambda x, y: (x, y, y, 0.3, 1), "returned 5 values"),
        (lambda x, y: (x, y, y, torch.ones(5)), r"lam of shape \(5,\) for 6 samples"),
        (lambda x, y: (x[:3], y), r"Tensor of shape \(3, 2\) for a batch of shape \(6, 2\)"),
        (lambda x, y: (x, y[:3]), r"the mixer's second value has shape \(3,\) for 6 samples"),
        (lambda x, y: (), "returned NoneType"),
        (lambda x, y: None, "returned NoneType"),
    ],
)
def test_what_is_no_mixed_batch_is_refused(returned, said):
    with pytest.raises(InputError, match=said):
        apply(returned, X, Y, generator(), num_classes=3)


def test_labels_that_cannot_be_mixed_are_refused():
    with pytest.raises(InputError, match="number of classes is not known: give num_classes"):
        apply(swapped, X, Y, generator())


class Toy:
    def __init__(self, p=0.5, name="a", num_classes=None):
        self.p, self.name, self.num_classes = p, name, num_classes


@pytest.mark.parametrize(
    ("mixer", "label", "strengths"),
    [
        (None, "none", {}),
        (zm.Mixup(0.4), "mixup", {"alpha": 0.4}),
        (zm.ZetaMixup(2.8, n_mix=4), "zeta-T4", {"gamma": 2.8}),
        (zm.ZetaMixup((2, 4), anchored=True), "zeta-anchored-U(2,4)", {}),
        (Toy(0.3, num_classes=4), "Toy", {"p": 0.3}),
        (swapped, "swapped", {}),
        (functools.partial(swapped, lam=0.2), "swapped", {"lam": 0.2}),
    ],
)
def test_names_and_strengths(mixer, label, strengths):
    assert label_of(mixer) == label
    assert strength(mixer) == strengths
    assert "0x" not in describe(mixer)


def test_what_cannot_be_recognised_needs_a_name(tmp_path):
    lock = threading.Lock()

    def own(x, y):
        with lock:
            return x, y

    assert identify(own) is None
    points, _ = zm.make_helix(100, random_state=0)
    options = {"n_neighbors": 4, "seeds": 1, "progress": False}
    journal = tmp_path / "a.journal"
    assert zm.sweep_id(points, mixers=[own], **options).rows
    with pytest.raises(InputError, match="'own' has a state or code that cannot be read"):
        zm.sweep_id(points, mixers=[own], journal=journal, **options)
    named = {"mixers": {"my own": own}, "journal": journal, **options}
    first = zm.sweep_id(points, **named).rows[0]["seconds"]
    assert zm.sweep_id(points, **named).rows[0]["seconds"] == first


def test_two_mixers_of_one_name_are_not_confused(tmp_path):
    points, _ = zm.make_helix(200, random_state=0)
    options = {"n_neighbors": 4, "seeds": 1, "progress": False, "journal": tmp_path / "a.journal"}
    for mixer in (zm.Mixup(), zm.Mixup(per_sample=True)):
        row = zm.sweep_id(points, mixers={"m": mixer}, **options).rows[0]
        alone = zm.sweep_id(points, mixers={"m": mixer}, **options | {"journal": None}).rows[0]
        assert row["id_mean"] == alone["id_mean"]


@pytest.mark.parametrize(("sd", "expected"), [(0.0, 1.975), (1.0, 1246 / 600)])
def test_a_journal_tells_states_of_one_class_apart(tmp_path, sd, expected):
    """Each state of a user's mixer gets its own number, whichever was in the journal first."""

    class Jitter:
        def __init__(self, sd):
            self.sd = sd

        def __call__(self, x, y):
            return x + self.sd * torch.randn_like(x), y

    points, _ = zm.make_helix(600, random_state=0)
    options = {"n_neighbors": 8, "seeds": 1, "progress": False}
    journal = tmp_path / "a.journal"
    zm.sweep_id(points, mixers=[Jitter(1.0 - sd)], journal=journal, **options)
    found = zm.sweep_id(points, mixers=[Jitter(sd)], journal=journal, **options).rows[0]["id_mean"]
    assert found == zm.sweep_id(points, mixers=[Jitter(sd)], **options).rows[0]["id_mean"]
    assert found == expected


def inner_set(x, y):
    return zm.mixed_set(x, y, zm.ZetaMixup(), batch_size=16)


def inner_sweep(x, y):
    found = zm.sweep_id(x, mixers=[swapped], n_neighbors=4, seeds=1, progress=False)
    return x + found.rows[0]["id_mean"], y


@pytest.mark.parametrize("mixer", [inner_set, inner_sweep])
def test_a_mixer_may_measure_and_mix_itself(mixer):
    points, labels = zm.make_crescents(96, random_state=0)
    mixed, soft = zm.mixed_set(points, labels, mixer)
    assert not np.array_equal(mixed, points)
    np.testing.assert_allclose(soft.sum(axis=1), 1)
    again, _ = zm.mixed_set(points, labels, mixer)
    np.testing.assert_array_equal(mixed, again)
    options = {"n_neighbors": 4, "seeds": 1, "progress": False}
    assert zm.sweep_id(points, mixers=[mixer], **options).rows


def test_threads_that_a_mixer_starts_do_not_wait_for_it(tmp_path, monkeypatch):
    """A stream's threads call its mixer; they wait for each other, not for the mixer outside."""
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(3000, 3)))
    mapped = np.load(path, mmap_mode="r")
    monkeypatch.setattr(plan, "holds", lambda *_: False)
    options = {"n_neighbors": 4, "n_queries": 8, "seeds": 1, "progress": False}
    inside = zm.sweep_id(mapped, mixers=[swapped], **options).rows[0]["id_mean"]

    def streaming(x, y):
        found = zm.sweep_id(mapped, mixers=[swapped], **options)
        return x + found.rows[0]["id_mean"], y

    mixed = apply(streaming, X, Y, generator(), num_classes=3)[0]
    assert torch.equal(mixed, X + inside)


def test_arrays_are_samples_too():
    def mixer(x, y):
        return x.numpy() * 2, y.numpy()

    mixed, labels, _ = apply(mixer, X, Y, generator())
    assert torch.equal(mixed, 2 * X)
    assert torch.equal(labels, Y)


@pytest.mark.parametrize("mixer", [swapped, OnlyWeights(), zm.Mixup()])
def test_classes_that_no_label_can_have_are_refused(mixer):
    with pytest.raises(InputError, match=r"holds classes -100 to 2 .*: leave such samples out"):
        apply(mixer, X, Y.where(Y != 1, -100), generator(), num_classes=3)


@pytest.mark.parametrize("mixer", [zm.Mixup(), OnlyWeights(), swapped])
def test_numbers_to_predict_are_mixed_as_samples_are(mixer):
    """Numbers are no classes: 0.9 must not become class 0."""
    mixed, numbers, _ = apply(mixer, X, X[:, 0] * 0.1, generator(), num_classes=3)
    torch.testing.assert_close(numbers, mixed[:, 0] * 0.1)
