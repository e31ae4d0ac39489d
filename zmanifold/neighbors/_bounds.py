"""What proves which points can be near: a product's distances with a bound on their rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from zmanifold._base.arrays import largest_magnitude
from zmanifold._base.parallel import run_chunks
from zmanifold._base.rounding import UNIT_ROUNDOFF, sum_error

__all__ = [
    "CACHE_BYTES",
    "Bound",
    "Filter",
    "pair_distances",
    "root_sum_squares",
    "suits_a_tree",
]

# Up to this dimension a k-d tree beats the tiled matrix product on a CPU.
_TREE_MAX_DIM = 12

# Differences are formed in pieces that stay in a CPU's cache.
CACHE_BYTES = 8 * 2**20


def suits_a_tree(points: Float[Tensor, "n d"]) -> bool:
    """Tell whether a k-d tree searches these points faster than matrix products do."""
    return points.device.type == "cpu" and points.shape[1] <= _TREE_MAX_DIM


def root_sum_squares(differences: Float64[Tensor, "*shape d"]) -> Float64[Tensor, "*shape"]:
    """Return Euclidean lengths, the same bits whatever else is computed; overwrites its input."""
    squares = differences.square_()
    if squares.numel() == squares.shape[-1]:
        # Threads share a single row's sum and round it otherwise.
        return torch.cat([squares, squares]).sum(dim=-1)[: len(squares)].sqrt_()
    return squares.sum(dim=-1).sqrt_()


def pair_distances(
    a: Float[Tensor, "p d"], b: Float[Tensor, "p d"], memory: int
) -> Float64[Tensor, " p"]:
    """Measure row by row by direct differences in float64; the same pair, the same bits."""
    distances = a.new_empty(len(a), dtype=torch.float64)

    def work(part: slice) -> None:
        distances[part] = root_sum_squares(a[part].double() - b[part].double())

    run_chunks(work, len(a), memory // (24 * a.shape[1]), a.device)
    return distances


@dataclass(frozen=True)
class Bound:
    """The values that products may have at given distances, at the most or at the least.

    Distances D are unscaled and as float64 arithmetic rounded them. The bound of the values is
    growth * (slope * D + shift)^2 + offset, where a negative term in brackets counts as 0.

    Attributes
    ----------
    side : int
        1 if no point within the distances has a value above, -1 if none beyond has one below.
    slope, growth : float
        Those of all queries.
    shift, offset : torch.Tensor of shape (q,)
        Those of each query.
    """

    side: int
    slope: float
    shift: Float64[Tensor, " q"]
    growth: float
    offset: Float64[Tensor, " q"]

    def values(self, distances: Float64[Tensor, " q"]) -> Float64[Tensor, " q"]:
        """Return the bound at these distances."""
        reach = (self.slope * distances + self.shift).clamp(min=0)
        bound: Tensor = self.growth * reach.square() + self.offset
        return bound

    def distances(self, values: Float64[Tensor, " q"]) -> Float64[Tensor, " q"]:
        """Return distances at which the bound is at most these values, with side -1 at least."""
        rounding = self.side * 2.0**-48
        square = (values - self.offset) / self.growth
        square -= rounding * (values.abs() + self.offset.abs())
        found: Tensor = (square.clamp(min=0).sqrt() - self.shift) / self.slope * (1 - rounding)
        return found.clamp(min=0)


@dataclass(frozen=True)
class Filter:
    """Points centred and scaled to norms of at most 1, where a product proposes candidates.

    For query q and point j the product gives a_j ~ |j|^2 - 2 q.j, so a_j + |q|^2 is the squared
    distance up to an error that `ceiling` and `floor` account for.
    """

    centre: Float[Tensor, " d"]
    scale: float
    points: Float[Tensor, "m d"]
    squares: Float[Tensor, " m"]
    norms: Float64[Tensor, " n"]
    radius: float

    @classmethod
    def of(
        cls,
        points: Float[Tensor, "n d"],
        dtype: torch.dtype,
        n_padded: int,
        queries: Float[Tensor, "m d"],
        order: Int64[Tensor, " n"] | None = None,
    ) -> Filter:
        """Build it for these queries; rows past n are padding at infinite distance.

        The filter's points are these in the given order of their rows.
        """
        n, d = points.shape
        out = points.new_empty((n_padded, d), dtype=dtype)
        out[n:] = 0
        squares = points.new_full((n_padded,), math.inf, dtype=dtype)
        norms = points.new_empty(n, dtype=torch.float64)
        frame = cls.frame_of(points, dtype, queries)
        made = replace(frame, points=out, squares=squares, norms=norms)

        def work(part: slice) -> None:
            out[part], norms[part] = made.placed(points[part if order is None else order[part]])

        run_chunks(work, n, CACHE_BYTES // (8 * d), points.device)
        squares[:n] = norms.square()
        return replace(made, radius=float(norms.max()))

    @classmethod
    def frame(cls, centre: Float[Tensor, " d"], largest: float, dtype: torch.dtype) -> Filter:
        """Build one that holds no points, for those of up to the largest magnitude.

        The scale is a power of two, which rounds nothing, that brings norms down to 1 at most.
        """
        none = centre.new_empty((0, len(centre)), dtype=dtype)
        scale = 2.0 ** math.frexp(2 * largest * math.sqrt(len(centre)))[1]
        return cls(centre, scale, none, none[:, 0], none[:, 0].double(), 1.0)

    @classmethod
    def frame_of(
        cls, points: Float[Tensor, "n d"], dtype: torch.dtype, queries: Float[Tensor, "m d"]
    ) -> Filter:
        """Build one that holds no points, for these and queries of them."""
        # Any centre near the data's middle serves: it is the same for all points.
        centre = points.mean(dim=0).to(torch.promote_types(points.dtype, dtype))
        largest = max(largest_magnitude(points), largest_magnitude(queries))
        return cls.frame(centre, largest, dtype)

    def moved(self, points: Float[Tensor, "q d"]) -> Float[Tensor, "q d"]:
        """Centre and scale points.

        Differences are formed in the wider of the two dtypes and then rounded to the filter's:
        `ceiling` allows for both roundings.
        """
        return ((points.to(self.centre.dtype) - self.centre) / self.scale).to(self.points.dtype)

    def placed(
        self, points: Float[Tensor, "q d"]
    ) -> tuple[Float[Tensor, "q d"], Float64[Tensor, " q"]]:
        """Centre and scale points, and return their norms there."""
        moved = self.moved(points)
        return moved, torch.linalg.vector_norm(moved, dim=1, dtype=torch.float64)

    def placed_points(self) -> tuple[Float[Tensor, "m d"], Float64[Tensor, " n"]]:
        """Return the same of the points themselves."""
        return self.points, self.norms

    def values(
        self, placed: Float[Tensor, "q d"], out: Float[Tensor, "q m"] | None = None
    ) -> Float[Tensor, "q m"]:
        """Return a_j for each query and point."""
        return torch.addmm(self.squares, placed, self.points.mT, alpha=-2, out=out)

    def ceiling(self, query_norms: Float64[Tensor, " q"]) -> Bound:
        """Return values that no point within given distances of the queries exceeds."""
        return self._bound(query_norms, 1)

    def floor(self, query_norms: Float64[Tensor, " q"]) -> Bound:
        """Return values that no point at given distances of the queries, or beyond, is below."""
        return self._bound(query_norms, -1)

    def _bound(self, query_norms: Float64[Tensor, " q"], side: int) -> Bound:
        u = UNIT_ROUNDOFF[self.points.dtype]
        d = self.points.shape[1]
        q, radius = query_norms, self.radius
        # Centring and rounding move either point by at most 2 u times its norm.
        moved = 2.01 * u * (q + radius)
        error = (
            2 * sum_error(d + 2, u) * q * radius
            + 2 * u * (radius**2 + 2 * q * radius)
            + d * 2.0**-140
        )
        slope = (1 + side * (d + 8) * 2.0**-52) / self.scale
        offset = side * (error + 2.0**-50 * q.square()) - q.square()
        return Bound(side, slope, side * moved, 1 + side * 2.0**-50, offset)
