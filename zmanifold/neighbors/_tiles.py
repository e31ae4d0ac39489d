"""Exact search by matrix products: they propose, a bound on their rounding proves."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import BFloat16, Bool, Float, Float32, Float64, Int, Int64, UInt16
from torch import Tensor

from zmanifold._base.matmul import (
    full_precision,
    multiplies_half_tiles,
    multiplies_halves,
    multiplies_slowly,
    product,
)
from zmanifold._base.parallel import chunks, run_chunks
from zmanifold.neighbors._bfloat16 import HalfFilter
from zmanifold.neighbors._bounds import CACHE_BYTES, Bound, Filter, root_sum_squares
from zmanifold.neighbors._projections import MOST_COLUMNS, Sketch

if TYPE_CHECKING:
    from zmanifold.neighbors._shortlists import Shortlists

__all__ = [
    "SPARE_CANDIDATES",
    "Queries",
    "measure_candidates",
    "search_products",
    "search_tiles",
]

# More candidates than neighbours are kept, so that rounding in the filter seldom decides.
SPARE_CANDIDATES = 16

# A tile of products this wide and high stays in a CPU's cache while its rows are offered.
_TILE_SIDE = 2048

# From so many features, multiplications and queries on products in bfloat16 come first, if they
# prove the neighbours of nearly all of a few queries that are tried. Where their rate is not twice
# but seven times that of float32 (AMX), fewer pay for that.
_LEAST_HALF_FEATURES = 256
_LEAST_HALF_WORK = 2**36
_LEAST_HALF_QUERIES = 4096
_LEAST_HALF_QUERIES_BY_TILES = 1500
_TRIED = 128

# So do products of fewer columns, where a CPU without AVX-512 makes those in float32 slow.
_LEAST_SKETCHED_FEATURES = 256
_LEAST_SKETCHED_WORK = 2**40
_LEAST_SKETCHED_QUERIES = 4096

# So few queries are compared with every point faster than it is found out which could matter.
_FEW = 16

# From the products with so many points lists get their first limits.
_SAMPLED = 1024


@dataclass(frozen=True)
class Queries:
    """Rows of the data, each no neighbour of itself, or points of their own."""

    points: Float[Tensor, "m d"]
    rows: Int64[Tensor, " q"] | None

    def __len__(self) -> int:
        return len(self.points if self.rows is None else self.rows)

    @cached_property
    def is_all(self) -> bool:
        """Whether they are all rows of the data, in its order."""
        rows, n = self.rows, len(self.points)
        return rows is not None and torch.equal(rows, torch.arange(n, device=rows.device))

    def at(self, part: slice | Int64[Tensor, " p"]) -> Float[Tensor, "p d"]:
        """Return the points of some queries."""
        return self.points[part if self.rows is None or self.is_all else self.rows[part]]

    def among(self, positions: Int64[Tensor, " p"]) -> Queries:
        """Return some of them."""
        if self.rows is None:
            return Queries(self.points[positions], None)
        return Queries(self.points, self.rows[positions])

    def own(self, part: slice | Int64[Tensor, " p"]) -> Int64[Tensor, " p"] | None:
        """Return the rows that some queries are themselves."""
        return None if self.rows is None else self.rows[part]


def search_tiles(
    points: Float[Tensor, "n d"],
    asked: Queries,
    distances: Float64[Tensor, "q w"],
    indices: Int64[Tensor, "q k"],
    memory: int,
    *,
    in_order: bool = True,
) -> None:
    """Search on a CPU: every thread multiplies tiles of its own and reads them by numba.

    Where every point is a query, a tile serves its rows and its columns.

    Parameters
    ----------
    points : torch.Tensor of shape (n, d)
        Finite and of moderate magnitude.
    asked : Queries
        The queries.
    distances : torch.Tensor of shape (q, w)
        Where the last w of the k distances go.
    indices : torch.Tensor of shape (q, k)
        Where the rows go.
    memory : int
        Bytes of working memory.
    in_order : bool, default=True
        Whether the rows must come by distance.
    """
    # Points in random order: of any tiles the lists learn how near their last will be.
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))
    if _halves_serve(points, asked):
        half = HalfFilter.of(points, asked.points, order)
        if _mostly_proven(points, asked, half, order, indices.shape[1], memory):
            left = _propose(points, asked, half, order, distances, indices, memory, in_order)
            del half
            found, near = distances[left], indices[left]
            _search_in_single(points, asked.among(left), order, found, near, memory, in_order)
            distances[left], indices[left] = found, near
            return
        del half
    _search_in_single(points, asked, order, distances, indices, memory, in_order)


def _search_in_single(
    points: Float[Tensor, "n d"],
    asked: Queries,
    order: Int64[Tensor, " n"],
    distances: Float64[Tensor, "q w"],
    indices: Int64[Tensor, "q k"],
    memory: int,
    in_order: bool,
) -> None:
    left = torch.arange(len(asked))
    if len(asked) > _FEW:
        coarse = Filter.of(points, torch.float32, len(points), asked.points, order)
        sketch = None
        if _sketches_serve(points, asked, memory):
            share = (indices.shape[1] + SPARE_CANDIDATES) / len(points)
            sketch = Sketch.of(coarse.points, share)
        left = _propose(points, asked, coarse, order, distances, indices, memory, in_order, sketch)
        del coarse, sketch
    _search_undecided(points, asked, left, distances, indices, memory)


def _halves_serve(points: Float[Tensor, "n d"], asked: Queries) -> bool:
    """Tell whether products in bfloat16 are worth a try."""
    n, d = points.shape
    least = _LEAST_HALF_QUERIES_BY_TILES if multiplies_half_tiles() else _LEAST_HALF_QUERIES
    enough = len(asked) >= least and len(asked) * n * d >= _LEAST_HALF_WORK
    return enough and d >= _LEAST_HALF_FEATURES and multiplies_halves()


def _sketches_serve(points: Float[Tensor, "n d"], asked: Queries, memory: int) -> bool:
    """Tell whether products of fewer columns are worth a try."""
    n, d = points.shape
    enough = len(asked) >= _LEAST_SKETCHED_QUERIES and len(asked) * n * d >= _LEAST_SKETCHED_WORK
    room = 4 * (MOST_COLUMNS + 1) * n <= memory // 4
    return enough and room and d >= _LEAST_SKETCHED_FEATURES and multiplies_slowly()


def _mostly_proven(
    points: Float[Tensor, "n d"],
    asked: Queries,
    half: HalfFilter,
    order: Int64[Tensor, " n"],
    k: int,
    memory: int,
) -> bool:
    """Try a few of the queries: what is left is searched again, and that must not be much."""
    sample = asked.among(torch.linspace(0, len(asked) - 1, _TRIED).long())
    distances = points.new_empty((_TRIED, 1), dtype=torch.float64)
    indices = points.new_empty((_TRIED, k), dtype=torch.int64)
    left = _propose(points, sample, half, order, distances, indices, memory, in_order=False)
    return len(left) <= _TRIED // 16


def _propose(
    points: Float[Tensor, "n d"],
    asked: Queries,
    coarse: Filter | HalfFilter,
    order: Int64[Tensor, " n"],
    distances: Float64[Tensor, "q w"],
    indices: Int64[Tensor, "q k"],
    memory: int,
    in_order: bool,
    sketch: Sketch | None = None,
) -> Int64[Tensor, " left"]:
    """Measure the candidates that a filter proposes; return the queries that it cannot prove.

    The filter holds the points in the given order; a sketch spares it most of the products.
    """
    from zmanifold.neighbors._shortlists import Shortlists

    n, k = len(points), indices.shape[1]
    n_others = n if asked.rows is None else n - 1
    spare = SPARE_CANDIDATES + (k // 3 if isinstance(coarse, HalfFilter) else 0)
    length = min(n_others, k + spare)
    threads = torch.get_num_threads()
    # Half of the memory is for the lists, half for the tiles and what their products pack.
    side = min(_TILE_SIDE, math.isqrt(memory // (16 * threads)))
    list_bytes = 8 * (Shortlists.width(length) + length)
    listed = memory // 2 // (list_bytes + 16 * points.shape[1])
    mirrored = asked.is_all and n > 4 * threads * side and n * list_bytes <= memory // 2
    place = torch.empty_like(order)
    place[order] = torch.arange(n)
    left: list[Tensor] = [indices[:0, 0]]
    for block in chunks(len(asked), n if mirrored else listed):
        at, own = asked.at(block), asked.own(block)
        if mirrored:
            rows, own_places = order, torch.arange(n)
            placed, sizes = coarse.placed_points()
            sizes = sizes[place]
        else:
            rows = torch.arange(len(at))
            own_places = torch.full_like(rows, -1) if own is None else place[own]
            placed, sizes = coarse.placed(at)
        lists = _filled(length, coarse, placed, own_places, rows, order, side, mirrored, sketch)
        ceiling, out = coarse.ceiling(sizes), (distances[block], indices[block])
        if in_order or distances.shape[1] > 1:
            measure_candidates(points, at, torch.from_numpy(lists.columns), *out, in_order)
        else:
            _measure_doubtful(points, at, lists, ceiling, coarse.floor(sizes), *out)
        if length < n_others:
            proven = torch.from_numpy(lists.limits) > ceiling.values(distances[block, -1])
            left.append((~proven).nonzero()[:, 0] + block.start)
    return torch.cat(left)


def _measure_doubtful(
    points: Float[Tensor, "n d"],
    at: Float[Tensor, "q d"],
    lists: Shortlists,
    ceiling: Bound,
    floor: Bound,
    distances: Float64[Tensor, "q 1"],
    indices: Int64[Tensor, "q k"],
) -> None:
    """Write the nearest candidates and the k-th distances, by all threads.

    Below the k-th smallest value v there are fewer than k points. So none of the points at
    distances whose ceiling is at most v is beyond the k-th neighbour; and it is no farther than
    the distances whose floor is above v.
    """
    from zmanifold._base.locality import walk
    from zmanifold.neighbors._shortlists import measure_between

    kth = torch.empty_like(distances[:, 0])

    def split(part: slice) -> None:
        lists.kth_values(indices.shape[1], part, kth.numpy())

    run_chunks(split, len(at), 4096, points.device)
    sure = floor.values(ceiling.distances(kth)).minimum(kth)
    possible = ceiling.values(floor.distances(kth))
    # Short lists have no k-th value: all of theirs is measured.
    bounds = torch.stack([sure, possible], dim=1)
    bounds[kth.isnan()] = bounds.new_tensor([-math.inf, math.inf])
    data, queries = points.numpy(), at.numpy()
    order = walk(lists.columns, data)
    found, near = distances.numpy(), indices.numpy()

    def work(part: slice) -> None:
        measure_between(data, queries, lists, bounds.numpy(), order[part], found, near)

    run_chunks(work, len(at), 1024, points.device)


def measure_candidates(
    points: Float[Tensor, "n d"],
    at: Float[Tensor, "q d"],
    candidates: Int[Tensor, "q c"],
    distances: Float64[Tensor, "q w"],
    indices: Int64[Tensor, "q k"],
    in_order: bool = True,
) -> None:
    """Write the nearest candidates on a CPU, as `_shortlists.measure`, by all threads."""
    from zmanifold._base.locality import walk
    from zmanifold.neighbors._shortlists import measure

    given = points.numpy(), at.numpy(), candidates.numpy(), distances.numpy(), indices.numpy()
    data, queries, listed, found, near = given
    order = walk(listed, data)

    def work(part: slice) -> None:
        measure(data, queries, listed, order[part], found, near, in_order=in_order)

    run_chunks(work, len(at), 1024, points.device)


def _filled(
    length: int,
    coarse: Filter | HalfFilter,
    placed: Float[Tensor, "q e"],
    own: Int64[Tensor, " q"],
    rows: Int64[Tensor, " q"],
    order: Int64[Tensor, " n"],
    side: int,
    mirrored: bool,
    sketch: Sketch | None,
) -> Shortlists:
    """Offer all products of queries and points to lists; return those in the order of `rows`."""
    from zmanifold.neighbors._shortlists import Shortlists

    lists = Shortlists.of(len(placed), length)
    _fill(lists, coarse, placed, own.numpy(), side, mirrored, sketch)
    dealt = Shortlists.of(len(placed), length, spare=False)

    def finish(part: slice) -> None:
        lists.finish(part)
        lists.deal(part, rows.numpy(), order.numpy(), dealt)

    run_chunks(finish, len(placed), 4096, placed.device)
    return dealt


def _fill(
    lists: Shortlists,
    coarse: Filter | HalfFilter,
    placed: Float[Tensor, "q e"],
    own: Int64[np.ndarray, " q"],
    side: int,
    mirrored: bool,
    sketch: Sketch | None,
) -> None:
    """Offer all products of queries and points to the lists."""
    n, q, threads = len(coarse.points), len(placed), torch.get_num_threads()
    squares = coarse.squares.numpy()
    # Few queries are cut finely enough to keep every thread busy.
    height = side if mirrored else min(side, -(-q // (4 * threads)))
    strips, bands = list(chunks(q, height)), list(chunks(n, side))
    tiles = [(i, j) for i in range(len(strips)) for j in range(i * mirrored, len(bands))]
    locks, seen = [threading.Lock() for _ in strips], [0 for _ in strips]
    left, right = placed, coarse.points
    if sketch is not None:
        left, right = sketch.points if mirrored else sketch.placed(placed), sketch.points

    def keep(i: int, columns: int) -> int:
        """Tell how many of so many columns more and those before are at most among the last."""
        seen[i] += columns
        return min(lists.length, _safe_rank(lists.length * seen[i] / n))

    def work(part: slice) -> None:
        for i, j in tiles[part]:
            rows, columns = strips[i], bands[j]
            tile = _as_array(product(left[rows], right[columns]))
            at = rows.start, columns.start
            given = swapped = None
            if sketch is not None:
                given = placed[rows].numpy(), coarse.points[columns].numpy()
                swapped = given[::-1]
            with locks[i]:
                kept = keep(i, tile.shape[1])
                lists.offer(tile, squares[columns], *at, own[rows], kept, given)
            if mirrored and i < j:
                with locks[j]:
                    kept = keep(j, tile.shape[0])
                    lists.offer_transposed(
                        tile, squares[rows], *at[::-1], own[columns], kept, swapped
                    )

    with full_precision():
        _guess_limits(lists, coarse, placed, side)
        run_chunks(work, len(tiles), threads, coarse.points.device)


def _guess_limits(
    lists: Shortlists, coarse: Filter | HalfFilter, placed: Float[Tensor, "q e"], side: int
) -> None:
    """Give the lists first limits, below which there are enough points with near certainty.

    Of points in random order, few more are among those that a list is to hold than their share.
    """
    n = len(coarse.points)
    # These products take no more memory than a tile.
    m = min(_SAMPLED, side // 2, n // 32)
    rank = _safe_rank(m * lists.length / n)
    if rank > m // 8:
        return
    squares, points = coarse.squares[:m].numpy(), coarse.points[:m]

    def work(part: slice) -> None:
        tile = _as_array(product(placed[part], points))
        lists.guess(tile, squares, part.start, rank)

    run_chunks(work, len(placed), torch.get_num_threads() * side, coarse.points.device)


def _as_array(
    tile: Float32[Tensor, "r c"] | BFloat16[Tensor, "r c"],
) -> Float32[np.ndarray, "r c"] | UInt16[np.ndarray, "r c"]:
    """Let NumPy see a tile, of bfloat16 the bits."""
    return (tile.view(torch.uint16) if tile.dtype == torch.bfloat16 else tile).numpy()


def _safe_rank(expected: float) -> int:
    """Return what a count of so many expected reaches in one case of 10,000 at most."""
    return math.ceil(expected + 4 * math.sqrt(expected) + 3)


def search_products(
    points: Float[Tensor, "n d"],
    asked: Queries,
    distances: Float64[Tensor, "q w"],
    indices: Int64[Tensor, "q k"],
    memory: int,
) -> None:
    """Search on any device with torch alone: whole rows of products, and their smallest.

    Parameters and result are those of `search_tiles`; the rows always come by distance.
    """
    n, d = points.shape
    k, w = indices.shape[1], distances.shape[1]
    n_others = n if asked.rows is None else n - 1
    n_candidates = min(n_others, k + SPARE_CANDIDATES)
    # Selecting first among group minima, then inside the chosen groups, looks at n/g + g*c
    # values instead of n; the sum is least at g = sqrt(n/c).
    n_groups_per = max(1, math.isqrt(n // n_candidates))
    n_padded = -(-n // n_groups_per) * n_groups_per
    coarse = Filter.of(points, torch.float32, n_padded, asked.points)
    left: list[Tensor] = [indices[:0, 0]]
    row_bytes = 4 * n_padded + 24 * n_groups_per * n_candidates + 24 * d
    parts = list(chunks(len(asked), min(memory // row_bytes, 4096)))
    buffer = points.new_empty((parts[0].stop, n_padded), dtype=torch.float32)
    for part in parts:
        at, own = asked.at(part), asked.own(part)
        placed, norms = coarse.placed(at)
        with full_precision():
            values = coarse.values(placed, out=buffer[: len(at)])
        if own is not None:
            values[torch.arange(len(own), device=own.device), own] = math.inf
        kept, candidates = _smallest(values, n_candidates, n_groups_per)
        # Ties shall not depend on the order in which the filter found them.
        candidates = candidates.sort(dim=1).values
        found, near = _nearest(points, at, candidates, k, memory)
        distances[part], indices[part] = found[:, -w:], near
        if n_candidates < n_others:
            proven = kept.amax(dim=1) > coarse.ceiling(norms).values(found[:, -1])
            left.append((~proven).nonzero()[:, 0] + part.start)
    _search_undecided(points, asked, torch.cat(left), distances, indices, memory)


def _search_undecided(
    points: Float[Tensor, "n d"],
    asked: Queries,
    left: Int64[Tensor, " left"],
    distances: Float64[Tensor, "q w"],
    indices: Int64[Tensor, "q k"],
    memory: int,
) -> None:
    """Search again, in float64 and with every point that could be among the k nearest.

    The k-th distance found so far bounds the true one from above: a point whose value shows that
    it lies farther cannot matter, and all others are compared by direct differences.
    """
    n, d = points.shape
    k, w = indices.shape[1], distances.shape[1]
    if len(left) <= _FEW:
        everyone = torch.arange(n, device=points.device)
        for part in chunks(len(left), memory // (24 * n)):
            positions = left[part]
            own = asked.own(positions)
            candidates = everyone.expand(len(positions), n)
            if own is not None:
                candidates = torch.where(everyone == own[:, None], -1, candidates)
            found, near = _nearest(points, asked.at(positions), candidates, k, memory)
            distances[positions], indices[positions] = found[:, -w:], near
        return
    pool = _first_copies(points, k + 1)
    fine = Filter.of(points[pool], torch.float64, len(pool), asked.points)
    for part in chunks(len(left), min(memory // (48 * len(pool) + 8 * d), 4096)):
        positions = left[part]
        at, own = asked.at(positions), asked.own(positions)
        placed, norms = fine.placed(at)
        possible = (
            fine.values(placed) <= fine.ceiling(norms).values(distances[positions, -1])[:, None]
        )
        if own is not None:
            possible &= pool != own[:, None]
        for chosen, candidates in _rectangles(possible):
            candidates = torch.where(candidates < 0, candidates, pool[candidates])
            found, near = _nearest(points, at[chosen], candidates, k, memory)
            at_rows = positions[chosen]
            distances[at_rows], indices[at_rows] = found[:, -w:], near


def _rectangles(
    mask: Bool[Tensor, "q m"],
) -> Iterator[tuple[Int64[Tensor, " r"], Int64[Tensor, "r c"]]]:
    """Yield rows with the columns where they are true, ascending, padded at the end with -1.

    Rows whose counts round up to the same power of two go together: at most half is padding.
    """
    counts = mask.sum(dim=1)
    rows, columns = mask.nonzero(as_tuple=True)
    slots = torch.arange(len(rows), device=mask.device) - (counts.cumsum(0) - counts)[rows]
    widths = torch.ceil(torch.log2(counts.double())).exp2().long()
    for width in sorted(set(widths.tolist())):
        chosen = (widths == width).nonzero()[:, 0]
        padded = rows.new_full((len(mask), width), -1)
        inside = widths[rows] == width
        padded[rows[inside], slots[inside]] = columns[inside]
        yield chosen, padded[chosen]


def _first_copies(points: Float[Tensor, "n d"], count: int) -> Int64[Tensor, " m"]:
    """Return the rows left when every point keeps only its first `count` exact copies.

    Equal distances come by row number, so the other copies are nobody's k nearest for k < count.
    """
    rows_as_bytes = points.cpu().numpy().view(np.dtype((np.void, points[0].nbytes)))[:, 0]
    _, group, sizes = np.unique(rows_as_bytes, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    copy_number = np.arange(len(order)) - np.repeat(sizes.cumsum() - sizes, sizes)
    return torch.from_numpy(np.sort(order[copy_number < count])).to(points.device)


def _smallest(
    values: Float32[Tensor, "q m"], count: int, n_groups_per: int
) -> tuple[Float32[Tensor, "q c"], Int64[Tensor, "q c"]]:
    """Return the `count` smallest values of each row and their columns, in no order.

    Columns are dealt into m/g groups of g. If a value v outside the `count` groups with the
    smallest minima were among the smallest, those groups would hold `count` values <= v.
    """
    q, m = values.shape
    n_groups = m // n_groups_per
    if n_groups_per == 1 or n_groups <= count:
        kept, columns = values.topk(count, dim=1, largest=False, sorted=False)
        return kept, columns
    grouped = values.view(q, n_groups_per, n_groups)
    groups = grouped.amin(dim=1).topk(count, dim=1, largest=False, sorted=False).indices
    inside = grouped.gather(2, groups[:, None, :].expand(-1, n_groups_per, -1))
    kept, position = inside.view(q, -1).topk(count, dim=1, largest=False, sorted=False)
    member, chosen = position // count, position % count
    return kept, member * n_groups + groups.gather(1, chosen)


def _nearest(
    points: Float[Tensor, "n d"],
    at: Float[Tensor, "q d"],
    candidates: Int64[Tensor, "q c"],
    k: int,
    memory: int,
) -> tuple[Float64[Tensor, "q k"], Int64[Tensor, "q k"]]:
    """Return the nearest candidates by direct differences in float64; -1 is none.

    Candidates come ascending: equal distances keep their order.
    """
    if points.device.type != "cpu":
        return _nearest_by_torch(points, at, candidates, k, memory)
    distances = points.new_empty((len(at), k), dtype=torch.float64)
    indices = torch.empty_like(distances, dtype=torch.int64)
    measure_candidates(points, at, candidates, distances, indices)
    return distances, indices


def _nearest_by_torch(
    points: Float[Tensor, "n d"],
    at: Float[Tensor, "q d"],
    candidates: Int64[Tensor, "q c"],
    k: int,
    memory: int,
) -> tuple[Float64[Tensor, "q k"], Int64[Tensor, "q k"]]:
    q, c = candidates.shape
    d = points.shape[1]
    distances = points.new_empty((q, c), dtype=torch.float64)

    def work(part: slice) -> None:
        # One row may have more candidates than fit: cut those too.
        for columns in chunks(c, memory // (48 * d)):
            # The difference of a float32 and a float64 tensor is one in float64, in one pass.
            near = torch.sub(points[candidates[part, columns]], at[part].double()[:, None, :])
            distances[part, columns] = root_sum_squares(near)
        distances[part].masked_fill_(candidates[part] < 0, math.inf)

    cache = CACHE_BYTES if points.device.type == "cpu" else memory
    run_chunks(work, q, cache // (24 * c * d), points.device)
    order = distances.argsort(dim=1, stable=True)[:, :k]
    return distances.gather(1, order), candidates.gather(1, order)
