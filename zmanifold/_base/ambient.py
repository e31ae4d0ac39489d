"""Ambient state of torch and NumPy: it stays outside of the public functions, and unchanged.

Functions that compute are decorated with ``@ambient_outside()``: inside, torch and NumPy are as in
a new process. Two settings stay as the user has made them, because a training may depend on them:
deterministic mode, and the precision of float32 products, except where a bound needs it
(`zmanifold._base.matmul.full_precision`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np
import torch

__all__ = ["ProcessWide", "ambient_outside", "autocast_outside"]

Value = TypeVar("Value")

# The devices on which the package computes.
_DEVICES = ("cpu", "cuda")


class ProcessWide(Generic[Value]):
    """A setting of torch that all threads share, and that a call needs at another value.

    Of calls that overlap in several threads the first sets the value, and the last puts the user's
    back.

    Parameters
    ----------
    read : callable
        Returns the present value.
    write : callable
        Sets a value.

    Examples
    --------
    >>> import torch
    >>> from zmanifold._base.ambient import ProcessWide
    >>> dtype = ProcessWide(torch.get_default_dtype, torch.set_default_dtype)
    >>> with dtype.set_to(torch.float64):
    ...     print(torch.ones(()).dtype)
    torch.float64
    >>> torch.ones(()).dtype
    torch.float32
    """

    def __init__(self, read: Callable[[], Value], write: Callable[[Value], object]) -> None:
        self.read = read
        self.write = write
        self._lock = threading.Lock()
        self._calls = 0

    @contextlib.contextmanager
    def set_to(self, value: Value) -> Iterator[None]:
        """Set the value, the same in all calls, within this context."""
        with self._lock:
            needed = self._calls > 0 or self.read() != value
            if needed and not self._calls:
                self._users = self.read()
                self.write(value)
            self._calls += needed
        try:
            yield
        finally:
            with self._lock:
                self._calls -= needed
                if needed and not self._calls:
                    self.write(self._users)


_default_dtype = ProcessWide(torch.get_default_dtype, torch.set_default_dtype)


@contextlib.contextmanager
def ambient_outside() -> Iterator[None]:
    """Compute as in a new process, whatever the caller's defaults and contexts.

    Within, autocast is off, tensors are made on the CPU and in float32 by default, gradients can be
    computed, and NumPy warns of divisions by zero, overflow and invalid values.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from zmanifold._base.ambient import ambient_outside
    >>> @ambient_outside()
    ... def halves():
    ...     return torch.ones(1, 2) @ torch.ones(2, 1) / 4, np.float64(1e-300) ** 2
    >>> with torch.autocast("cpu"), torch.inference_mode(), np.errstate(all="raise"):
    ...     halves()
    (tensor([[0.5000]]), np.float64(0.0))
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        for device in _DEVICES:
            stack.enter_context(autocast_outside(device))
        # The context slows every call of torch down: it is entered where it is needed.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        stack.enter_context(_default_dtype.set_to(torch.float32))
        yield


def autocast_outside(device: str) -> contextlib.AbstractContextManager[object]:
    """Compute in the types of the tensors within this context, whatever the caller's autocast.

    Examples
    --------
    >>> import torch
    >>> from zmanifold._base.ambient import autocast_outside
    >>> with torch.autocast("cpu"), autocast_outside("cpu"):
    ...     print((torch.ones(1, 2) @ torch.ones(2, 1)).dtype)
    torch.float32
    """
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()
