"""Local intrinsic dimension of mixed data against the mixing strength."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from zmanifold.arrays import as_points, rescaled
from zmanifold.batches import Batches, check_batch_size, check_mixer, query_rows
from zmanifold.chunking import Room
from zmanifold.datasets import Dataset
from zmanifold.dimension import fukunaga_olsen
from zmanifold.errors import InputError
from zmanifold.journal import Journal
from zmanifold.mixers.by_name import mixers_by_name
from zmanifold.neighbors import search
from zmanifold.parameters import (
    as_counts,
    check_count,
    check_n_neighbors,
    is_number,
    resolve_device,
    working_memory,
)
from zmanifold.progress import progress_bar
from zmanifold.provenance import device_name, environment

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "Sweep", "SweepResult", "failed_cells", "prepare_sweep", "sweep_id"]

COLUMNS = (
    "dataset",
    "mixer",
    "gamma",
    "alpha",
    "n_neighbors",
    "batch_size",
    "seed",
    "n_points",
    "n_queries",
    "id_mean",
    "id_std",
    "id_sem",
    "n_degenerate",
    "seconds",
    "device",
)

_ALPHA_FO = 0.05


@dataclass(frozen=True, eq=False)
class SweepResult:
    """What `sweep_id` measured.

    Attributes
    ----------
    rows : tuple of dict
        One row a finished cell (mixer and strength, number of neighbours, seed).
    failures : tuple of dict
        Cells that failed: mixer, gamma, alpha, n_neighbors, seed and the reason.
    first_error : Exception or None
        What the first of them raised.
    settings : dict
        Settings, versions, device, start and duration, ready for JSON.

    Examples
    --------
    >>> import zmanifold as zm
    >>> X, _ = zm.make_helix(random_state=0)
    >>> result = zm.sweep_id(X, mixers=[None], n_neighbors=8, seeds=1, progress=False)
    >>> result.to_frame()[["mixer", "n_neighbors", "id_mean"]].values.tolist()
    [['none', 8, 1.0]]
    """

    rows: tuple[dict[str, Any], ...]
    settings: dict[str, Any] = field(repr=False)
    failures: tuple[dict[str, Any], ...] = ()
    first_error: Exception | None = field(default=None, repr=False, compare=False)

    def to_frame(self) -> pd.DataFrame:
        """Return the tidy table, one row a cell.

        Returns
        -------
        pandas.DataFrame
            Columns dataset, mixer, gamma, alpha (NaN where a mixer has none), n_neighbors,
            batch_size, seed, n_points, n_queries, id_mean, id_std and id_sem (standard deviation
            over the query points, and that divided by the root of their number), n_degenerate,
            seconds, device.
        """
        import pandas as pd

        return pd.DataFrame(list(self.rows), columns=list(COLUMNS))


def sweep_id(
    dataset_or_array: Any,
    *,
    mixers: Any,
    n_neighbors: int | Iterable[int] = (8, 128),
    batch_size: int = 32,
    seeds: int | Iterable[int] = 3,
    n_queries: int | None = None,
    device: str | torch.device = "auto",
    memory_limit: int | None = None,
    journal: Journal | str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> SweepResult:
    """Measure the local intrinsic dimension of a data set mixed in several ways.

    For each seed the data is shuffled and cut into batches; each mixer mixes every batch; the
    dimension of the mixed set is estimated by local PCA with the Fukunaga-Olsen rule at 5% (as
    in Fig. 6 of the ζ-mixup paper). One neighbour search serves all `n_neighbors`.

    Parameters
    ----------
    dataset_or_array : Dataset or array-like or torch.Tensor of shape (n, d)
        The data, d >= 2.
    mixers : mixer, None, str, iterable of these, or mapping of name to these
        What to sweep over, one mixer a strength: None or "none" for the original data, the
        mixers of this package, or any object with ``weights(batch_size)`` or a call
        ``(x, y)`` that returns the mixed batch, or a tuple that starts with it. A mapping's
        keys name its mixers in the table. An object's own randomness is repeatable if it takes a
        ``generator=`` or draws from torch's global one.
    n_neighbors : int or iterable of int, default=(8, 128)
        Neighbourhood sizes k, 2 <= k < n.
    batch_size : int, default=32
        Samples mixed with one another, 2 <= batch_size <= n. A short last batch is filled up
        from the start of the shuffle and only its own rows are kept: there are n mixed points,
        each from a full batch.
    seeds : int or iterable of int, default=3
        How many seeds (0, 1, ...), or the seeds. A cell depends on its own seed only. One seed
        means the same shuffle, query points and random numbers for every mixer and strength.
    n_queries : int, optional
        Estimate at so many random points; neighbours are still taken from all. All by default.
    device : str or torch.device, default="auto"
        Where to compute. Random numbers are drawn on the CPU, the same for every device.
    memory_limit : int, optional
        Bytes of working memory above the data, its mixed copy and one float32 copy of that.
    journal : path or Journal, optional
        A file that keeps each finished cell as it ends. If it is there already, the sweep goes
        on: cells that it holds are not computed again, and other data or settings are refused.
        More mixers, strengths, neighbourhood sizes or seeds may join.
    progress : bool, default=True
        Show a progress bar on a terminal or in a notebook.

    Returns
    -------
    SweepResult
        `to_frame()` gives the table, `settings` what it was computed with, `failures` the cells
        that failed: the others go on, and a warning says how many did.

    Raises
    ------
    InputError
        If an argument is out of its range, before any work starts.
    Exception
        What the first cell raised, if every cell failed.

    Examples
    --------
    >>> import zmanifold as zm
    >>> X, _ = zm.make_helix(random_state=0)
    >>> mixers = [None, zm.Mixup(), zm.ZetaMixup(2.8), zm.ZetaMixup(15.0)]
    >>> frame = zm.sweep_id(X, mixers=mixers, n_neighbors=8, seeds=1, progress=False).to_frame()
    >>> frame[["mixer", "gamma", "id_mean"]].round(2).values.tolist()
    [['none', nan, 1.0], ['mixup', nan, 2.92], ['zeta', 2.8, 2.92], ['zeta', 15.0, 1.0]]
    """
    sweep = prepare_sweep(
        dataset_or_array,
        mixers=mixers,
        n_neighbors=n_neighbors,
        batch_size=batch_size,
        seeds=seeds,
        n_queries=n_queries,
        device=device,
        memory_limit=memory_limit,
    )
    if journal is None or isinstance(journal, Journal):
        result = sweep.run(journal=journal, progress=progress)
    else:
        with Journal(journal) as opened:
            result = sweep.run(journal=opened, progress=progress)
    if result.first_error is not None and not result.rows:
        raise result.first_error
    if result.failures:
        warnings.warn(failed_cells([result]), RuntimeWarning, stacklevel=2)
    return result


def failed_cells(results: Iterable[SweepResult]) -> str:
    """Say how many cells of sweeps failed, and why the first one did.

    Examples
    --------
    >>> from zmanifold.sweep import SweepResult, failed_cells
    >>> failed_cells([SweepResult((), {}, ({"reason": "MemoryError"},))])
    '1 of 1 cells failed, the first with MemoryError'
    """
    sweeps = list(results)
    reasons = [failure["reason"] for result in sweeps for failure in result.failures]
    total = len(reasons) + sum(len(result.rows) for result in sweeps)
    return f"{len(reasons)} of {total} cells failed, the first with {reasons[0]}"


def prepare_sweep(
    dataset_or_array: Any,
    *,
    mixers: Any,
    n_neighbors: int | Iterable[int] = (8, 128),
    batch_size: int = 32,
    seeds: int | Iterable[int] = 3,
    n_queries: int | None = None,
    device: str | torch.device = "auto",
    memory_limit: int | None = None,
) -> Sweep:
    """Check everything that `sweep_id` checks and return the work, not yet begun.

    The parameters are those of `sweep_id`. Preparing several sweeps before the first one runs
    shows the last one's errors before any work.

    Returns
    -------
    Sweep
        Its `run` does the work.

    Raises
    ------
    InputError
        If an argument is out of its range.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.sweep import prepare_sweep
    >>> X, _ = zm.make_helix(500, random_state=0)
    >>> len(prepare_sweep(X, mixers=[None], n_neighbors=8).run(progress=False).rows)
    3
    """
    if isinstance(dataset_or_array, Dataset):
        dataset = dataset_or_array
    else:
        dataset = Dataset(dataset_or_array, None, None, None, "array")
    where = resolve_device(device, like=dataset.points)
    points = as_points(dataset.points, min_features=2, device=where)
    n = len(points)
    if dataset.labels is not None and len(dataset.labels) != n:
        raise InputError(
            f"labels has {len(dataset.labels)} entries for {n} points: give one label a point."
        )
    strengths = _as_strengths(mixers)
    k_values = as_counts("n_neighbors", n_neighbors, least=2)
    for k in k_values:
        check_n_neighbors(k, n, least=2)
    batch_size = check_batch_size(batch_size, n)
    seed_values = (
        list(range(check_count("seeds", seeds)))
        if isinstance(seeds, (int, np.integer))
        else as_counts("seeds", seeds, least=0)
    )
    q = n if n_queries is None else check_count("n_queries", n_queries, least=2)
    if q > n:
        raise InputError(f"n_queries={q} is above the {n} points: lower n_queries.")
    memory = working_memory(memory_limit, where)
    batches = Batches(points, dataset.labels, dataset.image_shape, batch_size, memory)
    for strength in strengths:
        batches.mixed(strength.mixer, seed_values[0], trial=True)
    return Sweep(dataset.name, batches, strengths, k_values, seed_values, q)


@dataclass(frozen=True, eq=False)
class Sweep:
    """A checked sweep over one data set, made by `prepare_sweep`."""

    name: str
    batches: Batches
    strengths: list[_Strength]
    k_values: list[int]
    seeds: list[int]
    n_queries: int

    def run(self, *, journal: Journal | None = None, progress: bool = True) -> SweepResult:
        """Compute every cell that the journal does not hold.

        Parameters
        ----------
        journal : Journal, optional
            Where finished cells are kept and found.
        progress : bool, default=True
            Show a progress bar on a terminal or in a notebook.

        Returns
        -------
        SweepResult
            The whole table, cells from the journal included, and its settings.

        Raises
        ------
        InputError
            If the journal holds this data set with other data or settings.
        """
        started = datetime.now(UTC)
        clock = time.perf_counter()
        rows: list[dict[str, Any]] = []
        failures: list[dict[str, Any]] = []
        finished: dict[str, dict[str, Any]] = {}
        if journal is not None:
            self.begin(journal)
            finished = journal.finished(self.name)
        room = Room(self.batches.memory)
        first_error: Exception | None = None
        with progress_bar(progress, len(self.seeds) * len(self.strengths), self.name) as advance:
            for seed in self.seeds:
                for strength in self.strengths:
                    keys = {k: strength.cell(k, seed) for k in self.k_values}
                    missing = [k for k, key in keys.items() if key not in finished]
                    for k, outcome in self._cells(strength, seed, missing, room):
                        if isinstance(outcome, Exception):
                            first_error = first_error or outcome
                            failures.append(strength.failure(k, seed, outcome))
                            if journal is not None:
                                reason = failures[-1]["reason"]
                                journal.record_failure(self.name, keys[k], reason)
                            continue
                        finished[keys[k]] = outcome
                        if journal is not None:
                            journal.record(self.name, keys[k], outcome)
                    rows += [finished[key] for key in keys.values() if key in finished]
                    advance()
        points = self.batches.points
        settings = {
            "dataset": self.name,
            "n_points": len(points),
            "n_features": points.shape[1],
            "dtype": str(points.dtype).removeprefix("torch."),
            "mixers": [{"label": s.label, "mixer": repr(s.mixer)} for s in self.strengths],
            "n_neighbors": self.k_values,
            "batch_size": self.batches.batch_size,
            "seeds": self.seeds,
            "n_queries": self.n_queries,
            "rule": {"ver": "FO", "alphaFO": _ALPHA_FO},
            "device": device_name(points.device),
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - clock, 3),
            "failures": failures,
            **environment(),
        }
        return SweepResult(tuple(rows), settings, tuple(failures), first_error)

    def begin(self, journal: Journal) -> None:
        """Enter this sweep into a journal, or check that it goes on with the one begun there.

        Parameters
        ----------
        journal : Journal
            The journal to be given to `run`.

        Raises
        ------
        InputError
            If the journal holds this data set with other data or settings.
        """
        journal.begin(self.name, self._fingerprint)

    @cached_property
    def _fingerprint(self) -> dict[str, Any]:
        """What must be the same for cells to belong together; large data is hashed once."""
        points = self.batches.points
        content = hashlib.sha256(points.cpu().numpy().data)
        if self.batches.labels is not None:
            content.update(np.ascontiguousarray(self.batches.labels).data)
        return {
            "n_points": len(points),
            "n_features": points.shape[1],
            "dtype": str(points.dtype).removeprefix("torch."),
            "data": f"sha256:{content.hexdigest()[:32]}",
            "batch_size": self.batches.batch_size,
            "n_queries": self.n_queries,
            "alphaFO": _ALPHA_FO,
        }

    def _cells(
        self, strength: _Strength, seed: int, k_values: list[int], room: Room
    ) -> Iterator[tuple[int, dict[str, Any] | Exception]]:
        """Yield for each neighbourhood size a row, or why there is none.

        One mixed set and one search serve all.
        """
        if not k_values:
            return
        clock = time.perf_counter()
        try:
            mixed, indices = room.within(
                lambda memory: self._neighborhoods(strength, seed, max(k_values), memory)
            )
        except Exception as error:
            yield from ((k, error) for k in k_values)
            return
        shared = (time.perf_counter() - clock) / len(k_values)
        for k in k_values:
            clock = time.perf_counter()
            try:
                dimension, degenerate = room.within(partial(_fukunaga_olsen, mixed, indices[:, :k]))
            except Exception as error:
                yield k, error
                continue
            ids = dimension.double()
            std = float(ids.std())
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
                    "n_points": len(mixed),
                    "n_queries": self.n_queries,
                    "id_mean": float(ids.mean()),
                    "id_std": std,
                    "id_sem": std / math.sqrt(self.n_queries),
                    "n_degenerate": int(degenerate.sum()),
                    "seconds": shared + time.perf_counter() - clock,
                    "device": device_name(mixed.device),
                },
            )

    def _neighborhoods(
        self, strength: _Strength, seed: int, k: int, memory: int
    ) -> tuple[Float[Tensor, "n d"], Int64[Tensor, "q k"]]:
        mixed = replace(self.batches, memory=memory).mixed(strength.mixer, seed)
        (scaled,), _ = rescaled(mixed)
        rows = query_rows(seed, len(mixed), self.n_queries).to(mixed.device)
        _, indices = search(scaled, k, rows=rows, farthest_only=True, memory=memory)
        return mixed, indices


def _fukunaga_olsen(
    points: Float[Tensor, "n d"], indices: Int64[Tensor, "q k"], memory: int
) -> tuple[Int64[Tensor, " q"], Bool[Tensor, " q"]]:
    return fukunaga_olsen(points, indices, alpha=_ALPHA_FO, memory=memory)


# --- what is swept --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Strength:
    label: str
    mixer: Any
    gamma: float
    alpha: float

    def cell(self, k: int, seed: int) -> str:
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


def _as_strengths(mixers: Any) -> list[_Strength]:
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


def _as_strength(label: object, mixer: Any) -> _Strength:
    check_mixer(mixer)
    if label is None:
        own = getattr(mixer, "label", None) or getattr(mixer, "__name__", type(mixer).__name__)
        label = "none" if mixer is None else own
    return _Strength(str(label), mixer, _strength_of(mixer, "gamma"), _strength_of(mixer, "alpha"))


def _strength_of(mixer: Any, name: str) -> float:
    value: Any = getattr(mixer, name, None)
    return float(value) if is_number(value) else math.nan
