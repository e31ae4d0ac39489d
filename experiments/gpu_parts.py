"""One part of gpu.py, in a process of its own: what it finds goes to a file, a line at a time.

A row is written as soon as it is measured. One that fails says why and the next one is measured.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import torch
import zmanifold as zm
from zmanifold._base.provenance import environment

import benchmark
from gpu_timing import Meter, what_holds

SHAPES: dict[str, tuple[int, ...]] = {"224": (32, 3, 224, 224), "32": (128, 3, 32, 32)}
TINY_SHAPES: dict[str, tuple[int, ...]] = {"224": (4, 3, 8, 8), "32": (6, 3, 4, 4)}
MIXERS = {
    "zeta": zm.ZetaMixup(2.8, num_classes=10),
    "zeta of a random γ": zm.ZetaMixup((1.8, 4.0), num_classes=10),
    "mixup": zm.Mixup(num_classes=10),
}
PACKAGES = ("triton", "torchvision", "timm", "numba", "pytest", "scikit-dimension")
# Timed runs of a call, and the strengths from which a sweep is extrapolated.
RUNS = 3


@dataclass(frozen=True)
class Job:
    """What gpu.py asks of a part.

    Attributes
    ----------
    part : str
        Its name.
    device : str
        "cuda", "cpu" or "lazy".
    tiny : bool
        Whether sizes are small.
    epochs : int
        Of each training.
    ends : float
        When the part is stopped, as `time.time` counts.
    lines, scratch, out : str
        The file for rows, the folder for what is of no use later, and that of the results.
    rows : list of str
        Those to profile.
    """

    part: str
    device: str
    tiny: bool
    epochs: int
    ends: float
    lines: str
    scratch: str
    out: str
    rows: list[str]

    @property
    def computing(self) -> str:
        """The device to ask the package for; it does not know "lazy" by name."""
        return "auto" if self.device == "lazy" else self.device

    @cached_property
    def meter(self) -> Meter:
        """What measures there."""
        return Meter(self.device, 2 if self.tiny else 60)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Neighbourhood sizes."""
        return (4, 8) if self.tiny else benchmark.NEIGHBORS

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the batches that are mixed, by the suffix of their rows."""
        return TINY_SHAPES if self.tiny else SHAPES

    def tell(self, row: str, **values: Any) -> None:
        """Write a row."""
        with Path(self.lines).open("a", encoding="utf-8") as out:
            out.write(json.dumps({"row": row} | values) + "\n")

    @contextlib.contextmanager
    def attempt(self, row: str, **values: Any) -> Iterator[None]:
        """Write why a row failed, with what is known of it."""
        try:
            yield
        except Exception as error:
            message = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            print(f"{row}: {message}", file=sys.stderr)
            self.tell(row, **values, error=message)


def main(text: str) -> None:
    """Run a part."""
    job = Job(**json.loads(text))
    if job.device == "lazy":
        compute_on_lazy()
    PARTS[job.part](job)


def compute_on_lazy() -> None:
    """Let the package compute on torch's lazy device, as where a GPU is."""
    from torch._lazy import ts_backend

    start: Callable[[], object] = ts_backend.init
    start()
    # A module that is imported later would have the functions that are replaced here.
    for found in pkgutil.walk_packages(zm.__path__, "zmanifold."):
        if not found.name.endswith(("__main__", "_triton")):
            importlib.import_module(found.name)
    for name, module in list(sys.modules.items()):
        if name.startswith("zmanifold."):
            for function, result in (
                ("resolve_device", torch.device("lazy")),
                ("working_memory", 2**26),
            ):
                if hasattr(module, function):
                    setattr(module, function, lambda *_, result=result, **__: result)


# --- the parts --------------------------------------------------------------------------------


def machine(job: Job) -> None:
    """Say what runs here."""
    found: dict[str, Any] = environment()
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found["versions"][package] = version(package)
    found["cuda"] = torch.version.cuda if torch.cuda.is_available() else None
    name = job.device
    if found["cuda"]:
        name = torch.cuda.get_device_name()
        found["gpu_memory_gib"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30)
    job.tell("machine", name=name if job.device == "cuda" else job.device, **found)


def mixers(job: Job) -> None:
    """Time mixing of weights, samples and labels, alone and against a copy of the samples."""
    calls: dict[str, Callable[[], object]] = {}
    found: dict[str, dict[str, Any]] = {}
    for suffix, shape in job.shapes.items():
        x, y = batch(job, shape)
        calls[f"copy-{suffix}"] = partial(torch.empty_like(x).copy_, x)
        calls |= {f"{name}-{suffix}": partial(mixer, x, y) for name, mixer in MIXERS.items()}
        found |= {row: {"shape": shape} for row in calls if row not in found}
    for row, call in calls.items():
        found[row]["work"] = row.rsplit("-", 1)[0]
        with job.attempt(row, **found[row]):
            found[row] |= mixing_times(job.meter, call)
            job.tell(row, **found[row])
    # A capture that fails may leave the GPU unusable for this process: captures come last.
    for row, call in calls.items():
        values = found[row]
        with job.attempt(row, **values):
            values["graph"] = job.meter.seconds(job.meter.graphed(call))
            copy = found[f"copy-{row.rsplit('-', 1)[1]}"].get("graph")
            values["copies"] = None if copy is None else values["graph"] / copy
            job.tell(row, **values)


def dimension(job: Job) -> None:
    """Time local dimension and neighbours at every point of an image set."""
    X, name = images(job)
    k = job.sizes[-1]
    for row, title, call in (
        ("dimension", "FO at every point", lambda: fitted(job, X)),
        ("neighbours", "exact search alone", lambda: searched(job, X)),
    ):
        work = f"{title}, {name} {len(X):,} x {X.shape[1]}, k = {k}"
        with job.attempt(row, work=work):
            timed(job, row, work, call, 1 if job.tiny else RUNS)


def sweep(job: Job) -> None:
    """Time a sweep of as many colour images as CIFAR has, at first from three strengths."""
    X, gammas = colours(job), strengths(job)
    work = f"a sweep of {len(X):,} x {X.shape[1]}, {len(gammas)} γ, k = {job.sizes}, all points"
    with job.attempt("sweep", work=work):
        first = job.meter.wall_seconds(lambda: swept(job, X, gammas[-1:]))
        some = gammas[-RUNS:]
        seconds = job.meter.wall_seconds(lambda: swept(job, X, some)) * len(gammas) / len(some)
        values: dict[str, Any] = {"work": work, "first": first}
        note = f"extrapolated from {len(some)} γ"
        job.tell("sweep", **values, seconds=seconds, note=note)
        if time.time() + 1.1 * seconds + 5 > job.ends:
            return
        taken = []
        memory = job.meter.peak_bytes(
            lambda: taken.append(job.meter.wall_seconds(lambda: swept(job, X, gammas)))
        )
        job.tell("sweep", **values, seconds=taken[0], memory=memory)


def peers(job: Job) -> None:
    """Time what others offer for the rows of before."""
    for suffix, shape in job.shapes.items():
        x, y = batch(job, shape)
        for name, mixup in others().items():
            values = {"work": name, "shape": shape, "peer": True}
            with job.attempt(f"{name}-{suffix}", **values):
                # Some write into what they are given.
                times = mixing_times(job.meter, partial(mixup, x.clone(), y))
                job.tell(f"{name}-{suffix}", **values, **times)
    with job.attempt("scikit-dimension", work="scikit-dimension"):
        X, _ = images(job)
        queries, some, k = (40, 20, 8) if job.tiny else (2000, benchmark.SAMPLE, job.sizes[-1])
        clock = time.perf_counter()
        indices = benchmark.scikit_learns(X, k, queries)
        seconds = (time.perf_counter() - clock) * len(X) / queries
        work = f"scikit-dimension's FO on the CPU, from {queries:,} queries and {some:,} PCAs"
        seconds += benchmark.peers_seconds(X, precomputed_knn=indices[:some]) * len(X) / some
        job.tell("scikit-dimension", work=work, seconds=seconds, peer=True)


def table_4(job: Job) -> None:
    """Train Table 4's networks, all at a time, and read their accuracies."""
    script = str(Path(__file__).with_name("table_4.py"))
    # Training takes generators of the device, which lazy does not have.
    device = "cpu" if job.device == "lazy" else job.device
    options = ["--device", device, "--epochs", str(job.epochs)]
    options += ["--checkpoints", str(Path(job.scratch, "checkpoints")), "--out", job.out]
    if job.tiny:
        options = [*options, "--arch", "small", "--epochs", "1", "--batch-size", "64"]
    clock = time.perf_counter()
    trained = [
        subprocess.Popen([sys.executable, script, *options, "--only", str(number)])
        for number in range(3)
    ]
    codes = [process.wait() for process in trained]
    if any(codes):
        raise SystemExit(f"the trainings ended with the exit codes {codes}")
    subprocess.run([sys.executable, script, *options], check=True)
    found = json.loads(Path(job.out, "table_4.json").read_text(encoding="utf-8"))
    for name, percent in found["percent"].items():
        job.tell(
            f"table 4: {name}",
            model=name,
            percent=percent,
            paper=found["paper_percent"][name],
            epochs=len(found["models"][name]["history"]),
            seconds=found["seconds"][name],
        )
    job.tell("table 4", seconds=time.perf_counter() - clock)


def profile(job: Job) -> None:
    """Show what holds the rows that miss their goals."""
    makers: dict[str, Callable[[], Callable[[], object]]] = {
        "dimension": lambda: partial(fitted, job, images(job)[0]),
        "neighbours": lambda: partial(searched, job, images(job)[0]),
        "sweep": lambda: partial(swept, job, colours(job), strengths(job)[-1:]),
    }
    for suffix, shape in job.shapes.items():
        for name, mixer in MIXERS.items():
            makers[f"{name}-{suffix}"] = partial(mixing, job, mixer, shape)
    for row in job.rows:
        if row in makers:
            with job.attempt(f"profile: {row}", of=row):
                call = makers[row]()
                call()
                found = job.meter.profile(call)
                found["kernels"] = found["kernels"][:10]
                job.tell(f"profile: {row}", of=row, holds=what_holds(found), **found)


PARTS: dict[str, Callable[[Job], None]] = {
    "machine": machine,
    "mixers": mixers,
    "dimension": dimension,
    "sweep": sweep,
    "peers": peers,
    "table 4": table_4,
    "profile": profile,
}


# --- what they measure ------------------------------------------------------------------------


def mixing_times(meter: Meter, call: Callable[[], object]) -> dict[str, Any]:
    """Return a mixer's times, eager, and the kernels that it launches."""
    for _ in range(5):
        call()
    found: dict[str, Any] = {"eager": meter.seconds(call), "host": meter.host_seconds(call)}
    return found | {"kernels": meter.kernels(call)}


def timed(job: Job, row: str, work: str, call: Callable[[], object], runs: int) -> None:
    """Write the time of the first call, which compiles, and of later ones, with their memory."""
    first = job.meter.wall_seconds(call)
    job.tell(row, work=work, seconds=first, note="the first call")
    memory = job.meter.peak_bytes(call)
    seconds = [job.meter.wall_seconds(call) for _ in range(runs)]
    job.tell(row, work=work, seconds=median(seconds), runs=seconds, first=first, memory=memory)


def fitted(job: Job, X: Any) -> object:
    """Estimate the local dimension."""
    return zm.LocalPCA(n_neighbors=job.sizes[-1], device=job.computing).fit(X)


def searched(job: Job, X: Any) -> object:
    """Search the neighbours."""
    return zm.kneighbors(X, job.sizes[-1], device=job.computing)


def swept(job: Job, X: Any, gammas: tuple[float, ...]) -> object:
    """Sweep ζ-mixup over strengths."""
    return zm.sweep_id(
        X,
        mixers=[zm.ZetaMixup(gamma) for gamma in gammas],
        n_neighbors=job.sizes,
        seeds=1,
        device=job.computing,
        progress=False,
    )


def mixing(job: Job, mixer: Any, shape: tuple[int, ...]) -> Callable[[], object]:
    """Return what mixes often enough for a profile."""
    x, y = batch(job, shape)
    return lambda: [mixer(x, y) for _ in range(20)]


def batch(job: Job, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return random samples and labels on the device."""
    x = torch.rand(shape, device=job.device)
    return x, torch.arange(shape[0], device=job.device) % 10


def others() -> dict[str, Callable[..., object]]:
    """Return the mixups of other libraries, if any can be used here."""
    try:
        return benchmark.mixup_peers()
    except Exception as error:
        # torchvision beside another build of torch raises all kinds of errors.
        print(f"no peers of the mixers: {error}", file=sys.stderr)
        return {}


def images(job: Job) -> tuple[Any, str]:
    """Return Fashion-MNIST, or smooth random images of its size where it is not."""
    from zmanifold._base.errors import InputError

    try:
        return benchmark.points_of("fashion-mnist"), "Fashion-MNIST"
    except InputError:
        colours = benchmark.cifar_sized(60_000).reshape(-1, 3, 32, 32)
        return colours[:, 0, 2:30, 2:30].reshape(-1, 784).copy(), "smooth random images"


def colours(job: Job) -> Any:
    """Return smooth random colour images."""
    if job.tiny:
        return benchmark.cifar_sized(96)[:, ::16].copy()
    return benchmark.cifar_sized(benchmark.CIFAR_SIZE)


def strengths(job: Job) -> tuple[float, ...]:
    """Return the γ of the sweep."""
    return benchmark.CIFAR_GAMMAS[-2:] if job.tiny else benchmark.CIFAR_GAMMAS


if __name__ == "__main__":
    # The peers' threads; torch has set its own by now.
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    main(sys.argv[1])
