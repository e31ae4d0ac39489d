"""Tables: text of comma-separated values, and what the columns of any table mean."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zmanifold._base.errors import InputError
from zmanifold.datasets.formats._wording import some_of
from zmanifold.datasets.formats.registry import Contents, Format

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CSV", "as_contents"]

_LABEL_COLUMNS = ("y", "label", "labels", "target", "class")
_MOST_COLUMNS = 100_000


def _load_csv(path: Path) -> Contents:
    return as_contents(_read_frame(path), path)


def _read_frame(path: Path) -> pd.DataFrame:
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


def _is_number(text: object) -> bool:
    try:
        float(str(text))
    except ValueError:
        return False
    return True


def as_contents(frame: pd.DataFrame, path: Path) -> Contents:
    """Take a table apart into features and the column of labels.

    Parameters
    ----------
    frame : pandas.DataFrame
        A row a point.
    path : Path
        Where it was read from, for messages.

    Returns
    -------
    Contents
        Of the columns that are no labels, and of the one that is called y, label, labels, target
        or class.

    Raises
    ------
    InputError
        If the table is empty, has text among its features, or several columns of labels.

    Examples
    --------
    >>> import pandas as pd
    >>> from pathlib import Path
    >>> from zmanifold.datasets.formats.tables import as_contents
    >>> as_contents(pd.DataFrame({"a": [1, 2], "y": ["u", "v"]}), Path("a.csv")).x.tolist()
    [[1], [2]]
    """
    if frame.empty:
        raise InputError(
            f"{path} has {len(frame)} rows and {len(frame.columns)} columns: give a row a point "
            "and a column a feature."
        )
    names = [str(column) for column in frame.columns]
    labelled = [i for i, column in enumerate(names) if column.lower() in _LABEL_COLUMNS]
    if len(labelled) > 1:
        raise InputError(
            f"{path} has the label columns {some_of([names[i] for i in labelled])}: keep one."
        )
    features = [i for i in range(len(names)) if i not in labelled]
    kinds = [dtype.kind for dtype in frame.dtypes]
    texts = [names[i] for i in features if kinds[i] not in "biuf"]
    if texts:
        raise InputError(
            f"{path} has columns that are not numbers ({some_of(texts)}): encode or drop "
            f"them, and call the column of labels {_LABEL_COLUMNS[0]!r}."
        )
    y = frame.iloc[:, labelled[0]].to_numpy() if labelled else None
    x = frame.iloc[:, features].to_numpy()
    if x.dtype.kind == "O":
        # Truth values beside numbers, or numbers some of which may be missing.
        x = frame.iloc[:, features].to_numpy(np.float64, na_value=np.nan)
    return Contents(x, y)


CSV = Format("a .csv table", (".csv",), _load_csv)
