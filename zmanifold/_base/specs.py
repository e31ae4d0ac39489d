"""Specifications of mixers, estimators and measures as text: NAME[:PARAM=VALUE[,...]].

A value is a number, true, false, none or a word. Several values are a grid: START:STOP:STEP, which
includes both ends, or A/B/C.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from zmanifold._base.errors import InputError
from zmanifold._base.registry import Registry

__all__ = ["MOST_VALUES", "make_all", "parse_grid", "parse_spec", "read_range"]

# The largest number of values in a grid: a finer one is a typing error.
MOST_VALUES = 10_000
_WORDS = {"true": True, "false": False, "none": None}
_RULE = (
    f"give START:STOP:STEP with START <= STOP, STEP > 0 and at most {MOST_VALUES} values, or A/B/C"
)


def parse_spec(text: str) -> tuple[str, dict[str, list[Any]]]:
    """Split a specification into its name and the values of each parameter.

    Raises
    ------
    InputError
        If a part is not ``PARAM=VALUE``, or a grid is reversed or too fine.

    Examples
    --------
    >>> from zmanifold._base.specs import parse_spec
    >>> parse_spec("zeta:gamma=2.4/4,anchored=true")
    ('zeta', {'gamma': [2.4, 4], 'anchored': [True]})
    >>> parse_spec("cutmix:alpha=0:1:0.5")
    ('cutmix', {'alpha': [0.0, 0.5, 1.0]})
    """
    name, _, rest = text.partition(":")
    values: dict[str, list[Any]] = {}
    for item in rest.split(",") if rest else []:
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (key and equals and value):
            raise InputError(
                f"{text!r} has the part {item.strip()!r} where PARAM=VALUE is expected: give "
                f"{name.strip()}:PARAM=VALUE[,PARAM=VALUE...]."
            )
        if key in values:
            raise InputError(f"{text!r} gives {key} twice: give it once, several values as A/B/C.")
        values[key] = parse_grid(value, text)
    return name.strip(), values


def parse_grid(value: str, spec: str) -> list[Any]:
    """Read one value, START:STOP:STEP, or A/B/C; messages name `spec`.

    Examples
    --------
    >>> from zmanifold._base.specs import parse_grid
    >>> parse_grid("0:1:0.25", "zeta"), parse_grid("8/none", "zeta")
    ([0.0, 0.25, 0.5, 0.75, 1.0], [8, None])
    """
    if ":" not in value:
        return list(dict.fromkeys(_value(item.strip()) for item in value.split("/")))
    try:
        values = read_range(value)
    except ValueError:
        raise InputError(f"{spec!r} has {value!r}, which is not a grid: {_RULE}.") from None
    if not values:
        raise InputError(f"{spec!r} has the grid {value!r}, reversed or too fine: {_RULE}.")
    return values


def read_range(text: str) -> list[float]:
    """Read START:STOP:STEP, which includes both ends.

    The result is empty if the range is reversed, too fine, or has numbers of a million or more.

    Raises
    ------
    ValueError
        If the text is not three numbers.

    Examples
    --------
    >>> from zmanifold._base.specs import read_range
    >>> read_range("0:1:0.25"), read_range("1:0:0.25")
    ([0.0, 0.25, 0.5, 0.75, 1.0], [])
    """
    start, stop, step = map(float, text.split(":"))
    in_range = max(abs(start), abs(stop), step) < 1e6 and step >= 1e-6
    if not (in_range and start <= stop) or stop - start >= step * MOST_VALUES:
        return []
    # 1e-9 covers the rounding of steps, so that the end is included.
    count = int((stop - start) / step + 1e-9) + 1
    return [round(start + i * step, 10) for i in range(count)]


def make_all(registry: Registry[Any], texts: Iterable[str], **defaults: Any) -> list[Any]:
    """Make the objects that specifications describe.

    Parameters
    ----------
    registry : Registry
        The names of a wing.
    texts : iterable of str
        ``NAME[:PARAM=VALUE[,...]]``, or ``module.Name[:...]`` for a class that is not registered.
    **defaults
        Values, or lists of values, for parameters that a text does not give; a class without such a
        parameter ignores them.

    Returns
    -------
    list
        One object for each combination of values, in their order.
    """
    made = []
    for text in texts:
        name, values = parse_spec(text)
        make, known = _maker(registry, name)
        further = {key: v for key, v in defaults.items() if key in known and key not in values}
        given = {k: v if isinstance(v, list) else [v] for k, v in further.items()} | values
        for combination in itertools.product(*given.values()):
            made.append(make(dict(zip(given, combination, strict=True))))
    return made


def _maker(
    registry: Registry[Any], name: str
) -> tuple[Callable[[Mapping[str, Any]], Any], set[str]]:
    if "." not in name:
        info, _ = registry.find(name)
        return partial(registry.make, name), {parameter.name for parameter in info.parameters}
    module, _, attribute = name.rpartition(".")
    # As with `python -m`, modules in the working folder are found, also by worker processes.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        own = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise InputError(
            f"the {registry.what} {name!r} cannot be imported ({type(error).__name__}: {error}): "
            "give MODULE.NAME of a module in this folder or one that Python finds."
        ) from error

    def make(parameters: Mapping[str, Any]) -> Any:
        try:
            if isinstance(own, type):
                return own(**parameters)
            return partial(own, **parameters) if parameters else own
        except TypeError as error:
            raise InputError(
                f"the {registry.what} {name!r} takes other parameters ({error}): see its signature."
            ) from None

    return make, set()


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
