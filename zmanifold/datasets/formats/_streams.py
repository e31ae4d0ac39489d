"""Bytes of a file, plain or compressed, in as much memory as there are bytes."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from gzip import GzipFile
from pathlib import Path
from typing import IO

from zmanifold._base.errors import InputError, shown
from zmanifold.datasets.formats._wording import first_line

__all__ = ["Stream", "cut_short", "read_exactly", "read_up_to", "unpacked_limit"]

Stream = IO[bytes] | GzipFile

_PIECE = 2**22

# A file of zeros unpacks to a thousand times its size, real data to far less.
_LEAST_UNPACKED = 2**26
_MOST_GROWTH = 200


def unpacked_limit(path: Path) -> int:
    """Return to how many bytes a compressed file may unpack."""
    return max(_LEAST_UNPACKED, _MOST_GROWTH * path.stat().st_size)


def read_exactly(stream: Stream, count: int, path: object, limit: int | None = None) -> bytes:
    """Read so many bytes, at most `limit`.

    Raises
    ------
    InputError
        If there are fewer, or the compressed ones before them are damaged.
    """
    return b"".join(_pieces(stream, count, path, limit))


def _pieces(stream: Stream, count: int, path: object, limit: int | None) -> Iterator[bytes]:
    """Yield `count` bytes as they come: memory grows with the file, not with `count`."""
    left = count
    while left:
        if limit is not None and count - left > limit:
            raise InputError(
                f"{path} unpacks to more than {limit} bytes, {_MOST_GROWTH} times its size or "
                f"{_LEAST_UNPACKED >> 20} MiB: store it uncompressed."
            )
        piece = read_up_to(stream, min(left, _PIECE), path)
        if not piece:
            raise cut_short(path, count, count - left)
        yield piece
        left -= len(piece)


def read_up_to(stream: Stream, count: int, path: object) -> bytes:
    """Read so many bytes, or those that are left.

    Raises
    ------
    InputError
        If they cannot be decompressed.
    """
    try:
        return stream.read(count)
    except (EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged ({first_line(error)}): get it again.") from None


def cut_short(path: object, promised: int, there: int) -> InputError:
    """Build the error for a file that is shorter than its header says."""
    return InputError(
        f"{path} is cut short: it promises {shown(promised, 40)} bytes of data but holds {there}: "
        "get it again."
    )
