"""Counts of eigenvalues above a fraction of the largest, by matrix products alone.

A GPU multiplies many small matrices at its full rate. PyTorch computes eigenvalues on a GPU one
matrix after the other if their order is above 32.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from zmanifold._base.rounding import UNIT_ROUNDOFF, sum_error

__all__ = ["count_by_sign_function"]

# The largest eigenvalue comes from the traces of powers: the squarings of a round, and the rounds.
_SQUARINGS, _ROUNDS = 7, 4

_UNIT = UNIT_ROUNDOFF[torch.float64]

# For a spectrum scaled into [-1, 1], eigenvalues this near the threshold may stay open.
_NEAREST = 2.0**-20


def count_by_sign_function(
    matrices: Float64[Tensor, "b r r"], alpha: float
) -> tuple[Int64[Tensor, " b"], Bool[Tensor, " b"]]:
    """Count the eigenvalues greater than alpha times the largest, where the count can be proven.

    The matrix sign function of A - sI has an eigenvalue of 1 for each eigenvalue of A above s, and
    of -1 for each below. It is computed by Newton-Schulz iteration with scaling [1]_, and its trace
    gives the count.

    Parameters
    ----------
    matrices : torch.Tensor of shape (b, r, r)
        Symmetric and positive semidefinite, up to the rounding of a product.
    alpha : float
        0 < alpha < 1.

    Returns
    -------
    counts : torch.Tensor of shape (b,)
        The counts; meaningless where they are not proven.
    proven : torch.Tensor of shape (b,)
        False for a matrix of zeros, and where an eigenvalue is too near the threshold.

    References
    ----------
    .. [1] J. Chen and E. Chow, "A stable scaling of Newton-Schulz for improving the sign function
       computation of a Hermitian matrix", Argonne National Laboratory, ANL/MCS-P5059-0114, 2014.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.dimension._inertia_gpu import count_by_sign_function
    >>> eigenvalues = torch.tensor([[4.0, 2.0, 0.1], [4.0, 0.1, 0.1]]).double()
    >>> count_by_sign_function(torch.diag_embed(eigenvalues), alpha=0.05)
    (tensor([2, 1]), tensor([True, True]))
    """
    r = matrices.shape[1]
    steps, growth, error = _plan(r)
    x = matrices / _trace(matrices)[:, None, None]
    low, high = _largest(x, (1 - alpha) / (10 * alpha * growth))
    threshold = alpha * (low + high) / 2
    beside = alpha * (high - low) / 2
    size = torch.maximum(high - threshold, threshold)
    x.diagonal(dim1=1, dim2=2).sub_(threshold[:, None])
    x /= size[:, None, None]
    squared, other = torch.empty_like(x), torch.empty_like(x)
    for a, b in steps:
        torch.bmm(x, x, out=squared)
        torch.baddbmm(x, x, squared, beta=a, alpha=-b, out=other)
        x, other = other, x
    # All eigenvalues lie in [-1, 1]: a square lacks more to 1 than its root's magnitude does.
    lacking = r - torch.linalg.vector_norm(x, dim=(1, 2)).square()
    lacking += (4 + error) * math.sqrt(r) * error + sum_error(r * r, _UNIT) * r
    counts = ((_trace(x) + r) / 2).round()
    # Squares that lack less than 0.9 in all are above 0.1: no magnitude is below 0.316, and none
    # began nearer to the threshold than 0.316 / growth. 0.31 leaves room for a thousand times the
    # rounding of traces.
    proven = (lacking < 0.9) & (growth * beside < 0.31 * size)
    return torch.where(proven, counts, 0.0).long(), proven


def _largest(
    matrices: Float64[Tensor, "b r r"], close: float
) -> tuple[Float64[Tensor, " b"], Float64[Tensor, " b"]]:
    """Return bounds on the largest eigenvalue of matrices of trace 1, `close` if possible.

    With t(m) the sum of the m-th powers of the eigenvalues, t(2m) / t(m) is a mean of m-th powers,
    and t(2m) is not below the 2m-th power of the largest.
    """
    low, high = (matrices.new_empty(len(matrices)) for _ in range(2))
    left = torch.arange(len(matrices), device=matrices.device)
    # The squared norm of power = A^m / t(m) is t(2m) / t(m)^2.
    power, log = matrices, torch.zeros_like(low)
    ratio = torch.linalg.vector_norm(power, dim=(1, 2)).square()
    m = 1.0
    for _ in range(_ROUNDS):
        for _ in range(_SQUARINGS):
            power = torch.bmm(power, power)
            power /= ratio[:, None, None]
            log, m = 2 * log + ratio.log(), 2 * m
            ratio = torch.linalg.vector_norm(power, dim=(1, 2)).square()
        below, above = (log + ratio.log()) / m, (2 * log + ratio.log()) / (2 * m)
        low[left], high[left] = below.exp(), above.exp()
        again = above - below > close
        if not bool(again.any()):
            break
        left, power, log, ratio = left[again], power[again], log[again], ratio[again]
    return low, high


def _plan(r: int) -> tuple[list[tuple[float, float]], float, float]:
    """Return steps x -> a x - b x^3, their growth of small eigenvalues, and the final error.

    Each step maps [-1, 1] into itself, changes no sign there or a little beyond, and has a slope of
    at most a: rounding errors grow no faster than an eigenvalue next to the threshold. Of such
    steps it is the one that maps [nearest, 1] to the largest minimum.
    """
    product = sum_error(r, _UNIT) * r
    nearest, growth, error = _NEAREST, 1.0, math.sqrt(r) * 4 * _UNIT
    steps = []
    while r * (1 - nearest**2) > 0.01:
        share = min(1 / (1 + nearest + nearest**2), 2 / 3)
        a = 1.5 * math.sqrt(3 * share)
        b = share * a
        steps.append((a, b))
        growth *= a
        # In Frobenius norms: two products of matrices with norms of at most sqrt(r), and the sum.
        error = 1.01 * a * error + 2.01 * b * product + 4 * _UNIT * a * math.sqrt(r)
        nearest = min(a * nearest - b * nearest**3, a - b)
    return steps, growth, error


def _trace(matrices: Float64[Tensor, "b r r"]) -> Float64[Tensor, " b"]:
    return matrices.diagonal(dim1=1, dim2=2).sum(dim=1)
