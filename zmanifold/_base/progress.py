"""A progress bar on a terminal or in a notebook, and none in a pipe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec

from zmanifold._base.naming import readable

__all__ = ["progress_bar"]


@contextlib.contextmanager
def progress_bar(wanted: bool, total: int, name: str) -> Iterator[Callable[..., object]]:
    """Yield a function that advances a bar by a number of steps, 1 by default.

    The bar is drawn on stderr if `wanted`, and only on a terminal or in a notebook.

    Examples
    --------
    >>> from zmanifold._base.progress import progress_bar
    >>> with progress_bar(True, 3, "work") as advance:
    ...     advance()
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if console.is_jupyter and find_spec("ipywidgets") is None:
        # There rich would show a warning and no bar. A notebook shows a text that begins with a
        # carriage return in the place of the last one, as a terminal does.
        console = Console(stderr=True, force_jupyter=False, force_terminal=True, width=80)
    if not wanted or not (console.is_terminal or console.is_jupyter):
        yield lambda steps=1: None
        return
    columns = (
        # Without markup, which a name could hold.
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(readable(name), total=total)
        yield lambda steps=1: bar.advance(task, steps)
