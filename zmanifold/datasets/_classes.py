"""Labels of files as hard or as soft labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmanifold._base.arrays import as_array
from zmanifold._base.errors import InputError
from zmanifold._base.labels import as_labels
from zmanifold.datasets.formats.registry import Contents

__all__ = ["as_classes"]

Array = NDArray[Any]


def as_classes(
    contents: Contents, n: int, name: str
) -> tuple[Array | None, tuple[str, ...] | None, tuple[str, ...]]:
    """Return the labels of n points, the names of their classes, and notes.

    A class has the same name for every type of its labels: 1.0, 1 and "1", text and bytes.

    Returns
    -------
    labels : ndarray of int64, shape (n,), or of float, shape (n, K), or None
        Hard labels 0..K-1, or soft ones.
    class_names : tuple of str or None
    notes : tuple of str
        What the labels were read as.

    Raises
    ------
    InputError
        If there is not one label a point, a label is missing, or a label is not one of the classes.
    """
    if contents.y is None:
        return None, None, ()
    y = as_array(contents.y, f"{name}: y")
    notes: tuple[str, ...] = ()
    if y.shape == (n, 1):
        y, notes = y[:, 0], ("labels in one column",)
    if y.ndim == 2 and len(y) == n and (y.dtype.kind == "f" or _is_one_hot(y)):
        soft = as_labels(y, n, name=f"{name}: y")
        kind = "one-hot" if _is_one_hot(y) else "soft"
        y = y if y.dtype.kind == "f" else y.astype(np.float32)
        return y, tuple(map(str, soft.classes)), (f"{kind} labels of {y.shape[1]} classes",)
    if y.shape != (n,):
        raise InputError(
            f"{name}: y has shape {y.shape} for {n} points: give one label a point, or soft labels "
            "(n, classes) that sum to 1."
        )
    classes, labels = _hard_labels(y, f"{name}: y")
    if contents.class_names is None:
        return labels.astype(np.int64), tuple(str(c) for c in classes), notes
    n_named = len(contents.class_names)
    if classes.dtype.kind not in "iu" or not 0 <= classes[0] <= classes[-1] < n_named:
        raise InputError(
            f"{name}: y holds {classes[0]} to {classes[-1]} but there are {n_named} class names: "
            f"give labels 0 to {n_named - 1}."
        )
    return y.astype(np.int64), contents.class_names, notes


def _is_one_hot(y: Array) -> bool:
    if y.dtype.kind not in "biuf":
        return False
    return bool(((y == 0) | (y == 1)).all() and (y.sum(axis=1, dtype=np.float64) == 1).all())


def _hard_labels(y: Array, name: str) -> tuple[Array, Array]:
    """Return the classes and each sample's class number, for floats, text and bytes, too."""
    if y.dtype.kind == "S":
        y = _as_text(y, name)
    if y.dtype.kind == "U" and not _is_text(y):
        raise InputError(f"{name} holds labels that are no text: save them again.")
    if y.dtype.kind == "f":
        return _of_floats(y, name)
    # Texts stay Python objects: in a NumPy array of text each would be as large as the longest.
    if y.dtype.kind == "O" and all(isinstance(c, str) for c in y):
        return np.unique(y, return_inverse=True)
    labels = as_labels(y, len(y), name=name)
    return labels.classes, labels.codes.numpy()


def _of_floats(y: Array, name: str) -> tuple[Array, Array]:
    if not np.isfinite(y).all():
        row = int(np.flatnonzero(~np.isfinite(y))[0])
        raise InputError(f"{name} holds {y[row]} as label in row {row}: remove such samples.")
    classes, codes = np.unique(y, return_inverse=True)
    # Below 2**53 every whole number is a float64, so that the conversion to int64 is exact.
    if (classes == classes.round()).all() and (np.abs(classes) < 2.0**53).all():
        classes = classes.astype(np.int64)
    return classes, codes


def _as_text(y: Array, name: str) -> Array:
    try:
        return np.char.decode(y, "utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{name} holds bytes that are no UTF-8: save y.astype(str).") from None


def _is_text(array: Array) -> bool:
    """Tell whether an array of text holds valid characters: a damaged file may hold any numbers."""
    codes = np.ascontiguousarray(array).view(array.dtype.str[:1] + "u4")
    return bool(((codes < 0xD800) | ((codes > 0xDFFF) & (codes <= 0x10FFFF))).all())
