"""Tables in Parquet files, whose sizes are checked before pyarrow makes room for them.

The sizes are read here and not with pyarrow, which ends the process on some damaged files when it
is asked for them.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zmanifold.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_parquet"]

# As the widest numbers take it.
_BYTES_A_VALUE = 8

# Numbers in the format: a column of text, and three ways of writing differences.
_TEXT = 6
_DIFFERENCES = {5, 6, 7}


def read_parquet(path: Path, room: int) -> pd.DataFrame:
    """Read a table that takes at most so many bytes.

    Parameters
    ----------
    path : Path
        The file.
    room : int
        The most bytes that its values, or its pages, may take.

    Returns
    -------
    pandas.DataFrame
        Columns of text are categorical.

    Raises
    ------
    InputError
        If it would take more.
    Exception
        Whatever pyarrow raises for a damaged file.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from pathlib import Path
    >>> from zmanifold.parquet import read_parquet
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.parquet")
    ...     pd.DataFrame({"a": [1.0, 2.0]}).to_parquet(path)
    ...     read_parquet(path, 1000).shape
    (2, 1)
    """
    import pyarrow.parquet as pq

    size = path.stat().st_size
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            chunks = list(_chunks(data))
            pages = sum(sum(_unpacked_pages(data, chunk)) for chunk in chunks)
        except (AttributeError, KeyError, TypeError, RecursionError):
            raise ValueError("its list of columns is damaged") from None
    needed = max(pages, sum(chunk.n_values for chunk in chunks) * _BYTES_A_VALUE)
    if needed > room:
        raise InputError(
            f"{path} would take {needed} bytes, more than {room} for a file of {size}: save it as "
            ".npy or .csv."
        )
    # Where texts are listed, a long one that is written once may come everywhere; pyarrow cannot
    # keep the list where they are written as differences.
    different = {chunk.name for chunk in chunks if chunk.encodings & _DIFFERENCES}
    listed = {chunk.name for chunk in chunks if chunk.kind == _TEXT} - different
    # Nothing in a file has more parts than the file has bytes.
    with pq.ParquetFile(
        path,
        read_dictionary=sorted(listed),
        thrift_string_size_limit=size,
        thrift_container_size_limit=size,
    ) as file:
        frame: pd.DataFrame = file.read().to_pandas()
    return frame


class _Chunk(NamedTuple):
    """Some rows of a column: its dotted name, its type and where its pages lie."""

    name: str
    kind: int
    encodings: set[int]
    n_values: int
    start: int
    length: int


def _chunks(data: mmap.mmap) -> Iterator[_Chunk]:
    """Yield what the end of a file lists."""
    if data[-4:] != b"PAR1":
        raise ValueError("it does not end as a Parquet file does")
    footer = _Thrift(data, len(data) - 8 - int.from_bytes(data[-8:-4], "little")).structure()
    for group in footer[4]:
        for column in group[1]:
            chunk = column[3]
            start = min(chunk[9], chunk.get(11, chunk[9]))
            name = b".".join(chunk[3]).decode()
            n_values = max(chunk[5], group[3], footer[3], 0)
            yield _Chunk(name, chunk[1], set(chunk[2]), n_values, start, chunk[7])


def _unpacked_pages(data: mmap.mmap, chunk: _Chunk) -> Iterator[int]:
    """Yield the size that each page of a column has when it is unpacked."""
    place = _Thrift(data, chunk.start)
    while place.at < chunk.start + chunk.length:
        header = place.structure()
        unpacked, packed = header[2], header[3]
        if unpacked < 0 or packed < 0:
            raise ValueError(f"a page of {min(unpacked, packed)} bytes")
        place.at += packed
        yield unpacked


class _Thrift:
    """A place in a file from which Thrift's compact protocol is read."""

    def __init__(self, data: mmap.mmap, at: int) -> None:
        self.data = data
        self.at = at

    def structure(self) -> dict[int, Any]:
        """Return the fields by their numbers."""
        fields: dict[int, Any] = {}
        number = 0
        while header := self.take(1)[0]:
            number = number + (header >> 4) if header >> 4 else self.integer()
            fields[number] = self.value(header & 15)
        return fields

    def value(self, kind: int) -> Any:
        match kind:
            case 1 | 2:
                return kind == 1
            case 3:
                return self.take(1)[0]
            case 4 | 5 | 6:
                return self.integer()
            case 7:
                return self.take(8)
            case 8:
                return self.take(self.natural())
            case 9 | 10:
                header = self.take(1)[0]
                count = header >> 4 if header >> 4 < 15 else self.natural()
                return [self.item(header & 15) for _ in range(count)]
            case 11:
                count = self.natural()
                kinds = self.take(1)[0] if count else 0
                return [(self.item(kinds >> 4), self.item(kinds & 15)) for _ in range(count)]
            case 12:
                return self.structure()
        raise ValueError(f"a value of type {kind}")

    def item(self, kind: int) -> Any:
        # Truth values, which are part of a field's type, are bytes here.
        return self.take(1) if kind in (1, 2) else self.value(kind)

    def take(self, count: int) -> bytes:
        end = self.at + count
        if not 0 <= self.at <= end <= len(self.data):
            raise ValueError("a size that goes past the end")
        content = self.data[self.at : end]
        self.at = end
        return content

    def natural(self) -> int:
        value = shift = 0
        while (byte := self.take(1)[0]) >= 128:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def integer(self) -> int:
        value = self.natural()
        return value >> 1 ^ -(value & 1)
