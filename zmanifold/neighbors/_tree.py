"""A k-d tree: the exact search in few features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64

from zmanifold._base.parallel import run_chunks
from zmanifold.neighbors._search import Search
from zmanifold.neighbors._tree_build import LEAF, build
from zmanifold.neighbors._tree_query import query

__all__ = ["Tree", "search_tree"]


def search_tree(search: Search) -> None:
    """Search by a k-d tree on a CPU; queries near one another follow each other."""
    data = search.points.double().numpy()
    tree = Tree.of(data, search.k)
    rows = search.queries.rows
    if rows is None:
        at = search.queries.points.double().numpy()
        own, order = np.full(len(at), -1), Tree.of(at).rows
    elif search.queries.is_all:
        at, own, order = data, rows.numpy(), tree.rows
    else:
        own = rows.numpy()
        place = np.empty_like(tree.rows)
        place[tree.rows] = np.arange(len(data))
        at, order = data[own], np.argsort(place[own])
    distances, indices = search.distances.numpy(), search.indices.numpy()
    run_chunks(
        lambda part: tree.query(at, own, order[part], distances, indices, in_order=search.in_order),
        len(order),
        1024,
        search.points.device,
    )


@dataclass(frozen=True)
class Tree:
    """Points cut at medians of their widest coordinates, down to leaves.

    Attributes
    ----------
    rows : ndarray of shape (n,)
        The points' row numbers in the order of the leaves.
    columns : ndarray of shape (d, n)
        Their coordinates in that order.
    boxes : ndarray of shape (nodes, 2, d)
        The least and largest coordinates of a node's points. The children of node i are 2 i + 1 and
        2 i + 2, and the last (nodes + 1) / 2 nodes are leaves.
    spans : ndarray of shape (nodes, 4)
        The start and stop of a node's points in `rows`, the least of their row numbers, and the
        coordinate that they are cut in.
    cuts : ndarray of shape (nodes, 2)
        In that coordinate, the largest value of a node's left child and the least of its right one.
    """

    rows: Int64[np.ndarray, " n"]
    columns: Float64[np.ndarray, "d n"]
    boxes: Float64[np.ndarray, "nodes 2 d"]
    spans: Int64[np.ndarray, "nodes 4"]
    cuts: Float64[np.ndarray, "nodes 2"]

    @classmethod
    def of(cls, points: Float64[np.ndarray, "n d"], k: int = 1) -> Tree:
        """Build a tree.

        Parameters
        ----------
        points : ndarray of shape (n, d)
            Finite points whose squared distances do not overflow.
        k : int, default=1
            The number of neighbours of later queries: few are found faster in small leaves.

        Returns
        -------
        Tree
            The tree, which holds a copy of the points.
        """
        n, d = points.shape
        leaf = LEAF if k > LEAF else LEAF // 2
        depth = max(0, math.ceil(math.log2(n / leaf)))
        rows, columns = np.arange(n), np.empty((d, n))
        boxes = np.empty((2 ** (depth + 1) - 1, 2, d))
        spans = np.empty((len(boxes), 4), np.int64)
        cuts = np.full((len(boxes), 2), np.nan)
        spans[0, :2] = 0, n
        # One thread builds the top, then all threads build subtrees.
        top = min(depth, math.ceil(math.log2(torch.get_num_threads())))
        build(points, rows, columns, boxes, spans, cuts, 0, top)

        def work(part: slice) -> None:
            for node in range(2**top - 1 + part.start, 2**top - 1 + part.stop):
                build(points, rows, columns, boxes, spans, cuts, node, depth + 1 - top)

        run_chunks(work, 2**top, 2**top, torch.device("cpu"))
        return cls(rows, columns, boxes, spans, cuts)

    def query(
        self,
        at: Float64[np.ndarray, "q d"],
        own: Int64[np.ndarray, " q"],
        order: Int64[np.ndarray, " p"],
        distances: Float64[np.ndarray, "q w"],
        indices: Int64[np.ndarray, "q k"],
        *,
        in_order: bool = True,
    ) -> None:
        """Find the k nearest points of each query by (distance, row number).

        Parameters
        ----------
        at : ndarray of shape (q, d)
            The queries.
        own : ndarray of shape (q,)
            For each query, the row that is never its neighbour, or -1.
        order : ndarray of shape (p,)
            The queries to answer. If each is near the one before it, they share work.
        distances : ndarray of shape (q, w)
            Output: the last w of each query's k distances.
        indices : ndarray of shape (q, k)
            Output: the row numbers; k is at most the number of points without the `own` one.
        in_order : bool, default=True
            Whether the rows come by distance; if not, only the k-th is sure to be in its place.

        Examples
        --------
        >>> import numpy as np
        >>> from zmanifold.neighbors._tree import Tree
        >>> points = np.array([[0.0], [1.0], [3.0]])
        >>> distances, indices = np.empty((1, 2)), np.empty((1, 2), np.int64)
        >>> first = np.array([0])
        >>> Tree.of(points).query(points[:1], first, first, distances, indices)
        >>> distances.tolist(), indices.tolist()
        ([[1.0, 3.0]], [[1, 2]])
        """
        query(
            self.rows, self.columns, self.boxes, self.spans, self.cuts, at, own, order, distances,
            indices, in_order,
        )  # fmt: skip
