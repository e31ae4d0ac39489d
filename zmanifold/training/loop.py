"""Training of image classifiers on batches that a mixer has mixed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from zmanifold._base.ambient import ambient_outside
from zmanifold._base.checks import check_count, is_number, resolve_device
from zmanifold._base.errors import InputError
from zmanifold._base.progress import progress_bar
from zmanifold._base.provenance import device_name, environment
from zmanifold.datasets import Dataset
from zmanifold.mixers import apply, check_mixer, fitted, identify, label_of
from zmanifold.training._augment import augmented, randomness
from zmanifold.training._examples import as_examples, as_test, fingerprint
from zmanifold.training.checkpoints import restore, save
from zmanifold.training.networks import Classifier, make_classifier
from zmanifold.training.result import Training

__all__ = ["train"]

# The learning rate is multiplied by _DECAY after these shares of the epochs, in the ζ-mixup paper
# after 80, 120 and 160 of 200 epochs.
_MILESTONES = (0.4, 0.6, 0.8)
_DECAY = 0.2


@ambient_outside()
def train(
    dataset: Dataset,
    *,
    mixer: Any = None,
    arch: str = "small",
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 0.1,
    weight_decay: float = 5e-4,
    flip: bool = False,
    crop: int = 0,
    seed: int = 0,
    test: Dataset | None = None,
    device: str | torch.device = "auto",
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: bool = True,
    started: Callable[[], object] | None = None,
) -> Training:
    """Train a classifier of images on the mixed batches of a data set.

    The optimizer is stochastic gradient descent with Nesterov momentum 0.9, the loss is the cross
    entropy with the mixed labels. The learning rate falls to a fifth after 40, 60 and 80% of the
    epochs, as in the ζ-mixup paper.

    Parameters
    ----------
    dataset : Dataset
        Images with labels.
    mixer : mixer or None
        A mixer of this package, or a callable ``mixer(x, y)`` of images (b, c, h, w) and soft
        labels (b, K), such as those of torchvision. A mixer with ``fit(X, y)`` is fitted to all
        images first, and gets each batch's row numbers as ``indices``. None trains on the
        original images (empirical risk minimisation).
    arch : {"small", "resnet18"}
        The network, see `zmanifold.training.networks`.
    epochs : int, default=10
        Passes through the data.
    batch_size : int, default=128
        Samples of a step, mixed with one another. Each epoch leaves out the samples of a last
        batch that is not full.
    learning_rate : float, default=0.1
        The learning rate of the first epochs.
    weight_decay : float, default=5e-4
        The multiple of each parameter that is added to its gradient.
    flip : bool, default=False
        Mirror each image with probability 1/2.
    crop : int, default=0
        Pad each image by this number of pixels, at most its size, and cut a random window of the
        original size.
    seed : int, default=0
        The source of the initial weights, which are the same for every mixer, and of all
        randomness.
    test : Dataset, optional
        Images whose accuracy is measured after each epoch.
    device : str or torch.device, default="auto"
        The device that computes. A GPU computes the forward pass in bfloat16 (autocast).
    checkpoint : Path, optional
        The file that holds the state after each epoch, in the safetensors format whatever its
        ending. It is replaced atomically.
    resume : bool, default=False
        Continue from `checkpoint` if it exists. A checkpoint of other settings or data is refused.
    progress : bool, default=True
        Show a progress bar on a terminal or in a notebook.
    started : callable, optional
        Called when all input has been checked, before the work.

    Returns
    -------
    Training
        The model, its history and its settings.

    Raises
    ------
    InputError
        If an argument is out of its range, before any work starts.
    FloatingPointError
        If the loss is no longer finite.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.training import train
    >>> data = zm.load_dataset("digits")
    >>> done = train(data, mixer=zm.Mixup(), epochs=3, batch_size=64, progress=False)
    >>> done.accuracy(data) > 0.9
    True
    """
    where = resolve_device(device)
    images, labels = as_examples(dataset)
    settings = _Settings(
        dataset=dataset.name,
        data=fingerprint(images, labels),
        n_samples=len(images),
        image_shape=list(images.shape[1:]),
        n_classes=labels.shape[1],
        arch=arch,
        mixer=_identified(mixer, checkpoint),
        epochs=check_count("epochs", epochs),
        batch_size=check_count("batch_size", batch_size, least=2),
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        flip=bool(flip),
        # With more padding than the image is wide, a window could miss the image.
        crop=check_count("crop", crop, least=0, most=min(images.shape[2:])),
        seed=check_count("seed", seed, least=0),
    )
    if test is not None:
        test = as_test(test, dataset, settings.n_classes)
    mixer = _prepared(mixer, images, labels, settings.batch_size)
    run = _Run.start(images, labels, mixer, settings, where)
    history: list[dict[str, Any]] = []
    if resume and checkpoint is not None and checkpoint.exists():
        history = restore(checkpoint, asdict(settings), run.model, run.optimizer)
    if started is not None:
        started()
    run.finish(history, test, checkpoint, progress)
    read = {"train": dataset.read_as_dict(), "test": test and test.read_as_dict()}
    made_with = {"read": read, "device": device_name(where), **environment()}
    return Training(run.model.eval(), tuple(history), asdict(settings) | made_with)


@dataclass(frozen=True)
class _Settings:
    """The data and settings that determine the weights, in the order in which files list them."""

    dataset: str
    data: str
    n_samples: int
    image_shape: list[int]
    n_classes: int
    arch: str
    mixer: str
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    flip: bool
    crop: int
    seed: int

    def __post_init__(self) -> None:
        if self.n_classes < 2:
            raise InputError(
                f"{self.dataset!r} holds a single class but a classifier needs at least 2: give "
                "samples of another class."
            )
        if self.batch_size > self.n_samples:
            raise InputError(
                f"batch_size={self.batch_size} is above the {self.n_samples} images: lower "
                "batch_size."
            )
        if not is_number(self.learning_rate) or self.learning_rate <= 0:
            raise InputError(
                f"learning_rate={self.learning_rate!r} must be a positive number: give 0.1."
            )
        if not is_number(self.weight_decay) or self.weight_decay < 0:
            raise InputError(
                f"weight_decay={self.weight_decay!r} must be a number >= 0: give 5e-4."
            )

    @property
    def steps(self) -> int:
        """The number of full batches in an epoch."""
        return self.n_samples // self.batch_size

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch."""
        falls = sum(epoch >= share * self.epochs for share in _MILESTONES)
        return self.learning_rate * _DECAY**falls


def _identified(mixer: Any, checkpoint: Path | None) -> str:
    """Return a name that recognises the mixer in a later run; a checkpoint cannot do without."""
    check_mixer(mixer, latent=False)
    found = identify(mixer)
    if found is None and checkpoint is not None:
        raise InputError(
            f"mixer {label_of(mixer)!r} has a state or code that cannot be read, so a checkpoint "
            "could not tell it from another: give it an attribute label, and another label "
            "whenever it changes."
        )
    return found or label_of(mixer)


def _prepared(
    mixer: Any, images: Float[Tensor, "n c h w"], labels: Float[Tensor, "n k"], batch_size: int
) -> Any:
    """Fit a mixer that has a `fit`, and mix one batch, so that its errors come before any work."""
    mixer = fitted(mixer, images, labels)
    rows, generator = torch.arange(batch_size), torch.Generator().manual_seed(0)
    _mixed(mixer, images[rows], labels[rows], generator, rows)
    return mixer


def _mixed(
    mixer: Any,
    x: Float[Tensor, "b c h w"],
    y: Float[Tensor, "b k"],
    generator: torch.Generator,
    rows: Int64[Tensor, " b"],
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k"], Float[Tensor, " b"] | None]:
    """Mix a batch. Labels that a mixer returns as class numbers are converted to distributions."""
    x, mixed_y, weights = apply(mixer, x, y, generator, rows, num_classes=y.shape[1])
    if not mixed_y.is_floating_point():
        mixed_y = nn.functional.one_hot(mixed_y.long(), y.shape[1])
    if mixed_y.shape != y.shape:
        raise InputError(
            f"the mixer returned labels of shape {tuple(mixed_y.shape)} for {len(y)} samples of "
            f"{y.shape[1]} classes: return one row a sample, one column a class."
        )
    return x, mixed_y.to(y.dtype), weights


@dataclass(frozen=True, eq=False)
class _Run:
    """A network, its optimizer, and the examples and the mixer on the same device."""

    model: Classifier
    optimizer: torch.optim.Optimizer
    images: Float[Tensor, "n c h w"]
    labels: Float[Tensor, "n k"]
    mixer: Any
    settings: _Settings

    @classmethod
    def start(
        cls,
        images: Float[Tensor, "n c h w"],
        labels: Float[Tensor, "n k"],
        mixer: Any,
        settings: _Settings,
        device: torch.device,
    ) -> _Run:
        """Make a network with its initial weights."""
        model = make_classifier(
            settings.arch, images.shape[1:], settings.n_classes, seed=settings.seed
        )
        model.standardise(images)
        model.to(device)
        # Convolutions are faster in the layout channels_last, on a CPU as on a GPU.
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in stubs
        optimizer = torch.optim.SGD(
            model.parameters(),
            settings.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=settings.weight_decay,
        )
        if isinstance(mixer, nn.Module):
            mixer = mixer.to(device)
        return cls(model, optimizer, images.to(device), labels.to(device), mixer, settings)

    def finish(
        self,
        history: list[dict[str, Any]],
        test: Dataset | None,
        checkpoint: Path | None,
        progress: bool,
    ) -> None:
        """Train for the epochs that the history lacks, and append them to it."""
        settings = self.settings
        total, label = settings.epochs * settings.steps, f"{settings.dataset}, {settings.arch}"
        with progress_bar(progress, total, label) as advance:
            for _ in range(len(history) * settings.steps):
                advance()
            for epoch in range(len(history), settings.epochs):
                clock = time.perf_counter()
                row: dict[str, Any] = {"epoch": epoch + 1, "learning_rate": settings.rate(epoch)}
                row["loss"] = self._epoch(epoch, advance)
                done = Training(self.model, (), {})
                row["test_accuracy"] = math.nan if test is None else done.accuracy(test)
                row["seconds"] = time.perf_counter() - clock
                history.append(row)
                if checkpoint is not None:
                    save(checkpoint, asdict(settings), self.model, self.optimizer, history)

    def _epoch(self, number: int, advance: Callable[[], object]) -> float:
        """Take one step for each full batch of an epoch and return the mean loss."""
        settings, device = self.settings, self.images.device
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate(number)
        self.model.train()
        total = torch.zeros((), device=device)
        shuffle, generator = randomness(settings.seed, number, settings.n_samples, device)
        for rows in shuffle[: settings.steps * settings.batch_size].view(settings.steps, -1):
            total += self._step(rows, generator)
            advance()
        mean = float(total) / settings.steps
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the loss is {mean} in epoch {number + 1}: lower the learning rate."
            )
        return mean

    def _step(self, rows: Int64[Tensor, " b"], generator: torch.Generator) -> Float[Tensor, ""]:
        """Update the weights by the gradient of a mixed batch's loss and return the loss."""
        x, y = self.images[rows], self.labels[rows]
        x = augmented(x, self.settings.flip, self.settings.crop, generator)
        x, y, weights = _mixed(self.mixer, x, y, generator, rows)
        with torch.autocast("cuda", torch.bfloat16, enabled=x.is_cuda):
            logits = self.model(x.contiguous(memory_format=torch.channels_last))
            if weights is None:
                loss = nn.functional.cross_entropy(logits, y)
            else:
                loss = (weights * nn.functional.cross_entropy(logits, y, reduction="none")).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no hints
        self.optimizer.step()
        return loss.detach()
