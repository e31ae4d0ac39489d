"""A k-d tree that searches exactly and breaks ties by row number, compiled by numba."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numba import njit

from zmanifold._base.kernels import kernel
from zmanifold._base.parallel import run_chunks
from zmanifold.neighbors._search import Search
from zmanifold.neighbors._sorting import sort_first

__all__ = ["Tree", "search_tree"]

# Without fastmath: that a box is never farther than its points, as computed, needs every
# operation to round by itself and in order. Loops take no slices: numba counts references to them,
# a quarter of the time of a search. Their unsigned bounds spare a test of each index for a sign,
# which would keep them from vector instructions.
_kernel = kernel()

# Steps of `_query`, which numba copies into it: a call with so many arrays takes as long as a step.
_step = njit(inline="always")

# The most points of a leaf.
_LEAF = 32

# Up to so many are all compared with each other.
_RANKED = 128

# From so many points on a node is split by buckets, of which there are at most so many.
_MANY, _BUCKETS = 32, 256

# So many queries share the way down from the root.
_TOGETHER = 16


def search_tree(search: Search) -> None:
    """Search in a tree on a CPU, queries near one another in a row."""
    data = search.points.double().numpy()
    tree = Tree.of(data, search.k)
    rows = search.queries.rows
    if rows is None:
        at = search.queries.points.double().numpy()
        own, order = np.full(len(at), -1), Tree.of(at).rows
    elif search.queries.is_all:
        at, own, order = data, rows.numpy(), tree.rows
    else:
        own = rows.numpy()
        place = np.empty_like(tree.rows)
        place[tree.rows] = np.arange(len(data))
        at, order = data[own], np.argsort(place[own])
    distances, indices = search.distances.numpy(), search.indices.numpy()
    run_chunks(
        lambda part: tree.query(at, own, order[part], distances, indices, in_order=search.in_order),
        len(order),
        1024,
        search.points.device,
    )


@dataclass(frozen=True)
class Tree:
    """Points cut at the medians of their widest coordinates down to leaves.

    Attributes
    ----------
    rows : ndarray of shape (n,)
        The points' row numbers in the order of the leaves.
    columns : ndarray of shape (d, n)
        Their coordinates in that order.
    boxes : ndarray of shape (nodes, 2, d)
        Least and largest coordinates of a node's points; the children of node i are 2 i + 1 and
        2 i + 2, and the last (nodes + 1) / 2 nodes are leaves.
    spans : ndarray of shape (nodes, 4)
        Where a node's points start and stop in `rows`, the least of their row numbers, and the
        coordinate at whose median they are cut.
    cuts : ndarray of shape (nodes, 2)
        In that coordinate, the largest value of a node's left child and the least of its right.
    """

    rows: Int64[np.ndarray, " n"]
    columns: Float64[np.ndarray, "d n"]
    boxes: Float64[np.ndarray, "nodes 2 d"]
    spans: Int64[np.ndarray, "nodes 4"]
    cuts: Float64[np.ndarray, "nodes 2"]

    @classmethod
    def of(cls, points: Float64[np.ndarray, "n d"], k: int = 1) -> Tree:
        """Build it.

        Parameters
        ----------
        points : ndarray of shape (n, d)
            Finite points whose squared distances do not overflow.
        k : int, default=1
            How many neighbours will be asked for: few are found faster in small leaves.

        Returns
        -------
        Tree
            The tree, which holds a copy of the points.
        """
        n, d = points.shape
        leaf = _LEAF if k > _LEAF else _LEAF // 2
        depth = max(0, math.ceil(math.log2(n / leaf)))
        rows, columns = np.arange(n), np.empty((d, n))
        boxes = np.empty((2 ** (depth + 1) - 1, 2, d))
        spans = np.empty((len(boxes), 4), np.int64)
        cuts = np.full((len(boxes), 2), np.nan)
        spans[0, :2] = 0, n
        # The top by one thread, then subtrees by all.
        top = min(depth, math.ceil(math.log2(torch.get_num_threads())))
        _build(points, rows, columns, boxes, spans, cuts, 0, top)

        def work(part: slice) -> None:
            for node in range(2**top - 1 + part.start, 2**top - 1 + part.stop):
                _build(points, rows, columns, boxes, spans, cuts, node, depth + 1 - top)

        run_chunks(work, 2**top, 2**top, torch.device("cpu"))
        return cls(rows, columns, boxes, spans, cuts)

    def query(
        self,
        at: Float64[np.ndarray, "q d"],
        own: Int64[np.ndarray, " q"],
        order: Int64[np.ndarray, " p"],
        distances: Float64[np.ndarray, "q w"],
        indices: Int64[np.ndarray, "q k"],
        *,
        in_order: bool = True,
    ) -> None:
        """Find the k nearest points of each query by (distance, row number).

        Parameters
        ----------
        at : ndarray of shape (q, d)
            The queries.
        own : ndarray of shape (q,)
            The row that is no neighbour of a query, or -1.
        order : ndarray of shape (p,)
            Which queries to answer. Those near one another in a row spare each other work.
        distances : ndarray of shape (q, w)
            Where the last w of the k distances go.
        indices : ndarray of shape (q, k)
            Where the rows go; k is at most the number of points that are left.
        in_order : bool, default=True
            Whether the rows come by distance; if not, the farthest alone has its place.

        Examples
        --------
        >>> import numpy as np
        >>> from zmanifold.neighbors._tree import Tree
        >>> points = np.array([[0.0], [1.0], [3.0]])
        >>> distances, indices = np.empty((1, 2)), np.empty((1, 2), np.int64)
        >>> first = np.array([0])
        >>> Tree.of(points).query(points[:1], first, first, distances, indices)
        >>> distances.tolist(), indices.tolist()
        ([[1.0, 3.0]], [[1, 2]])
        """
        _query(
            self.rows, self.columns, self.boxes, self.spans, self.cuts, at, own, order, distances,
            indices, in_order,
        )  # fmt: skip


@_kernel
@no_type_check
def _build(points, rows, columns, boxes, spans, cuts, root, levels):
    """Fill in so many levels below and with `root`, whose span is known."""
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
        if 2 * node + 2 < nodes:
            middle = (start + stop) // 2
            _split_at(
                points, axis, low[axis], high[axis], rows, start, stop, middle, places, spare, ends
            )
            spans[2 * node + 1, 0], spans[2 * node + 1, 1] = start, middle
            spans[2 * node + 2, 0], spans[2 * node + 2, 1] = middle, stop
        else:
            # In a leaf, too, each point is near the one before it.
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

    Many are first sorted into buckets, without a branch that a processor would mispredict.
    """
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


@_kernel
@no_type_check
def _query(rows, columns, boxes, spans, cuts, at, own, order, distances, indices, in_order):
    d = at.shape[1]
    k, w = indices.shape[1], distances.shape[1]
    # What is found is cut back to k when the list is full.
    size = 2 * k + 4 * _LEAF
    found, sorted_found = np.empty(size), np.empty(size)
    near, sorted_near = np.empty(size, np.int64), np.empty(size, np.int64)
    ends = np.empty(size + 1, np.int64)
    leaf = np.empty(2 * _LEAF)
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
            if count > size - 2 * _LEAF:
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
    """Return a number never above the squared distance of a point in the box, as that rounds."""
    bound = 0.0
    for c in range(len(x)):
        bound += _apart(x[c], x[c], boxes[node, 0, c], boxes[node, 1, c]) ** 2
    return bound


@_step
@no_type_check
def _descend(spans, cuts, x, node, squared, pending, bounds, top):
    """Go down to the leaf of x, and put it and the far sides on the stack; return its height.

    On the way down only the coordinate that was cut is looked at: the far side of a cut, and a
    leaf, are measured in all when it is their turn.
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
    """List the squared distances of a leaf's points up to `squared`; return the list's length."""
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
    """Sort a few by counting for each the nearer ones; return False where some are equal.

    The counts are vector instructions without a branch.
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
    """Return a node that holds all neighbours of these queries, and how far they are at most.

    From the root it goes down as long as only one child is within that distance of the box around
    the queries. `limit` is the distance of the k-th neighbour of the query `before`.
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
    """Return the distance of two ranges."""
    return max(max(least - high, low - most), 0.0)


@_kernel
@no_type_check
def _widened(limit, way, d):
    """Return a distance within which k others lie of a query, if `limit` is one for another query.

    The queries are sqrt(way) apart. docs/proofs.md, section 5, derives the room for rounding.
    """
    return (limit + math.sqrt(way) + d * 2.0**-530) * (1 + (d + 8) * 2.0**-50)


@_kernel
@no_type_check
def _square_above(limit):
    """Return a number that no square exceeds whose root, as rounded, is at most the limit."""
    return limit * limit * (1 + 2.0**-50) + 2.0**-1070
