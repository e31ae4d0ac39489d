"""Targets that are mixed with samples: classes, soft labels, masks, numbers of a regression."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from zmanifold._base.errors import InputError

__all__ = ["check_targets", "one_hot", "widened"]

# Larger numbers are not classes but, for example, hashes: a soft label would take megabytes.
_MOST_CLASSES = 10**6


def check_targets(y: Shaped[Tensor, "b *shape"], num_classes: int | None) -> None:
    """Raise InputError unless a mixer can mix these targets.

    Floats are mixed as they are: soft labels (b, K), and targets of a regression of any other
    shape. Integers are classes, one for each sample or, in a mask (b, height, width), for each
    pixel.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.mixers._targets import check_targets
    >>> check_targets(torch.tensor([0, 2]), 3)
    """
    shape = tuple(y.shape)
    if y.is_complex():
        raise InputError(
            f"y has dtype {y.dtype} but mixing needs floats or integers: convert it with "
            "torch.view_as_real(y)."
        )
    if y.is_floating_point():
        if num_classes is not None and y.ndim == 2 and y.shape[1] != num_classes:
            raise InputError(
                f"y holds soft labels of {y.shape[1]} classes but num_classes={num_classes}: give "
                f"the mixer num_classes={y.shape[1]}, or none for soft labels."
            )
        return
    if y.ndim == 2:
        column = y.shape[1] == 1
        raise InputError(
            f"y holds integers of shape {shape} but hard labels have shape (batch,): give "
            + ("y.squeeze(1)." if column else "floats for soft labels, y.float().")
        )
    if num_classes is None:
        raise InputError(
            "integer labels need num_classes: give it to the mixer, or pass soft labels of "
            "shape (batch, classes)."
        )


def one_hot(
    y: Shaped[Tensor, "b *shape"], num_classes: int, dtype: torch.dtype
) -> Float[Tensor, "b c *shape"]:
    """Return integer classes one-hot along axis 1, the axis of classes of `cross_entropy`.

    On a CPU unknown classes are refused. On other devices, and in compiled code, a check would make
    the host wait for the device: there an unknown class gives NaN, and so does the loss.

    Raises
    ------
    InputError
        If a class is negative, or `num_classes` or more.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.mixers._targets import one_hot
    >>> one_hot(torch.tensor([0, 2]), 3, torch.float32)
    tensor([[1., 0., 0.],
            [0., 0., 1.]])
    """
    classes = y.long().unsqueeze(1)
    zeros = torch.zeros((y.shape[0], num_classes, *y.shape[1:]), dtype=dtype, device=y.device)
    if y.device.type != "cpu" or torch.compiler.is_compiling():
        hot = zeros.scatter(1, classes.clamp(0, num_classes - 1), 1.0)
        # Not math.nan: a compiled graph would check that this global is unchanged, and NaN is not
        # equal to itself.
        return hot.masked_fill((classes < 0) | (classes >= num_classes), float("nan"))
    if y.numel():
        low, high = (int(extreme) for extreme in classes.aminmax())
        if low < 0 or high >= num_classes:
            raise _unknown_classes(low, high, num_classes, "sample" if y.ndim == 1 else "pixel")
    return zeros.scatter_(1, classes, 1.0)


def _unknown_classes(low: int, high: int, num_classes: int, owner: str) -> InputError:
    """Return the error for classes outside 0 to num_classes - 1, with the remedies that help."""
    own = "leave such samples out" if owner == "sample" else f"give such {owner}s a class"
    more = f"raise num_classes to {high + 1}"
    if high >= _MOST_CLASSES:
        more = "number the classes from 0, torch.unique(y, return_inverse=True)[1]"
    remedies = [own] * (low < 0) + [more] * (high >= num_classes)
    return InputError(
        f"y holds classes {low} to {high} but num_classes={num_classes} allows 0 to "
        f"{num_classes - 1}: {', and '.join(remedies)}."
    )


def widened(dtype: torch.dtype) -> torch.dtype:
    """Return a floating-point type, or float32 if it is narrower.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.mixers._targets import widened
    >>> widened(torch.float16), widened(torch.float64)
    (torch.float32, torch.float64)
    """
    # torch does not promote types of 8 bits.
    return torch.float32 if dtype.itemsize == 1 else torch.promote_types(dtype, torch.float32)
