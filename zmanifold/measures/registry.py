"""The measures of mixed sets by name, and the one way to call them.

A measure is an object with ``direction`` ("lower", "higher" or "" where neither is better) and a
call that takes a `Comparison` of originals and mixed samples. It returns one number a mixed sample
(a measure of samples; the set's number is their mean), or one number of the whole set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zmanifold._base.errors import InputError
from zmanifold._base.registry import Info, Registry
from zmanifold._base.specs import make_all

__all__ = ["MeasureInfo", "available", "make_measures", "register"]


@dataclass(frozen=True)
class MeasureInfo(Info):
    """A measure's description, with its unit and whether lower or higher values are better."""

    unit: str = ""
    direction: str = ""


_registry = Registry("zmanifold.measures", "measure", MeasureInfo)
register = _registry.register


def available() -> list[MeasureInfo]:
    """List the measures of mixed sets.

    Examples
    --------
    >>> import zmanifold as zm
    >>> zm.measures.available()[0].name
    'label_error'
    """
    return _registry.available()


def make_measures(measures: Any = None) -> dict[str, Any]:
    """Turn names and measure objects into measures by name; by default into all available ones.

    Raises
    ------
    InputError
        If a name is unknown, an object is not a measure, or a measure is given twice.

    Examples
    --------
    >>> from zmanifold.measures import make_measures
    >>> list(make_measures(["precision", "recall"]))
    ['precision', 'recall']
    """
    if measures is None:
        measures = [measure.name for measure in available()]
    made: dict[str, Any] = {}
    for given in [measures] if isinstance(measures, str) else measures:
        (measure,) = make_all(_registry, [given]) if isinstance(given, str) else [given]
        if isinstance(measure, type) or not callable(measure):
            raise InputError(f"measure {measure!r} is no callable object: see docs/extending.md.")
        name = next(iter(getattr(measure, "names", {type(measure).__name__: {}})))
        if name in made:
            raise InputError(f"measure {name!r} is given twice: name each measure once.")
        made[name] = measure
    return made
