"""Candidate lists: for each query, the columns with the smallest values in tiles of products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64, UInt16

from zmanifold._base.kernels import kernel, single

__all__ = ["Shortlists"]

_kernel = kernel()
# No value is NaN: only with that promise does LLVM turn a minimum into a vector instruction.
_comparing = kernel("nnan", "nsz")
# A sum of products may be taken in any order: the bound on its rounding holds for every order.
_summing = kernel("reassoc", "contract")

# Values are compared with the limit in groups of this size, spread over the tile, by their minimum,
# which vector instructions compute. Only a group whose minimum is below the limit is looked into.
_GROUP = 8


@dataclass(frozen=True)
class Shortlists:
    """For each query, the columns with the smallest values so far.

    Attributes
    ----------
    length : int
        The wanted number of columns; a list that has grown to its width is cut to this.
    values, columns : ndarray of shape (q, width)
        The lists, in any order.
    counts : ndarray of shape (q,)
        The present lengths of the lists.
    limits : ndarray of shape (q,)
        No column that was left out of a list has a value below the list's limit.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold.neighbors._shortlists import Shortlists
    >>> lists = Shortlists.of(1, 2)
    >>> products, squares = np.zeros((1, 4), np.float32), np.array([9, 1, 4, 2], np.float32)
    >>> lists.insert(products, squares, 0, 0, np.array([1]))
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
        """Make empty lists; with `spare`, they have room for more than the wanted length."""
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
        """Return the number of entries of a list for a wanted length."""
        return 2 * length + _GROUP

    def insert(
        self,
        tile: Float32[np.ndarray, "r c"] | UInt16[np.ndarray, "r c"],
        squares: Float32[np.ndarray, " c"],
        first_query: int,
        first_column: int,
        own: Int64[np.ndarray, " r"],
        keep: int | None = None,
        unprojected: tuple[Float32[np.ndarray, "r d"], Float32[np.ndarray, "c d"]] | None = None,
    ) -> None:
        """Insert the columns of a tile into the lists of its rows.

        Parameters
        ----------
        tile : ndarray of shape (r, c)
            Products of r queries with c points: values are squares - 2 * tile. An array of uint16
            holds the bits of bfloat16 numbers.
        squares : ndarray of shape (c,)
            The points' squared norms.
        first_query, first_column : int
            The query and the column of the tile's first entry.
        own : ndarray of shape (r,)
            For each query, the column that is never listed, or -1.
        keep : int, optional
            Lists longer than 1.25 `keep` are cut to it; the wanted length by default. With less, a
            list may end too short, which `finish` marks.
        unprojected : tuple of ndarray of shape (r, d) and (c, d), optional
            The queries and the points, if the tile holds products of their projections. These are
            not below the products of the points, which are computed only where the projections'
            value is below the list's limit.
        """
        _insert(
            tile, squares, first_query, first_column, own, keep or self.length,
            self.length, self.values, self.columns, self.counts, self.limits,
            *(unprojected or (None, None)),
        )  # fmt: skip

    def insert_transposed(
        self,
        tile: Float32[np.ndarray, "r c"] | UInt16[np.ndarray, "r c"],
        squares: Float32[np.ndarray, " r"],
        first_query: int,
        first_column: int,
        own: Int64[np.ndarray, " c"],
        keep: int | None = None,
        unprojected: tuple[Float32[np.ndarray, "c d"], Float32[np.ndarray, "r d"]] | None = None,
    ) -> None:
        """Insert the rows of a tile into the lists of its columns: `insert` of its transpose."""
        _insert_transposed(
            tile, squares, first_query, first_column, own, keep or self.length,
            self.length, self.values, self.columns, self.counts, self.limits,
            *(unprojected or (None, None)),
        )  # fmt: skip

    def estimate_limits(
        self,
        tile: Float32[np.ndarray, "r c"] | UInt16[np.ndarray, "r c"],
        squares: Float32[np.ndarray, " c"],
        first_query: int,
        rank: int,
    ) -> None:
        """Set each list's limit to a value below which the tile has `rank` columns or a few more.

        It is the value of this rank among the minima of small groups of columns.
        """
        _estimate_limits(tile, squares, first_query, rank, self.limits)

    def finish(self, part: slice) -> None:
        """Cut the lists of some queries to the wanted length; fill up shorter ones with -1.

        A list is too short if its estimated limit was too low. Then its limit becomes -inf, because
        columns of any value may have been left out.
        """
        _finish(
            part.start, part.stop,
            self.length, self.values, self.columns, self.counts, self.limits,
        )  # fmt: skip

    def scatter(
        self,
        part: slice,
        rows: Int64[np.ndarray, " q"],
        row_numbers: Int64[np.ndarray, " n"],
        out: Shortlists,
    ) -> None:
        """Copy finished lists to other rows of other lists, with row numbers for columns.

        Parameters
        ----------
        part : slice
            The lists to copy.
        rows : ndarray of shape (q,)
            The row of `out` for each list.
        row_numbers : ndarray of shape (n,)
            The row number for each column.
        out : Shortlists
            The lists that are written.
        """
        _scatter(
            part.start, part.stop, rows, row_numbers,
            self.length, self.values, self.columns, self.counts, self.limits,
            out.values, out.columns, out.counts, out.limits,
        )  # fmt: skip

    def kth_values(self, k: int, part: slice, out: Float64[np.ndarray, " q"]) -> None:
        """Write the k-th smallest values of some finished lists, NaN for lists that are too short.

        Parameters
        ----------
        k : int
            At most the wanted length.
        part : slice
            The lists.
        out : ndarray of shape (q,)
            Output: one value for each list.
        """
        _kth_values(
            part.start, part.stop, k,
            self.length, self.values, self.columns, self.counts, out,
        )  # fmt: skip


@_comparing
@no_type_check
def _insert(
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
        kept, listed = values[first_query + i], columns[first_query + i]
        count, limit = counts[first_query + i], limits[first_query + i]
        _least_of_groups(row, squares, least)
        if points is None and limit == np.inf and m > length:
            # At least length + 1 columns, one of each group, have values up to this limit, and at
            # most one of them is the query's own.
            scratch[:] = least
            limit = np.nextafter(_cut(scratch, places, m, length + 1), np.float32(np.inf))
        # The last group holds the remainder of the division into groups.
        for group in range(m + 1):
            if group == m or least[group] < limit:
                first, stop, step = (group, m * _GROUP, m) if group < m else (m * _GROUP, c, 1)
                for j in range(first, stop, step):
                    value, column = squares[j] - two * single(row[j]), first_column + j
                    if points is not None and value < limit:
                        value = squares[j] - two * _dot(at[i], points[j])
                    kept[count], listed[count] = value, column
                    count += (value < limit) & (column != own[i])
                if count > full:
                    limit = _cut(kept, listed, count, length)
                    count = length
        if count > keep + keep // 4:
            count, limit = _tighten(kept, listed, count, keep)
        counts[first_query + i], limits[first_query + i] = count, limit


@_comparing
@no_type_check
def _least_of_groups(row, squares, least):
    """Write the minimum of each of m groups; a group consists of every m-th column."""
    m, two = len(least), np.float32(2)
    least[:] = np.float32(np.inf)
    for start in range(0, m * _GROUP, max(m, 1)):
        x, y = squares[start : start + m], row[start : start + m]
        for j in range(m):
            least[j] = min(least[j], x[j] - two * single(y[j]))


@_comparing
@no_type_check
def _insert_transposed(
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
                kept, listed, count = values[query], columns[query], counts[query]
                for i in range(start, stop):
                    value, column = squares[i] - two * single(tile[i, j]), first_column + i
                    if points is not None and value < limit:
                        value = squares[i] - two * _dot(at[j], points[i])
                    kept[count], listed[count] = value, column
                    count += (value < limit) & (column != own[j])
                if count > full:
                    limits[query] = _cut(kept, listed, count, length)
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
    """Permute so that the first `length` values are the smallest; return the largest of these."""
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
def _estimate_limits(tile, squares, first_query, rank, limits):
    m = tile.shape[1] // _GROUP
    least, places = np.empty(m, np.float32), np.empty(m, np.int32)
    for i in range(len(tile)):
        _least_of_groups(tile[i], squares, least)
        limit = _cut(least, places, m, rank)
        limits[first_query + i] = np.nextafter(limit, np.float32(np.inf))


@_kernel
@no_type_check
def _tighten(values, columns, count, keep):
    """Drop values above the `keep`-th smallest; return the number left, and the new limit.

    Values equal to the `keep`-th stay, and more of them may be inserted: ties must not make a list
    too short.
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
def _scatter(
    start, stop, rows, row_numbers, length, values, columns, counts, limits,
    out_values, out_columns, out_counts, out_limits,
):  # fmt: skip
    for i in range(start, stop):
        row = rows[i]
        for j in range(length):
            column = columns[i, j]
            out_values[row, j] = values[i, j]
            out_columns[row, j] = row_numbers[column] if column >= 0 else -1
        out_counts[row], out_limits[row] = counts[i], limits[i]


@_kernel
@no_type_check
def _kth_values(start, stop, k, length, values, columns, counts, out):
    for i in range(start, stop):
        # A list that is too short does not bound the values that were left out.
        out[i] = _cut(values[i], columns[i], length, k) if counts[i] == length else np.nan


@_summing
@no_type_check
def _dot(x, y):
    total = np.float32(0)
    for c in range(len(x)):
        total += x[c] * y[c]
    return total
