"""The first k measured points by (distance, row number), compiled by numba."""

from __future__ import annotations

from typing import no_type_check

from zmanifold._base.kernels import kernel

__all__ = ["sort_first", "write_first"]

_kernel = kernel()

# Up to this number of points, insertion sort is used.
_SHORT = 16


@_kernel
@no_type_check
def write_first(found, near, count, in_order, sorted_found, sorted_near, ends, distances, indices):
    """Write the first k of `count` points by (distance, row), and the last w of their distances."""
    k, w = len(indices), len(distances)
    sort_first(found, near, count, k, in_order, sorted_found, sorted_near, ends)
    distances[:], indices[:] = sorted_found[k - w : k], sorted_near[:k]


@_kernel
@no_type_check
def sort_first(found, near, count, k, in_order, sorted_found, sorted_near, ends):
    """Sort at least the first k by (distance, row) into the `sorted_` arrays, by a bucket sort.

    If not `in_order`, the first k are the k least in any order, but the k-th is in its place.
    """
    if count <= _SHORT:
        sorted_found[:count], sorted_near[:count] = found[:count], near[:count]
        _sort(sorted_found, sorted_near, 0, count - 1)
        return
    # If only the k-th must be in its place, one bucket is sorted: fewer and larger ones are faster.
    buckets = count if in_order else count // 4
    low = high = found[0]
    for j in range(1, count):
        low, high = min(low, found[j]), max(high, found[j])
    scale = (buckets - 1) / (high - low) if high - low > 1e-290 else 0.0
    for j in range(buckets + 1):
        ends[j] = 0
    for j in range(count):
        ends[int((found[j] - low) * scale) + 1] += 1
    for j in range(buckets):
        ends[j + 1] += ends[j]
    for j in range(count):
        bucket = int((found[j] - low) * scale)
        sorted_found[ends[bucket]], sorted_near[ends[bucket]] = found[j], near[j]
        ends[bucket] += 1
    start = bucket = 0
    while start < k:
        if ends[bucket] - start > 1 and (in_order or ends[bucket] >= k):
            _sort(sorted_found, sorted_near, start, ends[bucket] - 1)
        start = ends[bucket]
        bucket += 1


@_kernel
@no_type_check
def _before(d, i, e, j):
    return d < e or (d == e and i < j)


@_kernel
@no_type_check
def _sort(found, near, low, high):
    """Sort found[low..high], and near with it, by insertion if it is short, else by heapsort.

    Quicksort would be recursive, and numba cannot load recursive functions from its cache.
    """
    count = high - low + 1
    if count <= _SHORT:
        for i in range(low + 1, high + 1):
            d, r = found[i], near[i]
            j = i - 1
            while j >= low and _before(d, r, found[j], near[j]):
                found[j + 1], near[j + 1] = found[j], near[j]
                j -= 1
            found[j + 1], near[j + 1] = d, r
        return
    for step in range(count + count // 2, 0, -1):
        # First each parent is sifted down; then, step by step, the largest moves behind the heap.
        size = min(step, count)
        parent = step - count - 1
        if step <= count:
            found[low], found[low + step - 1] = found[low + step - 1], found[low]
            near[low], near[low + step - 1] = near[low + step - 1], near[low]
            size, parent = step - 1, 0
        d, r = found[low + parent], near[low + parent]
        child = 2 * parent + 1
        while child < size:
            at = low + child
            if child + 1 < size and _before(found[at], near[at], found[at + 1], near[at + 1]):
                child, at = child + 1, at + 1
            if not _before(d, r, found[at], near[at]):
                break
            found[low + parent], near[low + parent] = found[at], near[at]
            parent, child = child, 2 * child + 1
        found[low + parent], near[low + parent] = d, r
