"""The command line: parse, call, print."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from zmanifold._base.errors import InputError
from zmanifold.cli.options import parse_bytes, parse_gammas, parse_integers, parse_list

__all__ = ["app", "main"]

app = typer.Typer(
    name="zmanifold",
    help="Measure what mixing augmentations do to the data manifold.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# Options that several commands have.
DataDir = Annotated[
    Path | None, typer.Option(help="Folder of data sets; $ZMANIFOLD_DATA is looked in, too.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
MemoryLimit = Annotated[
    str | None, typer.Option(help="Working memory above the data: 512MiB, 2GiB...")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
Alpha = Annotated[float, typer.Option(help="mixup's strength α.")]
NMix = Annotated[
    int | None, typer.Option(help="Samples that ζ-mixup mixes; the whole batch by default.")
]


def main() -> NoReturn:
    """Run the command line; errors are one sentence on stderr.

    Exit status: 0 for success, 2 for wrong use, 1 for a failure, 130 after Ctrl-C, 143 after
    SIGTERM, which ends a run as Ctrl-C does.
    """
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_run(sys.argv[1:]))


class _Terminated(KeyboardInterrupt):
    """SIGTERM came."""


def _terminate(*_: object) -> NoReturn:
    raise _Terminated


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        import zmanifold

        typer.echo(f"zmanifold {zmanifold.__version__}")
        raise typer.Exit


@app.command()
def sweep_id(
    datasets: Annotated[
        list[str],
        typer.Argument(help="Names ('zmanifold datasets' lists them), files or image folders."),
    ],
    gamma: Annotated[
        str, typer.Option(help="ζ-mixup's strengths: START:STOP:STEP, both ends in, or G,G,...")
    ] = "0:15:1",
    neighbors: Annotated[str, typer.Option(help="Neighbourhood sizes k, K,K,...")] = "8,128",
    mixer: Annotated[
        str, typer.Option(help="Any of none (the original), mixup, zeta, zeta-anchored.")
    ] = "none,mixup,zeta",
    alpha: Alpha = 1.0,
    n_mix: NMix = None,
    batch_size: Annotated[int, typer.Option(help="Samples mixed with one another.")] = 32,
    seeds: Annotated[int, typer.Option(help="Number of seeds: 0, 1, ...")] = 3,
    n_queries: Annotated[
        int | None, typer.Option(help="Estimate at so many random points; all by default.")
    ] = None,
    n_samples: Annotated[
        int | None, typer.Option(help="Use or generate so many samples of each data set.")
    ] = None,
    split: Annotated[str, typer.Option(help="train or test, where the data has both.")] = "train",
    data_dir: DataDir = None,
    data_seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed for making data and for --n-samples.")
    ] = 0,
    device: Device = "auto",
    memory_limit: MemoryLimit = None,
    neighbors_method: Annotated[
        str, typer.Option(help="exact, or approximate with its measured recall.")
    ] = "exact",
    dask: Annotated[
        str | None,
        typer.Option(help="Compute on a Dask cluster: tcp://HOST:PORT, or local:N for N workers."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the table (.parquet or .csv) and its settings (.json)."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw local ID against γ (.png, .svg or .pdf).")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run's journal beside --out.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Measure local intrinsic dimension against the mixing strength.

    Without --out the table goes to stdout: drawn on a terminal, as CSV in a pipe. With --out
    each finished cell is kept at once in a journal beside the table, from which --resume goes on.

    For example:

      zmanifold sweep-id digits --gamma 0:15:1 --plot digits.png

      zmanifold sweep-id helix-r3 --gamma 2.4,2.8,4 --neighbors 8 --seeds 1

      zmanifold sweep-id fashion-mnist --n-queries 2000 --out run.parquet --plot run.png

      zmanifold sweep-id mine.npz --mixer none,mixup,zeta,zeta-anchored --out run.csv

      zmanifold sweep-id big.npy --n-queries 2000 --memory-limit 1GiB --dask local:4 --out run.csv
    """
    gammas = parse_gammas(gamma)
    k_values = parse_integers("--neighbors", neighbors)
    limit = None if memory_limit is None else parse_bytes(memory_limit)

    from zmanifold._base.files import check_output, journal_of, sidecar_of
    from zmanifold.datasets import load_dataset
    from zmanifold.mixers import mixers_by_name
    from zmanifold.storage import save_figure, save_sweep
    from zmanifold.sweep import Journal

    if resume and (out is None or overwrite):
        raise InputError("--resume goes with --out and without --overwrite: name the run's table.")
    replace = overwrite or resume
    if out is not None:
        check_output(out, overwrite=replace, resumable=True, inputs=datasets)
        check_output(sidecar_of(out), (".json",), overwrite=replace, resumable=True)
        check_output(journal_of(out), (".journal",), overwrite=replace, resumable=True)
        if resume and out.exists() and not journal_of(out).exists():
            raise InputError(
                f"{str(out)!r} has no journal {str(journal_of(out))!r} to go on from: give "
                "--overwrite, or another name."
            )
    if plot is not None:
        check_output(plot, (".png", ".svg", ".pdf"), overwrite=replace)
    mixers = mixers_by_name(parse_list(mixer), gammas=gammas, alpha=alpha, n_mix=n_mix)

    from zmanifold.sweep import check_dask, connected, failed_cells, measured_recall, prepare_sweep

    if dask is not None:
        check_dask(dask)

    sweeps = [
        prepare_sweep(
            load_dataset(
                name,
                split=split,  # type: ignore[arg-type]  # load_dataset names the nearest split
                n_samples=n_samples,
                data_dir=data_dir,
                random_state=data_seed,
            ),
            mixers=mixers,
            n_neighbors=k_values,
            batch_size=batch_size,
            seeds=seeds,
            n_queries=n_queries,
            device=device,
            memory_limit=limit,
            neighbors_method=neighbors_method,  # type: ignore[arg-type]  # it names the nearest
            elsewhere=dask is not None,
        )
        for name in datasets
    ]
    _check_distinct(datasets, [sweep.name for sweep in sweeps])
    import pandas as pd

    results = []
    kept = None if out is None else f"{journal_of(out)} keeps what is finished"
    with _stoppable(kept), contextlib.ExitStack() as stack:
        client = None
        if dask is not None:
            client = stack.enter_context(connected(dask))
        journal = None
        if out is not None:
            begun = {sweep.name: sweep.fingerprint for sweep in sweeps}
            # Nothing old is touched before all input has been checked.
            if overwrite:
                journal_of(out).unlink(missing_ok=True)
            journal = stack.enter_context(Journal(journal_of(out)))
            journal.begin(begun)
        try:
            for sweep in sweeps:
                results.append(sweep.run(journal=journal, client=client))
                if out is not None:
                    # After each data set: what follows may fail.
                    save_sweep(results, out)
        except OSError:
            if journal is None or journal.path.exists():
                raise
            rows = [row for sweep in sweeps for row in journal.finished(sweep.name).values()]
            _print_frame(pd.DataFrame(rows))
            gone = f"the journal {str(journal.path)!r} is gone: its finished cells go to the output"
            raise typer.Exit(_complain(f"failed: {gone}.", 1)) from None
    frame = pd.concat([result.to_frame() for result in results], ignore_index=True)
    if plot is not None and len(frame):
        from zmanifold.plotting import sweep_figure

        save_figure(sweep_figure(frame), plot)
    if out is None and len(frame):
        _print_frame(frame)
    written = [str(p) for p in (out, sidecar_of(out) if out else None, plot) if p and p.exists()]
    if written:
        typer.echo(f"wrote {', '.join(written)}", err=out is None)
    if neighbors_method == "approximate":
        typer.echo(measured_recall(results), err=True)
    if any(result.failures for result in results):
        remedy = (
            "give --out, and --resume runs just those"
            if out is None
            else f"{sidecar_of(out)} lists them, the same command with --resume runs just those"
        )
        raise typer.Exit(_complain(f"{failed_cells(results)}: {remedy}.", 1))


@app.command()
def train(
    dataset: Annotated[
        str, typer.Argument(help="A name ('zmanifold datasets' lists them), file or image folder.")
    ],
    mixer: Annotated[str, typer.Option(help="none, mixup, zeta or zeta-anchored.")] = "none",
    gamma: Annotated[float, typer.Option(help="ζ-mixup's strength.")] = 2.8,
    alpha: Alpha = 1.0,
    n_mix: NMix = None,
    arch: Annotated[str, typer.Option(help="small (for a CPU) or resnet18.")] = "small",
    epochs: Annotated[int, typer.Option(help="Passes through the data.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Samples mixed with one another.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="At the start.")] = 0.1,
    weight_decay: Annotated[float, typer.Option(help="Of all weights.")] = 5e-4,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror images at random.")] = False,
    crop: Annotated[int, typer.Option(help="Pad by so many pixels and crop at random.")] = 0,
    n_train: Annotated[
        int | None,
        typer.Option(help="Training samples of a source without a test split; 80% by default."),
    ] = None,
    data_dir: DataDir = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Of weights, order, mixing and holding out.")
    ] = 0,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Write the model (.pt), kept after each epoch, and its history (.json)."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the interrupted training of --out.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a classifier of images on mixed batches and print its accuracy.

    The accuracy is that on the test split, or on the samples held out of a source without one.

    For example:

      zmanifold train digits --mixer zeta --gamma 2.8

      zmanifold train fashion-mnist --mixer mixup --epochs 6 --out mixup.pt

      zmanifold train cifar10 --arch resnet18 --flip --crop 4 --epochs 60 --out zeta.pt --mixer zeta
    """
    from zmanifold._base.files import check_output, sidecar_of, write_json
    from zmanifold.datasets import train_test
    from zmanifold.mixers import mixers_by_name

    if resume and (out is None or overwrite):
        raise InputError("--resume goes with --out and without --overwrite: name the model.")
    if out is not None:
        replace = overwrite or resume
        check_output(out, (".pt",), overwrite=replace, resumable=True)
        check_output(sidecar_of(out), (".json",), overwrite=replace, resumable=True)
    (made,) = mixers_by_name([mixer], gammas=[gamma], alpha=alpha, n_mix=n_mix)
    training, test = train_test(dataset, n_train=n_train, data_dir=data_dir, random_state=seed)

    from zmanifold.training import train as run

    with _stoppable(None if out is None else f"{out} keeps the finished epochs"):
        done = run(
            training,
            mixer=made,
            arch=arch,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            flip=flip,
            crop=crop,
            seed=seed,
            test=test,
            device=device,
            checkpoint=out,
            resume=resume,
        )
    accuracy = done.history[-1]["test_accuracy"]
    seconds = sum(row["seconds"] for row in done.history)
    typer.echo(f"accuracy {accuracy:.4f} on {len(test.points)} test samples after {seconds:.1f} s")
    if out is not None:
        content = {"accuracy": accuracy, "n_test": len(test.points), **done.settings}
        write_json(sidecar_of(out), content | {"history": list(done.history)})
        typer.echo(f"wrote {out}, {sidecar_of(out)}", err=True)


@app.command()
def vicinity(
    train: Annotated[
        str,
        typer.Option(help="Training samples: a name (its train split), a file or image folder."),
    ],
    test: Annotated[
        str, typer.Option(help="Test samples: a name (its test split), a file or image folder.")
    ],
    k: Annotated[str, typer.Option(help="Neighbourhood sizes, K,K,...")] = "8,16",
    metric: Annotated[str, typer.Option(help="euclidean or cosine.")] = "euclidean",
    data_dir: DataDir = None,
    device: Device = "auto",
    memory_limit: MemoryLimit = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write a row a test sample (.parquet or .csv), and settings (.json)."),
    ] = None,
    embed: Annotated[
        Path | None,
        typer.Option(help="Draw a t-SNE of both sets (.png, .svg or .pdf); needs openTSNE."),
    ] = None,
    lines: Annotated[
        bool, typer.Option("--lines", help="Lead lines to the neighbours in --embed.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Measure what surrounds test samples: the nearest training samples, and their labels.

    The means over all test samples go to stdout. Training labels may be soft: save a mixed set,
    or a model's features, with np.savez("train.npz", x=..., y=...).

    For example:

      zmanifold vicinity --train train.npz --test test.npz

      zmanifold vicinity --train fashion-mnist --test fashion-mnist --k 16 --metric cosine

      zmanifold vicinity --train train.npz --test test.npz --out samples.parquet

      zmanifold vicinity --train train.npz --test test.npz --metric cosine --k 128 --embed out.png
    """
    k_values = parse_integers("--k", k)
    limit = None if memory_limit is None else parse_bytes(memory_limit)

    from zmanifold._base.files import check_output, sidecar_of
    from zmanifold.datasets import comparable_labels, has_splits, load_dataset
    from zmanifold.storage import save_figure, save_table

    if lines and embed is None:
        raise InputError("--lines goes with --embed: name the picture.")
    if embed is not None:
        check_output(embed, (".png", ".svg", ".pdf"), overwrite=overwrite)
    if out is not None:
        check_output(out, overwrite=overwrite, inputs=[train, test])
        check_output(sidecar_of(out), (".json",), overwrite=overwrite)
    train_set = load_dataset(train, data_dir=data_dir)
    test_set = load_dataset(test, split="test" if has_splits(test) else "train", data_dir=data_dir)
    train_y, test_y = comparable_labels(train_set, test_set)

    from zmanifold._base.checks import resolve_device
    from zmanifold._base.provenance import device_name, environment
    from zmanifold.measures import vicinity as measure

    if embed is not None:
        from zmanifold.measures import check_embeddable

        check_embeddable(
            train_set.points,
            test_set.points,
            metric=metric,  # type: ignore[arg-type]  # it names the nearest metric
        )
    clock = time.perf_counter()
    result = measure(
        train_set.points,
        train_y,
        test_set.points,
        test_y,
        n_neighbors=k_values,
        metric=metric,  # type: ignore[arg-type]  # it names the nearest metric
        device=device,
        memory_limit=limit,
    )
    summary = result.summary()
    if out is not None:
        settings = {
            "train": train_set.name,
            "test": test_set.name,
            "n_train": len(train_set.points),
            "n_test": len(test_set.points),
            "n_features": train_set.points.shape[1],
            "n_neighbors": k_values,
            "metric": metric,
            "device": device_name(resolve_device(device)),
            "seconds": round(time.perf_counter() - clock, 3),
            "summary": summary.to_dict("records"),
            **environment(),
        }
        save_table(result.to_frame(), out, settings)
    if embed is not None:
        from matplotlib.figure import Figure

        from zmanifold.measures import embed as place
        from zmanifold.plotting import plot_embedding

        embedding = place(
            train_set.points,
            test_set.points,
            metric=metric,  # type: ignore[arg-type]  # checked by `measure`
        )
        figure = Figure(figsize=(8, 8), layout="constrained")
        neighbors = result.indices if lines else None
        plot_embedding(embedding, train_y, test_y, figure.add_subplot(), neighbors=neighbors)
        save_figure(figure, embed)
    _print_frame(summary)
    written = [str(p) for p in (out, sidecar_of(out) if out else None, embed) if p is not None]
    if written:
        typer.echo(f"wrote {', '.join(written)}", err=True)


@app.command()
def datasets(
    data_dir: DataDir = None,
) -> None:
    """List the data sets that can be loaded here, and how to get the others.

    For example:

      zmanifold datasets

      zmanifold datasets --data-dir ~/data
    """
    import pandas as pd

    from zmanifold.datasets import available_datasets

    rows = available_datasets(data_dir)
    _print_frame(
        pd.DataFrame(
            {
                "name": [row.name for row in rows],
                "here": ["yes" if row.here else "no" for row in rows],
                "where": [row.where for row in rows],
            }
        )
    )


def _run(arguments: list[str]) -> int:
    try:
        code = app(arguments, standalone_mode=False)
    except InputError as error:
        return _complain(str(error), 2)
    except Exception as error:
        if hasattr(error, "format_message"):
            # The parser's own: an unknown option, a missing argument.
            return _complain(_parsers(error, arguments), getattr(error, "exit_code", 2))
        return _complain(f"failed: {type(error).__name__}: {error}", 1)
    return code if isinstance(code, int) else 0


def _parsers(error: Any, arguments: list[str]) -> str:
    """Make one sentence of the parser's message, with the value that it may not name."""
    said = re.sub(r"\. Did (you mean .*\?)$", r" (did \1)", error.format_message()).rstrip(".")
    given = dict(pairwise(arguments)) | dict(a.split("=", 1) for a in arguments if "=" in a)
    options = getattr(getattr(error, "param", None), "opts", ())
    for value in (given[option] for option in options if option in given):
        if repr(value) not in said:
            said = said.replace("Invalid value", f"Invalid value {value!r}")
    return f"{said}; --help says what is accepted." if said else ""


@contextlib.contextmanager
def _stoppable(kept: str | None) -> Iterator[None]:
    """End on Ctrl-C, SIGTERM or a full disk with one line that says how to go on."""
    remedy = "the same command with --resume goes on"
    try:
        yield
    except KeyboardInterrupt as stop:
        said = "" if kept is None else f": {kept}, {remedy}"
        typer.echo(f"zmanifold: stopped{said}.", err=True)
        raise typer.Exit(143 if isinstance(stop, _Terminated) else 130) from None
    except OSError as error:
        if kept is None:
            raise
        said = str(error).removesuffix(".")
        raise typer.Exit(_complain(f"failed: {said}; {remedy}.", 1)) from None


def _complain(message: str, code: int) -> int:
    if message:
        typer.echo(f"zmanifold: {' '.join(message.split())}", err=True)
    return code


def _check_distinct(given: list[str], names: list[str]) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise InputError(
                f"{given[i]!r} and {given[names.index(name)]!r} are both called {name!r} in the "
                "table: sweep one of them, or rename a file."
            )


def _print_frame(frame: Any) -> None:
    """Draw a table for a person, CSV for a pipe."""
    if not sys.stdout.isatty():
        typer.echo(frame.to_csv(index=False), nl=False)
        return
    from rich.console import Console
    from rich.table import Table

    # What is the same in every row goes under the table: a terminal is narrow.
    alike = [c for c in frame.columns if len(frame) > 1 and frame[c].nunique(dropna=False) == 1]
    shown = frame.drop(columns=alike)
    caption = ", ".join(f"{c} {_cell(frame[c].iloc[0])}" for c in alike if frame[c].notna().all())
    table = Table(*map(str, shown.columns), caption=caption or None)
    for row in shown.itertuples(index=False):
        table.add_row(*map(_cell, row))
    Console().print(table)


def _cell(value: Any) -> str:
    if value != value:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
