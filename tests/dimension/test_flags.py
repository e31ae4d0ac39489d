"""Flags: raised where a mean cannot be read as it stands, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import zmanifold as zm
from zmanifold.datasets import named
from zmanifold.dimension import find_flags
from zmanifold.dimension.flags import FLAGS, has_two_modes
from zmanifold.mixers import mixers_from_specs

FASHION = named._DEBIAN_FOLDER / "fashion-mnist"
SIZES = (8, 16, 32, 64, 128)


def flags(values, k, d, degenerate=0, **made):
    values = np.asarray(values)
    none = np.arange(len(values)) < degenerate
    return find_flags(values, none, n_neighbors=k, n_features=d, **made)


def shares(*pairs):
    """Values, each so many times."""
    return np.concatenate([np.full(times, value) for value, times in pairs])


@pytest.mark.parametrize(
    ("values", "k", "d", "expected"),
    [
        # More than a tenth within 1 of k - 1.
        (shares((4, 89), (6, 11)), 8, 64, True),
        (shares((4, 90), (6, 10)), 8, 64, False),
        (shares((4, 80), (5, 20)), 8, 64, False),
        (shares((4.0, 50), (5.99, 50)), 8, 64, False),
        (shares((4.0, 50), (6.01, 50)), 8, 64, True),
        # An estimator that exceeds k - 1 has no ceiling there.
        (shares((4.0, 50), (6.5, 49), (9.5, 1)), 8, 64, False),
        # More than half at d, for d > 3.
        (shares((4, 49), (5, 51)), 128, 5, True),
        (shares((4, 50), (5, 50)), 128, 5, False),
        (shares((2, 49), (3, 51)), 128, 3, False),
        (shares((2, 40), (4, 60)), 128, 4, True),
        (shares((3.2, 40), (4.7, 60)), 128, 5, True),
        (shares((3.2, 40), (4.7, 59), (6.3, 1)), 128, 5, False),
        # The smallest neighbourhoods show nothing but their ceiling.
        (np.ones(20, int), 2, 64, True),
        (np.ones(20, int), 2, 2, True),
        # A helix: both ceilings are out of reach, or no ceilings.
        (shares((1, 20), (2, 20), (3, 60)), 8, 3, False),
        (shares((1, 20), (2, 20), (3, 60)), 8, 12, False),
    ],
)
def test_saturation(values, k, d, expected):
    assert ("saturated" in flags(values, k, d)) == expected


def test_points_without_an_estimate_do_not_saturate():
    assert flags(np.zeros(20, int), 2, 64, degenerate=20) == ("degenerate",)
    assert flags(np.full(20, np.nan), 8, 64, degenerate=20) == ("degenerate",)
    # A tenth of the points, not of the estimates.
    assert flags(shares((0, 50), (4, 40), (7, 10)), 8, 64, degenerate=50) == ("degenerate",)


def test_batches_and_recall():
    values = np.full(50, 4)
    assert flags(values, 16, 64, n_batches=9) == ("few-batches",)
    assert flags(values, 16, 64, n_batches=10) == ()
    assert flags(values, 16, 64, recall=0.949) == ("low-recall",)
    assert flags(values, 16, 64, recall=0.95) == ()
    everything = shares((0, 5), (2, 100), (14, 100))
    assert flags(everything, 16, 64, degenerate=5, n_batches=1, recall=0.1) == tuple(FLAGS)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # Modes at 2 and 5, 3 apart; at 2 and 4, 2 apart.
        ([0, 0, 99, 9, 9, 99], True),
        ([0, 0, 99, 9, 99], False),
        # A peak 2 away from the other is not the fullest of its side for being 3 away.
        ([0, 50, 100, 5, 100], False),
        ([0, 0, 99, 0, 0, 99], True),
        # One side holds less than a tenth, or a tenth.
        ([0, 0, 400, 9, 0, 0, 40], False),
        ([0, 0, 400, 9, 0, 0, 50], True),
        # A shoulder, a plateau, a valley of more than half, and noise of few values.
        ([0, 0, 99, 40, 40, 40, 9], False),
        ([0, 50, 50, 50, 50, 50, 50], False),
        ([0, 0, 99, 60, 60, 99], False),
        ([0, 0, 9, 1, 1, 9], False),
        # Two broad modes, whose bins of width 1 are noisy.
        ([0, 19, 24, 16, 22, 18, 4, 2, 5, 2, 4, 17, 24, 18, 22, 19], True),
        # Three modes.
        ([0, 0, 99, 2, 2, 99, 2, 2, 99], True),
        ([200], False),
        ([], False),
    ],
)
def test_two_modes_of_counts(counts, expected):
    values = np.repeat(np.arange(len(counts)), counts).astype(float)
    assert has_two_modes(values) == expected
    assert has_two_modes(100 - values) == expected
    assert has_two_modes(np.random.default_rng(0).permutation(values)) == expected
    # Reals about them, and a few of any size.
    moved = values + np.random.default_rng(0).uniform(-0.4, 0.4, len(values))
    assert has_two_modes(np.append(moved, [1e300, -1e300] if len(moved) > 300 else [])) == expected


ONE_MODE = {
    "uniform": lambda rng, q: rng.integers(0, 30, q),
    "wide": lambda rng, q: rng.uniform(0, 300, q),
    "normal": lambda rng, q: rng.normal(20, 5, q),
    "poisson": lambda rng, q: rng.poisson(8, q),
    "exponential": lambda rng, q: rng.exponential(10, q),
    "cauchy": lambda rng, q: 3 * rng.standard_cauchy(q),
    "binomial": lambda rng, q: rng.binomial(15, 0.8, q),
}


@pytest.mark.parametrize("name", ONE_MODE)
@pytest.mark.parametrize("q", [50, 300, 2000])
def test_one_mode_is_one_however_the_noise_falls(name, q, rng):
    assert not any(has_two_modes(ONE_MODE[name](rng, q).astype(float)) for _ in range(40))


@pytest.mark.parametrize(("apart", "std"), [(3, 0.4), (6, 1), (12, 2), (60, 12)])
def test_two_modes_are_found(apart, std, rng):
    values = rng.normal(20, std, 1000) + apart * (rng.random(1000) < 0.3)
    assert has_two_modes(values)
    assert has_two_modes(np.rint(values))


def five_classes(n, seed=0):
    """Five classes of 10 dimensions each in 256-D, far apart."""
    rng = np.random.default_rng(seed)
    planes = [np.linalg.qr(rng.normal(size=(256, 10)))[0] for _ in range(5)]
    return np.vstack([
        rng.normal(size=(n // 5, 10)) @ plane.T + 30 / 16 * rng.normal(size=256)
        for plane in planes
    ])  # fmt: skip


def test_the_mean_of_mixed_classes_is_flagged():
    mixers = [None, zm.Mixup(), zm.ZetaMixup(4.0)]
    result = zm.sweep_id(
        five_classes(1500), mixers=mixers, n_neighbors=128, seeds=1, progress=False
    )
    original, mixup, zeta = result.rows
    assert original["id_mean"] == original["id_median"] == 10
    assert 6 < mixup["id_mean"] < 10
    assert mixup["id_q25"] <= 3
    assert mixup["id_q75"] >= 12
    assert [row["flags"] for row in (original, mixup, zeta)] == ["", "bimodal", ""]


def test_two_manifolds_in_one_set(rng):
    flat = np.c_[rng.normal(size=(300, 2)), np.zeros((300, 8))]
    fitted = zm.LocalPCA(n_neighbors=40).fit(np.vstack([flat, 50 + rng.normal(size=(300, 10))]))
    assert fitted.flags_ == ("bimodal",)
    assert zm.LocalPCA(n_neighbors=40).fit(flat).flags_ == ()
    one_place = np.vstack([flat, np.zeros((50, 10))])
    assert zm.LocalPCA(n_neighbors=40).fit(one_place).flags_ == ("degenerate",)
    assert zm.LocalPCA(n_neighbors=4).fit(rng.normal(size=(300, 10))).flags_ == ("saturated",)


def found(data, n_queries=None):
    """The flags of the original and mixed sets at sensible sizes, by (mixer, size)."""
    gammas = [zm.gamma_min(), 2.8, 6.0, 15.0]
    result = zm.sweep_id(
        data,
        mixers=mixers_from_specs(["none", "mixup", "zeta", "zeta-anchored"], gammas=gammas),
        n_neighbors=SIZES,
        seeds=1,
        n_queries=n_queries,
        progress=False,
    )
    return {(row["mixer"], row["gamma"], row["n_neighbors"]): row["flags"] for row in result.rows}


MANIFOLDS = ("helix-r3", "helix-r12", "paraboloid-r12", "crescents", "spirals")


@pytest.mark.parametrize("name", MANIFOLDS)
def test_nothing_is_said_of_the_manifolds(name):
    n_samples = None if name in ("crescents", "spirals") else 2000
    data = zm.load_dataset(name, n_samples=n_samples, random_state=1)
    assert set(found(data).values()) == {""}


def images(name, n_samples):
    if name == "fashion-mnist" and not FASHION.is_dir():
        pytest.skip("Fashion-MNIST is not installed")
    return zm.load_dataset(name, n_samples=n_samples, random_state=1)


@pytest.mark.parametrize(("name", "n_samples"), [("digits", None), ("fashion-mnist", 3000)])
def test_of_images_nothing_but_saturation_is_said(name, n_samples):
    """At k = 8, where it is right, and at 16 for some; from 32 on there is nothing to say."""
    said = found(images(name, n_samples), n_queries=800)
    assert {flag for (*_, k), flag in said.items() if k == 8} == {"saturated"}
    assert {flag for (*_, k), flag in said.items() if k == 16} <= {"saturated", ""}
    assert {flag for (*_, k), flag in said.items() if k >= 32} == {""}
