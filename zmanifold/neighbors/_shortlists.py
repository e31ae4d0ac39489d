"""The nearest candidates of many queries, kept while a product's tiles pass by; by numba."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Float32, Float64, Int32, Int64, Shaped, UInt16

from zmanifold._base.kernels import kernel, single
from zmanifold.neighbors._tree import write_first

__all__ = ["Shortlists", "choose", "measure", "measure_between", "measure_pairs"]

_kernel = kernel()
# Nothing here is NaN: only so does a minimum become a vector instruction.
_comparing = kernel("nnan", "nsz")
# A sum of squares in any order: the bound on its rounding holds for all of them.
_summing = kernel("reassoc", "contract")

# A value is looked at by itself only if the least of so many, spread over the tile, is small
# enough: those minima are vector instructions.
_GROUP = 8


@dataclass(frozen=True)
class Shortlists:
    """For each query the columns with the smallest values seen so far.

    Attributes
    ----------
    length : int
        How many are wanted; a list holds up to its width and is then cut back to this.
    values, columns : ndarray of shape (q, width)
        The lists, in no order.
    counts : ndarray of shape (q,)
        Their present lengths.
    limits : ndarray of shape (q,)
        No column that was left out of a list had a value below its limit.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold.neighbors._shortlists import Shortlists
    >>> lists = Shortlists.of(1, 2)
    >>> products, squares = np.zeros((1, 4), np.float32), np.array([9, 1, 4, 2], np.float32)
    >>> lists.offer(products, squares, 0, 0, np.array([1]))
    >>> lists.finish(slice(0, 1))
    >>> sorted(lists.columns[0, :2].tolist()), lists.limits.round(3).tolist()
    ([2, 3], [4.0])
    """

    length: int
    values: Float32[np.ndarray, "q width"]
    columns: Int32[np.ndarray, "q width"]
    counts: Int64[np.ndarray, " q"]
    limits: Float32[np.ndarray, " q"]

    @classmethod
    def of(cls, n_queries: int, length: int, *, spare: bool = True) -> Shortlists:
        """Make empty lists, with or without the room that those need which are to grow."""
        shape = (n_queries, cls.width(length) if spare else length)
        return cls(
            length,
            np.empty(shape, np.float32),
            np.empty(shape, np.int32),
            np.zeros(n_queries, np.int64),
            np.full(n_queries, np.inf, np.float32),
        )

    @staticmethod
    def width(length: int) -> int:
        """Tell how many entries a list of a wanted length has room for."""
        return 2 * length + _GROUP

    def offer(
        self,
        tile: Float32[np.ndarray, "r c"] | UInt16[np.ndarray, "r c"],
        squares: Float32[np.ndarray, " c"],
        first_query: int,
        first_column: int,
        own: Int64[np.ndarray, " r"],
        keep: int | None = None,
        sketched: tuple[Float32[np.ndarray, "r d"], Float32[np.ndarray, "c d"]] | None = None,
    ) -> None:
        """Offer the columns of a tile to the lists of its rows.

        Parameters
        ----------
        tile : ndarray of shape (r, c)
            Products of r queries with c points: column j has the value squares - 2 tile. They are
            float32, or uint16 that are the bits of bfloat16.
        squares : ndarray of shape (c,)
            The points' squared norms.
        first_query, first_column : int
            Where the tile starts.
        own : ndarray of shape (r,)
            The column that is not to be listed for each query, or -1.
        keep : int, optional
            How many of the smallest to keep in lists that have got clearly longer; the wanted
            length by default. Whoever gives less guesses that the others are not among the
            smallest of all columns.
        sketched : tuple of ndarray of shape (r, d) and (c, d), optional
            The queries and the points, where the tile's products are those of their sketches and
            so no less than theirs: of what could be listed, theirs are formed.
        """
        _offer(
            tile, squares, first_query, first_column, own, keep or self.length,
            self.length, self.values, self.columns, self.counts, self.limits,
            *(sketched or (None, None)),
        )  # fmt: skip

    def offer_transposed(
        self,
        tile: Float32[np.ndarray, "r c"] | UInt16[np.ndarray, "r c"],
        squares: Float32[np.ndarray, " r"],
        first_query: int,
        first_column: int,
        own: Int64[np.ndarray, " c"],
        keep: int | None = None,
        sketched: tuple[Float32[np.ndarray, "c d"], Float32[np.ndarray, "r d"]] | None = None,
    ) -> None:
        """Offer the rows of a tile to the lists of its columns: `offer` of the tile's transpose."""
        _offer_transposed(
            tile, squares, first_query, first_column, own, keep or self.length,
            self.length, self.values, self.columns, self.counts, self.limits,
            *(sketched or (None, None)),
        )  # fmt: skip

    def guess(
        self,
        tile: Float32[np.ndarray, "r c"] | UInt16[np.ndarray, "r c"],
        squares: Float32[np.ndarray, " c"],
        first_query: int,
        rank: int,
    ) -> None:
        """Give lists limits below which there are at least `rank` of a tile's columns.

        There are hardly more: it is the rank among the least values of small groups.
        """
        _guess(tile, squares, first_query, rank, self.limits)

    def finish(self, part: slice) -> None:
        """Cut the lists of some queries to the wanted length; shorter ones end with -1.

        Lists begin without limits; whoever sets low ones guesses. Where the guess was too low the
        list is short and its limit is -inf: then nothing is known of what was left out.
        """
        _finish(
            part.start, part.stop,
            self.length, self.values, self.columns, self.counts, self.limits,
        )  # fmt: skip

    def deal(
        self,
        part: slice,
        rows: Int64[np.ndarray, " q"],
        names: Int64[np.ndarray, " n"],
        out: Shortlists,
    ) -> None:
        """Write some finished lists to their queries' rows in others, under their columns' names.

        Parameters
        ----------
        part : slice
            Which lists.
        rows : ndarray of shape (q,)
            The row of each list's query.
        names : ndarray of shape (n,)
            The row numbers that columns stand for.
        out : Shortlists
            Where they go.
        """
        _deal(
            part.start, part.stop, rows, names,
            self.length, self.values, self.columns, self.counts, self.limits,
            out.values, out.columns, out.counts, out.limits,
        )  # fmt: skip

    def kth_values(self, k: int, part: slice, out: Float64[np.ndarray, " q"]) -> None:
        """Write the k-th smallest values of some finished lists; of short ones NaN.

        Parameters
        ----------
        k : int
            At most the wanted length.
        part : slice
            Which lists.
        out : ndarray of shape (q,)
            Where the values of all lists go.
        """
        _kth_values(
            part.start, part.stop, k,
            self.length, self.values, self.columns, self.counts, out,
        )  # fmt: skip


def measure(
    points: Float[np.ndarray, "n d"],
    at: Float[np.ndarray, "q d"],
    candidates: Shaped[np.ndarray, "q c"],
    order: Int64[np.ndarray, " p"],
    distances: Float64[np.ndarray, "q w"],
    indices: Int64[np.ndarray, "q k"],
    *,
    in_order: bool = True,
) -> None:
    """Write the k nearest candidates by (distance, row), by direct differences in float64.

    Parameters
    ----------
    points, at : ndarray of shape (n, d) and (q, d)
        The points, and the queries.
    candidates : ndarray of int, shape (q, c)
        Different row numbers of points for each query; -1 is none. Queries with fewer than k get
        infinite distances to -1.
    order : ndarray of shape (p,)
        Which queries to answer.
    distances : ndarray of shape (q, w)
        Where the last w of the k distances go.
    indices : ndarray of shape (q, k)
        Where the rows go.
    in_order : bool, default=True
        Whether the rows come by distance; if not, the farthest alone has its place.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold.neighbors._shortlists import measure
    >>> points = np.array([[0.0], [4.0], [1.0]])
    >>> distances, indices = np.empty((1, 2)), np.empty((1, 2), np.int64)
    >>> measure(points, points[:1], np.array([[1, 2, -1]]), np.array([0]), distances, indices)
    >>> distances.tolist(), indices.tolist()
    ([[1.0, 4.0]], [[2, 1]])
    """
    _measure(points, at, candidates, order, distances, indices, in_order)


def measure_between(
    points: Float[np.ndarray, "n d"],
    at: Float[np.ndarray, "q d"],
    lists: Shortlists,
    bounds: Float64[np.ndarray, "q 2"],
    order: Int64[np.ndarray, " p"],
    distances: Float64[np.ndarray, "q 1"],
    indices: Int64[np.ndarray, "q k"],
) -> None:
    """Write what `measure` writes out of order, and measure only where the values leave doubt.

    Parameters
    ----------
    points, at : ndarray of shape (n, d) and (q, d)
        The points, and the queries.
    lists : Shortlists
        The candidates, finished and dealt.
    bounds : ndarray of shape (q, 2)
        Candidates with values below the first are nearer than the k-th neighbour, fewer than k
        of them; those with values above the second are farther.
    order : ndarray of shape (p,)
        Which queries to answer.
    distances, indices : ndarray of shape (q, 1) and (q, k)
        Where the k-th distances and the rows go.
    """
    _measure_between(points, at, lists.values, lists.columns, bounds, order, distances, indices)


def measure_pairs(
    points: Float[np.ndarray, "n d"],
    at: Float[np.ndarray, "q d"],
    pairs: Int64[np.ndarray, "2 p"],
    distances: Float64[np.ndarray, " p"],
    *,
    as_trees_do: bool,
) -> None:
    """Write the distances of pairs of a query and a point, as a search measures them.

    Parameters
    ----------
    points, at : ndarray of shape (n, d) and (q, d)
        The points, and the queries.
    pairs : ndarray of shape (2, p)
        The queries and the points.
    distances : ndarray of shape (p,)
        Where the distances go.
    as_trees_do : bool
        Whether they are rounded as a k-d tree rounds them or as `measure` does.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold.neighbors._shortlists import measure_pairs
    >>> points, distances = np.array([[0.0], [4.0], [1.0]]), np.empty(1)
    >>> measure_pairs(points, points, np.array([[1], [2]]), distances, as_trees_do=False)
    >>> distances
    array([3.])
    """
    (_measure_pairs_in_order if as_trees_do else _measure_pairs)(points, at, pairs, distances)


def choose(
    found: Float64[np.ndarray, "q c"],
    candidates: Shaped[np.ndarray, "q c"],
    distances: Float64[np.ndarray, "q w"],
    indices: Int64[np.ndarray, "q k"],
) -> None:
    """Write the k nearest of measured candidates by (distance, row).

    Parameters
    ----------
    found : ndarray of shape (q, c)
        The candidates' distances.
    candidates : ndarray of int, shape (q, c)
        Their row numbers.
    distances : ndarray of shape (q, w)
        Where the last w of the k distances go.
    indices : ndarray of shape (q, k)
        Where the rows go.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold.neighbors._shortlists import choose
    >>> distances, indices = np.empty((1, 1)), np.empty((1, 2), np.int64)
    >>> choose(np.array([[2.0, 1.0, 1.0]]), np.array([[5, 9, 3]]), distances, indices)
    >>> distances.tolist(), indices.tolist()
    ([[1.0]], [[3, 9]])
    """
    _choose(found, candidates, distances, indices)


@_comparing
@no_type_check
def _offer(
    tile, squares, first_query, first_column, own, keep,
    length, values, columns, counts, limits, at, points,
):  # fmt: skip
    r, c = tile.shape
    two = np.float32(2)
    full = values.shape[1] - _GROUP
    m = c // _GROUP
    least, scratch = np.empty(m, np.float32), np.empty(m, np.float32)
    places = np.empty(m, np.int32)
    for i in range(r):
        row = tile[i]
        kept, names = values[first_query + i], columns[first_query + i]
        count, limit = counts[first_query + i], limits[first_query + i]
        _least_of_groups(row, squares, least)
        if points is None and limit == np.inf and m > length:
            # So many columns, one a group and one of them perhaps its own, are at most there.
            scratch[:] = least
            limit = np.nextafter(_cut(scratch, places, m, length + 1), np.float32(np.inf))
        # The last "group" is what the division left over.
        for group in range(m + 1):
            if group == m or least[group] < limit:
                first, stop, step = (group, m * _GROUP, m) if group < m else (m * _GROUP, c, 1)
                for j in range(first, stop, step):
                    value, name = squares[j] - two * single(row[j]), first_column + j
                    if points is not None and value < limit:
                        value = squares[j] - two * _dot(at[i], points[j])
                    kept[count], names[count] = value, name
                    count += (value < limit) & (name != own[i])
                if count > full:
                    limit = _cut(kept, names, count, length)
                    count = length
        if count > keep + keep // 4:
            count, limit = _tighten(kept, names, count, keep)
        counts[first_query + i], limits[first_query + i] = count, limit


@_comparing
@no_type_check
def _least_of_groups(row, squares, least):
    """Write the least value of each group: columns so far apart as there are groups."""
    m, two = len(least), np.float32(2)
    least[:] = np.float32(np.inf)
    for start in range(0, m * _GROUP, max(m, 1)):
        x, y = squares[start : start + m], row[start : start + m]
        for j in range(m):
            least[j] = min(least[j], x[j] - two * single(y[j]))


@_comparing
@no_type_check
def _offer_transposed(
    tile, squares, first_query, first_column, own, keep,
    length, values, columns, counts, limits, at, points,
):  # fmt: skip
    r, c = tile.shape
    two = np.float32(2)
    full = values.shape[1] - _GROUP
    least = np.empty(c, np.float32)
    for start in range(0, r, _GROUP):
        stop = min(start + _GROUP, r)
        least[:] = np.float32(np.inf)
        for i in range(start, stop):
            row, square = tile[i], squares[i]
            for j in range(c):
                least[j] = min(least[j], square - two * single(row[j]))
        for j in range(c):
            query = first_query + j
            limit = limits[query]
            if least[j] < limit:
                kept, names, count = values[query], columns[query], counts[query]
                for i in range(start, stop):
                    value, name = squares[i] - two * single(tile[i, j]), first_column + i
                    if points is not None and value < limit:
                        value = squares[i] - two * _dot(at[j], points[i])
                    kept[count], names[count] = value, name
                    count += (value < limit) & (name != own[j])
                if count > full:
                    limits[query] = _cut(kept, names, count, length)
                    count = length
                counts[query] = count
    for query in range(first_query, first_query + c):
        if counts[query] > keep + keep // 4:
            counts[query], limits[query] = _tighten(
                values[query], columns[query], counts[query], keep
            )


@_kernel
@no_type_check
def _cut(values, columns, count, length):
    """Permute so that the first `length` are the smallest; return the largest of them."""
    low, high = 0, count - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                columns[i], columns[j] = columns[j], columns[i]
                i += 1
                j -= 1
        if length - 1 <= j:
            high = j
        elif length - 1 >= i:
            low = i
        else:
            break
    return values[length - 1]


@_kernel
@no_type_check
def _guess(tile, squares, first_query, rank, limits):
    m = tile.shape[1] // _GROUP
    least, places = np.empty(m, np.float32), np.empty(m, np.int32)
    for i in range(len(tile)):
        _least_of_groups(tile[i], squares, least)
        limit = _cut(least, places, m, rank)
        limits[first_query + i] = np.nextafter(limit, np.float32(np.inf))


@_kernel
@no_type_check
def _tighten(values, columns, count, keep):
    """Drop what exceeds the `keep`-th smallest; return how many are left, and their limit.

    What equals it stays, and may come later: equal values must not make a list too short.
    """
    largest = _cut(values, columns, count, keep)
    left = keep
    for j in range(keep, count):
        if values[j] == largest:
            values[j], values[left] = values[left], values[j]
            columns[j], columns[left] = columns[left], columns[j]
            left += 1
    return left, np.nextafter(largest, np.float32(np.inf))


@_kernel
@no_type_check
def _finish(start, stop, length, values, columns, counts, limits):
    for i in range(start, stop):
        if counts[i] > length:
            limits[i] = _cut(values[i], columns[i], counts[i], length)
            counts[i] = length
        elif counts[i] < length:
            limits[i] = -np.inf
            columns[i, counts[i] : length] = -1


@_kernel
@no_type_check
def _deal(
    start, stop, rows, names, length, values, columns, counts, limits,
    out_values, out_columns, out_counts, out_limits,
):  # fmt: skip
    for i in range(start, stop):
        row = rows[i]
        for j in range(length):
            column = columns[i, j]
            out_values[row, j] = values[i, j]
            out_columns[row, j] = names[column] if column >= 0 else -1
        out_counts[row], out_limits[row] = counts[i], limits[i]


@_kernel
@no_type_check
def _kth_values(start, stop, k, length, values, columns, counts, out):
    for i in range(start, stop):
        # Shorter lists say nothing of what is on none.
        out[i] = _cut(values[i], columns[i], length, k) if counts[i] == length else np.nan


@_kernel
@no_type_check
def _measure_between(points, at, values, columns, bounds, order, distances, indices):
    most, k = columns.shape[1], indices.shape[1]
    found, sorted_found = np.empty(most), np.empty(most)
    near, sorted_near = np.empty(most, np.int64), np.empty(most, np.int64)
    ends = np.empty(most + 1, np.int64)
    for i in order:
        count = sure = 0
        for j in range(most):
            row = columns[i, j]
            if row >= 0 and values[i, j] < bounds[i, 0]:
                indices[i, sure] = row
                sure += 1
            elif row >= 0 and values[i, j] <= bounds[i, 1]:
                near[count], found[count] = row, _distance(points[row], at[i])
                count += 1
        if sure + count < k:
            distances[i], indices[i] = np.inf, -1
            continue
        rest = indices[i, sure:]
        write_first(found, near, count, False, sorted_found, sorted_near, ends, distances[i], rest)


@_kernel
@no_type_check
def _measure(points, at, candidates, order, distances, indices, in_order):
    most = candidates.shape[1]
    found, sorted_found = np.empty(most), np.empty(most)
    near, sorted_near = np.empty(most, np.int64), np.empty(most, np.int64)
    ends = np.empty(most + 1, np.int64)
    for i in order:
        count = 0
        for j in range(most):
            if candidates[i, j] >= 0:
                near[count] = candidates[i, j]
                found[count] = _distance(points[near[count]], at[i])
                count += 1
        if count < indices.shape[1]:
            distances[i], indices[i] = np.inf, -1
            continue
        write_first(
            found, near, count, in_order, sorted_found, sorted_near, ends, distances[i], indices[i]
        )


@_kernel
@no_type_check
def _choose(measured, candidates, distances, indices):
    q, most = candidates.shape
    found, sorted_found = np.empty(most), np.empty(most)
    near, sorted_near = np.empty(most, np.int64), np.empty(most, np.int64)
    ends = np.empty(most + 1, np.int64)
    for i in range(q):
        found[:], near[:] = measured[i], candidates[i]
        write_first(
            found, near, most, True, sorted_found, sorted_near, ends, distances[i], indices[i]
        )


@_kernel
@no_type_check
def _measure_pairs(points, at, pairs, distances):
    for j in range(len(distances)):
        distances[j] = _distance(points[pairs[1, j]], at[pairs[0, j]])


@_kernel
@no_type_check
def _measure_pairs_in_order(points, at, pairs, distances):
    for j in range(len(distances)):
        distances[j] = _distance_in_order(points[pairs[1, j]], at[pairs[0, j]])


@_summing
@no_type_check
def _dot(x, y):
    total = np.float32(0)
    for c in range(len(x)):
        total += x[c] * y[c]
    return total


@_summing
@no_type_check
def _distance(x, y):
    total = 0.0
    for c in range(len(x)):
        apart = np.float64(x[c]) - np.float64(y[c])
        total += apart * apart
    return math.sqrt(total)


# A function of its own: compiled code is kept on disk by a function's text, not by its options.
@_kernel
@no_type_check
def _distance_in_order(x, y):
    total = 0.0
    for c in range(len(x)):
        apart = np.float64(x[c]) - np.float64(y[c])
        total += apart * apart
    return math.sqrt(total)
