"""Work cut into pieces that fit into memory, and on a CPU spread over threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

__all__ = ["chunks", "run_chunks"]

Result = TypeVar("Result")


def chunks(total: int, size: int) -> Iterator[slice]:
    """Cut range(total) into slices of at most `size`, at least 1.

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
    """Call `work` on slices of range(total), each of which it handles on its own.

    On a CPU the slices are spread over as many threads as torch uses, each computing
    single-threaded: batches of small factorisations gain nothing from threads inside.

    Parameters
    ----------
    work : callable
        Takes a slice and stores its own result.
    total : int
        Number of rows.
    size : int
        The most rows that may be worked on at a time, over all threads.
    device : torch.device
        Where `work` computes.

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
                # After a failure or Ctrl-C the other threads end with the part they have.
                remaining.clear()
                raise

    others = [_pool().submit(loop) for _ in range(threads - 1)]
    try:
        loop()
    finally:
        try:
            remaining.clear()
            wait(others)
        finally:
            # A thread that is new to torch takes over what any thread set last.
            torch.set_num_threads(threads)
    for other in others:
        # Raises what that thread raised.
        other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    """Return threads that last: to start one takes as long as 200 searches in a tree.

    There are as many as were ever at work at a time; none waits for another's work.
    """
    return ThreadPoolExecutor(2**12, thread_name_prefix="zmanifold")


if hasattr(os, "register_at_fork"):
    # Threads do not live on in a forked process.
    os.register_at_fork(after_in_child=_pool.cache_clear)
