"""The search for queries without a proof: every point that could matter is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from zmanifold._base.parallel import chunks
from zmanifold.neighbors._differences import write_nearest
from zmanifold.neighbors._filter import Filter
from zmanifold.neighbors._search import Search

__all__ = ["FEW_QUERIES", "search_exhaustively"]

# Up to this number of queries, comparing them with every point takes less time than building a
# float64 filter.
FEW_QUERIES = 16

# The number of queries that share a filter.
_TOGETHER = 1024


def search_exhaustively(search: Search, left: Int64[Tensor, " left"]) -> None:
    """Search again for the queries at positions `left`, with every point that could be near.

    The k-th distance found so far is an upper bound on the true one: a point whose float64 value
    proves that it lies farther cannot matter. Up to FEW_QUERIES queries are compared with all
    points instead, and need no neighbours found before.
    """
    search = replace(search, in_order=True)
    compare = _compare_with_all if len(left) <= FEW_QUERIES else _compare_with_possible
    compare(search, left)


def _compare_with_all(search: Search, left: Int64[Tensor, " left"]) -> None:
    n = len(search.points)
    everyone = torch.arange(n, device=search.points.device)
    for block in chunks(len(left), search.memory // (24 * n)):
        positions = left[block]
        part = search.part(positions)
        candidates = everyone.expand(len(positions), n)
        if part.queries.rows is not None:
            candidates = torch.where(everyone == part.queries.rows[:, None], -1, candidates)
        write_nearest(part, candidates)
        search.write(positions, part)


def _compare_with_possible(search: Search, left: Int64[Tensor, " left"]) -> None:
    points, d = search.points, search.points.shape[1]
    pool = _first_copies(points, search.k + 1)
    kept = points[pool]
    # Each block of queries has a filter centred on it, and consists of queries near one another.
    # Rounding is relative to norms, which are large around a centre that is far from the block.
    left = left[_along_the_widest(search.queries.part(left).at)]
    for block in chunks(len(left), min(search.memory // (48 * len(pool) + 8 * d), _TOGETHER)):
        positions = left[block]
        queries = search.queries.part(positions)
        fine = Filter.of(kept, torch.float64, len(pool), queries.at, around=queries.at)
        placed, reach = fine.left(queries.at), search.distances[positions, -1]
        limits = fine.ceiling(placed.sizes, reach).values(reach)
        possible = fine.values(placed) <= limits[:, None]
        if queries.rows is not None:
            possible &= pool != queries.rows[:, None]
        for chosen, candidates in _rectangles(possible):
            candidates = torch.where(candidates < 0, candidates, pool[candidates])
            part = search.part(positions[chosen])
            write_nearest(part, candidates)
            search.write(positions[chosen], part)


def _along_the_widest(at: Float[Tensor, "q d"]) -> Int64[Tensor, " q"]:
    """Return the order of the queries along the coordinate that varies most."""
    low, high = at.aminmax(dim=0)
    return at[:, (high - low).argmax()].argsort()


def _rectangles(
    mask: Bool[Tensor, "q m"],
) -> Iterator[tuple[Int64[Tensor, " r"], Int64[Tensor, "r c"]]]:
    """Yield rows and the columns where they are true, ascending, padded at the end with -1.

    Rows whose counts round up to the same power of two come together: at most half is padding.
    """
    counts = mask.sum(dim=1)
    rows, columns = mask.nonzero(as_tuple=True)
    slots = torch.arange(len(rows), device=mask.device) - (counts.cumsum(0) - counts)[rows]
    widths = torch.ceil(torch.log2(counts.double())).exp2().long()
    for width in sorted(set(widths.tolist())):
        chosen = (widths == width).nonzero()[:, 0]
        padded = rows.new_full((len(mask), width), -1)
        inside = widths[rows] == width
        padded[rows[inside], slots[inside]] = columns[inside]
        yield chosen, padded[chosen]


def _first_copies(points: Float[Tensor, "n d"], count: int) -> Int64[Tensor, " m"]:
    """Return the rows that are left if only the first `count` exact copies of a point are kept.

    Equal distances come by row number: the other copies are among no query's k < count nearest.
    """
    rows_as_bytes = points.cpu().numpy().view(np.dtype((np.void, points[0].nbytes)))[:, 0]
    _, group, sizes = np.unique(rows_as_bytes, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    copy_number = np.arange(len(order)) - np.repeat(sizes.cumsum() - sizes, sizes)
    return torch.from_numpy(np.sort(order[copy_number < count])).to(points.device)
