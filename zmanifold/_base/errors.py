"""The package's exception for wrong input, and the wording that its messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "shown", "unknown_name"]


class InputError(ValueError):
    """Wrong input, refused before any work: one sentence with value, rule and remedy."""


def shown(text: object, most: int = 200) -> str:
    r"""Return text from a file for a message: printable, on one line, cut to `most` characters.

    200 characters are two and a half lines of a terminal: the rest of the message stays in view.

    Examples
    --------
    >>> from zmanifold._base.errors import shown
    >>> shown("two\nlines")
    'two?lines'
    """
    line = "".join(c if c.isprintable() else "?" for c in str(text)[: most + 1])
    return line if len(line) <= most else f"{line[: most - 3]}..."


def unknown_name(kind: str, name: object, known: Iterable[str]) -> InputError:
    """Build the error for an unknown name; its message suggests the most similar known name.

    Parameters
    ----------
    kind : str
        The kind of thing that the name stands for, for example "data set" or "mixer".
    name : object
        The unknown name, as the user gave it.
    known : iterable of str
        The names that are accepted.

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
    # A similarity of 0.5: at least half of the characters of both names match, in order.
    close = difflib.get_close_matches(
        str(name).lower(), [n.lower() for n in names], n=1, cutoff=0.5
    )
    nearest = next((n for n in names if close and n.lower() == close[0]), None)
    hint = f"did you mean {nearest!r}? Known are " if nearest else "known are "
    return InputError(f"unknown {kind} {name!r}: {hint}{', '.join(map(repr, names))}.")
