"""Text of files and of other libraries, made to fit into one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from zmanifold._base.errors import shown

__all__ = ["first_line", "some_of"]


def first_line(error: BaseException) -> str:
    r"""Reduce the message of an exception to its first line, short and printable.

    Examples
    --------
    >>> from zmanifold.datasets.formats._wording import first_line
    >>> first_line(ValueError("line one.\nline two"))
    'line one'
    """
    lines = str(error).strip().splitlines()
    return shown(lines[0].rstrip(".")) if lines else type(error).__name__


def some_of(names: Sequence[str]) -> str:
    """List the first three of some names.

    Examples
    --------
    >>> from zmanifold.datasets.formats._wording import some_of
    >>> some_of(["a", "b", "c", "d"])
    'a, b, c, ...'
    """
    listed = ", ".join(shown(name, 40) for name in names[:3])
    return listed if len(names) <= 3 else f"{listed}, ..."
