"""Printing of tables to a terminal or a pipe, and of messages to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from zmanifold.datasets import Dataset, Reading

__all__ = ["complain", "noted", "print_frame", "print_readings", "print_registry", "print_written"]


def complain(message: str, code: int) -> typer.Exit:
    """Write a message as one line on stderr and return the exit to raise.

    Examples
    --------
    >>> from zmanifold.cli.printing import complain
    >>> complain("no such file.", 2).exit_code
    2
    """
    if message:
        typer.echo(f"zmanifold: {' '.join(message.split())}", err=True)
    return typer.Exit(code)


def print_written(*paths: Path | None, err: bool = True) -> None:
    """Print the paths of those outputs that exist.

    Examples
    --------
    >>> from pathlib import Path
    >>> from zmanifold.cli.printing import print_written
    >>> print_written(None, Path("no-such-file.csv"))
    """
    if written := [str(path) for path in paths if path is not None and path.exists()]:
        typer.echo(f"wrote {', '.join(written)}", err=err)


def noted(data: Iterable[Dataset], readings: list[Reading | None]) -> Iterator[Dataset]:
    """Yield data sets and note what they were read as, which is said when all input is checked.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.cli.printing import noted
    >>> readings = []
    >>> [data.name for data in noted([zm.load_dataset("digits")], readings)], readings
    (['digits'], [None])
    """
    for dataset in data:
        readings.append(dataset.read)
        yield dataset


def print_readings(readings: Iterable[Reading | None]) -> None:
    """Say on stderr what files and folders were taken for, each once.

    Examples
    --------
    >>> from zmanifold.cli.printing import print_readings
    >>> print_readings([None])
    """
    for reading in dict.fromkeys(readings):
        if reading is not None:
            typer.echo(str(reading), err=True)


def print_registry(entries: Iterable[Any]) -> None:
    """Print one row for each entry of a registry: name, parameters, kind, summary and reference.

    Examples
    --------
    >>> from types import SimpleNamespace as Entry
    >>> from zmanifold.cli.printing import print_registry
    >>> print_registry(
    ...     [Entry(name="a", parameters=["alpha=1.0"], kind="b", summary="C.", reference="d")]
    ... )
    name,parameters,kind,what,reference
    a,alpha=1.0,b,C.,d
    """
    import pandas as pd

    columns = ["name", "parameters", "kind", "what", "reference"]
    rows = [
        (
            entry.name,
            ", ".join(map(str, entry.parameters)),
            entry.kind,
            entry.summary,
            entry.reference,
        )
        for entry in entries
    ]
    print_frame(pd.DataFrame(rows, columns=columns))


def print_frame(frame: Any) -> None:
    """Print a table: drawn on a terminal, as CSV in a pipe.

    Examples
    --------
    >>> import pandas as pd
    >>> from zmanifold.cli.printing import print_frame
    >>> print_frame(pd.DataFrame({"name": ["digits"], "here": ["yes"]}))
    name,here
    digits,yes
    """
    if not sys.stdout.isatty():
        typer.echo(frame.to_csv(index=False), nl=False)
        return
    from rich.console import Console
    from rich.table import Table

    # A terminal is narrow: a column with the same value in all rows is moved to the caption.
    alike = [c for c in frame.columns if len(frame) > 1 and frame[c].nunique(dropna=False) == 1]
    shown = frame.drop(columns=alike)
    caption = ", ".join(f"{c} {_cell(frame[c].iloc[0])}" for c in alike if frame[c].notna().all())
    table = Table(*map(str, shown.columns), caption=caption or None)
    for row in shown.itertuples(index=False):
        table.add_row(*map(_cell, row))
    Console().print(table)


def _cell(value: Any) -> str:
    if value != value:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
