"""Figure 7 of the ζ-mixup paper: local covariance, and what surrounds a test sample.

Claim:    ζ-mixup's samples lie closer to the original data than mixup's; its neighbourhoods can
          be flatter than the original's, which lowers the local ID; and a test sample near the
          boundary has more training samples of its own class around it.
Command:  make figures, or: python experiments/figure_7.py
Writes:   figures/figure_7.png, .svg and .json (settings and numbers)
Runtime:  see "seconds" in figures/figure_7.json, with the versions

The test sample that is drawn follows from a rule (`typical_sample`): it is the median of the test
samples near the boundary. The counts over all test samples stand in the sidecar.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
import zmanifold as zm
from matplotlib.figure import Figure
from zmanifold._base.files import write_json
from zmanifold._base.provenance import environment
from zmanifold.plotting import COLORS, plot_ellipses, plot_labels, plot_vicinity, set_window
from zmanifold.storage import save_figure

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The spirals are drawn: on the crescents the typical boundary sample is surrounded alike under
# both mixers (see "vicinity" in the sidecar).
DRAWN = "spirals"
MAKERS = {"crescents": zm.make_crescents, "spirals": zm.make_spirals}
GAMMAS = (2.4, 2.8, 4.0)
GAMMA = 4.0
# "Large values of γ" of the paper's explanation: the end of Figure 6's axis.
LARGE_GAMMA = 15.0
NEIGHBORS = (8, 16)
ELLIPSE_NEIGHBORS = 8
N_ELLIPSES = 24
# Near the boundary: this share of the test samples, those about as far from either class.
BOUNDARY_SHARE = 0.1
BATCH_SIZE = 32
SEED, TEST_SEED = 0, 1000
FOLDER = Path(__file__).parent.parent / "figures"


def main(out: Annotated[Path, typer.Option(help="Folder to write to.")] = FOLDER) -> None:
    """Draw Figure 7."""
    clock = time.perf_counter()
    X, y = MAKERS[DRAWN](random_state=SEED)
    test_x, test_y = MAKERS[DRAWN](random_state=TEST_SEED)
    figure = Figure(figsize=(15, 8.6), layout="constrained")
    areas: Any = figure.subfigures(2, 1, height_ratios=[1, 1.05])
    top, bottom = areas
    local_id = draw_sets(top, X, y)
    sample = typical_sample(X, y, test_x, test_y)
    draw_neighborhoods(bottom, X, y, test_x, test_y, sample)

    out.mkdir(parents=True, exist_ok=True)
    for ending in (".png", ".svg"):
        save_figure(figure, out / f"figure_7{ending}")
    write_json(
        out / "figure_7.json",
        {
            "figure": "two classes in the plane: mixed sets, covariance ellipses with their "
            "Fukunaga-Olsen dimension (5%), training samples around a test sample",
            "command": "python experiments/figure_7.py",
            "seconds": round(time.perf_counter() - clock, 1),
            "dataset": DRAWN,
            "seed": SEED,
            "test_seed": TEST_SEED,
            "batch_size": BATCH_SIZE,
            "gamma": GAMMA,
            "large_gamma": LARGE_GAMMA,
            **environment(),
            "local_id": local_id,
            "drawn_sample": {"rule": " ".join((typical_sample.__doc__ or "").split()),
                             "row": sample},
            "vicinity": [row for name in MAKERS for row in vicinity_table(name)],
        },
    )  # fmt: skip
    typer.echo(f"wrote {out / 'figure_7'}.png, .svg, .json")


def mixed(X: NDArray[Any], y: NDArray[Any], mixer: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mix with the settings of this figure."""
    return zm.mixed_set(X, y, mixer, batch_size=BATCH_SIZE, seed=SEED)


def draw_sets(area: Any, X: NDArray[Any], y: NDArray[Any]) -> list[dict[str, Any]]:
    """Draw (a)-(e): the sets, and ellipses at the same places of the original and of ζ-mixup."""
    axes = area.subplots(1, 5)
    panels: list[tuple[str, Any]] = [
        ("(a) original", None),
        ("(b) mixup", zm.Mixup()),
        (f"(c) ζ-mixup, γ = {GAMMA:g}", zm.ZetaMixup(GAMMA)),
    ]
    for ax, (title, mixer) in zip(axes, panels, strict=False):
        plot_labels(*mixed(X, y, mixer), ax)
        set_window(ax, X, title)
    places = spread_out(X, N_ELLIPSES)
    rows = []
    names: dict[str, Any] = {"original": None, "ζ-mixup": zm.ZetaMixup(LARGE_GAMMA),
             "ζ-mixup, anchored": zm.ZetaMixup(LARGE_GAMMA, anchored=True)}  # fmt: skip
    for name, mixer in names.items():
        points, soft = mixed(X, y, mixer)
        found = zm.vicinity(points, soft, X[places], y[places], n_neighbors=1)
        _, near = zm.kneighbors(points, ELLIPSE_NEIGHBORS, queries=found.indices[:, 0])
        dimension = zm.LocalPCA(n_neighbors=ELLIPSE_NEIGHBORS).fit(points).dimension_
        spectra = zm.local_spectra(points, zm.kneighbors(points, ELLIPSE_NEIGHBORS)[1])
        nearest = zm.mixed_set_metrics(X, y, points, soft).nearest
        rows.append(
            {
                "mixer": name,
                "gamma": None if mixer is None else LARGE_GAMMA,
                "k": ELLIPSE_NEIGHBORS,
                "mean_dimension": round(dimension, 4),
                "median_axis_ratio": round(float(np.median(axis_ratio(spectra))), 4),
                "originals_used": round(len(np.unique(nearest)) / len(X), 4),
            }
        )
        if name == "ζ-mixup, anchored":
            ax.set_title(f"{ax.get_title()}\nanchored: {dimension:.2f}", fontsize=11)
            continue
        ax = axes[3 + (mixer is not None)]
        plot_labels(points, soft, ax, size=5)
        plot_ellipses(points, near, ax)
        letter, at = ("(d) ", "") if mixer is None else ("(e) ", f", γ = {LARGE_GAMMA:g}")
        title = f"{letter}{name}{at}\nmean FO dimension, k = {ELLIPSE_NEIGHBORS}: {dimension:.2f}"
        set_window(ax, X, title)
    area.suptitle(
        "ellipses: two standard deviations of a neighbourhood; dashed where its FO dimension is 1",
        fontsize=11,
    )
    return rows


def draw_neighborhoods(
    area: Any,
    X: NDArray[Any],
    y: NDArray[Any],
    test_x: NDArray[Any],
    test_y: NDArray[Any],
    sample: int,
) -> None:
    """Draw (f) and (g), and how the counts are distributed over all test samples."""
    axes = area.subplots(1, 3)
    counts: dict[str, NDArray[Any]] = {}
    mixers: dict[str, Any] = {
        "(f) mixup": zm.Mixup(),
        f"(g) ζ-mixup, γ = {GAMMA:g}": zm.ZetaMixup(GAMMA),
    }
    for ax, (title, mixer) in zip(axes, mixers.items(), strict=False):
        points, soft = mixed(X, y, mixer)
        result = zm.vicinity(points, soft, test_x, test_y, n_neighbors=NEIGHBORS)
        counts[title[4:]] = result.n_same[-1]
        plot_vicinity(points, soft, test_x, result, ax, sample=sample)
        ax.set_title(f"{title}: around a test sample (square)", fontsize=11)
    ax, k = axes[2], NEIGHBORS[-1]
    edges = np.arange(k + 2) - 0.5
    styles = ((COLORS["mixup"], "///"), (COLORS["zeta"], None))
    for (name, values), (color, hatch) in zip(counts.items(), styles, strict=True):
        label = f"{name}: mean {values.mean():.1f}"
        ax.hist(values, edges, histtype="step", lw=1.8, color=color, hatch=hatch, label=label)
    ax.axvline(k / 2, ymax=0.78, color="0.35", ls=":", lw=1.2, label="half of them")
    ax.set_xlabel(f"neighbours of its class, k = {k}")
    ax.set_ylabel("test samples")
    ax.set_yscale("log")
    ax.set_title(f"all {len(test_y)} test samples", fontsize=11)
    ax.set_xticks(range(0, k + 1, 4))
    ax.set_ylim(0.7, 20 * len(test_y))
    ax.legend(loc="upper left", frameon=False)
    ax.spines[["top", "right"]].set_visible(False)


def near_boundary(
    X: NDArray[Any], y: NDArray[Any], test_x: NDArray[Any], test_y: NDArray[Any]
) -> NDArray[Any]:
    """Return the rows of the test samples whose nearest originals of either class tie best."""
    found = zm.vicinity(X, y, test_x, test_y, n_neighbors=1)
    margin = np.abs(found.other_distance - found.own_distance)
    return np.argsort(margin, kind="stable")[: round(BOUNDARY_SHARE * len(test_x))]


def typical_sample(
    X: NDArray[Any], y: NDArray[Any], test_x: NDArray[Any], test_y: NDArray[Any]
) -> int:
    """Take the median sample near the boundary.

    The tenth of the test samples whose nearest originals of their own and of the other class are
    most nearly equally far are ordered by how many more neighbours of their own class they have
    under zeta-mixup than under mixup (largest k, then row number); the lower median is drawn.
    """
    zone = near_boundary(X, y, test_x, test_y)
    same = [
        zm.vicinity(*mixed(X, y, mixer), test_x, test_y, n_neighbors=NEIGHBORS).n_same[-1]
        for mixer in (zm.ZetaMixup(GAMMA), zm.Mixup())
    ]
    zone = np.sort(zone)
    order = np.argsort((same[0] - same[1])[zone], kind="stable")
    return int(zone[order[(len(order) - 1) // 2]])


def vicinity_table(name: str) -> list[dict[str, Any]]:
    """Count for all test samples, and for those near the boundary, under each mixer."""
    X, y = MAKERS[name](random_state=SEED)
    test_x, test_y = MAKERS[name](random_state=TEST_SEED)
    zone = near_boundary(X, y, test_x, test_y)
    mixers: dict[str, Any] = {"original": None, "mixup": zm.Mixup()}
    mixers |= {f"zeta gamma={g:g}": zm.ZetaMixup(g) for g in GAMMAS}
    mixers |= {f"zeta-anchored gamma={g:g}": zm.ZetaMixup(g, anchored=True) for g in GAMMAS}
    rows = []
    for label, mixer in mixers.items():
        points, soft = mixed(X, y, mixer)
        found = zm.vicinity(points, soft, test_x, test_y, n_neighbors=NEIGHBORS)
        for i, k in enumerate(NEIGHBORS):
            counts = np.bincount(found.n_same[i], minlength=k + 1)
            rows.append(
                {
                    "dataset": name,
                    "mixer": label,
                    "k": k,
                    "mean_same": round(float(found.n_same[i].mean()), 3),
                    "mean_same_near_boundary": round(float(found.n_same[i][zone].mean()), 3),
                    "share_with_majority": round(float((found.n_same[i] > k / 2).mean()), 4),
                    "samples_by_same": counts.tolist(),
                }
            )
    return rows


def spread_out(X: NDArray[Any], count: int) -> NDArray[Any]:
    """Choose rows far from one another: each the farthest from those before it, row 0 first."""
    rows = [0]
    away = np.linalg.norm(X - X[0], axis=1)
    while len(rows) < count:
        rows.append(int(away.argmax()))
        away = np.minimum(away, np.linalg.norm(X - X[rows[-1]], axis=1))
    return np.array(rows)


def axis_ratio(spectra: NDArray[Any]) -> NDArray[Any]:
    """Return minor over major axis of each ellipse; 0 where there is no spread."""
    major = np.maximum(spectra[:, 0], np.finfo(float).tiny)
    ratio: NDArray[Any] = np.sqrt(spectra[:, 1] / major)
    return ratio


if __name__ == "__main__":
    typer.run(main)
