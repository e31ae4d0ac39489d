"""Exact counts of points in balls, for precision, recall, density and coverage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from scipy.spatial import cKDTree
from torch import Tensor

from zmanifold._base.matmul import full_precision
from zmanifold._base.parallel import chunks
from zmanifold.neighbors._differences import pair_distances
from zmanifold.neighbors._filter import Filter
from zmanifold.neighbors._search import suits_a_tree

__all__ = ["count_memberships"]

# Pairs: the numbers of balls and, beside each, the number of a point.
_Pairs = tuple[Tensor, Tensor]


def count_memberships(
    centres: Float[Tensor, "b d"],
    radii: Float64[Tensor, " b"],
    points: Float[Tensor, "n d"],
    *,
    memory: int,
) -> tuple[Int64[Tensor, " b"], Int64[Tensor, " n"]]:
    """Count the points in each closed ball, and the balls that hold each point, without checks.

    Parameters
    ----------
    centres : torch.Tensor of shape (b, d)
        Finite and of moderate magnitude.
    radii : torch.Tensor of shape (b,)
        Each at least 0, and rounded as by `pair_distances`: a point exactly at the edge is inside.
    points : torch.Tensor of shape (n, d)
        In the dtype of `centres`.
    memory : int
        Bytes of working memory.

    Returns
    -------
    per_ball : torch.Tensor of shape (b,)
        The number of points in each ball.
    per_point : torch.Tensor of shape (n,)
        The number of balls that hold each point.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.neighbors.balls import count_memberships
    >>> centres, radii = torch.tensor([[0.0], [4.0]]), torch.tensor([1.0, 3.0]).double()
    >>> points = torch.tensor([[0.5], [1.0], [9.0]])
    >>> count_memberships(centres, radii, points, memory=2**20)
    (tensor([2, 1]), tensor([1, 2, 0]))
    """
    # The pairs of a set of copies grow with the square of its size: equal balls and equal points
    # are compared once, and counted as often as they occur.
    balls, places = _Distinct.among(torch.column_stack([centres, radii])), _Distinct.among(points)
    counted = _Counts.of(balls, places)
    some_centres, some_radii, some = balls.of(centres), balls.of(radii), places.of(points)
    if suits_a_tree(points):
        open_pairs = _pairs_by_tree(some_centres, some_radii, some, memory)
    else:
        open_pairs = _pairs_by_products(some_centres, some_radii, some, counted, memory)
    for ball, place in open_pairs:
        for part in chunks(len(ball), memory // (64 * points.shape[1])):
            i, j = ball[part], place[part]
            inside = pair_distances(some_centres[i], some[j], memory // 2) <= some_radii[i]
            counted.add(i[inside], j[inside])
    return counted.per_ball[balls.members], counted.per_point[places.members]


@dataclass(frozen=True)
class _Distinct:
    """The distinct rows of an array; every other row is a copy of one of them.

    Attributes
    ----------
    rows : torch.Tensor of shape (m,)
        The row numbers of the distinct rows.
    members : torch.Tensor of shape (n,)
        For each row, the position in `rows` of its copy.
    copies : torch.Tensor of shape (m,)
        The number of times that each distinct row occurs.
    """

    rows: Int64[Tensor, " m"]
    members: Int64[Tensor, " n"]
    copies: Int64[Tensor, " m"]

    @classmethod
    def among(cls, points: Float[Tensor, "n d"]) -> _Distinct:
        """Find the distinct rows; if most first coordinates differ, no row is taken as a copy."""
        n, host = len(points), points.cpu().contiguous().numpy()
        if len(np.unique(host[:, 0])) <= n // 2:
            as_bytes = host.view(np.dtype((np.void, host[0].nbytes)))[:, 0]
            found = np.unique(as_bytes, return_index=True, return_inverse=True, return_counts=True)
            if len(found[1]) < n:
                return cls(*(torch.from_numpy(a).to(points.device) for a in found[1:]))
        everyone = torch.arange(n, device=points.device)
        return cls(everyone, everyone, torch.ones_like(everyone))

    def of(self, values: Float[Tensor, "n *d"]) -> Float[Tensor, "m *d"]:
        """Return the values of the distinct rows; all rows distinct, the values themselves."""
        return values if len(values) == len(self.rows) else values[self.rows]


@dataclass(frozen=True)
class _Counts:
    """Counts of distinct points in distinct balls, each weighted by the copies of the other."""

    balls: _Distinct
    places: _Distinct
    per_ball: Int64[Tensor, " b"]
    per_point: Int64[Tensor, " m"]

    @classmethod
    def of(cls, balls: _Distinct, places: _Distinct) -> _Counts:
        return cls(balls, places, torch.zeros_like(balls.copies), torch.zeros_like(places.copies))

    def add(self, ball: Int64[Tensor, " p"], place: Int64[Tensor, " p"]) -> None:
        """Count pairs of a ball and a point inside it."""
        self.per_ball.index_add_(0, ball, self.places.copies[place])
        self.per_point.index_add_(0, place, self.balls.copies[ball])

    def add_block(self, part: slice, inside: Bool[Tensor, "c m"]) -> None:
        """Count the points inside consecutive balls."""
        # Sums in float64 are exact up to 2**53.
        if len(self.places.members) > len(self.places.rows):
            self.per_ball[part] += (inside.double() @ self.places.copies.double()).long()
        else:
            self.per_ball[part] += inside.sum(dim=1)
        if len(self.balls.members) > len(self.balls.rows):
            self.per_point.add_((self.balls.copies[part].double() @ inside.double()).long())
        else:
            self.per_point.add_(inside.sum(dim=0))


def _pairs_by_tree(
    centres: Float[Tensor, "b d"],
    radii: Float64[Tensor, " b"],
    points: Float[Tensor, "n d"],
    memory: int,
) -> Iterator[_Pairs]:
    """Yield every pair of a ball and a point that may be inside."""
    tree = cKDTree(points.double().numpy())
    at = centres.double().numpy()
    # The tree adds squares in another order. The root of a sum of at most 12 squares has a relative
    # error of 14 * 2**-54, and squaring the reach one of 2**-53: two such roots differ by less than
    # 1e-14 of themselves.
    reach = radii.numpy() * (1 + 1e-14)
    sizes = np.asarray(tree.query_ball_point(at, reach, return_length=True))
    # Python's lists take up to 72 bytes a member, and arrays 24 more. They get a quarter of the
    # memory, as the tree does. A ball of more members than fit is a part of its own.
    for part in _parts(sizes, memory // 384):
        members = tree.query_ball_point(at[part], reach[part])
        balls = np.repeat(np.arange(part.start, part.stop), sizes[part])
        found = np.concatenate([np.asarray(m, np.int64) for m in members])
        yield torch.from_numpy(balls), torch.from_numpy(found)


def _parts(sizes: Int64[np.ndarray, " b"], most: int) -> Iterator[slice]:
    """Cut consecutive balls into parts of at most this number of members, or of a single ball."""
    group = (sizes.cumsum() - sizes) // max(1, most)
    edges = np.flatnonzero(np.diff(group)) + 1
    for start, stop in zip([0, *edges], [*edges, len(sizes)], strict=True):
        yield slice(int(start), int(stop))


def _pairs_by_products(
    centres: Float[Tensor, "b d"],
    radii: Float64[Tensor, " b"],
    points: Float[Tensor, "n d"],
    counted: _Counts,
    memory: int,
) -> Iterator[_Pairs]:
    """Count the pairs that the filter proves to be inside; yield those that it leaves open."""
    n, d = points.shape
    coarse = Filter.of(points, torch.float32, n, centres)
    for part in chunks(len(centres), min(memory // (32 * n + 24 * d), 4096)):
        placed = coarse.left(centres[part])
        with full_precision():
            values = coarse.values(placed)
        reach = radii[part]
        inside = values < coarse.floor(placed.sizes, reach).values(reach)[:, None]
        counted.add_block(part, inside)
        inside.logical_not_().logical_and_(
            values <= coarse.ceiling(placed.sizes, reach).values(reach)[:, None]
        )
        balls, found = inside.nonzero(as_tuple=True)
        yield balls + part.start, found
