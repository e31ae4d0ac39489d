"""Chunks: slices of the rows that fit into memory and, on a CPU, are shared by threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import cache
from typing import TypeVar

import torch

__all__ = ["chunks", "run_chunks"]

Result = TypeVar("Result")


def chunks(total: int, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` rows that cover range(total); a `size` below 1 counts as 1.

    Examples
    --------
    >>> from zmanifold._base.parallel import chunks
    >>> list(chunks(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    size = max(1, size)
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def run_chunks(
    work: Callable[[slice], object], total: int, size: int, device: torch.device
) -> None:
    """Call `work` on slices that cover range(total); the calls are independent of one another.

    On a CPU as many threads as torch is set to use share the slices, and torch computes
    single-threaded within each: a batch of small factorisations is not faster with more threads.
    They see the caller's context variables.

    Parameters
    ----------
    work : callable
        Takes a slice, computes its rows and stores the result itself.
    total : int
        The number of rows.
    size : int
        The largest number of rows in work at a time, all threads together.
    device : torch.device
        The device that `work` computes on.

    Raises
    ------
    Exception
        The error of `work`. The other threads finish the slices that they have begun; the
        remaining slices are not begun.

    Examples
    --------
    >>> import torch
    >>> from zmanifold._base.parallel import run_chunks
    >>> squares = torch.zeros(5)
    >>> def work(part):
    ...     squares[part] = torch.arange(part.start, part.stop).square()
    >>> run_chunks(work, 5, 2, torch.device("cpu"))
    >>> squares
    tensor([ 0.,  1.,  4.,  9., 16.])
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    parts = list(chunks(total, min(size // threads, -(-total // threads))))
    if threads == 1 or len(parts) == 1:
        for part in parts:
            work(part)
        return
    remaining = deque(parts)

    def loop() -> None:
        torch.set_num_threads(1)
        while True:
            try:
                part = remaining.popleft()
            except IndexError:
                return
            try:
                work(part)
            except BaseException:
                # After an error or Ctrl-C the other threads find no further part.
                remaining.clear()
                raise

    others = [_pool().submit(copy_context().run, loop) for _ in range(threads - 1)]
    try:
        loop()
    finally:
        try:
            remaining.clear()
            wait(others)
        finally:
            # A thread's first call of torch takes over the number that any thread set last: the
            # workers' 1 must not be that number.
            torch.set_num_threads(threads)
    for other in others:
        # An error of that thread is raised here.
        other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    """Return the pool of threads, one for the life of the process.

    Starting a thread takes as long as 200 searches in a tree, so that threads are kept for reuse.
    The executor starts a thread only when none is idle, so it holds as many as were ever at work at
    the same time. Its limit of 4096 is above the number of cores times that of concurrent calls. At
    the limit, work waits for a free thread; no thread waits for another one, so none waits forever.
    """
    return ThreadPoolExecutor(2**12, thread_name_prefix="zmanifold")


def _start_anew() -> None:
    """Give a forked process a pool of its own, and torch the one thread that the process has.

    An OpenMP region of several threads would wait forever for the parent's, which fork did not copy
    (numba issue 7872). The process may ask torch for more threads: those are started anew.
    """
    _pool.cache_clear()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
