"""Neighbourhoods of many points, and what estimators ask of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from zmanifold._base.arrays import as_array, as_rows
from zmanifold._base.errors import InputError
from zmanifold._base.parallel import chunks, run_chunks
from zmanifold._base.scaling import rescaled

__all__ = ["Neighborhoods", "as_neighborhoods", "greatest_norm", "scatter_matrices", "spectra_of"]

_CACHE_BYTES = 16 * 2**20


# Up to this order a GPU computes the eigenvalues of many matrices at a time.
_MOST_BATCHED = 32


def greatest_norm(points: Float[Tensor, "n d"]) -> float:
    """Return the largest Euclidean norm of points of moderate magnitude.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.dimension.neighborhoods import greatest_norm
    >>> greatest_norm(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    5.0
    """
    if points.device.type != "cpu":
        return float(points.norm(dim=1).max())
    # NumPy leaves no waiting threads behind, as in `largest_magnitude`.
    array = points.numpy()
    return math.sqrt(float(np.einsum("nd,nd->n", array, array).max()))


def scatter_matrices(
    points: Float[Tensor, "n d"], indices: Int64[Tensor, "q k"]
) -> tuple[Float64[Tensor, "q r r"], Float64[Tensor, " q"]]:
    """Return the smaller scatter matrices and the root mean square distances to the mean."""
    k = indices.shape[1]
    near = points[indices]
    # One pass from the points' type to float64: memory is what limits a GPU here.
    centred = torch.sub(near, near.mean(dim=1, keepdim=True, dtype=torch.float64))
    # The two products share their non-zero eigenvalues.
    scatter = centred @ centred.mT if k <= points.shape[1] else centred.mT @ centred
    return scatter, (scatter.diagonal(dim1=1, dim2=2).sum(dim=1) / k).sqrt_()


def _eigenvalues(matrices: Float64[Tensor, "b r r"]) -> Float64[Tensor, "b r"]:
    """Return them ascending; large ones of a GPU's by the CPU, where PyTorch is faster.

    Above order 32 PyTorch (at least up to 2.11) gives a GPU one matrix at a time.
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
) -> tuple[Float64[Tensor, "q r"], Float64[Tensor, " q"]]:
    """Return the eigenvalues (descending) and the root mean square distance to the mean."""
    q, k = indices.shape
    d = points.shape[1]
    rank = min(k - 1, d)
    spectra = points.new_empty((q, rank), dtype=torch.float64)
    spread = points.new_empty(q, dtype=torch.float64)

    def work(part: slice) -> None:
        scatter, spread[part] = scatter_matrices(points, indices[part])
        spectra[part] = _eigenvalues(scatter).flip(1)[:, :rank]

    budget = min(memory, _CACHE_BYTES) if points.device.type == "cpu" else memory
    run_chunks(work, q, budget // (24 * k * d + 24 * min(k, d) ** 2), points.device)
    return spectra.clamp_(min=0).div_(k - 1), spread


def as_neighborhoods(indices: Any, n_points: int, *, least: int) -> Int64[Tensor, "q k"]:
    """Turn neighbourhoods of at least `least` points into a checked tensor.

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
        All points, or those that the neighbourhoods need.
    indices : torch.Tensor of shape (q, k)
        Row numbers of the neighbours among them, nearest first.
    rows : torch.Tensor of shape (q,)
        Row numbers of the points whose neighbours they are.
    memory : int
        Bytes of working memory.
    measured : torch.Tensor of shape (q, k), optional
        The neighbours' distances, where the search has them.
    largest_norm : tuple of float and int, optional
        Fraction and exponent (as of `math.frexp`) of the largest norm of the whole data, where
        `points` are a part of it.
    """

    points: Float[Tensor, "n d"]
    indices: Int64[Tensor, "q k"]
    rows: Int64[Tensor, " q"]
    memory: int
    measured: Float64[Tensor, "q k"] | None = None
    largest_norm: tuple[float, int] | None = None

    def nearest(self, k: int) -> Neighborhoods:
        """Return those of the k nearest of each."""
        measured = None if self.measured is None else self.measured[:, :k]
        return replace(self, indices=self.indices[:, :k], measured=measured)

    def differences(self) -> Iterator[tuple[slice, Float64[Tensor, "p k d"]]]:
        """Yield the neighbours less their own point, some neighbourhoods at a time."""
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
        """Return the covariance eigenvalues of each, descending, as `local_spectra` does."""
        (points,), exponent = rescaled(self.points)
        spectra, _ = spectra_of(points, self.indices, self.memory)
        return spectra * 2.0**exponent * 2.0**exponent
