"""The roles of a table's columns: index, features, labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zmanifold._base.errors import InputError
from zmanifold._base.naming import listed
from zmanifold.datasets.formats._text import LABEL_COLUMNS
from zmanifold.datasets.formats._wording import some_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Columns", "Roles", "as_numbers"]

# Names of columns that are an index if they count the rows.
_INDEX_COLUMNS = {
    "index", "level_0", "row_nr", "row_number", "row_id", "rowid", "row", "id", "idx", "rownames",
}  # fmt: skip
_LEFT_BEHIND = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True)
class Roles:
    """The positions of columns by their roles.

    Attributes
    ----------
    features, index, left_out : tuple of int
        Columns of the points, columns of row names or numbers, and columns that are not used.
    labels : int or None
        The column of labels.
    notes : tuple of str
        Columns whose role is not the one that their name suggests, and why.
    """

    features: tuple[int, ...]
    index: tuple[int, ...]
    left_out: tuple[int, ...]
    labels: int | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """The columns of a table.

    Attributes
    ----------
    frame : pandas.DataFrame
        The values, with columns 0, 1, ...
    names : sequence of str
        The names of the columns; "" for a column without a name.
    header : bool
        Whether the file names its columns; if not, messages use positions.
    path : Path
        The file, for messages.
    empty : frozenset of int
        Columns without values and names, which are skipped.
    """

    frame: pd.DataFrame
    names: Sequence[str]
    header: bool
    path: Path
    empty: frozenset[int] = frozenset()

    @cached_property
    def kinds(self) -> list[str]:
        """The kind of each column's type, as NumPy calls it."""
        return [dtype.kind for dtype in self.frame.dtypes]

    def name(self, i: int) -> str:
        """Return a column's name in messages."""
        if self.names[i]:
            return self.names[i]
        return f"column {i} (unnamed)" if self.header else f"column {i}"

    def roles(
        self,
        *,
        label_column: str | None,
        features: Sequence[str] | None,
        index: Sequence[str] = (),
    ) -> Roles:
        """Find the role of each column.

        Parameters
        ----------
        label_column : str or None
            The column of labels, by name or position.
        features : sequence of str or None
            The columns of the points, by names, positions or ranges of positions, "0:3".
        index : sequence of str, default=()
            Names of columns that the file declares as its index.

        Raises
        ------
        InputError
            If a column does not exist, or several may hold the labels.
        """
        wanted = None if features is None else self._wanted(features)
        labels = None if label_column is None else self._find("label_column", label_column)
        if labels is not None and labels in (wanted or ()):
            raise InputError(
                f"{self.path} has label_column={label_column!r} among the features: name it once."
            )
        taken = {labels, *(wanted or ()), *self.empty}
        free = [i for i in range(len(self.names)) if i not in taken]
        numbering = self._index(free, set(index), keep_one=wanted is None)
        free = [i for i in free if i not in numbering]
        notes: tuple[str, ...] = ()
        if labels is None:
            labels, notes = self._labels(free, wanted)
            free = [i for i in free if i != labels]
        if wanted is not None:
            return Roles(tuple(wanted), numbering, tuple(free), labels, notes)
        return Roles(tuple(free), numbering, (), labels, notes)

    def _find(self, option: str, wanted: str) -> int:
        named = [i for i, name in enumerate(self.names) if name == wanted]
        if not named:
            named = [i for i, n in enumerate(self.names) if n and n.lower() == wanted.lower()]
        if len(named) > 1:
            raise InputError(
                f"{option} names {wanted!r}, of which {self.path} has {len(named)} columns: give "
                f"the position of one, {', '.join(map(str, named))}."
            )
        n = len(self.names)
        if not named and re.fullmatch(r"-?\d{1,6}", wanted) and -n <= int(wanted) < n:
            named = [int(wanted) % n]
        if not named:
            raise InputError(
                f"{self.path} has no column {wanted!r} for {option}: its columns are "
                f"{listed([self.name(i) for i in range(n)], 12)}."
            )
        return named[0]

    def _wanted(self, features: Sequence[str]) -> list[int]:
        found: list[int] = []
        for text in features:
            bounds = re.fullmatch(r"(\d{0,6}):(\d{0,6})", text)
            if bounds is None or text in self.names:
                found.append(self._find("features", text))
                continue
            start, stop = int(bounds[1] or 0), int(bounds[2] or len(self.names))
            if not start < stop <= len(self.names):
                raise InputError(
                    f"features has the range {text!r} for the {len(self.names)} columns of "
                    f"{self.path}: give START:STOP with 0 <= START < STOP <= {len(self.names)}."
                )
            found += range(start, stop)
        return list(dict.fromkeys(found))

    def _index(self, free: list[int], told: set[str], keep_one: bool) -> tuple[int, ...]:
        """Return the columns that number or name the rows."""
        found = [
            i
            for i in free
            if _LEFT_BEHIND.fullmatch(self.names[i])
            or (self.names[i] in told and self.names[i].lower() not in LABEL_COLUMNS)
        ]
        others = [i for i in free if i not in found]
        n_left = sum(self.names[i].lower() not in LABEL_COLUMNS for i in others)
        for i in others:
            # A column is no index if it is the only feature.
            if self._numbers_rows(i, others) and (not keep_one or n_left > 1):
                found.append(i)
                n_left -= 1
        return tuple(found)

    def _numbers_rows(self, i: int, others: list[int]) -> bool:
        column, name = self.frame[i], self.names[i].lower()
        if name:
            return name in _INDEX_COLUMNS and _counts(column)
        if not self.header:
            # Without names, a first column of row numbers is an index only beside real numbers:
            # beside whole numbers it may be data.
            if i != 0 or len(column) < 3 or not _counts(column):
                return False
            return any(self.kinds[j] == "f" for j in others if j != i)
        if _counts(column):
            return True
        if i != 0 or not all(self.names[j] for j in others if j != i):
            return False
        # A part of a longer table keeps the row numbers, or names, of the whole.
        if column.dtype.kind in "iu" and not column.is_unique:
            raise InputError(
                f"{self.path} has a first column without a name, of whole numbers that repeat: "
                "name it, or name the columns of the points with features."
            )
        return column.dtype.kind not in "bfc" and bool(column.is_unique and column.notna().all())

    def _labels(
        self, free: list[int], wanted: list[int] | None
    ) -> tuple[int | None, tuple[str, ...]]:
        """Return the column of labels, and notes on columns so named that are features."""
        names = [name.lower() for name in self.names]
        candidates = [i for i in free if names[i] in LABEL_COLUMNS]
        notes = []
        for i in list(candidates):
            # A column y is a coordinate beside x and either z or another column of labels.
            others = {*names} & {"z", *LABEL_COLUMNS[1:]}
            beside_x = names[i] == "y" and "x" in names and bool(others)
            if (beside_x or _is_measured(self.frame[i])) and wanted is None:
                why = "beside x" if beside_x else "of real values that hardly repeat"
                notes.append(f"{self.name(i)}, {why}, is a feature")
                candidates.remove(i)
        if len(candidates) > 1:
            listing = some_of([self.name(i) for i in candidates])
            raise InputError(
                f"{self.path} has the label columns {listing}: keep one, or name it with "
                "label_column."
            )
        return (candidates[0] if candidates else None), tuple(notes)


def _counts(column: pd.Series) -> bool:
    """Tell whether a column holds the numbers 0..n-1 or 1..n, in any order."""
    if column.dtype.kind not in "iuf" or column.isna().any():
        return False
    values = np.sort(column.to_numpy())
    first = values[0]
    return first in (0, 1) and bool((values == np.arange(first, first + len(values))).all())


def _is_measured(column: pd.Series) -> bool:
    """Tell whether a column holds real numbers that hardly repeat, which are not classes."""
    if column.dtype.kind != "f":
        return False
    values = column[column.notna()]
    if not np.isfinite(values).all() or (values == values.round()).all():
        return False
    return len(values) > 2 and values.nunique() > len(values) / 2


def as_numbers(columns: Columns, features: Sequence[int]) -> NDArray[Any]:
    """Return columns as one array of finite numbers.

    Raises
    ------
    InputError
        If a column does not hold numbers, or a value is missing.
    """
    frame, path = columns.frame, columns.path
    texts = [columns.name(i) for i in features if columns.kinds[i] not in "biuf"]
    if texts:
        raise InputError(
            f"{path} has columns that are not numbers ({some_of(texts)}): encode or drop them, "
            f"call the column of labels {LABEL_COLUMNS[0]!r} or name it with label_column, or name "
            "the columns of the points with features."
        )
    x = frame.iloc[:, list(features)].to_numpy()
    if x.dtype.kind == "O":
        # Truth values beside numbers, or nullable numbers.
        x = frame.iloc[:, list(features)].to_numpy(np.float64, na_value=np.nan)
    if x.dtype.kind == "f" and not (finite := np.isfinite(x)).all():
        row, place = map(int, np.argwhere(~finite)[0])
        i = features[place]
        name = f" ({columns.names[i]!r})" if columns.names[i] else ""
        raise InputError(
            f"{path.stem}: x holds {int((~finite).sum())} NaN or inf, the first is "
            f"{x[row, place]} at row {row}, column {i}{name}, where rows of data count from 0: "
            "fill in such values, or remove their rows."
        )
    return x
