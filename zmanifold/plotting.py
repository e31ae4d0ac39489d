"""Draw results on given Axes and return them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zmanifold.errors import InputError
from zmanifold.mixers import gamma_min

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLORS", "plot_id", "sweep_figure"]

# Okabe and Ito's palette, told apart by the colour-blind; dashes tell lines apart in grey.
COLORS = {
    "none": "#000000",
    "mixup": "#D55E00",
    "zeta": "#0072B2",
    "zeta-anchored": "#009E73",
}
_DASHES = {"none": (4, 2), "mixup": (1, 1.2), "zeta": (), "zeta-anchored": (6, 1.5, 1.5, 1.5)}
_NAMES = {
    "none": "original",
    "mixup": "mixup",
    "zeta": "ζ-mixup",
    "zeta-anchored": "ζ-mixup, anchored",
}
_SPARE_COLORS = ("#CC79A7", "#E69F00", "#56B4E9", "#F0E442")


def plot_id(frame: pd.DataFrame, ax: Axes, *, n_neighbors: int | None = None) -> Axes:
    """Draw mean local dimension against γ, with a band of one standard deviation over points.

    A mixer without γ (the original data, mixup) is a horizontal line. Means and deviations are
    averaged over seeds; the dotted vertical line is γ_min (Theorem 1 of the ζ-mixup paper).

    Parameters
    ----------
    frame : pandas.DataFrame
        A sweep's table of one data set.
    ax : matplotlib.axes.Axes
        Where to draw.
    n_neighbors : int, optional
        Which neighbourhood size to draw; not needed when the table holds one.

    Returns
    -------
    matplotlib.axes.Axes
        `ax`.

    Raises
    ------
    InputError
        If the table holds several data sets, or none or several neighbourhood sizes are meant.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import zmanifold as zm
    >>> from zmanifold.plotting import plot_id
    >>> X, _ = zm.make_helix(500, random_state=0)
    >>> mixers = [None, zm.ZetaMixup(2.0), zm.ZetaMixup(6.0)]
    >>> result = zm.sweep_id(X, mixers=mixers, n_neighbors=8, seeds=1, progress=False)
    >>> ax = plot_id(result.to_frame(), plt.figure().add_subplot())
    >>> [line.get_label() for line in ax.get_lines()][:2]
    ['original', 'ζ-mixup']
    >>> plt.close("all")
    """
    from matplotlib.ticker import MaxNLocator

    if n_neighbors is not None:
        frame = frame[frame["n_neighbors"] == n_neighbors]
    sizes, datasets = frame["n_neighbors"].unique(), frame["dataset"].unique()
    if len(sizes) != 1 or len(datasets) != 1:
        raise InputError(
            f"the table holds {len(datasets)} data set(s) and {len(sizes)} neighbourhood size(s) "
            "but one of each can be drawn: select rows, or give n_neighbors."
        )
    columns = ["id_mean", "id_std"]
    gammas = frame["gamma"].dropna()
    span = (gammas.min(), gammas.max()) if len(gammas) else (0.0, 1.0)
    spare = iter(_SPARE_COLORS * (1 + frame["mixer"].nunique() // len(_SPARE_COLORS)))
    for mixer, rows in frame.groupby("mixer", sort=False):
        name = str(mixer)
        color = COLORS.get(name) or next(spare)
        if rows["gamma"].isna().all():
            mean, std = rows[columns].mean()
            x, y, band = np.array(span), np.array([mean, mean]), np.array([std, std])
        else:
            curve = rows.groupby("gamma")[columns].mean()
            x, y, band = (v.to_numpy() for v in (curve.index, curve["id_mean"], curve["id_std"]))
        marker = "o" if len(x) == 1 else ""
        line = ax.plot(x, y, color=color, lw=1.8, marker=marker, label=_NAMES.get(name, name))[0]
        if _DASHES.get(name):
            line.set_dashes(_DASHES[name])
            # Over the solid lines: where curves coincide both can be seen.
            line.set_zorder(3)
        ax.fill_between(x, np.maximum(y - band, 0), y + band, color=color, alpha=0.13, lw=0)
    if len(gammas) and span[0] <= gamma_min() <= span[1]:
        label = rf"$\gamma_\mathrm{{min}}$ = {gamma_min():.3f}"
        ax.axvline(gamma_min(), color="0.35", ls=":", lw=1.2, label=label)
    if span[0] < span[1]:
        ax.set_xlim(*span)
    ax.set_ylim(bottom=0)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.set_xlabel("γ")
    ax.set_ylabel("local ID")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def sweep_figure(frame: pd.DataFrame, *, titles: dict[str, str] | None = None) -> Figure:
    """Draw a grid of `plot_id`: a column a data set, a row a neighbourhood size.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table of one or several sweeps.
    titles : dict of str to str, optional
        Column titles by data set name.

    Returns
    -------
    matplotlib.figure.Figure
        Not registered with pyplot: save it with ``figure.savefig``.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.plotting import sweep_figure
    >>> X, _ = zm.make_helix(500, random_state=0)
    >>> result = zm.sweep_id(X, mixers=[None], n_neighbors=(4, 8), seeds=1, progress=False)
    >>> len(sweep_figure(result.to_frame()).axes)
    2
    """
    from matplotlib.figure import Figure

    datasets = list(frame["dataset"].unique())
    sizes = sorted(frame["n_neighbors"].unique())
    figure = Figure(
        figsize=(max(3.3 * len(datasets), 4.5), 2.7 * len(sizes) + 0.7), layout="constrained"
    )
    axes = figure.subplots(len(sizes), len(datasets), sharex=True, squeeze=False)
    for column, dataset in enumerate(datasets):
        of_dataset = frame[frame["dataset"] == dataset]
        for row, k in enumerate(sizes):
            ax = axes[row, column]
            plot_id(of_dataset, ax, n_neighbors=int(k))
            ax.set_xlabel("γ" if row == len(sizes) - 1 else "")
            ax.set_ylabel(f"local ID, k = {k}" if column == 0 else "")
            if row == 0:
                ax.set_title((titles or {}).get(dataset, dataset), fontsize=11)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    # Two entries fit under one column of axes.
    columns = min(len(labels), 2 * len(datasets))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    return figure
