"""Points in fewer columns, whose products are no less than theirs: a first sieve."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from zmanifold._base.parallel import run_chunks
from zmanifold.neighbors._bounds import CACHE_BYTES

__all__ = ["MOST_COLUMNS", "Sketch"]

# Shares of the features that are tried as numbers of directions, and the most of these.
_SHARES = (1 / 12, 1 / 8, 1 / 6, 1 / 4)
MOST_COLUMNS = 256

# Of so many points the directions are the principal ones, and of some of them it is tried what a
# sketch spares.
_SAMPLED, _TRIED = 2048, 128

# What passes is multiplied by itself, which takes so many times as long as among all others. A
# sketch that takes more than this of the time without it is not worth its making.
_ALONE = 16
_MOST_COST = 0.7


@dataclass(frozen=True)
class Sketch:
    """A linear map to fewer columns that lengthens nothing, and a column for what it leaves out.

    With z = B'x and r = sqrt(|x|^2 - |z|^2), where B has a spectral norm of at most 1, x'y is at
    most z_x'z_y + r_x r_y (Cauchy and Schwarz, for the form I - BB'). What rounding to float32
    takes away, the bound of `Filter` allows for: its products have at least four terms more.

    Attributes
    ----------
    basis : torch.Tensor of shape (d, p)
        B.
    points : torch.Tensor of shape (n, p + 1)
        z and r of each point.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.neighbors._projections import Sketch
    >>> points = torch.tensor([[3.0, 4.0, 0.0], [0.0, 1.0, 0.0]])
    >>> Sketch.along(torch.tensor([[1.0], [0.0], [0.0]]).double(), points).points.round(decimals=3)
    tensor([[3., 4.],
            [0., 1.]])
    """

    basis: Float64[Tensor, "d p"]
    points: Float32[Tensor, "n e"]

    @classmethod
    def along(cls, basis: Float64[Tensor, "d p"], points: Float32[Tensor, "n d"]) -> Sketch:
        """Make one with directions that are orthonormal up to their rounding."""
        d, p = basis.shape
        apart = torch.linalg.matrix_norm(basis.mT @ basis - torch.eye(p, dtype=torch.float64))
        basis = basis / math.sqrt(1 + float(apart) + d * p * 2.0**-52)
        return cls(basis, _columns(basis, points))

    @classmethod
    def of(cls, points: Float32[Tensor, "n d"], share: float) -> Sketch | None:
        """Choose the directions, or find that no choice spares much.

        Parameters
        ----------
        points : torch.Tensor of shape (n, d)
            Centred, in random order.
        share : float
            Of all points, those that are to be found for each.
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
        # Of its own neighbours each is the first; limits are wider until the last have been seen.
        rank = min(1 + math.ceil(1.5 * share * m), m)
        values = squares - 2 * exact[tried] @ exact.mT
        limits = values.kthvalue(rank, dim=1, keepdim=True).values

        def cost(p: int) -> float:
            columns = cls.along(directions[:, :p], sample).points.double()
            passing = squares - 2 * columns[tried] @ columns.mT < limits
            return (p + 1) / d + _ALONE * float(passing.double().mean())

        costs = {p: cost(p) for p in sorted(sizes)}
        best = min(costs, key=costs.__getitem__)
        return cls.along(directions[:, :best], points) if costs[best] <= _MOST_COST else None

    def placed(self, points: Float32[Tensor, "q d"]) -> Float32[Tensor, "q e"]:
        """Return z and r of other points."""
        return _columns(self.basis, points)


def _columns(
    basis: Float64[Tensor, "d p"], points: Float32[Tensor, "q d"]
) -> Float32[Tensor, "q e"]:
    d, p = basis.shape
    out = points.new_empty((len(points), p + 1))
    # Of |x|^2, what |z|^2 may have gained by rounding in float64.
    gained = d * math.sqrt(p) * 2.0**-50

    def work(part: slice) -> None:
        exact = points[part].double()
        inside = exact @ basis
        square = exact.square().sum(dim=1)
        rest = (square - inside.square().sum(dim=1)).clamp_(min=0)
        out[part, :p], out[part, p] = inside, (rest + gained * square).sqrt_()

    run_chunks(work, len(points), CACHE_BYTES // (8 * d), points.device)
    return out
