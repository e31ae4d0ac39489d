"""Queries of a k-d tree: the k nearest points by (distance, row number), compiled by numba."""

from __future__ import annotations

import math
from typing import no_type_check

import numpy as np
from numba import njit

from zmanifold._base.kernels import kernel
from zmanifold.neighbors._sorting import sort_first
from zmanifold.neighbors._tree_build import LEAF

__all__ = ["query"]

# Without fast-math flags: the computed distance of a box is never above that of its points only if
# each operation rounds by itself and in order. Loops take no slices: numba counts references to
# them, which takes a quarter of the time of a search. Loop bounds are unsigned: with signed ones
# numba tests each index for a sign, and the loops do not become vector instructions.
_kernel = kernel()

# Steps of `query` are inlined: a call with so many arrays takes as long as a step.
_step = njit(inline="always")

# Up to this number of points, all are compared with each other to sort them.
_RANKED = 128

# The number of queries that share the descent from the root.
_TOGETHER = 16


@_kernel
@no_type_check
def query(rows, columns, boxes, spans, cuts, at, own, order, distances, indices, in_order):
    d = at.shape[1]
    k, w = indices.shape[1], distances.shape[1]
    # A full list is cut back to the k nearest.
    size = 2 * k + 4 * LEAF
    found, sorted_found = np.empty(size), np.empty(size)
    near, sorted_near = np.empty(size, np.int64), np.empty(size, np.int64)
    ends = np.empty(size + 1, np.int64)
    leaf = np.empty(2 * LEAF)
    pending, bounds = np.empty(64, np.int64), np.empty(64)
    x, low, high = np.empty(d), np.empty(d), np.empty(d)
    limit = reach = np.inf
    before = order[0]
    root = until = 0
    for place in range(len(order)):
        i = order[place]
        if place == until:
            until = min(place + (_TOGETHER if limit < np.inf else 1), len(order))
            root, reach = _common_root(boxes, at, order[place:until], before, limit, low, high)
        way = 0.0
        for c in range(d):
            x[c] = at[i, c]
            way += (x[c] - at[before, c]) ** 2
        limit = min(reach, _widened(limit, way, d))
        limit_row = np.int64(len(rows))
        squared = _square_above(limit)
        count = rooted = 0
        top = 1
        pending[0], bounds[0] = root, 0.0
        while top:
            top -= 1
            node = pending[top]
            if bounds[top] > squared:
                continue
            bound = _squared_distance_of_box(boxes, node, x)
            if bound > squared:
                continue
            if spans[node, 2] > limit_row and math.sqrt(bound) >= limit:
                continue
            if 2 * node + 2 < len(spans):
                top = _descend(spans, cuts, x, node, squared, pending, bounds, top)
                continue
            count = _list_leaf(
                rows, columns, spans, x, node, own[i], squared, leaf, found, near, count
            )
            if count > size - 2 * LEAF:
                _take_roots(found, rooted, count)
                sort_first(found, near, count, k, False, sorted_found, sorted_near, ends)
                for j in range(k):
                    found[j], near[j] = sorted_found[j], sorted_near[j]
                rooted = count = k
                limit, limit_row = found[k - 1], near[k - 1]
                squared = _square_above(limit)
        _take_roots(found, rooted, count)
        if count > _RANKED or not _sort_by_ranks(found, near, count, sorted_found, sorted_near):
            sort_first(found, near, count, k, in_order, sorted_found, sorted_near, ends)
        for j in range(w):
            distances[i, j] = sorted_found[k - w + j]
        for j in range(k):
            indices[i, j] = sorted_near[j]
        limit, before = sorted_found[k - 1], i


@_step
@no_type_check
def _squared_distance_of_box(boxes, node, x):
    """Return a lower bound on the squared distances, as computed, of the points in a box."""
    bound = 0.0
    for c in range(len(x)):
        bound += _apart(x[c], x[c], boxes[node, 0, c], boxes[node, 1, c]) ** 2
    return bound


@_step
@no_type_check
def _descend(spans, cuts, x, node, squared, pending, bounds, top):
    """Descend to the leaf of x, pushing it and the far sides of cuts; return the stack's height.

    The descent looks only at the coordinates that are cut. The box of a far side, or of a leaf, is
    measured when it is popped.
    """
    while 2 * node + 2 < len(spans):
        at_cut = x[spans[node, 3]]
        to_left = max(at_cut - cuts[node, 0], 0.0)
        to_right = max(cuts[node, 1] - at_cut, 0.0)
        left, right = 2 * node + 1, 2 * node + 2
        if to_left <= to_right:
            node, pending[top], bounds[top] = left, right, to_right * to_right
        else:
            node, pending[top], bounds[top] = right, left, to_left * to_left
        if bounds[top] <= squared:
            top += 1
    pending[top], bounds[top] = node, 0.0
    return top + 1


@_step
@no_type_check
def _list_leaf(rows, columns, spans, x, node, mine, squared, leaf, found, near, count):
    """Append a leaf's points with squared distances up to `squared`; return the list's length."""
    start, full = np.uint64(spans[node, 0]), np.uint64(count)
    m = np.uint64(spans[node, 1]) - start
    for j in range(m):
        leaf[j] = 0.0
    for c in range(len(x)):
        at_c = x[c]
        for j in range(m):
            apart = columns[c, start + j] - at_c
            leaf[j] += apart * apart
    for j in range(m):
        row = rows[start + j]
        found[full], near[full] = leaf[j], row
        full += np.uint64((leaf[j] <= squared) & (row != mine))
    return np.int64(full)


@_step
@no_type_check
def _take_roots(found, start, stop):
    for j in range(np.uint64(start), np.uint64(stop)):
        found[j] = math.sqrt(found[j])


@_step
@no_type_check
def _sort_by_ranks(found, near, count, sorted_found, sorted_near):
    """Sort a few points by counting the nearer ones of each; return False if distances are equal.

    The counts are vector instructions without branches.
    """
    padded = (count + 7) // 8 * 8
    for j in range(count, padded):
        found[j] = np.inf
    ranks = 0
    for j in range(count):
        rank = 0
        for other in range(padded):
            rank += found[other] < found[j]
        sorted_found[rank], sorted_near[rank] = found[j], near[j]
        ranks += rank
    return ranks == count * (count - 1) // 2


@_kernel
@no_type_check
def _common_root(boxes, at, queries, before, limit, low, high):
    """Return a node that holds all neighbours of these queries, and a limit on their distances.

    The descent from the root stops where both children, or none, are within the limit of the box
    around the queries. `limit` is the distance of the k-th neighbour of the query `before`.
    """
    most = 0.0
    for c in range(len(low)):
        low[c], high[c] = np.inf, -np.inf
    for i in queries:
        way = 0.0
        for c in range(len(low)):
            low[c], high[c] = min(low[c], at[i, c]), max(high[c], at[i, c])
            way += (at[i, c] - at[before, c]) ** 2
        most = max(most, way)
    reach = _widened(limit, most, len(low))
    squared = _square_above(reach)
    root = 0
    while 2 * root + 2 < len(boxes):
        left, right = 2 * root + 1, 2 * root + 2
        to_left = to_right = 0.0
        for c in range(len(low)):
            to_left += _apart(low[c], high[c], boxes[left, 0, c], boxes[left, 1, c]) ** 2
            to_right += _apart(low[c], high[c], boxes[right, 0, c], boxes[right, 1, c]) ** 2
        if (to_left <= squared) == (to_right <= squared):
            break
        root = left if to_left <= squared else right
    return root, reach


@_kernel
@no_type_check
def _apart(low, high, least, most):
    """Return the distance between two intervals."""
    return max(max(least - high, low - most), 0.0)


@_kernel
@no_type_check
def _widened(limit, way, d):
    """Return a distance within which a query has k neighbours, if another has k within `limit`.

    The queries are sqrt(way) apart. docs/proofs.md, section 5, derives the room for rounding.
    """
    return (limit + math.sqrt(way) + d * 2.0**-530) * (1 + (d + 8) * 2.0**-50)


@_kernel
@no_type_check
def _square_above(limit):
    """Return an upper bound on the squares whose rounded roots are at most the limit."""
    return limit * limit * (1 + 2.0**-50) + 2.0**-1070
