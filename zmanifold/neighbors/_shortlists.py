"""Candidate lists: of each query the columns with the smallest values in tiles of products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64, UInt16

from zmanifold._base.kernels import kernel, single

__all__ = ["Shortlists"]

_kernel = kernel()
# No value is NaN. Only with that promise does a minimum become a vector instruction.
_comparing = kernel("nnan", "nsz")
# A sum of products in any order: the bound on its rounding holds for all of them.
_summing = kernel("reassoc", "contract")

# A value is compared by itself only if the least of its group of so many, spread over the tile, is
# below the limit: those minima are vector instructions.
_GROUP = 8


@dataclass(frozen=True)
class Shortlists:
    """For each query the columns with the smallest values so far.

    Attributes
    ----------
    length : int
        How many columns are wanted; a list grows up to its width and is then cut to this.
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
        """Make empty lists, with or without room for more than the wanted length."""
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
            Products of r queries with c points: column j has the value squares - 2 tile. uint16
            holds the bits of bfloat16.
        squares : ndarray of shape (c,)
            The points' squared norms.
        first_query, first_column : int
            Where the tile starts.
        own : ndarray of shape (r,)
            The column that is not to be listed for each query, or -1.
        keep : int, optional
            How many of the smallest to keep in lists that have grown clearly longer; the wanted
            length by default. With fewer the lists may end too short, which `finish` marks.
        unprojected : tuple of ndarray of shape (r, d) and (c, d), optional
            The queries and the points, where the tile holds the products of their projections.
            These are no less than the products of the points, which are formed only for values
            below a list's limit.
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
        """Set limits below which a tile has at least `rank` columns, and hardly more.

        The limit is the value with this rank among the least values of small groups.
        """
        _estimate_limits(tile, squares, first_query, rank, self.limits)

    def finish(self, part: slice) -> None:
        """Cut the lists of some queries to the wanted length; shorter ones end with -1.

        Lists begin without limits. An estimated limit may be too low: then the list stays short
        and its limit becomes -inf, because columns of any value may have been left out.
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
        """Copy finished lists to their queries' rows in others, columns as row numbers.

        Parameters
        ----------
        part : slice
            Which lists.
        rows : ndarray of shape (q,)
            The row of each list's query.
        row_numbers : ndarray of shape (n,)
            The row numbers that columns stand for.
        out : Shortlists
            Where they are copied.
        """
        _scatter(
            part.start, part.stop, rows, row_numbers,
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
            # length + 1 columns, one a group, have values at or below this limit, and at most one
            # of them is the query's own.
            scratch[:] = least
            limit = np.nextafter(_cut(scratch, places, m, length + 1), np.float32(np.inf))
        # The last "group" holds the columns that the division left over.
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
    """Write the least value of each group: columns so far apart as there are groups."""
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
    """Drop values above the `keep`-th smallest; return how many are left, and their limit.

    Values equal to it stay and may still be inserted: ties must not make a list too short.
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
        # A short list does not bound the values that it lacks.
        out[i] = _cut(values[i], columns[i], length, k) if counts[i] == length else np.nan


@_summing
@no_type_check
def _dot(x, y):
    total = np.float32(0)
    for c in range(len(x)):
        total += x[c] * y[c]
    return total
