"""Speed against the tools that people use today, in one run.

Claim:    local ID, neighbours, sweeps and mixing are faster than the peers by the ratios asked for
Command:  make benchmark, or: python experiments/benchmark.py --row helix-8 --row knn-images
Needs:    the extra `benchmark` (scikit-dimension, kornia); Fashion-MNIST for two rows
Writes:   experiments/results/benchmark.json and benchmark.md (the table); benchmark-cuda for a GPU
Runtime:  about 25 minutes on 2 cores, 20 of them for the two rows of 60,000 images

Every row runs in a process of its own with pinned threads. Each side is warmed up, then the sides
take turns; a run repeats a short call for a quarter of a second; the median of the runs counts, and
of several forms of a peer the fastest. A peer that would take hours is extrapolated from a part,
which its name says. Peak memory is measured in yet other processes, one a side: the largest
resident size less that before the call, or of what computes on a GPU the largest allocation there.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Points = NDArray[Any]

RUNS = 5
FOLDER = Path(__file__).parent / "results"
PEERS = ("scikit-dimension", "scikit-learn", "kornia", "torchvision", "timm", "numba")
# Neighbourhoods from which scikit-dimension's time for 60,000 images is extrapolated.
SAMPLE = 1000
# Points of the CIFAR-sized sweep, its strengths, and the queries of the peer's search.
CIFAR_SIZE = 50_000
CIFAR_GAMMAS = tuple(float(g) / 4 for g in range(61))
CIFAR_QUERIES = 2000
# Figure 6's sweep: 16 strengths, two neighbourhood sizes, three seeds.
GAMMAS = tuple(float(g) for g in range(16))
NEIGHBORS = (8, 128)
SEEDS = 3
SHORTEST_RUN = 0.25
KORNIA_OPTIONS = {"p": 1.0, "data_keys": ["input", "class"]}


@dataclass(frozen=True)
class Sides:
    """What a row runs. A side that extrapolates returns its seconds, the others None.

    Attributes
    ----------
    ours : callable
        The package.
    peers : dict of str to callable
        The same work by others, by their names in the table.
    warm_up : callable
        Compiles and loads, on little data, what the first calls would.
    floor : callable
        Seconds that this machine needs for the operations or bytes that the method cannot
        avoid, at rates measured now; None where no such rate says much.
    """

    ours: Callable[[], float | None]
    peers: dict[str, Callable[[], float | None]]
    warm_up: Callable[[], object]
    floor: Callable[[], float] | None = None


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    work: str
    target: float
    make: Callable[..., Sides] = field(repr=False)
    arguments: tuple[Any, ...] = ()
    bound: str = ""
    device: str = "cpu"
    most_seconds: float | None = None


# --- what is compared -------------------------------------------------------------------------


def local_dimension(device: str, name: str, k: int) -> Sides:
    """FO at every point, neighbour search included."""
    import zmanifold as zm

    X = points_of(name)

    def peer(n_jobs: int) -> Callable[[], None]:
        return lambda: void(fitted_peer(X, n_neighbors=k, n_jobs=n_jobs))

    return Sides(
        lambda: void(zm.LocalPCA(n_neighbors=k, device=device).fit(X)),
        {f"scikit-dimension, n_jobs={n}": peer(n) for n in jobs()},
        lambda: warmed_up(X, k, device),
    )


def local_dimension_of_images(device: str, k: int) -> Sides:
    """FO at all 60,000 points against scikit-dimension's search and part of its PCAs."""
    import numpy as np
    import zmanifold as zm

    X = points_of("fashion-mnist")
    n = len(X)
    rows = np.random.default_rng(0).choice(n, SAMPLE, replace=False)

    def peer() -> float:
        clock = time.perf_counter()
        indices = scikit_learns(X, k)
        searched = time.perf_counter() - clock
        return searched + peers_seconds(X, precomputed_knn=indices[rows]) * n / SAMPLE

    return Sides(
        lambda: void(zm.LocalPCA(n_neighbors=k, device=device).fit(X)),
        {f"scikit-dimension, its PCAs from {SAMPLE:,} points": peer},
        lambda: warmed_up(X, k, device),
        lambda: products_floor(X, k, device),
    )


def neighbors_of_images(device: str, k: int) -> Sides:
    """Exact nearest neighbours, search alone."""
    import zmanifold as zm

    X = points_of("fashion-mnist")
    return Sides(
        lambda: void(zm.kneighbors(X, k, device=device)),
        {f"scikit-learn, n_jobs={jobs()[-1]}": lambda: void(scikit_learns(X, k))},
        lambda: (zm.kneighbors(X[:2000], k, device=device), scikit_learns(X[:2000], k)),
        lambda: products_floor(X, 0, device),
    )


def sweep(device: str) -> Sides:
    """Figure 6's sweep of the helix against the same loop over scikit-dimension."""
    import numpy as np
    import zmanifold as zm

    X = points_of("helix-r3")
    mixers = [zm.ZetaMixup(g) for g in GAMMAS]

    def peer() -> float:
        """One strength and seed."""
        clock = time.perf_counter()
        mixed = mixed_by_numpy(np.random.default_rng(0).permutation(X), 2.8)
        seconds = time.perf_counter() - clock
        seconds += sum(peers_seconds(mixed, n_neighbors=k) for k in NEIGHBORS)
        return seconds * len(GAMMAS) * SEEDS

    def ours() -> None:
        zm.sweep_id(
            X, mixers=mixers, n_neighbors=NEIGHBORS, seeds=SEEDS, device=device, progress=False
        )

    return Sides(
        ours,
        {"the same loop over scikit-dimension, from one γ and seed": peer},
        lambda: warmed_up(X, max(NEIGHBORS), device),
    )


def sweep_of_images(device: str) -> Sides:
    """Sweep as many colour images as CIFAR has for training, one seed, all points."""
    import numpy as np
    import zmanifold as zm

    X = cifar_sized(CIFAR_SIZE)
    n, k = len(X), max(NEIGHBORS)
    mixers = [zm.ZetaMixup(g) for g in CIFAR_GAMMAS]

    def peer() -> float:
        """One search and, for each neighbourhood size, one estimate, both of some points."""
        clock = time.perf_counter()
        indices = scikit_learns(X, k, CIFAR_QUERIES)
        seconds = (time.perf_counter() - clock) * n / CIFAR_QUERIES
        for size in NEIGHBORS:
            near = indices[np.arange(SAMPLE) % len(indices), :size]
            seconds += peers_seconds(X, precomputed_knn=near) * n / SAMPLE
        return seconds * len(CIFAR_GAMMAS)

    def ours() -> None:
        zm.sweep_id(X, mixers=mixers, n_neighbors=NEIGHBORS, seeds=1, device=device, progress=False)

    return Sides(
        ours,
        {f"scikit-dimension, from one γ, {CIFAR_QUERIES:,} queries and {SAMPLE:,} PCAs": peer},
        lambda: warmed_up(X, k, device),
        lambda: len(CIFAR_GAMMAS) * products_floor(X, k, device),
    )


def weights(device: str, batch_size: int) -> Sides:
    """ζ-mixup's weights of one batch."""
    import zmanifold as zm

    mixer = zm.ZetaMixup(2.8)
    return Sides(
        lambda: void(mixer.weights(batch_size, device=device)),
        {"NumPy, argsort twice": lambda: void(weights_by_numpy(batch_size, 2.8))},
        lambda: (mixer.weights(1024, device=device), weights_by_numpy(32, 2.8)),
        floor=lambda: 4 * batch_size**2 / copy_rate(device),
    )


def mixing(device: str, *shape: int) -> Sides:
    """Weights, samples and labels of a batch."""
    import torch
    import zmanifold as zm

    x = torch.rand(shape, device=device)
    y = torch.randint(0, 10, shape[:1], device=device)
    mixer = zm.ZetaMixup(2.8, num_classes=10)

    def of(call: Callable[..., object]) -> Callable[[], float | None]:
        def run() -> float | None:
            if device == "cpu":
                call(x, y)
                return None
            return cuda_seconds(lambda: call(x, y))

        return run

    peers = {name: of(peer) for name, peer in mixup_peers().items()}
    floor = 2 * x.numel() * 4 / copy_rate(device)
    floor = max(floor, 2 * shape[0] * x.numel() / product_rate("float32", device))
    calls: list[Callable[..., object]] = [mixer, *mixup_peers().values()]
    return Sides(of(mixer), peers, lambda: [call(x, y) for call in calls], lambda: floor)


def from_the_shell(device: str) -> Sides:
    """Sweep from the command line, imports included, against a script."""
    command = [
        str(Path(sys.executable).with_name("zmanifold")),
        *("sweep-id", "helix-r3", "--gamma", "2.8", "--neighbors", "8", "--device", device),
    ]

    def run(arguments: list[str]) -> Callable[[], None]:
        return lambda: void(subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL))

    return Sides(
        run(command),
        {
            "a script with scikit-dimension": run([sys.executable, __file__, "--peer-script"]),
        },
        # What numba compiled once stays on disk.
        run(command),
    )


ROWS = {
    "helix-8": Row(
        "FO at every point, helix R³, n = 8,192, k = 8", 250, local_dimension, ("helix-r3", 8),
        "the tree and its search, two thirds; counting, a quarter; Python and threads",
    ),
    "helix-128": Row(
        "the same, k = 128", 50, local_dimension, ("helix-r3", 128),
        "tree search, seven tenths, most of it distances and sorting; counting, a fifth",
    ),
    "paraboloid-128": Row(
        "paraboloid R¹², n = 8,192, k = 128", 30, local_dimension, ("paraboloid-r12", 128),
        "tree search, three quarters; counting, a quarter",
    ),
    "digits-128": Row(
        "digits 1,797 x 64, k = 128", 10, local_dimension, ("digits", 128),
        "scatter matrices and their reduction, two thirds",
    ),
    "images-128": Row(
        "Fashion-MNIST 60,000 x 784, k = 128, all points", 15, local_dimension_of_images, (128,),
        "the search, a third to a half; each neighbourhood's products and tridiagonal form",
    ),
    "knn-images": Row(
        "exact 128-NN of Fashion-MNIST, search alone", 4, neighbors_of_images, (128,),
        "products of all pairs and lists of candidates, six to nine tenths together; distances",
    ),
    "sweep": Row(
        "Figure 6's sweep (16 γ, k = 8 and 128, 3 seeds, helix R³)", 60, sweep, (),
        "tree search, two thirds; mixing batch by batch, a quarter",
    ),
    "weights": Row(
        "mixing weights, m = 4,096", 3, weights, (4096,), "a random number for each weight",
    ),
    "mix-224": Row(
        "ζ-mixup of [32, 3, 224, 224], weights, mixing and labels", 3, mixing, (32, 3, 224, 224),
        "the dense product, most of it waiting for memory",
    ),
    "mix-32": Row(
        "the same of [128, 3, 32, 32]", 3, mixing, (128, 3, 32, 32),
        "the dense product, two thirds: mixup reads two samples an output, ζ-mixup all 128",
    ),
    "shell": Row(
        "from the shell to the result of sweep-id helix-r3 --gamma 2.8 --neighbors 8", 2,
        from_the_shell, (), "importing torch and scikit-learn",
    ),
    "images-128-cuda": Row(
        "Fashion-MNIST 60,000 x 784, k = 128, all points", 500, local_dimension_of_images, (128,),
        device="cuda", most_seconds=1,
    ),
    "cifar-sweep-cuda": Row(
        "a sweep of 50,000 x 3,072, 61 γ, k = 8 and 128, all points", 1, sweep_of_images, (),
        device="cuda", most_seconds=60,
    ),
    "mix-224-cuda": Row(
        "ζ-mixup of [32, 3, 224, 224], weights, mixing and labels", 1, mixing, (32, 3, 224, 224),
        device="cuda",
    ),
    "mix-32-cuda": Row(
        "the same of [128, 3, 32, 32]", 1, mixing, (128, 3, 32, 32), device="cuda",
    ),
}  # fmt: skip


# --- the peers --------------------------------------------------------------------------------


def fitted_peer(X: Points, *, n_jobs: int, **options: Any) -> Any:
    """Fit scikit-dimension's pointwise FO, one BLAS thread a job: with two it is slower."""
    import skdim
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    with (
        warnings.catch_warnings(),
        threadpool_limits(1),
        parallel_config("loky", inner_max_num_threads=1),
    ):
        warnings.simplefilter("ignore")
        return skdim.id.lPCA(ver="FO").fit_pw(X, n_jobs=n_jobs, **options)


def peers_seconds(X: Points, **options: Any) -> float:
    """Time scikit-dimension with each number of processes, and return the least."""
    seconds = []
    for n_jobs in jobs():
        clock = time.perf_counter()
        fitted_peer(X, n_jobs=n_jobs, **options)
        seconds.append(time.perf_counter() - clock)
    return min(seconds)


def warmed_up(X: Points, k: int, device: str) -> None:
    """Run both sides on the first points."""
    import zmanifold as zm

    some = X[: k + 40]
    zm.LocalPCA(n_neighbors=k, device=device).fit(some)
    for n_jobs in jobs():
        fitted_peer(some, n_neighbors=k, n_jobs=n_jobs)


def scikit_learns(X: Points, k: int, n_queries: int | None = None) -> Any:
    """Search with scikit-learn, at all points or at the first as if they were new."""
    from sklearn.neighbors import NearestNeighbors

    fitted = NearestNeighbors(n_neighbors=k, n_jobs=jobs()[-1]).fit(X)
    return fitted.kneighbors(None if n_queries is None else X[:n_queries], return_distance=False)


def weights_by_numpy(batch_size: int, gamma: float) -> Points:
    """Weights as the paper's released code draws them: ranks of random numbers."""
    import numpy as np

    ranks = np.random.default_rng().random((batch_size, batch_size)).argsort(1).argsort(1)
    series = np.arange(1.0, batch_size + 1) ** -gamma
    return np.asarray((series / series.sum())[ranks])


def mixed_by_numpy(X: Points, gamma: float) -> Points:
    """ζ-mixup of a whole set in batches of 32."""
    import numpy as np

    batches = X.reshape(-1, 32, X.shape[1])
    return np.concatenate([weights_by_numpy(32, gamma) @ batch for batch in batches])


def mixup_peers() -> dict[str, Callable[..., object]]:
    """Return the mixups of other libraries that can be imported."""
    peers: dict[str, Callable[..., object]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for title, module, name, options in (
            ("kornia RandomMixUpV2", "kornia.augmentation", "RandomMixUpV2", KORNIA_OPTIONS),
            ("torchvision v2.MixUp", "torchvision.transforms.v2", "MixUp", {"num_classes": 10}),
            ("timm Mixup", "timm.data", "Mixup", {"num_classes": 10}),
        ):
            with contextlib.suppress(ImportError):
                peers[title] = getattr(importlib.import_module(module), name)(**options)
    return peers


def peer_script() -> None:
    """Do what the command line of the row `shell` does, as one would by hand."""
    import numpy as np
    import skdim

    t = np.random.default_rng(0).uniform(0, 8 * np.pi, 8192)
    X = np.c_[np.cos(t), np.sin(t), t / (2 * np.pi)]
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        batches = rng.permutation(X).reshape(-1, 32, 3)
        lam = rng.beta(1, 1, (len(batches), 1, 1))
        mixup = lam * batches + (1 - lam) * rng.permuted(batches, axis=1)
        zeta = mixed_by_numpy(batches.reshape(-1, 3), 2.8)
        for mixed in (batches.reshape(-1, 3), mixup.reshape(-1, 3), zeta):
            print(skdim.id.lPCA(ver="FO").fit_pw(mixed, n_neighbors=8).dimension_pw_.mean())


# --- the machine ------------------------------------------------------------------------------


def points_of(name: str) -> Points:
    """Load a data set's points as an array."""
    import numpy as np
    import zmanifold as zm

    return np.ascontiguousarray(zm.load_dataset(name, random_state=0).points)


def cifar_sized(n: int) -> Points:
    """Draw smooth random colour images of 32 x 32 pixels, with the spectrum of natural ones.

    Their amplitudes fall as one over the frequency, and the three channels are much alike.
    """
    import numpy as np
    from scipy import fft

    rng = np.random.default_rng(0)
    across, down = np.meshgrid(fft.fftfreq(32), fft.fftfreq(32))
    amplitude = 1 / np.maximum(np.hypot(across, down), 1 / 32)
    noise = rng.standard_normal((n, 3, 32, 32), dtype=np.float32)
    noise += 2 * rng.standard_normal((n, 1, 32, 32), dtype=np.float32)
    images = fft.ifft2(amplitude.astype(np.float32) * fft.fft2(noise, workers=-1), workers=-1).real
    return np.ascontiguousarray(images.reshape(n, -1), dtype=np.float32)


def jobs() -> tuple[int, ...]:
    """Return the numbers of processes that a peer may take, the faster counts."""
    return 1, int(os.environ.get("OMP_NUM_THREADS", "2"))


def products_floor(X: Points, k: int, device: str) -> float:
    """Seconds for the products of all pairs and the 64-bit products of each neighbourhood.

    On a CPU products of a matrix with itself are made but half.
    """
    n, d = X.shape
    once = 1 if device == "cpu" else 2
    rate = product_rate(proposing_dtype(device), device)
    seconds = once * n * n * proposing_columns(X, device) / rate
    return float(seconds + once * n * k * k * d / product_rate("float64", device))


def proposing_columns(X: Points, device: str) -> int:
    """Count the columns that the products of all pairs have, less than features for projections."""
    import numpy as np
    import torch
    from zmanifold._base.matmul import multiplies_slowly
    from zmanifold.neighbors._projections import Projections

    n: int = X.shape[0]
    d: int = X.shape[1]
    if device != "cpu" or not multiplies_slowly():
        return d
    some = np.random.default_rng(0).permutation(n)[:10_000]
    sample = torch.from_numpy(X[some] - X.mean(axis=0)).float()
    projections = Projections.of(sample, max(NEIGHBORS) / n)
    return d if projections is None else projections.points.shape[1]


@cache
def product_rate(dtype: str, device: str) -> float:
    """Multiplications and additions a second in a matrix product, the best of six."""
    import torch
    from zmanifold._base.matmul import product

    n = 2048 if device == "cpu" else 8192
    a = torch.ones(n, n, dtype=getattr(torch, dtype), device=device)
    # Of a matrix with itself NumPy would form but half.
    b = a.clone()

    def multiply() -> float | None:
        if device != "cpu":
            return cuda_seconds(lambda: a @ b.mT, repeats=3)
        void(a @ b.mT if dtype == "float64" else product(a, b))
        return None

    def by_numpy() -> None:
        void(a.numpy() @ b.numpy().T)

    # On other makers' CPUs than Intel's torch does in float64 without AVX-512, NumPy does not.
    runs = [multiply, by_numpy] if device == "cpu" and dtype == "float64" else [multiply]
    return 2 * n**3 / min(seconds_of(run) for run in runs for _ in range(6))


def proposing_dtype(device: str) -> str:
    """Name the dtype in which the search proposes candidates."""
    from zmanifold._base.matmul import multiplies_bfloat16

    return "bfloat16" if device == "cpu" and multiplies_bfloat16() else "float32"


@cache
def copy_rate(device: str) -> float:
    """Bytes a second read and written in a copy too large for the caches, the best of five."""
    import torch

    a = torch.ones(2**26, device=device)
    b = torch.empty_like(a)

    def copy() -> float | None:
        if device == "cpu":
            b.copy_(a)
            return None
        return cuda_seconds(lambda: b.copy_(a))

    return 8 * len(a) / min(seconds_of(copy) for _ in range(6))


def cuda_seconds(call: Callable[[], object], repeats: int = 20) -> float:
    """Time a call on the GPU by events; 256 MiB written before each leave nothing in its L2."""
    import torch

    flush = torch.empty(2**26, device="cuda")
    Event: Any = torch.cuda.Event
    events = [[Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for start, stop in events:
        flush.zero_()
        start.record()
        call()
        stop.record()
    torch.cuda.synchronize()
    return float(median(start.elapsed_time(stop) for start, stop in events)) / 1000


def seconds_of(run: Callable[[], float | None]) -> float:
    """Return the seconds that a run extrapolated, or those that one call took.

    Short calls are repeated for a quarter of a second: one alone would measure how cold the
    caches are after the other side's turn.
    """
    calls, clock = 0, time.perf_counter()
    while True:
        extrapolated = run()
        calls += 1
        passed = time.perf_counter() - clock
        if extrapolated is not None:
            return extrapolated
        if passed > SHORTEST_RUN:
            return passed / calls


def void(_: object) -> None:
    """Drop a result."""


def peak_memory(run: Callable[[], object]) -> int:
    """Bytes of the largest resident size during a call less that before it (Linux).

    If the call allocates memory of a GPU, the largest allocation there counts instead.
    """
    import torch

    def status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    before = status("VmRSS")
    # 5 resets the high-water mark.
    Path("/proc/self/clear_refs").write_text("5")
    on_gpu = 0
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        on_gpu = -torch.cuda.memory_allocated()
    run()
    if torch.cuda.is_available():
        on_gpu += torch.cuda.max_memory_allocated()
    return max(0, on_gpu or status("VmHWM") - before)


def machine(threads: int) -> dict[str, Any]:
    """Describe where the numbers come from."""
    from zmanifold._base.provenance import environment

    found = environment()
    assert isinstance(found["versions"], dict)
    for package in PEERS:
        try:
            found["versions"][package] = version(package)
        except PackageNotFoundError:
            continue
    import torch

    found["instructions"] = torch.backends.cpu.get_cpu_capability()
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found | {"threads": threads}


# --- the runs ---------------------------------------------------------------------------------


def measure(name: str, runs: int) -> dict[str, Any]:
    """Time a row's sides in turn; called in the row's own process."""
    row = ROWS[name]
    sides = row.make(row.device, *row.arguments)
    calls = {"zmanifold": sides.ours, **sides.peers}
    sides.warm_up()
    seconds: dict[str, list[float]] = {side: [] for side in calls}
    for _ in range(runs):
        for side, call in calls.items():
            seconds[side].append(seconds_of(call))
    floor = None if sides.floor is None else sides.floor()
    return {"seconds": seconds, "floor": floor}


def measure_memory(name: str, side: str) -> int:
    """Run one side once; called in a process of its own."""
    row = ROWS[name]
    sides = row.make(row.device, *row.arguments)
    sides.warm_up()
    return peak_memory(sides.ours if side == "zmanifold" else sides.peers[side])


def in_a_process(arguments: list[str], threads: int) -> Any:
    """Run this file with pinned threads and read the JSON that it prints last."""
    names = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    pinned = {f"{name}_NUM_THREADS": str(threads) for name in names}
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        env=os.environ | pinned,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main(
    row: Annotated[
        list[str] | None, typer.Option(help=f"Rows to run, all by default: {', '.join(ROWS)}.")
    ] = None,
    runs: Annotated[int, typer.Option(help="Timed runs of each side.")] = RUNS,
    threads: Annotated[int, typer.Option(help="Threads of every library.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = FOLDER,
    child: Annotated[str | None, typer.Option(hidden=True)] = None,
    side: Annotated[str | None, typer.Option(hidden=True)] = None,
    script: Annotated[bool, typer.Option("--peer-script", hidden=True)] = False,
) -> None:
    """Run the benchmark and write its table."""
    if script:
        peer_script()
    elif child is not None:
        found = measure(child, runs) if side is None else measure_memory(child, side)
        print(json.dumps(found))
    else:
        import torch

        here = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
        names = row or [name for name in ROWS if ROWS[name].device in here]
        for device, file in (("cpu", "benchmark"), ("cuda", "benchmark-cuda")):
            part = [name for name in names if ROWS[name].device == device]
            if part:
                compare(part, runs, threads, out, file)


def compare(names: list[str], runs: int, threads: int, out: Path, file: str) -> None:
    """Run rows one after the other; each finished one is in the table at once."""
    from zmanifold._base.files import write_atomically, write_json

    out.mkdir(parents=True, exist_ok=True)
    where = machine(threads)
    rows: dict[str, Any] = {}
    if (out / f"{file}.json").exists():
        before = json.loads((out / f"{file}.json").read_text())
        # Rows of the same machine and versions stay until they are run again.
        if before["machine"] == where:
            rows = {row["row"]: row for row in before["rows"]}
    for name in names:
        found = in_a_process(["--child", name, "--runs", str(runs)], threads)
        memory = {
            side: in_a_process(["--child", name, "--side", side], threads)
            for side in found["seconds"]
            if name != "shell"
        }
        rows[name] = summary(name, found, memory)
        print(to_markdown([rows[name]]).splitlines()[-1], flush=True)
        ordered = [rows[name] for name in ROWS if name in rows]
        content = {
            "command": "python experiments/benchmark.py",
            "rows": ordered,
            "machine": where,
        }
        write_json(out / f"{file}.json", content)
        write_atomically(out / f"{file}.md", partial(Path.write_text, data=to_markdown(ordered)))


def summary(name: str, found: dict[str, Any], memory: dict[str, int]) -> dict[str, Any]:
    """Put a row's numbers together; the fastest peer counts."""
    medians = {side: median(seconds) for side, seconds in found["seconds"].items()}
    ours = medians.pop("zmanifold")
    peer = min(medians, key=lambda side: medians[side])
    row = ROWS[name]
    return {
        "row": name,
        "work": row.work,
        "seconds": found["seconds"],
        "memory": memory,
        "ours": ours,
        "peer": peer,
        "theirs": medians[peer],
        "ratio": medians[peer] / ours,
        "target": row.target,
        "most_seconds": row.most_seconds,
        "floor": found["floor"],
        "bound": row.bound,
    }


def to_markdown(rows: list[dict[str, Any]]) -> str:
    """Write the table; the spread is the half range of the runs over their median."""

    def timed(seconds: list[float]) -> str:
        middle = median(seconds)
        text = f"{middle:.1f} s" if middle >= 1 else f"{middle * 1e3:.3g} ms"
        return f"{text} ± {(max(seconds) - min(seconds)) / 2 / middle:.0%}"

    def megabytes(row: dict[str, Any]) -> str:
        sizes = [row["memory"].get(side) for side in ("zmanifold", row["peer"])]
        return " / ".join("–" if size is None else f"{size / 2**20:.0f}" for size in sizes)

    def asked(row: dict[str, Any]) -> str:
        time = "" if row["most_seconds"] is None else f", {row['most_seconds']:g} s"
        return f"{row['target']:g}x{time}"

    head = [
        "| work | peer | peer's time | ours | ratio | asked | memory, MiB: ours / peer "
        "| limit | what holds it |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines = [
        f"| {row['work']} | {row['peer']} | {timed(row['seconds'][row['peer']])} "
        f"| {timed(row['seconds']['zmanifold'])} | **{row['ratio']:.3g}x** | {asked(row)} "
        f"| {megabytes(row)} "
        f"| {'–' if row['floor'] is None else format(row['floor'] / row['ours'], '.0%')} "
        f"| {row['bound']} |"
        for row in rows
    ]
    return "\n".join([*head, *lines]) + "\n"


if __name__ == "__main__":
    typer.run(main)
