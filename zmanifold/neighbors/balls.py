"""Which points lie in which balls, exactly: what precision, recall, density and coverage count."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from scipy.spatial import cKDTree
from torch import Tensor

from zmanifold._base.matmul import full_precision
from zmanifold._base.parallel import chunks
from zmanifold.neighbors._differences import pair_distances
from zmanifold.neighbors._filter import Filter
from zmanifold.neighbors._search import suits_a_tree

__all__ = ["count_memberships"]

# Numbers of balls, and of the points beside each.
_Pairs = tuple[Tensor, Tensor]


def count_memberships(
    centres: Float[Tensor, "b d"],
    radii: Float64[Tensor, " b"],
    points: Float[Tensor, "n d"],
    *,
    memory: int,
) -> tuple[Int64[Tensor, " b"], Int64[Tensor, " n"]]:
    """Count the points in each closed ball, and the balls around each point, without checks.

    Parameters
    ----------
    centres : torch.Tensor of shape (b, d)
        Finite and of moderate magnitude.
    radii : torch.Tensor of shape (b,)
        Each at least 0, as `pair_distances` rounds it: a point exactly at the edge is inside.
    points : torch.Tensor of shape (n, d)
        In the dtype of `centres`.
    memory : int
        Bytes of working memory.

    Returns
    -------
    per_ball : torch.Tensor of shape (b,)
        How many points lie in each ball.
    per_point : torch.Tensor of shape (n,)
        In how many balls each point lies.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.neighbors.balls import count_memberships
    >>> centres, radii = torch.tensor([[0.0], [4.0]]), torch.tensor([1.0, 3.0]).double()
    >>> points = torch.tensor([[0.5], [1.0], [9.0]])
    >>> count_memberships(centres, radii, points, memory=2**20)
    (tensor([2, 1]), tensor([1, 2, 0]))
    """
    per_ball = torch.zeros(len(centres), dtype=torch.int64, device=points.device)
    per_point = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    if suits_a_tree(points):
        open_pairs = _pairs_by_tree(centres, radii, points, memory)
    else:
        open_pairs = _pairs_by_products(centres, radii, points, per_ball, per_point, memory)
    for balls, found in open_pairs:
        for part in chunks(len(balls), memory // (32 * points.shape[1])):
            ball, point = balls[part], found[part]
            inside = pair_distances(centres[ball], points[point], memory) <= radii[ball]
            per_ball += torch.bincount(ball[inside], minlength=len(centres))
            per_point += torch.bincount(point[inside], minlength=len(points))
    return per_ball, per_point


def _pairs_by_tree(
    centres: Float[Tensor, "b d"],
    radii: Float64[Tensor, " b"],
    points: Float[Tensor, "n d"],
    memory: int,
) -> Iterator[_Pairs]:
    """Yield every pair of a ball and a point that may be inside."""
    tree = cKDTree(points.double().numpy())
    at = centres.double().numpy()
    # The tree adds squares in another order. Roots of 12 squares at most are off by 14 * 2**-54 of
    # themselves, and squaring the reach by 2**-53: two of them differ by less than 1e-14.
    reach = radii.numpy() * (1 + 1e-14)
    sizes = np.asarray(tree.query_ball_point(at, reach, return_length=True))
    # Python's lists take up to 72 bytes a member.
    for part in chunks(len(at), memory // (72 * max(1, int(sizes.max())))):
        members = tree.query_ball_point(at[part], reach[part])
        balls = np.repeat(np.arange(part.start, part.stop), sizes[part])
        found = np.concatenate([np.asarray(m, np.int64) for m in members])
        yield torch.from_numpy(balls), torch.from_numpy(found)


def _pairs_by_products(
    centres: Float[Tensor, "b d"],
    radii: Float64[Tensor, " b"],
    points: Float[Tensor, "n d"],
    per_ball: Int64[Tensor, " b"],
    per_point: Int64[Tensor, " n"],
    memory: int,
) -> Iterator[_Pairs]:
    """Count the pairs that the filter proves inside, and yield those that it leaves open."""
    n, d = points.shape
    coarse = Filter.of(points, torch.float32, n, centres)
    for part in chunks(len(centres), min(memory // (32 * n + 24 * d), 4096)):
        placed = coarse.left(centres[part])
        with full_precision():
            values = coarse.values(placed)
        reach = radii[part]
        inside = values < coarse.floor(placed.sizes, reach).values(reach)[:, None]
        per_ball[part] += inside.sum(dim=1)
        per_point += inside.sum(dim=0)
        inside.logical_not_().logical_and_(
            values <= coarse.ceiling(placed.sizes, reach).values(reach)[:, None]
        )
        balls, found = inside.nonzero(as_tuple=True)
        yield balls + part.start, found
