"""The file formats that `load_dataset` reads, by their endings."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from zmanifold._base.errors import InputError
from zmanifold._base.registry import load_plugins
from zmanifold.datasets.formats._streams import check_regular
from zmanifold.datasets.formats._wording import first_line
from zmanifold.datasets.reading import Reading, check_options

__all__ = ["Contents", "Format", "available_formats", "find_format", "register_format"]

# One line for each format: the module, and the constant in it.
_OURS = (
    "numpy:NPY",
    "numpy:NPZ",
    "tables:CSV",
    "tables:TSV",
    "parquet:PARQUET",
)

_by_ending: dict[str, Format] = {}


class Contents(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    x : ndarray of shape (n, ...)
        Each row is a point or an image (channels, height, width).
    y : ndarray of shape (n,) or (n, K), or None
        Each row is a label or a soft label.
    image_shape : tuple of int or None
        (channels, height, width), if the rows of an `x` with two axes are images.
    class_names : tuple of str or None
        Names of the classes 0..K-1, if `y` holds class numbers.
    reading : Reading or None
        What the file was read as.
    """

    x: NDArray[Any]
    y: NDArray[Any] | None = None
    image_shape: tuple[int, ...] | None = None
    class_names: tuple[str, ...] | None = None
    reading: Reading | None = None


@dataclass(frozen=True)
class Format:
    """A file format: the endings of its files, and the function that reads one.

    Attributes
    ----------
    name : str
        What a file of the format is, with its article: "a .csv table".
    endings : tuple of str
        The endings of file names, in lower case with the dot.
    read : callable
        Takes a path; returns `Contents`, a tuple (x, y), or x alone. An exception that it raises
        becomes one sentence; an `InputError` is shown as it is.
    remedy : str, default="save it again"
        What the message tells the user to do with a file that cannot be read.
    options : tuple of str, default=()
        The reading options of `load_dataset` that `read` takes by their names: "label_column",
        "features", "x", "y", "header".

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold.datasets import Format
    >>> Format("a table of words between spaces", (".txt",), np.loadtxt).endings
    ('.txt',)
    """

    name: str
    endings: tuple[str, ...]
    read: Callable[..., Any]
    remedy: str = "save it again"
    options: tuple[str, ...] = ()

    def load(self, path: Path, **options: Any) -> Contents:
        """Read a file.

        Parameters
        ----------
        path : Path
            The file.
        **options
            The reading options that were given.

        Raises
        ------
        InputError
            If the file is not of this format, is not a regular file, or an option does not apply to
            this format.
        OSError
            If the file cannot be read at all.
        """
        check_options(options, self.options, str(path), self.name)
        check_regular(path)
        try:
            found = self.read(path, **options)
            if not isinstance(found, Contents):
                found = _as_contents(found)
            return found if found.reading else found._replace(reading=Reading(str(path), "file"))
        except (InputError, OSError):
            raise
        except Exception as error:
            # Readers raise many kinds of exceptions for a damaged file.
            raise InputError(
                f"{path} is not {self.name} ({first_line(error)}): {self.remedy}."
            ) from error


def _as_contents(found: Any) -> Contents:
    if not isinstance(found, tuple):
        return Contents(found)
    x, y, image_shape, class_names = (*found, *(None,) * 4)[: max(4, len(found))]
    return Contents(x, y, image_shape, class_names)


def register_format(added: Format) -> None:
    """Add a format that `load_dataset` reads.

    The command line finds formats of modules that `zmanifold._base.registry.load_plugins` imports.

    Parameters
    ----------
    added : Format
        The format. It replaces one of the same name.

    Raises
    ------
    InputError
        If an ending is malformed, or belongs to another format.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold.datasets import Format, register_format
    >>> register_format(Format("a table of words between spaces", (".words",), np.loadtxt))
    """
    _load_ours()
    if not added.endings:
        raise InputError(f"{added.name} has no endings: give a format at least one, ('.xyz',).")
    for ending in added.endings:
        if not re.fullmatch(r"\.[^./\\A-Z\s]+", ending):
            raise InputError(
                f"the ending {ending!r} of {added.name} must be a dot and lower-case characters "
                "without another dot: give '.xyz', say."
            )
        other = _by_ending.get(ending)
        if other is not None and other.name != added.name:
            raise InputError(
                f"{added.name} cannot have the ending {ending!r}, which is that of {other.name}: "
                "choose another."
            )
    for ending in [ending for ending, known in _by_ending.items() if known.name == added.name]:
        del _by_ending[ending]
    _by_ending.update(dict.fromkeys(added.endings, added))


def available_formats() -> list[Format]:
    """List the file formats; those of other packages come last.

    Examples
    --------
    >>> from zmanifold.datasets import available_formats
    >>> [format.endings for format in available_formats()][:2]
    [('.npy',), ('.npz',)]
    """
    _load_ours()
    load_plugins()
    return list(dict.fromkeys(_by_ending.values()))


def find_format(name: str) -> tuple[Format | None, str]:
    """Return the format for a file name, if there is one, and the name's ending."""
    _load_ours()
    path = Path(name)
    # Two endings, such as ".csv.gz", are looked up before the last one.
    endings = ["".join(path.suffixes[-2:]), path.suffix]
    if not any(ending.lower() in _by_ending for ending in endings):
        load_plugins()
    known = (ending for ending in endings if ending.lower() in _by_ending)
    ending = next(known, path.suffix)
    return _by_ending.get(ending.lower()), ending


@functools.cache
def _load_ours() -> None:
    for place in _OURS:
        module, name = place.split(":")
        ours: Format = getattr(import_module(f"zmanifold.datasets.formats.{module}"), name)
        _by_ending.update(dict.fromkeys(ours.endings, ours))
