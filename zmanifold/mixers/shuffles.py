"""Rows of weights, each shuffled with a seed of its own; compiled by numba, for large batches."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from zmanifold.chunking import run_chunks
from zmanifold.kernels import kernel

__all__ = ["shuffled_rows"]

_kernel = kernel()


def shuffled_rows(
    series: Float64[Tensor, " t"], seeds: Int64[Tensor, " b"], *, anchored: bool
) -> Float64[Tensor, "b b"]:
    """Give each row the series at the places of a random permutation, and zeros elsewhere.

    Sorting b keys a row costs more than b swaps (Fisher and Yates), whose random numbers come
    from a generator a row (splitmix64): rows are independent of threads and of each other.

    Parameters
    ----------
    series : torch.Tensor of shape (t,)
        What a row holds, t <= b.
    seeds : torch.Tensor of shape (b,)
        One seed a row.
    anchored : bool
        Whether the first of the series goes to the diagonal.

    Returns
    -------
    torch.Tensor of shape (b, b)
        On the CPU.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.mixers.shuffles import shuffled_rows
    >>> rows = shuffled_rows(torch.tensor([0.5, 0.25]).double(), torch.arange(3), anchored=True)
    >>> rows.diagonal().tolist(), (rows == 0.25).sum(dim=1).tolist()
    ([0.5, 0.5, 0.5], [1, 1, 1])
    """
    b = len(seeds)
    weights = torch.zeros((b, b), dtype=torch.float64)
    values, numbers, out = series.numpy(), seeds.numpy(), weights.numpy()
    run_chunks(
        lambda part: _shuffle(values, numbers[part], part.start, anchored, out[part]),
        b,
        256,
        weights.device,
    )
    return weights


@_kernel
@no_type_check
def _shuffle(series, seeds, first_row, anchored, out):
    b = out.shape[1]
    places = np.empty(b, np.int64)
    for i in range(len(seeds)):
        state = np.uint64(seeds[i])
        for j in range(b):
            places[j] = j
        if anchored:
            places[0], places[first_row + i] = first_row + i, 0
        # From the front, so that no more is drawn than is used.
        for j in range(1 if anchored else 0, len(series)):
            state += np.uint64(0x9E3779B97F4A7C15)
            z = state
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z ^= z >> np.uint64(31)
            # 53 bits over b - j places: the bias is below b / 2**53.
            step = np.int64(np.float64(z >> np.uint64(11)) * 2.0**-53 * (b - j))
            places[j], places[j + step] = places[j + step], places[j]
        for j in range(len(series)):
            out[i, places[j]] = series[j]
