"""Working memory: the bytes that a call may use, and a second try with less where they run out."""

from __future__ import annotations

import ctypes
import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import torch

from zmanifold._base.checks import check_count
from zmanifold._base.errors import InputError
from zmanifold._base.free_memory import free_memory, taken_memory

__all__ = ["Room", "holds", "return_freed_memory", "streaming_memory", "working_memory"]

Result = TypeVar("Result")

# The most working memory that is taken by default, 1 GiB: larger chunks make no call faster.
_MOST_MEMORY = 2**30

# Anonymous memory that a streamed sweep takes besides its chunks, for compiled code and the buffers
# of libraries. With this much, sweeps over files of up to 4 GiB stay within their limit.
_RESERVE = 160 * 2**20

# The least working memory of a streamed sweep. Its smallest share, a quarter, holds one batch of 32
# samples of 13,000 features at 40 bytes an entry (see `_ROW_BYTES` in sweep/stream.py).
_LEAST_STREAMING = 64 * 2**20


def working_memory(memory_limit: int | None, device: torch.device) -> int:
    """Return the bytes that a chunked computation may use besides the data.

    Parameters
    ----------
    memory_limit : int or None
        The user's limit in bytes. None stands for a quarter of the free memory, on a CPU at most
        1 GiB.
    device : torch.device
        The device that computes.

    Returns
    -------
    int
        The number of bytes, at least 1 MiB.

    Raises
    ------
    InputError
        If `memory_limit` is below 1 MiB: a chunk would no longer hold a single row.

    Examples
    --------
    >>> import torch
    >>> from zmanifold._base.memory import working_memory
    >>> working_memory(2**30, torch.device("cpu"))
    1073741824
    """
    if memory_limit is None:
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            return int(free) // 4
        return max(2**20, min(_MOST_MEMORY, free_memory() // 4))
    limit = check_count("memory_limit", memory_limit)
    if limit < 2**20:
        raise InputError(
            f"memory_limit={limit} is below 1 MiB (2**20 bytes): allow at least that much."
        )
    return limit


def holds(n_bytes: int, memory_limit: int | None) -> bool:
    """Tell whether mixed copies of a memory-mapped file, of `n_bytes`, are kept in memory.

    They are kept if they fit into the user's limit or, without one, into half of the free memory.
    """
    return n_bytes <= (free_memory() // 2 if memory_limit is None else memory_limit)


def streaming_memory(memory_limit: int | None, kept: int = 0) -> int:
    """Return the bytes that a computation over a memory-mapped file may use for its chunks.

    Here `memory_limit` bounds all anonymous memory of the process. The memory that the process has
    taken already, and a reserve for compiled code and libraries, are subtracted from it.

    Parameters
    ----------
    memory_limit : int or None
        The user's limit in bytes. None stands for half of the free memory, at most 1 GiB.
    kept : int, default=0
        Bytes that the computation keeps besides its chunks until it ends.

    Returns
    -------
    int
        The number of bytes.

    Raises
    ------
    InputError
        If less than 64 MiB is left.
    """
    if memory_limit is None:
        return max(_LEAST_STREAMING, min(_MOST_MEMORY, free_memory() // 2))
    taken = taken_memory()
    taken = kept + _RESERVE + (int(taken) if math.isfinite(taken) else _RESERVE)
    left = check_count("memory_limit", memory_limit) - taken
    if left < _LEAST_STREAMING:
        least = math.ceil((taken + _LEAST_STREAMING) / 2**20)
        raise InputError(
            f"memory_limit={memory_limit} is too little to go through a file that does not fit: "
            f"allow at least {least} MiB."
        )
    return left


# The working memory is not halved below this, 8 MiB: that is a twentieth of what compiled code and
# libraries take (`_RESERVE`), so that smaller chunks would hardly lower the total.
_LEAST_ROOM = 2**23


def return_freed_memory() -> None:
    """Return freed memory to the system, where the C library would keep it.

    glibc keeps freed blocks for the thread that allocated them. Without this call, successive
    phases with blocks of different sizes take the sum of their needs, not the largest.

    Examples
    --------
    >>> from zmanifold._base.memory import return_freed_memory
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
        # On Windows CDLL(None) fails; the C libraries of macOS and musl have no malloc_trim.
        return None


class Room:
    """The working memory of a sequence of calls, halved whenever a call runs out of memory.

    Parameters
    ----------
    memory : int
        Bytes for the first call.
    tell : callable, optional
        Receives the message about the first halving; by default it is a ResourceWarning.

    Attributes
    ----------
    memory : int
        Bytes for the next call.
    """

    def __init__(self, memory: int, tell: Callable[[str], object] | None = None) -> None:
        self.memory = memory
        self._tell = tell
        self._said = False

    def within(self, call: Callable[[int], Result]) -> Result:
        """Run `call` with the working memory, and again with half of it where memory runs out.

        Parameters
        ----------
        call : callable
            Takes the number of bytes that it may use. It can be repeated without harm.

        Returns
        -------
        object
            The result of `call`.

        Raises
        ------
        Exception
            The error of `call`, if it is not a lack of memory, or if half of the working memory
            would be less than 8 MiB.

        Warns
        -----
        ResourceWarning
            The first time that memory runs out.

        Examples
        --------
        >>> from zmanifold._base.memory import Room
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
    # On a CPU torch raises a plain RuntimeError that names its allocator.
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
