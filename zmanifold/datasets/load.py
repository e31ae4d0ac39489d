"""Loading data sets by name or by path."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zmanifold._base.ambient import ambient_outside
from zmanifold._base.checks import check_count
from zmanifold._base.errors import InputError, unknown_name
from zmanifold._base.files import expanded
from zmanifold._base.naming import readable
from zmanifold.datasets._axes import as_flat
from zmanifold.datasets._classes import as_classes
from zmanifold.datasets.dataset import Dataset, draw, flat_images, hold_out
from zmanifold.datasets.formats._wording import first_line
from zmanifold.datasets.formats.folders import split_folders
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
from zmanifold.datasets.reading import check_options, given_options

__all__ = ["has_splits", "load_dataset", "train_test"]

Split = Literal["train", "test"]

_MOST_SAMPLES = 10**9
_TRAIN_SHARE = 0.8


@ambient_outside()
def load_dataset(
    name_or_path: str | os.PathLike[str],
    *,
    split: Split = "train",
    n_samples: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    random_state: Any = None,
    label_column: str | int | None = None,
    features: str | Sequence[str | int] | None = None,
    x: str | None = None,
    y: str | None = None,
    header: bool | None = None,
    resize: tuple[int, int] | None = None,
) -> Dataset:
    """Load a data set by its name, or the user's own from a file or folder.

    The data set's `read` says what a file or folder was read as.

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
          point or soft labels), ``.csv``, ``.tsv`` (gzipped or not) or ``.parquet`` (a column y,
          label, labels, target or class holds the labels; columns of lists are embeddings), or of
          any other of `available_formats`. Arrays of images are (n, channels, height, width), or
          (n, height, width, channels) of 1, 3 or 4 channels;
        - a folder of images, one folder a class; where it holds "train" and "test" folders (or
          "training", "val", "valid", "validation"), those are the splits.
    split : {"train", "test"}, default="train"
        The part to load, if the source has two; a source without parts is all "train".
    n_samples : int, optional
        The number of points to generate, or of samples to draw without replacement. By default
        all samples of a source, or the generator's own number.
    data_dir : path, optional
        A folder to search before the others.
    random_state : int, RandomState or None, default=None
        Source of randomness for generating and drawing.
    label_column : str or int, optional
        For tables: the column of labels, by its name or position.
    features : str or sequence of str or int, optional
        For tables: the columns of the points, by names, positions or ranges of positions: "a,b,c",
        ["a", 3], "0:64".
    x, y : str, optional
        For .npz files: the names of the arrays of points and of labels.
    header : bool, optional
        For tables in text: whether the first line names the columns.
    resize : tuple of int, optional
        For folders of images: the (height, width) that all images are resized to.

    Returns
    -------
    Dataset
        Images are float32 in [0, 1]; everything else keeps its scale.

    Raises
    ------
    InputError
        If the name is unknown, files are missing (the message names the places searched and how
        to get them), the content of a file does not suit its format, or an option does not apply to
        the source. Only regular files are read, and nothing is ever unpickled. A compressed file,
        or a folder of images, may unpack to 64 MiB or 200 times its size, whichever is more; an
        image may have 2**24 pixels. Parquet files and images are decoded in a child process: a file
        that crashes its decoder, or needs more memory or time than its size allows, is refused.

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
    options = given_options(
        label_column=label_column, features=features, x=x, y=y, header=header, resize=resize
    )
    check_data_dir(data_dir)
    name = os.fspath(name_or_path)
    if is_generated(name) or is_image_set(name) or name == "digits":
        check_options(options, (), name, "a data set of that name")
    if is_generated(name):
        _only_train(name, split)
        return generate(name, count, rng)
    try:
        if name == "digits":
            _only_train(name, split)
            dataset = load_digits()
        elif is_image_set(name):
            dataset = load_image_set(name, split, data_dir)
        else:
            dataset = _load_path(name, split, options)
    except OSError as error:
        raise InputError(f"{name} cannot be read ({first_line(error)}): check the file.") from None
    return dataset if count is None else draw(dataset, count, rng)


@ambient_outside()
def train_test(
    name_or_path: str | os.PathLike[str],
    *,
    n_train: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    random_state: Any = None,
    **reading: Any,
) -> tuple[Dataset, Dataset]:
    """Load a labelled data set in two parts: its own splits, or a stratified split.

    Parameters
    ----------
    name_or_path : str or path
        As for `load_dataset`.
    n_train : int, optional
        The number of training samples of a source without a test split; 80% by default.
    data_dir : path, optional
        A folder to search before the others.
    random_state : int, RandomState or None, default=None
        Source of randomness for generating and splitting.
    **reading
        `label_column`, `features`, `x`, `y`, `header` and `resize` of `load_dataset`.

    Returns
    -------
    train, test : Dataset
        The parts. A source without a test split is split as by `hold_out`.

    Raises
    ------
    InputError
        As in `load_dataset` and `hold_out`, and if `n_train` is given for a source that has a test
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
        train = load_dataset(name_or_path, data_dir=data_dir, **reading)
        return train, load_dataset(name_or_path, split="test", data_dir=data_dir, **reading)
    whole = load_dataset(name_or_path, data_dir=data_dir, random_state=random_state, **reading)
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
    # A folder without permission to read is refused when it is loaded.
    with contextlib.suppress(OSError):
        return is_image_set(os.fspath(name_or_path)) or bool(split_folders(expanded(name_or_path)))
    return False


def _only_train(name: str, split: str) -> None:
    if split != "train":
        raise InputError(
            f"{name!r} has no {split!r} split: take all of it with split='train' and cut it with "
            "sklearn.model_selection.train_test_split."
        )


def _load_path(name: str, split: str, options: dict[str, Any]) -> Dataset:
    path = expanded(name)
    # An empty name is excluded: its path would be the working folder.
    if name and path.is_dir():
        return _load_image_folder(path, split, options)
    known, ending = find_format(path.name) if name else (None, "")
    if not name or not (path.exists() or path.is_symlink()):
        if name and (known or path.name != name):
            raise InputError(
                f"{name!r} does not exist: give a file, a folder or a data set's name."
            )
        raise unknown_name("data set", name, [*known_names(), "a file or folder"])
    if known is None:
        endings = [ending for each in available_formats() for ending in each.endings]
        raise InputError(
            f"{name!r} ends in {ending.lower()!r}: files end in {', '.join(endings)}, or give a "
            "folder of class folders of images."
        )
    _only_train(name, split)
    contents = known.load(path, **options)
    # A wide float that float64 cannot hold becomes inf or NaN, which is refused.
    with np.errstate(over="ignore", invalid="ignore"):
        return _as_dataset(contents, readable(path.name.removesuffix(ending)))


def _load_image_folder(path: Path, split: str, options: dict[str, Any]) -> Dataset:
    check_options(options, ("resize",), str(path), "a folder of images")
    root = path
    skipped: tuple[str, ...] = ()
    if parts := split_folders(path):
        root, skipped = getattr(parts, split), parts.unused
    else:
        _only_train(str(path), split)
    contents = read_image_folder(root, **options)
    assert contents.reading is not None
    read = replace(contents.reading, skipped=(*skipped, *contents.reading.skipped))
    # "." and ".." have a name, too.
    name = readable(path.name if path.name not in ("", "..") else path.resolve().name) or "images"
    return Dataset(
        flat_images(contents.x, root), contents.y, contents.image_shape, contents.class_names,
        name, read,
    )  # fmt: skip


def _as_dataset(contents: Contents, name: str) -> Dataset:
    points, image_shape, of_axes = as_flat(contents, name)
    labels, class_names, of_labels = as_classes(contents, len(points), name)
    read = contents.reading
    if read is not None:
        hard = labels is not None and labels.ndim == 1
        read = replace(
            read,
            labels=read.labels or (None if labels is None else "y"),
            classes=class_names if hard and class_names is not None else (),
            notes=(*read.notes, *of_axes, *of_labels),
        )
    return Dataset(points, labels, image_shape, class_names, name, read)
