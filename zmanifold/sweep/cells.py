"""The cells of a sweep: one mixer, strength, neighbourhood size and seed each, on its own."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from zmanifold._base.arrays import rescaled
from zmanifold._base.checks import is_number
from zmanifold._base.errors import InputError
from zmanifold._base.memory import Room, streaming_memory, working_memory
from zmanifold._base.provenance import device_name
from zmanifold.dimension import fukunaga_olsen
from zmanifold.mixers import Batches, check_mixer, mixers_by_name, query_rows
from zmanifold.neighbors import search, search_approximately
from zmanifold.sweep.stream import Stream

__all__ = ["ALPHA_FO", "Cells", "Outcome", "Strength", "Task", "as_strengths"]

ALPHA_FO = 0.05

# What a set whose rows are made anew keeps for each: its place in the shuffle, and a batch's seed.
_ROW_BYTES = 12

# A neighbourhood size with its row of the table, or why there is none.
Outcome = tuple[int, dict[str, Any] | Exception]


@dataclass(frozen=True)
class Strength:
    """A mixer with the name and the numbers that it has in the table.

    Attributes
    ----------
    label : str
        The mixer's name.
    mixer : object
        The mixer; None leaves the data as it is.
    gamma, alpha : float
        Its strength; NaN where it has none of that name.
    """

    label: str
    mixer: Any
    gamma: float
    alpha: float

    def key(self, k: int, seed: int) -> str:
        """Name a cell in a journal."""
        return json.dumps([self.label, self.gamma, self.alpha, k, seed])

    def failure(self, k: int, seed: int, error: Exception) -> dict[str, Any]:
        """Describe a cell that failed, ready for JSON."""
        reason = " ".join(str(error).split())
        return {
            "mixer": self.label,
            "gamma": None if math.isnan(self.gamma) else self.gamma,
            "alpha": None if math.isnan(self.alpha) else self.alpha,
            "n_neighbors": k,
            "seed": seed,
            "reason": f"{type(error).__name__}: {reason}" if reason else type(error).__name__,
        }


# Cells that share a mixed set: the mixer, the seed and the neighbourhood sizes.
Task = tuple[Strength, int, list[int]]


@dataclass(frozen=True, eq=False)
class Cells:
    """What the cells of one data set share; can be sent to another process.

    Attributes
    ----------
    name : str
        The data set's.
    batches : Batches
        The data.
    n_queries : int
        Points at which to estimate.
    held : bool
        Whether a mixed set is made as a whole; if not, its rows are made anew when needed.
    memory_limit : int or None
        What the user allows.
    neighbors_method : str
        "exact" or "approximate".
    """

    name: str
    batches: Batches
    n_queries: int
    held: bool
    memory_limit: int | None
    neighbors_method: str

    def on(self, device: torch.device) -> Cells:
        """Return them with the data there; data that is not held stays where it is."""
        if not self.held:
            return self
        points = self.batches.points.to(device)
        return replace(self, batches=replace(self.batches, points=points))

    def room(self, share: int = 1, tell: Callable[[str], object] | None = None) -> Room:
        """Return the working memory of this process for one of so many tasks at a time."""
        if self.held:
            memory = working_memory(self.memory_limit, self.batches.points.device)
        else:
            kept = _ROW_BYTES * len(self.batches.points) * share
            memory = streaming_memory(self.memory_limit, kept)
        return Room(memory // share, tell)

    def measure(
        self, strength: Strength, seed: int, k_values: list[int], room: Room
    ) -> Iterator[Outcome]:
        """Yield for each neighbourhood size a row of the table, or why there is none.

        Parameters
        ----------
        strength : Strength
            The mixer.
        seed : int
            The only source of randomness.
        k_values : list of int
            Neighbourhood sizes; one mixed set and one search serve all.
        room : Room
            The working memory.
        """
        if not k_values:
            return
        clock = time.perf_counter()
        try:
            mixed, indices, recall = room.within(
                partial(self._neighborhoods, strength, seed, max(k_values))
            )
        except Exception as error:
            yield from ((k, error) for k in k_values)
            return
        shared = (time.perf_counter() - clock) / len(k_values)
        for k in k_values:
            clock = time.perf_counter()
            try:
                dimension, degenerate = room.within(partial(_dimension, mixed, indices[:, :k]))
            except Exception as error:
                yield k, error
                continue
            mean, std = _moments(dimension)
            measured = {} if recall is None else {"recall": float(recall[k - 1])}
            yield (
                k,
                {
                    "dataset": self.name,
                    "mixer": strength.label,
                    "gamma": strength.gamma,
                    "alpha": strength.alpha,
                    "n_neighbors": k,
                    "batch_size": self.batches.batch_size,
                    "seed": seed,
                    "n_points": len(self.batches.points),
                    "n_queries": self.n_queries,
                    "id_mean": mean,
                    "id_std": std,
                    "id_sem": std / math.sqrt(self.n_queries),
                    "n_degenerate": int(degenerate.sum()),
                    "seconds": shared + time.perf_counter() - clock,
                    "device": device_name(self.batches.points.device),
                    **measured,
                },
            )

    def _neighborhoods(
        self, strength: Strength, seed: int, k: int, memory: int
    ) -> tuple[
        Float[Tensor, "n d"] | Stream, Int64[Tensor, "q k"], Float64[np.ndarray, " k"] | None
    ]:
        """Return the mixed set, the neighbours and, where they are approximate, their recall."""
        rows = query_rows(seed, len(self.batches.points), self.n_queries)
        batches = replace(self.batches, memory=memory)
        if not self.held:
            stream = Stream.of(batches.rows(strength.mixer, seed), memory)
            return stream, stream.search(rows, k), None
        mixed = batches.mixed(strength.mixer, seed)
        (scaled,), _ = rescaled(mixed)
        if self.neighbors_method == "approximate":
            indices, recall = search_approximately(scaled.cpu(), k, rows, seed=seed, memory=memory)
            return mixed, indices.to(mixed.device), recall
        _, indices = search(
            scaled, k, rows=rows.to(mixed.device), farthest_only=True, memory=memory
        )
        return mixed, indices, None


def _dimension(
    mixed: Float[Tensor, "n d"] | Stream, indices: Int64[Tensor, "q k"], memory: int
) -> tuple[Int64[Tensor, " q"], Bool[Tensor, " q"]]:
    if isinstance(mixed, Stream):
        return replace(mixed, memory=memory).fukunaga_olsen(indices, ALPHA_FO)
    return fukunaga_olsen(mixed, indices, alpha=ALPHA_FO, memory=memory)


def _moments(dimension: Int64[Tensor, " q"]) -> tuple[float, float]:
    """Return mean and standard deviation of counts from whole sums: no order of adding matters."""
    q = len(dimension)
    total, squares = int(dimension.sum()), int(dimension.square().sum())
    return total / q, math.sqrt((q * squares - total**2) / (q * (q - 1)))


# --- what is swept --------------------------------------------------------------------------


def as_strengths(mixers: Any) -> list[Strength]:
    """Turn what `sweep_id` takes as mixers into distinct strengths.

    Raises
    ------
    InputError
        If one is no mixer, or two have the same name and strength.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.sweep.cells import as_strengths
    >>> [(s.label, s.gamma) for s in as_strengths([None, zm.ZetaMixup(2.8)])]
    [('none', nan), ('zeta', 2.8)]
    """
    named = mixers.items() if isinstance(mixers, Mapping) else [(None, mixers)]
    strengths = [
        _as_strength(label, mixer) for label, group in named for mixer in _as_mixers(group)
    ]
    if not strengths:
        raise InputError("mixers is empty: give at least one mixer, or None for the original data.")
    seen: set[tuple[str, str, str]] = set()
    for strength in strengths:
        key = (strength.label, str(strength.gamma), str(strength.alpha))
        if key in seen:
            raise InputError(
                f"two mixers are called {strength.label!r} with gamma={strength.gamma} and "
                f"alpha={strength.alpha}: name them, mixers={{'a name': mixer, ...}}."
            )
        seen.add(key)
    return strengths


def _as_mixers(group: Any) -> list[Any]:
    one = group is None or isinstance(group, str) or callable(group) or hasattr(group, "weights")
    if not one and not isinstance(group, Iterable):
        return [group]
    mixers: list[Any] = []
    for mixer in [group] if one else group:
        mixers += mixers_by_name([mixer]) if isinstance(mixer, str) else [mixer]
    return mixers


def _as_strength(label: object, mixer: Any) -> Strength:
    check_mixer(mixer)
    if label is None:
        own = getattr(mixer, "label", None) or getattr(mixer, "__name__", type(mixer).__name__)
        label = "none" if mixer is None else own
    return Strength(str(label), mixer, _strength_of(mixer, "gamma"), _strength_of(mixer, "alpha"))


def _strength_of(mixer: Any, name: str) -> float:
    value: Any = getattr(mixer, name, None)
    return float(value) if is_number(value) else math.nan
