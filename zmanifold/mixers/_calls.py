"""Calls of mixers: their randomness, and the checks of what they return."""

from __future__ import annotations

import contextlib
import inspect
import random
import threading
import types
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from zmanifold._base.arrays import as_array, as_real_tensor
from zmanifold._base.errors import InputError
from zmanifold._base.labels import check_one_a_sample
from zmanifold.mixers._targets import one_hot, widened

__all__ = ["called", "check_samples", "classes_of", "distributions", "parts_of"]

# A mixer may have state, or use torch's global generator: threads call mixers one at a time. A
# mixer may itself call functions that call mixers. These calls, and those of threads that they
# start (`run_chunks` passes the context on), have a lock of their own: they would wait forever for
# the lock that the outer call holds.
_everyones_turn = threading.Lock()
_turns: ContextVar[threading.Lock] = ContextVar("turns", default=_everyones_turn)

_RETURNS = "return x_mixed, (x_mixed, y), (x_mixed, y, loss_weights) or (x_mixed, y_a, y_b, lam)"


def called(
    function: Callable[..., Any],
    generator: torch.Generator,
    *args: Any,
    seed: int | None = None,
    **may: Any,
) -> Any:
    """Call a function so that its randomness is the generator's, with those keywords it takes.

    A function without the keyword ``generator`` draws from the global generators, seeded by `seed`
    or, without it, by the generator's next number.
    """
    taken = _keywords_of(function)
    options = {name: value for name, value in may.items() if name in taken and value is not None}
    with _one_at_a_time():
        if "generator" in taken:
            return function(*args, generator=generator, **options)
        if seed is None:
            seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        with _seeded(seed):
            return function(*args, **options)


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    with _turns.get():
        outer = _turns.set(threading.Lock())
        try:
            yield
        finally:
            _turns.reset(outer)


def _keywords_of(function: Callable[..., Any]) -> frozenset[str]:
    target = function.forward if isinstance(function, torch.nn.Module) else function
    if isinstance(target, types.MethodType):
        # Cached, because a signature takes as long as the weights of a small batch.
        return _keywords_of_method(target.__func__)
    try:
        return frozenset(inspect.signature(target).parameters)
    except (TypeError, ValueError):
        return frozenset()


@lru_cache
def _keywords_of_method(function: Callable[..., Any]) -> frozenset[str]:
    return _keywords_of(function)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python, and restore them at the end."""
    python, numpy_state = random.getstate(), np.random.get_state()
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    with torch.random.fork_rng(devices=range(n_gpus)):
        try:
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)


def parts_of(
    returned: Any, mixer: Any, x: Tensor, y: Tensor, num_classes: int | None
) -> tuple[Any, Tensor, Tensor | None]:
    """Return the samples, labels and loss weights that a callable returned in one of its forms."""
    parts = list(returned) or [None] if isinstance(returned, (tuple, list)) else [returned]
    if len(parts) == 2 and isinstance(parts[1], (tuple, list)):
        parts = [parts[0], *parts[1]]
    if len(parts) > 4:
        raise InputError(f"the mixer returned {len(parts)} values: {_RETURNS}.")
    if isinstance(parts[0], np.ndarray):
        parts[0] = as_real_tensor(parts[0], "the mixer's first value").to(x.device)
    if len(parts) == 4:
        x_mixed, y_a, y_b, lam = parts
        classes = classes_of(mixer, num_classes)
        first, second = (
            distributions(as_real_tensor(labels, "labels"), classes, x.dtype)
            for labels in (y_a, y_b)
        )
        share = torch.as_tensor(lam, dtype=torch.float64, device=first.device).reshape(-1)
        if len(share) not in (1, len(first)) or first.shape != second.shape:
            raise InputError(
                f"the mixer returned lam of shape {tuple(share.shape)} for {len(first)} samples: "
                "return one number, or one a sample."
            )
        share = share.view(-1, *[1] * (first.ndim - 1)).to(first.dtype)
        return x_mixed, share * first + (1 - share) * second, None
    y_mixed = _labels(parts[1], len(y)) if len(parts) > 1 else y
    weights = parts[2] if len(parts) == 3 else None
    if weights is not None and not (isinstance(weights, Tensor) and weights.shape == (len(y),)):
        raise InputError(
            f"the mixer returned {_shape_of(weights)} as third value for {len(y)} samples: "
            f"{_RETURNS}, with one loss weight a sample."
        )
    return parts[0], y_mixed, weights


def _labels(given: Any, b: int) -> Tensor:
    name = "the mixer's second value"
    check_one_a_sample(as_array(given, name).shape, b, name)
    return as_real_tensor(given, name)


def classes_of(mixer: Any, num_classes: int | None) -> int | None:
    own = getattr(mixer, "num_classes", None)
    return num_classes if num_classes is not None else own


def distributions(
    y: Shaped[Tensor, "b *shape"], num_classes: int | None, dtype: torch.dtype
) -> Float[Tensor, "b *other"]:
    """Return floats as they are, and classes one-hot in the samples' dtype or float32."""
    if y.is_floating_point():
        return y
    if y.ndim == 2:
        # One-hot already.
        return y.double()
    if num_classes is None:
        raise InputError(
            "integer labels are mixed but the number of classes is not known: give num_classes, "
            "or soft labels of shape (batch, classes)."
        )
    return one_hot(y, num_classes, widened(dtype))


def check_samples(mixed: Any, x: Tensor) -> None:
    real = isinstance(mixed, Tensor) and not mixed.is_complex() and not mixed.is_sparse
    if not real or mixed.numel() != x.numel() or len(mixed) != len(x):
        raise InputError(
            f"the mixer returned {_shape_of(mixed)} for a batch of shape {tuple(x.shape)}: "
            "return (x_mixed, y) with as many samples of the same shape."
        )


def _shape_of(value: Any) -> str:
    return f"{type(value).__name__} of shape {tuple(getattr(value, 'shape', ()))}"
