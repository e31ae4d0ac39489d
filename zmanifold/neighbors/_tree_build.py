"""Building a k-d tree, compiled by numba."""

from __future__ import annotations

import math
from typing import no_type_check

import numpy as np

from zmanifold._base.kernels import kernel

__all__ = ["LEAF", "build"]

# Without fast-math flags: the sides of boxes are coordinates of points to the last bit.
_kernel = kernel()

# The largest number of points in a leaf.
LEAF = 32

# From this number of points on a node is split by buckets, and the largest number of these.
_MANY, _BUCKETS = 32, 256


@_kernel
@no_type_check
def build(points, rows, columns, boxes, spans, cuts, root, levels):
    """Build this number of levels from `root` down; the start and stop of its span are set."""
    d = points.shape[1]
    nodes = len(spans)
    width = spans[root, 1] - spans[root, 0]
    places, spare = np.empty(width, np.int64), np.empty(width, np.int64)
    ends = np.empty(_BUCKETS + 1, np.int64)
    for step in range(2**levels - 1):
        # The nodes of the subtree level by level.
        level = np.int64(math.log2(step + 1))
        node = (root + 1) * 2**level - 1 + step + 1 - 2**level
        start, stop = spans[node, 0], spans[node, 1]
        low, high = boxes[node, 0], boxes[node, 1]
        first = rows[start]
        for i in range(start + 1, stop):
            first = min(first, rows[i])
        spans[node, 2] = first
        for c in range(d):
            least = most = points[first, c]
            for i in range(start, stop):
                x = points[rows[i], c]
                least = x if x < least else least
                most = x if x > most else most
            low[c], high[c] = least, most
        if node > 0:
            parent, right = (node - 1) // 2, (node - 1) % 2
            cuts[parent, right] = boxes[node, 1 - right, spans[parent, 3]]
        axis = 0
        for c in range(1, d):
            if high[c] - low[c] > high[axis] - low[axis]:
                axis = c
        spans[node, 3] = axis
        if low[axis] == high[axis]:
            # All points coincide, and are sorted by row number. Of those that tie with a query's
            # k-th neighbour, the first rows are then met first, and nodes of later rows skipped.
            rows[start:stop] = np.sort(rows[start:stop])
        if 2 * node + 2 < nodes:
            middle = (start + stop) // 2
            _split_at(
                points, axis, low[axis], high[axis], rows, start, stop, middle, places, spare, ends
            )
            spans[2 * node + 1, 0], spans[2 * node + 1, 1] = start, middle
            spans[2 * node + 2, 0], spans[2 * node + 2, 1] = middle, stop
        else:
            # Sorted along the widest coordinate, so that in a leaf, too, each point is near the one
            # before it.
            for i in range(start + 1, stop):
                row = rows[i]
                j = i - 1
                while j >= start and points[rows[j], axis] > points[row, axis]:
                    rows[j + 1] = rows[j]
                    j -= 1
                rows[j + 1] = row
            for c in range(d):
                for i in range(start, stop):
                    columns[c, i] = points[rows[i], c]


@_kernel
@no_type_check
def _split_at(points, axis, least, most, rows, start, stop, middle, places, spare, ends):
    """Permute rows[start:stop] so that no value before `middle` is above one after it.

    Many rows are first sorted into buckets, without branches for a processor to mispredict.
    """
    if least == most:
        return
    low, high = start, stop - 1
    if stop - start >= _MANY and most - least > 1e-290:
        count, begin = np.uint64(stop - start), np.uint64(start)
        buckets = min((stop - start) // 4, _BUCKETS)
        scale = (buckets - 1) / (most - least)
        for j in range(buckets + 1):
            ends[j] = 0
        for j in range(count):
            spare[j] = rows[begin + j]
            places[j] = np.int64((points[spare[j], axis] - least) * scale)
            ends[places[j] + 1] += 1
        for j in range(buckets):
            ends[j + 1] += ends[j]
        bucket = 0
        while start + ends[bucket + 1] <= middle:
            bucket += 1
        low, high = start + ends[bucket], start + ends[bucket + 1] - 1
        for j in range(count):
            rows[start + ends[places[j]]] = spare[j]
            ends[places[j]] += 1
    while low < high:
        pivot = points[rows[(low + high) // 2], axis]
        i, j = low, high
        while i <= j:
            while points[rows[i], axis] < pivot:
                i += 1
            while points[rows[j], axis] > pivot:
                j -= 1
            if i <= j:
                rows[i], rows[j] = rows[j], rows[i]
                i += 1
                j -= 1
        if middle <= j:
            high = j
        elif middle >= i:
            low = i
        else:
            return
