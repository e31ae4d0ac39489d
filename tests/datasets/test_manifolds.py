from __future__ import annotations

import numpy as np
import pytest
import zmanifold as zm
from scipy.stats import ks_2samp
from skdim.datasets import BenchmarkManifolds
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from zmanifold._base.errors import InputError
from zmanifold.datasets.manifolds import distance_to_helix

GENERATORS = [zm.make_crescents, zm.make_spirals, zm.make_helix, zm.make_paraboloid]


@pytest.mark.parametrize("make", GENERATORS)
def test_convention(make):
    X, y = make(64, random_state=3)
    again, _ = make(64, random_state=3)
    other, _ = make(64, random_state=4)
    assert X.dtype == np.float64
    assert y.dtype == np.int64
    assert X.shape[0] == y.shape[0] == 64
    np.testing.assert_array_equal(X, again)
    assert not np.array_equal(X, other)


@pytest.mark.parametrize("make", [zm.make_crescents, zm.make_spirals])
def test_two_classes_are_balanced_and_separable_at_the_default_noise(make):
    X, y = make(random_state=0)
    assert X.shape == (512, 2)
    assert np.bincount(y).tolist() == [256, 256]
    scores = cross_val_score(KNeighborsClassifier(5), X, y, cv=4)
    assert scores.mean() > 0.99


@pytest.mark.parametrize("make", [zm.make_crescents, zm.make_spirals])
def test_a_line_does_not_separate_the_classes(make):
    from sklearn.linear_model import LogisticRegression

    X, y = make(random_state=0)
    assert LogisticRegression().fit(X, y).score(X, y) < 0.95


def test_noise_has_the_deviation_asked_for():
    clean, _ = zm.make_spirals(20_000, noise=0.0, random_state=0)
    noisy, _ = zm.make_spirals(20_000, noise=0.1, random_state=0)
    assert (noisy - clean).std() == pytest.approx(0.1, rel=0.02)


def test_spiral_arms_keep_their_distance():
    X, y = zm.make_spirals(4000, noise=0.0, random_state=0)
    between = np.linalg.norm(X[y == 0][:, None] - X[y == 1][None], axis=2)
    assert 0.8 < between.min() < 1.1


def test_helix_is_scikit_dimensions_spiral():
    ours, _ = zm.make_helix(4000, random_state=0)
    theirs = BenchmarkManifolds(random_state=1).generate("M13b_Spiral", n=4000, dim=3, d=1)
    for column in range(3):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    # On the curve: the third coordinate is the angle.
    np.testing.assert_allclose(ours[:, 0], 100 * np.cos(ours[:, 2]))
    np.testing.assert_allclose(ours[:, 1], 100 * np.sin(ours[:, 2]))
    np.testing.assert_allclose(
        np.linalg.svd(np.cov(ours.T))[1], np.linalg.svd(np.cov(theirs.T))[1], rtol=0.05
    )


def test_helix_is_embedded_isometrically_and_uses_every_coordinate():
    flat, _ = zm.make_helix(300, random_state=5)
    embedded, _ = zm.make_helix(300, ambient_dim=12, random_state=5)
    other, _ = zm.make_helix(300, ambient_dim=12, random_state=6)
    assert embedded.shape == (300, 12)
    np.testing.assert_allclose(
        np.linalg.norm(embedded[:, None] - embedded[None], axis=2),
        np.linalg.norm(flat[:, None] - flat[None], axis=2),
        atol=1e-9,
    )
    assert (embedded.std(axis=0) > 1).all()
    assert not np.allclose(embedded.std(axis=0), other.std(axis=0))


@pytest.mark.parametrize(("dim", "name"), [(3, "Mp1_Paraboloid"), (6, "Mp2_Paraboloid")])
def test_paraboloid_is_scikit_dimensions(dim, name):
    ours, _ = zm.make_paraboloid(4000, intrinsic_dim=dim, random_state=0)
    ambient = 3 * (dim + 1)
    theirs = BenchmarkManifolds(random_state=1).generate(name, n=4000, dim=ambient, d=dim)
    assert ours.shape == theirs.shape
    for column in range(ambient):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    burr = ours[:, :dim]
    height = (burr**2).sum(axis=1)
    np.testing.assert_allclose(ours[:, dim], height)
    P = np.column_stack([burr, height])
    np.testing.assert_allclose(ours[:, dim + 1 :], np.hstack([np.sin(P), P**2]))
    ours_spectrum, theirs_spectrum = (np.linalg.svd(np.cov(X.T))[1] for X in (ours, theirs))
    np.testing.assert_allclose(ours_spectrum[:dim], theirs_spectrum[:dim], rtol=0.1)


@pytest.mark.parametrize(
    ("make", "kwargs", "message"),
    [
        (zm.make_helix, {"n_samples": 1}, "n_samples=1 is too small"),
        (zm.make_helix, {"n_samples": 2.5}, "n_samples=2.5 is not a whole number"),
        (zm.make_helix, {"ambient_dim": 2}, "ambient_dim=2 is too small"),
        (zm.make_paraboloid, {"intrinsic_dim": 0}, "intrinsic_dim=0 is too small"),
        (zm.make_spirals, {"noise": -0.1}, "noise=-0.1 must be a number >= 0"),
        (zm.make_crescents, {"noise": float("nan")}, "noise=nan must be"),
    ],
)
def test_bad_input(make, kwargs, message):
    with pytest.raises(InputError, match=message):
        make(**kwargs)


def test_distance_to_the_helix_against_dense_sampling():
    """Samples of the curve are never nearer, and hardly farther, than the curve itself."""
    rng = np.random.default_rng(0)
    t = np.linspace(0, 10 * np.pi, 200_001)
    curve = np.column_stack([100 * np.cos(t), 100 * np.sin(t), t])
    points = [rng.normal(size=(8, 3)) * scale + [0, 0, 15] for scale in (1e-3, 0.1, 1, 10, 60, 300)]
    points.append(zm.make_helix(20, random_state=1)[0] + rng.normal(size=(20, 3)))
    # The axis, where every turn is as near, and beyond both ends.
    points.append([[0, 0, z] for z in (-50.0, 0.0, 3.0, 31.0, 80.0)])
    points.append([[100.0, 0, -2], [100, -1, 0], [100, 0, 40], [-0.01, 0, 7], [-100, 0, 0]])
    for point, measured in zip(np.concatenate(points), distance_to_helix(np.concatenate(points)),
                               strict=True):  # fmt: skip
        sampled = np.sqrt(((curve - point) ** 2).sum(axis=1).min())
        assert measured <= sampled + 1e-9
        # The squared distance's second derivative along t is at most 2 (100 ρ + 1).
        slack = (100 * np.hypot(point[0], point[1]) + 1) * (t[1] / 2) ** 2
        assert sampled <= np.sqrt(measured**2 + slack) + 1e-9


def test_points_of_the_helix_lie_on_it():
    X, _ = zm.make_helix(2000, random_state=0)
    assert distance_to_helix(X).max() < 1e-6
    rho = np.hypot(X[:, 0], X[:, 1])
    # Moved outwards by 5, less than a turn: the foot of the point stays about where it was.
    out = X * np.column_stack([(rho + 5) / rho, (rho + 5) / rho, np.ones(len(X))])
    np.testing.assert_allclose(distance_to_helix(out), 5, rtol=1e-3)
    with pytest.raises(InputError, match="X has 12 features but the helix lies in R³"):
        distance_to_helix(zm.make_helix(10, ambient_dim=12, random_state=0)[0])
