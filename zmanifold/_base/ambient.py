"""Ambient state of torch and NumPy, which neither reaches into the public functions nor is changed.

Functions that compute are decorated with ``@ambient_outside()``: inside, torch and NumPy are as in a
new process. Deterministic mode stays as the user has set it: it selects among algorithms whose
results all count as right, and whoever trains may depend on it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["ambient_outside", "autocast_outside"]

# The devices on which the package computes.
_DEVICES = ("cpu", "cuda")

# The default type of torch is one of the process, not of a thread.
_lock = threading.Lock()
_inside = 0
_users_dtype = torch.float32


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
        stack.enter_context(
            np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
        )
        for device in _DEVICES:
            stack.enter_context(autocast_outside(device))
        # The context slows every call of torch down: it is entered where it is needed.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        stack.enter_context(_float32_by_default())
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


@contextlib.contextmanager
def _float32_by_default() -> Iterator[None]:
    """Make float32 the default type.

    Of calls that overlap in several threads the first sets it and the last puts the user's back.
    """
    global _inside, _users_dtype
    with _lock:
        needed = _inside > 0 or torch.get_default_dtype() != torch.float32
        if needed and not _inside:
            _users_dtype = torch.get_default_dtype()
            torch.set_default_dtype(torch.float32)
        _inside += needed
    try:
        yield
    finally:
        with _lock:
            _inside -= needed
            if needed and not _inside:
                torch.set_default_dtype(_users_dtype)
