"""Sweeps over several data sets in one run, with one table, one journal and one figure."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zmanifold._base.ambient import ambient_outside
from zmanifold._base.errors import InputError, shown
from zmanifold._base.files import check_outputs, expanded, journal_of
from zmanifold.plotting import check_one_axis, sweep_figure
from zmanifold.storage import save_figure, save_table
from zmanifold.sweep.dask import check_dask, connected
from zmanifold.sweep.journal import Journal
from zmanifold.sweep.plan import Sweep, prepare_sweep
from zmanifold.sweep.result import SweepResult

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

__all__ = ["JournalLost", "PlotFailed", "check_distinct", "joint_table", "save_sweep", "sweep_many"]


class PlotFailed(RuntimeError):
    """The figure of a sweep could not be drawn or written; the table is whole.

    Attributes
    ----------
    results : list of SweepResult
        The results, as `sweep_many` would have returned them.

    Examples
    --------
    >>> from pathlib import Path
    >>> from zmanifold.sweep.many import PlotFailed
    >>> print(PlotFailed(Path("run.png"), ValueError("no such font"), []))
    the plot 'run.png' failed (ValueError: no such font), the table is whole
    """

    def __init__(self, path: Path, error: Exception, results: list[SweepResult]) -> None:
        reason = shown(f"{type(error).__name__}: {error}")
        super().__init__(f"the plot {str(path)!r} failed ({reason}), the table is whole")
        self.results = results


class JournalLost(OSError):
    """The journal was removed during a run.

    Attributes
    ----------
    rows : list of dict
        The finished cells, read from the open journal: no file holds them any more.

    Examples
    --------
    >>> from pathlib import Path
    >>> from zmanifold.sweep.many import JournalLost
    >>> lost = JournalLost(Path("run.journal"), [{"dataset": "digits", "id_mean": 6.8}])
    >>> print(lost, len(lost.to_frame()))
    the journal 'run.journal' is gone 1
    """

    def __init__(self, path: Path, rows: list[dict[str, Any]]) -> None:
        super().__init__(f"the journal {str(path)!r} is gone")
        self.rows = rows

    def to_frame(self) -> pd.DataFrame:
        """Return the finished cells as a table, one row a cell."""
        import pandas as pd

        return pd.DataFrame(self.rows)


@ambient_outside()
def sweep_many(
    data: Iterable[Any],
    *,
    sources: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    plot: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dask: Client | str | None = None,
    progress: bool = True,
    started: Callable[[], object] | None = None,
    **settings: Any,
) -> list[SweepResult]:
    """Sweep over several data sets with the same settings, into one table.

    All data sets are checked before the first sweep begins. Each finished cell is written to a
    journal beside the table at once. The table is written after each data set.

    Parameters
    ----------
    data : iterable of Dataset or array-like
        The data sets. A generator yields the next one only after the last one was checked.
    sources : sequence of str, default=()
        The name or file that each data set was loaded from, for messages. These files are never
        overwritten.
    out : path, optional
        The table, which ends in .parquet or .csv. Its settings (.json) and the journal (.journal)
        are written beside it.
    plot : path, optional
        A figure of local dimension against the strength, which ends in .png, .svg or .pdf.
    resume : bool, default=False
        Resume from the journal beside `out`: the finished cells in it are not computed again.
    overwrite : bool, default=False
        Replace outputs that exist, including the journal.
    dask : Client or str, optional
        The cluster that computes the cells, as for `sweep_id`.
    progress : bool, default=True
        Show a progress bar for each data set on a terminal or in a notebook.
    started : callable, optional
        Called when all input has been checked, before the work.
    **settings
        `mixers` and all other settings of `sweep_id`, except `journal`.

    Returns
    -------
    list of SweepResult
        One result a data set. Failed cells are in its `failures` and raise no error.

    Raises
    ------
    InputError
        If an argument is out of its range, an output cannot be written, two data sets have the
        same name, or the journal has other data or settings; before any work starts.
    JournalLost
        If the journal is removed during the run; the exception has the finished cells.
    PlotFailed
        If the figure fails; the exception has the results, and the table is written.
    OSError
        If another output cannot be written; the cells in the journal remain.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.sweep import joint_table, sweep_many
    >>> data = [zm.load_dataset(name, n_samples=200) for name in ("helix-r3", "spirals")]
    >>> settings = {"mixers": [None], "n_neighbors": 8, "seeds": 1, "progress": False}
    >>> joint_table(sweep_many(data, **settings))[["dataset", "n_points"]].values.tolist()
    [['helix-r3', 200], ['spirals', 200]]
    """
    table = None if out is None else expanded(out)
    figure = None if plot is None else expanded(plot)
    beside = (".json", ".journal")
    check_outputs(
        table, beside=beside, figure=figure, overwrite=overwrite, resume=resume, inputs=sources
    )
    if dask is not None:
        check_dask(dask)
    sweeps = [prepare_sweep(one, elsewhere=dask is not None, **settings) for one in data]
    if not sweeps:
        raise InputError("data is empty: give at least one data set.")
    check_distinct([sweep.name for sweep in sweeps], sources)
    if figure is not None:
        check_one_axis([strength.columns for strength in sweeps[0].strengths])
    with contextlib.ExitStack() as stack:
        client = None if dask is None else stack.enter_context(connected(dask))
        journal = None
        if table is not None:
            fingerprints = {sweep.name: sweep.fingerprint for sweep in sweeps}
            # The old journal is removed only here, after all input has been checked. A link to it
            # stays: SQLite follows it.
            if overwrite:
                journal_of(table).resolve().unlink(missing_ok=True)
            journal = stack.enter_context(Journal(journal_of(table)))
            journal.begin(fingerprints)
        if started is not None:
            started()
        results = _run(sweeps, table, journal, client, progress)
    if figure is not None and any(result.rows for result in results):
        try:
            save_figure(sweep_figure(joint_table(results)), figure)
        except Exception as error:
            raise PlotFailed(figure, error, results) from error
    return results


def _run(
    sweeps: list[Sweep],
    table: Path | None,
    journal: Journal | None,
    client: Client | None,
    progress: bool,
) -> list[SweepResult]:
    results: list[SweepResult] = []
    try:
        for sweep in sweeps:
            results.append(sweep.run(journal=journal, progress=progress, client=client))
            if table is not None:
                # The table is written after each data set, because a later one may fail.
                save_sweep(results, table)
    except OSError:
        if journal is None or journal.path.exists():
            raise
        # A removed file can be read as long as it is open.
        rows = [row for sweep in sweeps for row in journal.finished(sweep.name).values()]
        raise JournalLost(journal.path, rows) from None
    return results


def check_distinct(names: Sequence[str], sources: Sequence[str] = ()) -> None:
    """Raise InputError if two data sets have the same name: a table could not distinguish them.

    Parameters
    ----------
    names : sequence of str
        The data sets' names.
    sources : sequence of str, default=()
        The name or file that each was loaded from, for the message; by default `names`.

    Raises
    ------
    InputError
        If a name occurs twice.

    Examples
    --------
    >>> from zmanifold.sweep.many import check_distinct
    >>> check_distinct(["digits", "spirals"])
    """
    given = sources or names
    for i, name in enumerate(names):
        if name in names[:i]:
            raise InputError(
                f"{given[i]!r} and {given[names.index(name)]!r} are both called {name!r} in the "
                "table: sweep one of them, or rename a file."
            )


def joint_table(results: Iterable[SweepResult]) -> pd.DataFrame:
    """Return the cells of several sweeps as one table, one row a cell.

    Examples
    --------
    >>> from zmanifold.sweep import SweepResult, joint_table
    >>> results = [SweepResult(({"dataset": name},), {}) for name in ("digits", "spirals")]
    >>> joint_table(results)["dataset"].tolist()
    ['digits', 'spirals']
    """
    import pandas as pd

    return pd.concat([result.to_frame() for result in results], ignore_index=True)


def save_sweep(result: SweepResult | list[SweepResult], path: Path) -> pd.DataFrame:
    """Write one table of one or several sweeps, and beside it a JSON of their settings.

    Parameters
    ----------
    result : SweepResult or list of SweepResult
        The results.
    path : Path
        The table, which ends in .parquet or .csv. The settings are written to the same name with
        the ending .json.

    Returns
    -------
    pandas.DataFrame
        The table.

    Raises
    ------
    InputError
        If the path has another ending or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import zmanifold as zm
    >>> from zmanifold.sweep import save_sweep
    >>> X, _ = zm.make_helix(500, random_state=0)
    >>> result = zm.sweep_id(X, mixers=[None], n_neighbors=8, seeds=1, progress=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     frame = save_sweep(result, Path(folder, "run.parquet"))
    ...     sorted(p.name for p in Path(folder).iterdir())
    ['run.json', 'run.parquet']
    """
    results = result if isinstance(result, list) else [result]
    frame = joint_table(results)
    save_table(frame, path, {"sweeps": [r.settings for r in results]})
    return frame
