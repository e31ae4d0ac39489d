"""How the cost of local ID grows with the points and with the queries.

Claim:    none of the paper's; on the helix the search tree makes the cost all but linear, on images
          the product of all pairs (n²) stands beside what each neighbourhood costs (n)
Command:  python experiments/scaling.py (Fashion-MNIST must be there)
Writes:   figures/scaling.png, .svg and .json (seconds, fitted exponents, machine)
Runtime:  see "seconds" in the .json, with the machine
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
import zmanifold as zm
from matplotlib.figure import Figure
from zmanifold._base.files import write_json
from zmanifold.storage import save_figure

from benchmark import machine, seconds_of

HELIX_SIZES = tuple(2**e for e in range(12, 18))
IMAGE_SIZES = (4096, 8192, 16_384, 32_768, 60_000)
QUERIES = (250, 500, 1000, 2000, 4000, 8000, 16_000)
NEIGHBORS = (8, 128)
RUNS = 3
# Blue and orange of Okabe and Ito, told apart by everyone.
COLORS = {8: "#0072b2", 128: "#d55e00"}
FOLDER = Path(__file__).parent.parent / "figures"


def main(
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = FOLDER,
    images: Annotated[str, typer.Option(help="The image set.")] = "fashion-mnist",
) -> None:
    """Measure, fit and draw."""
    clock = time.perf_counter()
    X = np.ascontiguousarray(zm.load_dataset(images).points)
    shuffled = X[np.random.default_rng(0).permutation(len(X))]
    panels = {
        "helix in R³, all points": [
            grown(HELIX_SIZES, k, lambda n: fit_all(zm.make_helix(n, random_state=0)[0]))
            for k in NEIGHBORS
        ],
        f"{images}, all points": [
            grown([n for n in IMAGE_SIZES if n <= len(X)], k, lambda n: fit_all(shuffled[:n]))
            for k in NEIGHBORS
        ],
        f"{images}, some queries among {len(X):,}": [
            grown([q for q in QUERIES if q <= len(X)], k, lambda q: fit_some(shuffled, q))
            for k in NEIGHBORS
        ],
    }
    out.mkdir(parents=True, exist_ok=True)
    figure = draw(panels)
    for ending in (".png", ".svg"):
        save_figure(figure, out / f"scaling{ending}")
    write_json(
        out / "scaling.json",
        {
            "figure": "seconds of LocalPCA.fit, search included; exponents by least squares in "
            "logarithms",
            "command": "python experiments/scaling.py",
            "panels": panels,
            "runs": RUNS,
            "machine": machine(2),
            "seconds": round(time.perf_counter() - clock, 1),
        },
    )
    for title, lines in panels.items():
        for line in lines:
            print(f"{title}, k = {line['k']}: exponent {line['exponent']}")


def fit_all(X: Any) -> Callable[[int], object]:
    """Return what fits at every point."""
    return lambda k: zm.LocalPCA(n_neighbors=k).fit(X)


def fit_some(X: Any, n_queries: int) -> Callable[[int], object]:
    """Return what fits at the first points."""
    queries = np.arange(n_queries)
    return lambda k: zm.LocalPCA(n_neighbors=k).fit(X, queries=queries)


def grown(
    sizes: tuple[int, ...] | list[int], k: int, prepare: Callable[[int], Callable[[int], object]]
) -> dict[str, Any]:
    """Time each size, the median of some runs, and fit the exponent."""
    seconds = []
    for size in sizes:
        fit = prepare(size)
        if size == sizes[0]:
            fit(k)
        seconds.append(median(seconds_of(partial(void, fit, k)) for _ in range(RUNS)))
    exponent = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    return {
        "k": k,
        "sizes": list(sizes),
        "seconds": [float(f"{s:.4g}") for s in seconds],
        "exponent": round(exponent, 2),
    }


def void(call: Callable[[int], object], k: int) -> None:
    """Call and drop the result."""
    call(k)


def draw(panels: dict[str, list[dict[str, Any]]]) -> Figure:
    """Draw one panel a question, both neighbourhood sizes in each."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    for ax, (title, lines) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for line in lines:
            label = f"k = {line['k']}: exponent {line['exponent']:.2f}"
            style = {"color": COLORS[line["k"]], "marker": "o" if line["k"] == 8 else "s"}
            ax.loglog(line["sizes"], line["seconds"], label=label, base=2, **style)
        ax.set_yscale("log")
        ax.set_title(title)
        ax.set_xlabel("queries" if "queries" in title else "points")
        ax.grid(alpha=0.3)
        ax.legend(frameon=False, loc="upper left")
    figure.axes[0].set_ylabel("seconds (search and local PCA)")
    return figure


if __name__ == "__main__":
    typer.run(main)
