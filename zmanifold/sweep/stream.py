"""A mixed set that is never held as a whole: its rows are made anew whenever they are needed."""

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
from zmanifold._base.scaling import largest_magnitude, rescaled, scale_exponent, shifted
from zmanifold.dimension import Neighborhoods, estimate, greatest_norm
from zmanifold.mixers import MixedRows
from zmanifold.neighbors import search_blocks

__all__ = ["Stream", "StreamedNeighborhoods"]

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

        def look(start: int, stop: int) -> None:
            block = rows.take(torch.arange(start, stop))
            (scaled,), exponent = rescaled(block)
            fraction, power = math.frexp(greatest_norm(scaled))
            share = (block.double() / len(rows)).sum(dim=0)
            with lock:
                largest.append(largest_magnitude(block))
                norms.append((fraction, power + exponent))
                centre.add_(share)

        made = cls(rows, memory, 0, 0.0, (0.0, 0), centre)
        made._each_range(look, 8 * rows.n_features)
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
        """Find the nearest neighbours of some rows: see `zmanifold.neighbors.search_blocks`."""
        return search_blocks(self, positions, k, memory=self.memory // 2)

    def take(self, rows: Int64[Tensor, " p"]) -> Float[Tensor, "p d"]:
        """Make some rows, ascending and divided by the power of two, by the calling thread."""
        return shifted(self.rows.take(rows), self.exponent)

    def gathered(self, rows: Int64[Tensor, " p"]) -> Float[Tensor, "p d"]:
        """Make the same by all threads."""
        return shifted(self.made(rows), self.exponent)

    def each_range(self, work: Callable[[int, int], object], row_bytes: int) -> None:
        """Call `work` with the first row and the one after the last of whole batches.

        Threads share the batches. While one works a row takes so many bytes besides its making.
        """
        self._each_range(work, _ROW_BYTES * self.rows.n_features + row_bytes)

    def made(self, positions: Int64[Tensor, " p"]) -> Float[Tensor, "p d"]:
        """Make some rows, ascending, as the mixer makes them."""
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
                stream.made(needed),
                local[:, 1:],
                local[:, 0],
                memory // 4,
                largest_norm=stream.norm,
            )
            found.append(estimate(estimator, around))
            return_freed_memory()
        values, degenerate = (torch.cat([pair[i] for pair in found]) for i in range(2))
        return values, degenerate
