"""The command `zmanifold vicinity`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from zmanifold._base.errors import InputError
from zmanifold.cli.options import (
    ArrayX,
    ArrayY,
    DataDir,
    Device,
    Features,
    Header,
    LabelColumn,
    MemoryLimit,
    Overwrite,
    Resize,
    home,
    parse_bytes,
    parse_integers,
    reading_options,
)
from zmanifold.cli.printing import (
    check_shown,
    complain,
    print_frame,
    print_readings,
    print_written,
)

__all__ = ["vicinity"]

_Train = Annotated[
    str, typer.Option(help="Training samples: a name (its train split), a file or image folder.")
]
_Test = Annotated[
    str, typer.Option(help="Test samples: a name (its test split), a file or image folder.")
]
_K = Annotated[str, typer.Option(help="Neighbourhood sizes, K,K,...")]
_Metric = Annotated[str, typer.Option(help="euclidean or cosine.")]
_Out = Annotated[
    Path | None,
    typer.Option(
        callback=home, help="Write one row a test sample (.parquet or .csv) and settings (.json)."
    ),
]
_Embed = Annotated[
    Path | None,
    typer.Option(
        callback=home, help="Draw a t-SNE of both sets (.png, .svg or .pdf); needs openTSNE."
    ),
]
_Lines = Annotated[
    bool, typer.Option("--lines", help="Draw lines to the neighbours in the picture of --embed.")
]


def vicinity(
    train: _Train,
    test: _Test,
    k: _K = "8,16",
    metric: _Metric = "euclidean",
    data_dir: DataDir = None,
    label_column: LabelColumn = None,
    features: Features = None,
    x: ArrayX = None,
    y: ArrayY = None,
    header: Header = None,
    resize: Resize = None,
    device: Device = "auto",
    memory_limit: MemoryLimit = None,
    out: _Out = None,
    embed: _Embed = None,
    lines: _Lines = False,
    overwrite: Overwrite = False,
) -> None:
    """Describe the training samples nearest to each test sample, and their labels.

    The means over all test samples go to stdout. Training labels may be soft:
    save a mixed set, or a model's features, with
    np.savez("train.npz", x=..., y=...).

    For example:

      zmanifold vicinity --train train.npz --test test.npz

      zmanifold vicinity --train mnist --test mnist --k 16 --metric cosine

      zmanifold vicinity --train train.npz --test test.npz --out samples.parquet

      zmanifold vicinity --train mnist --test mnist --k 128 --embed out.png
    """
    k_values = parse_integers("--k", k)
    limit = None if memory_limit is None else parse_bytes(memory_limit)

    from zmanifold._base.files import check_outputs, sidecar_of
    from zmanifold.datasets import comparable_labels, has_splits, load_dataset

    check_shown(out, embed)
    if lines and embed is None:
        raise InputError("--lines goes with --embed: name the picture.")
    check_outputs(out, figure=embed, overwrite=overwrite, inputs=[train, test])
    reading = reading_options(label_column, features, x, y, header, resize)
    train_set = load_dataset(train, data_dir=data_dir, **reading)
    part: Literal["train", "test"] = "test" if has_splits(test) else "train"
    test_set = load_dataset(test, split=part, data_dir=data_dir, **reading)
    train_y, test_y = comparable_labels(train_set, test_set)

    from zmanifold.measures import check_embeddable
    from zmanifold.measures import vicinity as measure
    from zmanifold.plotting import check_colors

    if embed is not None:
        check_colors(train_y)
        check_embeddable(
            train_set.points,
            test_set.points,
            metric=metric,  # type: ignore[arg-type]  # it refuses an unknown name itself
        )
    result = measure(
        train_set.points,
        train_y,
        test_set.points,
        test_y,
        n_neighbors=k_values,
        metric=metric,  # type: ignore[arg-type]  # it refuses an unknown name itself
        device=device,
        memory_limit=limit,
    )
    print_readings([train_set.read, test_set.read])
    sets = {"train": train_set, "test": test_set}
    result.settings["read"] = {name: one.read_as_dict() for name, one in sets.items()}
    failures: dict[Path, str] = {}
    if out is not None:
        with _noted(failures, out):
            result.save(out, train=train_set.name, test=test_set.name)
    if embed is not None:
        drawn = train_set.points, train_y, test_set.points, test_y
        with _noted(failures, embed):
            _draw(embed, *drawn, metric=metric, neighbors=result.indices if lines else None)
    sidecar = None if out is None or out in failures else sidecar_of(out)
    print_frame(result.summary(), kept=sidecar)
    print_written(*(path for path in (out, sidecar, embed) if path not in failures))
    if failures:
        raise complain(f"failed: {'; '.join(failures.values())}, all else is whole.", 1)


@contextlib.contextmanager
def _noted(failures: dict[Path, str], path: Path) -> Iterator[None]:
    """Note why an output failed, so that the others are written and printed all the same."""
    try:
        yield
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        failures[path] = f"{str(path)!r} cannot be written ({reason.rstrip('.')})"


def _draw(
    path: Path, train_x: Any, train_y: Any, test_x: Any, test_y: Any, *, metric: Any, neighbors: Any
) -> None:
    from matplotlib.figure import Figure

    from zmanifold.measures import embed
    from zmanifold.plotting import plot_embedding
    from zmanifold.storage import save_figure

    embedding = embed(train_x, test_x, metric=metric)
    figure = Figure(figsize=(8, 8), layout="constrained")
    plot_embedding(embedding, train_y, test_y, figure.add_subplot(), neighbors=neighbors)
    save_figure(figure, path)
