"""Synthetic manifolds with known geometry, in scikit-learn's make_* convention."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import make_moons
from sklearn.utils import check_random_state

from zmanifold._base.ambient import ambient_outside
from zmanifold._base.arrays import as_points
from zmanifold._base.checks import check_count, is_number
from zmanifold._base.errors import InputError

__all__ = [
    "distance_to_helix",
    "make_crescents",
    "make_helix",
    "make_paraboloid",
    "make_spirals",
]

Points = NDArray[np.float64]
Labels = NDArray[np.int64]

_HELIX_RADIUS = 100
_HELIX_TURNS = 5
_HELIX_END = 2 * np.pi * _HELIX_TURNS


@ambient_outside()
def make_crescents(
    n_samples: int = 512, *, noise: float = 0.1, random_state: Any = None
) -> tuple[Points, Labels]:
    """Make two interleaving crescents in the plane.

    Parameters
    ----------
    n_samples : int, default=512
        Number of points, half of them in each class.
    noise : float, default=0.1
        Standard deviation of the Gaussian noise on every coordinate.
    random_state : int, RandomState or None, default=None
        Source of randomness; an int makes the output repeatable.

    Returns
    -------
    X : ndarray of float64, shape (n_samples, 2)
        Points on two half circles of radius 1, plus noise.
    y : ndarray of int64, shape (n_samples,)
        Classes 0 and 1.

    Raises
    ------
    InputError
        If `n_samples` is below 2 or `noise` negative.

    Examples
    --------
    >>> import zmanifold as zm
    >>> X, y = zm.make_crescents(random_state=0)
    >>> X.shape
    (512, 2)
    """
    n = check_count("n_samples", n_samples, least=2)
    X, y = make_moons(n, noise=_check_noise(noise), random_state=check_random_state(random_state))
    return X, y.astype(np.int64)


@ambient_outside()
def make_spirals(
    n_samples: int = 512, *, noise: float = 0.1, random_state: Any = None
) -> tuple[Points, Labels]:
    """Make two interleaving Archimedean spirals in the plane.

    The arms r = θ / π, one half a turn behind the other, run 1.5 turns from r = 0.5 to 3.5 and
    keep a distance of about 1 from each other: ten standard deviations of the default noise.

    Parameters
    ----------
    n_samples : int, default=512
        Number of points, half of them in each class.
    noise : float, default=0.1
        Standard deviation of the Gaussian noise on every coordinate.
    random_state : int, RandomState or None, default=None
        Source of randomness; an int makes the output repeatable.

    Returns
    -------
    X : ndarray of float64, shape (n_samples, 2)
        Points, nearly uniform in arc length.
    y : ndarray of int64, shape (n_samples,)
        Classes 0 and 1.

    Raises
    ------
    InputError
        If `n_samples` is below 2 or `noise` negative.

    Examples
    --------
    >>> import zmanifold as zm
    >>> X, y = zm.make_spirals(random_state=0)
    >>> X.shape
    (512, 2)
    """
    n = check_count("n_samples", n_samples, least=2)
    rng = check_random_state(random_state)
    y = rng.permutation(np.arange(n, dtype=np.int64) % 2)
    # Arc length grows with the square of the angle.
    angle = np.sqrt(rng.uniform((0.5 * np.pi) ** 2, (3.5 * np.pi) ** 2, n))
    turned = angle + np.pi * y
    X = (angle / np.pi)[:, None] * np.column_stack([np.cos(turned), np.sin(turned)])
    return X + _check_noise(noise) * rng.standard_normal(X.shape), y


@ambient_outside()
def make_helix(
    n_samples: int = 8192, *, ambient_dim: int = 3, noise: float = 0.0, random_state: Any = None
) -> tuple[Points, Labels]:
    """Make a one-dimensional helix: (100 cos t, 100 sin t, t), t uniform on [0, 10π).

    Parameters
    ----------
    n_samples : int, default=8192
        Number of points.
    ambient_dim : int, default=3
        Number of coordinates, >= 3. Above 3 the helix is embedded by a random rotation drawn
        from `random_state`: distances stay and every coordinate is used.
    noise : float, default=0.0
        Standard deviation of the Gaussian noise on every coordinate.
    random_state : int, RandomState or None, default=None
        Source of randomness; an int makes the output repeatable, and gives the same t for every
        `ambient_dim`.

    Returns
    -------
    X : ndarray of float64, shape (n_samples, ambient_dim)
        Points of the curve of scikit-dimension's ``M13b_Spiral`` [1]_.
    y : ndarray of int64, shape (n_samples,)
        All zero: the helix has one class.

    Raises
    ------
    InputError
        If `n_samples` is below 2, `ambient_dim` below 3 or `noise` negative.

    References
    ----------
    .. [1] M. Hein and J.-Y. Audibert, "Intrinsic dimensionality estimation of submanifolds in
       R^d", ICML 2005.

    Examples
    --------
    >>> import zmanifold as zm
    >>> X, y = zm.make_helix(100, ambient_dim=12, random_state=0)
    >>> X.shape
    (100, 12)
    """
    n = check_count("n_samples", n_samples, least=2)
    dim = check_count("ambient_dim", ambient_dim, least=3)
    rng = check_random_state(random_state)
    t = _HELIX_END * rng.uniform(size=n)
    X = np.column_stack([_HELIX_RADIUS * np.cos(t), _HELIX_RADIUS * np.sin(t), t])
    if dim > 3:
        # The three orthonormal columns of a Gaussian matrix span a uniformly random subspace.
        axes, _ = np.linalg.qr(rng.standard_normal((dim, 3)))
        X = X @ axes.T
    return X + _check_noise(noise) * rng.standard_normal(X.shape), np.zeros(n, dtype=np.int64)


@ambient_outside()
def distance_to_helix(X: Any) -> NDArray[np.float64]:
    """Measure the distance of points in R³ to the curve of `make_helix`.

    Parameters
    ----------
    X : array-like of shape (n, 3)
        Points.

    Returns
    -------
    ndarray of float64, shape (n,)
        Distances to (R cos t, R sin t, t), 0 <= t <= 10π, R = 100; 1e-6 off at the most, for
        points up to a million away.

    Raises
    ------
    InputError
        If `X` is no finite array of points in R³.

    Notes
    -----
    With ρ and φ the polar coordinates of (x, y), the squared distance is
    R² + ρ² - 2Rρ cos(t - φ) + (z - t)². Once a turn the cosine has its peak, at φ + 2πj: around
    each of these, half a turn to either side and inside the curve, the best of 65 values is
    refined by bisection of the derivative.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.datasets.manifolds import distance_to_helix
    >>> X, _ = zm.make_helix(100, random_state=0)
    >>> bool(distance_to_helix(X).max() < 1e-6)
    True
    >>> distance_to_helix([[100.0, 0.0, -3.0]]).tolist()
    [3.0]
    """
    points = as_points(X, min_samples=1, device=torch.device("cpu"))
    if points.shape[1] != 3:
        raise InputError(
            f"X has {points.shape[1]} features but the helix lies in R³: give 3 columns."
        )
    x, y, z = points.double().numpy().T[:, :, None]
    rho, phi = np.hypot(x, y), np.arctan2(y, x)
    # One row a point, one column a turn; windows outside the curve shrink to its end.
    middle = phi + 2 * np.pi * np.arange(_HELIX_TURNS + 1)
    low, high = (np.clip(middle + side, 0, _HELIX_END) for side in (-np.pi, np.pi))

    def excess(t: Any) -> Any:
        """Squared distance without the terms that do not depend on t, in a stable form."""
        return 4 * _HELIX_RADIUS * rho * np.sin((t - phi) / 2) ** 2 + (z - t) ** 2

    best, least = low.copy(), excess(low)
    n_steps = 64
    step = (high - low) / n_steps
    for i in range(1, n_steps + 1):
        value = excess(low + i * step)
        better = value < least
        best, least = np.where(better, low + i * step, best), np.where(better, value, least)
    low, high = np.maximum(best - step, low), np.minimum(best + step, high)
    for _ in range(60):
        t = (low + high) / 2
        falling = _HELIX_RADIUS * rho * np.sin(t - phi) + t - z < 0
        low, high = np.where(falling, t, low), np.where(falling, high, t)
    least = excess((low + high) / 2).min(axis=1)
    distance: NDArray[np.float64] = np.sqrt((rho[:, 0] - _HELIX_RADIUS) ** 2 + least)
    return distance


@ambient_outside()
def make_paraboloid(
    n_samples: int = 8192, *, intrinsic_dim: int = 3, noise: float = 0.0, random_state: Any = None
) -> tuple[Points, Labels]:
    """Make a paraboloid, nonlinearly embedded in 3 (d + 1) dimensions.

    Parameters
    ----------
    n_samples : int, default=8192
        Number of points.
    intrinsic_dim : int, default=3
        Dimension d of the paraboloid, >= 1.
    noise : float, default=0.0
        Standard deviation of the Gaussian noise on every coordinate.
    random_state : int, RandomState or None, default=None
        Source of randomness; an int makes the output repeatable.

    Returns
    -------
    X : ndarray of float64, shape (n_samples, 3 * (intrinsic_dim + 1))
        With P = (B, |B|²) and B from a multivariate Burr distribution (α = 1): P, sin P and P²
        side by side. This is scikit-dimension's ``Mp1_Paraboloid`` for d = 3, ``Mp2`` for 6 and
        ``Mp3`` for 9 [1]_.
    y : ndarray of int64, shape (n_samples,)
        All zero: the paraboloid has one class.

    Raises
    ------
    InputError
        If `n_samples` is below 2, `intrinsic_dim` below 1 or `noise` negative.

    References
    ----------
    .. [1] P. Campadelli et al., "Intrinsic dimension estimation: relevant techniques and a
       benchmark framework", Mathematical Problems in Engineering, 2015.

    Examples
    --------
    >>> import zmanifold as zm
    >>> X, y = zm.make_paraboloid(100, random_state=0)
    >>> X.shape
    (100, 12)
    """
    n = check_count("n_samples", n_samples, least=2)
    dim = check_count("intrinsic_dim", intrinsic_dim)
    rng = check_random_state(random_state)
    exponentials = rng.standard_exponential((dim + 1, n))
    burr = 1 / (1 + exponentials[1:] / exponentials[0])
    P = np.column_stack([burr.T, (burr**2).sum(axis=0)])
    X = np.hstack([P, np.sin(P), P**2])
    return X + _check_noise(noise) * rng.standard_normal(X.shape), np.zeros(n, dtype=np.int64)


def _check_noise(noise: Any) -> float:
    if not (is_number(noise) and noise >= 0):
        raise InputError(f"noise={noise!r} must be a number >= 0: it is a standard deviation.")
    return float(noise)
