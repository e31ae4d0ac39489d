"""Metrics as maps of the points after which a Euclidean search finds the metric's neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from zmanifold._base.errors import InputError, unknown_name
from zmanifold._base.scaling import rescaled

__all__ = ["MetricSpace", "check_metric"]


@dataclass(frozen=True)
class MetricSpace:
    """Sets of points, mapped so that a Euclidean search gives the metric's neighbours.

    Attributes
    ----------
    points : tuple of torch.Tensor
        The mapped sets, of one dtype: unit vectors for "cosine", points scaled by one power of two
        for "euclidean".
    metric : str
        "euclidean" or "cosine".
    exponent : int
        The exponent of that power of two; the points were divided by it.
    """

    points: tuple[Float[Tensor, "_ d"], ...]
    metric: str
    exponent: int

    @classmethod
    def of(cls, metric: str, **sets: Float[Tensor, "_ d"]) -> MetricSpace:
        """Map one or several sets; the keywords are their names in error messages."""
        check_metric(metric)
        if metric == "cosine":
            units = (_unit_vectors(p, name) for name, p in sets.items())
            return cls(tuple(units), metric, 0)
        scaled, exponent = rescaled(*sets.values())
        return cls(scaled, metric, exponent)

    def measured(self, distances: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
        """Return the metric's distances for the Euclidean ones that a search found."""
        if self.metric == "cosine":
            return distances.square() / 2
        if self.exponent == 0:
            return distances
        half = self.exponent // 2
        return distances * 2.0**half * 2.0 ** (self.exponent - half)


def check_metric(metric: object) -> None:
    """Raise InputError unless `metric` is "euclidean" or "cosine"."""
    if not isinstance(metric, str) or metric not in ("euclidean", "cosine"):
        raise unknown_name("metric", metric, ["euclidean", "cosine"])


def _unit_vectors(points: Float[Tensor, "n d"], name: str) -> Float64[Tensor, "n d"]:
    points = points.double()
    largest = torch.linalg.vector_norm(points, math.inf, dim=1, keepdim=True)
    zero: Bool[Tensor, " n"] = largest[:, 0] == 0
    if bool(zero.any()):
        raise InputError(
            f"{name} holds {int(zero.sum())} zero vector(s), the first in row "
            f"{int(zero.nonzero()[0])}, but metric='cosine' needs a direction: remove them or use "
            "metric='euclidean'."
        )
    # Each row is scaled by a power of two of its own: squares neither overflow nor underflow.
    unit: Tensor = points / (largest / (2 * torch.frexp(largest).mantissa))
    unit /= unit.norm(dim=1, keepdim=True)
    return unit
