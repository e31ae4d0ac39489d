"""The check of a sweep's arguments, and the run of the checked sweep."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from zmanifold._base.arrays import check_points, point_dtype
from zmanifold._base.checks import (
    as_counts,
    check_count,
    check_n_neighbors,
    named_device,
    resolve_device,
)
from zmanifold._base.errors import InputError
from zmanifold._base.mapped import MappedFile, Place, is_mapped
from zmanifold._base.memory import holds
from zmanifold._base.parallel import chunks
from zmanifold._base.progress import progress_bar
from zmanifold._base.provenance import environment
from zmanifold.datasets import Dataset
from zmanifold.dimension import estimator_name, make_estimators
from zmanifold.mixers import Batches, check_batch_size, describe
from zmanifold.neighbors import check_method
from zmanifold.sweep.cells import Cell, Cells, Outcome, Task
from zmanifold.sweep.journal import Journal
from zmanifold.sweep.result import LATER, SweepResult
from zmanifold.sweep.strengths import Strength, as_strengths

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Sweep", "prepare_sweep"]

# The number of values that are hashed at a time: 32 MiB in float64.
_HASHED = 2**22


# A larger number of seeds is refused as a mistake: each has its cells in a list, and 10**6 cells of
# a millisecond already take 17 minutes.
_MOST_SEEDS = 10**6


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
    neighbors_method: Literal["exact", "approximate"] = "exact",
    estimators: Any = ("FO",),
    elsewhere: bool = False,
) -> Sweep:
    """Check the arguments of `sweep_id` and return the sweep, not yet begun.

    Several sweeps that are prepared before the first one runs show their errors before any work.
    The parameters are those of `sweep_id`, and one more:

    Parameters
    ----------
    elsewhere : bool, default=False
        Whether other processes will do the work. `device` is then a device of theirs.

    Returns
    -------
    Sweep
        The checked sweep; its method `run` does the work.

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
    raw = check_points(dataset.points, min_features=2)
    n = len(raw)
    if dataset.labels is not None and len(dataset.labels) != n:
        raise InputError(
            f"labels has {len(dataset.labels)} entries for {n} points: give one label a point."
        )
    where = _device(device, dataset.points, elsewhere)
    check_method(neighbors_method)
    points, place = _held_or_mapped(dataset, raw, where, memory_limit, neighbors_method)
    strengths = as_strengths(mixers)
    rules = make_estimators(estimators)
    k_values = as_counts("n_neighbors", n_neighbors, least=2)
    for k in k_values:
        check_n_neighbors(k, n, least=2)
    batch_size = check_batch_size(batch_size, n)
    seed_values = (
        list(range(check_count("seeds", seeds, most=_MOST_SEEDS)))
        if isinstance(seeds, (int, np.integer))
        else as_counts("seeds", seeds, least=0)
    )
    q = n if n_queries is None else check_count("n_queries", n_queries, least=2)
    if q > n:
        raise InputError(f"n_queries={q} is above the {n} points: lower n_queries.")
    file = None
    if is_mapped(dataset.points) and points.data_ptr() == raw.data_ptr():
        file = MappedFile.of(str(dataset.points.filename))
    batches = Batches(points, dataset.labels, dataset.image_shape, batch_size, 0, place, file)
    cells = Cells(
        dataset.name, batches, q, place is None, memory_limit, neighbors_method, tuple(rules)
    ).on(where)
    trial = replace(cells.batches, memory=cells.room().memory)
    for strength in strengths:
        trial.try_mixer(strength.mixer, seed_values[0])
    on = str(device) if elsewhere else where.type
    return Sweep(cells, strengths, k_values, seed_values, on, dataset.read_as_dict())


def _device(device: str | torch.device, points: Any, elsewhere: bool) -> torch.device:
    """Return the device of this process; of a device of the workers only the name is checked."""
    if not elsewhere:
        return resolve_device(device, like=points)
    if device != "auto":
        named_device(device)
    return torch.device("cpu")


def _held_or_mapped(
    dataset: Dataset,
    raw: Shaped[Tensor, "n d"],
    where: torch.device,
    memory_limit: int | None,
    neighbors_method: str,
) -> tuple[Shaped[Tensor, "n d"], Place | None]:
    """Return the points in memory or, if their mixed copies would not fit, in their file."""
    dtype = point_dtype(raw)
    # The mixed copy, and the search's float32 copy of it (4 bytes a value).
    copies = raw.numel() * (dtype.itemsize + 4)
    if not is_mapped(dataset.points) or where.type != "cpu" or holds(copies, memory_limit):
        return raw.to(dtype).contiguous(), None
    if not np.shares_memory(raw.numpy(), dataset.points):
        raise InputError(
            f"{dataset.name} has dtype {dataset.points.dtype}, which is not read batch by "
            f"batch, and would take {copies} bytes: save it as float32, or raise memory_limit."
        )
    if neighbors_method == "approximate":
        raise InputError(
            f"neighbors_method='approximate' holds a mixed set of {copies} bytes, more than "
            "memory_limit or what is free allows: raise the limit, or search exactly."
        )
    return raw, Place.of(dataset.points)


@dataclass(frozen=True, eq=False)
class Sweep:
    """A checked sweep over one data set, made by `prepare_sweep`."""

    cells: Cells
    strengths: list[Strength]
    k_values: list[int]
    seeds: list[int]
    device: str
    read: dict[str, Any] | None

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.cells.name

    def run(
        self,
        *,
        journal: Journal | None = None,
        progress: bool = True,
        client: Client | None = None,
    ) -> SweepResult:
        """Compute every cell that is not in the journal.

        Parameters
        ----------
        journal : Journal, optional
            The file of finished cells; new ones are added to it.
        progress : bool, default=True
            Show a progress bar on a terminal or in a notebook.
        client : dask.distributed.Client, optional
            The cluster that computes the cells; this process by default.

        Returns
        -------
        SweepResult
            The whole table, including cells from the journal, and its settings.

        Raises
        ------
        InputError
            If the journal has this data set with other data or settings.
        OSError
            If the journal cannot be written; the cells in it remain.
        """
        started, clock = datetime.now(UTC), time.perf_counter()
        finished = {} if journal is None else self._begin(journal)
        keys = self._keys()
        failed, first_error = self._compute(keys, finished, journal, progress, client)
        order = [
            (key, strength.columns["parameters"], estimator)
            for (strength, _), names in keys.items()
            for (estimator, _), key in names.items()
        ]
        # Rows of 0.1.0 lack these two columns, which its keys imply, and those of `LATER`.
        rows = [
            {"parameters": parameters, "estimator": estimator, **LATER, **finished[key]}
            for key, parameters, estimator in order
            if key in finished
        ]
        failures = [failed[key] for key, _, _ in order if key in failed]
        settings = {
            **self._settings,
            "device": ", ".join(sorted({row["device"] for row in rows})),
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - clock, 3),
            "failures": failures,
            **environment(),
        }
        return SweepResult(tuple(rows), settings, tuple(failures), first_error)

    def _begin(self, journal: Journal) -> dict[str, dict[str, Any]]:
        """Enter the sweep into the journal and return the finished cells of the same sweep."""
        for strength in self.strengths:
            strength.check_resumable()
        journal.begin({self.name: self.fingerprint})
        return journal.finished(self.name)

    def _compute(
        self,
        keys: dict[tuple[Strength, int], dict[Cell, str]],
        finished: dict[str, dict[str, Any]],
        journal: Journal | None,
        progress: bool,
        client: Client | None,
    ) -> tuple[dict[str, dict[str, Any]], Exception | None]:
        """Add the missing cells' rows to `finished`; return failures by key and the first error."""
        todo: list[Task] = []
        for (strength, seed), names in keys.items():
            if missing := [cell for cell, key in names.items() if key not in finished]:
                todo.append((strength, seed, missing))
        failed: dict[str, dict[str, Any]] = {}
        first_error: Exception | None = None
        with progress_bar(progress, len(keys), self.name) as advance:
            advance(len(keys) - len(todo))
            for (strength, seed, _), outcomes in self._outcomes(todo, client):
                for cell, outcome in outcomes:
                    key = strength.key(*cell, seed)
                    if isinstance(outcome, Exception):
                        first_error = first_error or outcome
                        failed[key] = strength.failure(*cell, seed, outcome)
                        if journal is not None:
                            journal.record_failure(self.name, key, failed[key]["reason"])
                    else:
                        finished[key] = outcome
                        if journal is not None:
                            journal.record(self.name, key, outcome)
                advance()
        return failed, first_error

    def _keys(self) -> dict[tuple[Strength, int], dict[Cell, str]]:
        """Return the cells that share a mixed set, each with its key in a journal."""
        cells = list(itertools.product(map(estimator_name, self.cells.estimators), self.k_values))
        return {
            (strength, seed): {cell: strength.key(*cell, seed) for cell in cells}
            for seed in self.seeds
            for strength in self.strengths
        }

    @property
    def _settings(self) -> dict[str, Any]:
        points = self.cells.batches.points
        return {
            "dataset": self.name,
            "read": self.read,
            "n_points": len(points),
            "n_features": points.shape[1],
            "dtype": self._dtype,
            "mixers": [{"label": s.label, "mixer": describe(s.mixer)} for s in self.strengths],
            "estimators": [estimator_name(estimator) for estimator in self.cells.estimators],
            "n_neighbors": self.k_values,
            "batch_size": self.cells.batches.batch_size,
            "seeds": self.seeds,
            "n_queries": self.cells.n_queries,
            "neighbors_method": self.cells.neighbors_method,
        }

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """Data and settings that all cells of a sweep share, as JSON takes them."""
        batches, method = self.cells.batches, self.cells.neighbors_method
        n, d = batches.points.shape
        content = hashlib.sha256()
        for part in chunks(n, _HASHED // d):
            # The hash is one of the values in the dtype of the computation, so that a file has the
            # same hash whether it is held in memory or streamed.
            rows = batches.read()[part].to("cpu", batches.dtype)
            content.update(rows.contiguous().numpy().data)
        if batches.labels is not None:
            content.update(np.ascontiguousarray(batches.labels).data)
        return {
            "n_points": n,
            "n_features": d,
            "dtype": self._dtype,
            "data": f"sha256:{content.hexdigest()[:32]}",
            "batch_size": batches.batch_size,
            "n_queries": self.cells.n_queries,
            # Journals of version 0.1.0 have this entry, and can be resumed. Since then the key of a
            # cell includes its estimator.
            "alphaFO": 0.05,
            # Exact sweeps have no such entry, so that their earlier journals can be resumed.
            **({} if method == "exact" else {"neighbors_method": method}),
        }

    def _outcomes(
        self, todo: list[Task], client: Client | None
    ) -> Iterator[tuple[Task, Iterable[Outcome]]]:
        if client is not None:
            from zmanifold.sweep.dask import compute

            yield from compute(client, self.cells, todo, self.device)
            return
        room = self.cells.room()
        for task in todo:
            yield task, self.cells.measure(*task, room)

    @property
    def _dtype(self) -> str:
        return str(self.cells.batches.dtype).removeprefix("torch.")
