"""Tables, their JSON sidecars and figures as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zmanifold._base.files import check_output, sidecar_of, write_atomically, write_json

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["save_figure", "save_table"]


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, atomically and the same bytes for the same figure.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        What to write.
    path : Path
        Ends in .png, .svg or .pdf.

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

    # Without these, dates and random identifiers differ from run to run.
    dated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower())
    with mpl.rc_context({"svg.hashsalt": "zmanifold"}):
        write_atomically(path, lambda part: figure.savefig(part, dpi=150, metadata=dated))


def save_table(frame: pd.DataFrame, path: Path, settings: Mapping[str, Any]) -> None:
    """Write a table and a JSON of what it was computed with beside it.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.
    path : Path
        Ends in .parquet or .csv; the settings go to the same name with .json.
    settings : mapping
        Ready for JSON.

    Raises
    ------
    InputError
        If the ending is another one.

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
        write_atomically(path, lambda temporary: frame.to_parquet(temporary, index=False))
    else:
        write_atomically(path, lambda temporary: frame.to_csv(temporary, index=False))
    write_json(sidecar_of(path), settings)
