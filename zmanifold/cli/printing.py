"""Printing of tables to a terminal or a pipe, and of messages to stderr.

Names of files, columns and classes come from anywhere: none reaches a terminal before `readable`
has escaped what would steer it. Files are written before anything is printed, and what cannot be
printed is said on stderr.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from zmanifold._base.errors import InputError
from zmanifold._base.naming import readable

if TYPE_CHECKING:
    from zmanifold.datasets import Dataset, Reading

__all__ = [
    "READER_GONE",
    "check_shown",
    "complain",
    "noted",
    "print_frame",
    "print_line",
    "print_readings",
    "print_registry",
    "print_written",
    "reader_is_gone",
    "say",
    "standing_streams",
]

# The exit status of a program that SIGPIPE (13) ends: 128 + 13.
READER_GONE = 141

# What help texts and tables hold beyond ASCII, for streams whose encoding lacks it.
_SPELLED = {"ζ": "zeta", "γ": "gamma", "α": "alpha", "×": "x", "…": "..."}


def _spell(error: UnicodeError) -> tuple[str, int]:
    """Spell what a stream's encoding lacks: a letter by its name, all else by its number."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    spelled = (_SPELLED.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking)
    return "".join(spelled), error.end


@contextlib.contextmanager
def standing_streams() -> Iterator[None]:
    """Let a program print whatever stdout and stderr are: of any encoding, closed, full.

    Examples
    --------
    >>> from zmanifold.cli.printing import standing_streams
    >>> with standing_streams():
    ...     print("ζ-mixup")
    ζ-mixup
    """
    codecs.register_error("zmanifold.spelled", _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="zmanifold.spelled")
    # The next file that is opened would take the number of a closed stream, and get its text.
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    try:
        yield
    finally:
        for number, stream in ((1, sys.stdout), (2, sys.stderr)):
            try:
                if stream is not None:
                    stream.flush()
            except (OSError, ValueError):
                # The interpreter flushes once more at its end, and would report the same.
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def say(message: str) -> None:
    r"""Write a message on stderr, as one line and with nothing that steers a terminal.

    Examples
    --------
    >>> from zmanifold.cli.printing import say
    >>> say("reading \x1b]0;title")
    """
    # Where stderr is closed or full nobody reads it.
    with contextlib.suppress(OSError, ValueError):
        typer.echo(readable(" ".join(message.split())), err=True)


def complain(message: str, code: int) -> typer.Exit:
    """Write a message as one line on stderr and return the exit to raise.

    Examples
    --------
    >>> from zmanifold.cli.printing import complain
    >>> complain("no such file.", 2).exit_code
    2
    """
    if message:
        say(f"zmanifold: {message}")
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
        said = f"wrote {', '.join(written)}"
        if err:
            say(said)
        else:
            print_line(said, kept=paths[0])


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
            say(str(reading))


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


def reader_is_gone() -> bool:
    """Tell whether stdout is a pipe whose reader has closed it.

    Examples
    --------
    >>> from zmanifold.cli.printing import reader_is_gone
    >>> reader_is_gone()
    False
    """
    polled = select.poll()
    polled.register(1, 0)
    return any(event & select.POLLERR for _, event in polled.poll(0))


def check_shown(*outputs: Path | None) -> None:
    """Raise InputError if stdout is closed and no file is named that would hold the result.

    Examples
    --------
    >>> from zmanifold.cli.printing import check_shown
    >>> check_shown(None)
    """
    if sys.stdout is None and not any(outputs):
        raise InputError("stdout is closed and no file holds the result: name one with --out.")


def print_line(text: str, *, kept: Path | None = None) -> None:
    """Print a line on stdout; `kept` is the file that holds what it says.

    Examples
    --------
    >>> from zmanifold.cli.printing import print_line
    >>> print_line("accuracy 0.9500")
    accuracy 0.9500
    """
    _print(lambda: typer.echo(readable(text)), kept)


def print_frame(frame: Any, *, kept: Path | None = None, spare: Sequence[str] = ()) -> None:
    """Print a table: drawn on a terminal, as CSV in a pipe.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.
    kept : Path, optional
        The file that holds it, too.
    spare : sequence of str, default=()
        The columns that a narrow terminal leaves out first, in this order; then the last ones.

    Examples
    --------
    >>> import pandas as pd
    >>> from zmanifold.cli.printing import print_frame
    >>> print_frame(pd.DataFrame({"name": ["digits"], "here": ["yes"]}))
    name,here
    digits,yes
    """
    if sys.stdout is not None and sys.stdout.isatty():
        _print(lambda: _draw(frame, spare), kept)
    else:
        _print(lambda: typer.echo(frame.to_csv(index=False), nl=False), kept)


def _print(write: Callable[[], object], kept: Path | None) -> None:
    """Print, or say on stderr why not; what no file holds is lost, which is a failure."""
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "stdout is closed")
        write()
    except BrokenPipeError:
        # A reader that has seen enough, `head` say, is no fault to be told.
        if kept is None:
            raise typer.Exit(READER_GONE) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if kept is None:
            raise complain(f"failed: the result cannot be printed ({reason}).", 1) from None
        say(f"zmanifold: stdout cannot be written ({reason}): {kept} holds the result.")


def _draw(frame: Any, spare: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    # A terminal is narrow: a column with the same value in all rows is said below the table.
    alike = [c for c in frame.columns if len(frame) > 1 and frame[c].nunique(dropna=False) == 1]
    if len(alike) == len(frame.columns):
        alike = []
    shown = frame.drop(columns=alike)
    said = [f"{c} {cell}" for c in alike if (cell := _cell(frame[c].iloc[0]))]
    columns, widths = _fitted(shown, console.width)
    left: list[str] = []
    for name in [name for name in spare if name in shown.columns]:
        if len(widths) < len(columns):
            shown = shown.drop(columns=name)
            left.append(name)
            columns, widths = _fitted(shown, console.width)
    left += map(str, shown.columns[len(widths) :])
    if left:
        said.append(f"left out, too wide here: {', '.join(left)}")
    # A Text has no markup: [bold] and :smile: of a name stay what they are.
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for (heading, *_), width in zip(columns, widths, strict=False):
        table.add_column(Text(heading), width=width, overflow="fold")
    for row in list(zip(*columns[: len(widths)], strict=True))[1:]:
        table.add_row(*map(Text, row))
    console.print(table)
    if said:
        console.print(Text(readable(", ".join(said))))


def _fitted(shown: Any, most: int) -> tuple[list[list[str]], list[int]]:
    """Return the columns of a table as text, and the widths of those that fit."""
    columns = [[readable(str(c)), *(readable(_cell(v)) for v in shown[c])] for c in shown.columns]
    widths = _widths(columns, most)
    if len(widths) < len(columns):
        # Headings may break after an underscore.
        columns = [[heading.replace("_", "_\n"), *cells] for heading, *cells in columns]
        widths = _widths(columns, most)
    return columns, widths


def _widths(columns: list[list[str]], most: int) -> list[int]:
    """Return the widths of the columns that fit beside each other, with a space between two.

    Texts may break between words, and within words of more than 20 characters; numbers nowhere.
    """
    from rich.cells import cell_len

    words = [[word for text in cells for word in text.split()] for cells in columns]
    widths = [max((min(cell_len(word), 20) for word in found), default=1) for found in words]
    while len(widths) > 1 and sum(widths) + len(widths) - 1 > most:
        widths.pop()
    widths[0] = min(widths[0], most)
    lines = [[cell_len(line) for text in cells for line in text.split("\n")] for cells in columns]
    lacking = [max(lengths) - width for lengths, width in zip(lines, widths, strict=False)]
    for _ in range(most - sum(widths) - len(widths) + 1):
        # The next character goes to the column that lacks most.
        if (largest := max(lacking)) <= 0:
            break
        column = lacking.index(largest)
        widths[column] += 1
        lacking[column] -= 1
    return widths


def _cell(value: Any) -> str:
    if value != value:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
