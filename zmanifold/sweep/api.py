"""Local intrinsic dimension of mixed data against the mixing strength."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import torch

from zmanifold.sweep.journal import Journal
from zmanifold.sweep.plan import prepare_sweep
from zmanifold.sweep.result import SweepResult, failed_cells, measured_recall

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["sweep_id"]


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
    estimators: Any = ("FO",),
    dask: Client | str | None = None,
    journal: Journal | str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> SweepResult:
    """Measure the local intrinsic dimension of a data set mixed in several ways.

    For each seed the data is shuffled and cut into batches; each mixer mixes every batch; the
    dimension of the mixed set is estimated, by default by local PCA with the Fukunaga-Olsen rule
    at 5% (as in Fig. 6 of the ζ-mixup paper). One neighbour search serves all `n_neighbors`.

    Parameters
    ----------
    dataset_or_array : Dataset or array-like or torch.Tensor of shape (n, d)
        The data, d >= 2.
    mixers : mixer, None, str, iterable of these, or mapping of name to these
        What to sweep over, one mixer a strength: None or "none" for the original data, the
        mixers of this package or their names with strengths ("zeta:gamma=0:15:1"), or any mixer
        that `zmanifold.mixers.apply` takes. A mapping's keys name its mixers in the table. A
        mixer's own randomness is repeatable if it takes a ``generator=`` or draws from the global
        one of torch, NumPy or Python.
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
    estimators : str, estimator, or iterable of these, default=("FO",)
        Estimators of local dimension: names with parameters ("FO:alphaFO=0.1"), as
        `zmanifold.dimension.available` lists them, or objects (see `zmanifold.dimension.register`).
        One search serves all.
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
        estimators=estimators,
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
