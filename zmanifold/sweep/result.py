"""The result of a sweep: the table, the settings, and the failed cells."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zmanifold._base.naming import readable
from zmanifold.dimension import FILLED, FLAGS, NOT_JUDGED, UNKNOWN
from zmanifold.neighbors import RECALL_SAMPLE

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "LATER", "SweepResult", "failed_cells", "flagged_cells", "measured_recall"]

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
    "id_median",
    "id_q25",
    "id_q75",
    "id_std",
    "id_sem",
    "id_std_seeds",
    "n_degenerate",
    "flags",
    "seconds",
    "device",
)

# What tells a cell from others, but for the seed.
_CELL = ["dataset", "mixer", "parameters", "estimator", "n_neighbors"]

# Columns that the rows of earlier journals lack, with what they hold there. Such cells are kept as
# they are: what nobody measured is missing, and is not taken for "no flag".
LATER = {"id_median": math.nan, "id_q25": math.nan, "id_q75": math.nan, "flags": UNKNOWN}


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
            n_queries; id_mean, id_median, id_q25, id_q75, id_std (mean, median, quartiles and
            standard deviation over the query points), id_sem, id_std_seeds, n_degenerate, flags,
            seconds, device; recall, where neighbours are approximate.

        Notes
        -----
        `id_sem` is `id_std` over the root of the number of query points: the standard error over
        the points of one mixed set, as if they were independent. They share neighbours, and the
        mean varies more over fresh data: 2.8 times as much for the paraboloid at n = 1,000 and
        k = 128. `id_std_seeds` is the standard deviation of `id_mean` over the seeds of the sweep,
        NaN for one seed: it holds what shuffles, mixing and the choice of query points vary, but
        not that the data is one sample of its source.

        `flags` names, joined by semicolons, why a cell's mean may not be read as it stands:
        "saturated", "bimodal", "degenerate", "few-batches", "low-recall", whose rules
        `zmanifold.dimension.FLAGS` has; it is empty if there is nothing to say. Cells that an
        earlier version wrote to the journal have the flag "unknown" and no quartiles.
        """
        import pandas as pd

        recall = ["recall"] if any("recall" in row for row in self.rows) else []
        frame = pd.DataFrame(list(self.rows), columns=[*COLUMNS, *recall])
        means = frame.groupby(_CELL)["id_mean"]
        frame["id_std_seeds"] = means.transform("std").astype(float)
        return frame


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


def flagged_cells(results: Iterable[SweepResult]) -> list[str]:
    """Return a sentence for each flag in sweeps: how many cells have it, what it means, what helps.

    Examples
    --------
    >>> from zmanifold.sweep import SweepResult, flagged_cells
    >>> row = {"dataset": "digits", "mixer": "mixup", "parameters": '{"alpha": 1.0}', "seed": 0}
    >>> row |= {"estimator": "FO", "n_neighbors": 8, "flags": "degenerate"}
    >>> (sentence,) = flagged_cells([SweepResult((row,), {"n_features": 64})])
    >>> print(sentence.partition(":")[0])
    degenerate in 1 of 1 cells (digits, mixup alpha=1, FO, k = 8, seed 0)
    """
    sweeps = list(results)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in sweeps:
        for row in result.rows:
            for flag in filter(None, row["flags"].split(";")):
                said = NOT_JUDGED if flag == UNKNOWN else FLAGS[flag]
                # No k points of fewer than k - 2 features come within 1 of k - 1.
                if flag == "saturated" and result.settings["n_features"] < row["n_neighbors"] - 2:
                    said = FILLED
                found.setdefault((flag, said), []).append(row)
    total = sum(len(result.rows) for result in sweeps)
    order = [*FLAGS, UNKNOWN]
    return [
        f"{flag} in {len(rows)} of {total} cells ({_named(rows)}): {said}"
        for (flag, said), rows in sorted(found.items(), key=lambda entry: order.index(entry[0][0]))
    ]


def _named(rows: list[dict[str, Any]]) -> str:
    """Name the first of some cells."""
    row = rows[0]
    strengths = json.loads(row["parameters"])
    mixer = " ".join([readable(row["mixer"]), *(f"{n}={v:.4g}" for n, v in strengths.items())])
    place = f"{readable(row['dataset'])}, {mixer}, {row['estimator']}, k = {row['n_neighbors']}"
    return f"{'the first ' if len(rows) > 1 else ''}{place}, seed {row['seed']}"


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
