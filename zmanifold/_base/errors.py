"""The package's own exceptions and how they are worded."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "shown", "unknown_name"]


class InputError(ValueError):
    """Wrong input, refused before any work: one sentence with value, rule and remedy."""


def shown(text: object, most: int = 200) -> str:
    r"""Make text from a file fit into one sentence: on one line, printable and not too long.

    Examples
    --------
    >>> from zmanifold._base.errors import shown
    >>> shown("two\nlines")
    'two?lines'
    """
    line = "".join(c if c.isprintable() else "?" for c in str(text)[: most + 1])
    return line if len(line) <= most else f"{line[: most - 3]}..."


def unknown_name(kind: str, name: object, known: Iterable[str]) -> InputError:
    """Build the error for a name that is not known, with the nearest one that is.

    Parameters
    ----------
    kind : str
        What the name stands for, "data set" or "mixer", say.
    name : object
        What was given.
    known : iterable of str
        The names that would have been accepted.

    Returns
    -------
    InputError
        The exception, to be raised by the caller.

    Examples
    --------
    >>> from zmanifold._base.errors import unknown_name
    >>> print(unknown_name("metric", "cosin", ["euclidean", "cosine"]))
    unknown metric 'cosin': did you mean 'cosine'? Known are 'euclidean', 'cosine'.
    """
    names = list(known)
    close = difflib.get_close_matches(
        str(name).lower(), [n.lower() for n in names], n=1, cutoff=0.5
    )
    guess = next((n for n in names if close and n.lower() == close[0]), None)
    hint = f"did you mean {guess!r}? Known are " if guess else "known are "
    return InputError(f"unknown {kind} {name!r}: {hint}{', '.join(map(repr, names))}.")
