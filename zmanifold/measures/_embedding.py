"""t-SNE of training samples, with test samples placed among them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from zmanifold._base.ambient import ambient_outside
from zmanifold._base.arrays import as_set_of
from zmanifold._base.checks import check_count, is_number
from zmanifold._base.errors import InputError
from zmanifold._base.scaling import centred_in_float32, largest_magnitude
from zmanifold.neighbors import MetricSpace, check_metric

__all__ = ["Embedding", "check_embeddable", "embed"]

# The perplexity for placing test samples. openTSNE uses at most three neighbours a unit of it: its
# default of 5 would cut its 25 neighbours to 15.
_PLACING_PERPLEXITY = 10.0


@dataclass(frozen=True, eq=False)
class Embedding:
    """Two-dimensional coordinates of training and test samples in one frame.

    Attributes
    ----------
    train : ndarray of float64, shape (n, 2)
        The fitted embedding.
    test : ndarray of float64, shape (q, 2)
        The test samples, placed among the training samples without moving them.
    """

    train: NDArray[np.float64]
    test: NDArray[np.float64]


@ambient_outside()
def embed(
    train_x: Any,
    test_x: Any,
    *,
    metric: Literal["euclidean", "cosine"] = "cosine",
    perplexity: float = 30.0,
    seed: int = 0,
) -> Embedding:
    """Embed training samples in the plane by t-SNE and place test samples among them.

    Parameters
    ----------
    train_x : array-like of shape (n, d)
        Training samples, usually features of a model.
    test_x : array-like of shape (q, d)
        Samples to place among them.
    metric : {"euclidean", "cosine"}, default="cosine"
        The metric of neighbours.
    perplexity : float, default=30.0
        t-SNE's effective number of neighbours, 1 <= perplexity < n / 3.
    seed : int, default=0
        The source of randomness.

    Returns
    -------
    Embedding
        The coordinates of both sets, in one frame.

    Raises
    ------
    InputError
        If openTSNE is not installed, an argument is out of its range, or the samples are so similar
        that the embedding is not finite.

    Notes
    -----
    The embedding is openTSNE's [1]_. Its first `transform` centres the fitted embedding in place:
    the training coordinates are read after it, so that both sets share a frame.

    References
    ----------
    .. [1] P. G. Poličar, M. Stražar and B. Zupan, "openTSNE: a modular Python library for t-SNE
       dimensionality reduction and embedding", Journal of Statistical Software 109(3), 2024.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.measures._embedding import embed
    >>> data = zm.load_dataset("digits", n_samples=300, random_state=0)
    >>> embedding = embed(data.points[:250], data.points[250:])
    >>> embedding.train.shape, embedding.test.shape
    ((250, 2), (50, 2))
    """
    x, placed = check_embeddable(train_x, test_x, metric=metric, perplexity=perplexity, seed=seed)
    import openTSNE

    # Coordinates beyond 2**40 times the training set's extent are cut to that: such a sample stays
    # about equally far from all training samples, and squares do not overflow.
    moved, beside = centred_in_float32(x, placed)
    beside.clamp_(-(2.0**40), 2.0**40)

    tsne = openTSNE.TSNE(perplexity=float(perplexity), metric="euclidean", random_state=seed)
    with np.errstate(all="ignore"):
        fitted = tsne.fit(moved.numpy())
        near = min(_PLACING_PERPLEXITY, (len(x) - 1) / 3)
        added = fitted.transform(beside.numpy(), perplexity=near, k=math.floor(3 * near))
    embedding = Embedding(np.array(fitted), np.array(added))
    if not (np.isfinite(embedding.train).all() and np.isfinite(embedding.test).all()):
        raise InputError(
            "the t-SNE embedding is not finite: look for duplicates among the training samples."
        )
    return embedding


def check_embeddable(
    train_x: Any,
    test_x: Any,
    *,
    metric: Literal["euclidean", "cosine"] = "cosine",
    perplexity: float = 30.0,
    seed: int = 0,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "q d"]]:
    """Check the arguments of `embed`, which are the same, without embedding.

    Returns
    -------
    train, test : torch.Tensor
        The points, mapped so that Euclidean neighbours are the metric's.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold.measures._embedding import check_embeddable
    >>> train, test = check_embeddable(np.eye(100), np.ones((1, 100)), metric="euclidean")
    """
    check_metric(metric)
    given = {"train_x": train_x, "test_x": test_x}
    train, test = as_set_of(given, device=torch.device("cpu"), least=(4, 1))
    n = len(train)
    if not is_number(perplexity) or not 1 <= perplexity < n / 3:
        raise InputError(
            f"perplexity={perplexity!r} must be at least 1 and below a third of the {n} training "
            "samples: lower it, or give more samples."
        )
    check_count("seed", seed, least=0)
    # For "cosine" these are unit vectors.
    x, placed = MetricSpace.of(metric, train_x=train, test_x=test).points
    # Differences within 64 units of float64's rounding: openTSNE would embed noise, or crash.
    if float((x - x[0]).abs().max()) <= 2.0**-46 * largest_magnitude(x):
        raise InputError(
            "train_x holds samples that are all alike, of which the t-SNE embedding would not be "
            "finite: check the features."
        )
    if find_spec("openTSNE") is None:
        raise InputError("t-SNE needs openTSNE: pip install 'zmanifold[tsne]'.")
    return x, placed
