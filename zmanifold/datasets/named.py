"""Data sets that have names: image sets, digits, generated manifolds, those of scikit-dimension."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zmanifold._base.errors import InputError, unknown_name
from zmanifold._base.files import expanded
from zmanifold.datasets import manifolds
from zmanifold.datasets.dataset import Dataset, flat_images
from zmanifold.datasets.formats.benchmarks import read_cifar, read_idx, read_names

__all__ = [
    "Availability",
    "available_datasets",
    "check_data_dir",
    "generate",
    "is_generated",
    "is_image_set",
    "known_names",
    "load_digits",
    "load_image_set",
]

Array = NDArray[Any]

_DEBIAN_FOLDER = Path("/usr/share/datasets")

_GENERATORS: dict[str, Callable[..., tuple[Array, Array]]] = {
    "crescents": manifolds.make_crescents,
    "spirals": manifolds.make_spirals,
    "helix-r3": manifolds.make_helix,
    "helix-r12": lambda **kw: manifolds.make_helix(ambient_dim=12, **kw),
    "paraboloid-r12": manifolds.make_paraboloid,
}


@dataclass(frozen=True)
class _ImageSet:
    """A known image set: the paths of its files in a data folder, and the function that reads them.

    `read` returns the pixels (n, channels, height, width) and the labels. `class_names` are the
    classes, or the file that lists them.
    """

    folders: tuple[str, ...]
    files: dict[str, tuple[str, ...]]
    read: Callable[[list[Path]], tuple[Array, Array]]
    n_classes: int
    class_names: tuple[str, ...] | str
    get_it: str


def _read_mnist(paths: list[Path]) -> tuple[Array, Array]:
    return read_idx(paths[0], 3)[:, None], read_idx(paths[1], 1).astype(np.int64)


def _read_cifar10(paths: list[Path]) -> tuple[Array, Array]:
    return read_cifar(paths, label_bytes=1)


def _read_cifar100(paths: list[Path]) -> tuple[Array, Array]:
    return read_cifar(paths, label_bytes=2)


_IDX_FILES: dict[str, tuple[str, ...]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

_FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

_IMAGE_SETS = {
    "fashion-mnist": _ImageSet(
        ("fashion-mnist", "FashionMNIST/raw", "."),
        _IDX_FILES,
        _read_mnist,
        10,
        _FASHION_CLASSES,
        "apt-get install dataset-fashion-mnist, or the four IDX files from "
        "https://github.com/zalandoresearch/fashion-mnist",
    ),
    "mnist": _ImageSet(
        ("mnist", "MNIST/raw", "."),
        _IDX_FILES,
        _read_mnist,
        10,
        tuple("0123456789"),
        "get the four IDX files that torchvision.datasets.MNIST downloads",
    ),
    "cifar10": _ImageSet(
        ("cifar-10-batches-bin", "cifar10", "."),
        {
            "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            "test": ("test_batch.bin",),
        },
        _read_cifar10,
        10,
        "batches.meta.txt",
        "get the binary version, cifar-10-binary.tar.gz, from "
        "https://www.cs.toronto.edu/~kriz/cifar.html and unpack it",
    ),
    "cifar100": _ImageSet(
        ("cifar-100-binary", "cifar100", "."),
        {"train": ("train.bin",), "test": ("test.bin",)},
        _read_cifar100,
        100,
        "fine_label_names.txt",
        "get the binary version, cifar-100-binary.tar.gz, from "
        "https://www.cs.toronto.edu/~kriz/cifar.html and unpack it",
    ),
}


@dataclass(frozen=True)
class Availability:
    """The description of a data set in `zmanifold datasets`.

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
    >>> from zmanifold.datasets import available_datasets
    >>> available_datasets()[0]
    Availability(name='digits', here=True, where='bundled with scikit-learn')
    """
    check_data_dir(data_dir)
    rows = [Availability("digits", True, "bundled with scikit-learn")]
    rows += [Availability(name, True, "generated") for name in _GENERATORS]
    for name, source in _IMAGE_SETS.items():
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


def known_names() -> list[str]:
    """Return the names of the data sets as one text.

    Examples
    --------
    >>> from zmanifold.datasets.named import known_names
    >>> known_names()[-1]
    'skdim:NAME'
    """
    return ["digits", *_GENERATORS, *_IMAGE_SETS, "skdim:NAME"]


def is_generated(name: str) -> bool:
    """Tell whether a name is that of a generated data set."""
    return name in _GENERATORS or name.startswith("skdim:")


def is_image_set(name: str) -> bool:
    """Tell whether a name is that of a known image set, which has a training and a test split."""
    return name in _IMAGE_SETS


def check_data_dir(data_dir: str | os.PathLike[str] | None) -> None:
    """Raise InputError for a folder of data sets that does not exist."""
    if data_dir is not None and not expanded(data_dir).is_dir():
        raise InputError(f"data_dir={os.fspath(data_dir)!r} is not a folder: give one that exists.")


def generate(name: str, count: int | None, rng: np.random.RandomState) -> Dataset:
    """Generate a data set, of its usual size by default."""
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


def load_digits() -> Dataset:
    """Load the 8 x 8 digits that come with scikit-learn."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    points = (bunch.data / 16).astype(np.float32)
    names = tuple(map(str, bunch.target_names))
    return Dataset(points, bunch.target.astype(np.int64), (1, 8, 8), names, "digits")


def load_image_set(name: str, split: str, data_dir: str | os.PathLike[str] | None) -> Dataset:
    """Load a split of a known image set from the first folder that holds all of its files.

    Raises
    ------
    InputError
        If no folder does, or the files do not fit together.
    """
    known = _IMAGE_SETS[name]
    folder = _find_folder(known, split, data_dir)
    if folder is None:
        searched = ", ".join(str(place) for place in _places(data_dir))
        raise InputError(
            f"{name!r} is not here: searched {searched} for {', '.join(known.folders[:-1])} with "
            f"{', '.join(known.files[split])}; {known.get_it}, then set $ZMANIFOLD_DATA or "
            "data_dir."
        )
    paths = [path for file in known.files[split] if (path := _with_gz(folder / file))]
    pixels, labels = known.read(paths)
    classes = _class_names(known, folder, name)
    if len(pixels) != len(labels):
        raise InputError(
            f"{paths[0]} holds {len(pixels)} images but {paths[1]} {len(labels)} labels: "
            "get matching files."
        )
    if labels.max() >= known.n_classes:
        raise InputError(
            f"{folder} holds label {labels.max()} but {name!r} has {known.n_classes} classes: get "
            "its files again."
        )
    return Dataset(flat_images(pixels, folder), labels, pixels.shape[1:], classes, name)


def _class_names(known: _ImageSet, folder: Path, name: str) -> tuple[str, ...] | None:
    if not isinstance(known.class_names, str):
        return known.class_names
    listing = folder / known.class_names
    classes = read_names(listing)
    if classes is not None and len(classes) != known.n_classes:
        raise InputError(
            f"{listing} has {len(classes)} names but {name!r} has {known.n_classes} classes: get "
            "it again, or remove it."
        )
    return classes


def _places(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    given = [expanded(data_dir)] if data_dir is not None else []
    environment = os.environ.get("ZMANIFOLD_DATA")
    return [*given, *([expanded(environment)] if environment else []), _DEBIAN_FOLDER]


def _with_gz(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def _find_folder(
    known: _ImageSet, split: str, data_dir: str | os.PathLike[str] | None
) -> Path | None:
    """Return the first folder that holds all files of the split."""
    for place in _places(data_dir):
        for sub in known.folders:
            # MNIST and Fashion-MNIST have the same file names: files in a folder that data sets
            # share may belong to either.
            if sub == "." and place == _DEBIAN_FOLDER:
                continue
            folder = place / sub
            if all(_with_gz(folder / file) for file in known.files[split]):
                return folder
    return None
