"""How functions are compiled: without the interpreter's lock, and kept on disk where possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

__all__ = [
    "CACHE_LINE",
    "aligned_zeros",
    "kernel",
    "single",
    "use_widest_vectors",
]

# Numbers of 64 bits in a line of a CPU's cache, and in its widest vectors.
CACHE_LINE = 8


def kernel(*fastmath: str) -> Callable[[Any], Any]:
    """Return a decorator that compiles a function with numba on its first call.

    Parameters
    ----------
    *fastmath : str
        LLVM's flags for what floating-point arithmetic may do; by default every operation rounds
        by itself and in order.

    Examples
    --------
    >>> from zmanifold._base.kernels import kernel
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


@intrinsic
@no_type_check
def use_widest_vectors(context):
    """Compile the calling function with 512-bit vectors where the CPU has them.

    Of its own accord LLVM takes half of them on Intel's CPUs, whose first models with AVX-512
    slowed down for them. What is held by arithmetic alone, on aligned data, gains by a third.

    Examples
    --------
    >>> import numba
    >>> from zmanifold._base.kernels import use_widest_vectors
    >>> @numba.njit
    ... def twice(x):
    ...     use_widest_vectors()
    ...     return x + x
    >>> twice(2)
    4
    """

    def generate(context, builder, signature, arguments):
        attributes = builder.function.attributes
        if isinstance(attributes, set):
            # llvmlite's own `add` knows only attributes without a value.
            set.add(attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
@no_type_check
def single(context, number):
    """Return a float32 as it is, and of a uint16 the bfloat16 whose bits it holds, as a float32.

    NumPy and numba have no bfloat16. It is the upper half of a float32.

    Examples
    --------
    >>> import numba, numpy as np
    >>> from zmanifold._base.kernels import single
    >>> @numba.njit
    ... def first(x):
    ...     return single(x[0])
    >>> first(np.array([1.5], np.float32)), first(np.array([0x3FC0], np.uint16))
    (1.5, 1.5)
    """
    if number not in (types.float32, types.uint16):
        return None

    def generate(context, builder, signature, arguments):
        (given,) = arguments
        if number == types.float32:
            return given
        word = context.get_value_type(types.uint32)
        bits = builder.shl(builder.zext(given, word), word(16))
        return builder.bitcast(bits, context.get_value_type(types.float32))

    return types.float32(number), generate


@kernel()
@no_type_check
def aligned_zeros(n_blocks, n_rows, n_columns):
    """Return zeros whose rows begin with lines of the cache, for use in compiled code.

    Vectors that lie across two lines take twice the time to load. The rows are padded to whole
    lines, and not a power of two of them apart: such rows would share few places of the cache.

    Examples
    --------
    >>> from zmanifold._base.kernels import aligned_zeros
    >>> aligned_zeros(1, 2, 64).shape
    (1, 2, 72)
    """
    width = (n_columns + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE
    if width % 64 == 0:
        width += CACHE_LINE
    room = np.zeros(n_blocks * n_rows * width + CACHE_LINE)
    skipped = CACHE_LINE - room.ctypes.data // room.itemsize % CACHE_LINE
    return room[skipped : skipped + n_blocks * n_rows * width].reshape(n_blocks, n_rows, width)
