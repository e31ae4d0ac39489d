"""NumPy's file formats: an array (.npy), or arrays of points and labels (.npz)."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from zmanifold._base.errors import InputError, shown
from zmanifold._base.naming import listed
from zmanifold.datasets.formats._streams import (
    cut_short,
    read_exactly,
    read_up_to,
    unpacked_limit,
)
from zmanifold.datasets.formats._wording import first_line, some_of
from zmanifold.datasets.formats.registry import Contents, Format
from zmanifold.datasets.reading import Reading

__all__ = ["NPY", "NPZ"]

Array = NDArray[Any]

# An array file of this size or more is mapped into memory, not read.
_MAPPED_FROM = 2**26

# By version: the number of bytes of the header's length, and the header's parser.
_NPY_HEADERS = {
    (1, 0): (2, np.lib.format.read_array_header_1_0),
    (2, 0): (4, np.lib.format.read_array_header_2_0),
}
# The limits of NumPy itself.
_LONGEST_HEADER = 10_000
_MOST_AXES = 64


def _load_npy(path: Path) -> Contents:
    with path.open("rb") as stream:
        if path.stat().st_size < _MAPPED_FROM:
            array = _read_npy(stream, path, None)
        else:
            array = _map_npy(stream, path)
    return Contents(array, reading=Reading(str(path), "array"))


def _load_npz(path: Path, *, x: str | None = None, y: str | None = None) -> Contents:
    with zipfile.ZipFile(path) as archive:
        stored = archive.namelist()
        arrays = [name.removesuffix(".npy") for name in stored if name.endswith(".npy")]
        points = _chosen(path, arrays, "x", x)
        if points is None:
            raise InputError(
                f"{path} holds {some_of(stored) or 'nothing'} but no array x: save it with "
                "np.savez(file, x=..., y=...), or name the array of points with x."
            )
        labels = _chosen(path, [name for name in arrays if name != points], "y", y)
        x_found = _read_member(archive, f"{points}.npy", path)
        y_found = None if labels is None else _read_member(archive, f"{labels}.npy", path)
    rest = [name for name in stored if name.removesuffix(".npy") not in (points, labels)]
    reading = Reading(
        str(path),
        "archive",
        features=(f"array {points}",),
        labels=labels and f"array {labels}",
        skipped=tuple(f"{listed(rest)} (not x or y)" for _ in rest[:1]),
    )
    return Contents(x_found, y_found, reading=reading)


def _chosen(path: Path, arrays: list[str], option: str, given: str | None) -> str | None:
    """Return the array that an option names; without the option, the array of the same name."""
    if given is not None:
        if given not in arrays:
            raise InputError(
                f"{path} has no array {given!r} for {option}: it holds {listed(arrays, 12)}."
            )
        return given
    known = [name for name in (option, option.upper()) if name in arrays]
    if len(known) > 1:
        raise InputError(
            f"{path} holds the arrays {' and '.join(known)}: name the one to read with {option}."
        )
    return known[0] if known else None


def _read_member(archive: zipfile.ZipFile, member: str, path: Path) -> Array:
    how = archive.getinfo(member).compress_type
    if how not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Other methods allocate memory for the size that a header promises.
        raise InputError(
            f"{path}:{member} is compressed in way {how} of .zip: save it with np.savez or "
            "np.savez_compressed."
        )
    with archive.open(member) as stream:
        return _read_npy(stream, f"{path}:{member}", unpacked_limit(path))


def _read_npy(stream: IO[bytes], path: object, limit: int | None) -> Array:
    """Read one array in NumPy's format, refusing pickles and checking size against content."""
    shape, fortran, dtype = _read_npy_header(stream, path)
    content = read_exactly(stream, math.prod(shape) * dtype.itemsize, path, limit)
    array = np.frombuffer(content, dtype) if content else np.empty(0, dtype)
    try:
        return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    except (ValueError, OverflowError):
        # An array without values may have a size of zero and others that NumPy refuses.
        raise _strange_shape(path, shape) from None


def _map_npy(stream: IO[bytes], path: Path) -> Array:
    """Map an array in NumPy's format into memory, read-only."""
    shape, fortran, dtype = _read_npy_header(stream, path)
    promised, there = math.prod(shape) * dtype.itemsize, path.stat().st_size - stream.tell()
    if promised > there:
        raise cut_short(path, promised, there)
    if promised == 0:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", stream.tell(), shape, "F" if fortran else "C")


def _read_npy_header(
    stream: IO[bytes], path: object
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _NPY_HEADERS:
            raise InputError(f"{path} has NumPy format {version}: save it again with np.save.")
        width, parse = _NPY_HEADERS[version]
        # The length is read here, because the parser allocates memory for any length.
        start = read_up_to(stream, width, path)
        length = int.from_bytes(start, "little")
        if length > _LONGEST_HEADER:
            raise ValueError(f"its header is said to have {length} bytes")
        with warnings.catch_warnings():
            # NumPy warns about headers written by Python 2, which it reads.
            warnings.simplefilter("ignore")
            shape, fortran, dtype = parse(io.BytesIO(start + read_up_to(stream, length, path)))
    except InputError:
        raise
    except MemoryError:
        # Python's parser raises this for deeply nested brackets.
        raise InputError(f"{path} has a header nested too deeply: use np.save.") from None
    except Exception as error:
        # The header is a Python literal: a damaged one may make the parser raise anything.
        raise InputError(
            f"{path} is not a NumPy array file ({first_line(error)}): use np.save."
        ) from None
    if dtype.hasobject:
        raise InputError(
            f"{path} holds pickled Python objects, which are never loaded: save numbers, "
            "np.save(file, x.astype(float)), or text, y.astype(str)."
        )
    if dtype.kind not in "biufcUS" or dtype.itemsize == 0:
        raise InputError(
            f"{path} holds values of type {shown(dtype)}: save numbers, or text for labels."
        )
    if len(shape) > _MOST_AXES or any(isinstance(s, bool) or not 0 <= s < 2**63 for s in shape):
        raise _strange_shape(path, shape)
    return shape, fortran, dtype


def _strange_shape(path: object, shape: tuple[int, ...]) -> InputError:
    # Python refuses to print integers of thousands of digits.
    sizes = tuple(max(-(2**63), min(size, 2**63)) for size in shape)
    return InputError(f"{path} promises the shape {shown(sizes)}: save it again with np.save.")


NPY = Format("a NumPy array file", (".npy",), _load_npy, "use np.save")
NPZ = Format("a whole .npz file", (".npz",), _load_npz, "use np.savez", ("x", "y"))
