"""The mixers by name, and mixers from specifications."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from zmanifold._base.errors import InputError
from zmanifold._base.registry import Info, Registry
from zmanifold._base.specs import make_all

__all__ = ["MixerInfo", "available", "make_mixer", "mixers_from_specs", "register"]


@dataclass(frozen=True)
class MixerInfo(Info):
    """The description of a mixer; `strengths` are the parameters that tables show."""

    strengths: tuple[str, ...] = ()


_registry = Registry("zmanifold.mixers", "mixer", MixerInfo)
register = _registry.register


def available() -> list[MixerInfo]:
    """List the mixers that have a name.

    Examples
    --------
    >>> import zmanifold as zm
    >>> [mixer.name for mixer in zm.mixers.available()][:2]
    ['mixup', 'zeta']
    """
    return _registry.available()


def make_mixer(spec: str, *, num_classes: int | None = None) -> Any:
    """Make the mixer that a specification describes.

    Parameters
    ----------
    spec : str
        ``NAME[:PARAM=VALUE[,...]]``, "none" for the original data, or ``module.Name[:...]`` for the
        user's own mixer.
    num_classes : int, optional
        The number of classes; needed for integer labels.

    Returns
    -------
    mixer or None
        None for "none".

    Raises
    ------
    InputError
        If a name or parameter is unknown, a value out of its range, or several values are given.

    Examples
    --------
    >>> import zmanifold as zm
    >>> zm.make_mixer("zeta:gamma=2.4,anchored=true")
    ZetaMixup(gamma=2.4, n_mix=None, anchored=True)
    """
    if spec == "none":
        return None
    made = make_all(_registry, [spec], num_classes=num_classes)
    if len(made) != 1:
        raise InputError(f"{spec!r} makes {len(made)} mixers: give one value a parameter.")
    return made[0]


def mixers_from_specs(
    specs: Iterable[str],
    *,
    gammas: Sequence[float] | None = None,
    alpha: float | None = None,
    n_mix: int | None = None,
) -> list[Any]:
    """Make the mixers of a sweep.

    Parameters
    ----------
    specs : iterable of str
        Specifications as for `make_mixer`, also with grids (``START:STOP:STEP`` or ``A/B/C``), or
        several names without parameters, separated by commas.
    gammas : sequence of float, optional
        Values for mixers with a parameter `gamma` whose specification gives none.
    alpha, n_mix : optional
        The same for the parameters `alpha` and `n_mix`.

    Returns
    -------
    list of mixer or None
        One entry for each strength; None stands for the original data.

    Raises
    ------
    InputError
        If a name is unknown or given twice, or a value is out of its range.

    Examples
    --------
    >>> from zmanifold.mixers import mixers_from_specs
    >>> for mixer in mixers_from_specs(["none,mixup", "zeta:gamma=2.4/4"]):
    ...     print(mixer)
    None
    Mixup(alpha=1.0, per_sample=False)
    ZetaMixup(gamma=2.4, n_mix=None, anchored=False)
    ZetaMixup(gamma=4.0, n_mix=None, anchored=False)
    """
    # Values are checked even if none of the mixers uses them.
    if gammas is not None:
        for value in gammas:
            _registry.make("zeta", {"gamma": value})
    if alpha is not None:
        _registry.make("mixup", {"alpha": alpha})
    if n_mix is not None:
        _registry.make("zeta", {"n_mix": n_mix})
    given = {"alpha": alpha, "n_mix": n_mix, "gamma": None if gammas is None else list(gammas)}
    defaults = {name: value for name, value in given.items() if value is not None}
    made: list[Any] = []
    seen: set[str] = set()
    for spec in specs:
        bare = [name.strip() for name in spec.split(",") if name.strip()]
        for one in [spec] if ":" in spec else bare:
            if one in seen:
                raise InputError(f"mixer {one!r} is given twice: name each mixer once.")
            seen.add(one)
            made += [None] if one == "none" else make_all(_registry, [one], **defaults)
    return made
