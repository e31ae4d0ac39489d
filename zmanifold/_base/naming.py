"""Names of files, columns and classes, which come from anywhere, made fit to be shown."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["encodable", "listed", "readable"]


def readable(name: str) -> str:
    r"""Escape what a terminal, a table or UTF-8 cannot hold as it stands.

    Control characters would steer a terminal. A byte of a file's name that is not UTF-8 is a lone
    surrogate in Python, which no output can encode.

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
    # As os.fsdecode stores the byte 0x80..0xff of a name.
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def listed(names: Sequence[str], most: int = 6) -> str:
    """List names for a sentence, the middle of many left out, each short and readable.

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
