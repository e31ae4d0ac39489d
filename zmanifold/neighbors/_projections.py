"""Proposals by projections on principal directions, whose products bound those of the points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from zmanifold._base.parallel import run_chunks
from zmanifold.neighbors._filter import Filter
from zmanifold.neighbors._proposals import CACHE_BYTES, Factor

__all__ = ["MOST_COLUMNS", "ProjectionFilter", "Projections"]

# The numbers of directions to try, as shares of the features, and the largest number.
_SHARES = (1 / 12, 1 / 8, 1 / 6, 1 / 4)
MOST_COLUMNS = 256

# The directions are the principal ones of a sample of this size. Some of its points, as queries,
# show which share of the full products projections save.
_SAMPLED, _TRIED = 2048, 128

# The product of a single pair takes so many times as long as a product within a tile. Projections
# are used if they are estimated to take at most this share of the time without them.
_SINGLE_PAIR_COST = 16
_MOST_COST = 0.7


@dataclass(frozen=True)
class Projections:
    """Points projected on fewer directions, with the lengths of the residuals as one more column.

    With z = B'x and r = sqrt(|x|^2 - |z|^2), where B has a spectral norm of at most 1, x'y is at
    most z_x'z_y + r_x r_y (Cauchy-Schwarz, for the quadratic form I - BB').

    Attributes
    ----------
    basis : torch.Tensor of shape (d, p)
        B.
    points : torch.Tensor of shape (n, p + 1)
        z and r of each point.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.neighbors._projections import Projections
    >>> points = torch.tensor([[3.0, 4.0, 0.0], [0.0, 1.0, 0.0]])
    >>> basis = torch.tensor([[1.0], [0.0], [0.0]]).double()
    >>> Projections.along(basis, points).points.round(decimals=3)
    tensor([[3., 4.],
            [0., 1.]])
    """

    basis: Float64[Tensor, "d p"]
    points: Float32[Tensor, "n e"]

    @classmethod
    def along(cls, basis: Float64[Tensor, "d p"], points: Float32[Tensor, "n d"]) -> Projections:
        """Project on directions that are orthonormal up to their rounding."""
        d, p = basis.shape
        apart = torch.linalg.matrix_norm(basis.mT @ basis - torch.eye(p, dtype=torch.float64))
        # The spectral norm is at most sqrt(1 + |B'B - I|), and the last term covers rounding.
        basis = basis / math.sqrt(1 + float(apart) + d * p * 2.0**-52)
        return cls(basis, _columns(basis, points))

    @classmethod
    def of(cls, points: Float32[Tensor, "n d"], share: float) -> Projections | None:
        """Choose directions; return None if no choice saves enough time.

        Parameters
        ----------
        points : torch.Tensor of shape (n, d)
            Centred, in random order.
        share : float
            The length of a candidate list as a share of all points.
        """
        from sklearn.utils.extmath import randomized_svd

        sample = points[:_SAMPLED]
        m, d = sample.shape
        sizes = {int(share_of_features * d) for share_of_features in _SHARES}
        sizes = {p for p in sizes if 0 < p <= min(MOST_COLUMNS, m - 1, d - 4)}
        if not sizes:
            return None
        exact = sample.double()
        _, _, found = randomized_svd(exact.numpy(), max(sizes), n_iter=2, random_state=0)
        directions = torch.from_numpy(np.ascontiguousarray(found.T))
        squares = exact.square().sum(dim=1)
        tried = slice(None, None, max(1, m // _TRIED))
        # A query is its own first neighbour. While points are still to come, a list's limit is
        # higher than in the end: 1.5 allows for that.
        rank = min(1 + math.ceil(1.5 * share * m), m)
        values = squares - 2 * exact[tried] @ exact.mT
        limits = values.kthvalue(rank, dim=1, keepdim=True).values

        def cost(p: int) -> float:
            columns = cls.along(directions[:, :p], sample).points.double()
            passing = squares - 2 * columns[tried] @ columns.mT < limits
            return (p + 1) / d + _SINGLE_PAIR_COST * float(passing.double().mean())

        costs = {p: cost(p) for p in sorted(sizes)}
        best = min(costs, key=costs.__getitem__)
        return cls.along(directions[:, :best], points) if costs[best] <= _MOST_COST else None

    def placed(self, points: Float32[Tensor, "q d"]) -> Float32[Tensor, "q e"]:
        """Return z and r of other points."""
        return _columns(self.basis, points)


@dataclass(frozen=True)
class ProjectionFilter(Filter):
    """A float32 filter that computes only those products that projections leave open.

    The filter's own bounds hold: docs/proofs.md, section 3.
    """

    projections: Projections

    @property
    def right(self) -> Factor:
        """The projections of the points as the right factor, with the points."""
        return Factor(self.projections.points, self.norms, self.points)

    def left(self, queries: Float[Tensor, "q d"]) -> Factor:
        """Return the projections of queries as the left factor, with the queries."""
        placed = super().left(queries)
        return Factor(self.projections.placed(placed.matrix), placed.sizes, placed.matrix)


def _columns(
    basis: Float64[Tensor, "d p"], points: Float32[Tensor, "q d"]
) -> Float32[Tensor, "q e"]:
    d, p = basis.shape
    out = points.new_empty((len(points), p + 1))
    # Rounding in float64 adds at most this share of |x|^2 to |z|^2: docs/proofs.md, section 3.
    gained = d * math.sqrt(p) * 2.0**-50

    def work(part: slice) -> None:
        exact = points[part].double()
        inside = exact @ basis
        square = exact.square().sum(dim=1)
        rest = (square - inside.square().sum(dim=1)).clamp_(min=0)
        out[part, :p], out[part, p] = inside, (rest + gained * square).sqrt_()

    run_chunks(work, len(points), CACHE_BYTES // (8 * d), points.device)
    return out
