"""Files that must not be believed: arrays, tables and images, read without unpickling anything.

Memory grows with what a file holds, never with what its header promises; and what is compressed
may unpack to 64 MiB or 200 times the size of its file, whichever is more.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zmanifold._base.errors import InputError, shown
from zmanifold.datasets._parquet import read_parquet

if TYPE_CHECKING:
    import pandas as pd

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
_MOST_COLUMNS = 100_000

# Pillow would try every format that it knows on any file, those that start a program, too.
_IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_MOST_PIXELS = 2**24

_READ_PIECE = 2**22

# An array file of so many bytes is mapped into memory instead of read.
_MAPPED_FROM = 2**26

# A file of zeros unpacks to a thousand times its size, real data to far less.
_LEAST_ROOM = 2**26
_MOST_GROWTH = 200

# By version: the bytes of the header's length, and its parser.
_NPY_HEADERS = {
    (1, 0): (2, np.lib.format.read_array_header_1_0),
    (2, 0): (4, np.lib.format.read_array_header_2_0),
}
# NumPy's own limits.
_LONGEST_HEADER = 10_000
_MOST_AXES = 64


def read_file(path: Path) -> tuple[Array, Array | None]:
    """Read the arrays x and, where there are labels, y from a file with one of FILE_ENDINGS."""
    ending = path.suffix.lower()
    if ending == ".npy":
        with path.open("rb") as stream:
            if path.stat().st_size < _MAPPED_FROM:
                return _read_npy(stream, path, None), None
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
        room = _room(path) if path.suffix == ".gz" else None
        body = _read_exactly(stream, math.prod(shape), path, room)
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
                stored = _some(archive.namelist()) or "nothing"
                raise InputError(
                    f"{path} holds {stored} but no array x: save it with "
                    "np.savez(file, x=..., y=...)."
                )
    except (InputError, OSError):
        raise
    except Exception as error:
        # A damaged archive raises many kinds.
        raise InputError(
            f"{path} is not a whole .npz file ({first_line(error)}): use np.savez."
        ) from None
    return arrays["x"], arrays.get("y")


def _read_member(archive: zipfile.ZipFile, member: str, path: Path) -> Array:
    how = archive.getinfo(member).compress_type
    if how not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Others make room for what their headers promise.
        raise InputError(
            f"{path}:{member} is compressed in way {how} of .zip: save it with np.savez or "
            "np.savez_compressed."
        )
    with archive.open(member) as stream:
        return _read_npy(stream, f"{path}:{member}", _room(path))


def _read_table(path: Path, ending: str) -> tuple[Array, Array | None]:
    try:
        frame = read_parquet(path, _room(path)) if ending == ".parquet" else _read_csv(path)
        return _features_and_labels(frame, path)
    except (InputError, OSError):
        raise
    except Exception as error:
        # pandas and pyarrow raise many kinds for a damaged file.
        raise InputError(
            f"{path} is not a {ending} table ({first_line(error)}): save it again."
        ) from None


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    with path.open(encoding="utf-8", errors="replace", newline="") as stream:
        rows = csv.reader(stream)
        n_columns = next((len(row) for row in rows if len(row) > 1 or "".join(row).strip()), 0)
    if n_columns > _MOST_COLUMNS:
        # Each costs pandas several KiB, a file two bytes.
        raise InputError(
            f"{path} has {n_columns} columns, more than the {_MOST_COLUMNS} that are read: save it "
            "as .npy or .npz."
        )
    with warnings.catch_warnings():
        # Values beyond the named columns are lost with no more than a warning.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        # In one piece: a column of labels has one type.
        frame = pd.read_csv(path, index_col=False, low_memory=False)
        # A first line of numbers is data, not names.
        if all(_is_number(column) for column in frame.columns):
            frame = pd.read_csv(path, index_col=False, low_memory=False, header=None)
    return frame


def _features_and_labels(frame: pd.DataFrame, path: Path) -> tuple[Array, Array | None]:
    if frame.empty:
        raise InputError(
            f"{path} has {len(frame)} rows and {len(frame.columns)} columns: give a row a point "
            "and a column a feature."
        )
    names = [str(column) for column in frame.columns]
    labelled = [i for i, column in enumerate(names) if column.lower() in _LABEL_COLUMNS]
    if len(labelled) > 1:
        raise InputError(
            f"{path} has the label columns {_some([names[i] for i in labelled])}: keep one."
        )
    features = [i for i in range(len(names)) if i not in labelled]
    kinds = [dtype.kind for dtype in frame.dtypes]
    texts = [names[i] for i in features if kinds[i] not in "biuf"]
    if texts:
        raise InputError(
            f"{path} has columns that are not numbers ({_some(texts)}): encode or drop "
            f"them, and call the column of labels {_LABEL_COLUMNS[0]!r}."
        )
    y = frame.iloc[:, labelled[0]].to_numpy() if labelled else None
    x = frame.iloc[:, features].to_numpy()
    if x.dtype.kind == "O":
        # Truth values beside numbers, or numbers some of which may be missing.
        x = frame.iloc[:, features].to_numpy(np.float64, na_value=np.nan)
    return x, y


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
            # Pillow's decoders ask a file for as many bytes as its parts promise: one in memory
            # gives what it has.
            content = file.read_bytes()
            _check_pixels(_webp_size(content), file)
            with warnings.catch_warnings():
                # Of what it can do without, Pillow only warns.
                warnings.simplefilter("ignore")
                with Image.open(io.BytesIO(content), formats=_IMAGE_FORMATS) as image:
                    _check_pixels(image.size, file)
                    size = size or image.size
                    if image.size != size:
                        raise InputError(
                            f"{file} has {image.size[0]} x {image.size[1]} pixels but "
                            f"{files[0][1]} {size[0]} x {size[1]}: resize the images to one size."
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


def _webp_size(content: bytes) -> tuple[int, int]:
    """Return the size of a WebP image, whose decoder makes room for it as soon as it is opened."""
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return 0, 0
    if content[12:16] == b"VP8X":
        width, height = content[24:27], content[27:30]
        return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
    if content[12:16] == b"VP8L":
        both = int.from_bytes(content[21:25], "little")
        return (both & 0x3FFF) + 1, (both >> 14 & 0x3FFF) + 1
    width, height = content[26:28], content[28:30]
    return int.from_bytes(width, "little") & 0x3FFF, int.from_bytes(height, "little") & 0x3FFF


def _check_pixels(size: tuple[int, int], file: Path) -> None:
    if size[0] * size[1] > _MOST_PIXELS:
        raise InputError(
            f"{file} promises {size[0]} x {size[1]} pixels, more than the {_MOST_PIXELS} that are "
            "read: make the images smaller."
        )


def _opened(path: Path) -> gzip.GzipFile | IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _room(path: Path) -> int:
    """Return to how many bytes a compressed file may unpack."""
    return max(_LEAST_ROOM, _MOST_GROWTH * path.stat().st_size)


def _pieces(
    stream: gzip.GzipFile | IO[bytes], count: int, path: object, room: int | None
) -> Iterator[bytes]:
    """Yield `count` bytes as they come: memory grows with what is there, not with a promise."""
    left = count
    while left:
        if room is not None and count - left > room:
            raise InputError(
                f"{path} unpacks to more than {room} bytes, {_MOST_GROWTH} times its size or "
                f"{_LEAST_ROOM >> 20} MiB: store it uncompressed."
            )
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


def _read_exactly(
    stream: gzip.GzipFile | IO[bytes], count: int, path: object, room: int | None = None
) -> bytes:
    return b"".join(_pieces(stream, count, path, room))


def _read_npy(stream: IO[bytes], path: object, room: int | None) -> Array:
    """Read one array in NumPy's format, refusing pickles and checking size against content."""
    shape, fortran, dtype = _read_npy_header(stream, path)
    content = _read_exactly(stream, math.prod(shape) * dtype.itemsize, path, room)
    array = np.frombuffer(content, dtype) if content else np.empty(0, dtype)
    try:
        return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    except (ValueError, OverflowError):
        # Without a value there may be any size beside a zero, and any number of sizes.
        raise _strange_shape(path, shape) from None


def _map_npy(stream: IO[bytes], path: Path) -> Array:
    """Map an array in NumPy's format, to be read only."""
    shape, fortran, dtype = _read_npy_header(stream, path)
    promised, there = math.prod(shape) * dtype.itemsize, path.stat().st_size - stream.tell()
    if promised > there:
        raise _cut_short(path, promised, there)
    if promised == 0:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", stream.tell(), shape, "F" if fortran else "C")


def _cut_short(path: object, promised: int, there: int) -> InputError:
    return InputError(
        f"{path} is cut short: it promises {shown(promised, 40)} bytes of data but holds {there}: "
        "get it again."
    )


def _read_npy_header(
    stream: IO[bytes], path: object
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _NPY_HEADERS:
            raise InputError(f"{path} has NumPy format {version}: save it again with np.save.")
        width, parse = _NPY_HEADERS[version]
        # Not from the stream itself: the parser makes room for any length that is promised.
        start = _read_up_to(stream, width, path)
        length = int.from_bytes(start, "little")
        if length > _LONGEST_HEADER:
            raise ValueError(f"its header is said to have {length} bytes")
        with warnings.catch_warnings():
            # What Python 2 wrote is read as anything else.
            warnings.simplefilter("ignore")
            shape, fortran, dtype = parse(io.BytesIO(start + _read_up_to(stream, length, path)))
    except InputError:
        raise
    except MemoryError:
        # Python's parser says so of brackets within brackets.
        raise InputError(f"{path} has a header nested too deeply: use np.save.") from None
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
    if dtype.kind not in "biufcUS" or dtype.itemsize == 0:
        raise InputError(
            f"{path} holds values of type {shown(dtype)}: save numbers, or text for labels."
        )
    if len(shape) > _MOST_AXES or any(isinstance(s, bool) or not 0 <= s < 2**63 for s in shape):
        raise _strange_shape(path, shape)
    return shape, fortran, dtype


def _strange_shape(path: object, shape: tuple[int, ...]) -> InputError:
    # A number of thousands of digits has no text.
    sizes = tuple(max(-(2**63), min(size, 2**63)) for size in shape)
    return InputError(f"{path} promises the shape {shown(sizes)}: save it again with np.save.")


def _some(names: list[str]) -> str:
    listed = ", ".join(shown(name, 40) for name in names[:3])
    return listed if len(names) <= 3 else f"{listed}, ..."


def _is_number(text: object) -> bool:
    try:
        float(str(text))
    except ValueError:
        return False
    return True


def first_line(error: BaseException) -> str:
    """Reduce another library's message to what fits into one sentence."""
    lines = str(error).strip().splitlines()
    return shown(lines[0].rstrip(".")) if lines else type(error).__name__
