"""Hard and soft labels as numbers of classes."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from zmanifold._base.arrays import as_array
from zmanifold._base.errors import InputError

__all__ = ["Labels", "as_labels", "check_one_a_sample", "entropy", "name_some"]


@dataclass(frozen=True, eq=False)
class Labels:
    """Checked labels of n samples.

    Attributes
    ----------
    classes : ndarray of shape (K,)
        The classes that the codes 0..K-1 stand for, ascending.
    codes : torch.Tensor of int64, shape (n,)
        Each sample's class; for a soft label its largest entry, the first of equal ones.
    soft : torch.Tensor of float64, shape (n, K), or None
        The soft labels; None for hard ones.
    """

    classes: NDArray[Any]
    codes: Int64[Tensor, " n"]
    soft: Float64[Tensor, "n K"] | None

    def distributions(self) -> Float64[Tensor, "n K"]:
        """Return each sample's distribution over the classes; hard labels become one-hot."""
        if self.soft is not None:
            return self.soft
        return torch.nn.functional.one_hot(self.codes, len(self.classes)).double()


def as_labels(y: Any, n: int, *, name: str, classes: NDArray[Any] | None = None) -> Labels:
    """Check labels and return them as numbers of classes.

    Parameters
    ----------
    y : array-like or torch.Tensor of shape (n,) or (n, K)
        Integers, truth values or strings, or soft labels: K numbers >= 0 a row that sum to 1
        (within 1e-4, or four units of rounding of a half-precision type). The columns of soft
        labels are the classes 0..K-1.
    n : int
        The number of samples.
    name : str
        The name of the labels in messages.
    classes : ndarray of shape (K,), optional
        The classes that may occur, ascending; those of `y` by default.

    Returns
    -------
    Labels
        The labels, on the CPU.

    Raises
    ------
    InputError
        If `y` has another shape or type, a row of soft labels is not a distribution, or a label is
        not among `classes`.

    Examples
    --------
    >>> from zmanifold._base.labels import as_labels
    >>> as_labels(["cat", "dog", "cat"], 3, name="y").codes
    tensor([0, 1, 0])
    >>> as_labels([[0.2, 0.8]], 1, name="y").codes
    tensor([1])
    """
    tolerance = 1e-4
    if np.ma.is_masked(y):
        raise InputError(f"{name} is masked: remove the samples without a label.")
    if isinstance(y, Tensor) and y.is_floating_point():
        tolerance = max(tolerance, 4 * torch.finfo(y.dtype).eps)
    array = as_array(y, name)
    if array.dtype == np.float16:
        tolerance = max(tolerance, 4 * float(np.finfo(np.float16).eps))
    check_one_a_sample(array.shape, n, name)
    if array.ndim == 2:
        return _as_soft(array, name, classes, tolerance)
    if array.dtype.kind in "OT":
        array = _of_one_type(array.astype(object), name)
    if array.dtype.kind not in "biuUS":
        raise InputError(
            f"{name} has dtype {array.dtype} but hard labels are integers or strings: convert "
            f"them with {name}.astype(int), or give soft labels of shape (n, classes)."
        )
    known = np.unique(array) if classes is None else classes
    if (known.dtype.kind in "US") != (array.dtype.kind in "US"):
        raise InputError(
            f"{name} holds {array.dtype} labels but the classes are {name_some(known)}: give all "
            "labels one type."
        )
    codes = np.minimum(np.searchsorted(known, array), len(known) - 1)
    strange = np.flatnonzero(known[codes] != array)
    if len(strange):
        raise InputError(
            f"{name} holds label {array[strange[0]].item()!r} in row {strange[0]} but the classes "
            f"are {name_some(known)}: remove such samples, or relabel them."
        )
    return Labels(known, torch.from_numpy(codes.astype(np.int64)), None)


def check_one_a_sample(shape: tuple[int, ...], n: int, name: str) -> None:
    """Raise InputError unless labels of this shape can be those of n samples.

    Examples
    --------
    >>> from zmanifold._base.labels import check_one_a_sample
    >>> check_one_a_sample((32, 10), 32, "y")
    """
    if len(shape) not in (1, 2) or shape[0] != n:
        raise InputError(
            f"{name} has shape {shape} for {n} samples: give one label a sample, (n,) for hard "
            "labels or (n, classes) for soft ones."
        )


def entropy(distributions: Float64[Tensor, "n K"]) -> Float64[Tensor, " n"]:
    """Return the entropy of each row in nats.

    Examples
    --------
    >>> import torch
    >>> from zmanifold._base.labels import entropy
    >>> entropy(torch.tensor([[0.5, 0.5], [0.0, 1.0]]).double())
    tensor([0.6931, 0.0000], dtype=torch.float64)
    """
    # The entropy of a row with an entry a little above 1 would be negative, or -0.
    sums: Tensor = torch.special.entr(distributions).sum(dim=1)
    return sums.clamp_(min=0).abs_()


def name_some(classes: NDArray[Any]) -> str:
    """Return classes as a text for messages; of many, the middle is left out.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold._base.labels import name_some
    >>> name_some(np.arange(100))
    '0, 1, 2, ..., 99'
    """
    names = [repr(c) for c in classes.tolist()]
    return ", ".join(names if len(names) <= 6 else [*names[:3], "...", names[-1]])


def _of_one_type(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Convert an array of Python objects to strings or integers."""
    import pandas as pd

    missing = np.flatnonzero(pd.isna(array))
    if len(missing):
        raise InputError(
            f"{name} holds {len(missing)} missing label(s), the first in row {missing[0]}: remove "
            "such samples."
        )
    if all(isinstance(label, str) for label in array):
        return array.astype(str)
    if all(isinstance(label, Integral) for label in array):
        try:
            return array.astype(np.int64)
        except OverflowError:
            raise InputError(
                f"{name} holds integers of more than 64 bits: give codes 0..K-1, "
                f"np.unique({name}, return_inverse=True)[1]."
            ) from None
    strange = next(x for x in array if not isinstance(x, Integral) or isinstance(array[0], str))
    raise InputError(
        f"{name} mixes types or holds {strange!r}, but hard labels are all integers or all "
        "strings: convert them."
    )


def _as_soft(
    array: NDArray[Any], name: str, classes: NDArray[Any] | None, tolerance: float
) -> Labels:
    columns = np.arange(array.shape[1])
    if classes is not None and not np.array_equal(classes, columns):
        raise InputError(
            f"{name} has {len(columns)} columns, soft labels of classes 0 to {len(columns) - 1}, "
            f"but the classes are {name_some(classes)}: give a column for each class."
        )
    if array.dtype.kind not in "biuf" or array.shape[1] == 0:
        raise InputError(
            f"{name} has dtype {array.dtype} and shape {array.shape} but soft labels are numbers, "
            "one column a class: give an array of shape (n, classes)."
        )
    soft = torch.from_numpy(array.astype(np.float64))
    # `soft >= 0` is false for NaN, which is refused, too.
    wrong = ~((soft >= 0).all(dim=1) & ((soft.sum(dim=1) - 1).abs() <= tolerance))
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise InputError(
            f"{name} holds {int(wrong.sum())} row(s) that are no soft labels, the first is row "
            f"{row} with least entry {float(soft[row].min()):.4g} and sum "
            f"{float(soft[row].sum()):.6g}: give entries >= 0 that sum to 1."
        )
    return Labels(columns, soft.argmax(dim=1), soft)
