"""Neighbourhoods of many points: their differences, distances and spectra."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from zmanifold._base.arrays import as_array, as_rows
from zmanifold._base.errors import InputError
from zmanifold._base.parallel import chunks, run_chunks
from zmanifold._base.scaling import largest_magnitude
from zmanifold.dimension._spread import Tolerance

__all__ = [
    "LEAST_TRACE",
    "Neighborhoods",
    "as_neighborhoods",
    "below_overflow",
    "scatter_matrices",
    "spectra_of",
]

# On a CPU neighbourhoods are computed in pieces of this size, which stay in its cache.
_CACHE_BYTES = 16 * 2**20

# Sums of squares below this may have lost digits to underflow, and sums above its inverse are near
# overflow: the differences of the points are then scaled before they are squared.
LEAST_TRACE = 1e-200

# Up to this order PyTorch computes the eigenvalues of many matrices at a time on a GPU.
_MOST_BATCHED = 32


def scatter_matrices(
    points: Float[Tensor, "n d"], indices: Int64[Tensor, "q k"]
) -> tuple[Float64[Tensor, "q r r"], Int64[Tensor, " q"]]:
    """Return scatter matrices, divided by 4**exponent, and these exponents.

    The matrix is that of the features or, if these are more than the points, the Gram matrix of the
    points, which has the same non-zero eigenvalues. The exponent is 0 where sums of squares neither
    overflow nor lose digits to underflow.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.dimension.neighborhoods import scatter_matrices
    >>> scatter_matrices(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[0, 1]]))
    (tensor([[[ 1., -1.],
             [-1.,  1.]]], dtype=torch.float64), tensor([0]))
    """
    near = points[indices]
    # Subtraction and conversion to float64 are one pass, because memory limits a GPU here. The
    # rounding of differences from one of the points is relative to the spread, however far from the
    # origin the points are.
    scatter = _products(torch.sub(near, near[:, :1].double()))
    exponents = torch.zeros_like(indices[:, 0])
    trace = scatter.diagonal(dim1=1, dim2=2).sum(dim=1)
    # The comparisons are false for NaN, which a difference of two infinite sums gives.
    extreme = (~((trace > LEAST_TRACE) & (trace < 1 / LEAST_TRACE))).nonzero()[:, 0]
    if len(extreme):
        apart = torch.sub(near[extreme], near[extreme, :1].double())
        found = torch.frexp(apart.abs().amax(dim=(1, 2))).exponent.long()
        # In two steps, because 2**-exponent is not a float64 for a difference of 2**-1074.
        exponents[extreme] = found
        halves = [-(found // 2), found // 2 - found]
        for half in halves:
            apart *= torch.ldexp(torch.ones_like(apart[:, 0, 0]), half)[:, None, None]
        scatter[extreme] = _products(apart)
    return scatter, exponents


def _products(apart: Float64[Tensor, "q k d"]) -> Float64[Tensor, "q r r"]:
    """Centre neighbourhoods in place; return the products of their rows or columns."""
    apart -= apart.mean(dim=1, keepdim=True)
    # The two products share their non-zero eigenvalues.
    return apart @ apart.mT if apart.shape[1] <= apart.shape[2] else apart.mT @ apart


def _eigenvalues(matrices: Float64[Tensor, "b r r"]) -> Float64[Tensor, "b r"]:
    """Return eigenvalues, ascending; the CPU computes those of a GPU's larger matrices.

    Above order 32 PyTorch (at least up to 2.11) gives a GPU one matrix at a time, which is slower.
    """
    if matrices.device.type == "cpu" or matrices.shape[1] <= _MOST_BATCHED:
        values: Tensor = torch.linalg.eigvalsh(matrices)
        return values
    host = matrices.cpu()
    values = host.new_empty(host.shape[:2])

    def work(part: slice) -> None:
        values[part] = torch.linalg.eigvalsh(host[part])

    run_chunks(work, len(host), len(host), host.device)
    return values.to(matrices.device)


def spectra_of(
    points: Float[Tensor, "n d"], indices: Int64[Tensor, "q k"], memory: int
) -> tuple[Float64[Tensor, "q r"], Int64[Tensor, " q"]]:
    """Return covariance eigenvalues, descending, over 4**exponent, and these exponents."""
    q, k = indices.shape
    d = points.shape[1]
    rank = min(k - 1, d)
    spectra = points.new_empty((q, rank), dtype=torch.float64)
    exponents = torch.empty_like(indices[:, 0])

    def work(part: slice) -> None:
        scatter, exponents[part] = scatter_matrices(points, indices[part])
        spectra[part] = _eigenvalues(scatter).flip(1)[:, :rank]

    budget = min(memory, _CACHE_BYTES) if points.device.type == "cpu" else memory
    run_chunks(work, q, budget // (24 * k * d + 24 * min(k, d) ** 2), points.device)
    return spectra.clamp_(min=0).div_(k - 1), exponents


def as_neighborhoods(indices: Any, n_points: int, *, least: int) -> Int64[Tensor, "q k"]:
    """Return neighbourhoods as a tensor of valid row numbers, `least` or more in each.

    Examples
    --------
    >>> from zmanifold.dimension.neighborhoods import as_neighborhoods
    >>> as_neighborhoods([[0, 2]], 3, least=2)
    tensor([[0, 2]])
    """
    array = as_array(indices, "the neighbourhoods")
    if array.ndim != 2 or array.shape[1] < least:
        raise InputError(
            f"the neighbourhoods have shape {array.shape} but must be (queries, k) with k >= "
            f"{least}: give the indices that zmanifold.kneighbors returns."
        )
    return as_rows(array.ravel(), n_points, name="the neighbourhoods").view(array.shape)


@dataclass(frozen=True, eq=False)
class Neighborhoods:
    """The neighbourhoods of q points, from which each estimator takes what it needs.

    Attributes
    ----------
    points : torch.Tensor of shape (n, d)
        All points, or those that occur in the neighbourhoods.
    indices : torch.Tensor of shape (q, k)
        Row numbers of the neighbours, nearest first.
    rows : torch.Tensor of shape (q,)
        Row numbers of the points whose neighbours these are.
    memory : int
        Bytes of working memory.
    measured : torch.Tensor of shape (q, k), optional
        The neighbours' distances, if the search returned them.
    tolerance : Tolerance, optional
        Bounds on the rounding that mixing left in the points.
    """

    points: Float[Tensor, "n d"]
    indices: Int64[Tensor, "q k"]
    rows: Int64[Tensor, " q"]
    memory: int
    measured: Float64[Tensor, "q k"] | None = None
    tolerance: Tolerance | None = None

    def nearest(self, k: int) -> Neighborhoods:
        """Return the neighbourhoods of the k nearest neighbours."""
        measured = None if self.measured is None else self.measured[:, :k]
        return replace(self, indices=self.indices[:, :k], measured=measured)

    def differences(self) -> Iterator[tuple[slice, Float64[Tensor, "p k d"]]]:
        """Yield parts of the neighbourhoods, and their neighbours less their own point."""
        k, d = self.indices.shape[1], self.points.shape[1]
        for part in chunks(len(self.indices), self.memory // (32 * k * d)):
            own = self.points[self.rows[part]].double()
            yield part, torch.sub(self.points[self.indices[part]], own[:, None, :])

    def distances(self) -> Float64[Tensor, "q k"]:
        """Return the neighbours' distances, ascending."""
        if self.measured is not None:
            return self.measured
        found = torch.empty(self.indices.shape, dtype=torch.float64, device=self.points.device)
        for part, near in self.differences():
            found[part] = torch.linalg.vector_norm(near, dim=2)
        return found

    def spectra(self) -> Float64[Tensor, "q r"]:
        """Return the covariance eigenvalues, descending, as `local_spectra` does."""
        points, exponent = below_overflow(self.points)
        spectra, exponents = spectra_of(points, self.indices, self.memory)
        exponents += exponent
        # In two steps, because 4**exponent may overflow where the eigenvalue does not.
        for _ in range(2):
            spectra = torch.ldexp(spectra, exponents[:, None])
        return spectra


def below_overflow(points: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], int]:
    """Return points over 2**exponent, whose differences do not overflow float64, and the exponent.

    The exponent is 0 unless points have magnitudes of 2**1022 or more.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.dimension.neighborhoods import below_overflow
    >>> below_overflow(torch.tensor([[2.0**1023]], dtype=torch.float64))[1]
    2
    """
    if points.dtype == torch.float64 and largest_magnitude(points) >= 2.0**1022:
        return points * 0.25, 2
    return points, 0
