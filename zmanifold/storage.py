"""The only file I/O of results: tables and their JSON sidecars, written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zmanifold.errors import InputError, unknown_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from zmanifold.sweep import SweepResult

__all__ = [
    "check_output",
    "journal_of",
    "save_figure",
    "save_sweep",
    "save_table",
    "sidecar_of",
    "write_atomically",
    "write_json",
]

_TABLE_ENDINGS = (".parquet", ".csv")


def sidecar_of(path: Path) -> Path:
    """Return where the JSON beside a result lies: run.parquet -> run.json.

    Examples
    --------
    >>> from pathlib import Path
    >>> from zmanifold.storage import sidecar_of
    >>> sidecar_of(Path("run.parquet")).name
    'run.json'
    """
    return path.with_suffix(".json")


def journal_of(path: Path) -> Path:
    """Return where a table's journal lies: run.parquet -> run.journal.

    Examples
    --------
    >>> from pathlib import Path
    >>> from zmanifold.storage import journal_of
    >>> journal_of(Path("run.parquet")).name
    'run.journal'
    """
    return path.with_suffix(".journal")


def check_output(
    path: Path,
    endings: tuple[str, ...] = _TABLE_ENDINGS,
    *,
    overwrite: bool,
    resumable: bool = False,
    inputs: Iterable[str] = (),
) -> None:
    """Refuse a path that could not be written, before the work whose result it shall hold.

    Parameters
    ----------
    path : Path
        The file to come.
    endings : tuple of str, default=(".parquet", ".csv")
        The endings allowed; the ending chooses the format.
    overwrite : bool
        Whether the file may exist already.
    resumable : bool, default=False
        Whether the message shall name --resume for a file that exists.
    inputs : iterable of str, default=()
        Data sets' names or files, none of which may be the output.

    Raises
    ------
    InputError
        If the ending is unknown, the folder is missing or closed, or the file exists or is an
        input.

    Examples
    --------
    >>> from pathlib import Path
    >>> from zmanifold.storage import check_output
    >>> check_output(Path("run.parquet"), overwrite=True)
    """
    if path.suffix.lower() not in endings:
        raise unknown_name("ending of the output", path.suffix or path.name, endings)
    folder = path.parent
    if not folder.is_dir():
        raise InputError(f"the output folder {str(folder)!r} does not exist: make it first.")
    try:
        # Rights alone do not tell: the file system may be read-only.
        with tempfile.TemporaryFile(dir=folder):
            exists = path.exists()
    except OSError as error:
        raise InputError(
            f"the output {str(path)!r} cannot be written ({error.strerror}): choose another folder "
            "or name."
        ) from None
    if path.is_dir():
        raise InputError(f"the output {str(path)!r} is a folder: give a file name.")
    if exists and any(path.samefile(source) for source in inputs if Path(source).exists()):
        raise InputError(f"the output {str(path)!r} is an input, too: give another name.")
    if exists and not overwrite:
        remedy = "--resume to go on, --overwrite to begin anew" if resumable else "--overwrite"
        raise InputError(f"the output {str(path)!r} exists: give {remedy} or another name.")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it there in one step.

    Parameters
    ----------
    path : Path
        The file to come.
    write : callable
        Takes the temporary file's path, which has the same ending.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from zmanifold.storage import write_atomically
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder, "a.txt"), lambda p: p.write_text("whole"))
    ...     Path(folder, "a.txt").read_text()
    'whole'
    """
    # Of a name as long as names may be, a part.
    prefix = f".{path.stem[:50]}-"
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        umask = os.umask(0)
        os.umask(umask)
        # mkstemp's files are private, results are as readable as any other file.
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, atomically.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from zmanifold.storage import write_json
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(Path(folder, "a.json"), {"seed": 0})
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


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


def save_sweep(result: SweepResult | list[SweepResult], path: Path) -> pd.DataFrame:
    """Write one table of one or several sweeps and a JSON of their settings beside it.

    Parameters
    ----------
    result : SweepResult or list of SweepResult
        What was measured.
    path : Path
        Ends in .parquet or .csv; the settings go to the same name with .json.

    Returns
    -------
    pandas.DataFrame
        The table as written.

    Raises
    ------
    InputError
        If the ending is another one.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import zmanifold as zm
    >>> from zmanifold.storage import save_sweep
    >>> X, _ = zm.make_helix(500, random_state=0)
    >>> result = zm.sweep_id(X, mixers=[None], n_neighbors=8, seeds=1, progress=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     frame = save_sweep(result, Path(folder, "run.parquet"))
    ...     sorted(p.name for p in Path(folder).iterdir())
    ['run.json', 'run.parquet']
    """
    results = result if isinstance(result, list) else [result]
    import pandas as pd

    frame = pd.concat([r.to_frame() for r in results], ignore_index=True)
    save_table(frame, path, {"sweeps": [r.settings for r in results]})
    return frame


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
