"""Measures by distance: from mixed samples to the originals, and the spread of both sets."""

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
    """Distance to the nearest original, divided by its distance to the nearest other original.

    If the original has a duplicate, so that the divisor is zero, the value is 0 for a mixed sample
    at the same place and infinite for any other.
    """

    names: ClassVar[dict[str, Any]] = {"relative_distance": {}}
    kind = "samples"
    unit = "distances between originals"
    direction = "lower"

    def __call__(self, sets: Comparison) -> Float64[Tensor, " m"]:
        """Return one value a mixed sample."""
        distance = sets.scaled_distance
        # 0/0 would be a mixed sample at the place of a duplicate.
        return torch.where(distance == 0, 0.0, distance / sets.own_distance[sets.nearest])


class Spread:
    """Total variance (trace of the covariance) of the mixed set, divided by that of the originals.

    It is infinite if only the originals have variance 0, and NaN if both sets have.
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
    # 64 columns at a time bound the float64 copies, at 512 bytes a row each.
    for part in chunks(points.shape[1], 64):
        # The first row is subtracted, so that equal rows have a variance of exactly 0.
        columns = points[:, part].double() - points[0, part].double()
        total += float(columns.var(dim=0).sum())
    return total
