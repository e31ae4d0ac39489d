from __future__ import annotations

import numpy as np
import pytest
import torch
import zmanifold as zm
from zmanifold.dimension import _inertia_gpu as signs
from zmanifold.dimension import fo as dimension

import oracles


def rotated(spectra):
    """Matrices with these eigenvalues, up to float64's rounding."""
    spectra = torch.as_tensor(spectra, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    shape = (*spectra.shape, spectra.shape[1])
    q = torch.linalg.qr(torch.randn(shape, generator=generator, dtype=torch.float64)).Q
    return (q * spectra[:, None, :]) @ q.mT


@pytest.mark.parametrize("r", [1, 2, 3, 8, 33, 64])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.5, 0.95])
def test_counts_of_known_spectra(r, alpha, rng, device):
    spectra = rng.random((200, r)) ** 4 * 10.0 ** rng.uniform(-9, 9, (200, 1))
    relative = np.sort(spectra / spectra.max(axis=1, keepdims=True), axis=1)
    found, proven = signs.count_by_sign_function(rotated(spectra).to(device), alpha)
    expected = (relative > alpha).sum(axis=1)
    found, proven = found.cpu().numpy(), proven.cpu().numpy()
    assert (found == expected)[proven].all()
    clear = np.abs(relative - alpha).min(axis=1) > 1e-4 * alpha
    assert proven[clear].all()
    assert clear.mean() > 0.9


def test_next_to_the_threshold():
    """Right or open, never wrong; and open only where it is very near."""
    beside = np.r_[0, 10.0 ** np.arange(-15, 0)]
    for sign in (1, -1):
        spectra = [[1, 0.05 * (1 + sign * t), 0.03, 0] for t in beside]
        found, proven = (a.numpy() for a in signs.count_by_sign_function(rotated(spectra), 0.05))
        assert (found == (2 if sign > 0 else 1))[proven & (beside > 0)].all()
        assert proven[beside > 1e-4].all()
        assert not proven[beside < 1e-7].any()


@pytest.mark.parametrize("largest", [2, 3, 30])
def test_the_largest_are_nearly_equal(largest):
    """Then traces leave open which of them is the largest, and where the threshold lies."""
    t = np.concatenate([s * 10.0 ** np.arange(-9, -1, 0.25) for s in (1, -1)])
    spectra = np.ones((len(t), largest + 1))
    spectra[:, -1] = 0.5 * (1 + t)
    found, proven = (a.numpy() for a in signs.count_by_sign_function(rotated(spectra), 0.5))
    assert (found == largest + (t > 0))[proven].all()
    assert proven[np.abs(t) > 1e-3].all()
    low, high = signs._largest(rotated(spectra / spectra.sum(axis=1, keepdims=True)), 0.0)
    truth = torch.as_tensor(1 / spectra.sum(axis=1))
    assert bool(((low <= truth * (1 + 1e-12)) & (truth <= high * (1 + 1e-12))).all())


def test_what_lies_between_the_bounds_stays_open(monkeypatch):
    """The bounds of the largest eigenvalue may be as wide as they like."""
    monkeypatch.setattr(signs, "_largest", lambda A, _: (largest(A) * 0.999, largest(A) * 1.001))

    def largest(matrices):
        return torch.linalg.eigvalsh(matrices)[:, -1]

    t = np.array([-9e-4, -1e-4, 1e-4, 9e-4])
    spectra = np.c_[np.ones((4, 2)), 0.5 * (1 + t)]
    assert not signs.count_by_sign_function(rotated(spectra), 0.5)[1].any()


def test_steps_that_round_too_much_prove_nothing(monkeypatch):
    steps, growth, _ = signs._plan(3)
    monkeypatch.setattr(signs, "_plan", lambda _: (steps, growth, 0.2))
    assert not signs.count_by_sign_function(rotated([[1, 0.5, 0.3]]), 0.05)[1].any()


def test_nothing_is_proven_of_zeros():
    _, proven = signs.count_by_sign_function(torch.zeros(2, 3, 3).double(), 0.05)
    assert proven.tolist() == [False] * 2


@pytest.mark.parametrize("r", [1, 8, 128, 2000])
def test_steps_keep_signs_and_what_they_promise(r):
    x = np.concatenate([np.linspace(0, 1, 2001), np.geomspace(signs._NEAREST, 1, 2001)])
    x[0] = np.nextafter(0, 1)
    start, slope = x.copy(), np.ones_like(x)
    steps, growth, error = signs._plan(r)
    for a, b in steps:
        slope *= np.abs(a - 3 * b * x**2) / a
        x = a * x - b * x**3
        assert (x > 0).all()
        assert (x <= 1 + 1e-15).all()
        assert (slope <= 1 + 1e-12).all()
    assert (x <= growth * start * (1 + 1e-12)).all()
    assert (r * (1 - x[start >= signs._NEAREST] ** 2) < 0.02).all()
    assert growth * r**2 * 2.0**-53 < error < 0.2 / np.sqrt(r)


def test_the_error_of_the_steps_is_within_its_bound(rng):
    spectra = np.concatenate(
        [rng.uniform(-1, 1, (20, 30)), signs._NEAREST * rng.random((20, 2))], 1
    )
    x, exact = rotated(spectra), torch.as_tensor(spectra)
    steps, _, error = signs._plan(spectra.shape[1])
    for a, b in steps:
        x = a * x - b * x @ (x @ x)
        exact = a * exact - b * exact**3
    off = torch.linalg.vector_norm(x - rotated(exact), dim=(1, 2))
    assert 0 < float(off.max()) < error


def test_neighbourhoods_are_counted_as_elsewhere(rng):
    """In pieces too; of those without spread nothing is proven."""
    X = torch.as_tensor(rng.normal(size=(300, 12)) * np.arange(1, 13) ** -0.8)
    X[:40] = 3
    indices = torch.as_tensor(zm.kneighbors(X, 20)[1])
    expected, margins = oracles.fukunaga_olsen(X.numpy(), indices.numpy())
    for memory in (2**26, 1):
        out = indices.new_full((300,), -1), torch.zeros(300).bool()
        dimension._count_by_sign_function(X, indices, 0.05, memory, *out)
        found, proven = (values.numpy() for values in out)
        clear = (margins > 1e-4) & (expected > 0)
        assert (found == expected)[clear].all()
        assert proven[clear].all()
        assert (expected == 0).sum() == 40
        assert not proven[expected == 0].any()
