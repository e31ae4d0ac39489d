"""Counts of the significant eigenvalues of many small matrices at once, in vector instructions."""

from __future__ import annotations

import math
from typing import no_type_check

from zmanifold._base.kernels import kernel

__all__ = ["BATCH", "NEGLIGIBLE", "count_batch"]

# The number of matrices at a time. Innermost loops run over the matrices, and so become vector
# instructions.
BATCH = 32

_kernel = kernel("contract")
# Counts depend on the signs of pivots: each operation on them rounds by itself.
_strict = kernel()

# In a matrix of trace 1, sums of squares below this cannot change a count.
NEGLIGIBLE = 1e-250

# Laguerre's method triples the correct digits in each step. A matrix whose eigenvalue is not within
# the tolerance after these steps is left open.
_STEPS = 5
_TOLERANCE = 1e-7


@_kernel
@no_type_check
def count_batch(matrices, alpha, error, scratch, least, proven):
    """Count the eigenvalues above alpha times the largest, of each matrix of a batch.

    Parameters
    ----------
    matrices : ndarray of shape (m, m, BATCH)
        Symmetric matrices of trace 1; they are overwritten.
    alpha : float
        The fraction of the largest eigenvalue.
    error : float
        A bound on the rounding of eigenvalues, including that in this function.
    scratch : ndarray of shape (3 m + 11, BATCH)
        Working memory.
    least : ndarray of shape (BATCH,)
        Output: the counts.
    proven : ndarray of shape (BATCH,)
        Output: whether the counts are proven, whatever rounding did.
    """
    m = len(matrices)
    diagonal, squares, w = scratch[:m], scratch[m : 2 * m], scratch[2 * m : 3 * m]
    rest = scratch[3 * m :]
    _tridiagonal(matrices, diagonal, squares, w, rest[0], rest[1])
    top, shift, pivots = rest[0], rest[1], rest[2]
    _largest(diagonal, squares, top, rest[3:9])
    most, some = rest[3], rest[4]
    for member in range(BATCH):
        shift[member] = (1 - _TOLERANCE) * top[member]
    _count_above(diagonal, squares, shift, pivots, some)
    for member in range(BATCH):
        proven[member] = some[member] > 0
        shift[member] = (1 + _TOLERANCE) * top[member]
    _count_above(diagonal, squares, shift, pivots, some)
    for member in range(BATCH):
        proven[member] &= some[member] == 0
        shift[member] = alpha * ((1 - _TOLERANCE) * top[member] - error) - error
    _count_above(diagonal, squares, shift, pivots, most)
    for member in range(BATCH):
        shift[member] = alpha * ((1 + _TOLERANCE) * top[member] + error) + error
    _count_above(diagonal, squares, shift, pivots, least)
    for member in range(BATCH):
        proven[member] &= least[member] == most[member]


@_kernel
@no_type_check
def _tridiagonal(a, diagonal, squares, w, beta, total):
    """Reduce matrices to tridiagonal form by Householder reflections, last rows first."""
    n = len(a)
    squares[n - 1] = 0.0
    for m in range(n - 1, 0, -1):
        u, last, whole = a[m], a[m, m - 1], squares[m - 1]
        diagonal[m] = a[m, m]
        total[:] = 0.0
        for c in range(m - 1):
            u_c = u[c]
            for member in range(BATCH):
                total[member] += u_c[member] * u_c[member]
        for member in range(BATCH):
            # Squares near underflow have lost digits, and a reflection made of them would not be
            # orthogonal: they count as 0.
            rest = total[member] if total[member] >= NEGLIGIBLE else 0.0
            whole[member] = rest + last[member] * last[member]
            root = math.sqrt(whole[member])
            moved = last[member] + (root if last[member] >= 0 else -root)
            last[member] = moved if rest > 0 else last[member]
            beta[member] = 2 / (rest + moved * moved) if rest > 0 else 0.0
        total[:] = 0.0
        for r in range(m):
            w_r, u_r = w[r], u[r]
            w_r[:] = 0.0
            for c in range(m):
                a_rc, u_c = a[r, c], u[c]
                for member in range(BATCH):
                    w_r[member] += a_rc[member] * u_c[member]
            for member in range(BATCH):
                w_r[member] *= beta[member]
                total[member] += w_r[member] * u_r[member]
        for r in range(m):
            w_r, u_r = w[r], u[r]
            for member in range(BATCH):
                w_r[member] -= 0.5 * beta[member] * total[member] * u_r[member]
        for r in range(m):
            w_r, u_r = w[r], u[r]
            for c in range(m):
                a_rc, w_c, u_c = a[r, c], w[c], u[c]
                for member in range(BATCH):
                    a_rc[member] -= u_r[member] * w_c[member] + w_r[member] * u_c[member]
    diagonal[0] = a[0, 0]


@_kernel
@no_type_check
def _largest(diagonal, squares, top, scratch):
    """Approach the largest eigenvalues from above by Laguerre's method (Wilkinson, 1965).

    The characteristic polynomial and its derivatives come from the recurrence of the leading
    minors, which does not overflow for a trace of 1 and few rows.
    """
    n = len(diagonal)
    top[:] = 0.0
    for i in range(n):
        x, before, after = diagonal[i], squares[i - 1], squares[i]
        for member in range(BATCH):
            radius = math.sqrt(before[member]) + math.sqrt(after[member])
            top[member] = max(top[member], x[member] + radius)
    p_0, p_1, q_0, q_1, r_0, r_1 = (
        scratch[0], scratch[1], scratch[2], scratch[3], scratch[4], scratch[5],
    )  # fmt: skip
    for _ in range(_STEPS):
        p_0[:], q_0[:], r_0[:] = 1.0, 0.0, 0.0
        p_1[:], q_1[:], r_1[:] = diagonal[0] - top, -1.0, 0.0
        for i in range(1, n):
            x, square = diagonal[i], squares[i - 1]
            for member in range(BATCH):
                t = x[member] - top[member]
                p = t * p_1[member] - square[member] * p_0[member]
                q = t * q_1[member] - p_1[member] - square[member] * q_0[member]
                r = t * r_1[member] - 2 * q_1[member] - square[member] * r_0[member]
                p_0[member], q_0[member], r_0[member] = p_1[member], q_1[member], r_1[member]
                p_1[member], q_1[member], r_1[member] = p, q, r
        for member in range(BATCH):
            p, q, r = p_1[member], q_1[member], r_1[member]
            root = math.sqrt(max((n - 1) * ((n - 1) * q * q - n * p * r), 0.0))
            bottom = q + (root if q >= 0 else -root)
            top[member] -= n * p / bottom if bottom != 0 else 0.0


@_strict
@no_type_check
def _count_above(diagonal, squares, shift, pivots, counts):
    """Count the eigenvalues above `shift` by the signs of pivots (see `_inertia`)."""
    n = len(diagonal)
    pivots[:], counts[:] = 1.0, 0.0
    for i in range(n):
        # The last of the squares is 0.
        x, square = diagonal[i], squares[i - 1]
        for member in range(BATCH):
            pivot = x[member] - shift[member] - square[member] / pivots[member]
            pivot = pivot if pivot != 0 else -1e-300
            pivots[member] = pivot
            counts[member] += 1.0 if pivot > 0 else 0.0
