"""Streamed mixed sets: rows are mixed again whenever they are needed, never all held at once."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64, Shaped
from torch import Tensor

from zmanifold._base.memory import return_freed_memory
from zmanifold._base.parallel import chunks, run_chunks
from zmanifold._base.scaling import largest_magnitude, scale_exponent, shifted
from zmanifold.dimension import Neighborhoods, estimate
from zmanifold.mixers import MixedRows
from zmanifold.neighbors import search_blocks
from zmanifold.sweep._rounding import mixing_tolerance

__all__ = ["Stream", "StreamedNeighborhoods"]

# The number of rows, about, that a thread mixes at a time: their products with a strip of queries
# stay in the CPU's cache.
_BLOCK = 2048

# Bytes that a thread needs for one entry of a block, at most 8 for each of five arrays: the
# original value, the same in float64, the mixed value in float64, the same rounded, and centred.
_ROW_BYTES = 40


@dataclass(frozen=True, eq=False)
class Stream:
    """A mixed set on a CPU, mixed block by block as often as it is needed.

    Attributes
    ----------
    rows : MixedRows
        The rows, as the mixer makes them.
    memory : int
        Bytes of working memory.
    exponent : int
        The values are divided by 2**exponent before a search, as `rescaled` does.
    largest : float
        The largest magnitude, divided by 2**exponent.
    centre : torch.Tensor of shape (d,)
        The mean of the rows, divided by 2**exponent. Threads add the blocks in any order, which
        varies its rounding. The search subtracts it from all rows, and is exact for any centre.
    """

    rows: MixedRows
    memory: int
    exponent: int
    largest: float
    centre: Float64[Tensor, " d"]

    @classmethod
    def of(cls, rows: MixedRows, memory: int) -> Stream:
        """Mix the whole set once to find its scale, largest norm and mean.

        Raises
        ------
        InputError
            If the mixer returns values that are not finite.
        """
        largest = [0.0]
        centre = torch.zeros(rows.n_features, dtype=torch.float64)
        lock = threading.Lock()

        def scan(start: int, stop: int) -> None:
            block = rows.take(torch.arange(start, stop))
            share = (block.double() / len(rows)).sum(dim=0)
            with lock:
                largest.append(largest_magnitude(block))
                centre.add_(share)

        made = cls(rows, memory, 0, 0.0, centre)
        # `scan` adds one float64 copy of the block.
        made._each_range(scan, 8 * rows.n_features)
        exponent = scale_exponent(max(largest), rows.batches.dtype)
        return replace(
            made,
            exponent=exponent,
            largest=math.ldexp(max(largest), -exponent),
            centre=shifted(centre[None], exponent)[0],
        )

    def __len__(self) -> int:
        return len(self.rows)

    def search(self, positions: Int64[Tensor, " q"], k: int) -> Int64[Tensor, "q k"]:
        """Return the nearest neighbours of some rows, by `zmanifold.neighbors.search_blocks`.

        The search gets half of the memory; the other half is for the blocks.
        """
        return search_blocks(self, positions, k, memory=self.memory // 2)

    def take(self, rows: Int64[Tensor, " p"]) -> Float[Tensor, "p d"]:
        """Return some rows, ascending and divided by 2**exponent, mixed by the calling thread."""
        return shifted(self.rows.take(rows), self.exponent)

    def gathered(self, rows: Int64[Tensor, " p"]) -> Float[Tensor, "p d"]:
        """Return the same rows as `take`, mixed by all threads."""
        return shifted(self.made(rows), self.exponent)

    def each_range(self, work: Callable[[int, int], object], row_bytes: int) -> None:
        """Call `work(start, stop)` on ranges of rows that cover the set and end with batches.

        Threads share the ranges. `row_bytes` are the bytes that `work` takes for a row besides
        those for mixing it.
        """
        self._each_range(work, _ROW_BYTES * self.rows.n_features + row_bytes)

    def made(self, positions: Int64[Tensor, " p"]) -> Float[Tensor, "p d"]:
        """Return some rows, ascending, as the mixer makes them."""
        batches = self.rows.batches
        out = torch.empty((len(positions), self.rows.n_features), dtype=batches.dtype)

        def work(part: slice) -> None:
            out[part] = self.rows.take(positions[part])

        # At worst each row needs a batch of its own.
        batch_bytes = _ROW_BYTES * batches.batch_size * self.rows.n_features
        run_chunks(work, len(positions), self.memory // 4 // batch_bytes, out.device)
        return_freed_memory()
        return out

    def _each_range(self, work: Callable[[int, int], object], row_bytes: int) -> None:
        n, b = len(self), self.rows.batches.batch_size

        def call(part: slice) -> None:
            work(part.start * b, min(part.stop * b, n))

        run_chunks(call, -(-n // b), self._batches_at_a_time(row_bytes), self.centre.device)
        return_freed_memory()

    def _batches_at_a_time(self, row_bytes: int) -> int:
        b, threads = self.rows.batches.batch_size, torch.get_num_threads()
        return min(self.memory // 2 // (row_bytes * b), threads * max(1, _BLOCK // b))


@dataclass(frozen=True, eq=False)
class StreamedNeighborhoods:
    """Neighbourhoods in a streamed set, estimated some at a time.

    Attributes
    ----------
    stream : Stream
        The set.
    rows : torch.Tensor of shape (q,)
        Row numbers of the queries.
    indices : torch.Tensor of shape (q, k)
        Row numbers of each query's neighbours, nearest first.
    """

    stream: Stream
    rows: Int64[Tensor, " q"]
    indices: Int64[Tensor, "q k"]

    def estimate(
        self, estimator: Any, k: int, memory: int
    ) -> tuple[Shaped[Tensor, " q"], Bool[Tensor, " q"]]:
        """Return `zmanifold.dimension.estimate` of the neighbourhoods of the k nearest."""
        stream = replace(self.stream, memory=memory)
        # Half of the memory is for the rows and, where rescaling changes them, their float64 copy;
        # a quarter is for the estimator.
        entry_bytes = stream.rows.batches.dtype.itemsize + 8 * (stream.exponent != 0)
        found = []
        n_features = stream.rows.n_features
        for part in chunks(len(self.rows), memory // 2 // (entry_bytes * (k + 1) * n_features)):
            members = torch.cat([self.rows[part, None], self.indices[part, :k]], dim=1)
            if estimator.needs in ("neighborhoods", "spectrum"):
                # These estimators use the neighbours alone: the first neighbour stands in for the
                # query, which is then not mixed unless it is somebody's neighbour.
                members[:, 0] = members[:, 1]
            needed, local = torch.unique(members, return_inverse=True)
            around = Neighborhoods(
                stream.made(needed),
                local[:, 1:],
                local[:, 0],
                memory // 4,
                tolerance=mixing_tolerance(stream.rows, needed),
            )
            found.append(estimate(estimator, around))
            return_freed_memory()
        values, degenerate = (torch.cat([pair[i] for pair in found]) for i in range(2))
        return values, degenerate
