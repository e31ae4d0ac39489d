"""Random permutations of each row of weights, compiled by numba."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from zmanifold._base.kernels import kernel
from zmanifold._base.parallel import run_chunks

__all__ = ["shuffled_rows"]

_kernel = kernel()

# Fewer swaps than this take less time than starting another thread.
_LEAST_SHARED = 2**17


def shuffled_rows(
    series: Float[Tensor, " t"], seeds: Int64[Tensor, " b"], *, anchored: bool
) -> Float[Tensor, "b b"]:
    """Return rows with the series at the places of a random permutation, and zeros elsewhere.

    A row takes t swaps (Fisher and Yates), which are faster than sorting b random keys. Each row
    has a generator of its own (splitmix64): rows depend neither on threads nor on each other.

    Parameters
    ----------
    series : torch.Tensor of shape (t,)
        The values of each row, t <= b; float32 or float64.
    seeds : torch.Tensor of shape (b,)
        One seed for each row.
    anchored : bool
        Whether the first value of the series goes to the diagonal.

    Returns
    -------
    torch.Tensor of shape (b, b)
        The rows, on the CPU, in the dtype of the series.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.mixers._shuffles import shuffled_rows
    >>> rows = shuffled_rows(torch.tensor([0.5, 0.25]).double(), torch.arange(3), anchored=True)
    >>> rows.diagonal().tolist(), (rows == 0.25).sum(dim=1).tolist()
    ([0.5, 0.5, 0.5], [1, 1, 1])
    """
    b = len(seeds)
    weights = series.new_zeros((b, b))
    values, numbers, out = series.numpy(), seeds.numpy(), weights.numpy()

    def work(part: slice) -> None:
        _shuffle(values, numbers[part], part.start, anchored, out[part])

    if b * len(series) < _LEAST_SHARED:
        work(slice(0, b))
    else:
        run_chunks(work, b, 256, weights.device)
    return weights


@_kernel
@no_type_check
def _shuffle(series, seeds, first_row, anchored, out):
    """Write the series first in each row, and swap each of its members with a random later place.

    Different sequences of places give different arrangements, so that all are equally likely.
    """
    b, t = out.shape[1], len(series)
    for i in range(len(seeds)):
        row = out[i]
        row[:t] = series
        state = np.uint64(seeds[i])
        for j in range(1 if anchored else 0, t):
            state += np.uint64(0x9E3779B97F4A7C15)
            z = state
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z ^= z >> np.uint64(31)
            # 40 bits over b - j places: the bias is below b / 2**40.
            step = np.int64((z >> np.uint64(24)) * np.uint64(b - j) >> np.uint64(40))
            row[j], row[j + step] = row[j + step], row[j]
        if anchored:
            # The other places are shuffled by now; the diagonal's is exchanged with the first.
            row[0], row[first_row + i] = row[first_row + i], row[0]
