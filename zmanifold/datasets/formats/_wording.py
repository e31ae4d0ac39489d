"""Shortening of text from files and other libraries, for use within one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from zmanifold._base.errors import shown

__all__ = ["first_line", "some_of"]


def first_line(error: BaseException) -> str:
    r"""Return the first line of an exception's message, shortened and printable.

    Examples
    --------
    >>> from zmanifold.datasets.formats._wording import first_line
    >>> first_line(ValueError("line one.\nline two"))
    'line one'
    """
    lines = str(error).strip().splitlines()
    return shown(lines[0].rstrip(".")) if lines else type(error).__name__


def some_of(names: Sequence[str]) -> str:
    """Return the first three names as one text.

    Examples
    --------
    >>> from zmanifold.datasets.formats._wording import some_of
    >>> some_of(["a", "b", "c", "d"])
    'a, b, c, ...'
    """
    listed = ", ".join(shown(name, 40) for name in names[:3])
    return listed if len(names) <= 3 else f"{listed}, ..."
