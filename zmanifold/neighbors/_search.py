"""What one search is about: points, queries, where the neighbours go, and memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

__all__ = ["Queries", "Search", "suits_a_tree"]

# Up to this dimension a k-d tree beats the tiled matrix product on a CPU.
_TREE_MAX_DIM = 12


def suits_a_tree(points: Float[Tensor, "n d"]) -> bool:
    """Tell whether a k-d tree searches these points faster than matrix products do."""
    return points.device.type == "cpu" and points.shape[1] <= _TREE_MAX_DIM


@dataclass(frozen=True)
class Queries:
    """Rows of the data, each no neighbour of itself, or points of their own."""

    points: Float[Tensor, "m d"]
    rows: Int64[Tensor, " q"] | None

    def __len__(self) -> int:
        return len(self.points if self.rows is None else self.rows)

    @cached_property
    def at(self) -> Float[Tensor, "q d"]:
        """The queries' points: a view where their rows follow one another, else a copy."""
        if self.rows is None:
            return self.points
        first = int(self.rows[0]) if len(self.rows) else 0
        following = torch.arange(first, first + len(self.rows), device=self.rows.device)
        if torch.equal(self.rows, following):
            return self.points[first : first + len(self.rows)]
        return self.points[self.rows]

    @cached_property
    def is_all(self) -> bool:
        """Whether they are all rows of the data, in its order."""
        rows, n = self.rows, len(self.points)
        return rows is not None and torch.equal(rows, torch.arange(n, device=rows.device))

    def part(self, which: slice | Int64[Tensor, " p"]) -> Queries:
        """Return some of them."""
        if self.rows is None:
            return Queries(self.points[which], None)
        return Queries(self.points, self.rows[which])


@dataclass(frozen=True)
class Search:
    """The k nearest points of each query: whose, among which, and where they are written.

    Attributes
    ----------
    points : torch.Tensor of shape (n, d)
        Finite and of moderate magnitude.
    queries : Queries
        The queries.
    distances : torch.Tensor of shape (q, w)
        Where the last w of the k distances go.
    indices : torch.Tensor of shape (q, k)
        Where the neighbours' row numbers go.
    memory : int
        Bytes of working memory.
    in_order : bool
        Whether neighbours must come by distance; if not, the k-th alone has its place.

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
        """Make room for the results, of the distances for the k-th alone if they suffice."""
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
        """A random order of the points, the same in every search among as many."""
        return torch.randperm(len(self.points), generator=torch.Generator().manual_seed(0))

    def part(self, which: slice | Int64[Tensor, " p"]) -> Search:
        """Return the search of some queries, whose results are views for a slice, else copies."""
        return replace(
            self,
            queries=self.queries.part(which),
            distances=self.distances[which],
            indices=self.indices[which],
        )

    def write(self, positions: Int64[Tensor, " p"], part: Search) -> None:
        """Write the results that the search of some queries holds as copies."""
        self.distances[positions], self.indices[positions] = part.distances, part.indices
