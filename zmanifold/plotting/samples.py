"""Plots of samples in the plane or in space, of their neighbours and of their dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zmanifold._base.arrays import as_points, as_set_of
from zmanifold._base.checks import check_count
from zmanifold._base.errors import InputError
from zmanifold._base.labels import as_labels
from zmanifold._base.memory import working_memory
from zmanifold.dimension import FukunagaOlsen, Neighborhoods, as_neighborhoods
from zmanifold.measures import Embedding, VicinityResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

from zmanifold.plotting.style import COLORS, label_colors, plain

__all__ = ["plot_ellipses", "plot_embedding", "plot_labels", "plot_vicinity", "set_window"]


def plot_labels(points: Any, labels: Any, ax: Axes, *, size: float = 9.0) -> Axes:
    """Scatter samples in the plane or in space, coloured by their hard or soft labels.

    Parameters
    ----------
    points : array-like of shape (n, 2) or (n, 3)
        Samples; three columns need Axes made with ``projection="3d"``.
    labels : array-like of shape (n,) or (n, K)
        Their labels.
    ax : matplotlib.axes.Axes
        The Axes to draw on.
    size : float, default=9.0
        Area of a marker in square points.

    Returns
    -------
    matplotlib.axes.Axes
        `ax`, with the same scale in every direction.

    Raises
    ------
    InputError
        If the points have neither 2 nor 3 columns, or do not fit the labels.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from matplotlib.figure import Figure
    >>> from zmanifold.plotting import plot_labels
    >>> X, y = zm.make_crescents(random_state=0)
    >>> X_mixed, y_soft = zm.mixed_set(X, y, zm.ZetaMixup(4.0))
    >>> ax = plot_labels(X_mixed, y_soft, Figure().add_subplot())
    """
    x = as_points(points, name="points", min_samples=1).numpy()
    if x.shape[1] not in (2, 3):
        raise InputError(
            f"points has {x.shape[1]} columns but 2 or 3 can be drawn: project them first."
        )
    as_labels(labels, len(x), name="labels")
    # Markers are rasterized: thousands of vector markers would make an SVG of megabytes.
    style: dict[str, Any] = {"c": label_colors(labels), "s": size, "lw": 0, "rasterized": True}
    ax.scatter(*x.T, **style)
    ax.set_aspect("equal")
    return ax


def plot_embedding(
    embedding: Embedding,
    train_y: Any,
    test_y: Any,
    ax: Axes,
    *,
    neighbors: Any = None,
) -> Axes:
    """Draw embedded training samples by class, and test samples as squares among them.

    Parameters
    ----------
    embedding : Embedding
        The result of `zmanifold.measures.embed`.
    train_y : array-like of shape (n,) or (n, K)
        Labels of the training samples. The class of a soft label is its largest entry.
    test_y : array-like of shape (q,)
        Classes of the test samples, each of them a class of the training samples.
    ax : matplotlib.axes.Axes
        The Axes to draw on.
    neighbors : array-like of int, shape (q, k), optional
        Row numbers of each test sample's neighbours in the original space, as in
        `VicinityResult.indices`. A line is drawn to each of these training samples.

    Returns
    -------
    matplotlib.axes.Axes
        `ax`. The name of each class is written at the median of its samples.

    Raises
    ------
    InputError
        If labels and coordinates differ in number, or there are more than 10 classes.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from zmanifold.measures._embedding import Embedding
    >>> from zmanifold.plotting import plot_embedding
    >>> embedding = Embedding(np.eye(4)[:, :2], np.zeros((1, 2)))
    >>> ax = plot_embedding(embedding, [0, 1, 0, 1], [1], Figure().add_subplot())
    """
    from matplotlib.patheffects import withStroke

    train, test = embedding.train, embedding.test
    labels = as_labels(train_y, len(train), name="train_y")
    own = as_labels(test_y, len(test), name="test_y", classes=labels.classes)
    # The colours are those of all classes: one that does not occur here keeps its colour.
    palette = label_colors(labels.classes)
    # The area of a marker falls with the number of samples, so that all of them together cover much
    # the same part of the panel; between the limits a marker neither vanishes nor hides others.
    size = float(np.clip(6000 / len(train), 1.5, 14))
    colors = palette[labels.codes.numpy()]
    ax.scatter(train[:, 0], train[:, 1], c=colors, s=size, lw=0, alpha=0.7, rasterized=True)
    if neighbors is not None:
        members = as_neighborhoods(neighbors, len(train), least=1).numpy()
        for sample, rows in zip(test, members, strict=True):
            ends = np.stack([np.broadcast_to(sample, (len(rows), 2)), train[rows]])
            ax.plot(*ends.transpose(2, 0, 1), color="0.4", lw=0.3, alpha=0.4, zorder=1.5)
    squares = palette[own.codes.numpy()]
    mark = float(np.clip(2000 / len(test), 10, 55))
    ax.scatter(test[:, 0], test[:, 1], c=squares, s=mark, marker="s", ec="black", lw=0.9, zorder=3)
    for code, name in enumerate(labels.classes):
        samples = train[labels.codes.numpy() == code]
        if len(samples):
            middle = np.median(samples, axis=0)
            halo = [withStroke(linewidth=2.5, foreground="white")]
            style: dict[str, Any] = {"ha": "center", "va": "center", "path_effects": halo}
            ax.text(middle[0], middle[1], plain(str(name)), fontsize=11, zorder=4, **style)
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


def set_window(ax: Axes, points: Any, title: str = "") -> Axes:
    """Set the limits of a panel to those of some points, without ticks, to compare panels.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        The panel.
    points : array-like of shape (n, 2)
        The points that the panel shows, usually the original samples. The margin around them is a
        twentieth of their range.
    title : str, optional
        The panel's title.

    Returns
    -------
    matplotlib.axes.Axes
        `ax`.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from zmanifold.plotting import set_window
    >>> set_window(Figure().add_subplot(), [[0.0, 0.0], [10.0, 10.0]]).get_xlim()
    (np.float64(-0.5), np.float64(10.5))
    """
    x = as_points(points, name="points").numpy()
    low, high = x.min(axis=0), x.max(axis=0)
    margin = (high - low) / 20
    ax.set_xlim(low[0] - margin[0], high[0] + margin[0])
    ax.set_ylim(low[1] - margin[1], high[1] + margin[1])
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(title, fontsize=11)
    return ax


def plot_ellipses(points: Any, neighborhoods: Any, ax: Axes) -> Axes:
    """Draw the covariance ellipse of each neighbourhood in the plane, and its FO dimension.

    Parameters
    ----------
    points : array-like of shape (n, 2)
        Points.
    neighborhoods : array-like of int, shape (q, k)
        Row numbers of the points of each neighbourhood, as `kneighbors` returns them.
    ax : matplotlib.axes.Axes
        The Axes to draw on.

    Returns
    -------
    matplotlib.axes.Axes
        `ax`. Each ellipse reaches two standard deviations from the mean of its neighbourhood. A
        solid ellipse has Fukunaga-Olsen dimension 2, a dashed one 1: its minor axis is at most
        √0.05 of its major axis. A neighbourhood without spread is drawn as a cross.

    Raises
    ------
    InputError
        If the points are not in the plane, or `neighborhoods` holds other numbers than their rows.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from matplotlib.figure import Figure
    >>> from zmanifold.plotting import plot_ellipses
    >>> X, _ = zm.make_crescents(random_state=0)
    >>> _, indices = zm.kneighbors(X, 8, queries=[0, 9])
    >>> len(plot_ellipses(X, indices, Figure().add_subplot()).patches)
    2
    """
    from matplotlib.patches import Ellipse

    plane = as_points(points, name="points").double()
    if plane.shape[1] != 2:
        raise InputError(
            f"points has {plane.shape[1]} columns but ellipses lie in a plane: give 2."
        )
    members = as_neighborhoods(neighborhoods, len(plane), least=2)
    around = Neighborhoods(plane, members, members[:, 0], working_memory(None, plane.device))
    dimensions, _ = FukunagaOlsen()(around)
    x = plane.numpy()
    for rows, dimension in zip(members.numpy(), dimensions.tolist(), strict=True):
        color = COLORS["mixup"] if dimension == 1 else COLORS["none"]
        mean = x[rows].mean(axis=0)
        if dimension == 0:
            ax.plot(*mean, "x", color=color)
            continue
        values, axes = np.linalg.eigh(np.cov(x[rows].T))
        # The whole axes: two standard deviations on either side. An eigenvalue of 0 may be
        # rounded to a negative number.
        minor, major = 4 * np.sqrt(np.maximum(values, 0))
        angle = np.degrees(np.arctan2(*axes[::-1, 1]))
        dashes = "--" if dimension == 1 else "-"
        ellipse = Ellipse(
            (mean[0], mean[1]), major, minor, angle=angle, fill=False, ec=color, lw=1.6, ls=dashes
        )
        ellipse.set_zorder(3)
        ax.add_patch(ellipse)
    return ax


def plot_vicinity(
    train_x: Any, train_y: Any, test_x: Any, result: VicinityResult, ax: Axes, *, sample: int
) -> Axes:
    """Draw a test sample in the plane, its neighbours, and the number of these with its class.

    Parameters
    ----------
    train_x, train_y, test_x : array-like
        The arguments of `vicinity`, with samples in the plane.
    result : VicinityResult
        Its result.
    ax : matplotlib.axes.Axes
        The Axes to draw on. They show the region around the largest neighbourhood.
    sample : int
        Row number of the test sample.

    Returns
    -------
    matplotlib.axes.Axes
        `ax`. The square is the test sample. Lines lead to its neighbours, dark ones to those of
        the smallest neighbourhood. A circle passes through the last neighbour of each size.

    Raises
    ------
    InputError
        If the samples are not in the plane, or `sample` is not a row number of `test_x`.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from matplotlib.figure import Figure
    >>> from zmanifold.plotting import plot_vicinity
    >>> X, y = zm.make_crescents(random_state=0)
    >>> T, u = zm.make_crescents(random_state=1)
    >>> result = zm.vicinity(X, y, T, u)
    >>> ax = plot_vicinity(X, y, T, result, Figure().add_subplot(), sample=3)
    """
    from matplotlib.patches import Circle

    given = {"train_x": train_x, "test_x": test_x}
    x, test = (p.numpy() for p in as_set_of(given, device="cpu", least=(2, 1)))
    row = check_count("sample", sample, least=0)
    if x.shape[1] != 2 or row >= len(result.labels):
        raise InputError(
            f"train_x has {x.shape[1]} columns and sample={row} is one of {len(result.labels)} "
            "test samples: give samples in the plane and a row number of test_x."
        )
    at, largest = test[row], max(result.n_neighbors)
    plot_labels(x, train_y, ax, size=16)
    inner = min(result.n_neighbors)
    for order, index in enumerate(result.indices[row, :largest]):
        color = "0.25" if order < inner else "0.65"
        ax.plot(*np.stack([at, x[index]]).T, color=color, lw=0.9, zorder=0)
    for k in result.n_neighbors:
        radius = float(result.distances[row, k - 1])
        ax.add_patch(Circle((at[0], at[1]), radius, fill=False, color="0.4", lw=0.8, ls=":"))
    colors = label_colors(np.append(np.arange(len(result.classes)), result.labels[row]))
    ax.plot(*at, "s", ms=9, color=colors[-1], mec="black", mew=1.4, zorder=4)
    reach = 1.6 * float(result.distances[row, largest - 1])
    ax.set_xlim(at[0] - reach, at[0] + reach)
    ax.set_ylim(at[1] - reach, at[1] + reach)
    lines = [
        f"k = {k}: {result.n_same[i, row]} of {k} have its class"
        for i, k in enumerate(result.n_neighbors)
    ]
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("\n".join(lines))
    return ax
