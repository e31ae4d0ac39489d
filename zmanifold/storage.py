"""Writing of figures, and of tables with a JSON of their settings beside them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zmanifold._base.files import check_output, sidecar_of, write_atomically, write_json

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["save_figure", "save_table"]


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure atomically; the same figure gives the same bytes.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    path : Path
        The file, which ends in .png, .svg or .pdf.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from matplotlib.figure import Figure
    >>> from zmanifold.storage import save_figure
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_figure(Figure(), Path(folder, "a.svg"))
    """
    import matplotlib as mpl

    # Matplotlib would write the date, and random identifiers into an SVG.
    dated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower())
    with mpl.rc_context({"svg.hashsalt": "zmanifold"}):
        write_atomically(path, lambda part: figure.savefig(part, dpi=150, metadata=dated))


def save_table(frame: pd.DataFrame, path: Path, settings: Mapping[str, Any]) -> None:
    """Write a table, and beside it a JSON of the settings that it was computed with.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.
    path : Path
        The file, which ends in .parquet or .csv. The settings are written to the same name with
        the ending .json.
    settings : mapping
        The settings, as JSON takes them.

    Raises
    ------
    InputError
        If the path has another ending or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from zmanifold.storage import save_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_table(pd.DataFrame({"a": [1]}), Path(folder, "run.csv"), {"seed": 0})
    ...     sorted(p.name for p in Path(folder).iterdir())
    ['run.csv', 'run.json']
    """
    check_output(path, overwrite=True)
    if path.suffix.lower() == ".parquet":
        # Into an open file: pyarrow takes no path that is not UTF-8.
        write_atomically(path, partial(_write_parquet, frame))
    else:
        write_atomically(path, lambda temporary: frame.to_csv(temporary, index=False))
    write_json(sidecar_of(path), settings)


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    with path.open("wb") as file:
        frame.to_parquet(file, index=False)
