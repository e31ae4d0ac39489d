"""Working memory: how much a call may use, and what happens where the machine has less."""

from __future__ import annotations

import ctypes
import math
import re
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch

from zmanifold._base.checks import check_count
from zmanifold._base.errors import InputError

__all__ = ["Room", "holds", "return_freed_memory", "streaming_memory", "working_memory"]

Result = TypeVar("Result")

# Where nothing else is said: as much as chunks profit from, and a quarter of what is free.
_MOST_MEMORY = 2**30


# Going through a file: what compiled code and libraries still take, and what work needs at least.
_RESERVE = 160 * 2**20

_LEAST_STREAMING = 64 * 2**20


def working_memory(memory_limit: int | None, device: torch.device) -> int:
    """Bytes that the chunked routines may use above the data.

    Parameters
    ----------
    memory_limit : int or None
        What the user allows; None takes a quarter of what is free, on a CPU at most 1 GiB.
    device : torch.device
        Where the work runs.

    Returns
    -------
    int
        The number of bytes, at least 1 MiB.

    Raises
    ------
    InputError
        If `memory_limit` is below 1 MiB, where a chunk no longer holds a single row.

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
        return max(2**20, min(_MOST_MEMORY, _free_memory() // 4))
    limit = check_count("memory_limit", memory_limit)
    if limit < 2**20:
        raise InputError(
            f"memory_limit={limit} is below 1 MiB (2**20 bytes): allow at least that much."
        )
    return limit


def holds(n_bytes: int, memory_limit: int | None) -> bool:
    """Tell whether mixed copies of a memory-mapped file, of so many bytes, are to be held.

    They are if the user's limit allows it, or by default half of what is free.
    """
    return n_bytes <= (_free_memory() // 2 if memory_limit is None else memory_limit)


def streaming_memory(memory_limit: int | None, kept: int = 0) -> int:
    """Bytes that the routines may use which go through a memory-mapped file.

    Here the limit is one on all of the process's anonymous memory: what it has taken already,
    and what compiled code and libraries will still take, is subtracted.

    Parameters
    ----------
    memory_limit : int or None
        What the user allows; by default half of what is free.
    kept : int, default=0
        Bytes that are needed besides, all the time.

    Returns
    -------
    int
        The number of bytes.

    Raises
    ------
    InputError
        If too little is left to work with.
    """
    if memory_limit is None:
        return max(_LEAST_STREAMING, min(_MOST_MEMORY, _free_memory() // 2))
    taken = _status("/proc/self/status", r"^RssAnon: *(\d+) kB")
    taken = kept + _RESERVE + (1024 * int(taken) if math.isfinite(taken) else _RESERVE)
    left = check_count("memory_limit", memory_limit) - taken
    if left < _LEAST_STREAMING:
        least = math.ceil((taken + _LEAST_STREAMING) / 2**20)
        raise InputError(
            f"memory_limit={memory_limit} is too little to go through a file that does not fit: "
            f"allow at least {least} MiB."
        )
    return left


def _status(path: str, pattern: str) -> float:
    """Return a number that Linux says of the machine or process; infinite where it does not."""
    try:
        found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) if found else math.inf


def _free_memory() -> int:
    """Bytes that this process can take without swapping, its container's limit included.

    Where the system does not say (anything but Linux), what makes the default 512 MiB.
    """
    free = 1024 * _status("/proc/meminfo", r"^MemAvailable: *(\d+) kB")
    group = "/sys/fs/cgroup/memory"
    limit = _status(f"{group}.max", r"^(\d+)")
    if math.isfinite(limit):
        used = _status(f"{group}.current", r"^(\d+)")
        cached = _status(f"{group}.stat", r"^inactive_file (\d+)")
        used -= cached if math.isfinite(cached) else 0
        free = min(free, limit - used if math.isfinite(used) else limit)
    return max(0, int(free)) if math.isfinite(free) else 2**31


# Below this many bytes of working memory, less of it would change nothing.
_LEAST_ROOM = 2**23


def return_freed_memory() -> None:
    """Hand memory that was freed back to the system, where the C library keeps it.

    glibc keeps blocks that were freed for the thread that had them: without this, phases with
    blocks of different sizes take the sum of what each of them needs.

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
    # torch on a CPU has no exception of its own for it.
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
