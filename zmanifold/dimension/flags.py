"""When a mean dimension cannot be read as it stands: the rules, and what each flag says.

The rules look at the estimates of one cell alone: the dimension at each point, the size k of the
neighbourhoods, the number d of features, and how the points and their neighbours were made.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Int64, Shaped

__all__ = ["FILLED", "FLAGS", "NOT_JUDGED", "UNKNOWN", "find_flags", "has_two_modes", "saturates"]

# Each flag with what it finds and what helps, in the order of a table's column `flags`.
FLAGS = {
    "saturated": "more than a tenth of the points lie within 1 of k - 1, the most that k "
    "neighbours span: raise k (--neighbors)",
    "bimodal": "the points' dimensions have two modes at least 3 apart, and the mean describes "
    "neither: read id_median, id_q25 and id_q75, or measure each class alone",
    "degenerate": "some neighbourhoods have no estimate, most often because all their points "
    "coincide: raise k (--neighbors) above the number of copies, or drop these",
    "few-batches": "the mixed set has fewer than ten batches, so that few random draws decide: "
    "lower the batch size (--batch-size), or take more samples",
    "low-recall": "the approximate neighbours have a recall below 0.95: search exactly "
    "(--neighbors-method exact) at fewer points (--n-queries)",
}

# What "saturated" finds where k - 1 is beyond reach, because d is smaller.
FILLED = (
    "more than half of the points have the dimension d of the space, the most that any spectrum "
    "shows there: lower k (--neighbors), or read it as data that fills its space"
)

# What the column says of a cell that was measured before there were flags, and of that cell.
UNKNOWN = "unknown"
NOT_JUDGED = (
    "an earlier version measured them, without quartiles and flags: measure them anew "
    "(--overwrite, or another --out)"
)

# More than this share within 1 of k - 1, or at d, is saturation.
_AT_K, _AT_D = 0.1, 0.5

# In up to so many features most data fills its space: a dimension of d is what it seems to be.
_FEW_FEATURES = 3

_LEAST_BATCHES = 10
_LEAST_RECALL = 0.95

# Modes are at least so far apart, and each side of the valley holds at least this share.
_APART, _SIDE = 3, 0.1

# Two peaks count as resolved where the valley falls below half of the lower one.
_DEPTH = 0.5

# The probability of so low a valley by counting noise, where it holds half of the lower peak in
# truth. Distributions with one mode, whose valleys are no valleys, are much further off: of 100,000
# samples of ten such distributions not one was called bimodal, nor of 500 data sets whose
# neighbourhoods overlap, so that their estimates are not independent.
_CHANCE = 1e-4

# Bins that a histogram has at most.
_MOST_BINS = 256


def find_flags(
    dimension: Shaped[np.ndarray, " q"],
    degenerate: Bool[np.ndarray, " q"],
    *,
    n_neighbors: int,
    n_features: int,
    n_batches: int | None = None,
    recall: float | None = None,
) -> tuple[str, ...]:
    """Return the flags of a set of estimates, in the order of `FLAGS`.

    Parameters
    ----------
    dimension : ndarray of shape (q,)
        The dimension at each point.
    degenerate : ndarray of bool, shape (q,)
        Where there is no estimate.
    n_neighbors : int
        Neighbourhood size k.
    n_features : int
        Number d of features.
    n_batches : int, optional
        Number of batches that were mixed; None of data as it is.
    recall : float, optional
        The neighbours' recall; None of exact ones.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold.dimension import find_flags
    >>> none = np.zeros(50, dtype=bool)
    >>> find_flags(np.full(50, 7), none, n_neighbors=8, n_features=64)
    ('saturated',)
    >>> find_flags(np.full(50, 7), none, n_neighbors=128, n_features=64, n_batches=2)
    ('few-batches',)
    """
    known = np.asarray(dimension, dtype=np.float64)[~degenerate]
    found = {
        "saturated": saturates(known, len(dimension), n_neighbors, n_features),
        "bimodal": has_two_modes(known),
        "degenerate": bool(degenerate.any()),
        "few-batches": n_batches is not None and n_batches < _LEAST_BATCHES,
        "low-recall": recall is not None and recall < _LEAST_RECALL,
    }
    return tuple(name for name in FLAGS if found[name])


def saturates(
    known: Shaped[np.ndarray, " p"], n_points: int, n_neighbors: int, n_features: int
) -> bool:
    """Tell whether the estimates lie at a ceiling: k - 1, or the number d of features.

    k points span k - 1 dimensions at most. The estimates saturate if more than a tenth of the
    points lie within 1 of k - 1; or, for d > 3, more than half of them at d. An estimator that
    exceeds a bound somewhere, as estimators of distances do, has no ceiling there.

    Parameters
    ----------
    known : ndarray of float64, shape (p,)
        The estimates.
    n_points : int
        Number of points, those without an estimate included.
    n_neighbors, n_features : int
        k and d.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold.dimension.flags import saturates
    >>> saturates(np.array([5.0, 6.0]), 2, 8, 64), saturates(np.array([5.0, 9.5]), 2, 8, 64)
    (True, False)
    """
    if not len(known):
        return False
    largest = known.max()
    ceiling = n_neighbors - 1
    near = np.count_nonzero(known >= ceiling - 1) > _AT_K * n_points
    # Real estimates come close to d without reaching it: they are at d where they round to it.
    full = np.count_nonzero(known >= n_features - 0.5) > _AT_D * n_points
    return bool(
        (near and largest <= ceiling)
        or (full and n_features > _FEW_FEATURES and largest <= n_features)
    )


def has_two_modes(known: Shaped[np.ndarray, " p"]) -> bool:
    """Tell whether values have two modes at least 3 apart, beyond what counting noise explains.

    The values are counted in bins of width 1, and in sliding windows of 1, 2, 4, ... bins. Of a
    distribution with one mode, no window holds less than both a window to its left and one to its
    right (the mass of windows of one width has one mode, too). Here some window holds less than
    half of both, significantly so: under a valley of exactly half, a count as low as its has a
    probability of at most 10^-4, by the binomial distribution. The two windows are the fullest on
    their sides and at least 3 apart, and each side holds a tenth of the values.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold.dimension.flags import has_two_modes
    >>> has_two_modes(np.repeat([2.0, 3.0, 13.0, 14.0], 50))
    True
    >>> has_two_modes(np.repeat([2.0, 3.0, 4.0, 5.0], 50))
    False
    """
    counts = _histogram(known)
    total = np.concatenate([[0], np.cumsum(counts)])
    width = 1
    while 3 * width <= len(counts):
        if _has_valley(total, width):
            return True
        width *= 2
    return False


def _histogram(known: Shaped[np.ndarray, " p"]) -> Int64[np.ndarray, " b"]:
    """Count values in bins of width 1, or of a larger whole number if there were too many bins.

    A hundredth at each end, which may lie anywhere, is left out: each side of a valley holds more.
    """
    nothing = np.zeros(0, dtype=np.int64)
    whole = np.rint(known[np.isfinite(known)])
    if not len(whole):
        return nothing
    low, high = map(float, np.quantile(whole, [0.01, 0.99], method="nearest"))
    if not math.isfinite(high - low):
        return nothing
    step = max(1, math.ceil((high - low + 1) / _MOST_BINS))
    kept = whole[(whole >= low) & (whole <= high)]
    return np.bincount(((kept - low) // step).astype(np.int64))


def _has_valley(total: Int64[np.ndarray, " b"], width: int) -> bool:
    """Tell whether some window of so many bins is a valley between two fuller ones."""
    from scipy.stats import binom

    held = total[width:] - total[:-width]
    middle = np.arange(width, len(held) - width)
    # The fullest window of those that end before each one begins, and of those that begin after it.
    left = _first_largest(held)[middle - width]
    right = (len(held) - 1 - _first_largest(held[::-1])[::-1])[middle + width]
    lower, valley = np.minimum(held[left], held[right]), held[middle]
    least = _SIDE * total[-1]
    sides = (total[middle] >= least) & (total[-1] - total[middle + width] >= least)
    looked_at = sides & (right - left >= _APART) & (valley < _DEPTH * lower)
    lower, valley = lower[looked_at], valley[looked_at]
    chance = binom.cdf(valley, valley + lower, _DEPTH / (1 + _DEPTH))
    return bool((chance <= _CHANCE).any())


def _first_largest(values: Int64[np.ndarray, " w"]) -> Int64[np.ndarray, " w"]:
    """For each position return that of the largest value up to there, the first of equal ones."""
    highest = np.maximum.accumulate(values)
    new = np.concatenate([[True], highest[1:] > highest[:-1]])
    return np.maximum.accumulate(np.where(new, np.arange(len(values)), 0))
