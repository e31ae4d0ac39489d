"""Training of classifiers with any mixer, and the checkpoints that it can go on from."""

from __future__ import annotations

import hashlib
import io
import math
import pickletools
import time
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from zmanifold._base.checks import check_count, is_number, resolve_device
from zmanifold._base.errors import InputError, shown
from zmanifold._base.files import write_atomically
from zmanifold._base.labels import as_labels, name_some
from zmanifold._base.progress import progress_bar
from zmanifold._base.provenance import device_name, environment
from zmanifold.datasets import Dataset
from zmanifold.mixers import check_mixer
from zmanifold.training.networks import Classifier, as_images, make_classifier

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Training", "load_training", "train"]

_FORMAT = "zmanifold classifier 1"

# What the tensors of a checkpoint are made of; torch would let through what makes room at will.
_GLOBALS = {
    "collections OrderedDict",
    "torch FloatStorage",
    "torch LongStorage",
    "torch._utils _rebuild_tensor_v2",
}

# An epoch's randomness is split by purpose.
_SHUFFLE, _AUGMENT = range(2)

# The learning rate falls after these shares of the epochs (80, 120 and 160 of 200 in the paper).
_MILESTONES = (0.4, 0.6, 0.8)
_DECAY = 0.2


@dataclass(frozen=True, eq=False)
class Training:
    """A trained classifier.

    Attributes
    ----------
    model : Classifier
        The network, in evaluation mode.
    history : tuple of dict
        One row an epoch: epoch, learning_rate, loss, test_accuracy (NaN without a test set),
        seconds.
    settings : dict
        What it was trained with, ready for JSON.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.training.loop import train
    >>> data = zm.load_dataset("digits", n_samples=256, random_state=0)
    >>> done = train(data, mixer=zm.ZetaMixup(2.8), epochs=1, batch_size=64, progress=False)
    >>> done.model.penultimate(data.points).shape
    (256, 128)
    """

    model: Classifier
    history: tuple[dict[str, Any], ...]
    settings: dict[str, Any] = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """Return the history, one row an epoch."""
        import pandas as pd

        return pd.DataFrame(list(self.history))

    def accuracy(self, dataset: Dataset) -> float:
        """Return the share of a data set's samples that are classified right."""
        classes = np.arange(self.model.n_classes)
        labels = as_labels(dataset.labels, len(dataset.points), name="labels", classes=classes)
        return float((self.model.predict(dataset.points) == labels.codes.numpy()).mean())


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
) -> Training:
    """Train a classifier of images on the mixed batches of a data set.

    Stochastic gradient descent with Nesterov momentum 0.9 on the cross entropy with the mixed
    labels; the learning rate falls to a fifth after 40, 60 and 80% of the epochs, as in the
    ζ-mixup paper.

    Parameters
    ----------
    dataset : Dataset
        Images with labels.
    mixer : mixer or None
        Called as torchvision's are, ``mixer(x, y)`` on images and soft labels; None trains on
        the originals (empirical risk minimisation).
    arch : {"small", "resnet18"}
        The network, see `zmanifold.training.networks`.
    epochs : int, default=10
        Passes through the data.
    batch_size : int, default=128
        Samples of a step, mixed with one another; a last batch that is not full is left out.
    learning_rate : float, default=0.1
        At the start.
    weight_decay : float, default=5e-4
        Of all weights.
    flip : bool, default=False
        Mirror every second image, at random.
    crop : int, default=0
        Pad by so many pixels, at most the images' size, and cut a random window of the original
        size.
    seed : int, default=0
        The source of the initial weights and of all randomness: the same initial weights for
        every mixer.
    test : Dataset, optional
        Measure the accuracy on it after each epoch.
    device : str or torch.device, default="auto"
        Where to compute; on a GPU in bfloat16.
    checkpoint : Path, optional
        Where the state goes after each epoch, atomically.
    resume : bool, default=False
        Go on from `checkpoint` if it is there; other settings or data are refused.
    progress : bool, default=True
        Show a progress bar on a terminal or in a notebook.

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
    >>> from zmanifold.training.loop import train
    >>> data = zm.load_dataset("digits")
    >>> done = train(data, mixer=zm.Mixup(), epochs=3, batch_size=64, progress=False)
    >>> done.accuracy(data) > 0.9
    True
    """
    where = resolve_device(device)
    images, labels = _as_examples(dataset)
    n_classes = labels.shape[1]
    if n_classes < 2:
        raise InputError(
            f"{dataset.name!r} holds a single class but a classifier needs at least 2: give "
            "samples of another class."
        )
    epochs = check_count("epochs", epochs)
    batch_size = check_count("batch_size", batch_size, least=2)
    if batch_size > len(images):
        raise InputError(
            f"batch_size={batch_size} is above the {len(images)} images: lower batch_size."
        )
    # Windows of more padding than the images are wide could miss them.
    crop = check_count("crop", crop, least=0, most=min(images.shape[2:]))
    if not is_number(learning_rate) or learning_rate <= 0:
        raise InputError(f"learning_rate={learning_rate!r} must be a positive number: give 0.1.")
    if not is_number(weight_decay) or weight_decay < 0:
        raise InputError(f"weight_decay={weight_decay!r} must be a number >= 0: give 5e-4.")
    if test is not None:
        test = _as_test(test, dataset, n_classes)
    check_mixer(mixer)
    if mixer is not None:
        # A trial shows a mixer's errors before any work.
        _mixed(mixer, images[:batch_size], labels[:batch_size], torch.Generator().manual_seed(0))
    model = make_classifier(arch, images.shape[1:], n_classes, seed=seed)
    model.standardise(images)
    settings = {
        "dataset": dataset.name,
        "data": _fingerprint(images, labels),
        "n_samples": len(images),
        "image_shape": list(images.shape[1:]),
        "n_classes": n_classes,
        "arch": arch,
        "mixer": repr(mixer),
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "flip": bool(flip),
        "crop": crop,
        "seed": seed,
    }
    steps = len(images) // batch_size
    model.to(where)
    # Channels last is the faster layout on a CPU, too.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stubs
    optimizer = torch.optim.SGD(
        model.parameters(), learning_rate, momentum=0.9, nesterov=True, weight_decay=weight_decay
    )
    history: list[dict[str, Any]] = []
    if resume and checkpoint is not None and checkpoint.exists():
        history = _restore(checkpoint, settings, model, optimizer)
    images, labels = images.to(where), labels.to(where)
    if isinstance(mixer, nn.Module):
        mixer = mixer.to(where)
    with progress_bar(progress, epochs * steps, f"{dataset.name}, {arch}") as advance:
        for _ in range(len(history) * steps):
            advance()
        for epoch in range(len(history), epochs):
            clock = time.perf_counter()
            falls = sum(epoch >= share * epochs for share in _MILESTONES)
            rate = learning_rate * _DECAY**falls
            for group in optimizer.param_groups:
                group["lr"] = rate
            model.train()
            total = torch.zeros((), device=where)
            shuffle, generator = _randomness(seed, epoch, len(images), where)
            for rows in shuffle[: steps * batch_size].view(steps, batch_size):
                x, y = images[rows], labels[rows]
                x = _augmented(x, flip, crop, generator)
                if mixer is not None:
                    x, y = _mixed(mixer, x, y, generator)
                with torch.autocast("cuda", torch.bfloat16, enabled=where.type == "cuda"):
                    loss = nn.functional.cross_entropy(
                        model(x.contiguous(memory_format=torch.channels_last)), y
                    )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]  # torch has no hints
                optimizer.step()
                total += loss.detach()
                advance()
            mean = float(total) / steps
            if not math.isfinite(mean):
                raise FloatingPointError(
                    f"the loss is {mean} in epoch {epoch + 1}: lower the learning rate."
                )
            row = {"epoch": epoch + 1, "learning_rate": rate, "loss": mean}
            row["test_accuracy"] = math.nan
            if test is not None:
                row["test_accuracy"] = Training(model, (), {}).accuracy(test)
            row["seconds"] = time.perf_counter() - clock
            history.append(row)
            if checkpoint is not None:
                _save(checkpoint, settings, model, optimizer, history)
    model.eval()
    made_with = {"device": device_name(where), **environment()}
    return Training(model, tuple(history), settings | made_with)


def load_training(path: Path, *, device: str | torch.device = "auto") -> Training:
    """Load what `train` saved; no code in the file is ever run.

    Parameters
    ----------
    path : Path
        A checkpoint.
    device : str or torch.device, default="auto"
        Where the model goes.

    Returns
    -------
    Training
        The model, its history and its settings.

    Raises
    ------
    InputError
        If the file is missing, cut short, or no checkpoint of this package.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import zmanifold as zm
    >>> from zmanifold.training.loop import load_training, train
    >>> data = zm.load_dataset("digits", n_samples=256, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "model.pt")
    ...     done = train(data, epochs=1, checkpoint=path, progress=False)
    ...     again = load_training(path)
    >>> bool((again.model.predict(data.points) == done.model.predict(data.points)).all())
    True
    """
    where = resolve_device(device)
    content = _read(path)
    settings = content["settings"]
    try:
        network = settings["arch"], tuple(settings["image_shape"]), settings["n_classes"]
        # First without values: the settings may be those of a network of any size.
        with torch.device("meta"):
            weights = make_classifier(*network, seed=0).state_dict()
        _check_tensors(content["model"], weights)
        model = make_classifier(*network, seed=0)
        model.load_state_dict(content["model"])
    except Exception as error:
        raise _broken(path, error) from None
    return Training(model.to(where).eval(), tuple(content["history"]), settings)


def _as_examples(
    dataset: Dataset,
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n k"]]:
    """Return images and soft labels."""
    if dataset.image_shape is None or len(dataset.image_shape) != 3:
        raise InputError(
            f"{dataset.name!r} holds no images (image_shape={dataset.image_shape}) but a network "
            "needs them: save x with shape (n, channels, height, width)."
        )
    if dataset.labels is None:
        raise InputError(f"{dataset.name!r} has no labels: save them as array y of an .npz file.")
    channels, height, width = dataset.image_shape
    images = as_images(dataset.points, (channels, height, width))
    labels = as_labels(dataset.labels, len(images), name="labels")
    if labels.soft is None:
        known = 0 if dataset.class_names is None else len(dataset.class_names)
        n_classes = max(known, int(labels.classes[-1]) + 1)
        labels = as_labels(dataset.labels, len(images), name="labels", classes=np.arange(n_classes))
    return images, labels.distributions().float()


def _as_test(test: Dataset, dataset: Dataset, n_classes: int) -> Dataset:
    """Return checked test images whose classes are numbered as those of the training images."""
    _as_examples(test)
    if test.image_shape != dataset.image_shape:
        raise InputError(
            f"{test.name!r} holds test images of shape {test.image_shape} but training images of "
            f"shape {dataset.image_shape}: bring them to one size."
        )
    labels, names, known = test.labels, test.class_names, dataset.class_names
    if names and known and names != known and labels is not None and labels.ndim == 1:
        strange = sorted(set(names) - set(known))
        if strange:
            raise InputError(
                f"{test.name!r} holds test images of class {strange[0]!r} but training images of "
                f"{name_some(np.array(known))}: remove such images, or add training images."
            )
        labels = np.array([known.index(name) for name in names])[labels]
    as_labels(labels, len(test.points), name="test labels", classes=np.arange(n_classes))
    return replace(test, labels=labels)


def _fingerprint(images: Tensor, labels: Tensor) -> str:
    content = hashlib.sha256(images.numpy().data)
    content.update(labels.numpy().data)
    return f"sha256:{content.hexdigest()[:32]}"


def _randomness(
    seed: int, epoch: int, n: int, device: torch.device
) -> tuple[Int64[Tensor, " n"], torch.Generator]:
    """Return an epoch's shuffle and its generator: a function of the seed and the epoch alone."""
    shuffle = np.random.default_rng([seed, epoch, _SHUFFLE]).permutation(n)
    state = np.random.SeedSequence([seed, epoch, _AUGMENT]).generate_state(1, np.uint64)
    generator = torch.Generator(device).manual_seed(int(state[0]) >> 1)
    return torch.from_numpy(shuffle).to(device), generator


def _augmented(
    x: Float[Tensor, "b c h w"], flip: bool, crop: int, generator: torch.Generator
) -> Float[Tensor, "b c h w"]:
    """Mirror every second image and shift each by up to `crop` pixels, at random."""
    b, _, h, w = x.shape
    if flip:
        mirrored = torch.rand(b, 1, 1, 1, generator=generator, device=x.device) < 0.5
        x = torch.where(mirrored, x.flip(3), x)
    if crop:
        padded = nn.functional.pad(x, (crop,) * 4)
        moved = torch.randint(2 * crop + 1, (2, b, 1), generator=generator, device=x.device)
        rows = moved[0] + torch.arange(h, device=x.device)
        columns = moved[1] + torch.arange(w, device=x.device)
        samples = torch.arange(b, device=x.device)[:, None, None]
        x = padded.movedim(1, 3)[samples, rows[:, :, None], columns[:, None, :]].movedim(3, 1)
    return x


def _mixed(mixer: Any, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    if isinstance(mixer, nn.Module) and hasattr(mixer, "weights"):
        mixed, soft = mixer(x, y, generator=generator)
    else:
        with torch.random.fork_rng():
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator, device=x.device)))
            mixed, soft = mixer(x, y)
    return mixed, soft


# --- checkpoints ----------------------------------------------------------------------------


def _save(
    path: Path,
    settings: dict[str, Any],
    model: Classifier,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, Any]],
) -> None:
    content = {
        "format": _FORMAT,
        "settings": settings,
        "history": history,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    write_atomically(path, lambda temporary: torch.save(content, temporary))


def _read(path: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            # torch's messages about a damaged file show its values, some of which warn.
            warnings.simplefilter("ignore")
            content = torch.load(_repacked(path), map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({shown(error)}): check the file.") from None
    except Exception as error:  # a file that must not be believed raises nearly anything
        raise _broken(path, error) from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise _broken(path, "it has another content")
    settings, history = content.get("settings"), content.get("history")
    if not isinstance(settings, dict) or not all(map(_is_plain, settings.values())):
        raise _broken(path, "its settings are damaged")
    if not isinstance(history, list) or not all(
        isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values())
        for row in history
    ):
        raise _broken(path, "its history is damaged")
    return content


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(size, int) for size in value)
    return isinstance(value, str | int | float)


def _repacked(path: Path) -> io.BytesIO:
    """Copy a checkpoint whose sizes, checksums and types are right into a new archive.

    torch makes room for what an archive promises, and checks no checksum.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(packed, "w") as copy:
        members = archive.infolist()
        promised = sum(member.file_size for member in members)
        if promised > path.stat().st_size or any(
            member.compress_type != zipfile.ZIP_STORED for member in members
        ):
            raise ValueError(f"it promises {promised} bytes")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("a part comes twice")
        for member in members:
            content = archive.read(member)
            if member.filename.endswith(".pkl"):
                _check_pickle(content)
            copy.writestr(member.filename, content)
    packed.seek(0)
    return packed


def _check_pickle(content: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name == "GLOBAL" and argument not in _GLOBALS:
            raise ValueError(f"it asks for {shown(argument, 40)}")
        if opcode.name == "PROTO" and argument != 2:
            raise ValueError(f"pickle protocol {argument}")


def _check_tensors(found: Mapping[Any, Any], expected: Mapping[Any, Tensor]) -> None:
    """Refuse tensors of other names, shapes or types, of no numbers, or that repeat a few."""
    if found.keys() != expected.keys():
        raise ValueError("its weights are those of another network")
    for name, like in expected.items():
        tensor = found[name]
        if (
            tensor.layout != torch.strided
            or (tensor.shape, tensor.dtype) != (like.shape, like.dtype)
            or tensor.nbytes > tensor.untyped_storage().nbytes()
            or not bool(tensor.isfinite().all())
        ):
            raise ValueError(f"its weight {name} is that of another network, or no number")


def _broken(path: Path, why: object) -> InputError:
    reason = shown(str(why).strip().split("\n")[0], 80) or type(why).__name__
    return InputError(
        f"{path} is no whole checkpoint of this package ({reason}): train it again, or give "
        "another file."
    )


def _restore(
    path: Path, settings: dict[str, Any], model: Classifier, optimizer: torch.optim.Optimizer
) -> list[dict[str, Any]]:
    """Load a checkpoint of the same settings into a model and its optimizer."""
    content = _read(path)
    before = content["settings"]
    changed = [
        f"{name}={before.get(name)!r:.60}, now {value!r}"
        for name, value in settings.items()
        if before.get(name) != value
    ]
    if changed:
        raise InputError(
            f"{path} was begun with {'; '.join(changed)}: give the same settings and data, or "
            "begin another file."
        )
    try:
        if len(content["history"]) > settings["epochs"]:
            raise ValueError(f"it has {len(content['history'])} epochs")
        _check_tensors(content["model"], model.state_dict())
        states = content["optimizer"]["state"].items()
        momenta = {number: state["momentum_buffer"] for number, state in states}
        _check_tensors(momenta, dict(enumerate(model.parameters())))
        model.load_state_dict(content["model"])
        # Only the momenta: what else is there of an optimizer follows from the settings.
        state = {number: {"momentum_buffer": momentum} for number, momentum in momenta.items()}
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except Exception as error:
        raise _broken(path, error) from None
    return list(content["history"])
