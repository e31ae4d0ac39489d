"""A bound on the values of products at given distances, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

__all__ = ["Bound"]


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
    within : torch.Tensor of shape (q,)
        The largest distances for which it holds; beyond them nothing is known.
    """

    side: int
    slope: float
    shift: Float64[Tensor, " q"]
    growth: float
    offset: Float64[Tensor, " q"]
    within: Float64[Tensor, " q"]

    def values(self, distances: Float64[Tensor, " q"]) -> Float64[Tensor, " q"]:
        """Return the bound at these distances; where it does not hold, infinity on its side."""
        reach = (self.slope * distances + self.shift).clamp(min=0)
        bound: Tensor = self.growth * reach.square() + self.offset
        return bound.masked_fill_(distances > self.within, self.side * math.inf)

    def distances(self, values: Float64[Tensor, " q"]) -> Float64[Tensor, " q"]:
        """Return distances at which the bound is below these values, with side -1 above.

        Where no distance is small enough, 0 is returned, and where with side -1 none is large
        enough, infinity. docs/proofs.md, section 4, derives 2**-48.
        """
        rounding = self.side * 2.0**-48
        square = (values - self.offset) / self.growth
        square -= rounding * (values.abs() + self.offset.abs())
        found: Tensor = (square.clamp(min=0).sqrt() - self.shift) / self.slope * (1 - rounding)
        found.clamp_(min=0)
        if self.side > 0:
            return found.minimum(self.within)
        return found.masked_fill_(found > self.within, math.inf)
