"""Fukunaga and Olsen's rule: count the eigenvalues above a fraction of the largest."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from zmanifold._base.checks import is_number
from zmanifold._base.errors import InputError
from zmanifold._base.parallel import run_chunks
from zmanifold.dimension._inertia_gpu import count_by_sign_function
from zmanifold.dimension._spread import Tolerance, without_spread
from zmanifold.dimension.neighborhoods import (
    Neighborhoods,
    below_overflow,
    scatter_matrices,
    spectra_of,
)

__all__ = ["FukunagaOlsen", "fukunaga_olsen"]

# Up to this order of the scatter matrix a CPU counts eigenvalues faster than it computes them.
_MOST_COUNTED = 512


def fukunaga_olsen(
    points: Float[Tensor, "n d"],
    indices: Int64[Tensor, "q k"],
    *,
    alpha: float,
    memory: int,
    tolerance: Tolerance | None = None,
) -> tuple[Int64[Tensor, " q"], Bool[Tensor, " q"]]:
    """Count the significant eigenvalues of each neighbourhood, without checks.

    Parameters
    ----------
    points : torch.Tensor of shape (n, d)
        Finite points.
    indices : torch.Tensor of shape (q, k)
        Row numbers of the neighbourhoods.
    alpha : float
        An eigenvalue counts if it is strictly greater than alpha times the largest.
    memory : int
        Bytes of working memory.
    tolerance : Tolerance, optional
        Bounds on the rounding that mixing left in the points.

    Returns
    -------
    dimension : torch.Tensor of shape (q,)
        The counts; 0 where the neighbourhood is degenerate.
    degenerate : torch.Tensor of shape (q,)
        True where the neighbourhood has no spread beyond rounding: see `without_spread`.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.dimension.fo import fukunaga_olsen
    >>> points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    >>> fukunaga_olsen(points, torch.tensor([[0, 1, 2], [1, 1, 1]]), alpha=0.05, memory=2**20)
    (tensor([1, 0]), tensor([False,  True]))
    """
    degenerate = without_spread(points, indices, tolerance, memory)
    points, _ = below_overflow(points)
    dimension, proven = indices.new_zeros(len(indices)), torch.zeros_like(degenerate)
    # An eigenvalue at the threshold itself is not greater: the second term, the rounding of scatter
    # matrices, keeps that so for every way in which a chunk's products round.
    at_least = alpha + (indices.shape[1] + points.shape[1]) * 2.0**-50
    if points.device.type != "cpu":
        _count_by_sign_function(points, indices, at_least, memory, dimension, proven)
    elif min(indices.shape[1], points.shape[1]) <= _MOST_COUNTED:
        _count(points, indices, alpha, dimension, proven)
    undecided = (~(proven | degenerate)).nonzero()[:, 0]
    if len(undecided):
        spectra, _ = spectra_of(points, indices[undecided], memory)
        dimension[undecided] = (spectra > at_least * spectra[:, :1]).sum(dim=1)
    return dimension.masked_fill_(degenerate, 0), degenerate


def _count(
    points: Float[Tensor, "n d"],
    indices: Int64[Tensor, "q k"],
    alpha: float,
    *out: Shaped[Tensor, " q"],
) -> None:
    """Count on a CPU by inertia, and mark the counts that are proven to be exact."""
    from zmanifold._base.locality import walk
    from zmanifold.dimension._inertia import count_significant

    data, rows = points.numpy(), indices.numpy()
    results = [values.numpy() for values in out]
    order = walk(rows, data)

    def work(part: slice) -> None:
        count_significant(data, rows, order[part], alpha, *results)

    run_chunks(work, len(rows), 1024, points.device)


def _count_by_sign_function(
    points: Float[Tensor, "n d"],
    indices: Int64[Tensor, "q k"],
    alpha: float,
    memory: int,
    *out: Shaped[Tensor, " q"],
) -> None:
    """Count on any device by matrix products, and mark the counts that are proven to be exact."""
    dimension, proven = out
    q, k = indices.shape
    d = points.shape[1]

    def work(part: slice) -> None:
        scatter, _ = scatter_matrices(points, indices[part])
        dimension[part], proven[part] = count_by_sign_function(scatter, alpha)

    run_chunks(work, q, memory // (24 * k * d + 40 * min(k, d) ** 2), points.device)


class FukunagaOlsen:
    """Fukunaga-Olsen: the number of eigenvalues greater than a fraction of the largest.

    Parameters
    ----------
    alphaFO : float, default=0.05
        The fraction of the largest eigenvalue that counts as significant, 0 < alphaFO < 1.

    References
    ----------
    .. [1] K. Fukunaga and D. R. Olsen, "An algorithm for finding intrinsic dimensionality of
       data", IEEE Transactions on Computers C-20, 1971.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.dimension import FukunagaOlsen, Neighborhoods
    >>> line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    >>> rows = torch.tensor([0])
    >>> FukunagaOlsen()(Neighborhoods(line, torch.tensor([[1, 2]]), rows, 2**20))
    (tensor([1]), tensor([False]))
    """

    names: ClassVar[dict[str, dict[str, object]]] = {"FO": {}}
    kind = "local, spectrum"
    needs = "neighborhoods"

    def __init__(self, alphaFO: float = 0.05) -> None:
        if not (is_number(alphaFO) and 0 < alphaFO < 1):
            raise InputError(
                f"alphaFO={alphaFO!r} must lie strictly between 0 and 1: 0.05 is Fukunaga and "
                "Olsen's choice."
            )
        self.alphaFO = float(alphaFO)

    def __call__(
        self, neighborhoods: Neighborhoods
    ) -> tuple[Int64[Tensor, " q"], Bool[Tensor, " q"]]:
        """Return the dimension at each point, and a mask of neighbourhoods without spread."""
        return fukunaga_olsen(
            neighborhoods.points,
            neighborhoods.indices,
            alpha=self.alphaFO,
            memory=neighborhoods.memory,
            tolerance=neighborhoods.tolerance,
        )
