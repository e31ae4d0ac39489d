"""Colours, dashes and names that all figures share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zmanifold._base.errors import InputError
from zmanifold._base.labels import Labels, as_labels
from zmanifold._base.naming import readable
from zmanifold.dimension import FLAGS

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = [
    "COLORS",
    "DASHES",
    "FLAG_MARKERS",
    "NAMES",
    "SPARE_COLORS",
    "SYMBOLS",
    "check_colors",
    "label_colors",
    "plain",
]

# The palette of Okabe and Ito, whose colours colour-blind people can tell apart. Dashes distinguish
# the lines in a grey print.
COLORS = {
    "none": "#000000",
    "mixup": "#D55E00",
    "zeta": "#0072B2",
    "zeta-anchored": "#009E73",
}


DASHES = {"none": (4, 2), "mixup": (1, 1.2), "zeta": (), "zeta-anchored": (6, 1.5, 1.5, 1.5)}


NAMES = {
    "none": "original",
    "mixup": "mixup",
    "zeta": "ζ-mixup",
    "zeta-anchored": "ζ-mixup, anchored",
}


SYMBOLS = {"gamma": "γ", "alpha": "α"}


# Hollow markers where an estimate has a flag.
FLAG_MARKERS = dict(zip(FLAGS, ("^", "D", "v", "s", "o"), strict=True))


# The colours of mixers that have none in `COLORS`.
SPARE_COLORS = ("#CC79A7", "#E69F00", "#56B4E9", "#F0E442")


# Paul Tol's "muted" scheme, for 8 to 10 classes.
_MANY_COLORS = (
    "#332288", "#88CCEE", "#44AA99", "#117733", "#999933",
    "#DDCC77", "#CC6677", "#882255", "#AA4499", "#888888",
)  # fmt: skip


# Okabe and Ito's palette without black, for up to 7 classes.
_CLASS_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")


def label_colors(labels: Any) -> NDArray[np.float64]:
    """Return one RGB colour a sample: the colour of its class, or the label's mean of such colours.

    Parameters
    ----------
    labels : array-like of shape (n,) or (n, K)
        Hard or soft labels of at most 10 classes.

    Returns
    -------
    ndarray of float64, shape (n, 3)
        Values from 0 to 1. The colours are those of Okabe and Ito for up to 7 classes, and of Paul
        Tol for more.

    Raises
    ------
    InputError
        If there are more classes than colours that can be told apart.

    Examples
    --------
    >>> from zmanifold.plotting import label_colors
    >>> label_colors([[1.0, 0.0], [0.5, 0.5]]).round(2).tolist()
    [[0.0, 0.45, 0.7], [0.45, 0.54, 0.35]]
    """
    from matplotlib.colors import to_rgb

    checked = check_colors(labels)
    n_classes = len(checked.classes)
    names = _CLASS_COLORS if n_classes <= len(_CLASS_COLORS) else _MANY_COLORS
    palette = np.array([to_rgb(color) for color in names[:n_classes]])
    colors: NDArray[np.float64] = np.clip(checked.distributions().numpy() @ palette, 0, 1)
    return colors


def check_colors(labels: Any) -> Labels:
    """Return checked labels, or raise InputError if they have more classes than colours.

    Examples
    --------
    >>> from zmanifold.plotting import check_colors
    >>> len(check_colors(["a", "b", "a"]).classes)
    2
    """
    checked = as_labels(labels, len(labels), name="labels")
    n_classes = len(checked.classes)
    if n_classes > len(_MANY_COLORS):
        raise InputError(
            f"labels has {n_classes} classes but {len(_MANY_COLORS)} colours can be told apart: "
            "select samples of fewer classes."
        )
    return checked


def plain(name: str) -> str:
    r"""Return a name that Matplotlib shows as it stands.

    Text between two dollar signs would be a formula, and a legend leaves out what begins with an
    underscore.

    Examples
    --------
    >>> from zmanifold.plotting.style import plain
    >>> print(plain("cost $^$"))
    cost \$^\$
    """
    shown = readable(name).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown
