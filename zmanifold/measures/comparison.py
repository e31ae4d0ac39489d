"""The pair of sets that measures compare, and the searches that they share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from zmanifold._base.arrays import as_set_of
from zmanifold._base.checks import check_n_neighbors
from zmanifold._base.labels import Labels, as_labels
from zmanifold.measures._neighbor_labels import neighborhood_distributions
from zmanifold.neighbors import MetricSpace, count_memberships, pair_distances, search

__all__ = ["Comparison"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Original and mixed samples with their labels; each search is made when it is first needed.

    Attributes
    ----------
    originals : torch.Tensor of shape (n, d)
        The original samples, divided by the same power of two as the mixed ones: their squares
        neither overflow nor underflow.
    mixed : torch.Tensor of shape (m, d)
        The mixed samples, divided by the same power of two.
    labels, mixed_labels : Labels
        Their labels, over the same classes.
    n_neighbors : int
        The neighbourhood size k.
    memory : int
        Bytes of working memory.
    space : MetricSpace
        The scale, which turns distances here into units of the user's data.
    """

    originals: Float[Tensor, "n d"]
    mixed: Float[Tensor, "m d"]
    labels: Labels
    mixed_labels: Labels
    n_neighbors: int
    memory: int
    space: MetricSpace

    @classmethod
    def of(
        cls, original_x: Any, original_y: Any, mixed_x: Any, mixed_y: Any, *,
        n_neighbors: Any, device: torch.device, memory: int,
    ) -> Comparison:  # fmt: skip
        """Check the user's sets and labels; the parameters are those of `mixed_set_metrics`."""
        names = {"original_x": original_x, "mixed_x": mixed_x}
        points = as_set_of(names, device=device, least=(2, 2))
        k = min(check_n_neighbors(n_neighbors, len(p)) for p in points)
        labels, mixed_labels = _checked_labels(original_y, len(points[0]), mixed_y, len(points[1]))
        space = MetricSpace.of("euclidean", original=points[0], mixed=points[1])
        originals, mixed = space.points
        return cls(originals, mixed, labels, mixed_labels, k, memory, space)

    @cached_property
    def indices(self) -> Int64[Tensor, "m k"]:
        """Row numbers of the k originals nearest to each mixed sample, nearest first."""
        found = search(
            self.originals, self.n_neighbors, queries=self.mixed, farthest_only=True,
            memory=self.memory,
        )  # fmt: skip
        return found[1]

    @property
    def nearest(self) -> Int64[Tensor, " m"]:
        """Row numbers of the originals nearest to the mixed samples."""
        return self.indices[:, 0]

    @cached_property
    def scaled_distance(self) -> Float64[Tensor, " m"]:
        """Distances to the nearest originals, at the scale of `originals` and `mixed`."""
        return pair_distances(self.mixed, self.originals[self.nearest], self.memory)

    @property
    def distance(self) -> Float64[Tensor, " m"]:
        """Distances to the nearest originals, in units of the user's data."""
        return self.space.measured(self.scaled_distance)

    @cached_property
    def own_distance(self) -> Float64[Tensor, " n"]:
        """Distances of the originals to their nearest other original, at the same scale."""
        near = self.originals[self._own_neighbors[:, 0]]
        return pair_distances(self.originals, near, self.memory)

    @cached_property
    def soft_labels(self) -> Float64[Tensor, "m K"]:
        """The mixed labels as distributions over the classes."""
        return self.mixed_labels.distributions().to(self.mixed.device)

    @cached_property
    def labels_around(self) -> Float64[Tensor, "m K"]:
        """The mean label of the k originals nearest to each mixed sample."""
        return neighborhood_distributions(self.labels, self.indices, self.memory)

    @cached_property
    def in_balls_of_originals(self) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " m"]]:
        """Numbers of mixed samples in each original's ball, and of balls around each mixed sample.

        The closed ball around a sample reaches to its k-th nearest neighbour in its own set.
        """
        far = self.originals[self._own_neighbors[:, -1]]
        radii = pair_distances(self.originals, far, self.memory)
        return count_memberships(self.originals, radii, self.mixed, memory=self.memory)

    @cached_property
    def in_balls_of_mixed(self) -> tuple[Int64[Tensor, " m"], Int64[Tensor, " n"]]:
        """Numbers of originals in each mixed sample's ball, and of balls around each original."""
        far = self.mixed[self._searched(self.mixed)[:, -1]]
        radii = pair_distances(self.mixed, far, self.memory)
        return count_memberships(self.mixed, radii, self.originals, memory=self.memory)

    @cached_property
    def _own_neighbors(self) -> Int64[Tensor, "n k"]:
        return self._searched(self.originals)

    def _searched(self, points: Float[Tensor, "p d"]) -> Int64[Tensor, "p k"]:
        rows = torch.arange(len(points), device=points.device)
        found = search(points, self.n_neighbors, rows=rows, farthest_only=True, memory=self.memory)
        return found[1]


def _checked_labels(
    original_y: Any, n_original: int, mixed_y: Any, n_mixed: int
) -> tuple[Labels, Labels]:
    """Return the original and the mixed labels, checked, over the same classes."""
    mixed = as_labels(mixed_y, n_mixed, name="mixed_y")
    if mixed.soft is not None:
        return as_labels(original_y, n_original, name="original_y", classes=mixed.classes), mixed
    original = as_labels(original_y, n_original, name="original_y")
    return original, as_labels(mixed_y, n_mixed, name="mixed_y", classes=original.classes)
