"""`Reading`, the report on what a file or folder was read as, and the options that overrule it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from zmanifold._base.errors import InputError
from zmanifold._base.naming import listed, readable

__all__ = ["Reading", "check_options", "given_options"]


@dataclass(frozen=True)
class Reading:
    """What a file or folder was read as.

    `str` gives one or two sentences; `to_dict` is stored in the settings of a result.

    Attributes
    ----------
    source : str
        The file or folder.
    kind : str
        "table", "archive", "array" or "image folder", say.
    header : bool or None
        For tables in text: whether a line names the columns.
    index : tuple of str
        Columns that number or name the rows; they are not features.
    features : tuple of str
        The columns or the array of the points.
    labels : str or None
        The column or array of the labels.
    classes : tuple of str
        The classes, if labels are hard.
    skipped : tuple of str
        Parts that were left out, each with the reason.
    notes : tuple of str
        Other decisions: separators, axes of images, conversions.

    Examples
    --------
    >>> from zmanifold.datasets import Reading
    >>> print(Reading("a.csv", "table", True, ("index",), ("u", "v"), "label", ("cat", "dog")))
    a.csv: a table with a header; index: index; features (2): u, v; labels: label (2 classes: \
cat, dog).
    """

    source: str
    kind: str
    header: bool | None = None
    index: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    labels: str | None = None
    classes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        headed = {None: "", True: " with a header", False: " without a header"}[self.header]
        article = "an" if self.kind[0] in "aeiou" else "a"
        parts = [f"{article} {self.kind}{headed}"]
        if self.index:
            parts.append(f"index: {listed(self.index)}")
        if self.features:
            number = f" ({len(self.features)})" if len(self.features) > 1 else ""
            parts.append(f"features{number}: {listed(self.features)}")
        parts.append(self._labels())
        parts += [readable(note) for note in self.notes]
        said = f"{readable(self.source)}: {'; '.join(parts)}."
        return said + (f" Skipped: {'; '.join(map(readable, self.skipped))}." * bool(self.skipped))

    def _labels(self) -> str:
        if self.labels is None:
            return "no labels"
        if not self.classes:
            return f"labels: {readable(self.labels)}"
        n = len(self.classes)
        classes = f"{n} class{'es' * (n > 1)}: {listed(self.classes)}"
        return f"labels: {readable(self.labels)} ({classes})"

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as a dictionary for JSON.

        Examples
        --------
        >>> from zmanifold.datasets import Reading
        >>> Reading("a.npy", "array").to_dict()["source"]
        'a.npy'
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _plain(value) for name, value in values.items()}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [readable(text) for text in value]
    return readable(value) if isinstance(value, str) else value


def given_options(
    *,
    label_column: str | int | None = None,
    features: str | Sequence[str | int] | None = None,
    x: str | None = None,
    y: str | None = None,
    header: bool | None = None,
    resize: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Return the reading options that were given, checked, by their names.

    Raises
    ------
    InputError
        If an option has an impossible value.

    Examples
    --------
    >>> from zmanifold.datasets.reading import given_options
    >>> given_options(features="a, b", resize=(8, 8))
    {'features': ('a', 'b'), 'resize': (8, 8)}
    """
    if features is not None:
        several = features.split(",") if isinstance(features, str) else list(features)
        features = tuple(text for f in several if (text := str(f).strip()))
        if not features:
            raise InputError("features is empty: name columns, 'a,b,c', or positions, '0:3'.")
    if resize is not None:
        # Imported here, because child processes that decode files start without torch.
        from zmanifold._base.checks import check_count

        try:
            height, width = resize
        except (TypeError, ValueError):
            raise InputError(f"resize={resize!r} is no size: give (height, width).") from None
        resize = (
            check_count("resize's height", height, most=2**24),
            check_count("resize's width", width, most=2**24),
        )
        if resize[0] * resize[1] > 2**24:
            raise InputError(f"resize={resize} has more than 2**24 pixels: give a smaller size.")
    column = None if label_column is None else str(label_column).strip()
    all_options = {
        "label_column": column, "features": features, "x": x, "y": y, "header": header,
        "resize": resize,
    }  # fmt: skip
    return {name: value for name, value in all_options.items() if value is not None}


def check_options(given: Mapping[str, Any], takes: Sequence[str], source: str, what: str) -> None:
    """Refuse reading options that a source does not take.

    Examples
    --------
    >>> from zmanifold.datasets.reading import check_options
    >>> check_options({"x": "emb"}, ("x", "y"), "a.npz", "an .npz file")
    """
    strange = [name for name in given if name not in takes]
    if strange:
        allowed = f"takes {' and '.join(takes)} alone" if takes else "takes no such option"
        raise InputError(
            f"{strange[0]}={given[strange[0]]!r} is given for {readable(source)}, but {what} "
            f"{allowed}: leave it out."
        )
