"""Calls of mixers of any kind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["apply", "describe"]


def apply(
    mixer: Any, x: Tensor, y: Tensor, generator: torch.Generator, indices: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return mixed samples, soft labels, and the weights of their losses if there are any."""
    wanted = {"indices": indices} if hasattr(mixer, "fit") else {}
    if isinstance(mixer, nn.Module) and hasattr(mixer, "weights"):
        mixed, soft, *weights = mixer(x, y, generator=generator, **wanted)
    else:
        with torch.random.fork_rng():
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator, device=x.device)))
            mixed, soft, *weights = mixer(x, y, **wanted)
    return mixed, soft, weights[0] if weights else None


def describe(mixer: Any) -> str:
    """Return what tells a mixer from others."""
    return repr(mixer)
