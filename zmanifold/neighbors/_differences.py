"""Direct differences in float64 by torch, on any device."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from zmanifold._base.parallel import chunks, run_chunks
from zmanifold.neighbors._search import Search

__all__ = ["pair_distances", "root_sum_squares", "write_nearest"]


def root_sum_squares(differences: Float64[Tensor, "*shape d"]) -> Float64[Tensor, "*shape"]:
    """Return Euclidean lengths, whose bits depend on their rows alone; overwrite the input."""
    squares = differences.square_()
    if squares.numel() == squares.shape[-1]:
        # torch splits the sum of a single row among threads, which rounds it differently.
        return torch.cat([squares, squares]).sum(dim=-1)[: len(squares)].sqrt_()
    return squares.sum(dim=-1).sqrt_()


def pair_distances(
    a: Float[Tensor, "p d"], b: Float[Tensor, "p d"], memory: int
) -> Float64[Tensor, " p"]:
    """Return distances row by row, by direct differences in float64.

    The bits of a distance depend on its pair alone.
    """
    distances = a.new_empty(len(a), dtype=torch.float64)

    def work(part: slice) -> None:
        distances[part] = root_sum_squares(a[part].double() - b[part].double())

    run_chunks(work, len(a), memory // (24 * a.shape[1]), a.device)
    return distances


def write_nearest(search: Search, candidates: Int64[Tensor, "q c"]) -> None:
    """Measure the distance of each query's candidates and write the nearest, by distance.

    Parameters
    ----------
    search : Search
        On any device.
    candidates : torch.Tensor of shape (q, c)
        At least k different row numbers for each query, ascending: equal distances keep their
        order. -1 stands for no candidate.
    """
    if search.points.device.type == "cpu":
        from zmanifold.neighbors._measuring import measure_candidates

        measure_candidates(search, candidates)
    else:
        _write_nearest_by_torch(search, candidates)


def _write_nearest_by_torch(search: Search, candidates: Int64[Tensor, "q c"]) -> None:
    points, at, memory = search.points, search.queries.at, search.memory
    c, d = candidates.shape[1], points.shape[1]
    distances = points.new_empty(candidates.shape, dtype=torch.float64)

    def work(part: slice) -> None:
        # The candidates of a single query may need more memory than there is: they are cut too.
        for columns in chunks(c, memory // (48 * d)):
            # torch subtracts float64 from float32 in float64, without a copy of the first.
            near = torch.sub(points[candidates[part, columns]], at[part].double()[:, None, :])
            distances[part, columns] = root_sum_squares(near)
        distances[part].masked_fill_(candidates[part] < 0, math.inf)

    run_chunks(work, len(candidates), memory // (24 * c * d), points.device)
    order = distances.argsort(dim=1, stable=True)[:, : search.k]
    search.distances[:] = distances.gather(1, order[:, -search.distances.shape[1] :])
    search.indices[:] = candidates.gather(1, order)
