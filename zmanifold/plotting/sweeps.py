"""Plots of local dimension against a mixer's strength."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zmanifold._base.errors import InputError, unknown_name
from zmanifold.mixers import gamma_min

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

from zmanifold.plotting.style import (
    COLORS,
    DASHES,
    FLAG_MARKERS,
    NAMES,
    SPARE_COLORS,
    SYMBOLS,
    plain,
)

__all__ = ["check_one_axis", "plot_id", "sweep_figure"]


def plot_id(
    frame: pd.DataFrame,
    ax: Axes,
    *,
    n_neighbors: int | None = None,
    estimator: str | None = None,
    x: str | None = None,
) -> Axes:
    """Draw mean local dimension against a strength, with a band of one standard deviation.

    A mixer without that strength, such as the original data or mixup where γ is drawn, is a
    horizontal line. The means and standard deviations over points are averaged over seeds. Where γ
    is drawn, the dotted vertical line is γ_min (Theorem 1 of the ζ-mixup paper). A hollow marker
    stands where a cell of the point has a flag, one shape a flag: see `SweepResult.to_frame`.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table of a sweep over one data set.
    ax : matplotlib.axes.Axes
        The Axes to draw on.
    n_neighbors : int, optional
        The neighbourhood size to draw. Needed only if the table holds several.
    estimator : str, optional
        The estimator to draw. Needed only if the table holds several.
    x : str, optional
        The parameter of the mixers that the horizontal axis shows. By default it is "gamma" if a
        mixer has it, else the first parameter with several values.

    Returns
    -------
    matplotlib.axes.Axes
        `ax`.

    Raises
    ------
    InputError
        If the rows to draw have several data sets, neighbourhood sizes or estimators, or a mixer
        has several values of another parameter: different settings are never averaged.

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

    frame = _one_panel(frame, n_neighbors, estimator)
    strengths = _strengths(frame)
    shown = _shown_strength(frame, strengths, x)
    places = strengths[shown] if shown in strengths else strengths.assign(none=np.nan)["none"]
    known = places.dropna()
    span = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    spare = iter(SPARE_COLORS * (1 + frame["mixer"].nunique() // len(SPARE_COLORS)))
    for mixer, rows in frame.groupby("mixer", sort=False):
        name, own = str(mixer), places[rows.index]
        color, label = COLORS.get(name) or next(spare), NAMES.get(name, plain(name))
        _draw_mixer(ax, name, color, label, rows[own.notna()], own.dropna(), span)
        # Rows without the strength have no place on the curve: they are a horizontal line.
        without = label if own.isna().all() else f"{label}, no {plain(shown)}"
        _draw_mixer(ax, name, color, without, rows[own.isna()], own[own.isna()], span)
    for flag in _flags_in(frame):
        ax.plot([], [], ls="", marker=FLAG_MARKERS[flag], mfc="none", mec="0.35", label=flag)
    if shown == "gamma" and len(known) and span[0] <= gamma_min() <= span[1]:
        label = rf"$\gamma_\mathrm{{min}}$ = {gamma_min():.3f}"
        ax.axvline(gamma_min(), color="0.35", ls=":", lw=1.2, label=label)
    if span[0] < span[1]:
        ax.set_xlim(*span)
    ax.set_ylim(bottom=0)
    whole = not len(known) or span[1] - span[0] >= 2
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=whole))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.set_xlabel(SYMBOLS.get(shown, plain(shown)))
    ax.set_ylabel("local ID")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def check_one_axis(strengths: Iterable[Mapping[str, Any]]) -> None:
    """Raise InputError if `plot_id` could not draw these strengths on one axis.

    Parameters
    ----------
    strengths : iterable of mapping
        Mappings with the entries `mixer` and `parameters`, as the rows of a table have them.

    Examples
    --------
    >>> from zmanifold.plotting import check_one_axis
    >>> check_one_axis([{"mixer": "zeta", "parameters": '{"gamma": 2.8}'}])
    """
    import pandas as pd

    frame = pd.DataFrame(list(strengths))
    _shown_strength(frame, _strengths(frame), None)


def _one_panel(frame: pd.DataFrame, n_neighbors: int | None, estimator: str | None) -> pd.DataFrame:
    """Select the rows of one panel; raise InputError if they belong to several panels."""
    if n_neighbors is not None:
        frame = frame[frame["n_neighbors"] == n_neighbors]
    if estimator is not None:
        frame = frame[frame["estimator"] == estimator]
    sizes, datasets = frame["n_neighbors"].unique(), frame["dataset"].unique()
    if len(sizes) != 1 or len(datasets) != 1:
        raise InputError(
            f"the table holds {len(datasets)} data set(s) and {len(sizes)} neighbourhood size(s) "
            "but one of each can be drawn: select rows, or give n_neighbors."
        )
    estimators = frame["estimator"].unique() if "estimator" in frame else ["FO"]
    if len(estimators) != 1:
        raise InputError(
            f"the table holds the estimators {', '.join(map(repr, estimators))} but one can be "
            "drawn: give estimator."
        )
    return frame


def _strengths(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one column a parameter, with NaN for mixers that do not have it."""
    import pandas as pd

    if "parameters" not in frame:  # a table of 0.1.0
        return frame[[name for name in ("gamma", "alpha") if name in frame]]
    return pd.DataFrame([json.loads(text) for text in frame["parameters"]], index=frame.index)


def _shown_strength(frame: pd.DataFrame, strengths: pd.DataFrame, x: str | None) -> str:
    """Choose the parameter on the horizontal axis; refuse to average over another parameter."""
    names = list(map(str, strengths))
    varied = [name for name in names if strengths[name].nunique() > 1]
    if x is not None and x not in names:
        raise unknown_name("strength", x, names)
    has_gamma = "gamma" in names and strengths["gamma"].notna().any()
    shown = x or ("gamma" if has_gamma or not varied else varied[0])
    for name in varied:
        several = strengths[name].groupby(frame["mixer"]).nunique()
        if name != shown and (several > 1).any():
            mixer = several.index[several > 1][0]
            raise InputError(
                f"{mixer!r} has several values of {name} but the axis shows {shown}, and they are "
                f"not averaged: give x={name!r}, or select rows."
            )
    return shown


def _draw_mixer(
    ax: Axes,
    name: str,
    color: str,
    label: str,
    rows: pd.DataFrame,
    places: pd.Series[float],
    span: tuple[float, float],
) -> None:
    columns = ["id_mean", "id_std"]
    if not len(rows):
        return
    if places.isna().all():
        mean, std = rows[columns].mean()
        x, y, band = np.array(span), np.array([mean, mean]), np.array([std, std])
        groups = [rows] * 2
    else:
        curve = rows[columns].groupby(places).mean()
        x, y, band = (v.to_numpy() for v in (curve.index, curve["id_mean"], curve["id_std"]))
        groups = [group for _, group in rows.groupby(places)]
    marker = "o" if len(x) == 1 else ""
    line = ax.plot(x, y, color=color, lw=1.8, marker=marker, label=label)[0]
    if DASHES.get(name):
        line.set_dashes(DASHES[name])
        # Dashed lines are drawn above solid ones: where curves coincide, both are visible.
        line.set_zorder(3)
    ax.fill_between(x, np.maximum(y - band, 0), y + band, color=color, alpha=0.13, lw=0)
    for flag in _flags_in(rows):
        held = [flag in _flags_in(group) for group in groups]
        # Markers at the ends of the axis are drawn whole.
        look: dict[str, Any] = {"marker": FLAG_MARKERS[flag], "mfc": "none", "mec": color}
        ax.plot(x[held], y[held], ls="", zorder=4, clip_on=False, label="_flagged", **look)


def _flags_in(rows: pd.DataFrame) -> list[str]:
    """Return the flags that any of some rows has, in their fixed order."""
    if "flags" not in rows:  # a table of 0.1.0
        return []
    # pandas reads an empty text in a CSV as a missing value.
    found = {flag for text in rows["flags"].dropna().unique() for flag in text.split(";")}
    return [flag for flag in FLAG_MARKERS if flag in found]


def sweep_figure(frame: pd.DataFrame, *, titles: dict[str, str] | None = None) -> Figure:
    """Draw a grid of `plot_id`: a column a data set, a row an estimator and neighbourhood size.

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
    estimators = list(frame["estimator"].unique()) if "estimator" in frame else [None]
    panels = [(estimator, k) for estimator in estimators for k in sizes]
    figure = Figure(
        figsize=(max(3.3 * len(datasets), 4.5), 2.7 * len(panels) + 0.7), layout="constrained"
    )
    axes = figure.subplots(len(panels), len(datasets), sharex=True, squeeze=False)
    for column, dataset in enumerate(datasets):
        of_dataset = frame[frame["dataset"] == dataset]
        for row, (estimator, k) in enumerate(panels):
            ax = axes[row, column]
            plot_id(of_dataset, ax, n_neighbors=int(k), estimator=estimator)
            if row < len(panels) - 1:
                ax.set_xlabel("")
            rule = f" ({plain(str(estimator))})" if len(estimators) > 1 else ""
            ax.set_ylabel(f"local ID{rule}, k = {k}" if column == 0 else "")
            if row == 0:
                ax.set_title((titles or {}).get(dataset, plain(str(dataset))), fontsize=11)
    # Panels differ in their flags, and where they have the same entry it looks the same.
    entries: dict[str, Any] = {}
    for ax in axes.flat:
        handles, labels = ax.get_legend_handles_labels()
        entries |= {n: entries.get(n, h) for n, h in zip(labels, handles, strict=True)}
    # Two entries fit under one column of axes.
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=min(len(entries), 2 * len(datasets)),
        frameon=False,
        title="mean and standard deviation over points",
        title_fontsize="small",
    )
    return figure
