"""Arrays of any shape as rows of points; the axes of images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmanifold._base.arrays import as_array, as_points, check_points
from zmanifold._base.errors import InputError
from zmanifold._base.mapped import is_mapped
from zmanifold.datasets.formats.registry import Contents

__all__ = ["as_flat"]

Array = NDArray[Any]

# The numbers of channels of images: grey, colour, colour with transparency.
_CHANNELS = (1, 3, 4)


def as_flat(contents: Contents, name: str) -> tuple[Array, tuple[int, ...] | None, tuple[str, ...]]:
    """Return points (n, d), the shape of an image if points are images, and notes on the axes.

    Raises
    ------
    InputError
        If values are not finite numbers, the shape does not fit, or two axes may be the channels.
    """
    # A mapped array keeps its class: its values stay in the file, in the file's own type.
    x = contents.x if isinstance(contents.x, np.ndarray) else as_array(contents.x, f"{name}: x")
    shape = contents.image_shape
    notes: tuple[str, ...] = ()
    if x.ndim > 2:
        x, notes = _channels_first(x, name)
        shape = x.shape[1:] if x.ndim > 3 else (1, *x.shape[1:])
        x = x.reshape(len(x), math.prod(x.shape[1:]))
    if is_mapped(x):
        check_points(x, name=f"{name}: x")
    else:
        x = as_points(x, name=f"{name}: x").numpy()
    if shape is not None and math.prod(shape) != x.shape[1]:
        raise InputError(
            f"{name}: image_shape={shape} for points of {x.shape[1]} values: give (channels, "
            "height, width)."
        )
    return x, shape, notes


def _channels_first(x: Array, name: str) -> tuple[Array, tuple[str, ...]]:
    """Move the channels of images before their rows and columns."""
    if x.ndim != 4:
        sizes = " x ".join(map(str, x.shape[1:]))
        return x, (f"images of {sizes}" + " in grey" * (x.ndim == 3),)
    first, height, last = x.shape[1:]
    if _is_last(first, height, last, name):
        if is_mapped(x):
            raise InputError(
                f"{name}: x has shape {x.shape}, images with channels last, which are not turned "
                "in a file of this size: save np.ascontiguousarray(x.transpose(0, 3, 1, 2))."
            )
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        said = "channels last in the file"
    else:
        said = "channels first"
    channels, height, width = x.shape[1:]
    return x, (f"images of {height} x {width} with {channels} channel(s), {said}",)


def _is_last(first: int, middle: int, last: int, name: str) -> bool:
    """Tell whether the last axis holds the channels, not the first."""
    may_be_first, may_be_last = first in _CHANNELS, last in _CHANNELS
    if may_be_first and may_be_last and first != last:
        # Both may be the channels. Most images are square: the other two axes are then equal.
        if middle == last:
            return False
        if first == middle:
            return True
    elif may_be_first or (not may_be_last and last >= min(first, middle)):
        return False
    elif may_be_last and first > last:
        return True
    raise InputError(
        f"{name}: x holds images of shape {(first, middle, last)}, in which the channels may be "
        "the first or the last number: save x as (n, channels, height, width), "
        "x.transpose(0, 3, 1, 2) where they are last."
    )
