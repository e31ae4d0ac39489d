"""The search on a CPU by tiles of products, from which each query's candidates are listed."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import BFloat16, Float32, Float64, Int64, UInt16
from torch import Tensor

from zmanifold._base.matmul import (
    full_precision,
    multiplies_bfloat16,
    multiplies_bfloat16_tiles,
    multiplies_slowly,
    product,
)
from zmanifold._base.parallel import chunks, run_chunks
from zmanifold.neighbors._bfloat16 import BFloat16Filter
from zmanifold.neighbors._exhaustive import FEW_QUERIES, search_exhaustively
from zmanifold.neighbors._filter import Filter
from zmanifold.neighbors._measuring import measure_candidates, measure_uncertain
from zmanifold.neighbors._projections import MOST_COLUMNS, ProjectionFilter, Projections
from zmanifold.neighbors._proposals import SPARE_CANDIDATES, Factor, Proposal
from zmanifold.neighbors._search import Search
from zmanifold.neighbors._shortlists import Shortlists

__all__ = ["search_tiles"]

# The side of a tile of products: one of this size stays in a CPU's cache while it is listed.
_TILE_SIDE = 2048

# From this number of features, multiplications and queries on, products in bfloat16 come first, if
# they prove the neighbours of nearly all of a sample of queries. With AMX their rate is seven times
# that of float32 instead of twice, so that fewer queries pay for the second pass.
_LEAST_BFLOAT16_FEATURES = 256
_LEAST_BFLOAT16_WORK = 2**36
_LEAST_BFLOAT16_QUERIES = 4096
_LEAST_BFLOAT16_QUERIES_WITH_AMX = 1500
_TRIED = 128

# From this number of features, multiplications and queries on, projections come first on a CPU
# without AVX-512, where float32 products are slow.
_LEAST_PROJECTED_FEATURES = 256
_LEAST_PROJECTED_WORK = 2**40
_LEAST_PROJECTED_QUERIES = 4096

# The size of the sample of points whose products give lists their first limits.
_SAMPLED = 1024


def search_tiles(search: Search) -> None:
    """Search on a CPU: each thread multiplies tiles of its own and lists their columns.

    Where every point is a query, a tile serves the queries of its rows and of its columns.
    """
    left = _search_in_bfloat16(search)
    if left is None:
        _search_in_float32(search)
        return
    rest = search.part(left)
    _search_in_float32(rest)
    search.write(left, rest)


def _search_in_bfloat16(search: Search) -> Int64[Tensor, " left"] | None:
    """Search by products in bfloat16; return the queries left open, or None if it does not pay."""
    if not _bfloat16_pays(search):
        return None
    proposal = BFloat16Filter.of(search.points, search.queries.points, search.order)
    if proposal.frame.partial:
        return None
    return _propose(search, proposal) if _mostly_proven(search, proposal) else None


def _search_in_float32(search: Search) -> None:
    left = torch.arange(len(search.queries))
    if len(left) > FEW_QUERIES:
        left = _propose(search, _float32_proposal(search))
    search_exhaustively(search, left)


def _float32_proposal(search: Search) -> Proposal:
    n = len(search.points)
    exact = Filter.of(search.points, torch.float32, n, search.queries.points, search.order)
    if _projections_pay(search):
        projections = Projections.of(exact.points, (search.k + SPARE_CANDIDATES) / n)
        if projections is not None:
            return ProjectionFilter(**vars(exact), projections=projections)
    return exact


def _bfloat16_pays(search: Search) -> bool:
    """Tell whether a search is large enough to try products in bfloat16."""
    n, d = search.points.shape
    q = len(search.queries)
    least = (
        _LEAST_BFLOAT16_QUERIES_WITH_AMX if multiplies_bfloat16_tiles() else _LEAST_BFLOAT16_QUERIES
    )
    enough = q >= least and q * n * d >= _LEAST_BFLOAT16_WORK
    return enough and d >= _LEAST_BFLOAT16_FEATURES and multiplies_bfloat16()


def _projections_pay(search: Search) -> bool:
    """Tell whether a search is large enough to try projections."""
    n, d = search.points.shape
    q = len(search.queries)
    enough = q >= _LEAST_PROJECTED_QUERIES and q * n * d >= _LEAST_PROJECTED_WORK
    room = 4 * (MOST_COLUMNS + 1) * n <= search.memory // 4
    return enough and room and d >= _LEAST_PROJECTED_FEATURES and multiplies_slowly()


def _mostly_proven(search: Search, proposal: Proposal) -> bool:
    """Tell whether a proposal proves the neighbours of nearly all of a sample of queries."""
    some = search.part(torch.linspace(0, len(search.queries) - 1, _TRIED).long())
    some = replace(some, distances=some.distances[:, -1:].contiguous(), in_order=False)
    return len(_propose(some, proposal)) <= _TRIED // 16


def _propose(search: Search, proposal: Proposal) -> Int64[Tensor, " left"]:
    """Measure the candidates of a proposal and write the nearest.

    Returns
    -------
    torch.Tensor of shape (left,)
        The positions of the queries for which nothing proves that no neighbour is missing.
    """
    tiling = _Tiling.of(search, proposal)
    left: list[Tensor] = [search.indices[:0, 0]]
    for block in chunks(len(search.queries), tiling.n_listed):
        part = search.part(block)
        lists, sizes = tiling.listed(part, proposal)
        if search.in_order or search.distances.shape[1] > 1:
            measure_candidates(part, torch.from_numpy(lists.columns))
        else:
            measure_uncertain(part, lists, proposal, sizes)
        if tiling.length < search.n_others:
            reach = part.distances[:, -1]
            proven = torch.from_numpy(lists.limits) > proposal.ceiling(sizes, reach).values(reach)
            left.append((~proven).nonzero()[:, 0] + block.start)
    return torch.cat(left)


@dataclass(frozen=True)
class _Tiling:
    """How the products are cut into tiles, and where the points stand in the proposal.

    Attributes
    ----------
    length : int
        The wanted length of a candidate list.
    side : int
        The largest number of rows and of columns of a tile.
    n_listed : int
        The number of queries that have lists at a time.
    mirrored : bool
        Whether a tile serves the queries of its columns, too.
    order : torch.Tensor of shape (n,)
        The rows of the proposal's points.
    """

    length: int
    side: int
    n_listed: int
    mirrored: bool
    order: Int64[Tensor, " n"]

    @classmethod
    def of(cls, search: Search, proposal: Proposal) -> _Tiling:
        """Use half of the memory for lists, and half for tiles and the matrix library's buffers."""
        n, d = search.points.shape
        threads, memory = torch.get_num_threads(), search.memory
        length = min(search.n_others, search.k + proposal.spare(search.k))
        side = min(_TILE_SIDE, math.isqrt(memory // (16 * threads)))
        list_bytes = 8 * (Shortlists.width(length) + length)
        mirrored = (
            search.queries.is_all and n > 4 * threads * side and n * list_bytes <= memory // 2
        )
        n_listed = n if mirrored else memory // 2 // (list_bytes + 16 * d)
        return cls(length, side, n_listed, mirrored, search.order)

    @cached_property
    def places(self) -> Int64[Tensor, " n"]:
        """The place of each row of the points in the proposal."""
        places = torch.empty_like(self.order)
        places[self.order] = torch.arange(len(self.order))
        return places

    def listed(
        self, search: Search, proposal: Proposal
    ) -> tuple[Shortlists, Float64[Tensor, "q *s"]]:
        """Return the candidate lists of the queries, in their order, and the queries' sizes."""
        queries = search.queries
        if self.mirrored:
            rows, own = self.order, torch.arange(len(self.order))
            left = proposal.mirrored()
            sizes = left.sizes[self.places]
        else:
            rows = torch.arange(len(queries))
            own = torch.full_like(rows, -1) if queries.rows is None else self.places[queries.rows]
            left = proposal.left(queries.at)
            sizes = left.sizes
        lists = Shortlists.of(len(queries), self.length)
        _Tiles(lists, proposal, left, own.numpy(), self).fill()
        in_place = Shortlists.of(len(queries), self.length, spare=False)

        def finish(part: slice) -> None:
            lists.finish(part)
            lists.scatter(part, rows.numpy(), self.order.numpy(), in_place)

        run_chunks(finish, len(queries), 4096, rows.device)
        return in_place, sizes


class _Tiles:
    """The products of queries and points as tiles, which are inserted into candidate lists."""

    def __init__(
        self,
        lists: Shortlists,
        proposal: Proposal,
        left: Factor,
        own: Int64[np.ndarray, " q"],
        tiling: _Tiling,
    ) -> None:
        self.lists, self.own = lists, own
        self.left, self.right = left, proposal.right
        self.squares = proposal.squares.numpy()
        self.side, self.mirrored = tiling.side, tiling.mirrored
        n, q, threads = len(self.squares), len(own), torch.get_num_threads()
        # A few queries are cut into strips that are low enough to keep every thread busy.
        height = self.side if self.mirrored else min(self.side, -(-q // (4 * threads)))
        self.strips, self.bands = list(chunks(q, height)), list(chunks(n, self.side))
        self.locks = [threading.Lock() for _ in self.strips]
        self.n_inserted = [0 for _ in self.strips]

    def fill(self) -> None:
        """Multiply all tiles and insert them into the lists."""
        threads, device = torch.get_num_threads(), self.left.matrix.device
        tiles = [
            (i, j)
            for i in range(len(self.strips))
            for j in range(i * self.mirrored, len(self.bands))
        ]

        def work(part: slice) -> None:
            for i, j in tiles[part]:
                self._insert(i, j)

        with full_precision():
            self._estimate_limits()
            run_chunks(work, len(tiles), threads, device)

    def _insert(self, i: int, j: int) -> None:
        """Multiply a strip of queries and a band of points; insert the tile's columns.

        If mirrored, the lists of the band's points get the tile's rows, too.
        """
        rows, columns = self.strips[i], self.bands[j]
        tile = _as_array(product(self.left.matrix[rows], self.right.matrix[columns]))
        at = rows.start, columns.start
        pair = swapped = None
        if self.left.unprojected is not None and self.right.unprojected is not None:
            pair = self.left.unprojected[rows].numpy(), self.right.unprojected[columns].numpy()
            swapped = pair[::-1]
        with self.locks[i]:
            keep = self._safe_length(i, tile.shape[1])
            self.lists.insert(tile, self.squares[columns], *at, self.own[rows], keep, pair)
        if self.mirrored and i < j:
            with self.locks[j]:
                keep = self._safe_length(j, tile.shape[0])
                self.lists.insert_transposed(
                    tile, self.squares[rows], *at[::-1], self.own[columns], keep, swapped
                )

    def _safe_length(self, i: int, n_columns: int) -> int:
        """Return how many of the columns inserted so far can be in a final list, nearly for sure.

        The points are in random order: of the first m, about length * m / n are among a list's
        smallest values of all n, and seldom many more.
        """
        self.n_inserted[i] += n_columns
        length = self.lists.length
        return min(length, _safe_rank(length * self.n_inserted[i] / len(self.squares)))

    def _estimate_limits(self) -> None:
        """Give the lists first limits, below which there are nearly for sure enough points."""
        n, length = len(self.squares), self.lists.length
        # These products take no more memory than a tile.
        m = min(_SAMPLED, self.side // 2, n // 32)
        rank = _safe_rank(m * length / n)
        if rank > m // 8:
            return
        left, right, squares = self.left.exact, self.right.exact[:m], self.squares[:m]

        def work(part: slice) -> None:
            tile = _as_array(product(left[part], right))
            self.lists.estimate_limits(tile, squares, part.start, rank)

        run_chunks(work, len(left), torch.get_num_threads() * self.side, left.device)


def _as_array(
    tile: Float32[Tensor, "r c"] | BFloat16[Tensor, "r c"],
) -> Float32[np.ndarray, "r c"] | UInt16[np.ndarray, "r c"]:
    """Return a tile as an array, bfloat16 numbers as their bits."""
    return (tile.view(torch.uint16) if tile.dtype == torch.bfloat16 else tile).numpy()


def _safe_rank(expected: float) -> int:
    """Return a rank that a count of this expectation reaches in at most one case of 10,000.

    Counts in a sample without replacement vary less than Poisson's, whose standard deviation is
    sqrt(expected): docs/proofs.md, section 6. A count that reaches the rank costs time, but no
    exactness.
    """
    return math.ceil(expected + 4 * math.sqrt(expected) + 3)
