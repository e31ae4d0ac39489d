"""How far mixed samples lie from the originals, and how far they spread."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from zmanifold._base.parallel import chunks
from zmanifold.measures.comparison import Comparison

__all__ = ["Distance", "RelativeDistance", "Spread"]


class Distance:
    """Distance to the nearest original."""

    names: ClassVar[dict[str, Any]] = {"distance": {}}
    kind = "samples"
    unit = "units of the data"
    direction = "lower"

    def __call__(self, sets: Comparison) -> Float64[Tensor, " m"]:
        """Return one value a mixed sample."""
        return sets.distance


class RelativeDistance:
    """Distance to the nearest original in units of that one's distance to its own nearest.

    Where the latter is zero (a duplicate), it is 0 for a mixed sample on the original and infinite
    for any other.
    """

    names: ClassVar[dict[str, Any]] = {"relative_distance": {}}
    kind = "samples"
    unit = "distances between originals"
    direction = "lower"

    def __call__(self, sets: Comparison) -> Float64[Tensor, " m"]:
        """Return one value a mixed sample."""
        distance = sets.scaled_distance
        # 0/0 is a mixed sample on a duplicate.
        return torch.where(distance == 0, 0.0, distance / sets.own_distance[sets.nearest])


class Spread:
    """The mixed set's total variance over the originals': the traces of their covariances.

    Infinite where only the originals have none, NaN where neither has any.
    """

    names: ClassVar[dict[str, Any]] = {"spread": {}}
    kind = "set"
    unit = "ratio of variances"
    direction = ""

    def __call__(self, sets: Comparison) -> float:
        """Return the value of the set."""
        ours, theirs = _total_variance(sets.mixed), _total_variance(sets.originals)
        if theirs == 0:
            return math.inf if ours else math.nan
        return ours / theirs


def _total_variance(points: Float[Tensor, "n d"]) -> float:
    total = 0.0
    for part in chunks(points.shape[1], 64):
        # Less the first row: rows that are all alike give exactly 0.
        columns = points[:, part].double() - points[0, part].double()
        total += float(columns.var(dim=0).sum())
    return total
