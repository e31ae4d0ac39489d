"""Significant eigenvalues of many small matrices, a lane of the processor's vectors for each."""

from __future__ import annotations

import math
from typing import no_type_check

from zmanifold._base.kernels import kernel

__all__ = ["LANES", "NEGLIGIBLE", "count_in_lanes"]

# Compiled code steps through the lanes in its innermost loops, which become vector instructions.
LANES = 32

_kernel = kernel("contract")
# The sign of each pivot counts, so these are computed as they stand.
_strict = kernel()

# Of a matrix whose trace is 1, a sum of squares that cannot matter.
NEGLIGIBLE = 1e-250

# Laguerre's method triples the digits in each step; who is not there then, is left open.
_STEPS = 5
_TOLERANCE = 1e-7


@_kernel
@no_type_check
def count_in_lanes(matrices, alpha, error, scratch, least, proven):
    """Count, in each lane, the eigenvalues above alpha times the largest.

    Parameters
    ----------
    matrices : ndarray of shape (m, m, LANES)
        Symmetric, of trace 1; destroyed.
    alpha : float
        The fraction of the largest eigenvalue.
    error : float
        What rounding may have moved eigenvalues by, and will here.
    scratch : ndarray of shape (3 m + 11, LANES)
        Room for numbers.
    least : ndarray of shape (LANES,)
        Where the counts go.
    proven : ndarray of shape (LANES,)
        Where it goes whether rounding cannot have changed them.
    """
    m = len(matrices)
    diagonal, squares, w = scratch[:m], scratch[m : 2 * m], scratch[2 * m : 3 * m]
    rest = scratch[3 * m :]
    _tridiagonal(matrices, diagonal, squares, w, rest[0], rest[1])
    top, shift, pivots = rest[0], rest[1], rest[2]
    _largest(diagonal, squares, top, rest[3:9])
    most, some = rest[3], rest[4]
    for lane in range(LANES):
        shift[lane] = (1 - _TOLERANCE) * top[lane]
    _count_above(diagonal, squares, shift, pivots, some)
    for lane in range(LANES):
        proven[lane] = some[lane] > 0
        shift[lane] = (1 + _TOLERANCE) * top[lane]
    _count_above(diagonal, squares, shift, pivots, some)
    for lane in range(LANES):
        proven[lane] &= some[lane] == 0
        shift[lane] = alpha * ((1 - _TOLERANCE) * top[lane] - error) - error
    _count_above(diagonal, squares, shift, pivots, most)
    for lane in range(LANES):
        shift[lane] = alpha * ((1 + _TOLERANCE) * top[lane] + error) + error
    _count_above(diagonal, squares, shift, pivots, least)
    for lane in range(LANES):
        proven[lane] &= least[lane] == most[lane]


@_kernel
@no_type_check
def _tridiagonal(a, diagonal, squares, w, beta, total):
    """Reduce to tridiagonal form by reflections, the last rows first."""
    n = len(a)
    squares[n - 1] = 0.0
    for m in range(n - 1, 0, -1):
        u, last, whole = a[m], a[m, m - 1], squares[m - 1]
        diagonal[m] = a[m, m]
        total[:] = 0.0
        for c in range(m - 1):
            u_c = u[c]
            for lane in range(LANES):
                total[lane] += u_c[lane] * u_c[lane]
        for lane in range(LANES):
            # Squares near underflow have lost their digits: a reflection made of them is none.
            rest = total[lane] if total[lane] >= NEGLIGIBLE else 0.0
            whole[lane] = rest + last[lane] * last[lane]
            root = math.sqrt(whole[lane])
            moved = last[lane] + (root if last[lane] >= 0 else -root)
            last[lane] = moved if rest > 0 else last[lane]
            beta[lane] = 2 / (rest + moved * moved) if rest > 0 else 0.0
        total[:] = 0.0
        for r in range(m):
            w_r, u_r = w[r], u[r]
            w_r[:] = 0.0
            for c in range(m):
                a_rc, u_c = a[r, c], u[c]
                for lane in range(LANES):
                    w_r[lane] += a_rc[lane] * u_c[lane]
            for lane in range(LANES):
                w_r[lane] *= beta[lane]
                total[lane] += w_r[lane] * u_r[lane]
        for r in range(m):
            w_r, u_r = w[r], u[r]
            for lane in range(LANES):
                w_r[lane] -= 0.5 * beta[lane] * total[lane] * u_r[lane]
        for r in range(m):
            w_r, u_r = w[r], u[r]
            for c in range(m):
                a_rc, w_c, u_c = a[r, c], w[c], u[c]
                for lane in range(LANES):
                    a_rc[lane] -= u_r[lane] * w_c[lane] + w_r[lane] * u_c[lane]
    diagonal[0] = a[0, 0]


@_kernel
@no_type_check
def _largest(diagonal, squares, top, scratch):
    """Approach the largest eigenvalues from above by Laguerre's method (Wilkinson, 1965).

    The characteristic polynomial and its derivatives come from the recurrence of the leading
    minors. With a trace of 1 and few rows nothing overflows.
    """
    n = len(diagonal)
    top[:] = 0.0
    for i in range(n):
        x, before, after = diagonal[i], squares[i - 1], squares[i]
        for lane in range(LANES):
            radius = math.sqrt(before[lane]) + math.sqrt(after[lane])
            top[lane] = max(top[lane], x[lane] + radius)
    p_0, p_1, q_0, q_1, r_0, r_1 = (
        scratch[0], scratch[1], scratch[2], scratch[3], scratch[4], scratch[5],
    )  # fmt: skip
    for _ in range(_STEPS):
        p_0[:], q_0[:], r_0[:] = 1.0, 0.0, 0.0
        p_1[:], q_1[:], r_1[:] = diagonal[0] - top, -1.0, 0.0
        for i in range(1, n):
            x, square = diagonal[i], squares[i - 1]
            for lane in range(LANES):
                t = x[lane] - top[lane]
                p = t * p_1[lane] - square[lane] * p_0[lane]
                q = t * q_1[lane] - p_1[lane] - square[lane] * q_0[lane]
                r = t * r_1[lane] - 2 * q_1[lane] - square[lane] * r_0[lane]
                p_0[lane], q_0[lane], r_0[lane] = p_1[lane], q_1[lane], r_1[lane]
                p_1[lane], q_1[lane], r_1[lane] = p, q, r
        for lane in range(LANES):
            p, q, r = p_1[lane], q_1[lane], r_1[lane]
            root = math.sqrt(max((n - 1) * ((n - 1) * q * q - n * p * r), 0.0))
            bottom = q + (root if q >= 0 else -root)
            top[lane] -= n * p / bottom if bottom != 0 else 0.0


@_strict
@no_type_check
def _count_above(diagonal, squares, shift, pivots, counts):
    """Count eigenvalues above `shift` by the signs of pivots, as `_inertia` does."""
    n = len(diagonal)
    pivots[:], counts[:] = 1.0, 0.0
    for i in range(n):
        # The last of the squares is 0.
        x, square = diagonal[i], squares[i - 1]
        for lane in range(LANES):
            pivot = x[lane] - shift[lane] - square[lane] / pivots[lane]
            pivot = pivot if pivot != 0 else -1e-300
            pivots[lane] = pivot
            counts[lane] += 1.0 if pivot > 0 else 0.0
