"""Parquet tables, decoded by pyarrow in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zmanifold._base.errors import InputError
from zmanifold.datasets.formats._sandbox import decode_apart
from zmanifold.datasets.formats._streams import unpacked_limit
from zmanifold.datasets.formats._wording import some_of
from zmanifold.datasets.formats.registry import Contents, Format
from zmanifold.datasets.formats.tables import as_contents

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PARQUET"]

# As the widest numbers take it.
_BYTES_A_VALUE = 8

_REMEDY = "save it as .npy or .csv"


def _load(path: Path) -> Contents:
    import pyarrow as pa

    limit = unpacked_limit(path)
    try:
        # The table and its copy for this process. Each may grow by doubling: up to `limit` bytes
        # are moved to room for twice as many.
        (content,) = decode_apart(
            _decode, [path], library="pyarrow.parquet", memory=6 * limit, limit=limit
        )
    except MemoryError:
        raise InputError(
            f"{path} would take more than {limit} bytes, too many for a file of "
            f"{path.stat().st_size}: {_REMEDY}."
        ) from None
    table = pa.ipc.open_stream(pa.py_buffer(content)).read_all()
    table.validate(full=True)
    # What else the file notes for pandas would choose types and load time zones.
    frame = table.to_pandas(ignore_metadata=True, strings_to_categorical=True)
    return as_contents(frame, path)


def _decode(files: list[Path], limit: int) -> Iterator[memoryview]:
    """Yield tables as Arrow's streams."""
    import pyarrow as pa

    for path in files:
        table = _table(path, limit)
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table)
        yield memoryview(out.getvalue())


def _table(path: Path, limit: int) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(pa.py_buffer(path.read_bytes())) as file:
        schema, n_rows = file.schema_arrow, file.metadata.num_rows
        notes = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        index = [name for name in notes.get("index_columns", []) if isinstance(name, str)]
        strange = [f.name for f in schema if f.name not in index and not _is_plain(f.type)]
        if strange:
            raise InputError(
                f"{path} has columns that are neither numbers nor text ({some_of(strange)}): "
                "encode or drop them."
            )
        # Values that are repeated take a few bytes of a page.
        needed = n_rows * len(schema) * _BYTES_A_VALUE
        if needed > limit:
            raise _too_large(path, needed, limit)
        table = file.read(use_threads=False).drop_columns(index)
    if table.num_rows != n_rows:
        raise ValueError("its number of rows is not that of its parts")
    if table.nbytes > limit:
        raise _too_large(path, table.nbytes, limit)
    table.validate(full=True)
    return table


def _too_large(path: Path, needed: int, limit: int) -> InputError:
    return InputError(
        f"{path} would take {needed} bytes, more than {limit} for a file of "
        f"{path.stat().st_size}: {_REMEDY}."
    )


def _is_plain(kind: Any) -> bool:
    import pyarrow.types as is_

    if is_.is_dictionary(kind):
        return _is_plain(kind.value_type)
    tests = (is_.is_boolean, is_.is_integer, is_.is_floating, is_.is_string, is_.is_large_string)
    return any(test(kind) for test in (*tests, is_.is_null))


PARQUET = Format("a .parquet table", (".parquet",), _load)
