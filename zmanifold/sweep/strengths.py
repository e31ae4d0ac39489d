"""The mixers of a sweep, each at one strength and with its name in the table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from zmanifold._base.errors import InputError
from zmanifold.mixers import (
    check_mixer,
    identify,
    is_ours,
    label_of,
    mixers_from_specs,
    strength,
)

__all__ = ["Strength", "as_strengths"]

# Tables of version 0.1.0 have a column for each of these two, and its journals key cells by them.
_FIRST = ("gamma", "alpha")


@dataclass(frozen=True, eq=False)
class Strength:
    """A mixer at one strength, with its name and its parameters in the table.

    Attributes
    ----------
    label : str
        The mixer's name.
    mixer : object
        The mixer; None leaves the data as it is.
    parameters : dict of str to float
        The parameters that distinguish it from other mixers with the same name.
    named : bool
        Whether the user gave the name.
    """

    label: str
    mixer: Any
    parameters: Mapping[str, float] = field(default_factory=dict)
    named: bool = False

    @cached_property
    def columns(self) -> dict[str, Any]:
        """Its columns of the table."""
        return {
            "mixer": self.label,
            "gamma": self.parameters.get("gamma", math.nan),
            "alpha": self.parameters.get("alpha", math.nan),
            "parameters": json.dumps(dict(self.parameters)),
        }

    @cached_property
    def identity(self) -> str | None:
        """A digest that recognises the mixer in a later run; None if its state cannot be read."""
        return identify(self.mixer)

    def key(self, estimator: str, k: int, seed: int) -> str:
        """Return a cell's key in a journal.

        The key of version 0.1.0 is kept wherever it determines the cell, so that its journals can
        be resumed: for the package's mixers, with gamma and alpha alone, and the estimator FO.
        """
        plain = is_ours(self.mixer) and self.label == label_of(self.mixer)
        if plain and estimator == "FO" and set(self.parameters) <= set(_FIRST):
            first = [self.columns[name] for name in _FIRST]
            return json.dumps([self.label, *first, k, seed])
        recognised = self.identity or "named by the user"
        return json.dumps([self.label, dict(self.parameters), recognised, estimator, k, seed])

    def check_resumable(self) -> None:
        """Raise InputError if a later run could not recognise the mixer."""
        if self.identity is None and not self.named:
            raise InputError(
                f"mixer {self.label!r} has a state or code that cannot be read, so a journal "
                "could not tell it from another: name it, mixers={'a name': mixer}, and give "
                "another name whenever it changes."
            )

    def failure(self, estimator: str, k: int, seed: int, error: Exception) -> dict[str, Any]:
        """Describe a cell that failed, as JSON takes it: with None for a missing parameter."""
        reason = " ".join(str(error).split())
        return {
            **self.columns,
            **{name: self.parameters.get(name) for name in _FIRST},
            "estimator": estimator,
            "n_neighbors": k,
            "seed": seed,
            "reason": f"{type(error).__name__}: {reason}" if reason else type(error).__name__,
        }


def as_strengths(mixers: Any) -> list[Strength]:
    """Turn the argument `mixers` of `sweep_id` into strengths, no two of them with the same name.

    Raises
    ------
    InputError
        If an entry is not a mixer, or two have the same name and parameters.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.sweep.strengths import as_strengths
    >>> [(s.label, dict(s.parameters)) for s in as_strengths([None, zm.ZetaMixup(2.8)])]
    [('none', {}), ('zeta', {'gamma': 2.8})]
    """
    named = mixers.items() if isinstance(mixers, Mapping) else [(None, mixers)]
    strengths = [
        _as_strength(label, mixer) for label, group in named for mixer in _as_mixers(group)
    ]
    if not strengths:
        raise InputError("mixers is empty: give at least one mixer, or None for the original data.")
    seen: set[tuple[str, str]] = set()
    for one in strengths:
        key = (one.label, one.columns["parameters"])
        if key in seen:
            values = ", ".join(f"{name}={value}" for name, value in one.parameters.items())
            raise InputError(
                f"two mixers are called {one.label!r} with {values or 'no strength'}: name them, "
                "mixers={'a name': mixer, ...}."
            )
        seen.add(key)
    return strengths


def _as_mixers(group: Any) -> list[Any]:
    one = group is None or isinstance(group, str) or callable(group) or hasattr(group, "weights")
    if not one and not isinstance(group, Iterable):
        return [group]
    mixers: list[Any] = []
    for mixer in [group] if one else group:
        mixers += mixers_from_specs([mixer]) if isinstance(mixer, str) else [mixer]
    return mixers


def _as_strength(label: object, mixer: Any) -> Strength:
    check_mixer(mixer, latent=False)
    name = label_of(mixer) if label is None else str(label)
    return Strength(name, mixer, strength(mixer), named=label is not None)
