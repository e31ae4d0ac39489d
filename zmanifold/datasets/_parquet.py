"""Tables in Parquet files, whose sizes are checked before pyarrow makes room for them.

The sizes are read here and not with pyarrow, which ends the process on some damaged files when it
is asked for them.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zmanifold._base.errors import InputError, shown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_parquet"]

# As the widest numbers take it.
_BYTES_A_VALUE = 8

# Numbers in the format: a column of text, and three ways of writing differences.
_TEXT = 6
_DIFFERENCES = (5, 6, 7)


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
    >>> from zmanifold.datasets._parquet import read_parquet
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
            pages = [page for chunk in chunks for page in _pages(data, chunk)]
        except (AttributeError, IndexError, KeyError, TypeError, RecursionError):
            raise ValueError("its list of columns is damaged") from None
    if any(page.encoding in _DIFFERENCES for page in pages):
        # A few bytes would make each text as long as the one before.
        raise InputError(f"{path} holds values as differences (DELTA): save it with to_parquet.")
    # Values that are repeated take a few bytes of a page.
    n_values = max(sum(part.n_values for part in parts) for parts in (chunks, pages))
    widest = max([_BYTES_A_VALUE, *(chunk.width for chunk in chunks)])
    needed = max(sum(page.unpacked for page in pages), n_values * widest)
    if needed > room:
        raise InputError(
            f"{path} would take {needed} bytes, more than {room} for a file of {size}: save it as "
            ".npy or .csv."
        )
    # Nothing in a file has more parts than the file has bytes.
    with pq.ParquetFile(
        path,
        # A long text that is written once may come in every row.
        read_dictionary=[chunk.name for chunk in chunks if chunk.kind == _TEXT],
        thrift_string_size_limit=size,
        thrift_container_size_limit=size,
    ) as file:
        schema = file.schema_arrow
        notes = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        index = [name for name in notes.get("index_columns", []) if isinstance(name, str)]
        strange = [f.name for f in schema if f.name not in index and not _is_plain(f.type)]
        if strange:
            raise InputError(
                f"{path} has columns that are neither numbers nor text "
                f"({', '.join(shown(name, 40) for name in strange[:3])}): encode or drop them."
            )
        table = file.read().drop_columns(index)
    # What else the file notes for pandas would choose types and load time zones.
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    return frame


def _is_plain(kind: Any) -> bool:
    import pyarrow.types as is_

    if is_.is_dictionary(kind):
        return _is_plain(kind.value_type)
    tests = (is_.is_boolean, is_.is_integer, is_.is_floating, is_.is_string, is_.is_large_string)
    return any(test(kind) for test in (*tests, is_.is_null))


class _Chunk(NamedTuple):
    """Some rows of a column: its dotted name, its type, a type's own width, where its pages lie."""

    name: str
    kind: int
    width: int
    n_values: int
    start: int
    length: int


class _Page(NamedTuple):
    """Some values of a column, or those that its values refer to."""

    n_values: int
    encoding: int
    packed: int
    unpacked: int


def _chunks(data: mmap.mmap) -> Iterator[_Chunk]:
    """Yield what the end of a file lists."""
    if data[-4:] != b"PAR1":
        raise ValueError("it does not end as a Parquet file does")
    footer = _Thrift(data, len(data) - 8 - int.from_bytes(data[-8:-4], "little")).structure()
    if sum(group[3] for group in footer[4]) != footer[3]:
        raise ValueError("its number of rows is not that of its parts")
    # The leaves of the tree of columns, in order.
    leaves = [element for element in footer[2] if 1 in element]
    for group in footer[4]:
        for leaf, column in zip(leaves, group[1], strict=True):
            chunk = column[3]
            start = min(chunk[9], chunk.get(11, chunk[9]))
            name = b".".join(chunk[3]).decode()
            n_values = max(chunk[5], group[3], 0)
            yield _Chunk(name, chunk[1], leaf.get(2, 0), n_values, start, chunk[7])


def _pages(data: mmap.mmap, chunk: _Chunk) -> Iterator[_Page]:
    place = _Thrift(data, chunk.start)
    while place.at < chunk.start + chunk.length:
        header = place.structure()
        # One of three: of values in the first or second version, or of those referred to.
        kind = next((number for number in (5, 8, 7) if number in header), None)
        inner = {} if kind is None else header[kind]
        encoding = inner.get(4 if kind == 8 else 2, 0)
        page = _Page(inner.get(1, 0), encoding, header[3], header[2])
        if min(page) < 0:
            raise ValueError(f"a page with a size of {min(page)}")
        place.at += page.packed
        yield page


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
