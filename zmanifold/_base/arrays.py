"""Conversion of the user's arrays to tensors: each is checked here, once, for all that follows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from zmanifold._base.errors import InputError
from zmanifold._base.parallel import chunks
from zmanifold._base.scaling import largest_magnitude

__all__ = [
    "as_array",
    "as_points",
    "as_real_tensor",
    "as_rows",
    "as_set_of",
    "check_dense",
    "check_points",
    "point_dtype",
]

# Types whose values float32 holds exactly (24 bits of mantissa), at half of float64's memory.
_EXACT_IN_FLOAT32 = {
    torch.float32,
    torch.bool,
    torch.uint8,
    torch.uint16,
    torch.int8,
    torch.int16,
    torch.float16,
    torch.bfloat16,
}

# The most entries of a mask that is made at a time: 16 MiB, a byte each.
_MASKED = 2**24


def as_points(
    X: Any,
    *,
    name: str = "X",
    min_samples: int = 2,
    min_features: int = 1,
    device: torch.device | None = None,
) -> Float[Tensor, "n d"]:
    """Turn the user's array into a finite, contiguous float32 or float64 tensor (n, d).

    Parameters
    ----------
    X : array-like or torch.Tensor of shape (n, d)
        Points. Integers of up to 16 bits and half floats become float32, which holds them
        exactly; wider integers become float64. float32 and float64 stay as they are, and share
        memory with `X` where that is contiguous and already on `device`.
    name : str, default="X"
        The array's name in messages.
    min_samples : int, default=2
        The smallest n allowed.
    min_features : int, default=1
        The smallest d allowed.
    device : torch.device, optional
        The tensor's device; by default that of the data.

    Returns
    -------
    torch.Tensor of shape (n, d)
        The points.

    Raises
    ------
    InputError
        If the array holds no real, finite numbers, is not 2-D, or is too small.

    Examples
    --------
    >>> from zmanifold._base.arrays import as_points
    >>> as_points([[0, 1], [2, 3]]).dtype
    torch.float64
    """
    tensor = check_points(X, name=name, min_samples=min_samples, min_features=min_features)
    where = device if device is not None else tensor.device
    return tensor.to(point_dtype(tensor)).to(where).contiguous()


def point_dtype(tensor: Tensor) -> torch.dtype:
    """Return the float type in which the package computes with points of a tensor's type.

    Examples
    --------
    >>> import torch
    >>> from zmanifold._base.arrays import point_dtype
    >>> point_dtype(torch.zeros(2, dtype=torch.uint8)), point_dtype(torch.zeros(2).long())
    (torch.float32, torch.float64)
    """
    return torch.float32 if tensor.dtype in _EXACT_IN_FLOAT32 else torch.float64


def check_points(
    X: Any, *, name: str = "X", min_samples: int = 2, min_features: int = 1
) -> Shaped[Tensor, "n d"]:
    """Check the user's array as `as_points` does, but keep its type and its device.

    Parameters and errors are the same as for `as_points`.

    Returns
    -------
    torch.Tensor of shape (n, d)
        Finite and real. A memory-mapped array is not read into memory.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold._base.arrays import check_points
    >>> check_points(np.zeros((2, 3), np.uint8)).dtype
    torch.uint8
    """
    tensor = as_real_tensor(X, name)
    if tensor.ndim != 2:
        raise InputError(
            f"{name} has {tensor.ndim} dimension(s) but must be 2-D, (points, features): "
            "reshape it, x.reshape(len(x), -1) for images."
        )
    n, d = tensor.shape
    if n < min_samples:
        raise InputError(
            f"{name} has {n} point(s) (n_samples={n}) but at least {min_samples} "
            f"{'is' if min_samples == 1 else 'are'} needed: give more rows."
        )
    if d < min_features:
        raise InputError(
            f"{name} has {d} feature(s) (shape=({n}, {d})) while a minimum of {min_features} is "
            "required: give more columns."
        )
    if tensor.is_floating_point() and not math.isfinite(largest_magnitude(tensor)):
        # In chunks: a mask of a whole memory-mapped array might not fit into memory.
        parts = list(chunks(n, _MASKED // d))
        counts = [int((~tensor[part].isfinite()).sum()) for part in parts]
        first = parts[next(i for i, count in enumerate(counts) if count)]
        row, column = (~tensor[first].isfinite()).nonzero()[0].tolist()
        value = tensor[first][row, column].item()
        raise InputError(
            f"{name} holds {sum(counts)} NaN or inf, the first is {value} at row "
            f"{first.start + row}, column {column}: remove or impute them."
        )
    return tensor


def as_set_of(
    arrays: Mapping[str, Any], *, device: str | torch.device, least: tuple[int, ...]
) -> list[Float[Tensor, "_ d"]]:
    """Turn several of the user's arrays into points of one space: same width, same dtype.

    Parameters
    ----------
    arrays : mapping of str to array-like or torch.Tensor
        The arrays, by their names in messages.
    device : str or torch.device
        The tensors' device.
    least : tuple of int
        The smallest number of rows allowed, one for each array.

    Returns
    -------
    list of torch.Tensor
        The results of `as_points`, all in float64 if one of them is.

    Raises
    ------
    InputError
        If `as_points` refuses one, or their numbers of features differ.

    Examples
    --------
    >>> import torch
    >>> from zmanifold._base.arrays import as_set_of
    >>> a, b = as_set_of({"a": [[1.0]], "b": [[2.0]]}, device=torch.device("cpu"), least=(1, 1))
    >>> b
    tensor([[2.]], dtype=torch.float64)
    """
    points = [
        as_points(array, name=name, min_samples=count, device=torch.device(device))
        for (name, array), count in zip(arrays.items(), least, strict=True)
    ]
    names = list(arrays)
    for name, other in zip(names[1:], points[1:], strict=True):
        if other.shape[1] != points[0].shape[1]:
            raise InputError(
                f"{name} has {other.shape[1]} features but {names[0]} has {points[0].shape[1]}: "
                "give both the same features."
            )
    dtype = torch.float64 if any(p.dtype == torch.float64 for p in points) else torch.float32
    return [p.to(dtype) for p in points]


def as_rows(rows: Any, n_points: int, *, name: str = "queries") -> Int64[Tensor, " q"]:
    """Turn row numbers into a checked int64 tensor.

    Parameters
    ----------
    rows : array-like of int, shape (q,)
        Row numbers of the data, each in 0..n_points - 1; repeats are allowed.
    n_points : int
        The number of rows of the data.
    name : str, default="queries"
        The array's name in messages.

    Returns
    -------
    torch.Tensor of shape (q,)
        The row numbers, on the CPU.

    Raises
    ------
    InputError
        If a row number is not an integer in that range, or the array is empty.

    Examples
    --------
    >>> from zmanifold._base.arrays import as_rows
    >>> as_rows([0, 2], 3)
    tensor([0, 2])
    """
    array = as_array(rows, name)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(
            f"{name} has shape {array.shape} and dtype {array.dtype} but must be a 1-D array of "
            "row numbers: give integers, np.flatnonzero(mask) for a mask."
        )
    if array.size == 0:
        raise InputError(f"{name} is empty: give at least one row number, or None for all rows.")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= n_points:
        raise InputError(
            f"{name} holds row {low if low < 0 else high} but the data has rows 0 to "
            f"{n_points - 1}: give row numbers in that range."
        )
    return torch.from_numpy(array.astype(np.int64))


def as_real_tensor(X: Any, name: str) -> Tensor:
    """Return `X` as a tensor of real numbers, of any shape, or raise InputError.

    Examples
    --------
    >>> from zmanifold._base.arrays import as_real_tensor
    >>> as_real_tensor([[1, 2]], "X")
    tensor([[1, 2]])
    """
    if isinstance(X, Tensor):
        check_dense(X, name)
        if X.is_complex():
            raise InputError(
                f"{name} is complex. Complex data not supported: stack x.real and x.imag."
            )
        # NumPy cannot read a tensor with a pending negation, such as x.conj().imag.
        return X.detach().resolve_neg()
    if hasattr(X, "toarray") and not isinstance(X, np.ndarray):
        raise InputError(
            f"{name} is a sparse matrix but must be dense: convert it with {name}.toarray()."
        )
    if np.ma.is_masked(X):
        raise InputError(f"{name} is masked: drop or impute what is missing, {name}.filled(...).")
    try:
        array = np.asarray(X)
    except ValueError:
        raise InputError(
            f"{name} has rows of unequal length: give every point the same features."
        ) from None
    except (RuntimeError, TypeError):
        # For example a list of tensors that are on a GPU or have a type unknown to NumPy.
        raise InputError(
            f"{name} is a {type(X).__name__} that NumPy cannot read: give one array or tensor, "
            f"torch.stack({name}) for tensors."
        ) from None
    if array.dtype.kind == "c":
        raise InputError(f"{name} is complex. Complex data not supported: stack x.real and x.imag.")
    if array.dtype.kind == "O" and hasattr(X, "dtypes") and hasattr(X, "isna"):
        array = _numbers_of_frame(X, name)
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{name} has dtype {array.dtype} but must hold real numbers: convert it with "
            "np.asarray(x, dtype=float)."
        )
    if array.dtype.itemsize > 8:
        with np.errstate(over="ignore"):
            array = array.astype(np.float64)
    array = np.asarray(array, dtype=array.dtype.newbyteorder("="))
    if any(stride < 0 for stride in array.strides):
        array = array.copy()
    with warnings.catch_warnings():
        # A read-only array, such as a memory map, is safe: the package never writes to points.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _numbers_of_frame(frame: Any, name: str) -> NDArray[Any]:
    """Return a pandas frame's columns of nullable, Arrow or different types as one array."""
    types = [getattr(dtype, "numpy_dtype", dtype) for dtype in frame.dtypes]
    for column, dtype, kind in zip(frame.columns, frame.dtypes, types, strict=True):
        if kind.kind not in "biuf":
            raise InputError(
                f"{name} has column {column!r} of dtype {dtype} but must hold real numbers: "
                "convert it with np.asarray(x, dtype=float), or leave it out with "
                f"{name}.drop(columns=[{column!r}])."
            )
    missing = frame.isna().to_numpy()
    if missing.any():
        row, column = np.argwhere(missing)[0].tolist()
        raise InputError(
            f"{name} holds {int(missing.sum())} missing value(s), the first at row {row}, column "
            f"{frame.columns[column]!r}: remove or impute them."
        )
    array: NDArray[Any] = frame.to_numpy(dtype=np.result_type(*types))
    return array


def as_array(values: Any, name: str) -> NDArray[Any]:
    """Return `values` as an array of any type and shape.

    Values that NumPy makes no array of, such as rows of unequal length, give an empty object array
    of shape (): the caller's check of the shape refuses it.

    Examples
    --------
    >>> from zmanifold._base.arrays import as_array
    >>> as_array([1, 2], "queries"), as_array([[1], [2, 3]], "queries").shape
    (array([1, 2]), ())
    """
    if isinstance(values, Tensor):
        check_dense(values, name)
        values = values.detach().cpu().resolve_neg()
        # NumPy has no bfloat16; float64 holds the values of every float type.
        values = values.double() if values.is_floating_point() else values
    if np.ma.is_masked(values):
        raise InputError(f"{name} is masked: leave out what is missing, {name}.compressed().")
    try:
        return np.asarray(values)
    except (RuntimeError, TypeError, ValueError):
        return np.empty((), dtype=object)


def check_dense(tensor: Tensor, name: str) -> None:
    """Raise InputError unless `tensor` is a dense tensor with values: not nested, sparse or meta.

    Examples
    --------
    >>> import torch
    >>> from zmanifold._base.arrays import check_dense
    >>> check_dense(torch.zeros(2), "X")
    """
    if not isinstance(tensor, Tensor):
        raise InputError(
            f"{name} is a {type(tensor).__name__} but mixers take tensors: convert it with "
            f"torch.as_tensor({name})."
        )
    if tensor.is_nested:
        raise InputError(f"{name} has rows of unequal length: give every point the same features.")
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise InputError(
            f"{name} is a sparse or quantized tensor: convert it with {name}.to_dense()."
        )
    if tensor.device.type == "meta":
        raise InputError(f"{name} is a tensor without values (device 'meta'): give its values.")
