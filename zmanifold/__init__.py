"""Measure what mixing augmentations do to the data manifold.

Public names are imported on first use, so that ``zmanifold --help`` does not wait for torch. Open
`sweep` first: it uses the data sets, mixers, neighbour searches and estimators.
"""

from typing import Any

import lazy_loader

_fetch, _list, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("zmanifold")
    return _fetch(name)


def __dir__() -> list[str]:
    return [*_list(), "__version__"]
