"""Cells of a sweep on a Dask cluster: workers on this machine or on many."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from zmanifold._base.checks import resolve_device
from zmanifold._base.errors import InputError
from zmanifold.sweep.cells import Cells, Outcome, Task

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

__all__ = ["check_dask", "compute", "connected"]

_RULE = "give tcp://HOST:PORT of a running scheduler, or local:N for N worker processes here"

# Seconds within which a scheduler must answer.
_PATIENCE = 10

# How often cells are handed out anew that were lost with all workers.
_TRIES = 10


def check_dask(where: object) -> None:
    """Raise InputError unless `where` names a cluster and Dask is installed.

    Examples
    --------
    >>> from zmanifold.sweep.dask import check_dask
    >>> check_dask("local:4")
    """
    try:
        import distributed
    except ImportError:
        raise InputError("Dask is not installed: pip install 'zmanifold[distributed]'.") from None
    if isinstance(where, distributed.Client):
        return
    if not isinstance(where, str) or not re.fullmatch(
        r"local:[1-9]\d{0,3}|(tcp|tls|ucx|ws|wss)://\S+", where
    ):
        raise InputError(f"dask={where!r} is no cluster: {_RULE}.")


@contextlib.contextmanager
def connected(where: Client | str) -> Iterator[Client]:
    """Yield a client of a cluster; workers that were started here end with it.

    Parameters
    ----------
    where : Client or str
        A client, which stays open, a scheduler's address, or "local:N".

    Raises
    ------
    InputError
        If Dask is not installed, `where` is neither, or no scheduler answers.

    Examples
    --------
    >>> from zmanifold.sweep.dask import connected
    >>> with connected("local:2") as client:  # doctest: +SKIP
    ...     zm.sweep_id(X, mixers=mixers, dask=client)
    """
    check_dask(where)
    from distributed import Client

    if isinstance(where, Client):
        yield where
        return
    with contextlib.ExitStack() as stack:
        address: Any = where
        if where.startswith("local:"):
            address = stack.enter_context(_local_cluster(int(where.removeprefix("local:"))))
        try:
            client = stack.enter_context(Client(address, timeout=_PATIENCE))
        except (OSError, TimeoutError, ValueError, ImportError) as error:
            raise InputError(
                f"dask={where!r}: no scheduler answers there ({error or type(error).__name__}): "
                f"{_RULE}."
            ) from None
        yield client


@contextlib.contextmanager
def _local_cluster(n_workers: int) -> Iterator[LocalCluster]:
    from distributed import LocalCluster

    # Ctrl-C on a terminal goes to all of its processes: this one alone shall end the others, which
    # inherit the mask. Here it comes when they have started.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        # One thread a process, as the nannies set it for the libraries as well.
        cluster = LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            dashboard_address=None,
            # It answers to HTTP all the same: on the usual port two commands would meet.
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            silence_logs=logging.CRITICAL + 1,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with cluster:
        try:
            yield cluster
        except BaseException:
            # Closing would wait for what they are computing.
            for nanny in cluster.workers.values():
                nanny.auto_restart = False
                if nanny.pid is not None:
                    os.kill(nanny.pid, signal.SIGKILL)
            raise


def compute(
    client: Client, cells: Cells, tasks: list[Task], device: str
) -> Iterator[tuple[Task, list[Outcome]]]:
    """Yield tasks with their outcomes as they are finished.

    Parameters
    ----------
    client : Client
        The cluster's.
    cells : Cells
        What is sent once to all workers.
    tasks : list of Task
        What each of them takes one after the other. A lost worker's tasks go to the others; one
        whose workers die again and again (Dask's allowed-failures) is a failure of its cells.
    device : str
        Where a worker computes.
    """
    from distributed import CancelledError, as_completed

    sent = cells.on(torch.device("cpu"))
    left = tasks
    for attempt in range(_TRIES):
        if not left:
            return
        last = attempt == _TRIES - 1
        if not client.scheduler_info()["workers"]:
            warnings.warn("no Dask worker is there: waiting for one.", stacklevel=2)
            client.wait_for_workers(1)
        try:
            shared = client.scatter(sent, hash=False)
        except (OSError, KeyError):
            # The worker that was to take it died just then.
            if last:
                raise
            continue
        copies = _copied(client, shared)
        futures = {client.submit(_measure, shared, task, device, pure=False): task for task in left}
        left = []
        try:
            for future in as_completed(futures):
                task = futures[future]
                outcomes: list[Outcome]
                try:
                    outcomes, said = future.result()
                    for message in said:
                        warnings.warn(message, ResourceWarning, stacklevel=2)
                except CancelledError as error:
                    # The data was lost with the last worker.
                    if not last:
                        left.append(task)
                        continue
                    outcomes = [(k, error) for k in task[2]]
                except Exception as error:
                    outcomes = [(k, error) for k in task[2]]
                yield task, outcomes
        finally:
            client.cancel([*futures, *copies, shared])


def _copied(client: Client, shared: Future[Any]) -> list[Future[Any]]:
    """Let every worker fetch its copy of what one of them has.

    Tasks are given to workers that have a copy. Dask's own broadcast would wait for ever for a
    worker that dies meanwhile.
    """
    from distributed import CancelledError, wait

    there = client.scheduler_info(-1)["workers"]
    copies = {name: client.submit(_kept, shared, workers=[name], pure=False) for name in there}
    while left := [copies[name] for name in copies.keys() & there if not copies[name].done()]:
        with contextlib.suppress(TimeoutError, CancelledError):
            wait(left, timeout=1)
        there = client.scheduler_info(-1)["workers"]
    return list(copies.values())


def _kept(_: Cells) -> None:
    """Nothing is done with it: a worker has it now."""


def _measure(cells: Cells, task: Task, device: str) -> tuple[list[Outcome], list[str]]:
    """Return the outcomes, and what is to be said of a lack of memory."""
    from distributed import get_worker

    said: list[str] = []
    here = cells.on(resolve_device(device))
    room = here.room(get_worker().state.nthreads, said.append)
    return list(here.measure(*task, room)), said
