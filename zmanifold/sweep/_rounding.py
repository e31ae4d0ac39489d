"""What the rounding of a mixer leaves between points that would coincide."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

from zmanifold._base.parallel import chunks
from zmanifold._base.rounding import ROUNDING_UNITS, UNIT_ROUNDOFF, sum_error
from zmanifold.dimension import Tolerance
from zmanifold.mixers import MixedRows, is_linear

__all__ = ["mixing_tolerance"]


def mixing_tolerance(rows: MixedRows, positions: Int64[Tensor, " p"]) -> Tolerance | None:
    """Return how far mixed rows may be off through rounding alone.

    A linear mixer's sum of b products is off by at most gamma_b times the sum of the terms'
    magnitudes, and that is at most the largest magnitude M of its batch in that coordinate. Three
    units more cover weights that are rounded and do not quite add up to 1: gamma_(b + 3) M. That
    is relative to M, not to the mixed value, which may be much smaller. The rounding of that value
    to the points' type is its own. A batch's tolerance holds for its rows alone.

    Parameters
    ----------
    rows : MixedRows
        The mixed set.
    positions : torch.Tensor of shape (p,)
        Some of its rows, ascending.

    Returns
    -------
    Tolerance or None
        Of these rows; None where nothing was mixed.

    Examples
    --------
    >>> import torch
    >>> import zmanifold as zm
    >>> from zmanifold.mixers import Batches
    >>> from zmanifold.sweep._rounding import mixing_tolerance
    >>> batches = Batches(torch.full((4, 1), 2.0**50).double(), None, None, 2, 2**20)
    >>> mixing_tolerance(batches.rows(zm.ZetaMixup(0.0), 0), torch.tensor([0, 1, 3])).values
    tensor([[0.6250],
            [0.6250]], dtype=torch.float64)
    """
    if rows.mixer is None:
        return None
    source, b, d = rows.batches, rows.batches.batch_size, rows.n_features
    numbers, groups = torch.unique_consecutive(positions // b, return_inverse=True)
    members = rows.order[
        (numbers[:, None] * b + torch.arange(b, device=numbers.device)) % len(rows)
    ]
    largest = torch.empty((len(numbers), d), dtype=torch.float64, device=source.points.device)
    for part in chunks(len(numbers), min(source.memory, 2**25) // (16 * b * d)):
        low, high = torch.aminmax(source.points[members[part]].to(source.dtype), dim=1)
        largest[part] = torch.maximum(low.double().abs_(), high.double().abs_())
    if is_linear(rows.mixer):
        error = sum_error(b + 3, UNIT_ROUNDOFF[torch.float64])
    else:
        # A called mixer's arithmetic is its own: what counts as rounding in its type is allowed.
        error = ROUNDING_UNITS[source.dtype] * UNIT_ROUNDOFF[source.dtype]
    return Tolerance(groups.to(largest.device), largest.mul_(error))
