"""Label statistics of neighbourhoods: mean labels and numbers of each class."""

from __future__ import annotations

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from zmanifold._base.labels import Labels
from zmanifold._base.parallel import chunks

__all__ = ["class_counts", "neighborhood_distributions"]


def neighborhood_distributions(
    labels: Labels, indices: Int64[Tensor, "q k"], memory: int
) -> Float64[Tensor, "q K"]:
    """Return the mean label distribution of each neighbourhood, without checks.

    Examples
    --------
    >>> import torch
    >>> from zmanifold._base.labels import as_labels
    >>> from zmanifold.measures._neighbor_labels import neighborhood_distributions
    >>> labels = as_labels([0, 0, 1], 3, name="y")
    >>> neighborhood_distributions(labels, torch.tensor([[0, 2], [0, 1]]), 2**20)
    tensor([[0.5000, 0.5000],
            [1.0000, 0.0000]], dtype=torch.float64)
    """
    q, k = indices.shape
    n_classes = len(labels.classes)
    if labels.soft is None:
        return class_counts(labels.codes.to(indices.device)[indices], n_classes).double() / k
    soft = labels.soft.to(indices.device)
    mean = soft.new_empty((q, n_classes))
    # 8 bytes for a label's entry as float64, and as many for the library's temporaries.
    for part in chunks(q, memory // (16 * k * n_classes)):
        mean[part] = soft[indices[part]].mean(dim=1)
    return mean


def class_counts(codes: Int64[Tensor, "q k"], n_classes: int) -> Int64[Tensor, "q K"]:
    """Count how often each class occurs in each row."""
    counts = codes.new_zeros((len(codes), n_classes))
    return counts.scatter_add_(1, codes, torch.ones_like(codes))
