"""Local intrinsic dimension from the spectra of neighbourhoods, in batches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64, Shaped
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor

from zmanifold._base.arrays import as_array, as_points, as_rows, rescaled
from zmanifold._base.checks import check_n_neighbors, is_number, resolve_device
from zmanifold._base.errors import InputError, unknown_name
from zmanifold._base.memory import working_memory
from zmanifold._base.parallel import run_chunks
from zmanifold.dimension._inertia_gpu import count_by_signs
from zmanifold.neighbors import search

__all__ = ["LocalPCA", "as_neighborhoods", "fukunaga_olsen", "greatest_norm", "local_spectra"]

# A neighbourhood is "without spread" when its points differ by no more than this many units of
# the dtype's spacing at the data's largest norm. float32 data is often used at its very
# resolution, so only a single unit counts as rounding there; float64 has room for what long
# sums leave behind.
_ROUNDING_UNITS = {torch.float32: 1.0, torch.float64: 64.0}

_CACHE_BYTES = 16 * 2**20

# Up to this order a GPU computes the eigenvalues of many matrices at a time.
_MOST_BATCHED = 32

# Up to this order of the scatter matrix a CPU counts eigenvalues faster than it computes them.
_MOST_COUNTED = 512


class LocalPCA(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no type hints
    """Pointwise intrinsic dimension by PCA of each point's neighbourhood.

    Parameters
    ----------
    ver : {"FO"}, default="FO"
        The rule that turns a spectrum into a dimension. "FO" is Fukunaga and Olsen's: the number
        of eigenvalues strictly greater than `alphaFO` times the largest [1]_.
    n_neighbors : int, default=100
        Size k of a neighbourhood, 2 <= k < n. The point itself is not part of it. Ignored when
        `precomputed_knn` is given to `fit`.
    alphaFO : float, default=0.05
        The fraction of the largest eigenvalue that counts as significant, 0 < alphaFO < 1.
    device : str or torch.device, default="auto"
        Where to compute; "auto" takes a GPU if there is one.
    memory_limit : int, optional
        Bytes of working memory above the data and one float32 copy of it; results do not
        depend on it.

    Attributes
    ----------
    dimension_pw_ : ndarray of int64, shape (n_queries,)
        The dimension at each query point.
    dimension_ : float
        The mean of `dimension_pw_`.
    n_degenerate_ : int
        How many neighbourhoods have no spread beyond rounding (all their points coincide); their
        dimension is 0.
    n_features_in_ : int
        The number d of features seen in `fit`.

    Raises
    ------
    InputError
        In `fit`, for wrong parameters or data.

    Notes
    -----
    The pointwise results are those of scikit-dimension's ``lPCA(ver="FO").fit_pw`` [2]_, which
    fits one PCA after the other in Python; here they are computed in batches, in float64. A CPU
    counts the eigenvalues above the threshold by Sylvester's law of inertia instead of computing
    them, and computes those of the few neighbourhoods where rounding could decide.

    References
    ----------
    .. [1] K. Fukunaga and D. R. Olsen, "An algorithm for finding intrinsic dimensionality of
       data", IEEE Transactions on Computers C-20(2), 1971.
    .. [2] J. Bac et al., "Scikit-dimension: a Python package for intrinsic dimension
       estimation", Entropy 23(10), 2021.

    Examples
    --------
    >>> import zmanifold as zm
    >>> X, _ = zm.make_helix(random_state=0)
    >>> zm.LocalPCA(n_neighbors=8).fit(X).dimension_
    1.0
    """

    def __init__(
        self,
        ver: str = "FO",
        *,
        n_neighbors: int = 100,
        alphaFO: float = 0.05,
        device: str | torch.device = "auto",
        memory_limit: int | None = None,
    ) -> None:
        self.ver = ver
        self.n_neighbors = n_neighbors
        self.alphaFO = alphaFO
        self.device = device
        self.memory_limit = memory_limit

    def fit(
        self, X: Any, y: object = None, *, precomputed_knn: Any = None, queries: Any = None
    ) -> LocalPCA:
        """Estimate the dimension at each query point.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n, d)
            Points, d >= 2.
        y : object
            Ignored; scikit-learn's convention.
        precomputed_knn : array-like of int, shape (n_queries, k), optional
            The neighbours of each query as row numbers of `X`, as `zmanifold.kneighbors` gives
            them.
        queries : array-like of int, shape (n_queries,), optional
            Row numbers of `X` at which to estimate; all rows by default. Neighbours are taken
            from all of `X`.

        Returns
        -------
        LocalPCA
            The fitted estimator itself.
        """
        if self.ver != "FO":
            raise unknown_name("ver", self.ver, ["FO"])
        if not (is_number(self.alphaFO) and 0 < self.alphaFO < 1):
            raise InputError(
                f"alphaFO={self.alphaFO!r} must lie strictly between 0 and 1: "
                "0.05 is Fukunaga and Olsen's choice."
            )
        where = resolve_device(self.device, like=X)
        points = as_points(X, min_features=2, device=where)
        memory = working_memory(self.memory_limit, where)
        n = len(points)
        rows = torch.arange(n) if queries is None else as_rows(queries, n)
        if precomputed_knn is None:
            k = check_n_neighbors(self.n_neighbors, n, least=2)
            (scaled,), _ = rescaled(points)
            _, indices = search(
                scaled, k, rows=rows.to(where), farthest_only=True, in_order=False, memory=memory
            )
        else:
            indices = as_neighborhoods(precomputed_knn, n, least=2).to(where)
            if len(indices) != len(rows):
                raise InputError(
                    f"precomputed_knn has {len(indices)} rows for {len(rows)} query points: "
                    "give one row of neighbours a query."
                )
        dimension, degenerate = fukunaga_olsen(
            points, indices, alpha=float(self.alphaFO), memory=memory
        )
        self.dimension_pw_ = dimension.cpu().numpy()
        self.dimension_ = float(self.dimension_pw_.mean())
        self.n_degenerate_ = int(degenerate.sum())
        self.n_features_in_ = points.shape[1]
        return self


def local_spectra(
    X: Any,
    indices: Any,
    *,
    device: str | torch.device = "auto",
    memory_limit: int | None = None,
) -> NDArray[np.float64]:
    """Compute the covariance eigenvalues of neighbourhoods, each centred on its own mean.

    Parameters
    ----------
    X : array-like or torch.Tensor of shape (n, d)
        Points.
    indices : array-like of int, shape (q, k)
        Row numbers of the k >= 2 points of each neighbourhood.
    device : str or torch.device, default="auto"
        Where to compute.
    memory_limit : int, optional
        Bytes of working memory above the data.

    Returns
    -------
    ndarray of float64, shape (q, min(k - 1, d))
        Eigenvalues of the covariance (divided by k - 1), descending. All others are zero.

    Raises
    ------
    InputError
        If `X` is not a finite array of points or `indices` not row numbers of it.

    Examples
    --------
    >>> import numpy as np
    >>> import zmanifold as zm
    >>> X = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [2.0, 1.0]])
    >>> zm.local_spectra(X, [[0, 1, 2, 3]]).round(3).tolist()
    [[1.333, 0.333]]
    """
    where = resolve_device(device, like=X)
    points = as_points(X, device=where)
    neighborhoods = as_neighborhoods(indices, len(points), least=2).to(where)
    memory = working_memory(memory_limit, where)
    (points,), exponent = rescaled(points)
    spectra, _ = _spectra(points, neighborhoods, memory)
    return (spectra * 2.0**exponent * 2.0**exponent).cpu().numpy()


def fukunaga_olsen(
    points: Float[Tensor, "n d"],
    indices: Int64[Tensor, "q k"],
    *,
    alpha: float,
    memory: int,
    largest_norm: tuple[float, int] | None = None,
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
    largest_norm : tuple of float and int, optional
        Fraction and exponent (as of `math.frexp`) of the largest norm of the whole data, where
        `points` are a part of it.

    Returns
    -------
    dimension : torch.Tensor of shape (q,)
        The counts; 0 where the neighbourhood is degenerate.
    degenerate : torch.Tensor of shape (q,)
        True where the neighbourhood has no spread beyond rounding.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.dimension.api import fukunaga_olsen
    >>> points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    >>> fukunaga_olsen(points, torch.tensor([[0, 1, 2], [1, 1, 1]]), alpha=0.05, memory=2**20)
    (tensor([1, 0]), tensor([False,  True]))
    """
    dtype = points.dtype
    (points,), exponent = rescaled(points)
    if largest_norm is None:
        norm = greatest_norm(points)
    else:
        norm = math.ldexp(largest_norm[0], largest_norm[1] - exponent)
    rounding = _ROUNDING_UNITS[dtype] * torch.finfo(dtype).eps * norm
    q = len(indices)
    dimension, degenerate = indices.new_empty(q), torch.empty_like(indices[:, 0], dtype=torch.bool)
    # What lies at the threshold itself is not greater, however a chunk's products round it.
    at_least = alpha + (indices.shape[1] + points.shape[1]) * 2.0**-50
    proven = torch.zeros_like(degenerate)
    if points.device.type != "cpu":
        _count_by_signs(points, indices, at_least, rounding, memory, dimension, degenerate, proven)
    elif min(indices.shape[1], points.shape[1]) <= _MOST_COUNTED:
        _count(points, indices, alpha, rounding, dimension, degenerate, proven)
    undecided = (~proven).nonzero()[:, 0]
    if len(undecided):
        spectra, spread = _spectra(points, indices[undecided], memory)
        without = spread <= rounding
        significant = (spectra > at_least * spectra[:, :1]).sum(dim=1)
        dimension[undecided], degenerate[undecided] = significant.masked_fill_(without, 0), without
    return dimension, degenerate


def greatest_norm(points: Float[Tensor, "n d"]) -> float:
    """Return the largest Euclidean norm of points of moderate magnitude.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.dimension.api import greatest_norm
    >>> greatest_norm(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    5.0
    """
    if points.device.type != "cpu":
        return float(points.norm(dim=1).max())
    # NumPy leaves no waiting threads behind, as in `largest_magnitude`.
    array = points.numpy()
    return math.sqrt(float(np.einsum("nd,nd->n", array, array).max()))


def _count(
    points: Float[Tensor, "n d"],
    indices: Int64[Tensor, "q k"],
    alpha: float,
    rounding: float,
    *out: Shaped[Tensor, " q"],
) -> None:
    """Count on a CPU, without computing the eigenvalues, where that is proven to be the same."""
    from zmanifold._base.locality import walk
    from zmanifold.dimension._inertia import count_significant

    data, rows = points.numpy(), indices.numpy()
    results = [values.numpy() for values in out]
    order = walk(rows, data)

    def work(part: slice) -> None:
        count_significant(data, rows, order[part], alpha, rounding, *results)

    run_chunks(work, len(rows), 1024, points.device)


def _count_by_signs(
    points: Float[Tensor, "n d"],
    indices: Int64[Tensor, "q k"],
    alpha: float,
    rounding: float,
    memory: int,
    *out: Shaped[Tensor, " q"],
) -> None:
    """Count on any device, by products, where that is proven to be the same."""
    dimension, degenerate, proven = out
    q, k = indices.shape
    d = points.shape[1]

    def work(part: slice) -> None:
        scatter, spread = _scatter(points, indices[part])
        counts, certain = count_by_signs(scatter, alpha)
        without = spread <= rounding
        dimension[part] = counts.masked_fill_(without, 0)
        degenerate[part], proven[part] = without, certain | without

    run_chunks(work, q, memory // (24 * k * d + 40 * min(k, d) ** 2), points.device)


def _scatter(
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


def _spectra(
    points: Float[Tensor, "n d"], indices: Int64[Tensor, "q k"], memory: int
) -> tuple[Float64[Tensor, "q r"], Float64[Tensor, " q"]]:
    """Return the eigenvalues (descending) and the root mean square distance to the mean."""
    q, k = indices.shape
    d = points.shape[1]
    rank = min(k - 1, d)
    spectra = points.new_empty((q, rank), dtype=torch.float64)
    spread = points.new_empty(q, dtype=torch.float64)

    def work(part: slice) -> None:
        scatter, spread[part] = _scatter(points, indices[part])
        spectra[part] = _eigenvalues(scatter).flip(1)[:, :rank]

    budget = min(memory, _CACHE_BYTES) if points.device.type == "cpu" else memory
    run_chunks(work, q, budget // (24 * k * d + 24 * min(k, d) ** 2), points.device)
    return spectra.clamp_(min=0).div_(k - 1), spread


def as_neighborhoods(indices: Any, n_points: int, *, least: int) -> Int64[Tensor, "q k"]:
    """Turn neighbourhoods of at least `least` points into a checked tensor.

    Examples
    --------
    >>> from zmanifold.dimension.api import as_neighborhoods
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
