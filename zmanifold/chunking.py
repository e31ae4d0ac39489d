"""Work cut into pieces that fit into memory, and on a CPU spread over threads."""

from __future__ import annotations

import ctypes
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

__all__ = ["Room", "chunks", "return_freed_memory", "run_chunks"]

Result = TypeVar("Result")

# Below this many bytes of working memory, less of it would change nothing.
_LEAST_ROOM = 2**23


def chunks(total: int, size: int) -> Iterator[slice]:
    """Cut range(total) into slices of at most `size`, at least 1.

    Examples
    --------
    >>> from zmanifold.chunking import chunks
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
    >>> from zmanifold.chunking import run_chunks
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


def return_freed_memory() -> None:
    """Hand memory that was freed back to the system, where the C library keeps it.

    glibc keeps blocks that were freed for the thread that had them: without this, phases with
    blocks of different sizes take the sum of what each of them needs.

    Examples
    --------
    >>> from zmanifold.chunking import return_freed_memory
    >>> return_freed_memory()
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], object] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):
        # Windows has no library of the process itself, macOS and musl do not trim.
        return None


class Room:
    """Working memory that is halved for good when the machine has not that much.

    Parameters
    ----------
    memory : int
        Bytes that calls get at first.
    tell : callable, optional
        Takes the sentence that says so, the first time; by default a ResourceWarning is given.

    Attributes
    ----------
    memory : int
        Bytes that calls get now.
    """

    def __init__(self, memory: int, tell: Callable[[str], object] | None = None) -> None:
        self.memory = memory
        self._tell = tell
        self._said = False

    def within(self, call: Callable[[int], Result]) -> Result:
        """Call with the number of bytes, and again with half of it where they run out.

        Parameters
        ----------
        call : callable
            Takes the bytes that it may use; what it does may be done again.

        Returns
        -------
        object
            What it returns.

        Raises
        ------
        Exception
            What it raised, if that is not a lack of memory or little is left to be halved.

        Warns
        -----
        ResourceWarning
            The first time that memory runs out.

        Examples
        --------
        >>> from zmanifold.chunking import Room
        >>> Room(2**30).within(lambda memory: memory)
        1073741824
        """
        while True:
            try:
                return call(self.memory)
            except Exception as error:
                if not _is_out_of_memory(error) or self.memory < 2 * _LEAST_ROOM:
                    raise
            self.memory //= 2
            if not self._said:
                self._said = True
                message = (
                    f"out of memory: going on with chunks of {self.memory / 2**20:g} MiB or less; "
                    "results do not depend on it."
                )
                if self._tell is None:
                    warnings.warn(message, ResourceWarning, stacklevel=2)
                else:
                    self._tell(message)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # torch on a CPU has no exception of its own for it.
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
