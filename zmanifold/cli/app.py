"""The program `zmanifold`: its commands, and the exit codes of errors and signals."""

from __future__ import annotations

import faulthandler
import signal
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from zmanifold._base.errors import InputError
from zmanifold.cli.datasets import datasets
from zmanifold.cli.estimators import estimators
from zmanifold.cli.measures import measures
from zmanifold.cli.mixers import mixers
from zmanifold.cli.printing import (
    READER_GONE,
    complain,
    print_line,
    reader_is_gone,
    standing_streams,
)
from zmanifold.cli.sweep_id import sweep_id
from zmanifold.cli.train import train
from zmanifold.cli.vicinity import vicinity

__all__ = ["app", "main"]


class _Terminated(KeyboardInterrupt):
    """Raised by SIGTERM, which thereby ends a run as Ctrl-C does."""


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        # Typer itself prints no message on Ctrl-C. 130 and 143 are 128 plus the signal's number.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            said = "".join(f": {note}" for note in _notes(stop))
            code = 143 if isinstance(stop, _Terminated) else 130
            raise complain(f"stopped{said}.", code) from None


app = typer.Typer(
    name="zmanifold",
    help="Measure what mixing augmentations do to the data manifold.",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (sweep_id, train, vicinity, datasets, mixers, estimators, measures):
    app.command()(_command)


def main() -> NoReturn:
    """Run the command line; errors are one line on stderr.

    Exit status: 0 for success, 2 for wrong use, 1 for a failure, 130 after Ctrl-C, 143 after
    SIGTERM, which ends a run as Ctrl-C does, 141 if the reader of a pipe is gone.
    """
    signal.signal(signal.SIGTERM, _terminate)
    # SIGBUS, of a mapped file that is cut short while it is read, would end the process unsaid.
    if sys.stderr is not None:
        faulthandler.enable(sys.stderr)
    with standing_streams():
        code = _run(sys.argv[1:])
    sys.exit(code)


def _terminate(*_: object) -> NoReturn:
    raise _Terminated


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        import zmanifold

        print_line(f"zmanifold {zmanifold.__version__}")
        raise typer.Exit


def _run(arguments: list[str]) -> int:
    try:
        code = app(arguments, prog_name="zmanifold", standalone_mode=False)
    except InputError as error:
        return complain(str(error), 2).exit_code
    except Exception as error:
        if isinstance(error, BrokenPipeError) and reader_is_gone():
            return READER_GONE  # of a help text
        if hasattr(error, "format_message"):
            return complain(_misuse(error), getattr(error, "exit_code", 2)).exit_code
        if notes := _notes(error):
            return complain(f"failed: {str(error).rstrip('.')}; {notes[0]}.", 1).exit_code
        return complain(f"failed: {type(error).__name__}: {error}", 1).exit_code
    return code if isinstance(code, int) else 0


def _misuse(error: Any) -> str:
    """Return the parser's message with the refused value and the command that shows the help."""
    said = error.format_message().rstrip(".")
    if not said:  # Typer has printed the help already.
        return ""
    # Typer's message lacks the value, which the error that caused it has.
    refused: list[Any] = getattr(error.__cause__, "errors", list)()
    said += "".join(f", got {item['input']!r}" for item in refused)
    path = error.ctx.command_path if error.ctx is not None else "zmanifold"
    return f"{said}{'' if said.endswith('?') else '.'} Try '{path} --help'."


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])
