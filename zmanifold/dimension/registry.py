"""The estimators by name, and the one way to call them.

An estimator is a callable object with an attribute ``needs``. A call gets what this names, for a
batch of q points, and returns one number a point:

- "distances": a tensor of shape (q, k), float64, each row ascending;
- "spectrum": a tensor of shape (q, min(k - 1, d)), float64: covariance eigenvalues, descending;
- "points": a tensor of shape (q, k, d), float64: the neighbours less their own point;
- "neighborhoods": the `Neighborhoods` themselves.

It returns q numbers, NaN where there is no estimate, or a pair of these and a mask of the points
whose neighbourhoods are degenerate.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zmanifold._base.errors import InputError
from zmanifold._base.registry import Info, Registry, fitting_name
from zmanifold._base.specs import make_all

if TYPE_CHECKING:
    from jaxtyping import Bool, Shaped
    from torch import Tensor

    from zmanifold.dimension.neighborhoods import Neighborhoods

__all__ = [
    "EstimatorInfo",
    "available",
    "estimate",
    "estimator_name",
    "make_estimators",
    "register",
]

_NEEDS = ("distances", "spectrum", "points", "neighborhoods")


@dataclass(frozen=True)
class EstimatorInfo(Info):
    """The description of an estimator; `needs` names what it takes of a neighbourhood."""

    needs: str = ""


_registry = Registry("zmanifold.dimension", "estimator", EstimatorInfo)
register = _registry.register


def available() -> list[EstimatorInfo]:
    """List the estimators of local dimension.

    Examples
    --------
    >>> import zmanifold as zm
    >>> zm.dimension.available()[0].name
    'FO'
    """
    return _registry.available()


def make_estimators(estimators: Any) -> list[Any]:
    """Turn names, ``NAME:PARAM=VALUE`` and estimator objects into distinct estimators.

    Raises
    ------
    InputError
        If a name is unknown, an object is not an estimator, or one is given twice.

    Examples
    --------
    >>> from zmanifold.dimension import estimator_name, make_estimators
    >>> [estimator_name(e) for e in make_estimators(["FO", "FO:alphaFO=0.1"])]
    ['FO', 'FO:alphaFO=0.1']
    """
    several = isinstance(estimators, Iterable) and not isinstance(estimators, str)
    made: list[Any] = []
    for given in estimators if several else [estimators]:
        made += make_all(_registry, [given]) if isinstance(given, str) else [given]
    for estimator in made:
        needs = getattr(estimator, "needs", None)
        if isinstance(estimator, type) or not callable(estimator) or needs not in _NEEDS:
            raise InputError(
                f"estimator {estimator!r} has needs={needs!r} but an estimator is a callable "
                f"object whose needs is one of {', '.join(map(repr, _NEEDS))}: see "
                "docs/extending.md."
            )
    names = [estimator_name(estimator) for estimator in made]
    if not names:
        raise InputError("estimators is empty: give at least one, 'FO' say.")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"estimator {name!r} is given twice: name each estimator once.")
    return made


def estimator_name(estimator: Any) -> str:
    """Return an estimator's name in tables: ``NAME``, and the parameters that differ from defaults.

    Examples
    --------
    >>> from zmanifold.dimension import FukunagaOlsen, estimator_name
    >>> estimator_name(FukunagaOlsen()), estimator_name(FukunagaOlsen(alphaFO=0.1))
    ('FO', 'FO:alphaFO=0.1')
    """
    offered = fitting_name(estimator)
    name = type(estimator).__name__ if offered is None else offered
    presets = {} if offered is None else estimator.names[offered]
    changed = [
        f"{parameter.name}={getattr(estimator, parameter.name)}"
        for parameter in inspect.signature(type(estimator)).parameters.values()
        if hasattr(estimator, parameter.name)
        and getattr(estimator, parameter.name) != presets.get(parameter.name, parameter.default)
    ]
    return f"{name}:{','.join(changed)}" if changed else name


def estimate(
    estimator: Any, neighborhoods: Neighborhoods
) -> tuple[Shaped[Tensor, " q"], Bool[Tensor, " q"]]:
    """Estimate the dimension at each point.

    Parameters
    ----------
    estimator : estimator
        See `zmanifold.dimension.registry`.
    neighborhoods : Neighborhoods
        The neighbourhoods of q points.

    Returns
    -------
    dimension : torch.Tensor of shape (q,)
        Of int64 for whole numbers, else of float64.
    degenerate : torch.Tensor of shape (q,)
        Where there is no estimate: as the estimator says, else where it is not finite.

    Raises
    ------
    InputError
        If the estimator does not return one real number a point.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.dimension import FukunagaOlsen, Neighborhoods, estimate
    >>> plane = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> around = Neighborhoods(plane, torch.tensor([[1, 2, 3]]), torch.tensor([0]), 2**20)
    >>> estimate(FukunagaOlsen(), around)
    (tensor([2]), tensor([False]))
    """
    import torch

    q = len(neighborhoods.indices)
    device = neighborhoods.points.device
    if estimator.needs == "points":
        parts = [_checked(estimator(near), len(near)) for _, near in neighborhoods.differences()]
        values, given = (torch.cat([part[i] for part in parts]) for i in range(2))
        return values.to(device), given.to(device)
    taken = {
        "distances": neighborhoods.distances,
        "spectrum": neighborhoods.spectra,
        "neighborhoods": lambda: neighborhoods,
    }
    take: Callable[[], Any] = taken[estimator.needs]
    values, given = _checked(estimator(take()), q)
    return values.to(device), given.to(device)


def _checked(returned: Any, q: int) -> tuple[Shaped[Tensor, " q"], Bool[Tensor, " q"]]:
    import numpy as np
    import torch

    values, degenerate = returned if isinstance(returned, tuple) else (returned, None)
    if not isinstance(values, torch.Tensor):
        # Through NumPy, which makes float64 of Python's numbers; torch would make float32.
        values = torch.from_numpy(np.asarray(values))
    if values.shape != (q,) or values.is_complex():
        raise InputError(
            f"the estimator returned {values.dtype} of shape {tuple(values.shape)} for {q} "
            "points: return one real number a point."
        )
    values = values.double() if values.is_floating_point() else values.long()
    if degenerate is None:
        degenerate = ~values.isfinite()
    return values, torch.as_tensor(degenerate, dtype=torch.bool)
