"""The `Dataset`: points with labels, and how to take parts of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray

from zmanifold._base.arrays import as_points
from zmanifold._base.checks import check_count
from zmanifold._base.errors import InputError
from zmanifold._base.labels import name_some
from zmanifold._base.mapped import is_mapped
from zmanifold.datasets.formats._wording import first_line
from zmanifold.datasets.reading import Reading

__all__ = ["Dataset", "comparable_labels", "draw", "flat_images", "hold_out", "take"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Points with their labels.

    Attributes
    ----------
    points : ndarray of float32 or float64, shape (n, d)
        One flattened sample a row; images in [0, 1]. A large .npy file is a memory map, in the
        file's own type.
    labels : ndarray of int64, shape (n,), or of float, shape (n, K), or None
        Classes 0..K-1, or soft labels; None if the source has no labels.
    image_shape : tuple of int or None
        (channels, height, width) for images: ``points.reshape(-1, *image_shape)``.
    class_names : tuple of str or None
        Names of the classes, if the source has them.
    name : str
        The name of the set in tables.
    read : Reading or None
        What its file or folder was read as: header, index, features, labels, what was skipped.

    Examples
    --------
    >>> import zmanifold as zm
    >>> zm.load_dataset("digits").image_shape
    (1, 8, 8)
    """

    points: Array
    labels: Array | None
    image_shape: tuple[int, ...] | None
    class_names: tuple[str, ...] | None
    name: str
    read: Reading | None = None

    def named_labels(self) -> Array:
        """Return labels by their names in the source.

        Two files may number the same classes differently; the names are the same.

        Returns
        -------
        ndarray of shape (n,) or (n, K)
            Names if the classes have them; else hard labels as they are. Soft labels as they are.

        Raises
        ------
        InputError
            If there are no labels.

        Examples
        --------
        >>> import zmanifold as zm
        >>> zm.load_dataset("digits").named_labels()[:3].tolist()
        ['0', '1', '2']
        """
        if self.labels is None:
            raise InputError(
                f"{self.name!r} has no labels: save them as array y of an .npz file, or as column "
                "y, or name their column with label_column."
            )
        if self.labels.ndim == 2 or self.class_names is None:
            return self.labels
        return np.asarray(self.class_names)[self.labels]

    def read_as_dict(self) -> dict[str, Any] | None:
        """Return `read` as a dictionary for the settings of a result.

        Examples
        --------
        >>> import zmanifold as zm
        >>> zm.load_dataset("digits").read_as_dict()
        """
        return None if self.read is None else self.read.to_dict()


def comparable_labels(train: Dataset, test: Dataset) -> tuple[Array, Array]:
    """Return the labels of two data sets so that the same class has the same label.

    Parameters
    ----------
    train, test : Dataset
        Hard labels are compared by their names. If the labels of `train` are soft, the names of the
        classes of `test` are the numbers of the columns of these.

    Returns
    -------
    train_y, test_y : ndarray of shape (n,) or (n, K)
        Labels for `zmanifold.vicinity`.

    Raises
    ------
    InputError
        If a set has no labels, or the training labels are soft and the test labels no numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold.datasets import Dataset, comparable_labels
    >>> X = np.zeros((2, 3))
    >>> train = Dataset(X, np.array([0, 1]), None, ("cat", "dog"), "train")
    >>> test = Dataset(X, np.array([0, 0]), None, ("dog",), "test")
    >>> [labels.tolist() for labels in comparable_labels(train, test)]
    [['cat', 'dog'], ['dog', 'dog']]
    """
    train_y, test_y = train.named_labels(), test.named_labels()
    truths = [{*y.tolist()} <= {"False", "True"} for y in (train_y, test_y) if y.ndim == 1]
    if any(truths) and not all(truths):
        # One set has truth values: they stand for the classes 0 and 1 of the other.
        train_y, test_y = map(_truth_as_number, (train_y, test_y))
    if train_y.ndim == 1 or test_y.ndim == 2:
        return train_y, test_y
    try:
        return train_y, test_y.astype(int)
    except ValueError:
        raise InputError(
            "the training labels are soft, with classes 0, 1, ..., but the test labels are "
            f"{name_some(np.unique(test_y))}: give the numbers of their columns."
        ) from None


def _truth_as_number(names: Array) -> Array:
    if not {*names.tolist()} <= {"False", "True"}:
        return names
    return np.where(names == "True", "1", "0")


def hold_out(
    dataset: Dataset, n_train: int, *, random_state: Any = None
) -> tuple[Dataset, Dataset]:
    """Split a labelled data set in two, stratified by class.

    Parameters
    ----------
    dataset : Dataset
        A data set with hard labels.
    n_train : int
        The number of samples in the first part; the others are the second part.
    random_state : int, RandomState or None, default=None
        Source of randomness.

    Returns
    -------
    train, test : Dataset
        The parts, each in the order of the original.

    Raises
    ------
    InputError
        If there are no labels, or a part would not have a sample of each class.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.datasets import hold_out
    >>> train, test = hold_out(zm.load_dataset("digits"), 1000, random_state=0)
    >>> len(train.points), len(test.points)
    (1000, 797)
    """
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state

    n = len(dataset.points)
    count = check_count("n_train", n_train)
    if dataset.labels is None or dataset.labels.ndim != 1:
        raise InputError(f"{dataset.name!r} has no hard labels: give one class a sample.")
    n_classes = len(np.unique(dataset.labels))
    if not n_classes <= count <= n - n_classes:
        raise InputError(
            f"n_train={count} of {n} samples leaves a part without one of each of the {n_classes} "
            f"classes: give {n_classes} to {n - n_classes}."
        )
    try:
        rows = train_test_split(
            np.arange(n),
            train_size=count,
            stratify=dataset.labels,
            random_state=check_random_state(random_state),
        )
    except ValueError as error:
        raise InputError(
            f"{dataset.name!r} cannot be cut in two ({first_line(error)}): remove classes with a "
            "single sample."
        ) from None
    return take(dataset, np.sort(rows[0])), take(dataset, np.sort(rows[1]))


def draw(dataset: Dataset, count: int, rng: np.random.RandomState) -> Dataset:
    """Return `count` samples, drawn without replacement, in the order of the original."""
    n = len(dataset.points)
    if count > n:
        raise InputError(
            f"n_samples={count} but {dataset.name!r} has {n} samples: lower n_samples."
        )
    return take(dataset, np.sort(rng.choice(n, count, replace=False)))


def take(dataset: Dataset, rows: Array) -> Dataset:
    """Return the samples of some rows; samples of a mapped array are read into memory."""
    labels = None if dataset.labels is None else dataset.labels[rows]
    points = dataset.points[rows]
    if is_mapped(dataset.points):
        points = as_points(points).numpy()
    return replace(dataset, points=points, labels=labels)


def flat_images(pixels: UInt8[np.ndarray, "n c h w"], source: Path) -> Float32[np.ndarray, "n d"]:
    """Return 8-bit images as rows of values in [0, 1].

    Raises
    ------
    InputError
        If there is a single image.
    """
    if len(pixels) < 2:
        raise InputError(f"{source} holds a single image: at least 2 are needed.")
    points = pixels.reshape(len(pixels), -1).astype(np.float32)
    points /= np.float32(255)
    return points
