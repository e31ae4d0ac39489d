"""Local intrinsic dimension of mixed data against the mixing strength."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from zmanifold._base.arrays import check_points, point_dtype
from zmanifold._base.checks import (
    as_counts,
    check_count,
    check_n_neighbors,
    named_device,
    resolve_device,
)
from zmanifold._base.errors import InputError
from zmanifold._base.mapped import Place, is_mapped
from zmanifold._base.memory import holds
from zmanifold._base.parallel import chunks
from zmanifold._base.progress import progress_bar
from zmanifold._base.provenance import environment
from zmanifold.datasets import Dataset
from zmanifold.mixers import Batches, check_batch_size
from zmanifold.neighbors import RECALL_SAMPLE, check_method
from zmanifold.sweep.cells import ALPHA_FO, Cells, Outcome, Strength, Task, as_strengths
from zmanifold.sweep.journal import Journal

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

__all__ = [
    "COLUMNS",
    "Sweep",
    "SweepResult",
    "failed_cells",
    "measured_recall",
    "prepare_sweep",
    "sweep_id",
]

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

# Values that are hashed at a time.
_HASHED = 2**22

# More would be a mistake, and a list of all cells.
_MOST_SEEDS = 10**6


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
            seconds, device; recall, where neighbours are approximate.
        """
        import pandas as pd

        recall = ["recall"] if any("recall" in row for row in self.rows) else []
        return pd.DataFrame(list(self.rows), columns=[*COLUMNS, *recall])


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
    neighbors_method: Literal["exact", "approximate"] = "exact",
    dask: Client | str | None = None,
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
        Bytes of working memory above the data, its mixed copy and one float32 copy of that. A
        memory-mapped array (``numpy.load(..., mmap_mode="r")``) whose copies would take more
        than this, by default half of what is free, is mixed batch by batch as often as needed:
        the limit is then one on all anonymous memory of the process, and the numbers are the
        same.
    neighbors_method : {"exact", "approximate"}, default="exact"
        "approximate" is for all points of a very large set, where an exact search takes hours:
        nearest-neighbour descent, by the extra `approximate`. Its recall at 256 queries, searched
        exactly, is in the table's column `recall`, and a warning says it.
    dask : Client or str, optional
        Where the cells are computed: a ``dask.distributed.Client``, the address of a scheduler
        ("tcp://host:8786"), or "local:N" for N worker processes on this machine; in this process
        by default. A lost worker's cells are computed by the others. Needs the extra
        `distributed`. Of a memory-mapped array only the name is sent: the workers must see the
        file.
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
        neighbors_method=neighbors_method,
        elsewhere=dask is not None,
    )
    with contextlib.ExitStack() as stack:
        client = None
        if dask is not None:
            from zmanifold.sweep.dask import connected

            client = stack.enter_context(connected(dask))
        if journal is not None and not isinstance(journal, Journal):
            journal = stack.enter_context(Journal(journal))
        result = sweep.run(journal=journal, progress=progress, client=client)
    if result.first_error is not None and not result.rows:
        raise result.first_error
    if result.failures:
        warnings.warn(failed_cells([result]), RuntimeWarning, stacklevel=2)
    if neighbors_method == "approximate":
        warnings.warn(measured_recall([result]), UserWarning, stacklevel=2)
    return result


def measured_recall(results: Iterable[SweepResult]) -> str:
    """Say how good the approximate neighbours of sweeps are.

    Examples
    --------
    >>> from zmanifold.sweep.api import SweepResult, measured_recall
    >>> measured_recall([SweepResult(({"recall": 0.97}, {"recall": 0.99}), {})])
    'approximate neighbours: recall 0.980 on average, at least 0.970, by 256 exact queries a cell'
    """
    recalls = [row["recall"] for result in results for row in result.rows]
    if not recalls:
        return "approximate neighbours: no cell was finished"
    return (
        f"approximate neighbours: recall {sum(recalls) / len(recalls):.3f} on average, at least "
        f"{min(recalls):.3f}, by {RECALL_SAMPLE} exact queries a cell"
    )


def failed_cells(results: Iterable[SweepResult]) -> str:
    """Say how many cells of sweeps failed, and why the first one did.

    Examples
    --------
    >>> from zmanifold.sweep.api import SweepResult, failed_cells
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
    neighbors_method: Literal["exact", "approximate"] = "exact",
    elsewhere: bool = False,
) -> Sweep:
    """Check everything that `sweep_id` checks and return the work, not yet begun.

    The parameters are those of `sweep_id`, and whether the work will be done elsewhere: `device`
    is then one of the workers'. Preparing several sweeps before the first one runs shows the last
    one's errors before any work.

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
    >>> from zmanifold.sweep.api import prepare_sweep
    >>> X, _ = zm.make_helix(500, random_state=0)
    >>> len(prepare_sweep(X, mixers=[None], n_neighbors=8).run(progress=False).rows)
    3
    """
    if isinstance(dataset_or_array, Dataset):
        dataset = dataset_or_array
    else:
        dataset = Dataset(dataset_or_array, None, None, None, "array")
    raw = check_points(dataset.points, min_features=2)
    n, d = raw.shape
    if elsewhere:
        where = torch.device("cpu")
        if device != "auto":
            named_device(device)
    else:
        where = resolve_device(device, like=dataset.points)
    # The mixed copy and the search's float32 copy of it.
    copies = n * d * (point_dtype(raw).itemsize + 4)
    held, place = True, None
    if where.type == "cpu" and is_mapped(dataset.points) and not holds(copies, memory_limit):
        if not np.shares_memory(raw.numpy(), dataset.points):
            raise InputError(
                f"{dataset.name} has dtype {dataset.points.dtype}, which is not read batch by "
                f"batch, and would take {copies} bytes: save it as float32, or raise memory_limit."
            )
        held, place = False, Place.of(dataset.points)
    points = raw.to(point_dtype(raw)).contiguous() if held else raw
    if dataset.labels is not None and len(dataset.labels) != n:
        raise InputError(
            f"labels has {len(dataset.labels)} entries for {n} points: give one label a point."
        )
    check_method(neighbors_method)
    if neighbors_method == "approximate" and not held:
        raise InputError(
            f"neighbors_method='approximate' holds a mixed set of {copies} bytes, more than "
            "memory_limit or what is free allows: raise the limit, or search exactly."
        )
    strengths = as_strengths(mixers)
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
    batches = Batches(points, dataset.labels, dataset.image_shape, batch_size, 0, place)
    cells = Cells(dataset.name, batches, q, held, memory_limit, neighbors_method).on(where)
    trial = replace(cells.batches, memory=cells.room().memory)
    for strength in strengths:
        trial.try_mixer(strength.mixer, seed_values[0])
    return Sweep(cells, strengths, k_values, seed_values, str(device) if elsewhere else where.type)


@dataclass(frozen=True, eq=False)
class Sweep:
    """A checked sweep over one data set, made by `prepare_sweep`."""

    cells: Cells
    strengths: list[Strength]
    k_values: list[int]
    seeds: list[int]
    device: str

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
        """Compute every cell that the journal does not hold.

        Parameters
        ----------
        journal : Journal, optional
            Where finished cells are kept and found.
        progress : bool, default=True
            Show a progress bar on a terminal or in a notebook.
        client : dask.distributed.Client, optional
            A cluster that computes them; this process by default.

        Returns
        -------
        SweepResult
            The whole table, cells from the journal included, and its settings.

        Raises
        ------
        InputError
            If the journal holds this data set with other data or settings.
        OSError
            If the journal cannot be written; what it holds stays.
        """
        started = datetime.now(UTC)
        clock = time.perf_counter()
        finished: dict[str, dict[str, Any]] = {}
        if journal is not None:
            journal.begin({self.name: self.fingerprint})
            finished = journal.finished(self.name)
        failed: dict[str, dict[str, Any]] = {}
        first_error: Exception | None = None
        keys: list[str] = []
        todo: list[Task] = []
        for seed in self.seeds:
            for strength in self.strengths:
                names = {k: strength.key(k, seed) for k in self.k_values}
                keys += names.values()
                if missing := [k for k, name in names.items() if name not in finished]:
                    todo.append((strength, seed, missing))
        total = len(self.seeds) * len(self.strengths)
        with progress_bar(progress, total, self.name) as advance:
            advance(total - len(todo))
            for (strength, seed, _), outcomes in self._outcomes(todo, client):
                for k, outcome in outcomes:
                    key = strength.key(k, seed)
                    if isinstance(outcome, Exception):
                        first_error = first_error or outcome
                        failed[key] = strength.failure(k, seed, outcome)
                        if journal is not None:
                            journal.record_failure(self.name, key, failed[key]["reason"])
                    else:
                        finished[key] = outcome
                        if journal is not None:
                            journal.record(self.name, key, outcome)
                advance()
        points = self.cells.batches.points
        failures = [failed[key] for key in keys if key in failed]
        rows = [finished[key] for key in keys if key in finished]
        settings = {
            "dataset": self.name,
            "n_points": len(points),
            "n_features": points.shape[1],
            "dtype": self._dtype,
            "mixers": [{"label": s.label, "mixer": repr(s.mixer)} for s in self.strengths],
            "n_neighbors": self.k_values,
            "batch_size": self.cells.batches.batch_size,
            "seeds": self.seeds,
            "n_queries": self.cells.n_queries,
            "rule": {"ver": "FO", "alphaFO": ALPHA_FO},
            "neighbors_method": self.cells.neighbors_method,
            "device": ", ".join(sorted({row["device"] for row in rows})),
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - clock, 3),
            "failures": failures,
            **environment(),
        }
        return SweepResult(tuple(rows), settings, tuple(failures), first_error)

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for cells to belong together, ready for JSON."""
        batches, method = self.cells.batches, self.cells.neighbors_method
        n, d = batches.points.shape
        content = hashlib.sha256()
        for part in chunks(n, _HASHED // d):
            # As it is computed with: a file gives the same whether it fits into memory or not.
            rows = batches.points[part].to("cpu", batches.dtype)
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
            "alphaFO": ALPHA_FO,
            # Journals of exact sweeps do without it.
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
