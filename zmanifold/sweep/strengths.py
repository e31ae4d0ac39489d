"""What a sweep goes through: mixers at their strengths, each with its name in the table."""

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

# Tables of 0.1.0 know these two, and its journals name cells by them.
_FIRST = ("gamma", "alpha")


@dataclass(frozen=True, eq=False)
class Strength:
    """A mixer with the name and the numbers that it has in the table.

    Attributes
    ----------
    label : str
        The mixer's name.
    mixer : object
        The mixer; None leaves the data as it is.
    parameters : dict of str to float
        The numbers that tell it from others of its name.
    named : bool
        Whether the user gave the name.
    """

    label: str
    mixer: Any
    parameters: Mapping[str, float] = field(default_factory=dict)
    named: bool = False

    @property
    def columns(self) -> dict[str, Any]:
        """What the table says of it."""
        return {
            "mixer": self.label,
            "gamma": self.parameters.get("gamma", math.nan),
            "alpha": self.parameters.get("alpha", math.nan),
            "parameters": json.dumps(dict(self.parameters)),
        }

    @cached_property
    def identity(self) -> str | None:
        """What recognises the mixer in a later run; None where it cannot be recognised."""
        return identify(self.mixer)

    def key(self, estimator: str, k: int, seed: int) -> str:
        """Name a cell in a journal; as 0.1.0 did where its names say everything."""
        plain = is_ours(self.mixer) and self.label == label_of(self.mixer)
        if plain and estimator == "FO" and set(self.parameters) <= set(_FIRST):
            columns = self.columns
            return json.dumps([self.label, columns["gamma"], columns["alpha"], k, seed])
        recognised = self.identity or "named by the user"
        return json.dumps([self.label, dict(self.parameters), recognised, estimator, k, seed])

    def check_resumable(self) -> None:
        """Raise InputError if a later run could not tell whether the mixer is the same."""
        if self.identity is None and not self.named:
            raise InputError(
                f"mixer {self.label!r} has a state or code that cannot be read, so a journal "
                "could not tell it from another: name it, mixers={'a name': mixer}, and give "
                "another name whenever it changes."
            )

    def failure(self, estimator: str, k: int, seed: int, error: Exception) -> dict[str, Any]:
        """Describe a cell that failed, ready for JSON."""
        reason = " ".join(str(error).split())
        return {
            "mixer": self.label,
            "gamma": self.parameters.get("gamma"),
            "alpha": self.parameters.get("alpha"),
            "parameters": json.dumps(dict(self.parameters)),
            "estimator": estimator,
            "n_neighbors": k,
            "seed": seed,
            "reason": f"{type(error).__name__}: {reason}" if reason else type(error).__name__,
        }


def as_strengths(mixers: Any) -> list[Strength]:
    """Turn what `sweep_id` takes as mixers into distinct strengths.

    Raises
    ------
    InputError
        If one is no mixer, or two have the same name and strength.

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
