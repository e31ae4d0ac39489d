"""Exact nearest neighbours without the point itself; equal distances come by row number."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from zmanifold._base.ambient import ambient_outside
from zmanifold._base.arrays import as_points, as_rows
from zmanifold._base.checks import check_n_neighbors, resolve_device
from zmanifold._base.memory import working_memory
from zmanifold.neighbors._rows import search_rows
from zmanifold.neighbors._search import Queries, Search, suits_a_tree
from zmanifold.neighbors.spaces import MetricSpace, check_metric

__all__ = ["kneighbors", "search"]


@overload
def kneighbors(
    X: Tensor,
    n_neighbors: int,
    *,
    queries: Any = ...,
    metric: Literal["euclidean", "cosine"] = ...,
    device: str | torch.device = ...,
    memory_limit: int | None = ...,
) -> tuple[Tensor, Tensor]: ...
@overload
def kneighbors(
    X: Any,
    n_neighbors: int,
    *,
    queries: Any = ...,
    metric: Literal["euclidean", "cosine"] = ...,
    device: str | torch.device = ...,
    memory_limit: int | None = ...,
) -> tuple[NDArray[Any], NDArray[np.int64]]: ...
@ambient_outside()
def kneighbors(
    X: Any,
    n_neighbors: int,
    *,
    queries: Any = None,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    device: str | torch.device = "auto",
    memory_limit: int | None = None,
) -> tuple[Any, Any]:
    """Find the exact nearest neighbours of points among all the others.

    A point is never its own neighbour, but an exact copy of it in another row is. Neighbours
    come by ascending distance, distances that are equal in float64 by row number.

    Parameters
    ----------
    X : array-like or torch.Tensor of shape (n, d)
        Points, float32 or float64 (other real types are converted).
    n_neighbors : int
        Number k of neighbours, 1 <= k < n.
    queries : array-like of int, shape (q,), optional
        Row numbers of `X` whose neighbours are wanted; all rows by default. Neighbours are
        always taken from all of `X`.
    metric : {"euclidean", "cosine"}, default="euclidean"
        "cosine" is the cosine distance 1 - cos(x, y); it refuses zero vectors.
    device : str or torch.device, default="auto"
        The device that computes; "auto" takes that of a tensor, or a GPU if the machine has one.
    memory_limit : int, optional
        Bytes of working memory above the data and one float32 copy of it; by default a quarter
        of what is free, on a CPU at most 1 GiB. Results do not depend on it.

    Returns
    -------
    distances : ndarray or torch.Tensor of shape (q, k)
        In X's float dtype, ascending.
    indices : ndarray or torch.Tensor of shape (q, k)
        int64 row numbers of `X`. A tensor gives tensors, anything else arrays.

    Raises
    ------
    InputError
        If an argument is out of its range; the message says which.

    Notes
    -----
    Up to 12 features on a CPU, a k-d tree searches in float64. With more features, or on a GPU, a
    float32 matrix product of centred data proposes candidates. Their distances are computed again
    by direct differences in float64. The candidates are accepted when a rounding-error bound
    (Higham, *Accuracy and Stability of Numerical Algorithms*, 2002, section 3.1) proves that no
    other point can be as near. Queries without that proof are compared in float64 with every point
    that could be.

    Where all points are queries on a CPU, each product serves both its points. A CPU with
    instructions for bfloat16 multiplies in bfloat16 first, if the proof succeeds for nearly all of
    a sample of queries. A CPU without AVX-512 multiplies projections on principal directions first,
    if a sample shows that they save time: together with the lengths of the residuals they bound the
    full products (Cauchy-Schwarz), and only full products that could matter are computed.

    Differences whose squares underflow count as zero: those below about 1e-154, or, where the
    data's largest value lies outside 1e-90 to 1e90, those below 1e-298 times that value.

    Examples
    --------
    >>> import numpy as np
    >>> import zmanifold as zm
    >>> distances, indices = zm.kneighbors(np.array([[0.0], [1.0], [3.0]]), 2)
    >>> indices.tolist()
    [[1, 2], [0, 2], [1, 0]]
    >>> distances.tolist()
    [[1.0, 3.0], [1.0, 2.0], [2.0, 3.0]]
    """
    check_metric(metric)
    where = resolve_device(device, like=X)
    points = as_points(X, device=where)
    k = check_n_neighbors(n_neighbors, len(points))
    rows = torch.arange(len(points)) if queries is None else as_rows(queries, len(points))
    space = MetricSpace.of(metric, X=points)
    (embedded,) = space.points
    distances, indices = search(
        embedded, k, rows=rows.to(where), memory=working_memory(memory_limit, where)
    )
    distances = space.measured(distances).to(points.dtype)
    if isinstance(X, Tensor):
        return distances, indices
    return distances.cpu().numpy(), indices.cpu().numpy()


def search(
    points: Float[Tensor, "n d"],
    k: int,
    *,
    rows: Int64[Tensor, " q"] | None = None,
    queries: Float[Tensor, "q d"] | None = None,
    farthest_only: bool = False,
    in_order: bool = True,
    memory: int,
) -> tuple[Float64[Tensor, "q w"], Int64[Tensor, "q k"]]:
    """Find the neighbours, among `points`, of some of the points or of others, without checks.

    Parameters
    ----------
    points : torch.Tensor of shape (n, d)
        Finite and of moderate magnitude (see `MetricSpace`).
    k : int
        Number of neighbours: 1 <= k < n for `rows`, 1 <= k <= n for `queries`.
    rows : torch.Tensor of shape (q,), optional
        Row numbers of the queries; a query is never its own neighbour.
    queries : torch.Tensor of shape (q, d), optional
        Queries that are not rows of `points`, of the same dtype. Exactly one of `rows` and
        `queries` is given, on the device of `points`.
    farthest_only : bool, default=False
        Whether only the distances of the k-th neighbours are returned.
    in_order : bool, default=True
        Whether neighbours must come by distance; if not, only the k-th is sure to be in its place.
    memory : int
        Bytes of working memory.

    Returns
    -------
    distances : torch.Tensor of shape (q, k) or (q, 1)
        Euclidean, ascending.
    indices : torch.Tensor of shape (q, k)
        Row numbers of `points`; equal distances come by row number.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.neighbors.api import search
    >>> points = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    >>> search(points, 1, rows=torch.tensor([2]), memory=2**20)
    (tensor([[2.]], dtype=torch.float64), tensor([[1]]))
    >>> search(points, 1, queries=torch.tensor([[0.0, 3.5]]), memory=2**20)
    (tensor([[0.5000]], dtype=torch.float64), tensor([[2]]))
    """
    asked = Queries(points, rows) if queries is None else Queries(queries, None)
    made = Search.of(
        points, asked, k, memory=memory, farthest_only=farthest_only, in_order=in_order
    )
    if suits_a_tree(points):
        from zmanifold.neighbors._tree import search_tree

        search_tree(made)
    elif points.device.type == "cpu":
        from zmanifold.neighbors._tiles import search_tiles

        search_tiles(made)
    else:
        search_rows(made)
    return made.distances, made.indices
