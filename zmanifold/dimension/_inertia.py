"""Significant eigenvalues counted, not computed: Sylvester's law of inertia, compiled by numba."""

from __future__ import annotations

import math
from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Float, Int64

from zmanifold._base.kernels import (
    CACHE_LINE,
    aligned_zeros,
    kernel,
    use_widest_vectors,
)
from zmanifold.dimension._inertia_small import BATCH, NEGLIGIBLE, count_batch
from zmanifold.dimension.neighborhoods import LEAST_TRACE

__all__ = ["count_significant"]

# Sums may be taken in any order: the bound on their rounding holds for every order.
_kernel = kernel("reassoc", "contract")
# Counts depend on the signs of pivots: each operation on them rounds by itself.
_strict = kernel()

_UNIT_ROUNDOFF = 2.0**-53

# Multisection tries this number of shifts at a time: their divisions overlap in the processor.
_SHIFTS_AT_ONCE = 8

# Rows are multiplied in parts of this number of columns, which stay in the first-level cache.
_PART = 512

# Up to this order eigenvalues are counted in batches of matrices.
_MOST_BATCHED = 24


def count_significant(
    points: Float[np.ndarray, "n d"],
    indices: Int64[np.ndarray, "q k"],
    order: Int64[np.ndarray, " p"],
    alpha: float,
    dimension: Int64[np.ndarray, " q"],
    proven: Bool[np.ndarray, " q"],
) -> None:
    """Count the eigenvalues of each neighbourhood's covariance above alpha times the largest.

    The scatter matrix is formed in float64 (of the points or of the features, whichever are
    fewer) and brought to tridiagonal form by Householder reflections; the signs of the pivots of
    T - sI tell how many eigenvalues exceed s (Golub and Van Loan, *Matrix Computations*, 2013,
    sections 8.3.1 and 8.4). The largest eigenvalue comes from bisection. A count is proven if it
    is the same at both ends of what rounding leaves open around the threshold.

    Parameters
    ----------
    points : ndarray of shape (n, d)
        Finite points of any magnitude, below 2**1022.
    indices : ndarray of shape (q, k)
        Row numbers of the neighbourhoods.
    order : ndarray of shape (p,)
        The neighbourhoods to count. If each shares points with the one before it, these are still
        in the cache.
    alpha : float
        The fraction of the largest eigenvalue.
    dimension, proven : ndarray of shape (q,)
        Output: the counts (0 where all points coincide), and whether they are proven.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold.dimension._inertia import count_significant
    >>> points = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.1]])
    >>> rows = np.array([[0, 1, 2], [1, 1, 1]])
    >>> out = np.zeros(2, np.int64), np.zeros(2, bool)
    >>> count_significant(points, rows, np.arange(2), 0.05, *out)
    >>> [values.tolist() for values in out]
    [[1, 0], [True, True]]
    """
    _count(points, indices, order, alpha, dimension, proven)


@_kernel
@no_type_check
def _count(points, indices, order, alpha, dimension, proven):
    k, d = indices.shape[1], points.shape[1]
    m, length = min(k, d), max(k, d)
    # The padding of rows stays zero.
    centred = aligned_zeros(1, m, length)[0]
    mean = np.empty(d)
    padded = (m + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE
    batch = BATCH if m <= _MOST_BATCHED else 1
    scatters = aligned_zeros(batch, padded, padded)
    vectors = aligned_zeros(1, 8, padded)[0]
    # Rounding of differences, mean, products, reflections and pivots: docs/proofs.md, section 8.
    error = (length + 64 * m * m + 8 * k + 100) * _UNIT_ROUNDOFF
    if batch == 1:
        for place in range(len(order)):
            i = order[place]
            only = order[place : place + 1]
            _scatter(points, indices, only, centred, mean, scatters)
            dimension[i], proven[i] = 0, True
            if _trace(scatters[0], m) > 0:
                dimension[i], proven[i] = _decided(scatters[0], m, alpha, error, vectors)
        return
    matrices = np.empty((m, m, BATCH))
    scratch = np.empty((3 * m + 11, BATCH))
    least, sure = np.empty(BATCH), np.empty(BATCH, np.bool_)
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        _scatter(points, indices, part, centred, mean, scatters)
        for member in range(BATCH):
            # A batch that is not full repeats its last matrix.
            filled = min(member, len(part) - 1)
            for r in range(m):
                for c in range(r + 1):
                    matrices[r, c, member] = matrices[c, r, member] = scatters[filled, r, c]
        count_batch(matrices, alpha, error, scratch, least, sure)
        for member in range(len(part)):
            i = part[member]
            dimension[i], proven[i] = np.int64(least[member]), sure[member]
            if not _trace(scatters[member], m) > 0:
                dimension[i], proven[i] = 0, True
            elif not proven[i]:
                dimension[i], proven[i] = _decided(scatters[member], m, alpha, error, vectors)


@_kernel
@no_type_check
def _scatter(points, indices, order, centred, mean, scatters):
    """Compute scatter matrices divided by their trace; zero if all points coincide.

    Several neighbourhoods share a call, because a call takes as long as a small matrix.
    """
    m = len(centred)
    for member in range(len(order)):
        i = order[member]
        _scatter_one(points, indices, i, centred, mean, scatters[member])
        trace = _trace(scatters[member], m)
        # The comparisons are false for infinity and NaN, too, which sums that overflow give.
        if not (trace > LEAST_TRACE and trace < 1 / LEAST_TRACE):
            near = _scaled_differences(points, indices[i])
            everyone = np.arange(len(near)).reshape(1, -1)
            _scatter_one(near, everyone, 0, centred, mean, scatters[member])
            trace = _trace(scatters[member], m)
        if trace > 0:
            for r in range(m):
                for c in range(r + 1):
                    scatters[member, r, c] /= trace


@_kernel
@no_type_check
def _scatter_one(points, indices, i, centred, mean, scatter):
    if len(mean) <= indices.shape[1]:
        _gather_features(points, indices, i, centred)
    else:
        _gather_points(points, indices[i], centred, mean)
    _products(centred, scatter)


@_kernel
@no_type_check
def _trace(scatter, m):
    trace = 0.0
    for j in range(m):
        trace += scatter[j, j]
    return trace


@_strict
@no_type_check
def _scaled_differences(points, rows):
    """Return points less the first, times a power of two that brings the largest entry to 1."""
    k, d = len(rows), points.shape[1]
    near = np.empty((k, d))
    largest = 0.0
    for j in range(k):
        for c in range(d):
            near[j, c] = np.float64(points[rows[j], c]) - np.float64(points[rows[0], c])
            largest = max(largest, abs(near[j, c]))
    # Not above 2**1000, which float64 holds, even for a difference of 2**-1074.
    scale = math.ldexp(1.0, min(-math.frexp(largest)[1], 1000))
    for j in range(k):
        for c in range(d):
            near[j, c] *= scale
    return near


@_kernel
@no_type_check
def _decided(scatter, order, alpha, error, vectors):
    """Count the eigenvalues above alpha times the largest, and tell whether that is proven."""
    diagonal, squares = vectors[0, :order], vectors[1, :order]
    _tridiagonal(scatter, diagonal, squares, vectors[2:])
    low, high = _largest(diagonal, squares)
    most = _count_above(diagonal, squares, alpha * (low - error) - error)
    least = _count_above(diagonal, squares, alpha * (high + error) + error)
    return least, least == most


@_kernel
@no_type_check
def _gather_points(points, rows, centred, mean):
    """Write centred points as rows; the rounding of differences is relative to the spread."""
    k, d = len(rows), len(mean)
    origin = points[rows[0]]
    mean[:] = 0.0
    for j in range(k):
        point, out = points[rows[j]], centred[j]
        for c in range(d):
            x = np.float64(point[c]) - np.float64(origin[c])
            out[c] = x
            mean[c] += x
    for c in range(d):
        mean[c] /= k
    for j in range(k):
        out = centred[j]
        for c in range(d):
            out[c] -= mean[c]


@_kernel
@no_type_check
def _gather_features(points, indices, i, centred):
    """Write centred features as rows; without slices (see `zmanifold.neighbors._tree_query`)."""
    d, k = len(centred), np.uint64(indices.shape[1])
    origin = indices[i, 0]
    for j in range(k):
        row = indices[i, j]
        for c in range(d):
            centred[c, j] = np.float64(points[row, c]) - np.float64(points[origin, c])
    for c in range(d):
        total = 0.0
        for j in range(k):
            total += centred[c, j]
        total /= k
        for j in range(k):
            centred[c, j] -= total


@_kernel
@no_type_check
def _products(rows, out):
    """Write the products of rows with each other below and on the diagonal, 4 x 3 at a time.

    Parts of rows that fit into the cache are multiplied first for all rows. The 12 sums and their
    factors fill the registers of a CPU without AVX-512.
    """
    use_widest_vectors()
    m, length = rows.shape
    whole = m - m % 4
    for r in range(m):
        for c in range(min(r // 4 * 4 + 6, m)):
            out[r, c] = 0.0
    for start in range(0, length, _PART):
        stop = min(start + _PART, length)
        width = stop - start
        for i in range(0, whole, 4):
            x0, x1 = rows[i, start:stop], rows[i + 1, start:stop]
            x2, x3 = rows[i + 2, start:stop], rows[i + 3, start:stop]
            # The last of these go beyond the diagonal, and may go beyond the rows.
            for j in range(0, i + 4, 3):
                y0 = rows[j, start:stop]
                y1, y2 = rows[min(j + 1, m - 1), start:stop], rows[min(j + 2, m - 1), start:stop]
                s00 = s01 = s02 = s10 = s11 = s12 = 0.0
                s20 = s21 = s22 = s30 = s31 = s32 = 0.0
                for c in range(width):
                    a0, a1, a2, a3 = x0[c], x1[c], x2[c], x3[c]
                    b0, b1, b2 = y0[c], y1[c], y2[c]
                    s00, s01, s02 = s00 + a0 * b0, s01 + a0 * b1, s02 + a0 * b2
                    s10, s11, s12 = s10 + a1 * b0, s11 + a1 * b1, s12 + a1 * b2
                    s20, s21, s22 = s20 + a2 * b0, s21 + a2 * b1, s22 + a2 * b2
                    s30, s31, s32 = s30 + a3 * b0, s31 + a3 * b1, s32 + a3 * b2
                sums = (s00, s01, s02), (s10, s11, s12), (s20, s21, s22), (s30, s31, s32)
                for r in range(4):
                    for c in range(min(3, m - j)):
                        out[i + r, j + c] += sums[r][c]
        for i in range(whole, m):
            for j in range(i + 1):
                s = 0.0
                for c in range(np.uint64(start), np.uint64(stop)):
                    s += rows[i, c] * rows[j, c]
                out[i, j] += s


@_kernel
@no_type_check
def _tridiagonal(a, diagonal, squares, vectors):
    """Reduce a symmetric matrix of trace 1, given below its diagonal, in place.

    Reflections begin with the last row. The update a - v w' - w v' by a reflection is delayed to
    the pass that multiplies the rows above by the vector u of the next one, so that each reflection
    reads the matrix once. Rows and columns are padded with zeros to whole blocks, so that no loop
    ends within a vector instruction. Blocks on the diagonal are full, and their products with u go
    to p alone: z holds u up to the block before.
    """
    use_widest_vectors()
    n = len(diagonal)
    u, v, w = vectors[0], vectors[1], vectors[2]
    z, p, rest_of_p = vectors[3], vectors[4], vectors[5]
    v[:] = 0.0
    w[:] = 0.0
    for r in range(n):
        for c in range(r // CACHE_LINE * CACHE_LINE, r):
            a[c, r] = a[r, c]
    for m in range(n - 1, 0, -1):
        width = (m + CACHE_LINE) // CACHE_LINE * CACHE_LINE
        row = a[m]
        v_m, w_m = v[m], w[m]
        for c in range(width):
            u[c] = row[c] - (v_m * w[c] + w_m * v[c])
        diagonal[m] = u[m]
        u[m:width] = 0.0
        v[m] = w[m] = 0.0
        rest = 0.0
        for c in range(m - 1):
            rest += u[c] * u[c]
        # Squares near underflow have lost digits, and a reflection made of them would not be
        # orthogonal: they count as 0.
        if rest < NEGLIGIBLE:
            rest = 0.0
        squares[m - 1] = rest + u[m - 1] * u[m - 1]
        beta = 0.0
        if rest > 0.0:
            u[m - 1] += math.copysign(math.sqrt(squares[m - 1]), u[m - 1])
            beta = 2.0 / (rest + u[m - 1] * u[m - 1])
        p[:width] = 0.0
        z[:width] = 0.0
        _pass(a, m, u, v, w, z, p, rest_of_p)
        s = 0.0
        for c in range(m):
            p[c] *= beta
            s += p[c] * u[c]
        s *= 0.5 * beta
        for c in range(m):
            v[c], w[c] = u[c], p[c] - s * u[c]
    diagonal[0] = a[0, 0] - 2 * v[0] * w[0]


@_kernel
@no_type_check
def _pass(a, m, u, v, w, z, p, rest_of_p):
    """Subtract v w' + w v' from the first m rows and add their product with u to p."""
    use_widest_vectors()
    for start in range(0, m, CACHE_LINE):
        # `start` is a multiple of the block; written so, the compiler knows it.
        stop = start // CACHE_LINE * CACHE_LINE + CACHE_LINE
        # Four rows at a time need a quarter of the passes over v, w, z and p.
        for r in range(start, min(stop, m), 4):
            x0, x1, x2, x3 = a[r, :stop], a[r + 1, :stop], a[r + 2, :stop], a[r + 3, :stop]
            u0, u1, u2, u3 = u[r], u[r + 1], u[r + 2], u[r + 3]
            v0, v1, v2, v3 = v[r], v[r + 1], v[r + 2], v[r + 3]
            w0, w1, w2, w3 = w[r], w[r + 1], w[r + 2], w[r + 3]
            s0 = s1 = s2 = s3 = 0.0
            for c in range(stop):
                y0 = x0[c] - (v0 * w[c] + w0 * v[c])
                y1 = x1[c] - (v1 * w[c] + w1 * v[c])
                y2 = x2[c] - (v2 * w[c] + w2 * v[c])
                y3 = x3[c] - (v3 * w[c] + w3 * v[c])
                x0[c], x1[c], x2[c], x3[c] = y0, y1, y2, y3
                p[c] += u0 * y0 + u1 * y1 + u2 * y2 + u3 * y3
                s0 += y0 * z[c]
                s1 += y1 * z[c]
                s2 += y2 * z[c]
                s3 += y3 * z[c]
            rest_of_p[r], rest_of_p[r + 1], rest_of_p[r + 2], rest_of_p[r + 3] = s0, s1, s2, s3
        for c in range(start, stop):
            p[c] += rest_of_p[c]
            z[c] = u[c]


@_strict
@no_type_check
def _count_above(diagonal, squares, shift):
    """Count the eigenvalues of a tridiagonal matrix above `shift` by the signs of its pivots."""
    count = 0
    pivot = 1.0
    square = 0.0
    for i in range(len(diagonal)):
        pivot = diagonal[i] - shift - square / pivot
        if pivot == 0.0:
            pivot = -1e-300
        count += pivot > 0
        square = squares[i]
    return count


@_strict
@no_type_check
def _largest(diagonal, squares):
    """Bracket the largest eigenvalue by multisection."""
    n = len(diagonal)
    low, high = diagonal[0], 0.0
    for i in range(n):
        radius = math.sqrt(squares[i - 1]) if i > 0 else 0.0
        radius += math.sqrt(squares[i]) if i < n - 1 else 0.0
        low, high = max(low, diagonal[i]), max(high, diagonal[i] + radius)
    shifts, pivots = np.empty(_SHIFTS_AT_ONCE), np.empty(_SHIFTS_AT_ONCE)
    positive = np.empty(_SHIFTS_AT_ONCE, np.int64)
    # Few eigenvalues lie this near the threshold; those that do are computed.
    while high - low > 1e-6 * high:
        step = (high - low) / (_SHIFTS_AT_ONCE + 1)
        for s in range(_SHIFTS_AT_ONCE):
            shifts[s] = low + (s + 1) * step
        pivots[:] = 1.0
        positive[:] = 0
        square = 0.0
        for i in range(n):
            for s in range(_SHIFTS_AT_ONCE):
                pivot = diagonal[i] - shifts[s] - square / pivots[s]
                if pivot == 0.0:
                    pivot = -1e-300
                pivots[s] = pivot
                positive[s] += pivot > 0
            square = squares[i]
        below, above = low, high
        for s in range(_SHIFTS_AT_ONCE):
            if positive[s]:
                below = max(below, shifts[s])
            else:
                above = min(above, shifts[s])
        if (below, above) == (low, high):
            break
        low, high = below, above
    return low, high
