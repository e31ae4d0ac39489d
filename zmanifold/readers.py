"""Files that must not be believed: arrays, tables and images, read without unpickling anything.

Memory grows with what a file holds, never with what its header promises.
"""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from zmanifold.errors import InputError

__all__ = [
    "FILE_ENDINGS",
    "first_line",
    "read_cifar",
    "read_file",
    "read_idx",
    "read_images",
    "read_names",
]

Array = NDArray[Any]

FILE_ENDINGS = (".npy", ".npz", ".csv", ".parquet")
_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
_LABEL_COLUMNS = ("y", "label", "labels", "target", "class")

_READ_PIECE = 2**22

# An array file of so many bytes is mapped into memory instead of read.
_MAPPED_FROM = 2**26


def read_file(path: Path) -> tuple[Array, Array | None]:
    """Read the arrays x and, where there are labels, y from a file with one of FILE_ENDINGS."""
    ending = path.suffix.lower()
    if ending == ".npy":
        with path.open("rb") as stream:
            if path.stat().st_size < _MAPPED_FROM:
                return _read_npy(stream, path), None
            return _map_npy(stream, path), None
    if ending == ".npz":
        return _read_npz(path)
    return _read_table(path, ending)


def read_names(path: Path) -> tuple[str, ...] | None:
    """Read a name a line, or nothing where there is no such file."""
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return tuple(line.strip() for line in lines if line.strip())


def read_idx(path: Path, n_axes: int) -> Array:
    """Read an IDX file of unsigned bytes: magic 0, 0, 8, axes; big-endian sizes; the bytes."""
    with _opened(path) as stream:
        header = _read_exactly(stream, 4 + 4 * n_axes, path)
        if header[:4] != bytes([0, 0, 8, n_axes]):
            raise InputError(
                f"{path} does not start as an IDX file of {n_axes}-D bytes does "
                f"({header[:4].hex(' ')}): get the original file."
            )
        shape = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
        body = _read_exactly(stream, math.prod(shape), path)
        # Past the end a compressed file's checksum is verified, too.
        if _read_up_to(stream, 1, path):
            raise InputError(f"{path} goes on after the {shape} values it promises: get it again.")
    if math.prod(shape) == 0:
        raise InputError(f"{path} holds no values, its shape is {shape}: get the original file.")
    return np.frombuffer(body, np.uint8).reshape(shape)


def read_cifar(paths: list[Path], label_bytes: int) -> tuple[Array, Array]:
    """Read CIFAR's binary records: label byte(s), the last one the class, then 3 x 32 x 32."""
    record = label_bytes + 3072
    parts = []
    for path in paths:
        size = path.stat().st_size
        if path.suffix == ".gz" or size == 0 or size % record:
            raise InputError(
                f"{path} has {size} bytes, which is not a whole number of {record}-byte records: "
                "get the binary version again."
            )
        parts.append(np.fromfile(path, np.uint8).reshape(-1, record))
    records = np.concatenate(parts)
    return records[:, label_bytes:], records[:, label_bytes - 1].astype(np.int64)


def _read_npz(path: Path) -> tuple[Array, Array | None]:
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {
                key: _read_member(archive, f"{key}.npy", path)
                for key in ("x", "y")
                if f"{key}.npy" in archive.namelist()
            }
            if "x" not in arrays:
                stored = ", ".join(archive.namelist()) or "nothing"
                raise InputError(
                    f"{path} holds {stored} but no array x: save it with "
                    "np.savez(file, x=..., y=...)."
                )
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path} is not a whole .npz file ({first_line(error)}): use np.savez."
        ) from None
    return arrays["x"], arrays.get("y")


def _read_member(archive: zipfile.ZipFile, member: str, path: Path) -> Array:
    with archive.open(member) as stream:
        return _read_npy(stream, f"{path}:{member}")


def _read_table(path: Path, ending: str) -> tuple[Array, Array | None]:
    import pandas as pd

    try:
        if ending == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path)
            # A first line of numbers is data, not names.
            if all(_is_number(column) for column in frame.columns):
                frame = pd.read_csv(path, header=None)
    except OSError:
        raise
    except Exception as error:
        # pandas and pyarrow raise many kinds for a damaged file.
        raise InputError(
            f"{path} is not a {ending} table ({first_line(error)}): save it again."
        ) from None
    if frame.empty:
        raise InputError(
            f"{path} has {len(frame)} rows and {len(frame.columns)} columns: give a row a point "
            "and a column a feature."
        )
    names = [str(column) for column in frame.columns]
    labelled = [i for i, column in enumerate(names) if column.lower() in _LABEL_COLUMNS]
    if len(labelled) > 1:
        raise InputError(
            f"{path} has the label columns {', '.join(names[i] for i in labelled)}: keep one."
        )
    features = [i for i in range(len(names)) if i not in labelled]
    texts = [names[i] for i in features if frame.iloc[:, i].dtype.kind not in "biuf"]
    if texts:
        raise InputError(
            f"{path} has columns that are not numbers ({', '.join(texts[:3])}): encode or drop "
            f"them, and call the column of labels {_LABEL_COLUMNS[0]!r}."
        )
    y = frame.iloc[:, labelled[0]].to_numpy() if labelled else None
    numbers = frame.iloc[:, features]
    x = numbers.to_numpy()
    # Columns of several types, truth values among them, would come as Python objects.
    return (numbers.to_numpy(float, na_value=np.nan) if x.dtype == object else x), y


def read_images(root: Path) -> tuple[Array, Array, tuple[str, ...]]:
    """Read 8-bit images of one size from a folder of class folders.

    Returns the pixels (n, channels, height, width), the labels (n,) and the classes' names.
    """
    from PIL import Image

    classes = sorted(p.name for p in root.iterdir() if p.is_dir())
    files = [
        (label, file)
        for label, name in enumerate(classes)
        for file in sorted((root / name).iterdir())
        if file.suffix.lower() in _IMAGE_ENDINGS
    ]
    if not files:
        raise InputError(
            f"{root} holds no class folders with images ({', '.join(_IMAGE_ENDINGS)}): make one "
            "folder a class."
        )
    images: list[Array] = []
    size: tuple[int, int] | None = None
    for _, file in files:
        try:
            with Image.open(file) as image:
                size = size or image.size
                if image.size != size:
                    raise InputError(
                        f"{file} has {image.size[0]} x {image.size[1]} pixels but {files[0][1]} "
                        f"{size[0]} x {size[1]}: resize the images to one size."
                    )
                if image.mode.startswith(("I", "F")):
                    raise InputError(
                        f"{file} has more than 8 bits a pixel (mode {image.mode}): convert the "
                        "images to 8 bits, or give their values as .npy."
                    )
                grey = image.mode in ("1", "L")
                images.append(np.asarray(image.convert("L" if grey else "RGB")))
        except InputError:
            raise
        except Exception as error:
            # Pillow raises many kinds for a damaged file.
            raise InputError(
                f"{file} is not a readable image ({first_line(error)}): remove it."
            ) from None
    colour = any(values.ndim == 3 for values in images)
    width, height = size or (0, 0)
    pixels = np.empty((len(images), 3 if colour else 1, height, width), np.uint8)
    for i, values in enumerate(images):
        # A grey image fills all three channels of a colour set.
        pixels[i] = values.transpose(2, 0, 1) if values.ndim == 3 else values
    labels = np.array([label for label, _ in files], dtype=np.int64)
    return pixels, labels, tuple(classes)


def _opened(path: Path) -> gzip.GzipFile | IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _pieces(stream: gzip.GzipFile | IO[bytes], count: int, path: object) -> Iterator[bytes]:
    """Yield `count` bytes as they come: memory grows with what is there, not with a promise."""
    left = count
    while left:
        piece = _read_up_to(stream, min(left, _READ_PIECE), path)
        if not piece:
            raise _cut_short(path, count, count - left)
        yield piece
        left -= len(piece)


def _read_up_to(stream: gzip.GzipFile | IO[bytes], count: int, path: object) -> bytes:
    try:
        return stream.read(count)
    except (EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged ({first_line(error)}): get it again.") from None


def _read_exactly(stream: gzip.GzipFile | IO[bytes], count: int, path: object) -> bytes:
    return b"".join(_pieces(stream, count, path))


def _read_npy(stream: IO[bytes], path: object) -> Array:
    """Read one array in NumPy's format, refusing pickles and checking size against content."""
    shape, fortran, dtype = _npy_header(stream, path)
    content = _read_exactly(stream, math.prod(shape) * dtype.itemsize, path)
    array = np.frombuffer(content, dtype) if content else np.empty(0, dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _map_npy(stream: IO[bytes], path: Path) -> Array:
    """Map an array in NumPy's format, to be read only."""
    shape, fortran, dtype = _npy_header(stream, path)
    promised, there = math.prod(shape) * dtype.itemsize, path.stat().st_size - stream.tell()
    if promised > there:
        raise _cut_short(path, promised, there)
    if promised == 0:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", stream.tell(), shape, "F" if fortran else "C")


def _cut_short(path: object, promised: int, there: int) -> InputError:
    return InputError(
        f"{path} is cut short: it promises {promised} bytes of data but holds {there}: get it "
        "again."
    )


def _npy_header(stream: IO[bytes], path: object) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise InputError(f"{path} has NumPy format {version}: save it again with np.save.")
    except InputError:
        raise
    except Exception as error:
        # The header is a Python literal: whatever a damaged one makes the parser raise.
        raise InputError(
            f"{path} is not a NumPy array file ({first_line(error)}): use np.save."
        ) from None
    if dtype.hasobject:
        raise InputError(
            f"{path} holds pickled Python objects, which are never loaded: save numbers, "
            "np.save(file, np.asarray(x, dtype=float))."
        )
    if any(isinstance(size, bool) or size < 0 for size in shape):
        raise InputError(f"{path} promises the shape {shape}: save it again with np.save.")
    if dtype.itemsize == 0 or dtype.subdtype is not None:
        raise InputError(f"{path} promises values of dtype {dtype}: save numbers with np.save.")
    return shape, fortran, dtype


def _is_number(text: object) -> bool:
    try:
        float(str(text))
    except ValueError:
        return False
    return True


def first_line(error: BaseException) -> str:
    """Reduce another library's message to what fits into one sentence."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
