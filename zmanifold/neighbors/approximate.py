"""Approximate neighbours by nearest-neighbour descent, together with their measured recall."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from zmanifold._base.errors import InputError, unknown_name
from zmanifold._base.scaling import centred_in_float32
from zmanifold.neighbors._proposals import SPARE_CANDIDATES
from zmanifold.neighbors._search import Queries, Search
from zmanifold.neighbors.api import search

__all__ = ["RECALL_SAMPLE", "check_method", "search_approximately"]

# The number of queries whose exact neighbours are found to measure the recall.
RECALL_SAMPLE = 256


def check_method(method: object) -> None:
    """Raise InputError unless `method` is "exact", or "approximate" and pynndescent is installed.

    Examples
    --------
    >>> from zmanifold.neighbors.approximate import check_method
    >>> check_method("exact")
    """
    if not isinstance(method, str) or method not in ("exact", "approximate"):
        raise unknown_name("neighbors_method", method, ["exact", "approximate"])
    if method == "approximate" and find_spec("pynndescent") is None:
        raise InputError(
            "approximate neighbours need pynndescent: pip install 'zmanifold[approximate]'."
        )


def search_approximately(
    points: Float[Tensor, "n d"], k: int, rows: Int64[Tensor, " q"], *, seed: int, memory: int
) -> tuple[Int64[Tensor, "q k"], Float64[np.ndarray, " k"]]:
    """Find most of the nearest neighbours of some points among all the others.

    Parameters
    ----------
    points : torch.Tensor of shape (n, d)
        Finite points of moderate magnitude, on a CPU.
    k : int
        Number of neighbours, 1 <= k < n.
    rows : torch.Tensor of shape (q,)
        Row numbers of the queries, ascending; a point is no neighbour of itself.
    seed : int
        The only source of randomness. One thread searches, so that results do not depend on the
        number of threads.
    memory : int
        Bytes of working memory for the exact part, besides the index, which takes some hundred
        bytes for each point and neighbour.

    Returns
    -------
    indices : torch.Tensor of shape (q, k)
        Row numbers of the neighbours found, by distance.
    recall : ndarray of shape (k,)
        For j = 1..k, the share of the first j neighbours found that are no farther than the j-th
        exact one, as a mean over a sample of the queries.

    Notes
    -----
    W. Dong, M. Charikar and K. Li, "Efficient k-nearest neighbor graph construction for generic
    similarity measures", WWW 2011, as pynndescent implements it.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.neighbors.approximate import search_approximately
    >>> points = torch.arange(40.0).repeat(2, 1).T.contiguous()
    >>> found, recall = search_approximately(points, 2, torch.arange(40), seed=0, memory=2**20)
    >>> found[20].tolist(), recall.tolist()
    ([19, 21], [1.0, 1.0])
    """
    from pynndescent import NNDescent

    from zmanifold.neighbors._measuring import measure_candidates

    n = len(points)
    # The index counts a point among its own neighbours.
    wanted = min(n, k + SPARE_CANDIDATES + 1)
    rng = np.random.default_rng(np.random.SeedSequence([seed, n]))
    (data,) = centred_in_float32(points)
    state = np.random.RandomState(rng.integers(2**32))
    index = NNDescent(data.numpy(), n_neighbors=wanted, random_state=state, n_jobs=1)
    candidates = torch.from_numpy(index.neighbor_graph[0]).long()[rows]
    candidates.masked_fill_(candidates == rows[:, None], -1)
    # pynndescent sorts by float32 distances: measured anew, the candidates come in exact order.
    short = (candidates >= 0).sum(dim=1) < k
    made = Search.of(points, Queries(points, rows), k, memory=memory)
    measure_candidates(made, candidates)
    if bool(short.any()):
        found = search(points, k, rows=rows[short], memory=memory)
        made.distances[short], made.indices[short] = found
    sample = torch.from_numpy(
        np.sort(rng.choice(len(rows), min(len(rows), RECALL_SAMPLE), replace=False))
    )
    exact, _ = search(points, k, rows=rows[sample], memory=memory)
    # Both are roots of d squares added in some order, with a relative error of at most
    # (d + 2) * 2**-54: 2**-40 covers two of them up to 8,000 features.
    limits = exact * (1 + 2.0**-40)
    within = [made.distances[sample, :j] <= limits[:, j - 1 : j] for j in range(1, k + 1)]
    return made.indices, np.array([float(mask.double().mean()) for mask in within])
