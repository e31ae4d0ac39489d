"""mixup by two GPU kernels: the pairs with their labels, and the samples; only GPUs import it."""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from zmanifold.mixers._kernels import bits, device_of, padded

__all__ = ["mixed_pairs", "pairs_and_labels"]

# Values in a block: 16 samples' values or keys, or 8 shares of labels, for each of 128 threads.
_VALUES = 2048
_KEYS = 2048
_SHARES = 1024


def pairs_and_labels(
    uniforms: Float64[Tensor, " n"],
    classes: Int64[Tensor, " b"] | None,
    *,
    batch_size: int,
    alpha: float,
    num_classes: int,
    dtype: torch.dtype,
) -> tuple[Float64[Tensor, " b"], Int64[Tensor, " b"], Float[Tensor, "b c"]]:
    """Return what `Mixup._pairs_of` makes of the same numbers, and labels mixed with it.

    The host never waits for the GPU, and no memory outlives the call: a CUDA graph may capture it.

    Parameters
    ----------
    uniforms : torch.Tensor of shape (2 + b,) or (3 b,)
        Random numbers in [0, 1): two for λ, or two times b for λ of each sample, then b keys. The
        partner of sample r is the sample whose key has rank r. Of equal keys the first has the
        lower rank.
    classes : torch.Tensor of shape (b,), optional
        Integer labels. A label outside 0 to `num_classes` - 1 makes all soft labels NaN, as a
        product with a row of NaN does.
    batch_size : int
        The number b of samples.
    alpha : float
        α of `Mixup`.
    num_classes : int
        The number of classes.
    dtype : torch.dtype
        The dtype of the labels, float32 or float64. They are computed in float64.

    Returns
    -------
    lam : torch.Tensor of shape (b,)
        The weight λ of each sample.
    partner : torch.Tensor of shape (b,)
        The sample that it is mixed with.
    soft : torch.Tensor of shape (b, num_classes)
        The soft labels, without columns if there are no classes.
    """
    k = 0 if classes is None else num_classes
    lam = torch.empty(batch_size, dtype=torch.float64, device=uniforms.device)
    partner = torch.empty(batch_size, dtype=torch.int64, device=uniforms.device)
    soft = torch.empty((batch_size, k), dtype=dtype, device=uniforms.device)
    lambdas = (len(uniforms) - batch_size) // 2
    with device_of(uniforms):
        _draw_pairs[(batch_size,)](
            uniforms,
            partner if classes is None else classes,
            lam,
            partner,
            soft if k else lam,
            bits(alpha),
            batch_size,
            lambdas,
            k,
            chunk=min(max(32, padded(batch_size)), _KEYS),
            some_classes=min(padded(max(k, 1)), _SHARES),
            labelled=k > 0,
        )
    return lam, partner, soft


def mixed_pairs(
    lam: Float64[Tensor, " b"], partner: Int64[Tensor, " b"], rows: Float[Tensor, "b d"]
) -> Float[Tensor, "b d"]:
    """Return λ x_r + (1 - λ) x_partner(r) for each row r.

    Each product and sum is one of float32, for rows of float64 of float64. A row that is its own
    partner stays as it is.

    Parameters
    ----------
    lam : torch.Tensor of shape (b,)
        The weight λ of each row.
    partner : torch.Tensor of shape (b,)
        The row that it is mixed with.
    rows : torch.Tensor of shape (b, d)
        Rows of a float dtype of 16 bits or more, in any memory layout.

    Returns
    -------
    torch.Tensor of shape (b, d)
        The mixed rows, contiguous.
    """
    rows = rows.resolve_neg().contiguous()
    b, d = rows.shape
    mixed = torch.empty_like(rows)
    block = min(max(32, padded(max(d, 1))), _VALUES)
    with device_of(rows):
        # All blocks in one axis, because the others of a grid end at 65,535.
        _mix_pairs[(b * triton.cdiv(d, block),)](
            rows, lam, partner, mixed, b, d, block=block, double=rows.dtype == torch.float64
        )
    return mixed


@triton.jit(do_not_specialize=["alpha_bits", "b", "lambdas", "k"])
@no_type_check
def _draw_pairs(
    uniforms,
    classes,
    lam,
    partner,
    soft,
    alpha_bits,
    b,
    lambdas,
    k,
    chunk: tl.constexpr,
    some_classes: tl.constexpr,
    labelled: tl.constexpr,
):
    """Find whose partner sample j is, and write that sample's λ, partner and labels."""
    j = tl.program_id(0).to(tl.int64)
    keys = uniforms + 2 * lambdas
    # Numbers that are not negative are ordered as their bits are. Behind the end lie twos.
    own = tl.load(keys + j).to(tl.int64, bitcast=True)
    before = tl.zeros([chunk], dtype=tl.int32)
    unknown = tl.zeros([chunk], dtype=tl.int32)
    for start in range(0, b, chunk):
        some = start + tl.arange(0, chunk)
        other = tl.load(keys + some, mask=some < b, other=2.0).to(tl.int64, bitcast=True)
        before += ((other < own) | ((other == own) & (some < j))).to(tl.int32)
        if labelled:
            label = tl.load(classes + some, mask=some < b, other=0)
            unknown += ((label < 0) | (label >= k)).to(tl.int32)
    r = tl.sum(before, axis=0).to(tl.int64)

    # As `_symmetric_beta` does it.
    place = tl.where(lambdas > 1, r, 0)
    alpha = alpha_bits.to(tl.int64).to(tl.float64, bitcast=True)
    exponent = -tl.log(1.0 - tl.load(uniforms + place)) / alpha
    spread = tl.exp(tl.minimum(exponent, 600.0)) - 1.0
    turn = tl.cos(3.141592653589793 * tl.load(uniforms + lambdas + place))
    t = tl.sqrt(spread) * tl.abs(turn)
    root = t + tl.sqrt(t * t + 1.0)
    smaller = 1.0 / (root * root + 1.0)
    first = tl.where(turn < 0, smaller, 1.0 - smaller)
    second = 1.0 - first
    tl.store(lam + r, first)
    tl.store(partner + r, j)

    if labelled:
        poison = tl.where(tl.sum(unknown, axis=0) > 0, float("nan"), 0.0)
        class_r = tl.load(classes + r)
        class_j = tl.load(classes + j)
        for start in range(0, k, some_classes):
            every = start + tl.arange(0, some_classes)
            share = tl.where(every == class_r, first, 0.0) + tl.where(every == class_j, second, 0.0)
            share = (share + poison).to(soft.dtype.element_ty)
            tl.store(soft + r * k + every, share, mask=every < k)


@triton.jit(do_not_specialize=["b"])
@no_type_check
def _mix_pairs(x, lam, partner, mixed, b, d, block: tl.constexpr, double: tl.constexpr):
    """Mix one block of a row."""
    program = tl.program_id(0)
    # Neighbouring programs mix the same columns of all rows: the cache still holds a partner's
    # block when it is read again as that sample's own.
    r = (program % b).to(tl.int64)
    start = (program // b).to(tl.int64) * block
    places = tl.arange(0, block)
    inside = places < d - start
    j = tl.load(partner + r)
    first = tl.load(lam + r)
    second = 1.0 - first
    own = tl.load(x + (r * d + start) + places, mask=inside)
    other = tl.load(x + (j * d + start) + places, mask=inside)
    if double:
        sum_ = first * own + second * other
    else:
        sum_ = first.to(tl.float32) * own.to(tl.float32) + second.to(tl.float32) * other.to(
            tl.float32
        )
    # In float32 the two weights need not sum to 1.
    sum_ = tl.where(j == r, own, sum_.to(own.dtype))
    tl.store(mixed + (r * d + start) + places, sum_, mask=inside)
