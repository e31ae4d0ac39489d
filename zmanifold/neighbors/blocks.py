"""The search among points that are made block by block and never held at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Float64, Int32, Int64
from torch import Tensor

from zmanifold._base.matmul import full_precision, product
from zmanifold._base.parallel import chunks, run_chunks
from zmanifold.neighbors._filter import SAMPLED, Filter, middle
from zmanifold.neighbors._measuring import choose, measure_pairs
from zmanifold.neighbors._proposals import SPARE_CANDIDATES
from zmanifold.neighbors._search import suits_a_tree
from zmanifold.neighbors._shortlists import Shortlists

__all__ = ["Blocks", "search_blocks"]

# The number of queries whose products with a block are computed at a time.
_STRIP = 1024


class Blocks(Protocol):
    """Points on a CPU that are made each time they are asked for, by all threads.

    The points are finite, of moderate magnitude (see `MetricSpace`), and the same each time.
    """

    @property
    def centre(self) -> Float64[Tensor, " d"]:
        """A place near the middle of the points."""

    @property
    def largest(self) -> float:
        """The largest magnitude of the points."""

    def __len__(self) -> int: ...

    def take(self, rows: Int64[Tensor, " p"]) -> Float[Tensor, "p d"]:
        """Make some rows, ascending, by the calling thread."""

    def gathered(self, rows: Int64[Tensor, " p"]) -> Float[Tensor, "p d"]:
        """Make some rows, ascending, by all threads."""

    def each_range(self, work: Callable[[int, int], object], row_bytes: int) -> None:
        """Call `work` by all threads, with each block's first row and the row after its last.

        `row_bytes` is the memory that `work` needs for each row, besides that of making it.
        """


def search_blocks(
    blocks: Blocks, rows: Int64[Tensor, " q"], k: int, *, memory: int
) -> Int64[Tensor, "q k"]:
    """Find the neighbours of some rows among all others, as `zmanifold.neighbors.search` does.

    Parameters
    ----------
    blocks : Blocks
        The points.
    rows : torch.Tensor of shape (q,)
        Row numbers of the queries, ascending.
    k : int
        Number of neighbours, 1 <= k < n.
    memory : int
        Bytes of working memory for the queries and their lists, besides that of the blocks.

    Returns
    -------
    torch.Tensor of shape (q, k)
        Row numbers by distance; equal distances come by row number.

    Notes
    -----
    A first pass over the blocks lists candidates by float32 products, a second one measures their
    distances, and a third one, in float64, searches again for the queries where rounding could have
    hidden a nearer row.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.neighbors import search_blocks
    >>> class Squares:
    ...     centre, largest = torch.tensor([30.0]).double(), 81.0
    ...     def __len__(self):
    ...         return 10
    ...     def take(self, rows):
    ...         return rows.double().square()[:, None]
    ...     gathered = take
    ...     def each_range(self, work, row_bytes):
    ...         work(0, 5), work(5, 10)
    >>> search_blocks(Squares(), torch.tensor([3]), 2, memory=2**20)
    tensor([[2, 4]])
    """
    indices = rows.new_empty((len(rows), k))
    length = min(len(blocks) - 1, k + SPARE_CANDIDATES)
    # A query as it is, in float64 and in float32; its list, its candidates and their distances.
    query_bytes = 32 * len(blocks.centre) + 8 * Shortlists.width(length) + 256 * length
    some = torch.linspace(0, len(blocks) - 1, min(SAMPLED, 1 + memory // query_bytes)).long()
    place = middle(blocks.gathered(some), blocks.centre)
    for part in chunks(len(rows), memory // query_bytes):
        at = blocks.gathered(rows[part])
        _BlockSearch(blocks, rows[part], at, length, *place).write(indices[part])
    return indices


@dataclass(frozen=True)
class _BlockSearch:
    """The search for the neighbours of `rows`, whose points are `at`, with lists of this length.

    `typical` is the median distance of the points from the centre.
    """

    blocks: Blocks
    rows: Int64[Tensor, " q"]
    at: Float[Tensor, "q d"]
    length: int
    centre: Float64[Tensor, " d"]
    typical: float

    def write(self, indices: Int64[Tensor, "q k"]) -> None:
        """Search, and write the neighbours' row numbers."""
        coarse, lists = self._listed()
        candidates = lists.columns[:, : self.length]
        found = self._measured(candidates)
        reach = torch.empty((len(self.at), 1), dtype=torch.float64)
        choose(found, candidates, reach.numpy(), indices.numpy())
        if self.length == len(self.blocks) - 1:
            return
        limits = coarse.ceiling(coarse.left(self.at).sizes, reach[:, 0]).values(reach[:, 0])
        proven = torch.from_numpy(lists.limits) > limits
        left = (~proven).nonzero()[:, 0]
        if len(left):
            # Norms in float32 and in float64 differ by less than this: docs/proofs.md, section 1.
            radius = 1.0 if coarse.partial else coarse.radius * (1 + 2.0**-10) + 2.0**-20
            fine = replace(self._frame(torch.float64), radius=radius)
            again = replace(self, rows=self.rows[left], at=self.at[left])
            indices[left] = again._exhaustively(fine, reach[left], indices.shape[1])

    def _frame(self, dtype: torch.dtype) -> Filter:
        return Filter.frame(self.centre, self.blocks.largest, dtype, self.typical)

    def _listed(self) -> tuple[Filter, Shortlists]:
        """List candidates; return the filter's frame, with the largest norm, and the lists."""
        frame = self._frame(torch.float32)
        placed = frame.left(self.at).matrix
        lists = Shortlists.of(len(self.at), self.length)
        own, radii = self.rows.numpy(), [0.0]
        strips = list(chunks(len(self.at), _STRIP))
        locks = [threading.Lock() for _ in strips]

        def insert(start: int, block: Float[Tensor, "m d"]) -> None:
            proposal = frame.holding(block)
            radii.append(proposal.radius)
            squares = proposal.squares.numpy()
            # Threads begin at different strips, so that they rarely wait for one another.
            for i in np.roll(np.arange(len(strips)), start % len(strips)):
                tile = product(placed[strips[i]], proposal.points).numpy()
                with locks[i]:
                    lists.insert(tile, squares, strips[i].start, start, own[strips[i]])

        with full_precision():
            self._each_block(insert, 4 * _STRIP)
        run_chunks(lists.finish, len(self.at), 4096, self.at.device)
        return replace(frame, radius=max(radii)), lists

    def _measured(self, candidates: Int32[np.ndarray, "q c"]) -> Float64[np.ndarray, "q c"]:
        """Return the distances of queries and candidates, by direct differences in float64."""
        columns = candidates.ravel()
        order = np.argsort(columns, kind="stable")
        columns = columns[order]
        found = np.empty(columns.size)
        in_order = suits_a_tree(self.at)

        def measure(start: int, stop: int) -> None:
            pairs = slice(*np.searchsorted(columns, [start, stop]))
            needed, places = np.unique(columns[pairs], return_inverse=True)
            if not len(needed):
                return
            block = self.blocks.take(torch.from_numpy(needed).long())
            given = np.stack([order[pairs] // candidates.shape[1], places])
            found[order[pairs]] = measure_pairs(
                block.numpy(), self.at.numpy(), given, in_order=in_order
            )

        self.blocks.each_range(measure, 0)
        return found.reshape(candidates.shape)

    def _exhaustively(
        self, fine: Filter, reach: Float64[Tensor, "q 1"], k: int
    ) -> Int64[Tensor, "q k"]:
        """Search again with every row that could be as near as the k-th found so far."""
        left = fine.left(self.at)
        limits = fine.ceiling(left.sizes, reach[:, 0]).values(reach[:, 0])[:, None]
        found = _Pairs(len(self.at), k)
        in_order = suits_a_tree(self.at)

        def collect(start: int, block: Float[Tensor, "m d"]) -> None:
            possible = fine.holding(block).values(left) <= limits
            possible &= torch.arange(start, start + len(block)) != self.rows[:, None]
            near = possible.nonzero().T.contiguous().numpy()
            measured = measure_pairs(block.numpy(), self.at.numpy(), near, in_order=in_order)
            found.add(np.stack([near[0], measured, near[1] + start]))

        # Each product needs a mask, two indices and, at worst, a pair.
        self._each_block(collect, 64 * len(self.at))
        return found.nearest()

    def _each_block(
        self, work: Callable[[int, Float[Tensor, "m d"]], object], row_bytes: int
    ) -> None:
        """Call `work` with each block's first row number and rows."""

        def make(start: int, stop: int) -> None:
            work(start, self.blocks.take(torch.arange(start, stop)))

        self.blocks.each_range(make, row_bytes)


class _Pairs:
    """Pairs of a query and a row with their distances, cut to k a query when there are many."""

    def __init__(self, n_queries: int, k: int) -> None:
        self.n_queries, self.k = n_queries, k
        self._lock = threading.Lock()
        self._pairs: list[Float64[np.ndarray, "3 p"]] = []

    def add(self, pairs: Float64[np.ndarray, "3 p"]) -> None:
        """Add queries, distances and rows, from any thread."""
        with self._lock:
            self._pairs.append(pairs)
            if sum(some.shape[1] for some in self._pairs) > 2 * self.n_queries * self.k:
                self._cut()

    def nearest(self) -> Int64[Tensor, "q k"]:
        """Return each query's k nearest rows by (distance, row number)."""
        self._cut()
        return torch.from_numpy(self._pairs[0][2].astype(np.int64).reshape(-1, self.k))

    def _cut(self) -> None:
        every = np.concatenate(self._pairs, axis=1)
        every = every[:, np.lexsort(every[::-1])]
        starts = np.searchsorted(every[0], np.arange(self.n_queries))
        rank = np.arange(every.shape[1]) - starts[every[0].astype(np.int64)]
        self._pairs[:] = [every[:, rank < self.k]]
