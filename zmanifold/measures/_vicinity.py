"""Vicinities of test samples: the nearest training samples and their labels."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from zmanifold._base.ambient import ambient_outside
from zmanifold._base.arrays import as_set_of
from zmanifold._base.checks import as_counts, check_n_neighbors, resolve_device
from zmanifold._base.errors import InputError
from zmanifold._base.files import expanded
from zmanifold._base.labels import Labels, as_labels, entropy, name_some
from zmanifold._base.memory import working_memory
from zmanifold._base.naming import encodable
from zmanifold._base.provenance import device_name, environment
from zmanifold.measures._neighbor_labels import class_counts, neighborhood_distributions
from zmanifold.neighbors import MetricSpace, check_metric, search
from zmanifold.storage import save_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["VicinityResult", "vicinity"]


@dataclass(frozen=True, eq=False)
class VicinityResult:
    """The result of `vicinity` for q test samples, r neighbourhood sizes and K classes.

    Attributes
    ----------
    n_neighbors : tuple of int
        The neighbourhood sizes, in the order given.
    metric : str
        The metric of all distances.
    classes : ndarray of shape (K,)
        The classes, ascending; `labels` and the last axis of `class_counts` number them.
    labels : ndarray of int64, shape (q,)
        Each test sample's class.
    indices : ndarray of int64, shape (q, max(n_neighbors))
        Row numbers of the nearest training samples, nearest first.
    distances : ndarray of float64, shape (q, max(n_neighbors))
        Distances of these training samples.
    class_counts : ndarray of int64, shape (r, q, K)
        The number of neighbours of each class. The class of a soft label is its largest entry.
    label_mass : ndarray of float64, shape (r, q)
        The neighbours' mean label mass on the test sample's class.
    entropy : ndarray of float64, shape (r, q)
        Entropy, in nats, of the neighbours' mean label distribution.
    own_distance, other_distance : ndarray of float64, shape (q,)
        Distance to the nearest training sample of the test sample's class, and of any other class.
    settings : dict
        Sizes, metric, device and duration, as JSON takes them.

    Examples
    --------
    >>> import zmanifold as zm
    >>> X, y = zm.make_crescents(200, random_state=0)
    >>> result = zm.vicinity(X[:150], y[:150], X[150:], y[150:])
    >>> result.class_counts.shape
    (2, 50, 2)
    """

    n_neighbors: tuple[int, ...]
    metric: str
    classes: NDArray[Any]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    distances: NDArray[np.float64]
    class_counts: NDArray[np.int64]
    label_mass: NDArray[np.float64]
    entropy: NDArray[np.float64]
    own_distance: NDArray[np.float64]
    other_distance: NDArray[np.float64]
    settings: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def n_same(self) -> NDArray[np.int64]:
        """The number of neighbours of the test sample's own class, shape (r, q)."""
        return np.take_along_axis(self.class_counts, self.labels[None, :, None], 2)[:, :, 0]

    def to_frame(self) -> pd.DataFrame:
        """Return the tidy table, one row a test sample and neighbourhood size.

        Returns
        -------
        pandas.DataFrame
            Columns sample (the row number), label, n_neighbors, n_same (the number of neighbours
            of the sample's class), label_mass, entropy, own_distance, other_distance, and count_C
            for each class C.
        """
        import pandas as pd

        r, q, _ = self.class_counts.shape
        classes = self.classes
        if classes.dtype.kind == "U":
            # The name of a folder may be no UTF-8, which pandas cannot hold.
            classes = np.array([encodable(str(name)) for name in classes])
        columns = {
            "sample": np.tile(np.arange(q), r),
            "label": np.tile(classes[self.labels], r),
            "n_neighbors": np.repeat(self.n_neighbors, q),
            "n_same": self.n_same.ravel(),
            "label_mass": self.label_mass.ravel(),
            "entropy": self.entropy.ravel(),
            "own_distance": np.tile(self.own_distance, r),
            "other_distance": np.tile(self.other_distance, r),
        }
        counts = {
            f"count_{name}": self.class_counts[:, :, i].ravel() for i, name in enumerate(classes)
        }
        return pd.DataFrame(columns | counts)

    def save(self, path: str | os.PathLike[str], **names: str) -> None:
        """Write the table of the samples, and beside it a JSON of its settings and means.

        Parameters
        ----------
        path : path
            The table, which ends in .parquet or .csv. The settings are written to the same name
            with the ending .json.
        **names : str
            Further settings, for example the names of the sets.

        Raises
        ------
        InputError
            If the path has another ending or cannot be written.
        """
        means = {"summary": self.summary().to_dict("records")}
        save_table(
            self.to_frame(), expanded(path), {**names, **self.settings, **means, **environment()}
        )

    def summary(self) -> pd.DataFrame:
        """Return means over the test samples, one row a neighbourhood size.

        Returns
        -------
        pandas.DataFrame
            Columns n_neighbors, n_samples; n_same, label_mass, entropy, own_distance and
            other_distance (means); majority (the share of samples whose own class has more
            neighbours than every other class); nearer_own (the share of samples to which the
            nearest training sample of their own class is nearer than that of any other class).
        """
        import pandas as pd

        others = self.class_counts.copy()
        np.put_along_axis(others, self.labels[None, :, None], -1, 2)
        return pd.DataFrame(
            {
                "n_neighbors": self.n_neighbors,
                "n_samples": len(self.labels),
                "n_same": self.n_same.mean(axis=1),
                "majority": (self.n_same > others.max(axis=2)).mean(axis=1),
                "label_mass": self.label_mass.mean(axis=1),
                "entropy": self.entropy.mean(axis=1),
                "own_distance": self.own_distance.mean(),
                "other_distance": self.other_distance.mean(),
                "nearer_own": (self.own_distance < self.other_distance).mean(),
            }
        )


@ambient_outside()
def vicinity(
    train_x: Any,
    train_y: Any,
    test_x: Any,
    test_y: Any,
    *,
    n_neighbors: int | Iterable[int] = (8, 16),
    metric: Literal["euclidean", "cosine"] = "euclidean",
    device: str | torch.device = "auto",
    memory_limit: int | None = None,
) -> VicinityResult:
    """Find the training samples nearest to each test sample, and describe their labels.

    Figures 7 and 8 of the ζ-mixup paper [1]_ show such vicinities. A test sample is likely to be
    classified correctly if its neighbours have its class.

    Parameters
    ----------
    train_x : array-like or torch.Tensor of shape (n, d)
        Training samples, original or mixed, in input or in feature space.
    train_y : array-like of shape (n,) or (n, K)
        Their labels: integers or strings, or soft labels with a column for each class 0..K-1. The
        class of a soft label is its largest entry.
    test_x : array-like or torch.Tensor of shape (q, d)
        Test samples, a set of their own: all training samples can be their neighbours.
    test_y : array-like of shape (q,)
        Their classes. Each of them is the class of at least one training sample.
    n_neighbors : int or iterable of int, default=(8, 16)
        Neighbourhood sizes k, 1 <= k <= n.
    metric : {"euclidean", "cosine"}, default="euclidean"
        "cosine" is the cosine distance 1 - cos(x, y), which is undefined for zero vectors: they
        are refused.
    device : str or torch.device, default="auto"
        The device that computes; "auto" takes that of a tensor, or a GPU if the machine has one.
    memory_limit : int, optional
        Bytes of working memory besides the data; results do not depend on it.

    Returns
    -------
    VicinityResult
        `to_frame()` gives the table of the samples, `summary()` the means.

    Raises
    ------
    InputError
        If an argument is out of its range; the message names the argument.

    References
    ----------
    .. [1] K. Abhishek, C. J. Brown and G. Hamarneh, "Multi-sample ζ-mixup: richer, more
       realistic synthetic samples from a p-series interpolant", Journal of Big Data 11, 2024.

    Examples
    --------
    >>> import zmanifold as zm
    >>> train_x, train_y = [[0.0], [1.0], [2.0], [9.0]], ["a", "a", "b", "b"]
    >>> result = zm.vicinity(train_x, train_y, [[1.4]], ["a"], n_neighbors=3)
    >>> result.to_frame()[["n_same", "own_distance", "count_a", "count_b"]].round(3).values
    array([[2. , 0.4, 2. , 1. ]])
    """
    clock = time.perf_counter()
    check_metric(metric)
    where = resolve_device(device, like=train_x)
    train, test = as_set_of({"train_x": train_x, "test_x": test_x}, device=where, least=(2, 1))
    k_values = as_counts("n_neighbors", n_neighbors, least=1)
    for k in k_values:
        check_n_neighbors(k, len(train), apart=True)
    train_labels, own = _checked_labels(train_y, len(train), test_y, len(test))
    memory = working_memory(memory_limit, where)
    space = MetricSpace.of(metric, train_x=train, test_x=test)
    train, test = space.points

    codes, own = train_labels.codes.to(where), own.to(where)
    found, indices = search(train, max(k_values), queries=test, memory=memory)
    same = codes[indices] == own[:, None]
    distances = {}
    for name, eligible in (("own", same), ("other", ~same)):
        # argmax gives the first, which is the nearest, eligible neighbour; and 0 if there is none.
        nearest = found.gather(1, eligible.double().argmax(dim=1, keepdim=True))[:, 0]
        left = ~eligible.any(dim=1)
        _search_left(train, codes, test, own, nearest, left, name == "own", memory)
        distances[name] = space.measured(nearest)

    counts, mass, entropies = [], [], []
    for k in k_values:
        near = indices[:, :k]
        counts.append(class_counts(codes[near], len(train_labels.classes)))
        mean = neighborhood_distributions(train_labels, near, memory)
        mass.append(mean.gather(1, own[:, None])[:, 0])
        entropies.append(entropy(mean))
    return VicinityResult(
        n_neighbors=tuple(k_values),
        metric=metric,
        classes=train_labels.classes,
        labels=own.cpu().numpy(),
        indices=indices.cpu().numpy(),
        distances=space.measured(found).cpu().numpy(),
        class_counts=torch.stack(counts).cpu().numpy(),
        label_mass=torch.stack(mass).cpu().numpy(),
        entropy=torch.stack(entropies).cpu().numpy(),
        own_distance=distances["own"].cpu().numpy(),
        other_distance=distances["other"].cpu().numpy(),
        settings={
            "n_train": len(train),
            "n_test": len(test),
            "n_features": train.shape[1],
            "n_neighbors": k_values,
            "metric": metric,
            "device": device_name(where),
            "seconds": round(time.perf_counter() - clock, 3),
        },
    )


def _checked_labels(
    train_y: Any, n_train: int, test_y: Any, n_test: int
) -> tuple[Labels, Int64[Tensor, " q"]]:
    """Return the training labels and the test samples' codes among their classes."""
    train = as_labels(train_y, n_train, name="train_y")
    present = torch.unique(train.codes)
    if len(present) < 2:
        raise InputError(
            f"train_y holds a single class, {train.classes[int(present[0])].item()!r}, but a "
            "vicinity needs at least 2: give samples of another class."
        )
    soft = as_labels(test_y, n_test, name="test_y").soft
    if soft is not None:
        raise InputError(
            f"test_y has shape {tuple(soft.shape)} but test samples have one class each, (n,): "
            "give hard labels, test_y.argmax(1) for soft ones."
        )
    own = as_labels(test_y, n_test, name="test_y", classes=train.classes).codes
    without = ~torch.isin(own, present)
    if bool(without.any()):
        row = int(without.nonzero()[0])
        raise InputError(
            f"test_y holds label {train.classes[int(own[row])].item()!r} in row {row} but no "
            f"training sample has that class (train_y has {name_some(train.classes[present])}): "
            "remove such samples, or add training samples."
        )
    return train, own


def _search_left(
    train: Float[Tensor, "n d"],
    codes: Int64[Tensor, " n"],
    test: Float[Tensor, "q d"],
    own: Int64[Tensor, " q"],
    nearest: Float64[Tensor, " q"],
    left: Bool[Tensor, " q"],
    of_own_class: bool,
    memory: int,
) -> None:
    """Fill in `nearest` for the test samples `left` that had no eligible neighbour.

    Eligible are the training samples of the test sample's class or, unless `of_own_class`, those of
    all other classes. The search is one among them alone.
    """
    for code in torch.unique(own[left]):
        rows = (left & (own == code)).nonzero()[:, 0]
        eligible = (codes == code) == of_own_class
        nearest[rows] = search(train[eligible], 1, queries=test[rows], memory=memory)[0][:, 0]
