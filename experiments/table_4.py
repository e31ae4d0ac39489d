"""Fashion-MNIST in Table 4 of the ζ-mixup paper: ResNet-18 trained with and without mixing.

Claim:    after 200 epochs with flips 93.89% of the test images are classified right by empirical
          risk minimisation (ERM), 93.96% with mixup and 94.30% with ζ-mixup at γ = 2.8
Command:  python experiments/table_4.py      (a GPU; on 2 cores an epoch takes many minutes)
Writes:   experiments/results/table_4.json (settings, accuracy and seconds of each epoch) and .md
Runtime:  see "seconds" in the .json, with the device and the versions

The paper's settings but for fewer epochs and larger batches: the learning rate falls after the same
shares of the epochs. What is reported is the accuracy after the last epoch, never the best one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import zmanifold as zm
from zmanifold._base.files import write_atomically, write_json
from zmanifold.training import Training, train

# The paper's per cent of each.
MODELS: dict[str, tuple[Any, float]] = {
    "ERM": (None, 93.89),
    "mixup": (zm.Mixup(), 93.96),
    "ζ-mixup, γ = 2.8": (zm.ZetaMixup(2.8), 94.30),
}
FOLDER = Path(__file__).parent / "results"


def main(
    images: Annotated[str, typer.Option(help="The image set.")] = "fashion-mnist",
    arch: Annotated[str, typer.Option(help="small or resnet18.")] = "resnet18",
    epochs: Annotated[int, typer.Option(help="Passes through the training images.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Images of a step.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the initial weights and all randomness.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    checkpoints: Annotated[
        Path | None, typer.Option(help="Keep the models there, and go on with those that are.")
    ] = None,
    only: Annotated[
        int | None, typer.Option(help="Train but this model, 0, 1 or 2, for a later run to read.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = FOLDER,
) -> None:
    """Train the three models one after the other and compare their accuracy with the paper's.

    A GPU has room for several at a time: processes with --only, then one without it.
    """
    if only is not None and checkpoints is None:
        raise typer.BadParameter("give --checkpoints, where the later run finds the model")
    training = zm.load_dataset(images)
    test = zm.load_dataset(images, split="test")
    if checkpoints is not None:
        checkpoints.mkdir(parents=True, exist_ok=True)
    done = {}
    for number, (name, (mixer, _)) in enumerate(MODELS.items()):
        if only not in (None, number):
            continue
        done[name] = train(
            training,
            mixer=mixer,
            arch=arch,
            epochs=epochs,
            batch_size=batch_size,
            flip=True,
            seed=seed,
            test=test,
            device=device,
            checkpoint=None if checkpoints is None else checkpoints / f"{number}.pt",
            resume=checkpoints is not None,
        )
        typer.echo(row_of(name, done[name]))
    if only is not None:
        return
    report = "\n".join([
        "| model | epochs | test accuracy | the paper's, after 200 epochs | seconds | device |",
        "| --- | --- | --- | --- | --- | --- |",
        *(row_of(name, model) for name, model in done.items()),
    ]) + "\n"  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "table_4.md", lambda part: part.write_text(report, encoding="utf-8"))
    write_json(
        out / "table_4.json",
        {
            "seconds": {name: round(seconds(model), 1) for name, model in done.items()},
            "paper_percent": {name: percent for name, (_, percent) in MODELS.items()},
            "percent": {name: accuracy(model) for name, model in done.items()},
            "models": {
                name: {"settings": model.settings, "history": list(model.history)}
                for name, model in done.items()
            },
        },
    )
    typer.echo(f"wrote {out / 'table_4'}.json, .md")


def accuracy(model: Training) -> float:
    """Return the test accuracy after the last epoch in per cent."""
    return round(100 * float(model.history[-1]["test_accuracy"]), 2)


def seconds(model: Training) -> float:
    """Return what training and testing took in all, sessions that were stopped included."""
    return float(sum(row["seconds"] for row in model.history))


def row_of(name: str, model: Training) -> str:
    """Return a line of the table."""
    return (
        f"| {name} | {len(model.history)} | {accuracy(model):.2f}% | {MODELS[name][1]:.2f}% | "
        f"{seconds(model):.0f} | {model.settings['device']} |"
    )


if __name__ == "__main__":
    typer.run(main)
