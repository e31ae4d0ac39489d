"""Measure what mixing augmentations do to the data manifold."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zmanifold.batches import mixed_set as mixed_set
    from zmanifold.datasets import Dataset as Dataset
    from zmanifold.datasets import load_dataset as load_dataset
    from zmanifold.dimension import LocalPCA as LocalPCA
    from zmanifold.dimension import local_spectra as local_spectra
    from zmanifold.manifolds import make_crescents as make_crescents
    from zmanifold.manifolds import make_helix as make_helix
    from zmanifold.manifolds import make_paraboloid as make_paraboloid
    from zmanifold.manifolds import make_spirals as make_spirals
    from zmanifold.metrics import MixedSetMetrics as MixedSetMetrics
    from zmanifold.metrics import mixed_set_metrics as mixed_set_metrics
    from zmanifold.mixers import Mixup as Mixup
    from zmanifold.mixers import ZetaMixup as ZetaMixup
    from zmanifold.mixers import gamma_from_lambda as gamma_from_lambda
    from zmanifold.mixers import gamma_min as gamma_min
    from zmanifold.mixers import mix as mix
    from zmanifold.neighbors import kneighbors as kneighbors
    from zmanifold.sweep import SweepResult as SweepResult
    from zmanifold.sweep import sweep_id as sweep_id
    from zmanifold.vicinity import VicinityResult as VicinityResult
    from zmanifold.vicinity import vicinity as vicinity

# Names are fetched on first use: `zmanifold --help` must not wait for torch.
_HOME = {
    "Dataset": "datasets",
    "LocalPCA": "dimension",
    "MixedSetMetrics": "metrics",
    "Mixup": "mixers",
    "SweepResult": "sweep",
    "VicinityResult": "vicinity",
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
    "mixed_set": "batches",
    "mixed_set_metrics": "metrics",
    "sweep_id": "sweep",
    "vicinity": "vicinity",
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


class _Package(ModuleType):
    """Keep `zmanifold.vicinity` the function when something imports the module of that name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
