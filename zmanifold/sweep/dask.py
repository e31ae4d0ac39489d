"""Cells of a sweep on a Dask cluster: workers on this machine or on many."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import re
import signal
import warnings
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from zmanifold._base.ambient import ambient_outside
from zmanifold._base.checks import resolve_device
from zmanifold._base.errors import InputError
from zmanifold.sweep.cells import Cells, Outcome, Task

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

__all__ = ["check_dask", "compute", "connected"]

_RULE = "give tcp://HOST:PORT of a running scheduler, or local:N for N worker processes here"

# Seconds within which a scheduler must answer: short enough for a user to wait for the report of a
# wrong address, long enough for several tries to connect to a busy machine.
_PATIENCE = 10

# What scheduler and workers would tell of their work by HTTP, to everybody on this machine.
_NO_PAGES: Mapping[str, list[str]] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}

# How often cells are submitted that were lost with all workers. A cluster that loses all of them so
# often has a cause that one more try does not remove, such as too little memory for the data.
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
    if str(where).startswith("local:"):
        _check_local()
    if isinstance(where, distributed.Client):
        return
    if not isinstance(where, str) or not re.fullmatch(
        r"local:[1-9]\d{0,3}|(tcp|tls|ucx|ws|wss)://\S+", where
    ):
        raise InputError(f"dask={where!r} is no cluster: {_RULE}.")


def _check_local() -> None:
    """Raise InputError where workers cannot be started here, or not for this user alone."""
    # A process that is started imports the script that started it, which comes to this line again.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # Its error would be one more traceback a worker; the first process says it.
        os._exit(1)
    if find_spec("cryptography") is None:
        raise InputError(
            "dask='local:N' needs cryptography, by which workers admit this process alone: "
            "pip install 'zmanifold[distributed]'."
        )


@contextlib.contextmanager
def connected(where: Client | str) -> Iterator[Client]:
    """Yield a client of a cluster; a cluster that is started here ends with the context.

    Parameters
    ----------
    where : Client or str
        A client, which is left open, the address of a scheduler, or "local:N".

    Raises
    ------
    InputError
        If Dask is not installed, `where` names no cluster, or no scheduler answers.

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
    import dask
    from distributed import LocalCluster
    from distributed.security import Security

    # A terminal sends Ctrl-C to all of its processes, but this process alone ends the workers. They
    # inherit the mask that blocks SIGINT; here a blocked one is delivered when it is restored.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with dask.config.set(_NO_PAGES):
            # One thread a process: Dask's nannies limit the libraries to one thread, too.
            cluster = LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                dashboard_address=None,
                # The scheduler serves HTTP even without a dashboard. Port 0 takes any free port:
                # two commands would collide on the usual one.
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                silence_logs=logging.CRITICAL + 1,
                # Dask runs any code that it is sent. Keys that only these processes have keep
                # others who reach a port of this machine out.
                security=Security.temporary(),
            )
    except RuntimeError as error:
        raise InputError(
            f"dask='local:{n_workers}' could not start its workers ({str(error).rstrip('.')}): "
            "each of them imports the script that starts it, so keep the script's work under "
            'if __name__ == "__main__":.'
        ) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with cluster:
        try:
            yield cluster
        except BaseException:
            # close() would wait for the cells in work.
            for nanny in cluster.workers.values():
                nanny.auto_restart = False
                if nanny.pid is not None:
                    os.kill(nanny.pid, signal.SIGKILL)
            raise


def compute(
    client: Client, cells: Cells, tasks: list[Task], device: str
) -> Iterator[tuple[Task, list[Outcome]]]:
    """Yield each task with its outcomes as soon as it is finished.

    Parameters
    ----------
    client : Client
        A client of the cluster.
    cells : Cells
        The data and settings, sent once to each worker.
    tasks : list of Task
        The tasks. Those of a lost worker go to the other workers; the cells of a task that loses
        its worker repeatedly (more often than Dask's setting allowed-failures) have failed.
    device : str
        The device that a worker computes on.
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
            # The worker that the scheduler chose for the data died meanwhile.
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
    """Copy the data from one worker to all others, and return once every living worker has it.

    The scheduler prefers workers that have the data: without copies one worker would get all tasks.
    Dask's own broadcast waits forever for a worker that dies meanwhile.
    """
    from distributed import CancelledError, wait

    there = client.scheduler_info(-1)["workers"]
    copies = {name: client.submit(_kept, shared, workers=[name], pure=False) for name in there}
    while left := [copies[name] for name in copies.keys() & there if not copies[name].done()]:
        with contextlib.suppress(TimeoutError, CancelledError):
            # A dead worker never finishes its copy: each second the list of workers is renewed.
            wait(left, timeout=1)
        there = client.scheduler_info(-1)["workers"]
    return list(copies.values())


def _kept(_: Cells) -> None:
    """Do nothing: the worker that runs this has fetched the data as its argument."""


@ambient_outside()
def _measure(cells: Cells, task: Task, device: str) -> tuple[list[Outcome], list[str]]:
    """Return the outcomes of a task, and the messages about a lack of memory."""
    from distributed import get_worker

    said: list[str] = []
    here = cells.on(resolve_device(device))
    room = here.room(get_worker().state.nthreads, said.append)
    return list(here.measure(*task, room)), said
