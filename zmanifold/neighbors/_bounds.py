"""A bound on the values that products have at given distances, and its inverse."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

__all__ = ["Bound"]


@dataclass(frozen=True)
class Bound:
    """An upper or a lower bound on the values of points, as a function of their distance D.

    The bound is growth * (slope * D + shift)^2 + offset, where a negative term in brackets counts
    as 0. Distances are those of the unscaled points, as float64 arithmetic rounds them.

    Attributes
    ----------
    side : int
        1: no point within a distance has a value above the bound there. -1: no point at a distance
        or farther has a value below it.
    slope, growth : float
        Coefficients that all queries share.
    shift, offset : torch.Tensor of shape (q,)
        Coefficients of each query.
    within : torch.Tensor of shape (q,)
        The largest distance of each query for which the bound holds.
    """

    side: int
    slope: float
    shift: Float64[Tensor, " q"]
    growth: float
    offset: Float64[Tensor, " q"]
    within: Float64[Tensor, " q"]

    def values(self, distances: Float64[Tensor, " q"]) -> Float64[Tensor, " q"]:
        """Return the bound at these distances; side * infinity where it does not hold."""
        reach = (self.slope * distances + self.shift).clamp(min=0)
        bound: Tensor = self.growth * reach.square() + self.offset
        return bound.masked_fill_(distances > self.within, self.side * math.inf)

    def distances(self, values: Float64[Tensor, " q"]) -> Float64[Tensor, " q"]:
        """Return distances at which the bound is below these values (side 1) or above (side -1).

        If there is no such distance, the result is 0 for side 1 and infinity for side -1.
        docs/proofs.md, section 4, derives 2**-48.
        """
        rounding = self.side * 2.0**-48
        square = (values - self.offset) / self.growth
        square -= rounding * (values.abs() + self.offset.abs())
        found: Tensor = (square.clamp(min=0).sqrt() - self.shift) / self.slope * (1 - rounding)
        found.clamp_(min=0)
        if self.side > 0:
            return found.minimum(self.within)
        return found.masked_fill_(found > self.within, math.inf)
