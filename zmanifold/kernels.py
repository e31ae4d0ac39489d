"""How functions are compiled: without the interpreter's lock, and kept on disk where possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

__all__ = ["kernel"]


def kernel(*fastmath: str) -> Callable[[Any], Any]:
    """Return a decorator that compiles a function with numba on its first call.

    Parameters
    ----------
    *fastmath : str
        LLVM's flags for what floating-point arithmetic may do; by default every operation rounds
        by itself and in order.

    Examples
    --------
    >>> from zmanifold.kernels import kernel
    >>> @kernel()
    ... def twice(x):
    ...     return x + x
    >>> twice(2)
    4
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath)}

    def decorate(function: Any) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:
            # No folder for compiled code can be written to: compile anew in each process.
            return njit(**options)(function)

    return decorate
