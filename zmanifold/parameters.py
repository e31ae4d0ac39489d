"""Numbers, devices and memory: the user's parameters, checked."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zmanifold.errors import InputError, unknown_name

__all__ = [
    "as_counts",
    "check_count",
    "check_n_neighbors",
    "holds",
    "is_number",
    "named_device",
    "resolve_device",
    "streaming_memory",
    "working_memory",
]

# Where nothing else is said: as much as chunks profit from, and a quarter of what is free.
_MOST_MEMORY = 2**30

# Going through a file: what compiled code and libraries still take, and what work needs at least.
_RESERVE = 160 * 2**20
_LEAST_STREAMING = 64 * 2**20


def resolve_device(device: str | torch.device = "auto", *, like: object = None) -> torch.device:
    """Turn a device's name into a device that exists here.

    Parameters
    ----------
    device : str or torch.device, default="auto"
        "cpu", "cuda", "cuda:N", or "auto": the device of `like` if that is a tensor, else a GPU
        where there is one, else the CPU.
    like : object, optional
        The user's array.

    Returns
    -------
    torch.device
        A device on which tensors can be made.

    Raises
    ------
    InputError
        If the name is unknown or no such device is here.

    Examples
    --------
    >>> from zmanifold.parameters import resolve_device
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if isinstance(device, str) and device == "auto":
        if isinstance(like, Tensor):
            return like.device
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    resolved = named_device(device)
    if resolved.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (resolved.index or 0) >= count:
            raise InputError(
                f"device={str(device)!r} is asked for but torch finds {count} CUDA devices here: "
                "use device='cpu' or 'auto'."
            )
    return resolved


def named_device(device: str | torch.device) -> torch.device:
    """Return the device of a name other than "auto", which need not exist here.

    Examples
    --------
    >>> from zmanifold.parameters import named_device
    >>> named_device("cuda:99")
    device(type='cuda', index=99)
    """
    try:
        named = torch.device(device)
    except (RuntimeError, TypeError):
        raise unknown_name("device", device, ["auto", "cpu", "cuda"]) from None
    if named.type not in ("cpu", "cuda"):
        raise unknown_name("device", str(device), ["auto", "cpu", "cuda"])
    return named


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
    >>> from zmanifold.parameters import working_memory
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


def is_number(value: Any) -> bool:
    """Tell whether `value` is a finite real number, NumPy's included, and not a truth value.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold.parameters import is_number
    >>> is_number(np.float32(2.8)), is_number(float("nan")), is_number(True), is_number("2.8")
    (True, False, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_count(name: str, value: Any, *, least: int = 1, most: int | None = None) -> int:
    """Return `value` as an int if it is a whole number of at least `least` and at most `most`.

    Parameters
    ----------
    name : str
        The parameter's name, for the message.
    value : object
        What was given.
    least : int, default=1
        The smallest number allowed.
    most : int, optional
        The largest one.

    Returns
    -------
    int
        The number.

    Raises
    ------
    InputError
        If it is not a whole number, too small or too large.

    Examples
    --------
    >>> from zmanifold.parameters import check_count
    >>> check_count("seeds", 3)
    3
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise InputError(
            f"{name}={value!r} is not a whole number: give an integer >= {least}."
        ) from None
    if number < least:
        raise InputError(f"{name}={number} is too small: give an integer >= {least}.")
    if most is not None and number > most:
        raise InputError(f"{name}={number} is too large: give an integer <= {most}.")
    return number


def as_counts(name: str, values: Any, *, least: int) -> list[int]:
    """Return one or several whole numbers of at least `least` as a list without repeats.

    Examples
    --------
    >>> from zmanifold.parameters import as_counts
    >>> as_counts("n_neighbors", (8, 128, 8), least=1), as_counts("n_neighbors", 8, least=1)
    ([8, 128], [8])
    """
    several = isinstance(values, Iterable) and not isinstance(values, (str, bytes, Mapping))
    # An array or tensor without axes is a number.
    several = several and getattr(values, "ndim", 1) > 0
    numbers = [check_count(name, v, least=least) for v in (values if several else [values])]
    if not numbers:
        raise InputError(f"{name} is empty: give at least one number.")
    return list(dict.fromkeys(numbers))


def check_n_neighbors(value: Any, n_points: int, *, least: int = 1, apart: bool = False) -> int:
    """Return the number of neighbours if the points have that many.

    Parameters
    ----------
    value : object
        The number of neighbours k asked for.
    n_points : int
        How many points there are.
    least : int, default=1
        The smallest k that makes sense to the caller.
    apart : bool, default=False
        Whether the queries are no rows of the points: then all points may be neighbours.

    Returns
    -------
    int
        k, with least <= k < n_points, or k <= n_points where the queries are apart.

    Raises
    ------
    InputError
        If it lies outside.

    Examples
    --------
    >>> from zmanifold.parameters import check_n_neighbors
    >>> check_n_neighbors(8, 100)
    8
    """
    k = check_count("n_neighbors", value, least=least)
    if k > n_points or (k == n_points and not apart):
        needed = f"at least {k} training samples" if apart else f"more than {k} points"
        raise InputError(f"n_neighbors={k} needs {needed}, got {n_points}: lower n_neighbors.")
    return k
