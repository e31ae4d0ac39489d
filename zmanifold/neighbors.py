"""Exact nearest neighbours: self-free, canonical under ties, bounded in memory."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from zmanifold.arrays import (
    as_points,
    as_rows,
    check_n_neighbors,
    largest_magnitude,
    rescaled,
    resolve_device,
    working_memory,
)
from zmanifold.chunking import chunks, run_chunks
from zmanifold.errors import InputError, unknown_name

__all__ = ["kneighbors", "search"]

# Up to this dimension a k-d tree beats the tiled matrix product on a CPU.
_TREE_MAX_DIM = 12

# More candidates than neighbours are kept, so that rounding in the filter seldom decides.
_SPARE_CANDIDATES = 16

# Differences are formed in pieces that stay in a CPU's cache.
_CACHE_BYTES = 8 * 2**20

_UNIT_ROUNDOFF = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}


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
    come by ascending distance; equal distances come by row number where the data has more than
    12 features or lies on a GPU (the k-d tree that serves few features breaks ties its own way).

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
        Where to compute; "auto" takes the tensor's own device, or a GPU if there is one.
    memory_limit : int, optional
        Bytes of working memory above the data and one float32 copy of it; by default 512 MiB
        on a CPU and a quarter of the free memory on a GPU. Results do not depend on it.

    Returns
    -------
    distances : ndarray or torch.Tensor of shape (q, k)
        In X's float dtype, ascending.
    indices : ndarray or torch.Tensor of shape (q, k)
        int64 row numbers of `X`. Tensors come back for a tensor, arrays for anything else.

    Raises
    ------
    InputError
        If an argument is out of its range; the message says which.

    Notes
    -----
    Up to 12 features on a CPU a k-d tree does the search. Otherwise a float32 matrix product on
    centred data only proposes candidates: their distances are computed again by direct
    differences in float64, and the list is accepted when a rounding-error bound (Higham,
    *Accuracy and Stability of Numerical Algorithms*, 2002, section 3.1) proves that no other
    point can be as near. Rows without that proof are searched again in float64 with every
    point that could matter.

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
    if metric not in ("euclidean", "cosine"):
        raise unknown_name("metric", metric, ["euclidean", "cosine"])
    where = resolve_device(device, like=X)
    points = as_points(X, device=where)
    k = check_n_neighbors(n_neighbors, len(points))
    rows = torch.arange(len(points)) if queries is None else as_rows(queries, len(points))
    dtype = points.dtype
    points, exponent = rescaled(points)
    if metric == "cosine":
        points = _unit_vectors(points)
    distances, indices = search(
        points, k, rows=rows.to(where), memory=working_memory(memory_limit, where)
    )
    if metric == "cosine":
        distances = distances.square() / 2
    elif exponent:
        distances = distances * 2.0 ** (exponent // 2) * 2.0 ** (exponent - exponent // 2)
    distances = distances.to(dtype)
    if isinstance(X, Tensor):
        return distances, indices
    return distances.cpu().numpy(), indices.cpu().numpy()


def search(
    points: Float[Tensor, "n d"], k: int, *, rows: Int64[Tensor, " q"], memory: int
) -> tuple[Float64[Tensor, "q k"], Int64[Tensor, "q k"]]:
    """Search without checks: the neighbours of points[rows] among all other points.

    Parameters
    ----------
    points : torch.Tensor of shape (n, d)
        Finite and of moderate magnitude (see `zmanifold.arrays.rescaled`).
    k : int
        Number of neighbours, 1 <= k < n.
    rows : torch.Tensor of shape (q,)
        Row numbers of the queries, on the device of `points`.
    memory : int
        Bytes of working memory.

    Returns
    -------
    distances : torch.Tensor of shape (q, k)
        Euclidean, ascending.
    indices : torch.Tensor of shape (q, k)
        Row numbers.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.neighbors import search
    >>> points = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    >>> search(points, 1, rows=torch.tensor([2]), memory=2**20)
    (tensor([[2.]], dtype=torch.float64), tensor([[1]]))
    """
    distances = points.new_empty((len(rows), k), dtype=torch.float64)
    indices = torch.empty_like(distances, dtype=torch.int64)
    if points.device.type == "cpu" and points.shape[1] <= _TREE_MAX_DIM:
        _search_tree(points, rows, distances, indices, memory)
    else:
        with _full_precision():
            _search_products(points, rows, distances, indices, memory)
    return distances, indices


def _search_tree(
    points: Float[Tensor, "n d"],
    rows: Int64[Tensor, " q"],
    distances: Float64[Tensor, "q k"],
    indices: Int64[Tensor, "q k"],
    memory: int,
) -> None:
    k = distances.shape[1]
    data = points.double().numpy()
    tree = cKDTree(data)

    def work(part: slice) -> None:
        own = rows[part].numpy()
        answer = tree.query(data[own], k=k + 1)
        found, near = np.asarray(answer[0]), np.asarray(answer[1])
        # Among more than k copies the tree need not return the point itself: drop the last then.
        is_own = near == own[:, None]
        dropped = np.where(is_own.any(axis=1), is_own.argmax(axis=1), k)
        kept = np.arange(k + 1) != dropped[:, None]
        distances[part] = torch.from_numpy(found[kept].reshape(-1, k))
        indices[part] = torch.from_numpy(near[kept].reshape(-1, k))

    # Not by the tree's own workers: Ctrl-C would free what they still write to.
    run_chunks(work, len(rows), min(memory // (64 * (k + 1)), 4096), points.device)


@dataclass(frozen=True)
class _Filter:
    """Points centred and scaled to norms of at most 1, where a product proposes candidates.

    For query q and point j the product gives a_j ~ |j|^2 - 2 q.j, so a_j + |q|^2 is the squared
    distance up to an error that `ceiling` accounts for.
    """

    centre: Float[Tensor, " d"]
    scale: float
    points: Float[Tensor, "m d"]
    squares: Float[Tensor, " m"]
    norms: Float64[Tensor, " m"]

    @classmethod
    def of(cls, points: Float[Tensor, "n d"], dtype: torch.dtype, n_padded: int) -> _Filter:
        """Build it; rows past n are padding at infinite distance.

        Differences are formed in the wider of the two dtypes and then rounded to `dtype`:
        `ceiling` allows for both roundings.
        """
        n, d = points.shape
        # Any centre near the data's middle serves: it is the same for all points.
        wider = torch.promote_types(points.dtype, dtype)
        centre = points.mean(dim=0).to(wider)
        # A power of two, so that scaling rounds nothing.
        scale = 2.0 ** math.frexp(2 * largest_magnitude(points) * math.sqrt(d))[1]
        out = points.new_zeros((n_padded, d), dtype=dtype)
        norms = points.new_zeros(n_padded, dtype=torch.float64)

        def work(part: slice) -> None:
            out[part] = (points[part].to(wider) - centre) / scale
            norms[part] = torch.linalg.vector_norm(out[part], dim=1, dtype=torch.float64)

        run_chunks(work, n, _CACHE_BYTES // (8 * d), points.device)
        squares = norms.square().to(dtype)
        squares[n:] = math.inf
        return cls(centre, scale, out, squares, norms)

    def ceiling(
        self, distances: Float64[Tensor, " q"], query_norms: Float64[Tensor, " q"]
    ) -> Float64[Tensor, " q"]:
        """Return values that no point within the given distances of the queries exceeds.

        Distances are unscaled and as float64 arithmetic rounded them.
        """
        u = _UNIT_ROUNDOFF[self.points.dtype]
        d = self.points.shape[1]
        q, radius = query_norms, float(self.norms.max())
        # Centring and rounding move either point by at most 2 u times its norm.
        reach = distances / self.scale * (1 + (d + 8) * 2.0**-52) + 2.01 * u * (q + radius)
        gamma = (d + 2) * u / (1 - (d + 2) * u) if (d + 2) * u < 0.5 else math.inf
        error = 2 * gamma * q * radius + 2 * u * (radius**2 + 2 * q * radius) + d * 2.0**-140
        return reach.square() - q.square() + error + 2.0**-50 * (reach.square() + q.square())


def _search_products(
    points: Float[Tensor, "n d"],
    rows: Int64[Tensor, " q"],
    distances: Float64[Tensor, "q k"],
    indices: Int64[Tensor, "q k"],
    memory: int,
) -> None:
    n, d = points.shape
    k = distances.shape[1]
    n_candidates = min(n - 1, k + _SPARE_CANDIDATES)
    # Selecting first among group minima, then inside the chosen groups, looks at n/g + g*c
    # values instead of n; the sum is least at g = sqrt(n/c).
    n_groups_per = max(1, math.isqrt(n // n_candidates))
    n_padded = -(-n // n_groups_per) * n_groups_per
    coarse = _Filter.of(points, torch.float32, n_padded)
    undecided: list[Tensor] = []
    row_bytes = 4 * n_padded + 24 * n_groups_per * n_candidates + 4 * d
    parts = list(chunks(len(rows), min(memory // row_bytes, 4096)))
    buffer = points.new_empty((parts[0].stop, n_padded), dtype=torch.float32)
    for part in parts:
        own = rows[part]
        values = buffer[: len(own)]
        torch.addmm(coarse.squares, coarse.points[own], coarse.points.mT, alpha=-2, out=values)
        values[torch.arange(len(own), device=own.device), own] = math.inf
        kept, candidates = _smallest(values, n_candidates, n_groups_per)
        # Ties shall not depend on the order in which the filter found them.
        candidates = candidates.sort(dim=1).values
        found, near = _nearest(points, own, candidates, k, memory)
        distances[part], indices[part] = found, near
        if n_candidates < n - 1:
            ceiling = coarse.ceiling(found[:, -1], coarse.norms[own])
            proven = kept.amax(dim=1) > ceiling
            undecided.append((~proven).nonzero()[:, 0] + part.start)
    left = torch.cat(undecided) if undecided else rows[:0]
    if len(left):
        _search_undecided(points, rows, left, distances, indices, memory)


def _search_undecided(
    points: Float[Tensor, "n d"],
    rows: Int64[Tensor, " q"],
    undecided: Int64[Tensor, " r"],
    distances: Float64[Tensor, "q k"],
    indices: Int64[Tensor, "q k"],
    memory: int,
) -> None:
    """Search again, in float64 and with every point that could be among the k nearest.

    The k-th distance found so far bounds the true one from above: a point whose value shows that
    it lies farther cannot matter, and all others are compared by direct differences.
    """
    d = points.shape[1]
    k = distances.shape[1]
    pool = _first_copies(points, k + 1)
    fine = _Filter.of(points[pool], torch.float64, len(pool))
    for part in chunks(len(undecided), min(memory // (48 * len(pool) + 8 * d), 4096)):
        positions = undecided[part]
        own = rows[positions]
        queries = (points[own].double() - fine.centre) / fine.scale
        values = torch.addmm(fine.squares, queries, fine.points.mT, alpha=-2)
        ceiling = fine.ceiling(distances[positions, -1], queries.norm(dim=1))
        possible = values <= ceiling[:, None]
        possible &= pool != own[:, None]
        for chosen, candidates in _rectangles(possible):
            candidates = torch.where(candidates < 0, candidates, pool[candidates])
            found, near = _nearest(points, own[chosen], candidates, k, memory)
            distances[positions[chosen]], indices[positions[chosen]] = found, near


def _rectangles(
    mask: Bool[Tensor, "q m"],
) -> Iterator[tuple[Int64[Tensor, " r"], Int64[Tensor, "r c"]]]:
    """Yield rows with the columns where they are true, ascending, padded at the end with -1.

    Rows whose counts round up to the same power of two go together: at most half is padding.
    """
    counts = mask.sum(dim=1)
    rows, columns = mask.nonzero(as_tuple=True)
    slots = torch.arange(len(rows), device=mask.device) - (counts.cumsum(0) - counts)[rows]
    widths = torch.ceil(torch.log2(counts.double())).exp2().long()
    for width in sorted(set(widths.tolist())):
        chosen = (widths == width).nonzero()[:, 0]
        padded = rows.new_full((len(mask), width), -1)
        inside = widths[rows] == width
        padded[rows[inside], slots[inside]] = columns[inside]
        yield chosen, padded[chosen]


def _first_copies(points: Float[Tensor, "n d"], count: int) -> Int64[Tensor, " m"]:
    """Return the rows left when every point keeps only its first `count` exact copies.

    Equal distances come by row number, so the other copies are nobody's k nearest for k < count.
    """
    rows_as_bytes = points.cpu().numpy().view(np.dtype((np.void, points[0].nbytes)))[:, 0]
    _, group, sizes = np.unique(rows_as_bytes, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    copy_number = np.arange(len(order)) - np.repeat(sizes.cumsum() - sizes, sizes)
    return torch.from_numpy(np.sort(order[copy_number < count])).to(points.device)


def _smallest(
    values: Float32[Tensor, "q m"], count: int, n_groups_per: int
) -> tuple[Float32[Tensor, "q c"], Int64[Tensor, "q c"]]:
    """Return the `count` smallest values of each row and their columns, in no order.

    Columns are dealt into m/g groups of g. If a value v outside the `count` groups with the
    smallest minima were among the smallest, those groups would hold `count` values <= v.
    """
    q, m = values.shape
    n_groups = m // n_groups_per
    if n_groups_per == 1 or n_groups <= count:
        kept, columns = values.topk(count, dim=1, largest=False, sorted=False)
        return kept, columns
    grouped = values.view(q, n_groups_per, n_groups)
    groups = grouped.amin(dim=1).topk(count, dim=1, largest=False, sorted=False).indices
    inside = grouped.gather(2, groups[:, None, :].expand(-1, n_groups_per, -1))
    kept, position = inside.view(q, -1).topk(count, dim=1, largest=False, sorted=False)
    member, chosen = position // count, position % count
    return kept, member * n_groups + groups.gather(1, chosen)


def _nearest(
    points: Float[Tensor, "n d"],
    own: Int64[Tensor, " q"],
    candidates: Int64[Tensor, "q c"],
    k: int,
    memory: int,
) -> tuple[Float64[Tensor, "q k"], Int64[Tensor, "q k"]]:
    """Sort candidates by direct differences in float64; equals keep their given order.

    A candidate of -1 is none.
    """
    q, c = candidates.shape
    d = points.shape[1]
    squared = points.new_empty((q, c), dtype=torch.float64)

    def work(part: slice) -> None:
        # One row may have more candidates than fit: cut those too.
        for columns in chunks(c, memory // (48 * d)):
            near = points[candidates[part, columns]].double()
            near -= points[own[part]].double()[:, None, :]
            squared[part, columns] = near.square_().sum(dim=2)
        squared[part].masked_fill_(candidates[part] < 0, math.inf)

    cache = _CACHE_BYTES if points.device.type == "cpu" else memory
    run_chunks(work, q, cache // (24 * c * d), points.device)
    order = squared.argsort(dim=1, stable=True)[:, :k]
    return squared.gather(1, order).sqrt_(), candidates.gather(1, order)


def _unit_vectors(points: Float[Tensor, "n d"]) -> Float64[Tensor, "n d"]:
    points = points.double()
    norms = points.norm(dim=1, keepdim=True)
    zero: Bool[Tensor, " n"] = norms[:, 0] == 0
    if bool(zero.any()):
        raise InputError(
            f"X holds {int(zero.sum())} zero vector(s), the first in row {int(zero.nonzero()[0])}, "
            "but metric='cosine' needs a direction: remove them or use metric='euclidean'."
        )
    unit: Tensor = points / norms
    return unit


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Keep float32 products in float32: the error bound does not hold for TF32 or bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
