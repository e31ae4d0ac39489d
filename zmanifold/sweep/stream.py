"""Search and estimate in a mixed set that is never held as a whole: its rows are made anew."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int32, Int64, Shaped
from torch import Tensor

from zmanifold._base.arrays import largest_magnitude, rescaled, scale_exponent, shifted
from zmanifold._base.matmul import full_precision, product
from zmanifold._base.memory import return_freed_memory
from zmanifold._base.parallel import chunks, run_chunks
from zmanifold.dimension import Neighborhoods, estimate, greatest_norm
from zmanifold.mixers import MixedRows
from zmanifold.neighbors import (
    SPARE_CANDIDATES,
    Filter,
    Shortlists,
    choose,
    measure_pairs,
    suits_a_tree,
)

__all__ = ["Stream", "StreamedNeighborhoods"]

# Queries whose products with a block are made at a time.
_STRIP = 1024

# Rows that are made at a time, about: their products with a strip stay in a CPU's cache.
_BLOCK = 2048

# Bytes that a thread needs for an entry of a block of rows: an index's copy, the same in float64,
# the mixed values in float64, rounded, and centred.
_ROW_BYTES = 40


@dataclass(frozen=True, eq=False)
class Stream:
    """A mixed set on a CPU, made block by block as often as it is needed.

    Attributes
    ----------
    rows : MixedRows
        The set.
    memory : int
        Bytes of working memory.
    exponent : int
        Of the power of two by which its values are divided before a search, as in `rescaled`.
    largest : float
        The largest magnitude, divided by it.
    norm : tuple of float and int
        Fraction and exponent of the largest norm.
    centre : torch.Tensor of shape (d,)
        The mean, divided by that power, as rounded in any order.
    """

    rows: MixedRows
    memory: int
    exponent: int
    largest: float
    norm: tuple[float, int]
    centre: Float64[Tensor, " d"]

    @classmethod
    def of(cls, rows: MixedRows, memory: int) -> Stream:
        """Go through the set once.

        Raises
        ------
        InputError
            If the mixer makes values that are not finite.
        """
        largest, norms = [0.0], [(0.0, 0)]
        centre = torch.zeros(rows.n_features, dtype=torch.float64)
        lock = threading.Lock()

        def look(_: int, block: Float[Tensor, "m d"]) -> None:
            (scaled,), exponent = rescaled(block)
            fraction, power = math.frexp(greatest_norm(scaled))
            share = (block.double() / len(rows)).sum(dim=0)
            with lock:
                largest.append(largest_magnitude(block))
                norms.append((fraction, power + exponent))
                centre.add_(share)

        made = cls(rows, memory, 0, 0.0, (0.0, 0), centre)
        made._each_block(look, 8 * rows.n_features)
        exponent = scale_exponent(max(largest), rows.batches.dtype)
        return replace(
            made,
            exponent=exponent,
            largest=math.ldexp(max(largest), -exponent),
            norm=max(norms, key=lambda norm: (norm[0] > 0, norm[1], norm[0])),
            centre=shifted(centre[None], exponent)[0],
        )

    def __len__(self) -> int:
        return len(self.rows)

    def search(self, positions: Int64[Tensor, " q"], k: int) -> Int64[Tensor, "q k"]:
        """Find the nearest neighbours of some rows, as `zmanifold.neighbors.api.search` does.

        Parameters
        ----------
        positions : torch.Tensor of shape (q,)
            The rows.
        k : int
            Number of neighbours, 1 <= k < n.

        Returns
        -------
        torch.Tensor of shape (q, k)
            Row numbers by distance; equal distances come by row number.

        Notes
        -----
        One pass proposes candidates by float32 products, one measures them, and one, in float64,
        searches again for the queries where rounding could have hidden a nearer row.
        """
        indices = positions.new_empty((len(positions), k))
        length = min(len(self) - 1, k + SPARE_CANDIDATES)
        # A query as it is, in float64 and rounded; its list, candidates and their distances.
        query_bytes = 32 * self.rows.n_features + 8 * Shortlists.width(length) + 256 * length
        for part in chunks(len(positions), self.memory // 2 // query_bytes):
            self._search(positions[part], indices[part], length)
        return indices

    def _search(
        self, positions: Int64[Tensor, " q"], indices: Int64[Tensor, "q k"], length: int
    ) -> None:
        at = shifted(self._gathered(positions), self.exponent)
        coarse, lists = self._candidates(at, positions, length)
        candidates = lists.columns[:, :length]
        found = self._measured(at, candidates)
        reach = torch.empty((len(at), 1), dtype=torch.float64)
        choose(found, candidates, reach.numpy(), indices.numpy())
        if length == len(self) - 1:
            return
        _, norms = coarse.placed(at)
        proven = torch.from_numpy(lists.limits) > coarse.ceiling(norms).values(reach[:, 0])
        left = (~proven).nonzero()[:, 0]
        if len(left):
            # Rounding to float32 has shortened no vector by more than this.
            radius = coarse.radius * (1 + 2.0**-10) + 2.0**-20
            fine = replace(Filter.frame(self.centre, self.largest, torch.float64), radius=radius)
            indices[left] = self._searched_again(
                fine, at[left], positions[left], reach[left], indices.shape[1]
            )

    def _candidates(
        self, at: Float[Tensor, "q d"], positions: Int64[Tensor, " q"], length: int
    ) -> tuple[Filter, Shortlists]:
        """Offer the products of the queries with all rows to lists."""
        coarse = Filter.frame(self.centre, self.largest, torch.float32)
        placed, _ = coarse.placed(at)
        lists = Shortlists.of(len(at), length)
        own, radii = positions.numpy(), [0.0]
        strips = list(chunks(len(at), _STRIP))
        locks = [threading.Lock() for _ in strips]

        def offer(start: int, block: Float[Tensor, "m d"]) -> None:
            moved, norms = coarse.placed(shifted(block, self.exponent))
            radii.append(float(norms.max()))
            squares = norms.square().float().numpy()
            # Threads begin at different strips, so that they seldom wait for one another.
            for i in np.roll(np.arange(len(strips)), start % len(strips)):
                tile = product(placed[strips[i]], moved)
                with locks[i]:
                    first = strips[i].start
                    lists.offer(tile.numpy(), squares, first, start, own[strips[i]])

        with full_precision():
            self._each_block(offer, _ROW_BYTES * self.rows.n_features + 4 * _STRIP)
        run_chunks(lists.finish, len(at), 4096, at.device)
        return replace(coarse, radius=max(radii)), lists

    def _measured(
        self, at: Float[Tensor, "q d"], candidates: Int32[np.ndarray, "q c"]
    ) -> Float64[np.ndarray, "q c"]:
        """Measure queries and candidates by direct differences in float64."""
        columns = candidates.ravel()
        order = np.argsort(columns, kind="stable")
        columns = columns[order]
        found = np.empty(columns.size)
        as_trees_do = suits_a_tree(at)

        def measure(start: int, stop: int) -> None:
            pairs = slice(*np.searchsorted(columns, [start, stop]))
            needed, places = np.unique(columns[pairs], return_inverse=True)
            if not len(needed):
                return
            block = shifted(self.rows.take(torch.from_numpy(needed).long()), self.exponent)
            queries = order[pairs] // candidates.shape[1]
            out = np.empty(len(queries))
            given = np.stack([queries, places])
            measure_pairs(block.numpy(), at.numpy(), given, out, as_trees_do=as_trees_do)
            found[order[pairs]] = out

        self._each_range(measure, _ROW_BYTES * self.rows.n_features)
        return found.reshape(candidates.shape)

    def _searched_again(
        self,
        fine: Filter,
        at: Float[Tensor, "q d"],
        positions: Int64[Tensor, " q"],
        reach: Float64[Tensor, "q 1"],
        k: int,
    ) -> Int64[Tensor, "q k"]:
        """Search with every row that could be as near as the k-th found so far."""
        placed, norms = fine.placed(at)
        as_trees_do = suits_a_tree(at)
        q = len(at)
        lock = threading.Lock()
        # Queries, distances and rows of the pairs found; cut to k a query before they get many.
        pairs: list[Float64[np.ndarray, "3 p"]] = []

        def cut() -> None:
            every = np.concatenate(pairs, axis=1)
            every = every[:, np.lexsort(every[::-1])]
            starts = np.searchsorted(every[0], np.arange(q))
            rank = np.arange(every.shape[1]) - starts[every[0].astype(np.int64)]
            pairs[:] = [every[:, rank < k]]

        def collect(start: int, block: Float[Tensor, "m d"]) -> None:
            block = shifted(block, self.exponent)
            moved, lengths = fine.placed(block)
            values = torch.addmm(lengths.square(), placed, moved.mT, alpha=-2)
            possible = values <= fine.ceiling(norms).values(reach[:, 0])[:, None]
            possible &= torch.arange(start, start + len(block)) != positions[:, None]
            near = possible.nonzero().T.contiguous().numpy()
            found = np.empty(near.shape[1])
            measure_pairs(block.numpy(), at.numpy(), near, found, as_trees_do=as_trees_do)
            with lock:
                pairs.append(np.stack([near[0], found, near[1] + start]))
                if sum(some.shape[1] for some in pairs) > 2 * q * k:
                    cut()

        # For every product a mask, its indices and, at worst, a pair.
        self._each_block(collect, _ROW_BYTES * self.rows.n_features + 64 * q)
        cut()
        return torch.from_numpy(pairs[0][2].astype(np.int64).reshape(q, k))

    def _each_range(self, work: Callable[[int, int], object], row_bytes: int) -> None:
        """Call `work` with the first and last row of whole batches, spread over threads."""
        n, b = len(self), self.rows.batches.batch_size

        def call(part: slice) -> None:
            work(part.start * b, min(part.stop * b, n))

        run_chunks(call, -(-n // b), self._batches_at_a_time(row_bytes), self.centre.device)
        return_freed_memory()

    def _each_block(
        self, work: Callable[[int, Float[Tensor, "m d"]], object], row_bytes: int
    ) -> None:
        """Call `work` with the number of the first row and the rows of whole batches."""

        def make(start: int, stop: int) -> None:
            work(start, self.rows.take(torch.arange(start, stop)))

        self._each_range(make, row_bytes)

    def _batches_at_a_time(self, row_bytes: int) -> int:
        b, threads = self.rows.batches.batch_size, torch.get_num_threads()
        return min(self.memory // 2 // (row_bytes * b), threads * max(1, _BLOCK // b))

    def _gathered(self, positions: Int64[Tensor, " p"]) -> Float[Tensor, "p d"]:
        """Make some rows, ascending."""
        batches = self.rows.batches
        out = torch.empty((len(positions), self.rows.n_features), dtype=batches.dtype)

        def work(part: slice) -> None:
            out[part] = self.rows.take(positions[part])

        # At worst each row needs a batch of its own.
        batch_bytes = _ROW_BYTES * batches.batch_size * self.rows.n_features
        run_chunks(work, len(positions), self.memory // 4 // batch_bytes, out.device)
        return_freed_memory()
        return out


@dataclass(frozen=True, eq=False)
class StreamedNeighborhoods:
    """Neighbourhoods in a streamed set: each estimator sees some of them at a time.

    Attributes
    ----------
    stream : Stream
        The set.
    rows : torch.Tensor of shape (q,)
        Row numbers of the queries.
    indices : torch.Tensor of shape (q, k)
        Row numbers of their neighbours, nearest first.
    """

    stream: Stream
    rows: Int64[Tensor, " q"]
    indices: Int64[Tensor, "q k"]

    def estimate(
        self, estimator: Any, k: int, memory: int
    ) -> tuple[Shaped[Tensor, " q"], Bool[Tensor, " q"]]:
        """Estimate the dimension by the k nearest of each, as `zmanifold.dimension.estimate`."""
        stream = replace(self.stream, memory=memory)
        # Half for the rows, which rescaling would copy in float64, a quarter for the estimator.
        entry_bytes = stream.rows.batches.dtype.itemsize + 8 * (stream.exponent != 0)
        found = []
        n_features = stream.rows.n_features
        for part in chunks(len(self.rows), memory // 2 // (entry_bytes * (k + 1) * n_features)):
            members = torch.cat([self.rows[part, None], self.indices[part, :k]], dim=1)
            if estimator.needs in ("neighborhoods", "spectrum"):
                # Neighbours alone; where queries are none of theirs, they are not made.
                members[:, 0] = members[:, 1]
            needed, local = torch.unique(members, return_inverse=True)
            around = Neighborhoods(
                stream._gathered(needed),
                local[:, 1:],
                local[:, 0],
                memory // 4,
                largest_norm=stream.norm,
            )
            found.append(estimate(estimator, around))
            return_freed_memory()
        values, degenerate = (torch.cat([pair[i] for pair in found]) for i in range(2))
        return values, degenerate
