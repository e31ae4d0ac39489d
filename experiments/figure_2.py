"""Figure 2 of the ζ-mixup paper: where mixup and ζ-mixup put new samples, and with which labels.

Claim:    mixup puts samples off the data manifold and labels some of them wrong; ζ-mixup stays
          near the data as γ grows, and explores more with more mixed samples T.
Command:  make figures, or: python experiments/figure_2.py
Writes:   figures/figure_2.png, .svg and .json (settings and numbers)
Runtime:  see "seconds" in figures/figure_2.json, with the versions
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
from zmanifold.datasets.manifolds import distance_to_helix
from zmanifold.plotting import plot_labels, set_window
from zmanifold.storage import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

PLANE = {"crescents": zm.make_crescents, "spirals": zm.make_spirals}
PLANE_GAMMAS = (6.0, 4.0, 2.8, 2.4, zm.gamma_min())
HELIX_GAMMAS = (2.0, 4.0, 6.0)
GRID_GAMMAS = (6.0, 4.0, 2.0)
GRID_T = (2, 4, 8, 16, 32)
BATCH_SIZE = 32
SEED = 0
# One angle for all helices: from a little above the axis, so that the hollow shows.
ELEVATION, AZIMUTH = 52, -60
FOLDER = Path(__file__).parent.parent / "figures"


def main(out: Annotated[Path, typer.Option(help="Folder to write to.")] = FOLDER) -> None:
    """Draw Figure 2."""
    clock = time.perf_counter()
    figure = Figure(figsize=(15, 13.2), layout="constrained")
    areas: Any = figure.subfigures(3, 1, height_ratios=[4.1, 3.2, 5.6], hspace=0.02)
    top, middle, bottom = areas
    numbers = {
        "plane": draw_plane(top),
        "helix": draw_helix(middle),
        "n_mix": draw_grid(bottom),
    }
    out.mkdir(parents=True, exist_ok=True)
    for ending in (".png", ".svg"):
        save_figure(figure, out / f"figure_2{ending}")
    write_json(
        out / "figure_2.json",
        {
            "figure": "samples and soft labels of mixup and zeta-mixup (Eq. 6); label error: share "
            "of samples whose nearest original has another class than the label's argmax",
            "command": "python experiments/figure_2.py",
            "seconds": round(time.perf_counter() - clock, 1),
            "seed": SEED,
            "batch_size": BATCH_SIZE,
            **environment(),
            **numbers,
        },
    )
    typer.echo(f"wrote {out / 'figure_2'}.png, .svg, .json")


def draw_plane(area: SubFigure) -> list[dict[str, Any]]:
    """Draw (a): crescents and spirals, the original, mixup, and ζ-mixup for falling γ."""
    area.suptitle("(a) colour: soft label; the percentage is the label error", fontsize=13)
    columns: list[tuple[str, Any]] = [("original", None), ("mixup", zm.Mixup())]
    columns += [(f"ζ-mixup, γ = {g:.4g}", zm.ZetaMixup(g)) for g in PLANE_GAMMAS]
    axes = area.subplots(len(PLANE), len(columns), height_ratios=[0.63, 1.12])
    rows = []
    for line, (name, make) in zip(axes, PLANE.items(), strict=True):
        X, y = make(random_state=SEED)
        for ax, (title, mixer) in zip(line, columns, strict=True):
            mixed, soft = zm.mixed_set(X, y, mixer, batch_size=BATCH_SIZE, seed=SEED)
            found = zm.mixed_set_metrics(X, y, mixed, soft).summary()
            rows.append({"dataset": name, "mixer": title, **rounded(found)})
            plot_labels(mixed, soft, ax)
            set_window(ax, X, title if name == next(iter(PLANE)) else "")
            note = "" if mixer is None else f"{found['label_error']:.1%}"
            ax.text(0.97, 0.03, note, ha="right", va="bottom", transform=ax.transAxes)
        line[0].set_ylabel(name)
    return rows


def draw_helix(area: SubFigure) -> list[dict[str, Any]]:
    """Draw (b): the helix in R³, all panels from one angle, coloured by the distance to it."""
    title = "(b) helix in R³; colour: distance to the curve (its radius is 100)"
    area.suptitle(title, fontsize=13)
    columns: list[tuple[str, Any]] = [("original", None), ("mixup", zm.Mixup())]
    columns += [(f"ζ-mixup, γ = {g:g}", zm.ZetaMixup(g)) for g in HELIX_GAMMAS]
    X, y = zm.make_helix(random_state=SEED)
    rows: list[dict[str, Any]] = []
    axes = area.subplots(1, len(columns), subplot_kw={"projection": "3d", "computed_zorder": False})
    for ax, (title, mixer) in zip(axes, columns, strict=True):
        mixed, _ = zm.mixed_set(X, y, mixer, batch_size=BATCH_SIZE, seed=SEED)
        away = distance_to_helix(mixed)
        rows.append({"mixer": title, "distance_to_curve": round(float(away.mean()), 3)})
        ax.scatter(*mixed.T, c=away, vmin=0, vmax=100, cmap="cividis", s=1.5, lw=0, rasterized=True)
        ax.view_init(elev=ELEVATION, azim=AZIMUTH)
        ax.set_xlim(-100, 100)
        ax.set_ylim(-100, 100)
        ax.set_zlim(0, 10 * np.pi)
        ax.set_box_aspect((1, 1, 0.8), zoom=1.3)
        ax.set_axis_off()
        ax.set_title(title, fontsize=11)
        note = f"mean distance {away.mean():.1f}"
        ax.text2D(0.5, -0.04, note, ha="center", transform=ax.transAxes)
    bar = area.colorbar(axes[0].collections[0], ax=axes, shrink=0.7, aspect=14, pad=0.01)
    bar.set_label("distance to the curve")
    return rows


def draw_grid(area: SubFigure) -> list[dict[str, Any]]:
    """Draw (c): crescents for each γ and number T of mixed samples."""
    title = "(c) ζ-mixup of T samples; the number is the mean distance to the nearest original"
    area.suptitle(title, fontsize=13)
    X, y = zm.make_crescents(random_state=SEED)
    axes = area.subplots(len(GRID_GAMMAS), len(GRID_T))
    rows = []
    for line, gamma in zip(axes, GRID_GAMMAS, strict=True):
        for ax, n_mix in zip(line, GRID_T, strict=True):
            mixer = zm.ZetaMixup(gamma, n_mix=n_mix)
            mixed, soft = zm.mixed_set(X, y, mixer, batch_size=BATCH_SIZE, seed=SEED)
            found = zm.mixed_set_metrics(X, y, mixed, soft).summary()
            rows.append({"gamma": gamma, "n_mix": n_mix, **rounded(found)})
            plot_labels(mixed, soft, ax)
            set_window(ax, X, f"T = {n_mix}" if gamma == GRID_GAMMAS[0] else "")
            note = f"{found['distance']:.3f}"
            ax.text(0.97, 0.03, note, ha="right", va="bottom", transform=ax.transAxes)
        line[0].set_ylabel(f"γ = {gamma:g}")
    return rows


def rounded(found: dict[str, float]) -> dict[str, float]:
    """Keep what a reader can use."""
    return {name: round(value, 4) for name, value in found.items()}


if __name__ == "__main__":
    typer.run(main)
