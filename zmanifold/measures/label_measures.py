"""Measures by label: the error of mixed labels, and their entropy."""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Bool, Float64
from torch import Tensor

from zmanifold._base.labels import entropy
from zmanifold.measures.comparison import Comparison

__all__ = ["ContradictedMass", "LabelEntropy", "LabelError"]


class LabelError:
    """Whether the class of the nearest original differs from the mixed label's largest entry.

    Also called manifold intrusion. Of equal entries of the label, the first is its class.

    References
    ----------
    .. [1] H. Guo, Y. Mao and R. Zhang, "MixUp as locally linear out-of-manifold regularization",
       AAAI 2019.
    """

    names: ClassVar[dict[str, Any]] = {"label_error": {}}
    kind = "samples"
    unit = "share of samples"
    direction = "lower"

    def __call__(self, sets: Comparison) -> Bool[Tensor, " m"]:
        """Return one value a mixed sample."""
        own = sets.labels.codes.to(sets.mixed.device)[sets.nearest]
        return own != sets.mixed_labels.codes.to(sets.mixed.device)


class ContradictedMass:
    """The part of the mixed label that the labels of the k nearest originals contradict.

    The total variation distance Σ_c max(y_c - q_c, 0) of the mixed label y from the mean label q
    of the k nearest originals.
    """

    names: ClassVar[dict[str, Any]] = {"contradicted_mass": {}}
    kind = "samples"
    unit = "label mass"
    direction = "lower"

    def __call__(self, sets: Comparison) -> Float64[Tensor, " m"]:
        """Return one value a mixed sample."""
        return (sets.soft_labels - sets.labels_around).abs().sum(dim=1) / 2


class LabelEntropy:
    """Entropy of the mixed label."""

    names: ClassVar[dict[str, Any]] = {"label_entropy": {}}
    kind = "samples"
    unit = "nats"
    direction = ""

    def __call__(self, sets: Comparison) -> Float64[Tensor, " m"]:
        """Return one value a mixed sample."""
        return entropy(sets.soft_labels)
