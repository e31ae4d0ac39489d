"""Names of files, columns and classes as text that is safe to show."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["encodable", "listed", "readable"]


def readable(name: str) -> str:
    r"""Escape the characters of a name that are not printable.

    Control characters in a name could control the terminal that shows it. Bytes of a file name that
    are not UTF-8 are lone surrogates in Python, which no output can encode.

    Examples
    --------
    >>> from zmanifold._base.naming import readable
    >>> print(readable("a\x1b[31m"), readable("donn\udce9es"), readable("été"))
    a\x1b[31m donn\xe9es été
    """
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else _escaped(c) for c in name)


def encodable(name: str) -> str:
    r"""Escape the bytes of a file's name that are not UTF-8, which no table can hold.

    Examples
    --------
    >>> from zmanifold._base.naming import encodable
    >>> print(encodable("donn\udce9es"))
    donn\xe9es
    """
    return "".join(_escaped(c) if "\ud800" <= c <= "\udfff" else c for c in name)


def _escaped(character: str) -> str:
    code = ord(character)
    # os.fsdecode stores the byte 0x80..0xff of a name that is not UTF-8 as such a surrogate.
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def listed(names: Sequence[str], most: int = 6) -> str:
    """Return names as one text, each shortened and readable, without the middle ones of many.

    Examples
    --------
    >>> from zmanifold._base.naming import listed
    >>> listed([f"x{i}" for i in range(100)])
    'x0, x1, x2, ..., x99'
    """
    kept = list(names) if len(names) <= most else [*names[:3], "...", names[-1]]
    return ", ".join(_short(readable(name)) for name in kept)


def _short(name: str, most: int = 40) -> str:
    return name if len(name) <= most else f"{name[: most - 3]}..."
