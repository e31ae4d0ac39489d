"""Checks of the user's parameters: numbers, counts and devices."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from zmanifold._base.errors import InputError, unknown_name

__all__ = [
    "as_counts",
    "check_count",
    "check_n_neighbors",
    "is_number",
    "named_device",
    "resolve_device",
]


def resolve_device(device: str | torch.device = "auto", *, like: object = None) -> torch.device:
    """Turn a device's name into a device that this machine has.

    Parameters
    ----------
    device : str or torch.device, default="auto"
        "cpu", "cuda", "cuda:N", or "auto": the device of `like` if that is a tensor, else a GPU
        if the machine has one, else the CPU.
    like : object, optional
        The user's data.

    Returns
    -------
    torch.device
        A device on which tensors can be made.

    Raises
    ------
    InputError
        If the name is unknown, or the machine has no such device.

    Examples
    --------
    >>> from zmanifold._base.checks import resolve_device
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
    """Return the device of a name other than "auto"; this machine need not have it.

    Examples
    --------
    >>> from zmanifold._base.checks import named_device
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


def is_number(value: Any) -> bool:
    """Tell whether `value` is a finite real number, NumPy's included, and not a truth value.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold._base.checks import is_number
    >>> is_number(np.float32(2.8)), is_number(float("nan")), is_number(True), is_number("2.8")
    (True, False, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_count(name: str, value: Any, *, least: int = 1, most: int | None = None) -> int:
    """Return `value` as an int if it is a whole number from `least` to `most`.

    Parameters
    ----------
    name : str
        The parameter's name, for the message.
    value : object
        The user's value.
    least : int, default=1
        The smallest number allowed.
    most : int, optional
        The largest number allowed; by default there is no limit.

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
    >>> from zmanifold._base.checks import check_count
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
    """Return one number, or several, as a list of ints without repeats, each at least `least`.

    Examples
    --------
    >>> from zmanifold._base.checks import as_counts
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
    """Return the number of neighbours as an int if a point can have that many.

    Parameters
    ----------
    value : object
        The number of neighbours k, as the user gave it.
    n_points : int
        The number of points.
    least : int, default=1
        The smallest k allowed.
    apart : bool, default=False
        Whether the queries are a set of their own. If they are rows of the points, a query is not
        its own neighbour, which leaves n_points - 1.

    Returns
    -------
    int
        k, with least <= k < n_points, or k <= n_points where the queries are a set of their own.

    Raises
    ------
    InputError
        If k is outside of that range.

    Examples
    --------
    >>> from zmanifold._base.checks import check_n_neighbors
    >>> check_n_neighbors(8, 100)
    8
    """
    k = check_count("n_neighbors", value, least=least)
    if k > n_points or (k == n_points and not apart):
        needed = f"at least {k} training samples" if apart else f"more than {k} points"
        raise InputError(f"n_neighbors={k} needs {needed}, got {n_points}: lower n_neighbors.")
    return k
