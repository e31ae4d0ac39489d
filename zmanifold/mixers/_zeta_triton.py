"""ζ-mixup's weights and labels by one GPU kernel; only GPUs import this module, for Triton."""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from zmanifold.mixers._kernels import bits, device_of, padded

__all__ = ["drawn_rows"]

# The number of values in a two-dimensional block, 32 for each thread.
_TILE = 4096


def drawn_rows(
    keys: Float64[Tensor, "b b"],
    classes: Int64[Tensor, " b"] | None,
    *,
    gamma: tuple[float, float],
    uniform: Float64[Tensor, " 1"] | None,
    n_mix: int,
    anchored: bool,
    num_classes: int,
    dtype: torch.dtype,
) -> tuple[Float[Tensor, "b b"], Float[Tensor, "b c"]]:
    """Return weights by the ranks of keys in each row, and labels mixed with these weights.

    The host never waits for the GPU, and no memory outlives the call: a CUDA graph may capture it.

    Parameters
    ----------
    keys : torch.Tensor of shape (b, b)
        Random numbers in [0, 1). The key of rank r in its row, counted from 1, gets the weight
        r^-γ / Σ j^-γ. Of equal keys the first has the lower rank.
    classes : torch.Tensor of shape (b,), optional
        Integer labels. A label outside 0 to `num_classes` - 1 makes all soft labels NaN, as a
        product with a row of NaN does.
    gamma : (float, float)
        The lower and the upper bound of γ.
    uniform : torch.Tensor of shape (1,), optional
        The place of γ between these bounds, in [0, 1); the lower bound by default.
    n_mix : int
        The number of ranks with weights above 0.
    anchored : bool
        Whether the diagonal has rank 1.
    num_classes : int
        The number of classes.
    dtype : torch.dtype
        The dtype of the results, float32 or float64. Weights are computed in float64.

    Returns
    -------
    weights : torch.Tensor of shape (b, b)
        The weights of `ZetaMixup`.
    soft : torch.Tensor of shape (b, num_classes)
        The soft labels, without columns if there are no classes.
    """
    b = len(keys)
    k = 0 if classes is None else num_classes
    weights = torch.empty((b, b), dtype=dtype, device=keys.device)
    soft = torch.empty((b, k), dtype=dtype, device=keys.device)
    block = max(32, padded(b))
    with device_of(keys):
        _rows[(b,)](
            keys,
            keys if uniform is None else uniform,
            keys if classes is None else classes,
            weights,
            soft if k else weights,
            bits(gamma[0]),
            bits(0.0 if uniform is None else gamma[1] - gamma[0]),
            b,
            n_mix,
            k,
            block=block,
            chunk=min(block, _TILE // block),
            some_classes=min(padded(max(k, 1)), _TILE // block),
            anchored=anchored,
        )
    return weights, soft


@triton.jit(do_not_specialize=["low_bits", "span_bits", "b", "n_mix", "k"])
@no_type_check
def _rows(
    keys,
    uniform,
    classes,
    weights,
    soft,
    low_bits,
    span_bits,
    b,
    n_mix,
    k,
    block: tl.constexpr,
    chunk: tl.constexpr,
    some_classes: tl.constexpr,
    anchored: tl.constexpr,
):
    """Fill one row of the weights and of the labels."""
    i = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, block)
    # Numbers that are not negative are ordered as their bits are. Behind the row's end lie twos.
    own = tl.load(keys + i * b + places, mask=places < b, other=2.0).to(tl.int64, bitcast=True)
    if anchored:
        own = tl.where(places == i, -1, own)
    ranks = tl.zeros([block], dtype=tl.int32)
    for start in range(0, b, chunk):
        some = start + tl.arange(0, chunk)
        other = tl.load(keys + i * b + some, mask=some < b, other=2.0).to(tl.int64, bitcast=True)
        if anchored:
            other = tl.where(some == i, -1, other)
        less = other[None, :] < own[:, None]
        equal = other[None, :] == own[:, None]
        before = less | (equal & (some[None, :] < places[:, None]))
        ranks += tl.sum(before.to(tl.int32), axis=1)

    low = low_bits.to(tl.int64).to(tl.float64, bitcast=True)
    span = span_bits.to(tl.int64).to(tl.float64, bitcast=True)
    gamma = low + span * tl.load(uniform)
    # All rows add the terms in the same order.
    terms = tl.exp(-gamma * tl.log((places + 1).to(tl.float64)))
    total = tl.sum(tl.where(places < n_mix, terms, 0.0), axis=0)
    row = tl.exp(-gamma * tl.log((ranks + 1).to(tl.float64))) / total
    row = tl.where((ranks < n_mix) & (places < b), row, 0.0).to(weights.dtype.element_ty)
    tl.store(weights + i * b + places, row, mask=places < b)

    for start in range(0, k, some_classes):
        every = start + tl.arange(0, some_classes)
        label = tl.load(classes + places, mask=places < b, other=-1)
        shares = tl.where(label[None, :] == every[:, None], row[None, :], 0.0)
        unknown = (places < b) & ((label < 0) | (label >= k))
        poison = tl.where(tl.sum(unknown.to(tl.int32), axis=0) > 0, float("nan"), 0.0)
        tl.store(soft + i * k + every, tl.sum(shares, axis=1) + poison, mask=every < k)
