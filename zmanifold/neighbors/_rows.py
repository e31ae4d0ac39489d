"""The search with torch alone, for any device: whole rows of products, and the smallest of each."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from zmanifold._base.matmul import full_precision
from zmanifold._base.parallel import chunks
from zmanifold.neighbors._differences import write_nearest
from zmanifold.neighbors._exhaustive import search_exhaustively
from zmanifold.neighbors._filter import Filter
from zmanifold.neighbors._proposals import SPARE_CANDIDATES
from zmanifold.neighbors._search import Search

__all__ = ["search_rows"]


def search_rows(search: Search) -> None:
    """Search by float32 products, and write the neighbours by distance."""
    points = search.points
    n, d = points.shape
    n_candidates = min(search.n_others, search.k + SPARE_CANDIDATES)
    # Selecting among the minima of groups of g, then inside the c chosen groups, looks at n/g + g*c
    # values instead of n; the sum is least at g = sqrt(n/c).
    n_groups_per = max(1, math.isqrt(n // n_candidates))
    n_padded = -(-n // n_groups_per) * n_groups_per
    coarse = Filter.of(points, torch.float32, n_padded, search.queries.points)
    left: list[Tensor] = [search.indices[:0, 0]]
    row_bytes = 4 * n_padded + 24 * n_groups_per * n_candidates + 24 * d
    blocks = list(chunks(len(search.queries), min(search.memory // row_bytes, 4096)))
    buffer = points.new_empty((blocks[0].stop, n_padded), dtype=torch.float32)
    for block in blocks:
        part = search.part(block)
        rows = part.queries.rows
        placed = coarse.left(part.queries.at)
        with full_precision():
            values = coarse.values(placed, out=buffer[: len(placed.matrix)])
        if rows is not None:
            values[torch.arange(len(rows), device=rows.device), rows] = math.inf
        kept, candidates = _smallest(values, n_candidates, n_groups_per)
        # Sorted by row number, so that equal distances come by it.
        write_nearest(part, candidates.sort(dim=1).values)
        if n_candidates < search.n_others:
            reach = part.distances[:, -1]
            limits = coarse.ceiling(placed.sizes, reach).values(reach)
            proven = kept.amax(dim=1) > limits
            left.append((~proven).nonzero()[:, 0] + block.start)
    search_exhaustively(search, torch.cat(left))


def _smallest(
    values: Float32[Tensor, "q m"], count: int, n_groups_per: int
) -> tuple[Float32[Tensor, "q c"], Int64[Tensor, "q c"]]:
    """Return the `count` smallest values of each row and their columns, in any order.

    Columns form m/g groups of g. The `count` groups with the smallest minima hold them: each of
    these groups has a value at most as large as any value of another group.
    """
    q, m = values.shape
    n_groups = m // n_groups_per
    if n_groups_per == 1 or n_groups <= count:
        kept, columns = values.topk(count, dim=1, largest=False, sorted=False)
        return kept, columns
    grouped = values.view(q, n_groups_per, n_groups)
    groups = grouped.amin(dim=1).topk(count, dim=1, largest=False, sorted=False).indices
    inside = grouped.gather(2, groups[:, None, :].expand(-1, n_groups_per, -1))
    kept, position = inside.view(q, -1).topk(count, dim=1, largest=False, sorted=False)
    member, chosen = position // count, position % count
    return kept, member * n_groups + groups.gather(1, chosen)
