"""Local intrinsic dimension of mixed data against the mixing strength."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import torch

from zmanifold._base.ambient import ambient_outside
from zmanifold.sweep.dask import check_dask, connected
from zmanifold.sweep.journal import Journal
from zmanifold.sweep.plan import prepare_sweep
from zmanifold.sweep.result import SweepResult, failed_cells, measured_recall

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["sweep_id"]


@ambient_outside()
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
        The mixers to compare, each at one strength: None or "none" for the original data, a
        mixer of this package, its name with one or several strengths ("zeta:gamma=0:15:1"), or
        any mixer that `zmanifold.mixers.apply` takes. A mapping's keys name its mixers in the
        table. The randomness of a user's mixer is repeatable if the mixer takes a ``generator=``
        or draws from the global generator of torch, NumPy or Python.
    n_neighbors : int or iterable of int, default=(8, 128)
        Neighbourhood sizes k, 2 <= k < n.
    batch_size : int, default=32
        Samples mixed with one another, 2 <= batch_size <= n. The last batch, if it is not full,
        is completed by the first samples of the shuffle, whose mixed copies are dropped: the n
        mixed points all come from full batches.
    seeds : int or iterable of int, default=3
        The number of seeds (0, 1, ...), or the seeds themselves. A cell depends on its own seed
        only. The same seed gives the same shuffle, query points and random numbers to every mixer
        and strength.
    n_queries : int, optional
        The number of random points at which to estimate, by default all. Neighbours are taken
        from all points in any case.
    device : str or torch.device, default="auto"
        The device that computes. Random numbers are drawn on the CPU: they do not depend on it.
    memory_limit : int, optional
        Bytes of working memory besides the data, its mixed copy and one float32 copy of that.
        If the copies of a memory-mapped array (``numpy.load(..., mmap_mode="r")``) would take
        more than this limit, or by default more than half of the free memory, the array is mixed
        batch by batch as often as needed. The limit then bounds all anonymous memory of the
        process. The numbers are the same.
    neighbors_method : {"exact", "approximate"}, default="exact"
        "approximate" is nearest-neighbour descent, for very large sets, where an exact search for
        all points takes hours. It needs the extra `approximate`. Its recall, measured at 256
        queries that are searched exactly, is in the table's column `recall` and in a warning.
    estimators : str, estimator, or iterable of these, default=("FO",)
        Estimators of local dimension: names with parameters ("FO:alphaFO=0.1"), as
        `zmanifold.dimension.available` lists them, or objects (see `zmanifold.dimension.register`).
        One search serves all.
    dask : Client or str, optional
        The cluster that computes the cells: a ``dask.distributed.Client``, the address of a
        scheduler ("tcp://host:8786"), or "local:N" for N worker processes on this machine. By
        default this process computes them. The cells of a lost worker are computed by the
        others. Dask needs the extra `distributed`. Workers of "local:N" admit this process alone,
        and a script gives it under ``if __name__ == "__main__":``, because each worker imports the
        script. A scheduler at tcp:// runs what anybody sends who reaches its port: use it where
        you trust all of them, or tls:// with keys in Dask's configuration. Of a memory-mapped
        array only the file's path is sent: the workers must be able to read the file.
    journal : path or Journal, optional
        A file that keeps each finished cell. If the file exists, the sweep resumes: the cells in
        it are not computed again, and a sweep with other data or settings is refused. Mixers,
        strengths, estimators, neighbourhood sizes and seeds may be added.
    progress : bool, default=True
        Show a progress bar on a terminal or in a notebook.

    Returns
    -------
    SweepResult
        `to_frame()` gives the table, `settings` the settings and versions, `failures` the cells
        that failed. A cell that fails does not stop the others; a warning gives their number.

    Raises
    ------
    InputError
        If an argument is out of its range, before any work starts.
    Exception
        The error of the first cell, if every cell failed.

    Examples
    --------
    >>> import zmanifold as zm
    >>> X, _ = zm.make_helix(random_state=0)
    >>> mixers = [None, zm.Mixup(), zm.ZetaMixup(2.8), zm.ZetaMixup(15.0)]
    >>> frame = zm.sweep_id(X, mixers=mixers, n_neighbors=8, seeds=1, progress=False).to_frame()
    >>> frame[["mixer", "gamma", "id_mean"]].round(2).values.tolist()
    [['none', nan, 1.0], ['mixup', nan, 2.92], ['zeta', 2.8, 2.93], ['zeta', 15.0, 1.0]]
    """
    if dask is not None:
        check_dask(dask)
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
            client = stack.enter_context(connected(dask))
        if journal is not None and not isinstance(journal, Journal):
            journal = stack.enter_context(Journal(journal))
        result = sweep.run(journal=journal, progress=progress, client=client)
    if result.first_error is not None and not result.rows:
        raise result.first_error
    if result.failures:
        warnings.warn(failed_cells([result]), RuntimeWarning, stacklevel=3)
    if neighbors_method == "approximate":
        warnings.warn(measured_recall([result]), UserWarning, stacklevel=3)
    return result
