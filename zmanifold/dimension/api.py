"""Local intrinsic dimension from the spectra of neighbourhoods, in batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor

from zmanifold._base.ambient import ambient_outside
from zmanifold._base.arrays import as_points, as_rows
from zmanifold._base.checks import check_n_neighbors, resolve_device
from zmanifold._base.errors import InputError, unknown_name
from zmanifold._base.memory import working_memory
from zmanifold._base.scaling import rescaled
from zmanifold.dimension.flags import find_flags
from zmanifold.dimension.fo import FukunagaOlsen
from zmanifold.dimension.neighborhoods import Neighborhoods, as_neighborhoods
from zmanifold.dimension.registry import estimate
from zmanifold.neighbors import search

__all__ = ["LocalPCA", "local_spectra"]


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
        The device that computes; "auto" takes a GPU if the machine has one.
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
        The number of neighbourhoods without spread beyond rounding (all their points coincide);
        their dimension is 0.
    flags_ : tuple of str
        Why `dimension_` may be misleading: "saturated" (many points lie at the ceiling, k - 1 or
        d), "bimodal" (two modes at least 3 apart), "degenerate". Empty if there is nothing to say.
        `zmanifold.dimension.FLAGS` has the rules and what helps.
    n_features_in_ : int
        The number d of features seen in `fit`.

    Raises
    ------
    InputError
        In `fit`, for wrong parameters or data.

    Notes
    -----
    The pointwise results are those of a singular value decomposition in float64, unless an
    eigenvalue lies at the threshold up to rounding (docs/proofs.md, section 8). On float64 data of
    ordinary scale scikit-dimension's ``lPCA(ver="FO").fit_pw`` [2]_ gives the same at points whose
    k-th neighbour is no tie; it fits one PCA after the other in Python, in the points' own type. A
    CPU counts the eigenvalues above the threshold by Sylvester's law of inertia. It computes the
    eigenvalues only of the few neighbourhoods where rounding could change the count.

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

    @ambient_outside()
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
            The neighbours of each query as row numbers of `X`, distinct and without the query
            itself, in any order: as `zmanifold.kneighbors` gives them.
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
        estimator = FukunagaOlsen(self.alphaFO)
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
            _check_neighbors(indices.cpu(), rows)
        around = Neighborhoods(points, indices, rows.to(where), memory)
        dimension, degenerate = estimate(estimator, around)
        self.dimension_pw_ = dimension.cpu().numpy()
        self.dimension_ = float(self.dimension_pw_.mean())
        self.n_degenerate_ = int(degenerate.sum())
        self.n_features_in_ = points.shape[1]
        self.flags_ = find_flags(
            self.dimension_pw_,
            degenerate.cpu().numpy(),
            n_neighbors=indices.shape[1],
            n_features=self.n_features_in_,
        )
        return self


def _check_neighbors(indices: Int64[Tensor, "q k"], rows: Int64[Tensor, " q"]) -> None:
    """Raise InputError if a row holds its own query, or the same neighbour twice."""
    own = indices == rows[:, None]
    if bool(own.any()):
        row, column = own.nonzero()[0].tolist()
        raise InputError(
            f"precomputed_knn holds the query itself in {int(own.any(dim=1).sum())} of "
            f"{len(indices)} rows, first in row {row}, column {column}, but a point is no "
            "neighbour of itself: drop that column, knn[:, 1:] for scikit-learn's."
        )
    ordered = indices.sort(dim=1).values
    twice = (ordered[:, 1:] == ordered[:, :-1]).nonzero()
    if len(twice):
        row, column = twice[0].tolist()
        raise InputError(
            f"precomputed_knn holds neighbour {int(ordered[row, column])} twice in row {row}: give "
            "distinct neighbours."
        )


@ambient_outside()
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
        The device that computes.
    memory_limit : int, optional
        Bytes of working memory above the data.

    Returns
    -------
    ndarray of float64, shape (q, min(k - 1, d))
        Eigenvalues of the covariance (divided by k - 1), descending. All others are zero.

    Raises
    ------
    InputError
        If `X` is not a finite array of points, or `indices` are not row numbers of it.

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
    around = Neighborhoods(points, neighborhoods, neighborhoods[:, 0], memory)
    return around.spectra().cpu().numpy()
