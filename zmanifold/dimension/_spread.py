"""Neighbourhoods without spread, judged by their own values, coordinate by coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from zmanifold._base.kernels import kernel
from zmanifold._base.parallel import run_chunks
from zmanifold._base.rounding import ROUNDING_UNITS

__all__ = ["Tolerance", "without_spread"]

_kernel = kernel()

# The number of neighbourhoods that all threads together judge at a time: most of them take as long
# as a few loads from memory.
_TOGETHER = 2**15


@dataclass(frozen=True, eq=False)
class Tolerance:
    """Bounds on the rounding that mixing left in each point, coordinate by coordinate.

    This rounding is relative to the magnitudes of the mixed batch, which may be much larger than
    the mixed values. Points that were not mixed have none.

    Attributes
    ----------
    groups : torch.Tensor of shape (n,)
        The row of `values` for each point.
    values : torch.Tensor of shape (m, d)
        The tolerances, in units of the data.
    """

    groups: Int64[Tensor, " n"]
    values: Float64[Tensor, "m d"]


def without_spread(
    points: Float[Tensor, "n d"],
    indices: Int64[Tensor, "q k"],
    tolerance: Tolerance | None,
    memory: int,
) -> Bool[Tensor, " q"]:
    """Tell which neighbourhoods vary in no coordinate by more than its own rounding.

    Each value x stands for an interval of x plus or minus u |x| / 2 and the tolerance of its point,
    where u is 1 (float32) or 64 (float64) times the type's relative spacing. A coordinate varies by
    rounding alone if all its intervals have a value in common. Neither points outside the
    neighbourhood nor other coordinates play a part.

    Parameters
    ----------
    points : torch.Tensor of shape (n, d)
        Finite points.
    indices : torch.Tensor of shape (q, k)
        Row numbers of the neighbourhoods.
    tolerance : Tolerance or None
        Bounds on the rounding that mixing left in the points.
    memory : int
        Bytes of working memory.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.dimension._spread import without_spread
    >>> points = torch.tensor([[1e9, 0.0], [1e9, 0.1], [1e9, 0.1]])
    >>> without_spread(points, torch.tensor([[0, 1], [1, 2]]), None, 2**20)
    tensor([False,  True])
    """
    n, d = points.shape
    if tolerance is None:
        none = points.new_zeros((1, d), dtype=torch.float64)
        tolerance = Tolerance(indices.new_zeros(1).expand(n), none)
    look = _look_on_cpu if points.device.type == "cpu" else _look_by_torch
    return look(points, indices, tolerance, memory)


def _unit(points: Float[Tensor, "n d"]) -> float:
    return ROUNDING_UNITS[points.dtype] * torch.finfo(points.dtype).eps


def _look_on_cpu(
    points: Float[Tensor, "n d"], indices: Int64[Tensor, "q k"], tolerance: Tolerance, memory: int
) -> Bool[Tensor, " q"]:
    found = indices.new_empty(len(indices), dtype=torch.bool)
    tensors = points, indices, tolerance.groups, tolerance.values, found
    arrays, unit = [tensor.numpy() for tensor in tensors], _unit(points)

    def work(part: slice) -> None:
        _without_spread(*arrays, unit, part.start, part.stop)

    run_chunks(work, len(indices), _TOGETHER, points.device)
    return found


def _look_by_torch(
    points: Float[Tensor, "n d"], indices: Int64[Tensor, "q k"], tolerance: Tolerance, memory: int
) -> Bool[Tensor, " q"]:
    found = indices.new_ones(len(indices), dtype=torch.bool)
    unit = _unit(points)
    # The first and the last neighbour alone mostly prove a spread: the others are then not read.
    for members in (indices[:, [0, -1]], indices):
        left = found.nonzero()[:, 0]

        def work(part: slice, members: Int64[Tensor, "q m"], left: Int64[Tensor, " l"]) -> None:
            rows = members[left[part]]
            near = points[rows].double()
            half = unit / 2 * near.abs() + tolerance.values[tolerance.groups[rows]]
            low, high = (near - half).amax(dim=1), (near + half).amin(dim=1)
            found[left[part]] = (low <= high).all(dim=1)

        size = memory // (40 * members.shape[1] * points.shape[1])
        run_chunks(partial(work, members=members, left=left), len(left), size, points.device)
    return found


@_kernel
@no_type_check
def _without_spread(points, indices, groups, values, out, unit, start, stop):
    k, d = indices.shape[1], points.shape[1]
    for i in range(start, stop):
        # The first and the last neighbour alone mostly prove a spread; others are then not read.
        spread = False
        for step in (max(k - 1, 1), 1):
            for c in range(0 if spread else d):
                low, high = -np.inf, np.inf
                for j in range(0, k, step):
                    row = indices[i, j]
                    x = np.float64(points[row, c])
                    half = unit / 2 * abs(x) + values[groups[row], c]
                    low, high = max(low, x - half), min(high, x + half)
                if low > high:
                    spread = True
                    break
        out[i] = not spread
