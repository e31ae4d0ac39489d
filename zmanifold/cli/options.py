"""Options that several commands share, and functions that parse them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from zmanifold._base.errors import InputError
from zmanifold._base.files import expanded
from zmanifold._base.registry import Info
from zmanifold._base.specs import MOST_VALUES, read_range

__all__ = [
    "Alpha",
    "ArrayX",
    "ArrayY",
    "DataDir",
    "Device",
    "Features",
    "Header",
    "LabelColumn",
    "MemoryLimit",
    "NMix",
    "Overwrite",
    "Resize",
    "home",
    "named",
    "parse_bytes",
    "parse_gammas",
    "parse_integers",
    "parse_list",
    "reading_options",
    "resumable",
]

Alpha = Annotated[float, typer.Option(help="Strength α of mixup.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder of data sets; $ZMANIFOLD_DATA is searched, too.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
MemoryLimit = Annotated[
    str | None, typer.Option(help="Working memory besides the data: 512MiB, 2GiB...")
]
NMix = Annotated[
    int | None, typer.Option(help="Samples that ζ-mixup mixes; the whole batch by default.")
]

LabelColumn = Annotated[
    str | None, typer.Option(help="For tables: the column of labels, by name or position.")
]
Features = Annotated[
    str | None,
    typer.Option(help="For tables: the columns of the points, A,B,C or positions START:STOP."),
]
ArrayX = Annotated[str | None, typer.Option("--x", help="For .npz files: the array of points.")]
ArrayY = Annotated[str | None, typer.Option("--y", help="For .npz files: the array of labels.")]
Header = Annotated[
    bool | None,
    typer.Option("--header/--no-header", help="For tables: whether the first line has names."),
]
Resize = Annotated[
    str | None, typer.Option(help="For folders of images: the size HxW to resize all to.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]

_BINARY_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def home(path: Path | None) -> Path | None:
    """Put the home folder for ~, which a shell leaves in --out=~/run.csv: a callback of options.

    Examples
    --------
    >>> from pathlib import Path
    >>> from zmanifold.cli.options import home
    >>> home(Path("~/run.csv")) == Path.home() / "run.csv"
    True
    """
    return None if path is None else expanded(path)


def named(available: Callable[[], Iterable[Info]]) -> str:
    """Return the names of a wing as a help text, without importing a numerical library.

    Examples
    --------
    >>> from zmanifold.cli.options import named
    >>> from zmanifold.dimension.registry import available
    >>> named(available)
    'FO'
    """
    try:
        return ", ".join(info.name for info in available())
    except InputError as error:
        # A plugin cannot be imported. Help goes on; a command that needs a name reports it.
        return f"(not all known: {error})"


@contextlib.contextmanager
def resumable(out: Path | None, keeps: str, ending: str | None = None) -> Iterator[None]:
    """Add to Ctrl-C, SIGTERM or a full disk which file keeps the results, and how to resume.

    That file is the output, or the file beside it with another ending.

    Examples
    --------
    >>> from pathlib import Path
    >>> from zmanifold.cli.options import resumable
    >>> try:
    ...     with resumable(Path("run.csv"), "keeps the finished cells", ".journal"):
    ...         raise KeyboardInterrupt
    ... except KeyboardInterrupt as stop:
    ...     stop.__notes__
    ['run.journal keeps the finished cells, the same command with --resume goes on']
    """
    remedy = "the same command with --resume goes on"
    try:
        yield
    except (KeyboardInterrupt, OSError) as stop:
        if out is not None:
            kept = out if ending is None else out.with_suffix(ending)
            full = isinstance(stop, OSError)
            stop.add_note(remedy if full else f"{kept} {keeps}, {remedy}")
        raise


def parse_list(text: str) -> list[str]:
    """Return the items of a list separated by commas.

    Examples
    --------
    >>> from zmanifold.cli.options import parse_list
    >>> parse_list("none, zeta,")
    ['none', 'zeta']
    """
    return [item.strip() for item in text.split(",") if item.strip()]


def parse_gammas(text: str) -> list[float]:
    """Read START:STOP:STEP, which includes both ends, or a list.

    Examples
    --------
    >>> from zmanifold.cli.options import parse_gammas
    >>> parse_gammas("0:1:0.25"), parse_gammas("2.4,4")
    ([0.0, 0.25, 0.5, 0.75, 1.0], [2.4, 4.0])
    """
    rule = (
        "give START:STOP:STEP with 0 <= START <= STOP, STEP > 0 and at most "
        f"{MOST_VALUES} values, or numbers >= 0 by commas"
    )
    is_range = ":" in text
    try:
        values = read_range(text) if is_range else [float(item) for item in parse_list(text)]
    except ValueError:
        raise InputError(f"--gamma {text} is not a range or a list of numbers: {rule}.") from None
    if is_range and (not values or values[0] < 0):
        raise InputError(f"--gamma {text} is empty, reversed, negative or too fine: {rule}.")
    if not values or not all(0 <= value < 1e6 for value in values):
        raise InputError(f"--gamma {text} is empty or holds a number outside [0, 1e6): {rule}.")
    return list(dict.fromkeys(values))


def parse_integers(option: str, text: str) -> list[int]:
    """Read whole numbers, separated by commas.

    Examples
    --------
    >>> from zmanifold.cli.options import parse_integers
    >>> parse_integers("--neighbors", "8,128")
    [8, 128]
    """
    try:
        return [int(item) for item in parse_list(text)]
    except ValueError:
        raise InputError(f"{option} {text} is not a list of whole numbers: give 8,128.") from None


def parse_bytes(text: str) -> int:
    """Read a number of bytes with a binary unit.

    Examples
    --------
    >>> from zmanifold.cli.options import parse_bytes
    >>> parse_bytes("2GiB"), parse_bytes("1.5k")
    (2147483648, 1536)
    """
    match = re.fullmatch(r"(\d{1,18}(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if not match:
        raise InputError(f"--memory-limit {text} is not a size: give 512MiB or 2GiB.")
    return int(float(match[1]) * _BINARY_UNITS[match[2]])


def reading_options(
    label_column: str | None,
    features: str | None,
    x: str | None,
    y: str | None,
    header: bool | None,
    resize: str | None,
) -> dict[str, Any]:
    """Return the options on reading files as arguments of `load_dataset`.

    Examples
    --------
    >>> from zmanifold.cli.options import reading_options
    >>> reading_options(None, None, None, None, None, "28x32")["resize"]
    (28, 32)
    """
    size = None
    if resize is not None:
        match = re.fullmatch(r"(\d{1,8})\s*[x×,]\s*(\d{1,8})", resize.strip().lower())
        if not match:
            raise InputError(f"--resize {resize} is no size: give HxW, height before width, 32x32.")
        size = int(match[1]), int(match[2])
    given = {"label_column": label_column, "features": features, "x": x, "y": y, "header": header}
    return given | {"resize": size}
