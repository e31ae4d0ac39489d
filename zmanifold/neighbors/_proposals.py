"""The protocol of proposals: products list candidates, bounds prove that none is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from zmanifold.neighbors._bounds import Bound

__all__ = ["CACHE_BYTES", "SPARE_CANDIDATES", "Factor", "Proposal", "within_reach"]

# Points are centred and scaled in pieces of this size, which stay in a CPU's cache.
CACHE_BYTES = 8 * 2**20

# So many more candidates than neighbours are kept. With fewer, rounding in the products would more
# often leave open whether a neighbour is missing, and those queries are searched again.
SPARE_CANDIDATES = 16


@dataclass(frozen=True)
class Factor:
    """One factor of the products: queries or points, centred, scaled and rounded.

    Attributes
    ----------
    matrix : torch.Tensor of shape (m, e)
        The rows that are multiplied.
    sizes : torch.Tensor of shape (m,) or (m, s)
        Each row's norm, and whatever else the bounds need of it.
    unprojected : torch.Tensor of shape (m, d), optional
        If products of `matrix` only bound the products of points: the points, for the latter.
    """

    matrix: Float[Tensor, "m e"]
    sizes: Float64[Tensor, "n *s"]
    unprojected: Float32[Tensor, "m d"] | None = None

    @property
    def exact(self) -> Float[Tensor, "m _"]:
        """The factor whose products are values, not only bounds on them."""
        return self.matrix if self.unprojected is None else self.unprojected


def within_reach(
    norms: Float64[Tensor, " q"], distances: Float64[Tensor, " q"]
) -> Float64[Tensor, " q"]:
    """Return an upper limit on the norms of points whose rounding matters to a bound.

    The bound is one at these distances of the queries. Norms and distances are divided by the same
    power of two. docs/proofs.md, section 1, derives the limit.
    """
    return 1.02 * torch.maximum(2 * norms, norms + distances)


class Proposal(Protocol):
    """A way to compute approximate squared distances of queries and points by matrix products.

    For query q and point j the value a_j = squares_j - 2 q.j is their squared distance, but for a
    term that depends on q alone and for rounding. The points with a query's smallest values are its
    candidates.
    """

    @property
    def squares(self) -> Float[Tensor, " m"]:
        """The term of each point in the values."""

    @property
    def right(self) -> Factor:
        """The points as the right factor."""

    def mirrored(self) -> Factor:
        """Return the points as the left factor, for searches where they are the queries."""

    def left(self, queries: Float[Tensor, "q d"]) -> Factor:
        """Return queries as the left factor."""

    def spare(self, k: int) -> int:
        """Return how many more candidates than k neighbours to keep."""

    def ceiling(self, sizes: Any, within: Float64[Tensor, " q"]) -> Bound:
        """Return the bound that no value of a point within a distance of the query exceeds.

        The bound holds for distances up to `within`; the smaller these are, the tighter it is.
        """

    def floor(self, sizes: Any, within: Float64[Tensor, " q"]) -> Bound:
        """Return the bound that no value of a point at a distance, or farther, is below."""

    def reach(self, sizes: Any, values: Float64[Tensor, " q"]) -> Float64[Tensor, " q"]:
        """Return the `within` that bounds need to separate points with such values."""
