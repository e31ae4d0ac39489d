"""One search: its points, its queries, the arrays for its results, and its memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

__all__ = ["Queries", "Search", "suits_a_tree"]

# Up to this number of features a k-d tree is faster on a CPU than tiles of matrix products.
_TREE_MAX_DIM = 12


def suits_a_tree(points: Float[Tensor, "n d"]) -> bool:
    """Tell whether a k-d tree searches these points faster than matrix products do."""
    return points.device.type == "cpu" and points.shape[1] <= _TREE_MAX_DIM


@dataclass(frozen=True)
class Queries:
    """The points whose neighbours are wanted: rows of the data, or (rows=None) other points.

    A row of the data is never its own neighbour.
    """

    points: Float[Tensor, "m d"]
    rows: Int64[Tensor, " q"] | None

    def __len__(self) -> int:
        return len(self.points if self.rows is None else self.rows)

    @cached_property
    def at(self) -> Float[Tensor, "q d"]:
        """The queries' points: a view if their rows are consecutive, else a copy."""
        if self.rows is None:
            return self.points
        first = int(self.rows[0]) if len(self.rows) else 0
        following = torch.arange(first, first + len(self.rows), device=self.rows.device)
        if torch.equal(self.rows, following):
            return self.points[first : first + len(self.rows)]
        return self.points[self.rows]

    @cached_property
    def is_all(self) -> bool:
        """Whether the queries are all rows of the data, in order."""
        rows, n = self.rows, len(self.points)
        return rows is not None and torch.equal(rows, torch.arange(n, device=rows.device))

    def part(self, which: slice | Int64[Tensor, " p"]) -> Queries:
        """Return some of the queries."""
        if self.rows is None:
            return Queries(self.points[which], None)
        return Queries(self.points, self.rows[which])


@dataclass(frozen=True)
class Search:
    """A search for the k nearest points of each query.

    Attributes
    ----------
    points : torch.Tensor of shape (n, d)
        Finite and of moderate magnitude.
    queries : Queries
        The points whose neighbours are wanted.
    distances : torch.Tensor of shape (q, w)
        Output: the last w of each query's k distances.
    indices : torch.Tensor of shape (q, k)
        Output: the neighbours' row numbers.
    memory : int
        Bytes of working memory.
    in_order : bool
        Whether neighbours must come by distance; if not, only the k-th is sure to be in its place.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.neighbors._search import Queries, Search
    >>> points = torch.zeros(9, 2)
    >>> search = Search.of(points, Queries(points, torch.arange(9)), 4, memory=2**20)
    >>> search.k, search.n_others, search.part(slice(2, 5)).distances.shape
    (4, 8, torch.Size([3, 4]))
    """

    points: Float[Tensor, "n d"]
    queries: Queries
    distances: Float64[Tensor, "q w"]
    indices: Int64[Tensor, "q k"]
    memory: int
    in_order: bool = True

    @classmethod
    def of(
        cls,
        points: Float[Tensor, "n d"],
        queries: Queries,
        k: int,
        *,
        memory: int,
        farthest_only: bool = False,
        in_order: bool = True,
    ) -> Search:
        """Make a search with new output arrays; `farthest_only` keeps the k-th distances alone."""
        shape = len(queries), 1 if farthest_only else k
        distances = points.new_empty(shape, dtype=torch.float64)
        indices = points.new_empty((len(queries), k), dtype=torch.int64)
        return cls(points, queries, distances, indices, memory, in_order)

    @property
    def k(self) -> int:
        """The number of neighbours of a query."""
        return self.indices.shape[1]

    @property
    def n_others(self) -> int:
        """The number of points that can be neighbours of a query."""
        return len(self.points) - (self.queries.rows is not None)

    @cached_property
    def order(self) -> Int64[Tensor, " n"]:
        """A random order of the points, which depends on their number alone."""
        return torch.randperm(len(self.points), generator=torch.Generator().manual_seed(0))

    def part(self, which: slice | Int64[Tensor, " p"]) -> Search:
        """Return the search for some queries: its outputs are views for a slice, else copies."""
        return replace(
            self,
            queries=self.queries.part(which),
            distances=self.distances[which],
            indices=self.indices[which],
        )

    def write(self, positions: Int64[Tensor, " p"], part: Search) -> None:
        """Copy the results of `part`, the search for the queries at `positions`, to this one."""
        self.distances[positions], self.indices[positions] = part.distances, part.indices
