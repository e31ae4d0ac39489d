"""Proposals by products in bfloat16, which some CPUs compute twice as fast as in float32."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import BFloat16, Float, Float32, Float64, Int64
from torch import Tensor

from zmanifold._base.parallel import run_chunks
from zmanifold._base.rounding import UNIT_ROUNDOFF, sum_error
from zmanifold.neighbors._bounds import Bound
from zmanifold.neighbors._filter import Filter
from zmanifold.neighbors._proposals import CACHE_BYTES, SPARE_CANDIDATES, Factor, within_reach

__all__ = ["BFloat16Filter"]

# Half a squared norm is split into this number of bfloat16 columns, of 8 bits each: together they
# are as precise as a float32.
_PARTS = 3


@dataclass(frozen=True)
class BFloat16Filter:
    """Points centred, scaled and rounded to bfloat16, whose products propose candidates.

    All norms are at most 1: a set with points too far for the frame is searched in float32.

    Half the squared norms are columns of their own, so that the product of query q and point j is
    -|q - j|^2 / 2. It is summed in float32 and then rounded to bfloat16, whose error is relative to
    the squared distance. `ceiling` and `floor` account for both roundings, and for how far rounding
    moved the points, which is measured.

    Attributes
    ----------
    frame : Filter
        The centre and the scale, as a filter without points.
    points : torch.Tensor of shape (n, d + 6)
        The right factor of the products.
    squares : torch.Tensor of shape (n,)
        Zeros: the products contain the squared norms.
    sizes : torch.Tensor of shape (n, 2)
        The norms of the rounded points, and their distances from the points before rounding.
    """

    frame: Filter
    points: BFloat16[Tensor, "n e"]
    squares: Float32[Tensor, " n"]
    sizes: Float64[Tensor, "n 2"]

    @classmethod
    def of(
        cls,
        points: Float[Tensor, "n d"],
        queries: Float[Tensor, "m d"],
        order: Int64[Tensor, " n"] | None = None,
    ) -> BFloat16Filter:
        """Build a filter of points, in this order of their rows, for these queries."""
        frame = Filter.frame_of(points, torch.float32, queries)
        placed = _left(frame, points, order)
        squares = points.new_zeros(len(points)).float()
        return cls(frame, _swapped(placed.matrix), squares, placed.sizes)

    def left(self, queries: Float[Tensor, "q d"]) -> Factor:
        """Return queries as the left factor, with their sizes."""
        return _left(self.frame, queries)

    @property
    def right(self) -> Factor:
        """The points as the right factor, with their sizes."""
        return Factor(self.points, self.sizes)

    def mirrored(self) -> Factor:
        """Return the points as the left factor."""
        return Factor(_swapped(self.points), self.sizes)

    def spare(self, k: int) -> int:
        """Return how many more candidates than k neighbours to keep."""
        return SPARE_CANDIDATES + k // 3

    def ceiling(self, sizes: Float64[Tensor, "q 2"], within: Float64[Tensor, " q"]) -> Bound:
        """Return the bound that no value of a point within a distance of the query exceeds."""
        return self._bound(sizes, within, 1)

    def floor(self, sizes: Float64[Tensor, "q 2"], within: Float64[Tensor, " q"]) -> Bound:
        """Return the bound that no value of a point at a distance, or farther, is below."""
        return self._bound(sizes, within, -1)

    def reach(
        self, sizes: Float64[Tensor, "q 2"], values: Float64[Tensor, " q"]
    ) -> Float64[Tensor, " q"]:
        """Return the `within` that bounds need to separate points with such values."""
        apart: Tensor = values.clamp(min=0).sqrt_()
        return (apart + sizes[:, 0]) * self.frame.scale

    def _bound(
        self, sizes: Float64[Tensor, "q 2"], within: Float64[Tensor, " q"], side: int
    ) -> Bound:
        # docs/proofs.md, section 2, derives each term.
        d = self.points.shape[1] - 2 * _PARTS
        norms, lost = sizes.unbind(dim=1)
        largest, lost_most = self.sizes.amax(dim=0).tolist()
        single, half = UNIT_ROUNDOFF[torch.float32], UNIT_ROUNDOFF[torch.bfloat16]
        radius = within_reach(norms, within / self.frame.scale).clamp(max=largest)
        # What rounding to bfloat16 loses, what centring and float32 lose, and underflow.
        moved = lost + (1.01 * half * radius).clamp(max=lost_most)
        moved += 2.1 * single * (norms + radius) + d * 2.0**-100
        # The float32 sum, the parts of the squared norms, and underflow.
        error = 1.01 * sum_error(d + 10, single) * (norms + radius).square() + d * 2.0**-100
        # The product's own rounding to bfloat16.
        relative = 1.01 * half
        slope = (1 + side * (d + 8) * 2.0**-52) / self.frame.scale
        growth, offset = 1 + side * relative, side * (1 + relative) * error
        return Bound(side, slope, side * moved, growth, offset, within)


def _left(
    frame: Filter, points: Float[Tensor, "q d"], order: Int64[Tensor, " q"] | None = None
) -> Factor:
    q, d = points.shape
    matrix = points.new_empty((q, d + 2 * _PARTS), dtype=torch.bfloat16)
    sizes = points.new_empty((q, 2), dtype=torch.float64)

    def work(part: slice) -> None:
        single = frame.moved(points[part if order is None else order[part]])
        rounded = single.bfloat16()
        matrix[part, :d] = rounded
        sizes[part, 0] = torch.linalg.vector_norm(rounded, dim=1, dtype=torch.float64)
        lost = single - rounded.float()
        sizes[part, 1] = torch.linalg.vector_norm(lost, dim=1, dtype=torch.float64)
        rest = sizes[part, 0].square() / 2
        for column in range(d, d + _PARTS):
            matrix[part, column] = rest.bfloat16()
            rest = rest - matrix[part, column].double()
        matrix[part, d + _PARTS :] = 1

    run_chunks(work, q, CACHE_BYTES // (24 * d), points.device)
    return Factor(matrix, sizes)


def _swapped(placed: BFloat16[Tensor, "n e"]) -> BFloat16[Tensor, "n e"]:
    """Turn a left factor into a right one, or back, for products x'y - |x|^2 / 2 - |y|^2 / 2."""
    swapped = placed.clone()
    swapped[:, -2 * _PARTS : -_PARTS] = -placed[:, -_PARTS:]
    swapped[:, -_PARTS:] = -placed[:, -2 * _PARTS : -_PARTS]
    return swapped
