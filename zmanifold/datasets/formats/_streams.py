"""Reading of plain and compressed files; memory grows with the content, not with promises."""

from __future__ import annotations

import gzip
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from gzip import GzipFile
from pathlib import Path
from typing import IO

from zmanifold._base.errors import InputError, shown
from zmanifold.datasets.formats._wording import first_line

__all__ = [
    "LEAST_UNPACKED",
    "MOST_GROWTH",
    "Stream",
    "check_regular",
    "cut_short",
    "opened",
    "read_all",
    "read_exactly",
    "read_up_to",
    "unpacked_limit",
]

Stream = IO[bytes] | GzipFile

_PIECE = 2**22

_OTHERS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

# A compressed file may unpack to this number of bytes, or to this multiple of its size. Zeros
# unpack to a thousand times the size of their file, real data to far less.
LEAST_UNPACKED = 2**26
MOST_GROWTH = 200


def unpacked_limit(path: Path) -> int:
    """Return the number of bytes that a compressed file may unpack to."""
    return max(LEAST_UNPACKED, MOST_GROWTH * path.stat().st_size)


def check_regular(path: Path) -> None:
    """Refuse paths that are not regular files: reading a pipe or a device may never end.

    Raises
    ------
    InputError
        If the path is a folder, a pipe, a socket, a device, or a link to one or to nothing.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): remove it, or give another file."
        ) from None
    if not stat.S_ISREG(mode):
        what = next((name for is_one, name in _OTHERS if is_one(mode)), "no file")
        link = "a link to " if path.is_symlink() else ""
        raise InputError(f"{path} is {link}{what}: only regular files are read, remove it.")


def opened(path: Path) -> Stream:
    """Open a file; a file that ends in .gz is decompressed as it is read."""
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


def read_all(stream: Stream, path: Path, already: int = 0) -> bytes:
    """Read the rest of a stream; `already` bytes of it were read before.

    Raises
    ------
    InputError
        If a compressed file unpacks to more than `unpacked_limit`, or is damaged.
    """
    limit = (
        unpacked_limit(path) if isinstance(stream, GzipFile) else os.fstat(stream.fileno()).st_size
    )
    pieces, size = [], already
    while piece := read_up_to(stream, _PIECE, path):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise _unpacks_to_more(path, limit)
    return b"".join(pieces)


def read_exactly(stream: Stream, count: int, path: object, limit: int | None = None) -> bytes:
    """Read `count` bytes.

    Raises
    ------
    InputError
        If there are fewer, they are more than `limit`, or a compressed file is damaged.
    """
    return b"".join(_pieces(stream, count, path, limit))


def _pieces(stream: Stream, count: int, path: object, limit: int | None) -> Iterator[bytes]:
    """Yield `count` bytes in pieces: memory grows with the file, not with `count`."""
    left = count
    while left:
        if limit is not None and count - left > limit:
            raise _unpacks_to_more(path, limit)
        piece = read_up_to(stream, min(left, _PIECE), path)
        if not piece:
            raise cut_short(path, count, count - left)
        yield piece
        left -= len(piece)


def read_up_to(stream: Stream, count: int, path: object) -> bytes:
    """Read `count` bytes, or all that are left if these are fewer.

    Raises
    ------
    InputError
        If a compressed file is damaged.
    """
    try:
        return stream.read(count)
    except (EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged ({first_line(error)}): get it again.") from None


def _unpacks_to_more(path: object, limit: int) -> InputError:
    return InputError(
        f"{path} unpacks to more than {limit} bytes, {MOST_GROWTH} times its size or "
        f"{LEAST_UNPACKED >> 20} MiB: store it uncompressed."
    )


def cut_short(path: object, promised: int, there: int) -> InputError:
    """Build the error for a file that is shorter than its header says."""
    return InputError(
        f"{path} is cut short: it promises {shown(promised, 40)} bytes of data but holds {there}: "
        "get it again."
    )
