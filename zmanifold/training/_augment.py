"""The randomness of an epoch: the order of the samples, mirroring and random crops of images."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

__all__ = ["augmented", "randomness"]

# Each purpose has a random stream of its own, so that --flip and --crop leave the order unchanged.
_SHUFFLE, _AUGMENT = range(2)


def randomness(
    seed: int, epoch: int, n: int, device: torch.device
) -> tuple[Int64[Tensor, " n"], torch.Generator]:
    """Return an epoch's order of n rows and its generator; both depend on seed and epoch alone."""
    shuffle = np.random.default_rng([seed, epoch, _SHUFFLE]).permutation(n)
    state = np.random.SeedSequence([seed, epoch, _AUGMENT]).generate_state(1, np.uint64)
    # 63 bits: a generator's seed is a signed number of 64 bits.
    generator = torch.Generator(device).manual_seed(int(state[0]) >> 1)
    return torch.from_numpy(shuffle).to(device), generator


def augmented(
    x: Float[Tensor, "b c h w"], flip: bool, crop: int, generator: torch.Generator
) -> Float[Tensor, "b c h w"]:
    """Mirror each image with probability 1/2 and shift it by up to `crop` pixels, at random."""
    b, _, h, w = x.shape
    if flip:
        mirrored = torch.rand(b, 1, 1, 1, generator=generator, device=x.device) < 0.5
        x = torch.where(mirrored, x.flip(3), x)
    if crop:
        padded = nn.functional.pad(x, (crop,) * 4)
        moved = torch.randint(2 * crop + 1, (2, b, 1), generator=generator, device=x.device)
        rows = moved[0] + torch.arange(h, device=x.device)
        columns = moved[1] + torch.arange(w, device=x.device)
        samples = torch.arange(b, device=x.device)[:, None, None]
        x = padded.movedim(1, 3)[samples, rows[:, :, None], columns[:, None, :]].movedim(3, 1)
    return x
