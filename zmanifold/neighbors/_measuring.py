"""Distances by direct differences in float64 on a CPU, and the nearest of them, by numba."""

from __future__ import annotations

import math
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from zmanifold._base.kernels import kernel
from zmanifold._base.locality import walk
from zmanifold._base.parallel import run_chunks
from zmanifold.neighbors._proposals import Proposal
from zmanifold.neighbors._search import Search
from zmanifold.neighbors._shortlists import Shortlists
from zmanifold.neighbors._sorting import write_first

__all__ = ["choose", "measure_candidates", "measure_pairs", "measure_uncertain"]

_kernel = kernel()
# A sum of squares may be taken in any order: the bound on its rounding holds for every order.
_summing = kernel("reassoc", "contract")

# The number of queries that all threads together measure at a time.
_MEASURED_TOGETHER = 1024


def measure_candidates(search: Search, candidates: Int[Tensor, "q c"]) -> None:
    """Measure the distances of each query's candidates and write the nearest by (distance, row).

    Parameters
    ----------
    search : Search
        On a CPU.
    candidates : torch.Tensor of shape (q, c)
        Different row numbers for each query; -1 stands for no candidate. A query with fewer than k
        gets infinite distances and row numbers -1.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.neighbors._measuring import measure_candidates
    >>> from zmanifold.neighbors._search import Queries, Search
    >>> points = torch.tensor([[0.0], [4.0], [1.0]])
    >>> search = Search.of(points, Queries(points, torch.tensor([0])), 2, memory=2**20)
    >>> measure_candidates(search, torch.tensor([[1, 2, -1]]))
    >>> search.distances.tolist(), search.indices.tolist()
    ([[1.0, 4.0]], [[2, 1]])
    """
    points, at, listed = search.points.numpy(), search.queries.at.numpy(), candidates.numpy()
    distances, indices = search.distances.numpy(), search.indices.numpy()
    order = walk(listed, points)

    def work(part: slice) -> None:
        _measure(points, at, listed, order[part], distances, indices, search.in_order)

    run_chunks(work, len(at), _MEASURED_TOGETHER, search.points.device)


def measure_uncertain(
    search: Search, lists: Shortlists, proposal: Proposal, sizes: Float64[Tensor, "q *s"]
) -> None:
    """Write the nearest candidates in any order, and measure only those that values leave open.

    Fewer than k points have values below the k-th smallest value v. The k-th neighbour is therefore
    farther than a distance whose ceiling is below v, and nearer than one whose floor is above v.

    Parameters
    ----------
    search : Search
        A search on a CPU that wants only the distances of the k-th neighbours.
    lists : Shortlists
        The candidates, finished and in the order of the queries.
    proposal : Proposal
        What the candidates' values were computed by.
    sizes : torch.Tensor of shape (q,) or (q, s)
        The queries' sizes (see `Factor`).
    """
    k = search.k
    kth = torch.empty_like(search.distances[:, 0])

    def split(part: slice) -> None:
        lists.kth_values(k, part, kth.numpy())

    run_chunks(split, len(kth), 4096, kth.device)
    reach = proposal.reach(sizes, kth)
    ceiling, floor = proposal.ceiling(sizes, reach), proposal.floor(sizes, reach)
    nearer = floor.values(ceiling.distances(kth)).minimum(kth)
    possible = ceiling.values(floor.distances(kth))
    bounds = torch.stack([nearer, possible], dim=1)
    # A list that is too short has no k-th value: all of its candidates are measured.
    bounds[kth.isnan()] = bounds.new_tensor([-math.inf, math.inf])
    points, at, limits = search.points.numpy(), search.queries.at.numpy(), bounds.numpy()
    distances, indices = search.distances.numpy(), search.indices.numpy()
    order = walk(lists.columns, points)

    def work(part: slice) -> None:
        _measure_between(
            points, at, lists.values, lists.columns, limits, order[part], distances, indices
        )

    run_chunks(work, len(at), _MEASURED_TOGETHER, search.points.device)


def measure_pairs(
    points: Float[np.ndarray, "n d"],
    at: Float[np.ndarray, "q d"],
    pairs: Int64[np.ndarray, "2 p"],
    *,
    in_order: bool,
) -> Float64[np.ndarray, " p"]:
    """Return the distances of pairs of a query and a point.

    With `in_order` squares are added in the order of the features, as the k-d tree adds them; else
    as `measure_candidates` adds them.
    """
    distances = np.empty(pairs.shape[1])
    (_measure_pairs_in_order if in_order else _measure_pairs)(points, at, pairs, distances)
    return distances


@_kernel
@no_type_check
def _measure_between(points, at, values, columns, bounds, order, distances, indices):
    """Measure the candidates whose values lie between two bounds.

    Candidates below the first bound, fewer than k, are nearer than the k-th neighbour; those above
    the second are farther.
    """
    most, k = columns.shape[1], indices.shape[1]
    found, sorted_found = np.empty(most), np.empty(most)
    near, sorted_near = np.empty(most, np.int64), np.empty(most, np.int64)
    ends = np.empty(most + 1, np.int64)
    for i in order:
        count = nearer = 0
        for j in range(most):
            row = columns[i, j]
            if row >= 0 and values[i, j] < bounds[i, 0]:
                indices[i, nearer] = row
                nearer += 1
            elif row >= 0 and values[i, j] <= bounds[i, 1]:
                near[count], found[count] = row, _distance(points[row], at[i])
                count += 1
        if nearer + count < k:
            distances[i], indices[i] = np.inf, -1
            continue
        rest = indices[i, nearer:]
        write_first(found, near, count, False, sorted_found, sorted_near, ends, distances[i], rest)


@_kernel
@no_type_check
def _measure(points, at, candidates, order, distances, indices, in_order):
    most = candidates.shape[1]
    found, sorted_found = np.empty(most), np.empty(most)
    near, sorted_near = np.empty(most, np.int64), np.empty(most, np.int64)
    ends = np.empty(most + 1, np.int64)
    for i in order:
        count = 0
        for j in range(most):
            if candidates[i, j] >= 0:
                near[count] = candidates[i, j]
                found[count] = _distance(points[near[count]], at[i])
                count += 1
        if count < indices.shape[1]:
            distances[i], indices[i] = np.inf, -1
            continue
        write_first(
            found, near, count, in_order, sorted_found, sorted_near, ends, distances[i], indices[i]
        )


@_kernel
@no_type_check
def choose(measured, candidates, distances, indices):
    """Write the k nearest of measured candidates by (distance, row), and their last distances."""
    q, most = candidates.shape
    found, sorted_found = np.empty(most), np.empty(most)
    near, sorted_near = np.empty(most, np.int64), np.empty(most, np.int64)
    ends = np.empty(most + 1, np.int64)
    for i in range(q):
        found[:], near[:] = measured[i], candidates[i]
        write_first(
            found, near, most, True, sorted_found, sorted_near, ends, distances[i], indices[i]
        )


@_kernel
@no_type_check
def _measure_pairs(points, at, pairs, distances):
    for j in range(len(distances)):
        distances[j] = _distance(points[pairs[1, j]], at[pairs[0, j]])


@_kernel
@no_type_check
def _measure_pairs_in_order(points, at, pairs, distances):
    for j in range(len(distances)):
        distances[j] = _distance_in_order(points[pairs[1, j]], at[pairs[0, j]])


@_summing
@no_type_check
def _distance(x, y):
    total = 0.0
    for c in range(len(x)):
        apart = np.float64(x[c]) - np.float64(y[c])
        total += apart * apart
    return math.sqrt(total)


# The text of `_distance` under another name: numba's cache on disk tells functions apart by name
# and text, not by their options.
@_kernel
@no_type_check
def _distance_in_order(x, y):
    total = 0.0
    for c in range(len(x)):
        apart = np.float64(x[c]) - np.float64(y[c])
        total += apart * apart
    return math.sqrt(total)
