"""The cells of a sweep, each one mixer, strength, estimator, neighbourhood size and seed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Shaped
from torch import Tensor

from zmanifold._base.memory import Room, streaming_memory, working_memory
from zmanifold._base.provenance import device_name
from zmanifold._base.scaling import rescaled, shifted
from zmanifold.dimension import Neighborhoods, estimate, estimator_name, find_flags
from zmanifold.mixers import Batches, query_rows
from zmanifold.neighbors import search, search_approximately
from zmanifold.sweep._rounding import mixing_tolerance
from zmanifold.sweep.stream import Stream, StreamedNeighborhoods
from zmanifold.sweep.strengths import Strength

__all__ = ["Cell", "Cells", "Outcome", "Task"]


# Bytes that a streamed set keeps for each row: its number in the shuffle (int64), and its share of
# the batch's seed (uint64, one for at least 2 rows).
_ROW_BYTES = 12

# An estimator's name and a neighbourhood size.
Cell = tuple[str, int]

# A cell with its row of the table, or with the error for which it has none.
Outcome = tuple[Cell, dict[str, Any] | Exception]

# Cells that share a mixed set: the mixer and the seed.
Task = tuple[Strength, int, list[Cell]]


@dataclass(frozen=True, eq=False)
class Cells:
    """Data and settings that all cells of one data set share; can be sent to another process.

    Attributes
    ----------
    name : str
        The data set's name.
    batches : Batches
        The data.
    n_queries : int
        The number of points at which to estimate.
    held : bool
        Whether a mixed set is kept in memory as a whole. If not, it is streamed: its rows are mixed
        again whenever they are needed.
    memory_limit : int or None
        The user's limit in bytes.
    neighbors_method : str
        "exact" or "approximate".
    estimators : tuple
        Estimators of local dimension.
    """

    name: str
    batches: Batches
    n_queries: int
    held: bool
    memory_limit: int | None
    neighbors_method: str
    estimators: tuple[Any, ...]

    def on(self, device: torch.device) -> Cells:
        """Return the same cells with the data on a device; data in a file stays there."""
        if not self.held:
            return self
        points = self.batches.points.to(device)
        return replace(self, batches=replace(self.batches, points=points))

    def room(self, share: int = 1, tell: Callable[[str], object] | None = None) -> Room:
        """Return the working memory of one task where `share` tasks run in this process at once."""
        if self.held:
            memory = working_memory(self.memory_limit, self.batches.points.device)
        else:
            kept = _ROW_BYTES * len(self.batches.points) * share
            memory = streaming_memory(self.memory_limit, kept)
        return Room(memory // share, tell)

    def measure(
        self, strength: Strength, seed: int, cells: list[Cell], room: Room
    ) -> Iterator[Outcome]:
        """Yield each cell with its row of the table, or with the error that it failed with.

        Parameters
        ----------
        strength : Strength
            The mixer.
        seed : int
            The only source of randomness.
        cells : list of Cell
            Estimators and neighbourhood sizes. They share one mixed set and one search.
        room : Room
            The working memory.
        """
        if not cells:
            return
        clock = time.perf_counter()
        try:
            around, recall = room.within(
                partial(self._neighborhoods, strength, seed, max(k for _, k in cells))
            )
        except Exception as error:
            yield from ((cell, error) for cell in cells)
            return
        shared = (time.perf_counter() - clock) / len(cells)
        estimators = {estimator_name(estimator): estimator for estimator in self.estimators}
        for name, k in cells:
            clock = time.perf_counter()
            try:
                dimension, degenerate = room.within(
                    partial(_dimension, around, k, estimators[name])
                )
                summary = self._summary(strength, dimension.cpu(), degenerate.cpu(), k, recall)
            except Exception as error:
                yield (name, k), error
                continue
            row = {
                "dataset": self.name,
                **strength.columns,
                "estimator": name,
                "n_neighbors": k,
                "batch_size": self.batches.batch_size,
                "seed": seed,
                "n_points": len(self.batches.points),
                "n_queries": self.n_queries,
                **summary,
                "seconds": shared + time.perf_counter() - clock,
                "device": device_name(self.batches.points.device),
                **({} if recall is None else {"recall": float(recall[k - 1])}),
            }
            yield (name, k), row

    def _summary(
        self,
        strength: Strength,
        dimension: Shaped[Tensor, " q"],
        degenerate: Bool[Tensor, " q"],
        k: int,
        recall: Float64[np.ndarray, " k"] | None,
    ) -> dict[str, Any]:
        """Return the columns that sum up the estimates of a cell.

        Dimensions that are counts are all taken. Of other dimensions the degenerate ones are left
        out: they are no estimates.
        """
        known = dimension[~degenerate] if dimension.is_floating_point() else dimension
        mean, std = _moments(known)
        quartiles = np.quantile(known, [0.25, 0.5, 0.75]) if len(known) else np.full(3, math.nan)
        low, median, high = quartiles.tolist()
        n, b = len(self.batches.points), self.batches.batch_size
        flags = find_flags(
            dimension.numpy(),
            degenerate.numpy(),
            n_neighbors=k,
            n_features=self.batches.points.shape[1],
            n_batches=None if strength.mixer is None else -(-n // b),
            recall=None if recall is None else float(recall[k - 1]),
        )
        return {
            "id_mean": mean,
            "id_median": median,
            "id_q25": low,
            "id_q75": high,
            "id_std": std,
            "id_sem": std / math.sqrt(len(known)) if len(known) else math.nan,
            "n_degenerate": int(degenerate.sum()),
            "flags": ";".join(flags),
        }

    def _neighborhoods(
        self, strength: Strength, seed: int, k: int, memory: int
    ) -> tuple[Neighborhoods | StreamedNeighborhoods, Float64[np.ndarray, " k"] | None]:
        """Return the neighbourhoods and, if they are approximate, their recall up to each k."""
        rows = query_rows(seed, len(self.batches.points), self.n_queries)
        batches = replace(self.batches, memory=memory)
        if not self.held:
            stream = Stream.of(batches.rows(strength.mixer, seed), memory)
            return StreamedNeighborhoods(stream, rows, stream.search(rows, k)), None
        made = batches.rows(strength.mixer, seed)
        mixed = made.all()
        tolerance = mixing_tolerance(made, torch.arange(len(mixed), device=mixed.device))
        (scaled,), exponent = rescaled(mixed)
        if self.neighbors_method == "approximate":
            indices, recall = search_approximately(scaled.cpu(), k, rows, seed=seed, memory=memory)
            rows, indices = rows.to(mixed.device), indices.to(mixed.device)
            return Neighborhoods(mixed, indices, rows, memory, tolerance=tolerance), recall
        rows = rows.to(mixed.device)
        # With farthest_only the search measures the distance of the k-th neighbour alone, which
        # takes less time. Only some estimators use the other distances.
        wanted = any(estimator.needs == "distances" for estimator in self.estimators)
        distances, indices = search(scaled, k, rows=rows, farthest_only=not wanted, memory=memory)
        measured = shifted(distances, -exponent) if wanted else None
        return Neighborhoods(mixed, indices, rows, memory, measured, tolerance), None


def _dimension(
    around: Neighborhoods | StreamedNeighborhoods, k: int, estimator: Any, memory: int
) -> tuple[Shaped[Tensor, " q"], Bool[Tensor, " q"]]:
    if isinstance(around, StreamedNeighborhoods):
        return around.estimate(estimator, k, memory)
    return estimate(estimator, replace(around, memory=memory).nearest(k))


def _moments(known: Shaped[Tensor, " p"]) -> tuple[float, float]:
    """Return the mean and the standard deviation of estimates.

    Counts are summed as integers, so that the order of summation has no effect.
    """
    if not known.is_floating_point():
        q = len(known)
        total, squares = int(known.sum()), int(known.square().sum())
        return total / q, math.sqrt((q * squares - total**2) / (q * (q - 1)))
    values = known.numpy()
    if len(values) < 2:
        return float(values.sum()) if len(values) else math.nan, math.nan
    return math.fsum(values) / len(values), float(values.std(ddof=1))
