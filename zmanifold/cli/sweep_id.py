"""The command `zmanifold sweep-id`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zmanifold.cli.options import (
    Alpha,
    ArrayX,
    ArrayY,
    DataDir,
    Device,
    Features,
    Header,
    LabelColumn,
    MemoryLimit,
    NMix,
    Overwrite,
    Resize,
    home,
    named,
    parse_bytes,
    parse_gammas,
    parse_integers,
    reading_options,
    resumable,
)
from zmanifold.cli.printing import (
    check_shown,
    complain,
    noted,
    print_frame,
    print_readings,
    print_written,
    say,
)
from zmanifold.dimension import registry as estimators
from zmanifold.mixers import registry as mixers

if TYPE_CHECKING:
    from zmanifold.datasets import Reading
    from zmanifold.sweep import SweepResult

__all__ = ["SPARE", "sweep_id"]

# Columns that a narrow terminal leaves out first: means, their errors and flags stay.
SPARE = ("id_std_seeds", "id_q25", "id_q75", "seconds", "id_median", "id_std", "n_degenerate")

_Datasets = Annotated[
    list[str],
    typer.Argument(help="Names ('zmanifold datasets' lists them), files or image folders."),
]
_Gamma = Annotated[
    str, typer.Option(help="ζ-mixup's strengths: START:STOP:STEP, with both ends, or G,G,...")
]
_Neighbors = Annotated[str, typer.Option(help="Neighbourhood sizes k, K,K,...")]
_Mixer = Annotated[
    list[str],
    typer.Option(
        help="A mixer, NAME[:PARAM=VALUE,...], where a value may be a grid START:STOP:STEP or "
        "A/B/C; or several bare names with commas; or module.Name for a mixer of your own. May be "
        f"given several times. Names: none (the original data), {named(mixers.available)}."
    ),
]
_Estimator = Annotated[
    list[str],
    typer.Option(
        help="An estimator, NAME[:PARAM=VALUE,...] or module.Name. May be given several times. "
        f"Names: {named(estimators.available)}."
    ),
]
_BatchSize = Annotated[int, typer.Option(help="Samples mixed with one another.")]
_Seeds = Annotated[int, typer.Option(help="Number of seeds: 0, 1, ...")]
_NQueries = Annotated[
    int | None, typer.Option(help="Number of random points to estimate at; all by default.")
]
_NSamples = Annotated[
    int | None, typer.Option(help="Number of samples to use, or generate, of each data set.")
]
_Split = Annotated[str, typer.Option(help="train or test, where the data has both.")]
_DataSeed = Annotated[
    int, typer.Option(min=0, max=2**32 - 1, help="Seed for making data and for --n-samples.")
]
_Method = Annotated[str, typer.Option(help="exact, or approximate, with its recall measured.")]
_Dask = Annotated[
    str | None,
    typer.Option(
        help="Compute on a Dask cluster: local:N for N workers here, or tcp://HOST:PORT, which "
        "trusts all who reach its port."
    ),
]
_Out = Annotated[
    Path | None,
    typer.Option(
        callback=home, help="Write the table (.parquet or .csv) and its settings (.json)."
    ),
]
_Plot = Annotated[
    Path | None, typer.Option(callback=home, help="Draw local ID against γ (.png, .svg or .pdf).")
]
_Resume = Annotated[
    bool, typer.Option("--resume", help="Resume an interrupted run from the journal beside --out.")
]


def sweep_id(
    datasets: _Datasets,
    gamma: _Gamma = "0:15:1",
    neighbors: _Neighbors = "8,128",
    mixer: _Mixer = ["none,mixup,zeta"],  # noqa: B006  # Typer takes a list and copies it.
    alpha: Alpha = 1.0,
    n_mix: NMix = None,
    estimator: _Estimator = ["FO"],  # noqa: B006  # Typer takes a list and copies it.
    batch_size: _BatchSize = 32,
    seeds: _Seeds = 3,
    n_queries: _NQueries = None,
    n_samples: _NSamples = None,
    split: _Split = "train",
    data_dir: DataDir = None,
    label_column: LabelColumn = None,
    features: Features = None,
    x: ArrayX = None,
    y: ArrayY = None,
    header: Header = None,
    resize: Resize = None,
    data_seed: _DataSeed = 0,
    device: Device = "auto",
    memory_limit: MemoryLimit = None,
    neighbors_method: _Method = "exact",
    dask: _Dask = None,
    out: _Out = None,
    plot: _Plot = None,
    resume: _Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Measure local intrinsic dimension against the mixing strength.

    Without --out the table goes to stdout: drawn on a terminal, as CSV in a
    pipe. With --out a journal beside the table keeps each cell as soon as it is
    finished, and --resume continues from it. Means that cannot be read as they
    stand have `flags` in the table, and stderr says what helps.

    For example:

      zmanifold sweep-id digits --gamma 0:15:1 --plot digits.png

      zmanifold sweep-id helix-r3 --gamma 2.4,2.8,4 --neighbors 8 --seeds 1

      zmanifold sweep-id mnist --n-queries 2000 --out run.csv --plot run.png

      zmanifold sweep-id mine.npz --mixer none --mixer zeta:gamma=2:6:1

      zmanifold sweep-id digits --mixer mixup:alpha=0.2/1 --estimator FO:alphaFO=0.1

      zmanifold sweep-id big.npy --memory-limit 1GiB --dask local:4
    """
    gammas, k_values = parse_gammas(gamma), parse_integers("--neighbors", neighbors)
    limit = None if memory_limit is None else parse_bytes(memory_limit)

    from zmanifold.datasets import load_dataset
    from zmanifold.mixers import mixers_from_specs
    from zmanifold.sweep import JournalLost, PlotFailed, sweep_many

    check_shown(out, plot)
    chosen = mixers_from_specs(mixer, gammas=gammas, alpha=alpha, n_mix=n_mix)
    reading = reading_options(label_column, features, x, y, header, resize)
    load = partial(
        load_dataset, n_samples=n_samples, data_dir=data_dir, random_state=data_seed, **reading
    )
    # load_dataset itself refuses an unknown split, and suggests a similar one.
    loaded = (load(name, split=split) for name in datasets)  # type: ignore[arg-type, call-arg]
    readings: list[Reading | None] = []
    undrawn: PlotFailed | None = None
    with resumable(out, "keeps what is finished", ".journal"):
        try:
            results = sweep_many(
                noted(loaded, readings),
                started=partial(print_readings, readings),
                sources=datasets,
                mixers=chosen,
                n_neighbors=k_values,
                batch_size=batch_size,
                seeds=seeds,
                n_queries=n_queries,
                device=device,
                memory_limit=limit,
                neighbors_method=neighbors_method,
                estimators=estimator,
                out=out,
                plot=plot,
                resume=resume,
                overwrite=overwrite,
                dask=dask,
            )
        except PlotFailed as failed:
            results, undrawn = failed.results, failed
        except JournalLost as lost:
            print_frame(lost.to_frame(), spare=SPARE)
            said = f"failed: {lost}: its finished cells go to the output."
            raise complain(said, 1) from None
    _print_results(results, out, plot if undrawn is None else None)
    if undrawn is not None:
        raise complain(f"failed: {undrawn}.", 1)


def _print_results(results: list[SweepResult], out: Path | None, plot: Path | None) -> None:
    from zmanifold._base.files import sidecar_of
    from zmanifold.sweep import failed_cells, flagged_cells, joint_table, measured_recall

    sidecar = None if out is None else sidecar_of(out)
    if results[0].settings["neighbors_method"] == "approximate":
        say(measured_recall(results))
    if out is None and any(result.rows for result in results):
        print_frame(joint_table(results), spare=SPARE)
    print_written(out, sidecar, plot, err=out is None)
    for sentence in flagged_cells(results):
        say(sentence)
    if any(result.failures for result in results):
        remedy = (
            "give --out, and --resume runs just those"
            if sidecar is None
            else f"{sidecar} lists them, the same command with --resume runs just those"
        )
        raise complain(f"{failed_cells(results)}: {remedy}.", 1)
