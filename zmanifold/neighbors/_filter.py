"""Products in float32 or float64 that propose candidates, with a bound on their rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from zmanifold._base.parallel import run_chunks
from zmanifold._base.rounding import UNIT_ROUNDOFF, sum_error
from zmanifold._base.scaling import largest_magnitude
from zmanifold.neighbors._bounds import Bound
from zmanifold.neighbors._proposals import CACHE_BYTES, SPARE_CANDIDATES, Factor

__all__ = ["Filter"]


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
            placed = made.left(points[part if order is None else order[part]])
            out[part], norms[part] = placed.matrix, placed.sizes

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

    def holding(self, points: Float[Tensor, "m d"]) -> Filter:
        """Return one in the same place that holds these points."""
        placed = self.left(points)
        return replace(
            self,
            points=placed.matrix,
            squares=placed.sizes.square().to(placed.matrix.dtype),
            norms=placed.sizes,
            radius=float(placed.sizes.max()),
        )

    def left(self, queries: Float[Tensor, "q d"]) -> Factor:
        """Return queries as the left-hand side of products, with their norms."""
        moved = self.moved(queries)
        return Factor(moved, torch.linalg.vector_norm(moved, dim=1, dtype=torch.float64))

    @property
    def right(self) -> Factor:
        """The points, with their norms."""
        return Factor(self.points, self.norms)

    def mirrored(self) -> Factor:
        """Return the same: both sides are alike."""
        return self.right

    def spare(self, k: int) -> int:
        """Tell how many candidates more than k neighbours are to be kept."""
        return SPARE_CANDIDATES

    def values(self, left: Factor, out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Return a_j for each query and point."""
        return torch.addmm(self.squares, left.matrix, self.points.mT, alpha=-2, out=out)

    def ceiling(self, norms: Float64[Tensor, " q"]) -> Bound:
        """Return values that no point within given distances of the queries exceeds."""
        return self._bound(norms, 1)

    def floor(self, norms: Float64[Tensor, " q"]) -> Bound:
        """Return values that no point at given distances of the queries, or beyond, is below."""
        return self._bound(norms, -1)

    def _bound(self, norms: Float64[Tensor, " q"], side: int) -> Bound:
        # docs/proofs.md, section 1, derives each term.
        u = UNIT_ROUNDOFF[self.points.dtype]
        d = self.points.shape[1]
        q, radius = norms, self.radius
        # Centring and rounding move either point by at most 2 u times its norm.
        moved = 2.01 * u * (q + radius)
        # The product's sum; the rounding of squares and of what is added to them; underflow.
        error = (
            2 * sum_error(d + 2, u) * q * radius
            + 2 * u * (radius**2 + 2 * q * radius)
            + d * 2.0**-140
        )
        slope = (1 + side * (d + 8) * 2.0**-52) / self.scale
        offset = side * (error + 2.0**-50 * q.square()) - q.square()
        return Bound(side, slope, side * moved, 1 + side * 2.0**-50, offset)
