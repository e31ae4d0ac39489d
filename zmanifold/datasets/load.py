"""Data sets by name or by file: points, labels and where to get what is missing."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zmanifold._base.arrays import as_points, check_points
from zmanifold._base.checks import check_count
from zmanifold._base.errors import InputError, unknown_name
from zmanifold._base.labels import as_labels
from zmanifold._base.mapped import is_mapped
from zmanifold.datasets import manifolds
from zmanifold.datasets._readers import (
    FILE_ENDINGS,
    first_line,
    read_cifar,
    read_file,
    read_idx,
    read_images,
    read_names,
)

__all__ = [
    "Availability",
    "Dataset",
    "available_datasets",
    "has_splits",
    "hold_out",
    "load_dataset",
]

Split = Literal["train", "test"]
Array = NDArray[Any]

_DEBIAN_FOLDER = Path("/usr/share/datasets")
_MOST_SAMPLES = 10**9

_GENERATORS: dict[str, Callable[..., tuple[Array, Array]]] = {
    "crescents": manifolds.make_crescents,
    "spirals": manifolds.make_spirals,
    "helix-r3": manifolds.make_helix,
    "helix-r12": lambda **kw: manifolds.make_helix(ambient_dim=12, **kw),
    "paraboloid-r12": manifolds.make_paraboloid,
}

_FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@dataclass(frozen=True)
class _Source:
    """Where the files of a known image data set lie, relative to a data folder."""

    folders: tuple[str, ...]
    files: dict[str, tuple[str, ...]]
    n_classes: int
    get_it: str


_IDX_FILES: dict[str, tuple[str, ...]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

_SOURCES = {
    "fashion-mnist": _Source(
        ("fashion-mnist", "FashionMNIST/raw", "."),
        _IDX_FILES,
        10,
        "apt-get install dataset-fashion-mnist, or the four IDX files from "
        "https://github.com/zalandoresearch/fashion-mnist",
    ),
    "mnist": _Source(
        ("mnist", "MNIST/raw", "."),
        _IDX_FILES,
        10,
        "get the four IDX files that torchvision.datasets.MNIST downloads",
    ),
    "cifar10": _Source(
        ("cifar-10-batches-bin", "cifar10", "."),
        {
            "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            "test": ("test_batch.bin",),
        },
        10,
        "get the binary version, cifar-10-binary.tar.gz, from "
        "https://www.cs.toronto.edu/~kriz/cifar.html and unpack it",
    ),
    "cifar100": _Source(
        ("cifar-100-binary", "cifar100", "."),
        {"train": ("train.bin",), "test": ("test.bin",)},
        100,
        "get the binary version, cifar-100-binary.tar.gz, from "
        "https://www.cs.toronto.edu/~kriz/cifar.html and unpack it",
    ),
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Points with their labels.

    Attributes
    ----------
    points : ndarray of float32 or float64, shape (n, d)
        One flattened sample a row; images in [0, 1]. Of a large .npy file a memory map, in the
        file's own type.
    labels : ndarray of int64, shape (n,), or of float, shape (n, K), or None
        Classes 0..K-1, or soft labels, where the source has labels.
    image_shape : tuple of int or None
        (channels, height, width) for images: ``points.reshape(-1, *image_shape)``.
    class_names : tuple of str or None
        Names of the classes, where the source has them.
    name : str
        What the set is called in tables.

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


@dataclass(frozen=True)
class Availability:
    """What `zmanifold datasets` says of one data set.

    Attributes
    ----------
    name : str
        The name to give to `load_dataset`.
    here : bool
        Whether it can be loaded now.
    where : str
        The folder it was found in, "generated" or "bundled with scikit-learn", or how to get it.
    """

    name: str
    here: bool
    where: str


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
          class holds the labels);
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
        image may have 2**24 pixels.

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
    _check_data_dir(data_dir)
    name = os.fspath(name_or_path)
    if name in _GENERATORS or name.startswith("skdim:"):
        _only_train(name, split)
        return _generate(name, count, rng)
    if name == "digits":
        _only_train(name, split)
        dataset = _load_digits()
    else:
        try:
            if name in _SOURCES:
                dataset = _load_images(name, split, data_dir)
            else:
                dataset = _load_path(name, split)
        except OSError as error:
            raise InputError(
                f"{name} cannot be read ({first_line(error)}): check the file."
            ) from None
    return dataset if count is None else _draw(dataset, count, rng)


def available_datasets(data_dir: str | os.PathLike[str] | None = None) -> list[Availability]:
    """List the named data sets and whether they can be loaded here.

    Parameters
    ----------
    data_dir : path, optional
        A folder to look in before the others.

    Returns
    -------
    list of Availability
        Embedded and generated ones first.

    Raises
    ------
    InputError
        If `data_dir` is not a folder.

    Examples
    --------
    >>> from zmanifold.datasets.load import available_datasets
    >>> available_datasets()[0]
    Availability(name='digits', here=True, where='bundled with scikit-learn')
    """
    _check_data_dir(data_dir)
    rows = [Availability("digits", True, "bundled with scikit-learn")]
    rows += [Availability(name, True, "generated") for name in _GENERATORS]
    for name, source in _SOURCES.items():
        found = _find_folder(source, "train", data_dir)
        rows.append(
            Availability(
                name, found is not None, str(found) if found else f"missing: {source.get_it}"
            )
        )
    try:
        truth = _skdim_truth()
    except InputError as error:
        return [*rows, Availability("skdim:NAME", False, f"missing: {error}")]
    return rows + [Availability(f"skdim:{name}", True, "generated") for name in truth]


def hold_out(
    dataset: Dataset, n_train: int, *, random_state: Any = None
) -> tuple[Dataset, Dataset]:
    """Cut a labelled data set in two, each class in proportion.

    Parameters
    ----------
    dataset : Dataset
        With hard labels.
    n_train : int
        How many samples the first part gets; the others make the second.
    random_state : int, RandomState or None, default=None
        Source of randomness.

    Returns
    -------
    train, test : Dataset
        Each in the order of the original.

    Raises
    ------
    InputError
        If there are no labels, or a part would not have a sample of each class.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.datasets.load import hold_out
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
    return _take(dataset, np.sort(rows[0])), _take(dataset, np.sort(rows[1]))


def has_splits(name_or_path: str | os.PathLike[str]) -> bool:
    """Tell whether a source has a test split besides the training one.

    Examples
    --------
    >>> from zmanifold.datasets.load import has_splits
    >>> has_splits("fashion-mnist"), has_splits("digits")
    (True, False)
    """
    return os.fspath(name_or_path) in _SOURCES or _is_split(_as_path(name_or_path))


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


def _draw(dataset: Dataset, count: int, rng: np.random.RandomState) -> Dataset:
    n = len(dataset.points)
    if count > n:
        raise InputError(
            f"n_samples={count} but {dataset.name!r} has {n} samples: lower n_samples."
        )
    return _take(dataset, np.sort(rng.choice(n, count, replace=False)))


def _take(dataset: Dataset, rows: Array) -> Dataset:
    labels = None if dataset.labels is None else dataset.labels[rows]
    points = dataset.points[rows]
    if is_mapped(dataset.points):
        points = as_points(points).numpy()
    return replace(dataset, points=points, labels=labels)


# --- generated and bundled ------------------------------------------------------------------


def _generate(name: str, count: int | None, rng: np.random.RandomState) -> Dataset:
    if name in _GENERATORS:
        size = {} if count is None else {"n_samples": count}
        points, labels = _GENERATORS[name](random_state=rng, **size)
        return Dataset(points, labels, None, None, name)
    manifold = name.removeprefix("skdim:")
    truth = _skdim_truth()
    if manifold not in truth:
        raise unknown_name("scikit-dimension manifold", manifold, truth)
    from skdim.datasets import BenchmarkManifolds

    intrinsic, ambient, _ = truth[manifold]
    points = BenchmarkManifolds(random_state=rng).generate(
        manifold, n=2500 if count is None else count, dim=ambient, d=intrinsic
    )
    return Dataset(points, None, None, None, name)


def _skdim_truth() -> dict[str, tuple[int, int, str]]:
    try:
        from skdim.datasets import BenchmarkManifolds
    except ImportError:
        raise InputError(
            "the skdim: manifolds need scikit-dimension: pip install 'zmanifold[skdim]'."
        ) from None
    truth: dict[str, tuple[int, int, str]] = BenchmarkManifolds()._dict_truth
    return truth


def _load_digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    points = (bunch.data / 16).astype(np.float32)
    names = tuple(map(str, bunch.target_names))
    return Dataset(points, bunch.target.astype(np.int64), (1, 8, 8), names, "digits")


# --- known image sets -----------------------------------------------------------------------


def _check_data_dir(data_dir: str | os.PathLike[str] | None) -> None:
    if data_dir is not None and not Path(data_dir).is_dir():
        raise InputError(f"data_dir={os.fspath(data_dir)!r} is not a folder: give one that exists.")


def _places(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    given = [Path(data_dir)] if data_dir is not None else []
    environment = os.environ.get("ZMANIFOLD_DATA")
    return [*given, *([Path(environment)] if environment else []), _DEBIAN_FOLDER]


def _with_gz(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def _find_folder(
    source: _Source, split: str, data_dir: str | os.PathLike[str] | None
) -> Path | None:
    """Return the first folder that holds all files of the split."""
    for place in _places(data_dir):
        for sub in source.folders:
            # Two data sets share the IDX names: a folder that serves every data set is no proof.
            if sub == "." and place == _DEBIAN_FOLDER:
                continue
            folder = place / sub
            if all(_with_gz(folder / file) for file in source.files[split]):
                return folder
    return None


def _load_images(name: str, split: str, data_dir: str | os.PathLike[str] | None) -> Dataset:
    source = _SOURCES[name]
    folder = _find_folder(source, split, data_dir)
    if folder is None:
        searched = ", ".join(str(place) for place in _places(data_dir))
        raise InputError(
            f"{name!r} is not here: searched {searched} for {', '.join(source.folders[:-1])} with "
            f"{', '.join(source.files[split])}; {source.get_it}, then set $ZMANIFOLD_DATA or "
            "data_dir."
        )
    paths = [path for file in source.files[split] if (path := _with_gz(folder / file))]
    if name.startswith("cifar"):
        pixels, labels = read_cifar(paths, label_bytes=1 if name == "cifar10" else 2)
        shape: tuple[int, ...] = (3, 32, 32)
        listing = "batches.meta.txt" if name == "cifar10" else "fine_label_names.txt"
        classes = read_names(folder / listing)
        if classes is not None and len(classes) != source.n_classes:
            raise InputError(
                f"{folder / listing} has {len(classes)} names but {name!r} has "
                f"{source.n_classes} classes: get it again, or remove it."
            )
    else:
        pixels, labels = read_idx(paths[0], 3), read_idx(paths[1], 1).astype(np.int64)
        shape = (1, *pixels.shape[1:])
        classes = _FASHION_CLASSES if name == "fashion-mnist" else tuple("0123456789")
    if len(pixels) != len(labels):
        raise InputError(
            f"{paths[0]} holds {len(pixels)} images but {paths[1]} {len(labels)} labels: "
            "get matching files."
        )
    if labels.max() >= source.n_classes:
        raise InputError(
            f"{folder} holds label {labels.max()} but {name!r} has {source.n_classes} classes: get "
            "its files again."
        )
    return Dataset(_unit_range(pixels, folder), labels, shape, classes, name)


def _unit_range(pixels: Array, source: Path) -> Array:
    """Flatten 8-bit images to float32 rows in [0, 1]."""
    if len(pixels) < 2:
        raise InputError(f"{source} holds a single image: at least 2 are needed.")
    points = pixels.reshape(len(pixels), -1).astype(np.float32)
    points /= np.float32(255)
    return points


# --- the user's own -------------------------------------------------------------------------


def _load_path(name: str, split: str) -> Dataset:
    path = _as_path(name)
    # The path of an empty name is the working folder.
    if name and path.is_dir():
        return _load_image_folder(path, split)
    ending = path.suffix.lower()
    if not name or not path.exists():
        if name and (ending in FILE_ENDINGS or path.name != name):
            raise InputError(
                f"{name!r} does not exist: give a file, a folder or a data set's name."
            )
        known = ["digits", *_GENERATORS, *_SOURCES]
        raise unknown_name("data set", name, [*known, "skdim:NAME", "a file or folder"])
    if ending not in FILE_ENDINGS:
        raise InputError(
            f"{name!r} ends in {ending!r}: files end in {', '.join(FILE_ENDINGS)}, or give a "
            "folder of class folders of images."
        )
    _only_train(name, split)
    x, y = read_file(path)
    # A wide float that float64 cannot hold becomes inf or NaN, which is refused.
    with np.errstate(over="ignore", invalid="ignore"):
        return _own_dataset(x, y, path.stem)


def _own_dataset(x: Array, y: Array | None, name: str) -> Dataset:
    image_shape: tuple[int, ...] | None = None
    if x.ndim > 2:
        image_shape = x.shape[1:] if x.ndim > 3 else (1, *x.shape[1:])
        x = x.reshape(len(x), math.prod(x.shape[1:]))
    if is_mapped(x):
        # Its values stay where they are, in the file's own type.
        check_points(x, name=f"{name}: x")
        points: Array = x
    else:
        points = as_points(x, name=f"{name}: x").numpy()
    if y is None:
        return Dataset(points, None, image_shape, None, name)
    if y.ndim == 2 and y.dtype.kind == "f" and len(y) == len(points):
        soft = as_labels(y, len(points), name=f"{name}: y")
        return Dataset(points, y, image_shape, tuple(map(str, soft.classes)), name)
    if y.shape != (len(points),):
        raise InputError(
            f"{name}: y has shape {y.shape} for {len(points)} points: give one label a point."
        )
    classes, labels = _hard_labels(y, f"{name}: y")
    names = tuple(str(c) for c in classes)
    return Dataset(points, labels.astype(np.int64), image_shape, names, name)


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


def _load_image_folder(path: Path, split: str) -> Dataset:
    root = path
    if _is_split(path):
        root = path / split
    else:
        _only_train(str(path), split)
    pixels, labels, classes = read_images(root)
    return Dataset(_unit_range(pixels, root), labels, pixels.shape[1:], classes, path.name)
