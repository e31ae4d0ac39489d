"""Figure 8 of the ζ-mixup paper: what surrounds the test samples that models err on.

Claim:    test images that the ERM and the mixup model get wrong and the ζ-mixup models get right
          have more training samples of their class around them in the ζ-mixup model's feature
          space (the paper: 12 of 14 and +208.2% for derm7point, 14 of 14 and +1908.8% for ISIC
          2017).
Command:  make figures, or: python experiments/figure_8.py --images fashion-mnist
Writes:   figures/figure_8.png, .svg, .json (settings and numbers) and .md (the table), with other
          images than digits under their name, and the features in figures/features/ (for
          `zmanifold vicinity`)
Runtime:  see "seconds" in the .json, with the device and the versions

That selection favours ζ-mixup by construction. Beside it stand the mirrored selection (mixup right,
ζ-mixup wrong) and all test samples.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
import zmanifold as zm
from matplotlib.figure import Figure
from scipy.stats import bootstrap
from zmanifold._base.files import write_atomically, write_json
from zmanifold._base.provenance import environment
from zmanifold.datasets import has_splits, hold_out
from zmanifold.measures._embedding import embed
from zmanifold.plotting import COLORS, plot_embedding
from zmanifold.storage import save_figure
from zmanifold.training import train

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from zmanifold.datasets import Dataset


@dataclass(frozen=True)
class Setting:
    """How much is learnt from one image set: little, so that models err."""

    n_train: int
    epochs: int
    batch_size: int
    # Times that the training set is mixed for the feature space.
    n_mixed_sets: int


SETTINGS = {"digits": Setting(200, 40, 50, 10)}
OTHERS = Setting(4000, 15, 100, 1)
SEEDS = (0, 1, 2)
GAMMAS = (2.4, 2.8, 4.0)
DRAWN_GAMMA = 2.8
N_NEIGHBORS = 128
N_IMAGES = 14
LEARNING_RATE = 0.1
FOLDER = Path(__file__).parent.parent / "figures"

MIXERS: dict[str, Any] = {"erm": None, "mixup": zm.Mixup()}
MIXERS |= {f"zeta-{g:g}": zm.ZetaMixup(g) for g in GAMMAS}
ZETAS = [name for name in MIXERS if name.startswith("zeta")]
DRAWN = f"zeta-{DRAWN_GAMMA:g}"
GROUPS = {
    "selected": "ERM and mixup wrong, all ζ-mixup models right",
    "mirrored": "mixup right, this ζ-mixup model wrong",
    "all": "all test samples",
}


@dataclass
class Run:
    """What one training seed gives: predictions and counts a model, features of two of them."""

    seed: int
    test: Dataset
    labels: NDArray[np.int64]
    accuracy: dict[str, float]
    predicted: dict[str, NDArray[np.int64]]
    right: dict[str, NDArray[np.int64]]
    features: dict[str, tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]

    def group(self, name: str, zeta: str) -> NDArray[np.bool_]:
        """Return which test samples belong to a group."""
        hit = {model: predicted == self.labels for model, predicted in self.predicted.items()}
        chosen = np.ones(len(self.labels), dtype=bool)
        if name == "selected":
            chosen &= ~hit["erm"] & ~hit["mixup"] & np.all([hit[z] for z in ZETAS], axis=0)
        if name == "mirrored":
            chosen &= hit["mixup"] & ~hit[zeta]
        return chosen


def main(
    images: Annotated[
        str, typer.Option(help="The image set, one of those that `zmanifold datasets` lists.")
    ] = "digits",
    lines: Annotated[
        bool, typer.Option("--lines", help="Draw lines to the neighbours in feature space.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = FOLDER,
) -> None:
    """Train, count and draw Figure 8."""
    clock = time.perf_counter()
    setting = SETTINGS.get(images, OTHERS)
    runs = [measure(images, setting, seed, device) for seed in SEEDS]
    table = tabulate(runs)
    out.mkdir(parents=True, exist_ok=True)
    stem = "figure_8" if images == "digits" else f"figure_8_{runs[0].test.name}"
    save_features(runs, out / "features", stem)
    figure = draw(runs, table, lines)
    for ending in (".png", ".svg"):
        save_figure(figure, out / f"{stem}{ending}")
    report = to_markdown(table)
    write_atomically(out / f"{stem}.md", lambda part: part.write_text(report, encoding="utf-8"))
    write_json(
        out / f"{stem}.json",
        {
            "figure": f"among the {N_NEIGHBORS} nearest of the mixed training samples (cosine, "
            "penultimate layer of the model trained with the mixer), those of the test sample's "
            "class",
            "command": f"python experiments/figure_8.py --images {images}",
            "seconds": round(time.perf_counter() - clock, 1),
            "seeds": list(SEEDS),
            "n_train": setting.n_train,
            "n_test": len(runs[0].test.points),
            "epochs": setting.epochs,
            "batch_size": setting.batch_size,
            "learning_rate": LEARNING_RATE,
            "n_mixed_sets": setting.n_mixed_sets,
            "mixers": {name: repr(mixer) for name, mixer in MIXERS.items()},
            "groups": GROUPS,
            **environment(),
            "accuracy": [{"seed": run.seed, **run.accuracy} for run in runs],
            "table": table,
            "selected_samples": selected_samples(runs),
        },
    )
    typer.echo(report)
    typer.echo(f"wrote {out / stem}.png, .svg, .json, .md")


def split(images: str, setting: Setting, seed: int) -> tuple[Dataset, Dataset]:
    """Return a small training set and the test set of one seed."""
    data = zm.load_dataset(images)
    if has_splits(images):
        chosen, _ = hold_out(data, setting.n_train, random_state=seed)
        return chosen, zm.load_dataset(images, split="test")
    return hold_out(data, setting.n_train, random_state=seed)


def measure(images: str, setting: Setting, seed: int, device: str) -> Run:
    """Train all models from the same initial weights and count neighbours of the right class."""
    training, test = split(images, setting, seed)
    assert test.labels is not None
    run = Run(seed, test, test.labels, {}, {}, {}, {})
    for name, mixer in MIXERS.items():
        done = train(
            training,
            mixer=mixer,
            epochs=setting.epochs,
            batch_size=setting.batch_size,
            learning_rate=LEARNING_RATE,
            seed=seed,
            device=device,
        )
        run.predicted[name] = done.model.predict(test.points)
        run.accuracy[name] = round(float((run.predicted[name] == run.labels).mean()), 4)
        if mixer is None:
            continue
        sets = [
            zm.mixed_set(training.points, training.labels, mixer, seed=seed * 1000 + i,
                         batch_size=setting.batch_size, num_classes=done.model.n_classes)
            for i in range(setting.n_mixed_sets)
        ]  # fmt: skip
        points, soft = (np.concatenate(parts) for parts in zip(*sets, strict=True))
        features = done.model.penultimate(points), soft, done.model.penultimate(test.points)
        around = zm.vicinity(
            *features, run.labels, n_neighbors=N_NEIGHBORS, metric="cosine", device=device
        )
        run.right[name] = around.n_same[0]
        if name in ("mixup", DRAWN):
            run.features[name] = features
    return run


def tabulate(runs: list[Run]) -> list[dict[str, Any]]:
    """Compare each ζ-mixup model with mixup in each group, a seed at a time and pooled."""
    rows = []
    for zeta in ZETAS:
        for group in GROUPS:
            members = [run.group(group, zeta) for run in runs]
            pairs = [
                np.stack([run.right[zeta], run.right["mixup"]])[:, chosen]
                for run, chosen in zip(runs, members, strict=True)
            ]
            for run, pair in zip(runs, pairs, strict=True):
                rows.append({"model": zeta, "group": group, "seed": run.seed, **compare(pair)})
            pooled = np.concatenate(pairs, axis=1)
            rows.append({"model": zeta, "group": group, "seed": None, **compare(pooled)})
    return rows


def compare(pair: NDArray[np.int64]) -> dict[str, Any]:
    """Compare counts under ζ-mixup (first row) and mixup: samples with more, and per cent."""
    zeta, mixup = pair
    row: dict[str, Any] = {"n_samples": len(zeta), "more": int((zeta > mixup).sum()),
                           "fewer": int((zeta < mixup).sum())}  # fmt: skip
    if len(zeta) == 0 or mixup.sum() == 0:
        return row | {"mean_zeta": None, "mean_mixup": None, "percent": None, "interval": None}
    row |= {"mean_zeta": round(float(zeta.mean()), 2), "mean_mixup": round(float(mixup.mean()), 2)}
    percent = 100 * (zeta.sum() / mixup.sum() - 1)
    interval = None
    if len(zeta) > 1:
        found = bootstrap(
            (zeta, mixup), ratio, paired=True, vectorized=True, method="percentile",
            n_resamples=9999, batch=500, rng=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
        ends = (float(found.low), float(found.high))
        interval = [round(end, 1) for end in ends] if np.isfinite(ends).all() else None
    return row | {"percent": round(float(percent), 1), "interval": interval}


def ratio(zeta: Any, mixup: Any, axis: int = -1) -> Any:
    """Return by how many per cent the first counts exceed the second."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 100 * (zeta.sum(axis=axis) / mixup.sum(axis=axis) - 1)


def to_markdown(table: list[dict[str, Any]]) -> str:
    """Lay out the rows that pool the seeds."""
    lines = [
        "| test samples | ζ-mixup | n | more under ζ-mixup | fewer | mixup | ζ-mixup | overall |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for group, about in GROUPS.items():
        for row in (r for r in table if r["seed"] is None and r["group"] == group):
            cells = [about, f"γ = {row['model'].removeprefix('zeta-')}"]
            cells += [str(row[key]) for key in ("n_samples", "more", "fewer")]
            if row["percent"] is None:
                cells += ["-", "-", "nothing to compare"]
            else:
                cells += [f"{row[key]:.1f}" for key in ("mean_mixup", "mean_zeta")]
                ends = row["interval"]
                within = f" [{ends[0]:+.1f}%, {ends[1]:+.1f}%]" if ends else ""
                cells.append(f"{row['percent']:+.1f}%{within}")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def selected_samples(runs: list[Run]) -> list[dict[str, Any]]:
    """List the selected test samples with their counts."""
    rows = []
    for run in runs:
        for i in np.flatnonzero(run.group("selected", DRAWN)).tolist():
            predicted = {name: int(classes[i]) for name, classes in run.predicted.items()}
            right = {name: int(counts[i]) for name, counts in run.right.items()}
            rows.append({"seed": run.seed, "row": i, "label": int(run.labels[i]),
                         "predicted": predicted, "right_neighbors": right})  # fmt: skip
    return rows


def save_features(runs: list[Run], folder: Path, stem: str) -> None:
    """Keep the features of the drawn models: `zmanifold vicinity` counts from them again."""
    folder.mkdir(parents=True, exist_ok=True)
    for run in runs:
        for name, (train_x, soft, test_x) in run.features.items():
            base = f"{stem}_seed{run.seed}_{name}"
            np.savez_compressed(folder / f"{base}_train.npz", x=train_x, y=soft)
            np.savez_compressed(folder / f"{base}_test.npz", x=test_x, y=run.labels)


# --- the picture ----------------------------------------------------------------------------


def draw(runs: list[Run], table: list[dict[str, Any]], lines: bool) -> Figure:
    """Draw the selected images, both embeddings, and the counts of the three groups."""
    # The seed with most selected samples, the first of equals.
    run = max(runs, key=lambda r: int(r.group("selected", DRAWN).sum()))
    chosen = np.flatnonzero(run.group("selected", DRAWN))[:N_IMAGES]
    figure = Figure(figsize=(15, 8.8), layout="constrained")
    areas: Any = figure.subfigures(2, 1, height_ratios=[1, 3.1])
    draw_images(areas[0], run, chosen)
    axes = areas[1].subplots(1, 3, width_ratios=[1.15, 1.15, 0.8])
    for ax, name, letter in zip(axes, ("mixup", DRAWN), "bc", strict=False):
        draw_embedding(ax, run, chosen, name, lines)
        title = "mixup" if name == "mixup" else f"ζ-mixup, γ = {DRAWN_GAMMA:g}"
        ax.set_title(f"({letter}) {title}: mixed training samples, t-SNE", fontsize=11)
    draw_counts(axes[2], table)
    return figure


def draw_images(area: Any, run: Run, chosen: NDArray[Any]) -> None:
    """Draw the selected test images with their true class and mixup's."""
    total = int(run.group("selected", DRAWN).sum())
    names = np.asarray(run.test.class_names)
    shown = f"the first {len(chosen)} of {total}" if total > len(chosen) else f"all {total}"
    if not total:
        area.suptitle(f"(a) {GROUPS['selected']}: no such test sample in any seed", fontsize=11)
        return
    area.suptitle(f"(a) {GROUPS['selected']}: {shown} (seed {run.seed})", fontsize=11)
    assert run.test.image_shape is not None
    # Few images are not blown up to the width of the figure.
    axes = np.ravel(area.subplots(1, max(len(chosen), 8)))
    for ax, i in zip(axes, [*chosen, *[None] * len(axes)], strict=False):
        ax.set_axis_off()
        if i is None:
            continue
        pixels = run.test.points[i].reshape(run.test.image_shape).transpose(1, 2, 0)
        ax.imshow(pixels.squeeze(), cmap="gray_r" if pixels.shape[2] == 1 else None)
        true, wrong = (names[int(c)] for c in (run.labels[i], run.predicted["mixup"][i]))
        ax.set_title(f"{true}\nmixup: {wrong}", fontsize=8)


def draw_embedding(ax: Any, run: Run, chosen: NDArray[Any], name: str, lines: bool) -> None:
    """Draw one model's features and place the selected test samples among them."""
    train_x, soft, test_x = run.features[name]
    placed = chosen if len(chosen) else np.arange(1)
    embedding = embed(train_x, test_x[placed], seed=0)
    neighbors = None
    if lines:
        labels = run.labels[placed]
        neighbors = zm.vicinity(
            train_x, soft, test_x[placed], labels, n_neighbors=N_NEIGHBORS, metric="cosine"
        ).indices
    names = np.asarray(run.test.class_names)
    plot_embedding(
        embedding, names[soft.argmax(axis=1)], names[run.labels[placed]], ax, neighbors=neighbors
    )
    if not len(chosen):
        ax.set_xlabel("no sample is selected: the square is the first test sample")
        return
    right = run.right[name][chosen]
    ax.set_xlabel(
        f"squares: the test samples of (a); of their {N_NEIGHBORS} nearest,\n"
        f"{right.mean():.1f} have the right class on average"
    )


def draw_counts(ax: Any, table: list[dict[str, Any]]) -> None:
    """Draw the mean counts of each group, pooled over seeds."""
    rows = [
        next(r for r in table if (r["model"], r["group"], r["seed"]) == (DRAWN, group, None))
        for group in GROUPS
    ]
    at = np.arange(len(rows))
    for shift, key, label, color, hatch in (
        (-0.2, "mean_mixup", "mixup", COLORS["mixup"], "///"),
        (0.2, "mean_zeta", f"ζ-mixup, γ = {DRAWN_GAMMA:g}", COLORS["zeta"], ""),
    ):
        heights = [row[key] or 0 for row in rows]
        ax.bar(at + shift, heights, 0.38, label=label, fc="white", ec=color, hatch=hatch, lw=1.8)
    names = (
        "selected:\nERM, mixup wrong,\nζ-mixup right",
        "mirrored:\nmixup right,\nζ-mixup wrong",
        "all test\nsamples",
    )
    ax.set_xticks(at, [f"{n}\nn = {r['n_samples']}" for n, r in zip(names, rows, strict=True)],
                  fontsize=8.5)  # fmt: skip
    for x, row in zip(at, rows, strict=True):
        if row["percent"] is not None:
            top = max(row["mean_zeta"], row["mean_mixup"])
            ax.text(x, top + 2, f"{row['percent']:+.0f}%", ha="center", fontsize=10)
    ax.set_ylim(0, N_NEIGHBORS * 1.2)
    ax.axhline(N_NEIGHBORS, color="0.6", lw=0.8, ls=":")
    ax.set_ylabel(f"neighbours of the right class, of {N_NEIGHBORS}")
    ax.set_title(f"(d) {len(SEEDS)} training seeds together", fontsize=11)
    ax.legend(loc="upper left", frameon=False, ncols=2, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    typer.run(main)
