"""Tables: text with separators, and data frames, as features and labels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zmanifold._base.errors import InputError
from zmanifold.datasets.formats._columns import Columns, as_numbers
from zmanifold.datasets.formats._numbers import with_numbers
from zmanifold.datasets.formats._text import Layout, is_number, laid_out, read_text
from zmanifold.datasets.formats.registry import Contents, Format
from zmanifold.datasets.reading import Reading

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CSV", "TSV", "as_contents"]

_OPTIONS = ("label_column", "features", "header")
_REMEDY = "save it as UTF-8 text with one separator"

# Options of pandas to read fields as text, with no text taken as missing.
_AS_WRITTEN: dict[str, Any] = {"dtype": str, "keep_default_na": False, "na_values": []}


def _load_csv(path: Path, **options: Any) -> Contents:
    return _load(path, False, **options)


def _load_tsv(path: Path, **options: Any) -> Contents:
    return _load(path, True, **options)


def _load(
    path: Path,
    tabs: bool,
    *,
    header: bool | None = None,
    label_column: str | None = None,
    features: Sequence[str] | None = None,
) -> Contents:
    layout = laid_out(read_text(path), path, header=header, tabs=tabs)
    frame, empty, skipped = _without_empty(_read_frame(layout), layout)
    frame, note = with_numbers(
        frame, path, layout.separator, partial(_read_frame, layout, **_AS_WRITTEN)
    )
    reading = Reading(
        str(path),
        "table",
        layout.header,
        notes=layout.notes if note is None else (*layout.notes, note),
        skipped=(*layout.skipped, *skipped),
    )
    return as_contents(
        Columns(frame, layout.names, layout.header, path, empty),
        reading,
        label_column=label_column,
        features=features,
        written=partial(_written, layout, len(frame)),
    )


def _written(layout: Layout, n_rows: int, column: int) -> pd.Series:
    """Return the fields of a column as text."""
    fields = _read_frame(layout, usecols=[column], **_AS_WRITTEN)
    return fields[column].iloc[:n_rows].str.strip()


def _read_frame(layout: Layout, **how: Any) -> pd.DataFrame:
    import pandas as pd

    with warnings.catch_warnings():
        # pandas only warns when it drops fields beyond the named columns.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            # low_memory=False reads the table in one piece, so that each column has one type.
            frame: pd.DataFrame = pd.read_csv(
                io.BytesIO(layout.body),
                sep=r"\s+" if layout.separator == " " else layout.separator,
                header=None,
                names=list(range(len(layout.names))),
                index_col=False,
                skipinitialspace=True,
                low_memory=False,
                **how,
            )
        except pd.errors.ParserWarning:
            raise ValueError(
                f"a line has more than {len(layout.names)} fields separated by {layout.separator!r}"
            ) from None
    return frame


def _without_empty(
    frame: pd.DataFrame, layout: Layout
) -> tuple[pd.DataFrame, frozenset[int], tuple[str, ...]]:
    """Drop unnamed columns, and rows at the end, without values: spreadsheets leave them behind."""
    missing = frame.isna()
    # Without a header only the last column can be such: each line may end in a separator. Others
    # without values are missing data.
    places = range(len(layout.names))[0 if layout.header else -1 :]
    empty = [i for i in places if not layout.names[i] and missing[i].all()]
    filled = np.flatnonzero(~missing.to_numpy().all(axis=1))
    n_rows = int(filled[-1]) + 1 if len(filled) else 0
    skipped = []
    if empty:
        skipped.append(f"{len(empty)} empty column{'s' * (len(empty) > 1)}")
    if n_rows < len(frame):
        skipped.append(f"{len(frame) - n_rows} empty row(s) at the end")
    return frame.iloc[:n_rows], frozenset(empty), tuple(skipped)


def as_contents(
    columns: Columns,
    reading: Reading,
    *,
    label_column: str | None = None,
    features: Sequence[str] | None = None,
    index: Sequence[str] = (),
    written: Callable[[int], pd.Series] | None = None,
) -> Contents:
    """Split a table into features and labels.

    Parameters
    ----------
    columns : Columns
        The columns; each row is a point.
    reading : Reading
        The report on the file so far.
    label_column, features
        As for `load_dataset`.
    index : sequence of str, default=()
        Names of columns that the file declares as its index.
    written : callable, optional
        For files of text: returns a column's fields as text.

    Raises
    ------
    InputError
        If the table is empty, has text or a missing value among its features, or several columns
        may hold the labels.

    Examples
    --------
    >>> import pandas as pd
    >>> from pathlib import Path
    >>> from zmanifold.datasets import Reading
    >>> from zmanifold.datasets.formats._columns import Columns
    >>> from zmanifold.datasets.formats.tables import as_contents
    >>> frame = pd.DataFrame({0: [1, 2], 1: ["u", "v"]})
    >>> columns = Columns(frame, ["a", "y"], True, Path("a.csv"))
    >>> as_contents(columns, Reading("a.csv", "table")).x.tolist()
    [[1], [2]]
    """
    frame, path = columns.frame, columns.path
    if frame.empty:
        raise InputError(
            f"{path} has {len(frame)} rows and {len(frame.columns)} columns: give a row a point "
            "and a column a feature."
        )
    roles = columns.roles(label_column=label_column, features=features, index=index)
    y = None if roles.labels is None else _labels(frame[roles.labels], roles.labels, written)
    left_out = [f"column {columns.name(i)!r} (not among features)" for i in roles.left_out]
    said = replace(
        reading,
        index=tuple(map(columns.name, roles.index)),
        features=tuple(map(columns.name, roles.features)),
        labels=None if roles.labels is None else columns.name(roles.labels),
        notes=(*reading.notes, *roles.notes),
        skipped=(*reading.skipped, *left_out),
    )
    return Contents(as_numbers(columns, roles.features), y, reading=said)


def _labels(
    column: pd.Series, place: int, written: Callable[[int], pd.Series] | None
) -> NDArray[Any]:
    """Return labels; text labels are taken as written, "NA" included; empty fields are missing."""
    if written is None or (column.dtype.kind in "biuf" and column.notna().all()):
        return column.to_numpy()
    if column.notna().all():
        texts = column.to_numpy(object)
        return np.array([t.strip() if isinstance(t, str) else t for t in texts], object)
    fields = written(place)
    if all(is_number(field) for field in fields.unique()):
        # Numbers with missing values.
        return column.to_numpy()
    return fields.astype(object).where(fields != "", None).to_numpy()


CSV = Format("a .csv table", (".csv", ".csv.gz"), _load_csv, _REMEDY, _OPTIONS)
TSV = Format("a .tsv table", (".tsv", ".tsv.gz"), _load_tsv, _REMEDY, _OPTIONS)
