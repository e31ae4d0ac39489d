"""Local intrinsic dimension of mixed data against the mixing strength."""

from __future__ import annotations

import contextlib
import inspect
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from zmanifold.arrays import (
    as_points,
    check_count,
    check_n_neighbors,
    largest_magnitude,
    rescaled,
    resolve_device,
    working_memory,
)
from zmanifold.chunking import chunks
from zmanifold.datasets import Dataset
from zmanifold.dimension import fukunaga_olsen
from zmanifold.errors import InputError
from zmanifold.mixers.by_name import mixers_by_name
from zmanifold.neighbors import search
from zmanifold.provenance import device_name, environment

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "Sweep", "SweepResult", "prepare_sweep", "sweep_id"]

COLUMNS = (
    "dataset",
    "mixer",
    "gamma",
    "alpha",
    "n_neighbors",
    "batch_size",
    "seed",
    "n_points",
    "n_queries",
    "id_mean",
    "id_std",
    "id_sem",
    "n_degenerate",
    "seconds",
    "device",
)

_ALPHA_FO = 0.05

# A seed's randomness is split by purpose, so that none shifts another.
_SHUFFLE, _QUERIES, _BATCHES = range(3)


@dataclass(frozen=True, eq=False)
class SweepResult:
    """What `sweep_id` measured.

    Attributes
    ----------
    rows : tuple of dict
        One row a cell (mixer and strength, number of neighbours, seed).
    settings : dict
        Settings, versions, device, start and duration, ready for JSON.

    Examples
    --------
    >>> import zmanifold as zm
    >>> X, _ = zm.make_helix(random_state=0)
    >>> result = zm.sweep_id(X, mixers=[None], n_neighbors=8, seeds=1, progress=False)
    >>> result.to_frame()[["mixer", "n_neighbors", "id_mean"]].values.tolist()
    [['none', 8, 1.0]]
    """

    rows: tuple[dict[str, Any], ...]
    settings: dict[str, Any] = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """Return the tidy table, one row a cell.

        Returns
        -------
        pandas.DataFrame
            Columns dataset, mixer, gamma, alpha (NaN where a mixer has none), n_neighbors,
            batch_size, seed, n_points, n_queries, id_mean, id_std and id_sem (standard deviation
            over the query points, and that divided by the root of their number), n_degenerate,
            seconds, device.
        """
        import pandas as pd

        return pd.DataFrame(list(self.rows), columns=list(COLUMNS))


def sweep_id(
    dataset_or_array: Any,
    *,
    mixers: Any,
    n_neighbors: int | Iterable[int] = (8, 128),
    batch_size: int = 32,
    seeds: int | Iterable[int] = 3,
    n_queries: int | None = None,
    device: str | torch.device = "auto",
    memory_limit: int | None = None,
    progress: bool = True,
) -> SweepResult:
    """Measure the local intrinsic dimension of a data set mixed in several ways.

    For each seed the data is shuffled and cut into batches; each mixer mixes every batch; the
    dimension of the mixed set is estimated by local PCA with the Fukunaga-Olsen rule at 5% (as
    in Fig. 6 of the ζ-mixup paper). One neighbour search serves all `n_neighbors`.

    Parameters
    ----------
    dataset_or_array : Dataset or array-like or torch.Tensor of shape (n, d)
        The data, d >= 2.
    mixers : mixer, None, str, iterable of these, or mapping of name to these
        What to sweep over, one mixer a strength: None or "none" for the original data, the
        mixers of this package, or any object with ``weights(batch_size)`` or a call
        ``(x, y)`` that returns the mixed batch, or a tuple that starts with it. A mapping's
        keys name its mixers in the table. An object's own randomness is repeatable if it takes a
        ``generator=`` or draws from torch's global one.
    n_neighbors : int or iterable of int, default=(8, 128)
        Neighbourhood sizes k, 2 <= k < n.
    batch_size : int, default=32
        Samples mixed with one another, 2 <= batch_size <= n. A short last batch is filled up
        from the start of the shuffle and only its own rows are kept: there are n mixed points,
        each from a full batch.
    seeds : int or iterable of int, default=3
        How many seeds (0, 1, ...), or the seeds. A cell depends on its own seed only. One seed
        means the same shuffle, query points and random numbers for every mixer and strength.
    n_queries : int, optional
        Estimate at so many random points; neighbours are still taken from all. All by default.
    device : str or torch.device, default="auto"
        Where to compute. Random numbers are drawn on the CPU, the same for every device.
    memory_limit : int, optional
        Bytes of working memory above the data, its mixed copy and one float32 copy of that.
    progress : bool, default=True
        Show a progress bar on a terminal or in a notebook.

    Returns
    -------
    SweepResult
        `to_frame()` gives the table, `settings` what it was computed with.

    Raises
    ------
    InputError
        If an argument is out of its range, before any work starts.

    Examples
    --------
    >>> import zmanifold as zm
    >>> X, _ = zm.make_helix(random_state=0)
    >>> mixers = [None, zm.Mixup(), zm.ZetaMixup(2.8), zm.ZetaMixup(15.0)]
    >>> frame = zm.sweep_id(X, mixers=mixers, n_neighbors=8, seeds=1, progress=False).to_frame()
    >>> frame[["mixer", "gamma", "id_mean"]].round(2).values.tolist()
    [['none', nan, 1.0], ['mixup', nan, 2.92], ['zeta', 2.8, 2.92], ['zeta', 15.0, 1.0]]
    """
    return prepare_sweep(
        dataset_or_array,
        mixers=mixers,
        n_neighbors=n_neighbors,
        batch_size=batch_size,
        seeds=seeds,
        n_queries=n_queries,
        device=device,
        memory_limit=memory_limit,
    ).run(progress=progress)


def prepare_sweep(
    dataset_or_array: Any,
    *,
    mixers: Any,
    n_neighbors: int | Iterable[int] = (8, 128),
    batch_size: int = 32,
    seeds: int | Iterable[int] = 3,
    n_queries: int | None = None,
    device: str | torch.device = "auto",
    memory_limit: int | None = None,
) -> Sweep:
    """Check everything that `sweep_id` checks and return the work, not yet begun.

    The parameters are those of `sweep_id`. Preparing several sweeps before the first one runs
    shows the last one's errors before any work.

    Returns
    -------
    Sweep
        Its `run` does the work.

    Raises
    ------
    InputError
        If an argument is out of its range.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.sweep import prepare_sweep
    >>> X, _ = zm.make_helix(500, random_state=0)
    >>> len(prepare_sweep(X, mixers=[None], n_neighbors=8).run(progress=False).rows)
    3
    """
    if isinstance(dataset_or_array, Dataset):
        dataset = dataset_or_array
    else:
        dataset = Dataset(dataset_or_array, None, None, None, "array")
    where = resolve_device(device, like=dataset.points)
    points = as_points(dataset.points, min_features=2, device=where)
    n = len(points)
    if dataset.labels is not None and len(dataset.labels) != n:
        raise InputError(
            f"labels has {len(dataset.labels)} entries for {n} points: give one label a point."
        )
    strengths = _as_strengths(mixers)
    k_values = _as_numbers("n_neighbors", n_neighbors)
    for k in k_values:
        check_n_neighbors(k, n, least=2)
    batch_size = check_count("batch_size", batch_size, least=2)
    if batch_size > n:
        raise InputError(f"batch_size={batch_size} is above the {n} points: lower batch_size.")
    seed_values = (
        list(range(check_count("seeds", seeds)))
        if isinstance(seeds, (int, np.integer))
        else _as_numbers("seeds", seeds)
    )
    q = n if n_queries is None else check_count("n_queries", n_queries, least=2)
    if q > n:
        raise InputError(f"n_queries={q} is above the {n} points: lower n_queries.")
    memory = working_memory(memory_limit, where)
    batches = _Batches(points, dataset.labels, dataset.image_shape, batch_size, memory)
    for strength in strengths:
        batches.mixed(strength.mixer, seed_values[0], trial=True)
    return Sweep(dataset.name, batches, strengths, k_values, seed_values, q)


@dataclass(frozen=True, eq=False)
class Sweep:
    """A checked sweep over one data set, made by `prepare_sweep`."""

    name: str
    batches: _Batches
    strengths: list[_Strength]
    k_values: list[int]
    seeds: list[int]
    n_queries: int

    def run(self, *, progress: bool = True) -> SweepResult:
        """Compute every cell.

        Parameters
        ----------
        progress : bool, default=True
            Show a progress bar on a terminal or in a notebook.

        Returns
        -------
        SweepResult
            The table and its settings.
        """
        started = datetime.now(UTC)
        clock = time.perf_counter()
        rows: list[dict[str, Any]] = []
        with _progress(progress, len(self.seeds) * len(self.strengths), self.name) as advance:
            for seed in self.seeds:
                for strength in self.strengths:
                    rows += self._cells(strength, seed)
                    advance()
        points = self.batches.points
        settings = {
            "dataset": self.name,
            "n_points": len(points),
            "n_features": points.shape[1],
            "dtype": str(points.dtype).removeprefix("torch."),
            "mixers": [{"label": s.label, "mixer": repr(s.mixer)} for s in self.strengths],
            "n_neighbors": self.k_values,
            "batch_size": self.batches.batch_size,
            "seeds": self.seeds,
            "n_queries": self.n_queries,
            "rule": {"ver": "FO", "alphaFO": _ALPHA_FO},
            "device": device_name(points.device),
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - clock, 3),
            **environment(),
        }
        return SweepResult(tuple(rows), settings)

    def _cells(self, strength: _Strength, seed: int) -> Iterator[dict[str, Any]]:
        """Yield a row for each neighbourhood size; one mixed set and one search serve all."""
        clock = time.perf_counter()
        n, memory = len(self.batches.points), self.batches.memory
        mixed = self.batches.mixed(strength.mixer, seed)
        scaled, _ = rescaled(mixed)
        query_rows = _query_rows(seed, n, self.n_queries).to(mixed.device)
        _, indices = search(scaled, max(self.k_values), rows=query_rows, memory=memory)
        shared = (time.perf_counter() - clock) / len(self.k_values)
        for k in self.k_values:
            clock = time.perf_counter()
            dimension, degenerate = fukunaga_olsen(
                mixed, indices[:, :k], alpha=_ALPHA_FO, memory=memory
            )
            ids = dimension.double()
            std = float(ids.std())
            yield {
                "dataset": self.name,
                "mixer": strength.label,
                "gamma": strength.gamma,
                "alpha": strength.alpha,
                "n_neighbors": k,
                "batch_size": self.batches.batch_size,
                "seed": seed,
                "n_points": n,
                "n_queries": self.n_queries,
                "id_mean": float(ids.mean()),
                "id_std": std,
                "id_sem": std / math.sqrt(self.n_queries),
                "n_degenerate": int(degenerate.sum()),
                "seconds": shared + time.perf_counter() - clock,
                "device": device_name(mixed.device),
            }


# --- what is swept --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Strength:
    label: str
    mixer: Any
    gamma: float
    alpha: float


def _as_strengths(mixers: Any) -> list[_Strength]:
    named = mixers.items() if isinstance(mixers, Mapping) else [(None, mixers)]
    strengths = [
        _as_strength(label, mixer) for label, group in named for mixer in _as_mixers(group)
    ]
    if not strengths:
        raise InputError("mixers is empty: give at least one mixer, or None for the original data.")
    seen: set[tuple[str, str, str]] = set()
    for strength in strengths:
        key = (strength.label, str(strength.gamma), str(strength.alpha))
        if key in seen:
            raise InputError(
                f"two mixers are called {strength.label!r} with gamma={strength.gamma} and "
                f"alpha={strength.alpha}: name them, mixers={{'a name': mixer, ...}}."
            )
        seen.add(key)
    return strengths


def _as_mixers(group: Any) -> list[Any]:
    one = group is None or isinstance(group, str) or callable(group) or hasattr(group, "weights")
    if not one and not isinstance(group, Iterable):
        return [group]
    mixers: list[Any] = []
    for mixer in [group] if one else group:
        mixers += mixers_by_name([mixer]) if isinstance(mixer, str) else [mixer]
    return mixers


def _as_strength(label: object, mixer: Any) -> _Strength:
    if mixer is not None and not (callable(mixer) or callable(getattr(mixer, "weights", None))):
        raise InputError(
            f"mixer {mixer!r} has neither weights(batch_size) nor a call (x, y): give a mixer "
            "object, or None for the original data."
        )
    if label is None:
        own = getattr(mixer, "label", None) or getattr(mixer, "__name__", type(mixer).__name__)
        label = "none" if mixer is None else own
    return _Strength(str(label), mixer, _strength_of(mixer, "gamma"), _strength_of(mixer, "alpha"))


def _strength_of(mixer: Any, name: str) -> float:
    value = getattr(mixer, name, None)
    return float(value) if isinstance(value, (int, float)) else math.nan


def _as_numbers(name: str, values: Any) -> list[int]:
    """Return one or several whole numbers as a list without repeats."""
    several = isinstance(values, Iterable) and not isinstance(values, str)
    numbers = [check_count(name, v, least=0) for v in (values if several else [values])]
    if not numbers:
        raise InputError(f"{name} is empty: give at least one number.")
    return list(dict.fromkeys(numbers))


# --- mixing a whole data set ----------------------------------------------------------------


def _stream(seed: int, purpose: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, purpose])


def _query_rows(seed: int, n: int, q: int) -> Int64[Tensor, " q"]:
    if q == n:
        return torch.arange(n)
    chosen = np.random.default_rng(_stream(seed, _QUERIES)).choice(n, q, replace=False)
    return torch.from_numpy(np.sort(chosen))


@dataclass(frozen=True, eq=False)
class _Batches:
    """A data set that can be shuffled, cut into batches and mixed."""

    points: Float[Tensor, "n d"]
    labels: NDArray[Any] | None
    image_shape: Sequence[int] | None
    batch_size: int
    memory: int

    def mixed(self, mixer: Any, seed: int, *, trial: bool = False) -> Float[Tensor, "m d"]:
        """Return the mixed set in shuffled order; the original's rows are in the same order.

        A trial mixes the first batch alone: it shows a mixer's errors before any work.
        """
        n = len(self.points)
        shuffle = np.random.default_rng(_stream(seed, _SHUFFLE)).permutation(n)
        order = torch.from_numpy(shuffle).to(self.points.device)
        if mixer is None:
            return self.points[order]
        n_batches = -(-n // self.batch_size)
        filled = torch.cat([order, order[: n_batches * self.batch_size - n]])
        rows = filled.view(n_batches, self.batch_size)
        # Each batch has a seed of its own: any batch can be mixed without the ones before it.
        seeds = _stream(seed, _BATCHES).generate_state(n_batches, np.uint64).tolist()
        linear = callable(getattr(mixer, "weights", None))
        if trial:
            rows, seeds = rows[:1], seeds[:1]
        out = (self._mixed_linearly if linear else self._mixed_by_call)(mixer, rows, seeds)
        if not math.isfinite(largest_magnitude(out)):
            raise InputError(
                f"mixer {mixer!r} made values that are not finite: check its arithmetic."
            )
        return out[:n]

    def _mixed_linearly(
        self, mixer: Any, rows: Int64[Tensor, "batches b"], seeds: list[int]
    ) -> Float[Tensor, "m d"]:
        b, d = self.batch_size, self.points.shape[1]
        out = self.points.new_empty((rows.numel(), d))
        draw = _seeded(mixer.weights)
        for part in chunks(len(rows), min(self.memory, 2**25) // (16 * b * (b + d))):
            weights = torch.stack([self._checked(draw(seed, b)) for seed in seeds[part]])
            # Mixed in float64 and rounded once: points that coincide exactly (γ = 0) stay equal.
            mixed = weights @ self.points[rows[part]].double()
            out[part.start * b : part.stop * b] = mixed.reshape(-1, d)
        return out

    def _checked(self, drawn: Any) -> Float[Tensor, "b b"]:
        weights: Tensor = torch.as_tensor(drawn, dtype=torch.float64, device=self.points.device)
        if weights.shape != (self.batch_size, self.batch_size):
            raise InputError(
                f"the mixer's weights have shape {tuple(weights.shape)} for a batch of "
                f"{self.batch_size}: return one row a mixed sample, one column a sample."
            )
        return weights

    def _mixed_by_call(
        self, mixer: Any, rows: Int64[Tensor, "batches b"], seeds: list[int]
    ) -> Float[Tensor, "m d"]:
        b, d = self.batch_size, self.points.shape[1]
        labels = np.zeros(len(self.points), np.int64) if self.labels is None else self.labels
        y = torch.from_numpy(labels).to(self.points.device)
        out = self.points.new_empty((rows.numel(), d))
        call = _seeded(mixer)
        for i, (batch, seed) in enumerate(zip(rows, seeds, strict=True)):
            x = self.points[batch]
            result = call(seed, x.view(b, *self.image_shape) if self.image_shape else x, y[batch])
            mixed = result[0] if isinstance(result, (tuple, list)) else result
            if not isinstance(mixed, Tensor) or mixed.numel() != b * d or len(mixed) != b:
                raise InputError(
                    f"the mixer returned {type(mixed).__name__} of shape "
                    f"{tuple(getattr(mixed, 'shape', ()))} for a batch of shape {tuple(x.shape)}: "
                    "return (x_mixed, y) with as many samples of the same shape."
                )
            out[i * b : (i + 1) * b] = mixed.detach().reshape(b, d)
        return out


def _seeded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make `function` a function of a seed as well, through a generator or torch's global state."""
    target = function.forward if isinstance(function, torch.nn.Module) else function
    try:
        parameters: Any = inspect.signature(target).parameters
    except ValueError:
        parameters = ()
    generator = torch.Generator()

    def explicit(seed: int, *args: Any) -> Any:
        return function(*args, generator=generator.manual_seed(seed))

    def through_global(seed: int, *args: Any) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return function(*args)

    return explicit if "generator" in parameters else through_global


@contextlib.contextmanager
def _progress(wanted: bool, total: int, name: str) -> Iterator[Callable[[], object]]:
    """Yield a function that advances a bar; the bar is only drawn for a person."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not wanted or not (console.is_terminal or console.is_jupyter):
        yield lambda: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(name, total=total)
        yield lambda: bar.advance(task)
