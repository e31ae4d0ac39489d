"""Proposals by products in float32 or float64, with a bound on their rounding."""

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
from zmanifold.neighbors._proposals import CACHE_BYTES, SPARE_CANDIDATES, Factor, within_reach

__all__ = ["SAMPLED", "Filter", "middle"]

# The size of the sample of points that shows where most of them are.
SAMPLED = 256

# Norms may exceed the typical one by 2**40: float32 products of typical points, of about 2**-82,
# are then far from 2**-126, where they would lose digits.
_RANGE = 40


@dataclass(frozen=True)
class Filter:
    """Points centred and scaled to norms of at most 1, whose products propose candidates.

    For query q and point j the product gives a_j ~ |j|^2 - 2 q.j, so a_j + |q|^2 is the squared
    distance up to an error that `ceiling` and `floor` account for.

    Attributes
    ----------
    centre : torch.Tensor of shape (d,)
        The place that is subtracted from points.
    scale : float
        The power of two that the differences are divided by.
    points : torch.Tensor of shape (m, d)
        The right factor of the products.
    squares : torch.Tensor of shape (m,)
        The squared norms of the points; 4, more than any value, for points that are too far.
    norms : torch.Tensor of shape (n,)
        The norms; infinity for points that are too far.
    radius : float
        The largest finite norm.
    partial : bool
        Whether points may be too far: with norms above 1, where products might overflow or those of
        most points underflow. Bounds whose reach includes such points are infinite.
    """

    centre: Float[Tensor, " d"]
    scale: float
    points: Float[Tensor, "m d"]
    squares: Float[Tensor, " m"]
    norms: Float64[Tensor, " n"]
    radius: float
    partial: bool

    @classmethod
    def of(
        cls,
        points: Float[Tensor, "n d"],
        dtype: torch.dtype,
        n_padded: int,
        queries: Float[Tensor, "m d"],
        order: Int64[Tensor, " n"] | None = None,
        around: Float[Tensor, "a d"] | None = None,
    ) -> Filter:
        """Build a filter of points, in this order of their rows, for these queries.

        Rows past n are padding at infinite distance. The centre is near most of the points, or near
        most of those given as `around`.
        """
        n, d = points.shape
        out = points.new_empty((n_padded, d), dtype=dtype)
        out[n:] = 0
        squares = points.new_full((n_padded,), math.inf, dtype=dtype)
        norms = points.new_empty(n, dtype=torch.float64)
        frame = cls.frame_of(points, dtype, queries, around)
        made = replace(frame, points=out, squares=squares, norms=norms)

        def work(part: slice) -> None:
            placed = made.left(points[part if order is None else order[part]])
            out[part], norms[part] = placed.matrix, placed.sizes

        run_chunks(work, n, CACHE_BYTES // (8 * d), points.device)
        squares[:n] = made._squares(norms)
        return replace(made, radius=_largest(norms))

    @classmethod
    def frame(
        cls,
        centre: Float[Tensor, " d"],
        largest: float,
        dtype: torch.dtype,
        typical: float = math.inf,
    ) -> Filter:
        """Build a filter without points, for points of up to the largest magnitude.

        The scale is a power of two, so that no division rounds. It brings all norms to at most 1,
        except norms that exceed the `typical` one by a factor of 2**40.
        """
        none = centre.new_empty((0, len(centre)), dtype=dtype)
        scale = 2.0 ** math.frexp(2 * largest * math.sqrt(len(centre)))[1]
        most = 2.0 ** (math.frexp(typical)[1] + _RANGE) if 0 < typical < math.inf else scale
        return cls(
            centre, min(scale, most), none, none[:, 0], none[:, 0].double(), 1.0, most < scale
        )

    @classmethod
    def frame_of(
        cls,
        points: Float[Tensor, "n d"],
        dtype: torch.dtype,
        queries: Float[Tensor, "m d"],
        around: Float[Tensor, "a d"] | None = None,
    ) -> Filter:
        """Build a filter without points whose centre and scale suit these points and queries."""
        around = points if around is None else around
        mean = around.mean(dim=0).double()
        some = around[torch.linspace(0, len(around) - 1, SAMPLED, device=around.device).long()]
        centre, typical = middle(some, mean)
        largest = max(largest_magnitude(points), largest_magnitude(queries))
        return cls.frame(
            centre.to(torch.promote_types(points.dtype, dtype)), largest, dtype, typical
        )

    def moved(self, points: Float[Tensor, "q d"]) -> Float[Tensor, "q d"]:
        """Centre and scale points.

        Differences are computed in the wider of the two dtypes and then rounded to the filter's;
        `ceiling` allows for both roundings.
        """
        return ((points.to(self.centre.dtype) - self.centre) / self.scale).to(self.points.dtype)

    def holding(self, points: Float[Tensor, "m d"]) -> Filter:
        """Return a filter with the same centre and scale that holds these points."""
        placed = self.left(points)
        return replace(
            self,
            points=placed.matrix,
            squares=self._squares(placed.sizes),
            norms=placed.sizes,
            radius=_largest(placed.sizes),
        )

    def _squares(self, norms: Float64[Tensor, " m"]) -> Float[Tensor, " m"]:
        """Return squared norms, 4 for points too far: |j|^2 - 2 q.j is at most 3 for the others."""
        return norms.square().clamp_(max=4).to(self.points.dtype)

    def left(self, queries: Float[Tensor, "q d"]) -> Factor:
        """Return queries as the left factor, with their norms."""
        moved = self.moved(queries)
        norms = torch.linalg.vector_norm(moved, dim=1, dtype=torch.float64)
        if self.partial:
            too_far = norms > 1
            moved[too_far], norms[too_far] = 0, math.inf
        return Factor(moved, norms)

    @property
    def right(self) -> Factor:
        """The points as the right factor, with their norms."""
        return Factor(self.points, self.norms)

    def mirrored(self) -> Factor:
        """Return the points as the left factor, which is the same as the right one."""
        return self.right

    def spare(self, k: int) -> int:
        """Return how many more candidates than k neighbours to keep."""
        return SPARE_CANDIDATES

    def values(self, left: Factor, out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Return a_j for each query and point."""
        return torch.addmm(self.squares, left.matrix, self.points.mT, alpha=-2, out=out)

    def ceiling(self, norms: Float64[Tensor, " q"], within: Float64[Tensor, " q"]) -> Bound:
        """Return the bound that no value of a point within a distance of the query exceeds."""
        return self._bound(norms, within, 1)

    def floor(self, norms: Float64[Tensor, " q"], within: Float64[Tensor, " q"]) -> Bound:
        """Return the bound that no value of a point at a distance, or farther, is below."""
        return self._bound(norms, within, -1)

    def reach(
        self, norms: Float64[Tensor, " q"], values: Float64[Tensor, " q"]
    ) -> Float64[Tensor, " q"]:
        """Return the `within` that bounds need to separate points with such values.

        A value plus |q|^2 is the squared distance up to rounding; adding |q| leaves room for that.
        """
        apart: Tensor = (values + norms.square()).clamp_(min=0).sqrt_()
        return (apart + norms) * self.scale

    def _bound(
        self, norms: Float64[Tensor, " q"], within: Float64[Tensor, " q"], side: int
    ) -> Bound:
        # docs/proofs.md, section 1, derives each term.
        u = UNIT_ROUNDOFF[self.points.dtype]
        d = self.points.shape[1]
        reach = within_reach(norms, within / self.scale)
        q, radius = norms, reach.clamp(max=self.radius)
        # Centring and rounding move either point by at most 2 u times its norm.
        shift = side * 2.01 * u * (q + radius)
        # The product's sum; the rounding of squares and of what is added to them; underflow.
        error = (
            2 * sum_error(d + 2, u) * q * radius
            + 2 * u * (radius.square() + 2 * q * radius)
            + d * 2.0**-140
        )
        slope = (1 + side * (d + 8) * 2.0**-52) / self.scale
        offset = side * (error + 2.0**-50 * q.square()) - q.square()
        if self.partial:
            unknown = reach > 1
            shift.masked_fill_(unknown, 0)
            offset.masked_fill_(unknown, side * math.inf)
        return Bound(side, slope, shift, 1 + side * 2.0**-50, offset, within)


def middle(
    sample: Float[Tensor, "s d"], mean: Float64[Tensor, " d"]
) -> tuple[Float64[Tensor, " d"], float]:
    """Return a place near most points, and the median of the sample's distances to it.

    Parameters
    ----------
    sample : torch.Tensor of shape (s, d)
        A sample of the points.
    mean : torch.Tensor of shape (d,)
        The mean of all points, not finite if their sum overflowed. The place is this mean, unless a
        few points far away have moved it so that distances to it, and rounding with them, are twice
        as large as distances to the coordinate-wise median.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.neighbors._filter import middle
    >>> sample = torch.tensor([[1.0], [2.0], [3.0], [3.0], [1e8]])
    >>> middle(sample, sample.double().mean(dim=0))
    (tensor([3.], dtype=torch.float64), 2.0)
    """
    exact = sample.double()
    median = exact.median(dim=0).values
    found = []
    for place in (mean, median):
        norms = torch.linalg.vector_norm(exact - place, dim=1)
        norms = norms[norms != 0]
        found.append((place, float(norms.median()) if len(norms) else 0.0))
    return found[0] if found[0][1] <= 2 * found[1][1] else found[1]


def _largest(norms: Float64[Tensor, " n"]) -> float:
    """Return the largest finite norm."""
    return float(norms.masked_fill(norms == math.inf, 0).max())
