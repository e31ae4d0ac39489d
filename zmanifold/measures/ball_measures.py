"""Measures by balls around the samples of one set, which may hold samples of the other.

Each sample has a closed ball that reaches to its k-th nearest neighbour in its own set, as in Eq. 1
of Kynkäänniemi et al. The released code of Naeem et al. has open balls, which differ only by points
exactly on their boundary.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from zmanifold.measures.comparison import Comparison

__all__ = ["Coverage", "Density", "Precision", "Recall"]


class Precision:
    """Share of mixed samples in at least one ball of the originals.

    References
    ----------
    .. [1] T. Kynkäänniemi et al., "Improved precision and recall metric for assessing generative
       models", NeurIPS 2019.
    """

    names: ClassVar[dict[str, Any]] = {"precision": {}}
    kind = "set"
    unit = "share of mixed samples"
    direction = "higher"

    def __call__(self, sets: Comparison) -> float:
        """Return the value of the set."""
        return _share(sets.in_balls_of_originals[1])


class Recall:
    """Share of originals in at least one ball of the mixed samples.

    References
    ----------
    .. [1] T. Kynkäänniemi et al., "Improved precision and recall metric for assessing generative
       models", NeurIPS 2019.
    """

    names: ClassVar[dict[str, Any]] = {"recall": {}}
    kind = "set"
    unit = "share of originals"
    direction = "higher"

    def __call__(self, sets: Comparison) -> float:
        """Return the value of the set."""
        return _share(sets.in_balls_of_mixed[1])


class Density:
    """Number of originals' balls around a mixed sample, divided by k, on average.

    References
    ----------
    .. [1] M. F. Naeem et al., "Reliable fidelity and diversity metrics for generative models",
       ICML 2020.
    """

    names: ClassVar[dict[str, Any]] = {"density": {}}
    kind = "set"
    unit = "balls over k"
    direction = "higher"

    def __call__(self, sets: Comparison) -> float:
        """Return the value of the set."""
        return float(sets.in_balls_of_originals[1].double().mean()) / sets.n_neighbors


class Coverage:
    """Share of originals whose ball holds at least one mixed sample.

    References
    ----------
    .. [1] M. F. Naeem et al., "Reliable fidelity and diversity metrics for generative models",
       ICML 2020.
    """

    names: ClassVar[dict[str, Any]] = {"coverage": {}}
    kind = "set"
    unit = "share of originals"
    direction = "higher"

    def __call__(self, sets: Comparison) -> float:
        """Return the value of the set."""
        return _share(sets.in_balls_of_originals[0])


def _share(counts: Tensor) -> float:
    return float((counts > 0).double().mean())
