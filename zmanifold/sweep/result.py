"""The result of a sweep: the table, the settings, and the failed cells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zmanifold.neighbors import RECALL_SAMPLE

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "SweepResult", "failed_cells", "measured_recall"]

COLUMNS = (
    "dataset",
    "mixer",
    "gamma",
    "alpha",
    "parameters",
    "estimator",
    "n_neighbors",
    "batch_size",
    "seed",
    "n_points",
    "n_queries",
    "id_mean",
    "id_std",
    "id_sem",
    "n_degenerate",
    "seconds",
    "device",
)


@dataclass(frozen=True, eq=False)
class SweepResult:
    """The result of `sweep_id`.

    Attributes
    ----------
    rows : tuple of dict
        One row a finished cell (mixer and strength, estimator, number of neighbours, seed).
    failures : tuple of dict
        Failed cells: mixer, gamma, alpha, parameters, estimator, n_neighbors, seed, reason.
    first_error : Exception or None
        The error of the first failed cell.
    settings : dict
        Settings, versions, device, start and duration, as JSON takes them.

    Examples
    --------
    >>> import zmanifold as zm
    >>> X, _ = zm.make_helix(random_state=0)
    >>> result = zm.sweep_id(X, mixers=[None], n_neighbors=8, seeds=1, progress=False)
    >>> result.to_frame()[["mixer", "n_neighbors", "id_mean"]].values.tolist()
    [['none', 8, 1.0]]
    """

    rows: tuple[dict[str, Any], ...]
    settings: dict[str, Any] = field(repr=False)
    failures: tuple[dict[str, Any], ...] = ()
    first_error: Exception | None = field(default=None, repr=False, compare=False)

    def to_frame(self) -> pd.DataFrame:
        """Return the tidy table, one row a cell.

        Returns
        -------
        pandas.DataFrame
            Columns dataset, mixer, gamma, alpha (NaN where a mixer has none), parameters (JSON of
            all strengths of the mixer), estimator, n_neighbors, batch_size, seed, n_points,
            n_queries, id_mean, id_std and id_sem (standard deviation over the query points, and
            that divided by the root of their number), n_degenerate, seconds, device; recall, where
            neighbours are approximate.
        """
        import pandas as pd

        recall = ["recall"] if any("recall" in row for row in self.rows) else []
        return pd.DataFrame(list(self.rows), columns=[*COLUMNS, *recall])


def measured_recall(results: Iterable[SweepResult]) -> str:
    """Return a sentence about the recall of approximate neighbours in sweeps.

    Examples
    --------
    >>> from zmanifold.sweep import SweepResult, measured_recall
    >>> measured_recall([SweepResult(({"recall": 0.97}, {"recall": 0.99}), {})])
    'approximate neighbours: recall 0.980 on average, at least 0.970, by 256 exact queries a cell'
    """
    recalls = [row["recall"] for result in results for row in result.rows]
    if not recalls:
        return "approximate neighbours: no cell was finished"
    return (
        f"approximate neighbours: recall {sum(recalls) / len(recalls):.3f} on average, at least "
        f"{min(recalls):.3f}, by {RECALL_SAMPLE} exact queries a cell"
    )


def failed_cells(results: Iterable[SweepResult]) -> str:
    """Return a sentence with the number of failed cells in sweeps, and the first one's reason.

    Examples
    --------
    >>> from zmanifold.sweep import SweepResult, failed_cells
    >>> failed_cells([SweepResult((), {}, ({"reason": "MemoryError"},))])
    '1 of 1 cells failed, the first with MemoryError'
    """
    sweeps = list(results)
    reasons = [failure["reason"] for result in sweeps for failure in result.failures]
    total = len(reasons) + sum(len(result.rows) for result in sweeps)
    return f"{len(reasons)} of {total} cells failed, the first with {reasons[0]}"
