"""Scaling by powers of two, so that squares neither overflow nor underflow."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float32
from torch import Tensor

__all__ = ["centred_in_float32", "largest_magnitude", "rescaled", "scale_exponent", "shifted"]

# Points with magnitudes of 2**-50 to 2**50 (float32) need no scaling: their sums of squares are far
# from overflow and underflow.
_SAFE_EXPONENT = {torch.float32: 50, torch.float64: 300}

# Scaled sets get magnitudes of about 2**480, near the largest whose squares do not overflow: the
# squares of much smaller differences then do not underflow.
_SCALED_EXPONENT = 480


def rescaled(*sets: Float[Tensor, "_ d"]) -> tuple[tuple[Float[Tensor, "_ d"], ...], int]:
    """Scale sets of extreme magnitude so that squares neither overflow nor underflow.

    Parameters
    ----------
    *sets : torch.Tensor of shape (n, d)
        Finite points of one dtype; all sets get the same scale.

    Returns
    -------
    scaled : tuple of torch.Tensor
        points * 2**-exponent in float64, or the sets themselves for an exponent of 0. Squares of
        differences of scaled points below 2**-511 still underflow.
    exponent : int
        0 for ordinary data. A power of two changes no digit, so that distances and eigenvalues
        scale back exactly.

    Examples
    --------
    >>> import torch
    >>> from zmanifold._base.scaling import rescaled
    >>> rescaled(torch.ones(2, 2))[1]
    0
    """
    exponent = scale_exponent(max(map(largest_magnitude, sets)), sets[0].dtype)
    return tuple(shifted(p, exponent) for p in sets), exponent


def scale_exponent(largest: float, dtype: torch.dtype) -> int:
    """Return the exponent of the power of two to divide points by; 0 for ordinary data.

    Examples
    --------
    >>> import torch
    >>> from zmanifold._base.scaling import scale_exponent
    >>> scale_exponent(3.0, torch.float64), scale_exponent(2.0**400, torch.float64)
    (0, -79)
    """
    exponent = math.frexp(largest)[1]
    if largest == 0 or abs(exponent) < _SAFE_EXPONENT[dtype]:
        return 0
    return exponent - _SCALED_EXPONENT


def shifted(points: Float[Tensor, "n d"], exponent: int) -> Float[Tensor, "n d"]:
    """Return points * 2**-exponent in float64, or the points themselves for an exponent of 0.

    Examples
    --------
    >>> import torch
    >>> from zmanifold._base.scaling import shifted
    >>> shifted(torch.full((1, 1), 2.0), 3)
    tensor([[0.2500]], dtype=torch.float64)
    """
    if exponent == 0:
        return points
    # In two steps, because 2**-exponent is not a float64 if the data is subnormal.
    half = exponent // 2
    return points.double() * 2.0**-half * 2.0 ** (half - exponent)


def centred_in_float32(*sets: Float[Tensor, "_ d"]) -> list[Float32[Tensor, "_ d"]]:
    """Centre and scale sets in float64 by the first of them, then round them to float32.

    For libraries that compute in float32: rounding is then relative to the spread of the points,
    not to their distance from the origin. A power of two brings the first set's largest magnitude
    to at most 1.

    Parameters
    ----------
    *sets : torch.Tensor of shape (n, d)
        Finite points.

    Returns
    -------
    list of torch.Tensor
        The sets, less one point and over one power of two. Values beyond 2**127 times the first
        set's extent are infinite.

    Examples
    --------
    >>> import torch
    >>> from zmanifold._base.scaling import centred_in_float32
    >>> centred_in_float32(torch.tensor([[1e9 + 1], [1e9 + 3]], dtype=torch.float64))
    [tensor([[-0.5000],
            [ 0.5000]])]
    """
    # One point is subtracted first: the mean of points far from the origin would be rounded like
    # these.
    origin = sets[0][0].double()
    moved = [points.double() - origin for points in sets]
    centre = moved[0].mean(dim=0)
    for points in moved:
        points -= centre
    exponent = math.frexp(largest_magnitude(moved[0]))[1]
    return [shifted(points, exponent).float() for points in moved]


def largest_magnitude(points: Float[Tensor, "n d"]) -> float:
    """Return the largest absolute value, or NaN if there is one, without a temporary array.

    Examples
    --------
    >>> import torch
    >>> from zmanifold._base.scaling import largest_magnitude
    >>> largest_magnitude(torch.tensor([[-3.0, 2.0]]))
    3.0
    """
    if points.device.type == "cpu" and points.dtype != torch.bfloat16:
        # NumPy computes in this thread. torch's threads would wait for more work for a while, and
        # slow down those of a search.
        array = points.numpy()
        low, high = array.min(), array.max()
    else:
        low, high = points.aminmax()
    return max(abs(float(low)), abs(float(high)), key=lambda m: (math.isnan(m), m))
