"""Exact nearest neighbours: self-free, canonical under ties, bounded in memory."""

from __future__ import annotations

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

from zmanifold.arrays import as_points, as_rows, rescaled
from zmanifold.chunking import chunks, run_chunks
from zmanifold.errors import InputError, unknown_name
from zmanifold.filtering import (
    CACHE_BYTES,
    Filter,
    full_precision,
    root_sum_squares,
    suits_a_tree,
)
from zmanifold.parameters import check_n_neighbors, resolve_device, working_memory

__all__ = ["MetricSpace", "check_metric", "kneighbors", "search"]

# More candidates than neighbours are kept, so that rounding in the filter seldom decides.
_SPARE_CANDIDATES = 16


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
    Up to 12 features on a CPU a k-d tree does the search; where distances tie at the k-th place,
    all points at that distance are compared. Otherwise a float32 matrix product on
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


@dataclass(frozen=True)
class MetricSpace:
    """Sets of points brought to where Euclidean search gives the metric's neighbours.

    Attributes
    ----------
    points : tuple of torch.Tensor
        The sets, one dtype: unit vectors for the cosine, else scaled by one power of two.
    metric : str
        "euclidean" or "cosine".
    exponent : int
        Of the power of two that was divided by.
    """

    points: tuple[Float[Tensor, "_ d"], ...]
    metric: str
    exponent: int

    @classmethod
    def of(cls, metric: str, **sets: Float[Tensor, "_ d"]) -> MetricSpace:
        """Bring one or several sets there; the keywords name them in messages."""
        check_metric(metric)
        if metric == "cosine":
            # Lengths do not matter: each set may have a scale of its own.
            units = (_unit_vectors(rescaled(p)[0][0], name) for name, p in sets.items())
            return cls(tuple(units), metric, 0)
        scaled, exponent = rescaled(*sets.values())
        return cls(scaled, metric, exponent)

    def measured(self, distances: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
        """Turn distances that a search found into distances of the metric."""
        if self.metric == "cosine":
            return distances.square() / 2
        if self.exponent == 0:
            return distances
        half = self.exponent // 2
        return distances * 2.0**half * 2.0 ** (self.exponent - half)


def check_metric(metric: object) -> None:
    """Raise InputError unless `metric` is one that this package knows."""
    if not isinstance(metric, str) or metric not in ("euclidean", "cosine"):
        raise unknown_name("metric", metric, ["euclidean", "cosine"])


def search(
    points: Float[Tensor, "n d"],
    k: int,
    *,
    rows: Int64[Tensor, " q"] | None = None,
    queries: Float[Tensor, "q d"] | None = None,
    memory: int,
) -> tuple[Float64[Tensor, "q k"], Int64[Tensor, "q k"]]:
    """Search without checks: the neighbours, among `points`, of some of them or of others.

    Parameters
    ----------
    points : torch.Tensor of shape (n, d)
        Finite and of moderate magnitude (see `MetricSpace`).
    k : int
        Number of neighbours: 1 <= k < n for `rows`, 1 <= k <= n for `queries`.
    rows : torch.Tensor of shape (q,), optional
        Row numbers of the queries, each of which is no neighbour of itself.
    queries : torch.Tensor of shape (q, d), optional
        Queries that are not rows of `points`, of the same dtype. Exactly one of `rows` and
        `queries` is given, on the device of `points`.
    memory : int
        Bytes of working memory.

    Returns
    -------
    distances : torch.Tensor of shape (q, k)
        Euclidean, ascending.
    indices : torch.Tensor of shape (q, k)
        Row numbers of `points`; equal distances come by row number.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.neighbors import search
    >>> points = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    >>> search(points, 1, rows=torch.tensor([2]), memory=2**20)
    (tensor([[2.]], dtype=torch.float64), tensor([[1]]))
    >>> search(points, 1, queries=torch.tensor([[0.0, 3.5]]), memory=2**20)
    (tensor([[0.5000]], dtype=torch.float64), tensor([[2]]))
    """
    asked = _Queries(points, rows) if queries is None else _Queries(queries, None)
    distances = points.new_empty((len(asked), k), dtype=torch.float64)
    indices = torch.empty_like(distances, dtype=torch.int64)
    if suits_a_tree(points):
        _search_tree(points, asked, distances, indices, memory)
    else:
        with full_precision():
            _search_products(points, asked, distances, indices, memory)
    return distances, indices


@dataclass(frozen=True)
class _Queries:
    """Rows of the data, each no neighbour of itself, or points of their own."""

    points: Float[Tensor, "m d"]
    rows: Int64[Tensor, " q"] | None

    def __len__(self) -> int:
        return len(self.points if self.rows is None else self.rows)

    def at(self, part: slice | Int64[Tensor, " p"]) -> Float[Tensor, "p d"]:
        return self.points[part if self.rows is None else self.rows[part]]

    def own(self, part: slice | Int64[Tensor, " p"]) -> Int64[Tensor, " p"] | None:
        return None if self.rows is None else self.rows[part]


def _search_tree(
    points: Float[Tensor, "n d"],
    asked: _Queries,
    distances: Float64[Tensor, "q k"],
    indices: Int64[Tensor, "q k"],
    memory: int,
) -> None:
    n, k = len(points), distances.shape[1]
    data = points.double().numpy()
    tree = cKDTree(data)
    # One more than wanted shows whether the k-th place is tied.
    n_found = min(n, k + 1 if asked.rows is None else k + 2)

    def work(part: slice) -> None:
        own = asked.own(part)
        at = asked.at(part).double().numpy()
        answer = tree.query(at, k=np.arange(1, n_found + 1))
        found, near = np.asarray(answer[0]), np.asarray(answer[1])
        _order_ties(data, tree, at, found, near)
        if own is not None:
            # Among many copies the point itself need not be found: drop the last then.
            is_own = near == own.numpy()[:, None]
            dropped = np.where(is_own.any(axis=1), is_own.argmax(axis=1), n_found - 1)
            kept = np.arange(n_found) != dropped[:, None]
            found, near = (values[kept].reshape(len(at), -1) for values in (found, near))
        distances[part] = torch.from_numpy(found[:, :k])
        indices[part] = torch.from_numpy(near[:, :k])

    # Not by the tree's own workers: Ctrl-C would free what they still write to.
    run_chunks(work, len(asked), min(memory // (64 * n_found), 4096), points.device)


def _order_ties(
    data: NDArray[np.float64],
    tree: cKDTree,
    at: NDArray[np.float64],
    found: NDArray[np.float64],
    near: NDArray[np.int64],
) -> None:
    """Where a query's distances tie, put the first rows of the data first, in place.

    The tree returns any of the points that tie at the last place: all of them are fetched.
    """
    tied = np.flatnonzero((found[:, 1:] == found[:, :-1]).any(axis=1))
    # Copies of a query have the same neighbours.
    places, of_place = np.unique(at[tied], axis=0, return_inverse=True)
    for number, place in enumerate(places):
        rows = tied[of_place == number]
        # The tree compares squares: a little more than the radius loses no point at it.
        radius = found[rows[0], -1] * (1 + 1e-14)
        ball = np.array(sorted(tree.query_ball_point(place, radius)), dtype=np.int64)
        exact = np.sqrt(((data[ball] - place) ** 2).sum(axis=1))
        order = np.argsort(exact, kind="stable")[: found.shape[1]]
        found[rows], near[rows] = exact[order], ball[order]


def _search_products(
    points: Float[Tensor, "n d"],
    asked: _Queries,
    distances: Float64[Tensor, "q k"],
    indices: Int64[Tensor, "q k"],
    memory: int,
) -> None:
    n, d = points.shape
    k = distances.shape[1]
    n_others = n if asked.rows is None else n - 1
    n_candidates = min(n_others, k + _SPARE_CANDIDATES)
    # Selecting first among group minima, then inside the chosen groups, looks at n/g + g*c
    # values instead of n; the sum is least at g = sqrt(n/c).
    n_groups_per = max(1, math.isqrt(n // n_candidates))
    n_padded = -(-n // n_groups_per) * n_groups_per
    coarse = Filter.of(points, torch.float32, n_padded, asked.points)
    undecided: list[Tensor] = []
    row_bytes = 4 * n_padded + 24 * n_groups_per * n_candidates + 24 * d
    parts = list(chunks(len(asked), min(memory // row_bytes, 4096)))
    buffer = points.new_empty((parts[0].stop, n_padded), dtype=torch.float32)
    for part in parts:
        at, own = asked.at(part), asked.own(part)
        placed, norms = coarse.placed(at)
        values = coarse.values(placed, out=buffer[: len(at)])
        if own is not None:
            values[torch.arange(len(own), device=own.device), own] = math.inf
        kept, candidates = _smallest(values, n_candidates, n_groups_per)
        # Ties shall not depend on the order in which the filter found them.
        candidates = candidates.sort(dim=1).values
        found, near = _nearest(points, at, candidates, k, memory)
        distances[part], indices[part] = found, near
        if n_candidates < n_others:
            proven = kept.amax(dim=1) > coarse.ceiling(found[:, -1], norms)
            undecided.append((~proven).nonzero()[:, 0] + part.start)
    left = torch.cat(undecided) if undecided else indices[:0, 0]
    if len(left):
        _search_undecided(points, asked, left, distances, indices, memory)


def _search_undecided(
    points: Float[Tensor, "n d"],
    asked: _Queries,
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
    fine = Filter.of(points[pool], torch.float64, len(pool), asked.points)
    for part in chunks(len(undecided), min(memory // (48 * len(pool) + 8 * d), 4096)):
        positions = undecided[part]
        at, own = asked.at(positions), asked.own(positions)
        placed, norms = fine.placed(at)
        possible = fine.values(placed) <= fine.ceiling(distances[positions, -1], norms)[:, None]
        if own is not None:
            possible &= pool != own[:, None]
        for chosen, candidates in _rectangles(possible):
            candidates = torch.where(candidates < 0, candidates, pool[candidates])
            found, near = _nearest(points, at[chosen], candidates, k, memory)
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
    at: Float[Tensor, "q d"],
    candidates: Int64[Tensor, "q c"],
    k: int,
    memory: int,
) -> tuple[Float64[Tensor, "q k"], Int64[Tensor, "q k"]]:
    """Sort candidates by direct differences in float64; equals keep their given order.

    A candidate of -1 is none.
    """
    q, c = candidates.shape
    d = points.shape[1]
    distances = points.new_empty((q, c), dtype=torch.float64)

    def work(part: slice) -> None:
        # One row may have more candidates than fit: cut those too.
        for columns in chunks(c, memory // (48 * d)):
            near = points[candidates[part, columns]].double()
            near -= at[part].double()[:, None, :]
            distances[part, columns] = root_sum_squares(near)
        distances[part].masked_fill_(candidates[part] < 0, math.inf)

    cache = CACHE_BYTES if points.device.type == "cpu" else memory
    run_chunks(work, q, cache // (24 * c * d), points.device)
    order = distances.argsort(dim=1, stable=True)[:, :k]
    return distances.gather(1, order), candidates.gather(1, order)


def _unit_vectors(points: Float[Tensor, "n d"], name: str) -> Float64[Tensor, "n d"]:
    points = points.double()
    norms = points.norm(dim=1, keepdim=True)
    zero: Bool[Tensor, " n"] = norms[:, 0] == 0
    if bool(zero.any()):
        raise InputError(
            f"{name} holds {int(zero.sum())} zero vector(s), the first in row "
            f"{int(zero.nonzero()[0])}, but metric='cosine' needs a direction: remove them or use "
            "metric='euclidean'."
        )
    unit: Tensor = points / norms
    return unit
