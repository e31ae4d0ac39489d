"""Products of queries and points propose candidates; bounds prove that none is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from zmanifold.neighbors._bounds import Bound

__all__ = ["CACHE_BYTES", "SPARE_CANDIDATES", "Factor", "Proposal", "within_reach"]

# Points are centred and scaled in pieces that stay in a CPU's cache.
CACHE_BYTES = 8 * 2**20

# More candidates than neighbours are kept, so that rounding in the products seldom decides.
SPARE_CANDIDATES = 16


@dataclass(frozen=True)
class Factor:
    """One side of the products: queries or points, centred, scaled and rounded.

    Attributes
    ----------
    matrix : torch.Tensor of shape (m, e)
        What is multiplied.
    sizes : torch.Tensor of shape (m,) or (m, s)
        What the bounds need to know of each row.
    unprojected : torch.Tensor of shape (m, d), optional
        Where the products of `matrix` only bound those that count: the factor of the latter.
    """

    matrix: Float[Tensor, "m e"]
    sizes: Float64[Tensor, "n *s"]
    unprojected: Float32[Tensor, "m d"] | None = None

    @property
    def exact(self) -> Float[Tensor, "m _"]:
        """The factor whose products count."""
        return self.matrix if self.unprojected is None else self.unprojected


def within_reach(
    norms: Float64[Tensor, " q"], distances: Float64[Tensor, " q"]
) -> Float64[Tensor, " q"]:
    """Return norms that no point exceeds whose rounding matters to a bound at these distances.

    docs/proofs.md, section 1, derives them. All are divided by the same power of two.
    """
    return 1.02 * torch.maximum(2 * norms, norms + distances)


class Proposal(Protocol):
    """Points as products see them.

    For query q and point j the value a_j = squares_j - 2 q.j is the squared distance but for a
    term of q alone and for errors; the smallest values of a query are its candidates.
    """

    @property
    def squares(self) -> Float[Tensor, " m"]:
        """The points' terms of the values."""

    @property
    def right(self) -> Factor:
        """The points as the right-hand side of products."""

    def mirrored(self) -> Factor:
        """Return the points as the left-hand side, where all of them are the queries."""

    def left(self, queries: Float[Tensor, "q d"]) -> Factor:
        """Return queries as the left-hand side of products."""

    def spare(self, k: int) -> int:
        """Tell how many candidates more than k neighbours are to be kept."""

    def ceiling(self, sizes: Any, within: Float64[Tensor, " q"]) -> Bound:
        """Return values that no point within given distances of the queries exceeds.

        They hold for distances up to `within`, the tighter the smaller these are.
        """

    def floor(self, sizes: Any, within: Float64[Tensor, " q"]) -> Bound:
        """Return values that no point at given distances of the queries, or beyond, is below."""

    def reach(self, sizes: Any, values: Float64[Tensor, " q"]) -> Float64[Tensor, " q"]:
        """Return distances within which bounds are wanted to tell points with such values."""
