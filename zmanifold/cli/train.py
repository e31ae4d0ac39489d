"""The command `zmanifold train`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from zmanifold._base.errors import InputError
from zmanifold.cli.options import (
    Alpha,
    ArrayX,
    ArrayY,
    DataDir,
    Device,
    Features,
    Header,
    LabelColumn,
    NMix,
    Overwrite,
    Resize,
    home,
    named,
    reading_options,
    resumable,
)
from zmanifold.cli.printing import check_shown, print_line, print_readings, print_written
from zmanifold.mixers import registry as mixers

__all__ = ["train"]

_Dataset = Annotated[
    str, typer.Argument(help="A name ('zmanifold datasets' lists them), file or image folder.")
]
_Mixer = Annotated[
    str,
    typer.Option(
        help="A mixer, NAME[:PARAM=VALUE,...] or module.Name. Names: none, "
        f"{named(mixers.available)}."
    ),
]
_Gamma = Annotated[float, typer.Option(help="ζ-mixup's strength.")]
_Arch = Annotated[str, typer.Option(help="small (for a CPU) or resnet18.")]
_Epochs = Annotated[int, typer.Option(help="Passes through the data.")]
_BatchSize = Annotated[int, typer.Option(help="Samples mixed with one another.")]
_LearningRate = Annotated[float, typer.Option(help="Learning rate of the first step.")]
_WeightDecay = Annotated[float, typer.Option(help="Weight decay of all weights.")]
_Flip = Annotated[bool, typer.Option("--flip", help="Mirror images at random.")]
_Crop = Annotated[int, typer.Option(help="Pad images by this number of pixels and crop at random.")]
_NTrain = Annotated[
    int | None,
    typer.Option(help="Training samples of a source without a test split; 80% by default."),
]
_Seed = Annotated[
    int,
    typer.Option(min=0, max=2**32 - 1, help="Seed of weights, order, mixing and held-out samples."),
]
_Out = Annotated[
    Path | None,
    typer.Option(
        callback=home,
        help="Write the model after each epoch (.safetensors, or .pt in the same format), and "
        "its history (.json).",
    ),
]
_Resume = Annotated[
    bool, typer.Option("--resume", help="Resume the interrupted training of --out.")
]


def train(
    dataset: _Dataset,
    mixer: _Mixer = "none",
    gamma: _Gamma = 2.8,
    alpha: Alpha = 1.0,
    n_mix: NMix = None,
    arch: _Arch = "small",
    epochs: _Epochs = 10,
    batch_size: _BatchSize = 128,
    learning_rate: _LearningRate = 0.1,
    weight_decay: _WeightDecay = 5e-4,
    flip: _Flip = False,
    crop: _Crop = 0,
    n_train: _NTrain = None,
    data_dir: DataDir = None,
    label_column: LabelColumn = None,
    features: Features = None,
    x: ArrayX = None,
    y: ArrayY = None,
    header: Header = None,
    resize: Resize = None,
    seed: _Seed = 0,
    device: Device = "auto",
    out: _Out = None,
    resume: _Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a classifier of images on mixed batches and print its accuracy.

    The accuracy is measured on the test split or, if the source has none, on
    held-out samples.

    For example:

      zmanifold train digits --mixer zeta --gamma 2.8

      zmanifold train fashion-mnist --mixer mixup --epochs 6 --out mixup.safetensors

      zmanifold train cifar10 --arch resnet18 --flip --crop 4 --epochs 60
    """
    from zmanifold._base.files import check_outputs, sidecar_of, write_json
    from zmanifold.datasets import train_test
    from zmanifold.mixers import mixers_from_specs

    check_shown(out)
    check_outputs(
        out, (".safetensors", ".pt"), overwrite=overwrite, resume=resume, what="the model"
    )
    made = mixers_from_specs([mixer], gammas=[gamma], alpha=alpha, n_mix=n_mix)
    if len(made) != 1:
        raise InputError(f"--mixer {mixer!r} names {len(made)} mixers: train with one of them.")
    reading = reading_options(label_column, features, x, y, header, resize)
    training, test = train_test(
        dataset, n_train=n_train, data_dir=data_dir, random_state=seed, **reading
    )

    from zmanifold.training import train as run

    with resumable(out, "keeps the finished epochs"):
        done = run(
            training,
            mixer=made[0],
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
            started=partial(print_readings, [training.read, test.read]),
        )
        accuracy, n_test = done.history[-1]["test_accuracy"], len(test.points)
        sidecar = None if out is None else sidecar_of(out)
        if sidecar is not None:
            content = {"accuracy": accuracy, "n_test": n_test, **done.settings}
            write_json(sidecar, content | {"history": list(done.history)})
    seconds = sum(row["seconds"] for row in done.history)
    said = f"accuracy {accuracy:.4f} on {n_test} test samples after {seconds:.1f} s"
    print_line(said, kept=sidecar)
    print_written(out, sidecar)
