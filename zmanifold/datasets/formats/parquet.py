"""Parquet tables, decoded by pyarrow in a child process."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zmanifold._base.errors import InputError
from zmanifold.datasets.formats._columns import Columns
from zmanifold.datasets.formats._sandbox import decode_apart
from zmanifold.datasets.formats._streams import unpacked_limit
from zmanifold.datasets.formats._wording import some_of
from zmanifold.datasets.formats.registry import Contents, Format
from zmanifold.datasets.formats.tables import as_contents
from zmanifold.datasets.reading import Reading

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["PARQUET"]

# The size of the widest numbers.
_BYTES_A_VALUE = 8

_REMEDY = "save it as .npy or .csv"

# The greatest length of lists in a column.
_MOST_ENTRIES = 100_000

# The key of the table's metadata under which the child reports what it did.
_NOTES = b"zmanifold"


def _load(
    path: Path, *, label_column: str | None = None, features: Sequence[str] | None = None
) -> Contents:
    import pyarrow as pa

    limit = unpacked_limit(path)
    # If features are given, other columns may be of any type: the child drops those.
    wanted = [name for name in (label_column, *(features or ())) if name is not None]
    try:
        # The table and its copy for this process take 3 `limit` each: a buffer of `limit` bytes
        # grows by being copied to one of twice the size.
        (content,) = decode_apart(
            _decode, [path], library="pyarrow.parquet", memory=6 * limit, limit=limit,
            wanted=wanted if features else None,
        )  # fmt: skip
    except MemoryError:
        raise InputError(
            f"{path} would take more than {limit} bytes, too many for a file of "
            f"{path.stat().st_size}: {_REMEDY}."
        ) from None
    table = pa.ipc.open_stream(pa.py_buffer(content)).read_all()
    table.validate(full=True)
    notes = json.loads((table.schema.metadata or {}).get(_NOTES, b"{}"))
    frame, names, lists = _expanded(table, path)
    reading = Reading(
        str(path), "table", notes=tuple(lists), skipped=tuple(map(str, notes.get("skipped", [])))
    )
    return as_contents(
        Columns(frame, names, True, path),
        reading,
        label_column=label_column,
        features=features and _with_parts(features, names, table.column_names),
        index=notes.get("index", []),
    )


def _expanded(table: pa.Table, path: Path) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return a table as a frame; a column of lists becomes one column for each entry."""
    import pandas as pd
    import pyarrow as pa

    parts: list[Any] = []
    names: list[str] = []
    notes = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not pa.types.is_fixed_size_list(column.type):
            plain = pa.table([column], [name])
            # The file's metadata for pandas is ignored: it would choose types and load time zones.
            part = plain.to_pandas(ignore_metadata=True, strings_to_categorical=True)
            parts.append(_of_numbers(part.iloc[:, 0]))
            names.append(name)
            continue
        width = column.type.list_size
        values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        parts.append(pd.DataFrame(values.reshape(len(table), width)))
        names += [f"{name}[{i}]" for i in range(width)]
        notes.append(f"{name} holds lists of {width}")
    if not parts:
        return pd.DataFrame(index=range(len(table))), [], []
    frame = pd.concat(parts, axis=1)
    frame.columns = pd.RangeIndex(len(names))
    return frame, names, notes


def _of_numbers(column: pd.Series) -> pd.Series:
    """Return a column of categories that are numbers as a column of these numbers."""
    categories = getattr(column.dtype, "categories", None)
    if categories is not None and categories.dtype.kind in "biuf" and column.notna().all():
        return column.astype(categories.dtype)
    return column


def _with_parts(features: Sequence[str], names: list[str], columns: list[str]) -> list[str]:
    """Replace the name of a column of lists by the names of its entries."""
    chosen: list[str] = []
    for text in features:
        entries = [name for name in names if name.startswith(f"{text}[")]
        chosen += entries if text in columns and text not in names else [text]
    return chosen


def _decode(files: list[Path], limit: int, wanted: list[str] | None) -> Iterator[memoryview]:
    """Yield tables in Arrow's stream format."""
    import pyarrow as pa

    for path in files:
        table = _table(path, limit, wanted)
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table)
        yield memoryview(out.getvalue())


def _table(path: Path, limit: int, wanted: list[str] | None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Mapped, not read, because a file of any size may be damaged. Arrow's own maps read by threads,
    # each of which needs address space.
    with pq.ParquetFile(pa.py_buffer(_mapped(path))) as file:
        schema, n_rows = file.schema_arrow, file.metadata.num_rows
        notes = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        index = [name for name in notes.get("index_columns", []) if isinstance(name, str)]
        strange = [f.name for f in schema if not _is_read(f.type)]
        # The index of a table, and columns that are not wanted, may be of any type.
        dropped = {n for n in strange if n in index or (wanted is not None and n not in wanted)}
        if refused := [name for name in strange if name not in dropped]:
            raise InputError(
                f"{path} has columns that are neither numbers nor text ({some_of(refused)}): "
                "encode or drop them, or name the columns of the points with features."
            )
        # Checked before decoding: repeated values are a few bytes in the file.
        needed = n_rows * len(schema) * _BYTES_A_VALUE
        if needed > limit:
            raise _too_large(path, needed, limit)
        table = file.read(use_threads=False).drop_columns(list(dropped))
    if table.num_rows != n_rows:
        raise ValueError("its number of rows is not that of its parts")
    if table.nbytes > limit:
        raise _too_large(path, table.nbytes, limit)
    table.validate(full=True)
    table = _in_simple_types(table, path)
    skipped = [
        f"column {name!r} ({'the index' if name in index else 'not among features'})"
        for name in dropped
    ]
    said = json.dumps({"index": index, "skipped": sorted(skipped)})
    return table.replace_schema_metadata({_NOTES: said})


def _mapped(path: Path) -> bytes | mmap.mmap:
    # An empty file cannot be mapped.
    if path.stat().st_size == 0:
        return b""
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def _in_simple_types(table: pa.Table, path: Path) -> pa.Table:
    """Convert lists to lists of fixed length, and decimals to float64."""
    import pyarrow as pa

    for i, column in enumerate(table.columns):
        kind, name = column.type, table.column_names[i]
        if pa.types.is_decimal(kind):
            table = table.set_column(i, name, column.cast(pa.float64()))
        elif _is_list(kind):
            whole = column.combine_chunks()
            if isinstance(whole, pa.ChunkedArray):
                whole = pa.concat_arrays(whole.chunks) if whole.chunks else pa.array([], kind)
            lengths = whole.value_lengths() if hasattr(whole, "value_lengths") else None
            table = table.set_column(i, name, _fixed(whole, lengths, path, name))
    return table


def _fixed(column: Any, lengths: Any, path: Path, name: str) -> Any:
    import pyarrow as pa

    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise InputError(
            f"{path} has no list in column {name!r} at row {row}, where rows count from 0: remove "
            "such rows."
        )
    sizes = [column.type.list_size] if lengths is None else lengths.unique().to_pylist()
    if len(sizes) > 1:
        row = next(i for i, size in enumerate(lengths.to_pylist()) if size != sizes[0])
        raise InputError(
            f"{path} has lists of {sizes[0]} and {sizes[1]} numbers in column {name!r}, the first "
            f"other one at row {row}, where rows count from 0: give all one length."
        )
    width = sizes[0] if sizes else 0
    if not 0 < width <= _MOST_ENTRIES:
        raise InputError(
            f"{path} has lists of {width} numbers in column {name!r}: give 1 to {_MOST_ENTRIES}."
        )
    values = column.flatten()
    if values.null_count:
        row = values.is_null().to_pylist().index(True) // width
        raise InputError(
            f"{path} has a missing number in column {name!r} at row {row}, where rows count from "
            "0: remove such rows."
        )
    return pa.FixedSizeListArray.from_arrays(values, width)


def _too_large(path: Path, needed: int, limit: int) -> InputError:
    return InputError(
        f"{path} would take {needed} bytes, more than {limit} for a file of "
        f"{path.stat().st_size}: {_REMEDY}."
    )


def _is_read(kind: Any) -> bool:
    import pyarrow.types as is_

    if _is_list(kind):
        numbers = (is_.is_boolean, is_.is_integer, is_.is_floating)
        return any(test(kind.value_type) for test in numbers)
    if is_.is_dictionary(kind):
        return _is_read(kind.value_type)
    tests = (is_.is_boolean, is_.is_integer, is_.is_floating, is_.is_decimal, is_.is_string)
    return any(test(kind) for test in (*tests, is_.is_large_string, is_.is_null))


def _is_list(kind: Any) -> bool:
    import pyarrow.types as is_

    return any(test(kind) for test in (is_.is_list, is_.is_large_list, is_.is_fixed_size_list))


PARQUET = Format(
    "a .parquet table", (".parquet",), _load, "save it again", ("label_column", "features")
)
