"""Data sets by name or by path: what to read, and what was read as a `Dataset`."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zmanifold._base.arrays import as_array, as_points, check_points
from zmanifold._base.checks import check_count
from zmanifold._base.errors import InputError, unknown_name
from zmanifold._base.labels import as_labels
from zmanifold._base.mapped import is_mapped
from zmanifold.datasets.dataset import Dataset, draw, flat_images, hold_out
from zmanifold.datasets.formats._wording import first_line
from zmanifold.datasets.formats.images import read_image_folder
from zmanifold.datasets.formats.registry import Contents, available_formats, find_format
from zmanifold.datasets.named import (
    check_data_dir,
    generate,
    is_generated,
    is_image_set,
    known_names,
    load_digits,
    load_image_set,
)

__all__ = ["has_splits", "load_dataset", "train_test"]

Split = Literal["train", "test"]
Array = NDArray[Any]

_MOST_SAMPLES = 10**9
_TRAIN_SHARE = 0.8


def load_dataset(
    name_or_path: str | os.PathLike[str],
    *,
    split: Split = "train",
    n_samples: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    random_state: Any = None,
) -> Dataset:
    """Load a data set by its name, or the user's own from a file or folder.

    Parameters
    ----------
    name_or_path : str or path
        - "digits" (bundled with scikit-learn);
        - "fashion-mnist" or "mnist" (IDX files, gzipped or not), "cifar10" or "cifar100" (the
          binary version), looked for in `data_dir`, ``$ZMANIFOLD_DATA`` and Debian's
          /usr/share/datasets;
        - "crescents", "spirals", "helix-r3", "helix-r12" or "paraboloid-r12", generated;
        - "skdim:NAME", a benchmark manifold of scikit-dimension, generated (2,500 points);
        - a file: ``.npy`` (points), ``.npz`` (arrays ``x`` and optionally ``y``, one label a
          point or soft labels), ``.csv`` or ``.parquet`` (a column y, label, labels, target or
          class holds the labels), or of any other of `available_formats`;
        - a folder of images, one folder a class; where it holds "train" and "test" folders,
          those are the splits.
    split : {"train", "test"}, default="train"
        Which part, where the source has two; a source without parts is all "train".
    n_samples : int, optional
        Generate so many points, or draw so many without replacement. All by default.
    data_dir : path, optional
        A folder to look in before the others.
    random_state : int, RandomState or None, default=None
        Source of randomness for generating and drawing.

    Returns
    -------
    Dataset
        Images are float32 in [0, 1]; everything else keeps its scale.

    Raises
    ------
    InputError
        If the name is unknown, files are missing (the message names the places searched and how
        to get them), or a file does not hold what it should. Nothing is ever unpickled. What is
        compressed may unpack to 64 MiB or 200 times the size of its file, whichever is more; an
        image may have 2**24 pixels. Parquet files and images are decoded in a child process: one
        that ends its decoder, or takes more memory or time than its size allows, is refused, too.

    Examples
    --------
    >>> import zmanifold as zm
    >>> zm.load_dataset("digits").points.shape
    (1797, 64)
    """
    from sklearn.utils import check_random_state

    if split not in ("train", "test"):
        raise unknown_name("split", split, ["train", "test"])
    rng = check_random_state(random_state)
    count = None
    if n_samples is not None:
        count = check_count("n_samples", n_samples, least=2, most=_MOST_SAMPLES)
    check_data_dir(data_dir)
    name = os.fspath(name_or_path)
    if is_generated(name):
        _only_train(name, split)
        return generate(name, count, rng)
    if name == "digits":
        _only_train(name, split)
        dataset = load_digits()
    else:
        try:
            if is_image_set(name):
                dataset = load_image_set(name, split, data_dir)
            else:
                dataset = _load_path(name, split)
        except OSError as error:
            raise InputError(
                f"{name} cannot be read ({first_line(error)}): check the file."
            ) from None
    return dataset if count is None else draw(dataset, count, rng)


def train_test(
    name_or_path: str | os.PathLike[str],
    *,
    n_train: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    random_state: Any = None,
) -> tuple[Dataset, Dataset]:
    """Load a labelled data set in two parts: its own splits, or samples held out of it.

    Parameters
    ----------
    name_or_path : str or path
        As for `load_dataset`.
    n_train : int, optional
        How many samples of a source without a test split are for training; 80% by default.
    data_dir : path, optional
        A folder to look in before the others.
    random_state : int, RandomState or None, default=None
        Source of randomness for generating and holding out.

    Returns
    -------
    train, test : Dataset
        Of a source without a test split each in the order of the original, each class in
        proportion.

    Raises
    ------
    InputError
        As `load_dataset` and `hold_out` do, or if `n_train` is given for a source that has a test
        split.

    Examples
    --------
    >>> from zmanifold.datasets import train_test
    >>> train, test = train_test("digits", random_state=0)
    >>> len(train.points), len(test.points)
    (1438, 359)
    """
    if has_splits(name_or_path):
        if n_train is not None:
            raise InputError(
                f"n_train={n_train} would cut {os.fspath(name_or_path)!r}, which has a test split: "
                "leave it out."
            )
        train = load_dataset(name_or_path, data_dir=data_dir)
        return train, load_dataset(name_or_path, split="test", data_dir=data_dir)
    whole = load_dataset(name_or_path, data_dir=data_dir, random_state=random_state)
    count = round(_TRAIN_SHARE * len(whole.points)) if n_train is None else n_train
    return hold_out(whole, count, random_state=random_state)


def has_splits(name_or_path: str | os.PathLike[str]) -> bool:
    """Tell whether a source has a test split besides the training one.

    Examples
    --------
    >>> from zmanifold.datasets import has_splits
    >>> has_splits("fashion-mnist"), has_splits("digits")
    (True, False)
    """
    return is_image_set(os.fspath(name_or_path)) or _is_split(_as_path(name_or_path))


def _as_path(name: str | os.PathLike[str]) -> Path:
    path = Path(name)
    # Of an unknown user's home there is no folder: the path stays as it is.
    with contextlib.suppress(RuntimeError):
        path = path.expanduser()
    return path


def _is_split(folder: Path) -> bool:
    return all((folder / part).is_dir() for part in ("train", "test"))


def _only_train(name: str, split: str) -> None:
    if split != "train":
        raise InputError(
            f"{name!r} has no {split!r} split: take all of it with split='train' and cut it with "
            "sklearn.model_selection.train_test_split."
        )


def _load_path(name: str, split: str) -> Dataset:
    path = _as_path(name)
    # The path of an empty name is the working folder.
    if name and path.is_dir():
        return _load_image_folder(path, split)
    ending = path.suffix.lower()
    found = find_format(ending) if name else None
    if not name or not path.exists():
        if name and (found or path.name != name):
            raise InputError(
                f"{name!r} does not exist: give a file, a folder or a data set's name."
            )
        raise unknown_name("data set", name, [*known_names(), "a file or folder"])
    if found is None:
        endings = [ending for known in available_formats() for ending in known.endings]
        raise InputError(
            f"{name!r} ends in {ending!r}: files end in {', '.join(endings)}, or give a "
            "folder of class folders of images."
        )
    _only_train(name, split)
    contents = found.load(path)
    # A wide float that float64 cannot hold becomes inf or NaN, which is refused.
    with np.errstate(over="ignore", invalid="ignore"):
        return _as_dataset(contents, path.stem)


def _load_image_folder(path: Path, split: str) -> Dataset:
    root = path
    if _is_split(path):
        root = path / split
    else:
        _only_train(str(path), split)
    pixels, labels, shape, classes = read_image_folder(root)
    return Dataset(flat_images(pixels, root), labels, shape, classes, path.name)


def _as_dataset(contents: Contents, name: str) -> Dataset:
    points, image_shape = _as_flat(contents, name)
    if contents.y is None:
        return Dataset(points, None, image_shape, None, name)
    y = as_array(contents.y, f"{name}: y")
    if y.ndim == 2 and y.dtype.kind == "f" and len(y) == len(points):
        soft = as_labels(y, len(points), name=f"{name}: y")
        return Dataset(points, y, image_shape, tuple(map(str, soft.classes)), name)
    if y.shape != (len(points),):
        raise InputError(
            f"{name}: y has shape {y.shape} for {len(points)} points: give one label a point."
        )
    classes, labels = _hard_labels(y, f"{name}: y")
    if contents.class_names is None:
        names = tuple(str(c) for c in classes)
        return Dataset(points, labels.astype(np.int64), image_shape, names, name)
    n_named = len(contents.class_names)
    if classes.dtype.kind not in "iu" or not 0 <= classes[0] <= classes[-1] < n_named:
        raise InputError(
            f"{name}: y holds {classes[0]} to {classes[-1]} but there are {n_named} class names: "
            f"give labels 0 to {n_named - 1}."
        )
    return Dataset(points, y.astype(np.int64), image_shape, contents.class_names, name)


def _as_flat(contents: Contents, name: str) -> tuple[Array, tuple[int, ...] | None]:
    """Return points (n, d), and the shape of an image where a point is one."""
    # A mapped array keeps its class: its values stay where they are, in the file's own type.
    x = contents.x if isinstance(contents.x, np.ndarray) else as_array(contents.x, f"{name}: x")
    shape = contents.image_shape
    if x.ndim > 2:
        shape = x.shape[1:] if x.ndim > 3 else (1, *x.shape[1:])
        x = x.reshape(len(x), math.prod(x.shape[1:]))
    if is_mapped(x):
        check_points(x, name=f"{name}: x")
    else:
        x = as_points(x, name=f"{name}: x").numpy()
    if shape is not None and math.prod(shape) != x.shape[1]:
        raise InputError(
            f"{name}: image_shape={shape} for points of {x.shape[1]} values: give (channels, "
            "height, width)."
        )
    return x, shape


def _hard_labels(y: Array, name: str) -> tuple[Array, Array]:
    """Return the classes and each sample's code, of numbers that are no integers, too."""
    if y.dtype.kind == "U" and not _is_text(y):
        raise InputError(f"{name} holds labels that are no text: save them again.")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        row = int(np.flatnonzero(~np.isfinite(y))[0])
        raise InputError(f"{name} holds {y[row]} as label in row {row}: remove such samples.")
    # Texts stay objects: as one array each would take the room of the longest.
    if y.dtype.kind == "f" or (y.dtype.kind == "O" and all(isinstance(c, str) for c in y)):
        return np.unique(y, return_inverse=True)
    labels = as_labels(y, len(y), name=name)
    return labels.classes, labels.codes.numpy()


def _is_text(array: Array) -> bool:
    """Tell whether an array of text holds characters only: a file can hold any numbers there."""
    codes = np.ascontiguousarray(array).view(array.dtype.str[:1] + "u4")
    return bool(((codes < 0xD800) | ((codes > 0xDFFF) & (codes <= 0x10FFFF))).all())
