"""Output files: paths are checked before the work, each file is written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from zmanifold._base.errors import InputError, unknown_name

try:
    import fcntl
except ImportError:  # On Windows nothing is locked, and nothing removed.
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "check_output",
    "check_outputs",
    "expanded",
    "journal_of",
    "sidecar_of",
    "write_atomically",
    "write_json",
]

_TABLE_ENDINGS = (".parquet", ".csv")
# Before the ending of a temporary file, so that no file of a user is taken for one.
_PART = ".zmanifold-part"

_FIGURE_ENDINGS = (".png", ".svg", ".pdf")


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path whose first part ~ or ~user stands for a home folder, as in a shell.

    A shell expands neither --out=~/run.csv nor what stands between quotes. Where there is no such
    user the path stays as it is.

    Examples
    --------
    >>> from pathlib import Path
    >>> from zmanifold._base.files import expanded
    >>> expanded("~/run.csv") == Path.home() / "run.csv"
    True
    """
    given = Path(path)
    try:
        return given.expanduser()
    except RuntimeError:
        return given


def sidecar_of(path: Path) -> Path:
    """Return the path of the JSON beside a result: run.parquet -> run.json.

    Examples
    --------
    >>> from pathlib import Path
    >>> from zmanifold._base.files import sidecar_of
    >>> sidecar_of(Path("run.parquet")).name
    'run.json'
    """
    return path.with_suffix(".json")


def journal_of(path: Path) -> Path:
    """Return the path of a table's journal: run.parquet -> run.journal.

    Examples
    --------
    >>> from pathlib import Path
    >>> from zmanifold._base.files import journal_of
    >>> journal_of(Path("run.parquet")).name
    'run.journal'
    """
    return path.with_suffix(".journal")


def check_output(
    path: Path,
    endings: tuple[str, ...] = _TABLE_ENDINGS,
    *,
    overwrite: bool,
    resumable: bool = False,
    inputs: Iterable[str] = (),
) -> None:
    """Refuse a path that cannot be written, before the work whose result it is for.

    Parameters
    ----------
    path : Path
        The output file.
    endings : tuple of str, default=(".parquet", ".csv")
        The endings allowed; the ending chooses the format.
    overwrite : bool
        Whether the file may exist already.
    resumable : bool, default=False
        Whether the message about an existing file names --resume as a remedy.
    inputs : iterable of str, default=()
        Names or files of data sets. The output must not be one of these files.

    Raises
    ------
    InputError
        If the ending is unknown, the folder is missing or cannot be written to, or the file
        exists or is an input.

    Examples
    --------
    >>> from pathlib import Path
    >>> from zmanifold._base.files import check_output
    >>> check_output(Path("run.parquet"), overwrite=True)
    """
    if path.suffix.lower() not in endings:
        raise unknown_name("ending of the output", path.suffix or path.name, endings)
    try:
        folder = _place_of(path).parent
        # Permissions are not enough: the file system may be read-only.
        if folder.is_dir():
            with tempfile.TemporaryFile(dir=folder):
                exists = path.exists()
    except OSError as error:
        raise InputError(
            f"the output {str(path)!r} cannot be written ({error.strerror}): choose another folder "
            "or name."
        ) from None
    if not folder.is_dir():
        raise InputError(f"the output folder {str(folder)!r} does not exist: make it first.")
    if path.is_dir():
        raise InputError(f"the output {str(path)!r} is a folder: give a file name.")
    if exists and not path.is_file():
        raise InputError(f"the output {str(path)!r} is no regular file: give another name.")
    if exists and any(path.samefile(given) for given in map(expanded, inputs) if given.exists()):
        raise InputError(f"the output {str(path)!r} is an input, too: give another name.")
    if exists and not overwrite:
        remedy = "--resume to go on, --overwrite to begin anew" if resumable else "--overwrite"
        raise InputError(f"the output {str(path)!r} exists: give {remedy} or another name.")


def check_outputs(
    out: Path | None,
    endings: tuple[str, ...] = _TABLE_ENDINGS,
    *,
    beside: tuple[str, ...] = (".json",),
    figure: Path | None = None,
    overwrite: bool,
    resume: bool | None = None,
    inputs: Iterable[str] = (),
    what: str = "the run's table",
) -> None:
    """Refuse the outputs of a run that cannot be written, before the run.

    Parameters
    ----------
    out : Path or None
        The main output, if any.
    endings : tuple of str, default=(".parquet", ".csv")
        The endings allowed for it.
    beside : tuple of str, default=(".json",)
        The endings of the files that are written beside it. If ".journal" is one of them, a
        run can be resumed only where its journal exists.
    figure : Path, optional
        The file of a figure.
    overwrite : bool
        Whether the files may exist already.
    resume : bool, optional
        Whether the run continues an interrupted one; None if runs of this kind cannot be resumed.
    inputs : iterable of str, default=()
        Names or files of data sets. No output may be one of these files.
    what : str, default="the run's table"
        The main output's description in messages.

    Raises
    ------
    InputError
        If `check_output` refuses one of the files, or no journal is there to resume from.

    Examples
    --------
    >>> from pathlib import Path
    >>> from zmanifold._base.files import check_outputs
    >>> check_outputs(Path("run.parquet"), figure=Path("run.png"), overwrite=True)
    """
    if resume and (out is None or overwrite):
        raise InputError(f"--resume goes with --out and without --overwrite: name {what}.")
    replace = overwrite or bool(resume)
    if out is not None:
        resumable = resume is not None
        check_output(out, endings, overwrite=replace, resumable=resumable, inputs=inputs)
        for ending in beside:
            path = out.with_suffix(ending)
            check_output(path, (ending,), overwrite=replace, resumable=resumable)
        journal = journal_of(out)
        if resume and ".journal" in beside and out.exists() and not journal.exists():
            raise InputError(
                f"{str(out)!r} has no journal {str(journal)!r} to go on from: give --overwrite, or "
                "another name."
            )
    if figure is not None:
        check_output(figure, _FIGURE_ENDINGS, overwrite=replace)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`.

    When this function returns, the file and its name are on the disk. A symbolic link stays one:
    the file that it names is written. Temporary files of the same output, left by processes that
    were killed, are removed.

    Parameters
    ----------
    path : Path
        The output file. It is replaced if it exists.
    write : callable
        Takes the path of the temporary file, which has the same ending.

    Raises
    ------
    OSError
        If the file cannot be written. The file of before remains.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from zmanifold._base.files import write_atomically
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder, "a.txt"), lambda p: p.write_text("whole"))
    ...     Path(folder, "a.txt").read_text()
    'whole'
    """
    place = _place_of(path)
    # File names have at most 255 bytes. 50 characters take at most 200 of them in UTF-8, which
    # leaves room for the marks, the 8 random characters and the ending.
    prefix, suffix = f".{path.stem[:50]}-", f"{_PART}{path.suffix}"
    _remove_abandoned(place.parent, prefix, suffix)
    handle, temporary = _locked_file(place.parent, prefix, suffix)
    try:
        write(temporary)
        umask = os.umask(0)
        os.umask(umask)
        # mkstemp makes files that only their owner can read; results get the usual permissions.
        temporary.chmod(0o666 & ~umask)
        os.fsync(handle)
        temporary.replace(place)
        _sync_folder(place.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            # The name that the user knows, not that of the temporary file.
            error.filename = str(path)
        raise
    finally:
        os.close(handle)


def _place_of(path: Path) -> Path:
    """Return the path that a symbolic link names in the end, or the path itself."""
    if not path.is_symlink():
        return path
    # A link that leads back to itself: `resolve` raises RuntimeError, from Python 3.13 on it
    # returns a link.
    with contextlib.suppress(RuntimeError):
        path = path.resolve()
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link to itself", str(path))
    return path


def _locked_file(folder: Path, prefix: str, suffix: str) -> tuple[int, Path]:
    """Make a temporary file, locked while its handle is open, whatever ends the process."""
    while True:
        handle, name = tempfile.mkstemp(dir=folder, prefix=prefix, suffix=suffix)
        # Some network file systems have no locks. There nothing is removed either.
        with contextlib.suppress(OSError):
            _lock(handle)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        # Another process took the file for an abandoned one before it was locked.
        os.close(handle)


def _remove_abandoned(folder: Path, prefix: str, suffix: str) -> None:
    """Remove temporary files of this output that no living process has locked."""
    pattern = re.compile(re.escape(prefix) + "[a-z0-9_]{8}" + re.escape(suffix))
    for path in folder.iterdir():
        if pattern.fullmatch(path.name):
            with contextlib.suppress(OSError):
                handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
                try:
                    _lock(handle)
                    path.unlink()
                finally:
                    os.close(handle)


def _lock(handle: int) -> None:
    """Lock a file until its handle is closed; raise OSError where another process has."""
    if fcntl is None:
        raise OSError("no locks on this system")
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync_folder(folder: Path) -> None:
    # Not every file system can; a renamed file is whole in any case.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, atomically.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from zmanifold._base.files import write_json
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(Path(folder, "a.json"), {"seed": 0})
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A name that is not UTF-8 has lone surrogates: written as JSON's own escapes, \udce9.
    encoded = text.encode("utf-8", "backslashreplace")
    write_atomically(path, lambda temporary: temporary.write_bytes(encoded))
