"""Measure what mixing augmentations do to the data manifold."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zmanifold.datasets import Dataset as Dataset
    from zmanifold.datasets import load_dataset as load_dataset
    from zmanifold.dimension import LocalPCA as LocalPCA
    from zmanifold.dimension import local_spectra as local_spectra
    from zmanifold.manifolds import make_crescents as make_crescents
    from zmanifold.manifolds import make_helix as make_helix
    from zmanifold.manifolds import make_paraboloid as make_paraboloid
    from zmanifold.manifolds import make_spirals as make_spirals
    from zmanifold.mixers import Mixup as Mixup
    from zmanifold.mixers import ZetaMixup as ZetaMixup
    from zmanifold.mixers import gamma_from_lambda as gamma_from_lambda
    from zmanifold.mixers import gamma_min as gamma_min
    from zmanifold.mixers import mix as mix
    from zmanifold.neighbors import kneighbors as kneighbors
    from zmanifold.sweep import SweepResult as SweepResult
    from zmanifold.sweep import sweep_id as sweep_id

# Names are fetched on first use: `zmanifold --help` must not wait for torch.
_HOME = {
    "Dataset": "datasets",
    "LocalPCA": "dimension",
    "Mixup": "mixers",
    "SweepResult": "sweep",
    "ZetaMixup": "mixers",
    "gamma_from_lambda": "mixers",
    "gamma_min": "mixers",
    "kneighbors": "neighbors",
    "load_dataset": "datasets",
    "local_spectra": "dimension",
    "make_crescents": "manifolds",
    "make_helix": "manifolds",
    "make_paraboloid": "manifolds",
    "make_spirals": "manifolds",
    "mix": "mixers",
    "sweep_id": "sweep",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("zmanifold")
    if name not in _HOME:
        raise AttributeError(f"module 'zmanifold' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"zmanifold.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
