"""What the mixers' Triton kernels share: where they run, and how numbers reach them."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import torch

__all__ = ["bits", "device_of", "is_drawn_there", "padded", "runs_kernels"]

# A kernel starts on the current GPU: within `with device_of(x)` that is the GPU of x.
device_of: Any = torch.cuda.device_of


def runs_kernels(device: torch.device) -> bool:
    """Tell whether kernels of our own may compute on this device now.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.mixers._kernels import runs_kernels
    >>> runs_kernels(torch.device("cpu"))
    False
    """
    return (
        device.type == "cuda"
        and not torch.compiler.is_compiling()
        # Tensors under transformations of torch.func have no memory that a kernel could read.
        and torch._C._functorch.peek_interpreter_stack() is None
        and _compiles(device)
    )


@lru_cache
def _compiles(device: torch.device) -> bool:
    """Tell whether Triton, which is optional, compiles kernels for this GPU."""
    try:
        from triton.runtime import driver

        # Whether they can be imported.
        import zmanifold.mixers._pairs_triton
        import zmanifold.mixers._zeta_triton  # noqa: F401

        # Triton compiles its driver, which needs a C compiler.
        driver.active.get_current_target()
    except Exception:
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (7, 0)


def is_drawn_there(generator: torch.Generator | None, device: torch.device) -> bool:
    """Tell whether a batch on this device is mixed with numbers that are drawn on it.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.mixers._kernels import is_drawn_there
    >>> is_drawn_there(torch.Generator(), torch.device("cuda", 0))
    False
    """
    source = device if generator is None else generator.device
    # A generator made for "cuda" does not say which GPU: that is the current one.
    return source in (device, torch.device(device.type))


def padded(count: int) -> int:
    """Return the least power of two that is at least this count: blocks have such sizes.

    Examples
    --------
    >>> from zmanifold.mixers._kernels import padded
    >>> padded(1), padded(5), padded(8)
    (1, 8, 8)
    """
    return 1 << (count - 1).bit_length()


def bits(number: float) -> int:
    """Return a float64 as an integer: Triton would pass it as a float32.

    Examples
    --------
    >>> from zmanifold.mixers._kernels import bits
    >>> hex(bits(1.0))
    '0x3ff0000000000000'
    """
    return int(struct.unpack("<q", struct.pack("<d", number))[0])
