"""Compilation of functions with numba, and the parts of LLVM and NumPy that compiled code needs.

Compiled functions run without the interpreter's lock. Their machine code is cached on disk where a
folder for it can be written to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from zmanifold._base._code_cache import CodeCache

__all__ = [
    "CACHE_LINE",
    "aligned_zeros",
    "kernel",
    "single",
    "use_widest_vectors",
]

# Numbers of 64 bits in a line of a CPU's cache (64 bytes), and in a vector of AVX-512 (512 bits).
CACHE_LINE = 8


def kernel(*fastmath: str) -> Callable[[Any], Any]:
    """Return a decorator that compiles a function with numba on its first call.

    Parameters
    ----------
    *fastmath : str
        LLVM's fast-math flags, which allow it to reorder or fuse floating-point operations. By
        default each operation is rounded on its own, in the order of the source.

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
        compiled: Any = njit(**options)(function)
        # Where numba finds no folder to write compiled code to, each process compiles anew.
        with contextlib.suppress(RuntimeError):
            compiled._cache = CodeCache(function, sorted(fastmath))
        return compiled

    return decorate


@intrinsic
@no_type_check
def use_widest_vectors(context):
    """Compile the calling function with 512-bit vectors where the CPU has them.

    By default LLVM uses 256-bit vectors on Intel's CPUs, because the first models with AVX-512
    lowered their clock for wider ones. A loop that is limited by arithmetic, on aligned data, runs
    a third faster with 512 bits.

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
            # llvmlite's own `add` refuses attributes that have a value.
            set.add(attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
@no_type_check
def single(context, number):
    """Return a number as a float32: a float32 itself, or a bfloat16 stored as a uint16.

    NumPy and numba have no bfloat16 type, so that arrays of bfloat16 arrive as uint16. A bfloat16
    consists of the upper 16 bits of a float32: a shift by 16 bits converts it exactly.

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
    """Return zeros of shape (n_blocks, n_rows, width >= n_columns), for use in compiled code.

    Each row begins at a line of the cache, because a vector that lies across two lines takes twice
    the time to load. Rows are not a multiple of 512 bytes apart: a first-level cache picks one of
    its 64 sets by an address modulo 4096 bytes, so such rows would share at most 8 of the sets.

    Examples
    --------
    >>> from zmanifold._base.kernels import aligned_zeros
    >>> aligned_zeros(1, 2, 64).shape
    (1, 2, 72)
    """
    width = (n_columns + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE
    if width % 64 == 0:  # 512 bytes
        width += CACHE_LINE
    room = np.zeros(n_blocks * n_rows * width + CACHE_LINE)
    skipped = CACHE_LINE - room.ctypes.data // room.itemsize % CACHE_LINE
    return room[skipped : skipped + n_blocks * n_rows * width].reshape(n_blocks, n_rows, width)
