"""A whole data set, shuffled, cut into batches and mixed, as a function of one seed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from zmanifold.arrays import largest_magnitude
from zmanifold.chunking import chunks
from zmanifold.errors import InputError

__all__ = ["Batches", "query_rows"]

# A seed's randomness is split by purpose, so that none shifts another.
_SHUFFLE, _QUERIES, _BATCHES = range(3)


def _stream(seed: int, purpose: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, purpose])


def query_rows(seed: int, n: int, q: int) -> Int64[Tensor, " q"]:
    """Draw q of the n rows of a shuffled set, ascending; the same for every mixer of a seed."""
    if q == n:
        return torch.arange(n)
    chosen = np.random.default_rng(_stream(seed, _QUERIES)).choice(n, q, replace=False)
    return torch.from_numpy(np.sort(chosen))


@dataclass(frozen=True, eq=False)
class Batches:
    """A data set that can be shuffled, cut into batches and mixed."""

    points: Float[Tensor, "n d"]
    labels: NDArray[Any] | None
    image_shape: Sequence[int] | None
    batch_size: int
    memory: int

    def mixed(self, mixer: Any, seed: int, *, trial: bool = False) -> Float[Tensor, "m d"]:
        """Return the mixed set in shuffled order; the original's rows are in the same order.

        A trial mixes the first batch alone: it shows a mixer's errors before any work.
        """
        n = len(self.points)
        shuffle = np.random.default_rng(_stream(seed, _SHUFFLE)).permutation(n)
        order = torch.from_numpy(shuffle).to(self.points.device)
        if mixer is None:
            return self.points[order]
        n_batches = -(-n // self.batch_size)
        filled = torch.cat([order, order[: n_batches * self.batch_size - n]])
        rows = filled.view(n_batches, self.batch_size)
        # Each batch has a seed of its own: any batch can be mixed without the ones before it.
        seeds = _stream(seed, _BATCHES).generate_state(n_batches, np.uint64).tolist()
        linear = callable(getattr(mixer, "weights", None))
        if trial:
            rows, seeds = rows[:1], seeds[:1]
        out = (self._mixed_linearly if linear else self._mixed_by_call)(mixer, rows, seeds)
        if not math.isfinite(largest_magnitude(out)):
            raise InputError(
                f"mixer {mixer!r} made values that are not finite: check its arithmetic."
            )
        return out[:n]

    def _mixed_linearly(
        self, mixer: Any, rows: Int64[Tensor, "batches b"], seeds: list[int]
    ) -> Float[Tensor, "m d"]:
        b, d = self.batch_size, self.points.shape[1]
        out = self.points.new_empty((rows.numel(), d))
        draw = _seeded(mixer.weights, dtype=torch.float64)
        for part in chunks(len(rows), min(self.memory, 2**25) // (16 * b * (b + d))):
            weights = torch.stack([self._checked(draw(seed, b)) for seed in seeds[part]])
            # Mixed in float64 and rounded once: points that coincide exactly (γ = 0) stay equal.
            mixed = weights @ self.points[rows[part]].double()
            out[part.start * b : part.stop * b] = mixed.reshape(-1, d)
        return out

    def _checked(self, drawn: Any) -> Float[Tensor, "b b"]:
        weights: Tensor = torch.as_tensor(drawn, dtype=torch.float64, device=self.points.device)
        if weights.shape != (self.batch_size, self.batch_size):
            raise InputError(
                f"the mixer's weights have shape {tuple(weights.shape)} for a batch of "
                f"{self.batch_size}: return one row a mixed sample, one column a sample."
            )
        return weights

    def _mixed_by_call(
        self, mixer: Any, rows: Int64[Tensor, "batches b"], seeds: list[int]
    ) -> Float[Tensor, "m d"]:
        b, d = self.batch_size, self.points.shape[1]
        labels = np.zeros(len(self.points), np.int64) if self.labels is None else self.labels
        y = torch.from_numpy(labels).to(self.points.device)
        out = self.points.new_empty((rows.numel(), d))
        call = _seeded(mixer)
        for i, (batch, seed) in enumerate(zip(rows, seeds, strict=True)):
            x = self.points[batch]
            result = call(seed, x.view(b, *self.image_shape) if self.image_shape else x, y[batch])
            mixed = result[0] if isinstance(result, (tuple, list)) else result
            if not isinstance(mixed, Tensor) or mixed.numel() != b * d or len(mixed) != b:
                raise InputError(
                    f"the mixer returned {type(mixed).__name__} of shape "
                    f"{tuple(getattr(mixed, 'shape', ()))} for a batch of shape {tuple(x.shape)}: "
                    "return (x_mixed, y) with as many samples of the same shape."
                )
            out[i * b : (i + 1) * b] = mixed.detach().reshape(b, d)
        return out


def _seeded(function: Callable[..., Any], **wanted: Any) -> Callable[..., Any]:
    """Make `function` a function of a seed as well, through a generator or torch's global state.

    Of the `wanted` keywords it gets those that it takes.
    """
    target = function.forward if isinstance(function, torch.nn.Module) else function
    try:
        parameters: Any = inspect.signature(target).parameters
    except ValueError:
        parameters = ()
    taken = {name: value for name, value in wanted.items() if name in parameters}
    generator = torch.Generator()

    def explicit(seed: int, *args: Any) -> Any:
        return function(*args, generator=generator.manual_seed(seed), **taken)

    def through_global(seed: int, *args: Any) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return function(*args, **taken)

    return explicit if "generator" in parameters else through_global
