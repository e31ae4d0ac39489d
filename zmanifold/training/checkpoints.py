"""Checkpoints: the network, its momenta, its settings and its history in one safetensors file.

The weights have the names of the network's ``state_dict``. The momentum of parameter i, as the
optimizer numbers it, is the tensor ``momentum.i``. The metadata hold ``format``, ``version`` (of
the package), ``settings`` and ``history`` (JSON), and ``sha256``, the checksum of all the rest.
Archives (.pt) of version 0.1.0 are read, too. The content of a file, not its ending, decides how it
is read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from zmanifold._base.ambient import ambient_outside
from zmanifold._base.checks import resolve_device
from zmanifold._base.errors import InputError, shown
from zmanifold._base.files import write_atomically
from zmanifold._base.naming import encodable
from zmanifold._base.provenance import check_same_version
from zmanifold.training import _pt
from zmanifold.training.networks import Classifier, make_classifier
from zmanifold.training.result import Training

__all__ = ["load_training", "restore", "save"]

_FORMAT = "zmanifold classifier 2"
_MOMENTUM = "momentum."

# Parsed JSON takes at most 72 bytes for 3 characters ("{},"), and the history is copied once: a
# header of 8 MiB takes 400 MB at most. It has room for the history of 50,000 epochs.
_LONGEST_HEADER = 2**23


def save(
    path: Path,
    settings: Mapping[str, Any],
    model: Classifier,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, Any]],
) -> None:
    """Write the state after an epoch, atomically.

    Raises
    ------
    OSError
        If the file cannot be written. The last one remains.
    """
    states = optimizer.state_dict()["state"].items()
    momenta = {f"{_MOMENTUM}{number}": state["momentum_buffer"] for number, state in states}
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in (model.state_dict() | momenta).items()
    }
    # JSON has no NaN.
    rows = [{k: None if math.isnan(v) else v for k, v in row.items()} for row in history]
    metadata = {
        "format": _FORMAT,
        "version": version("zmanifold"),
        # default=float converts NumPy's numbers.
        "settings": json.dumps(settings, allow_nan=False, default=float),
        "history": json.dumps(rows, allow_nan=False, default=float),
    }
    metadata["sha256"] = _checksum(metadata, tensors)
    try:
        write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or shown(error)
        raise OSError(
            f"the checkpoint {str(path)!r} cannot be written ({reason}): the last finished epoch "
            "is safe, make room on the disk and go on"
        ) from None


def restore(
    path: Path, settings: Mapping[str, Any], model: Classifier, optimizer: torch.optim.Optimizer
) -> list[dict[str, Any]]:
    """Load a checkpoint of the same settings into a network and its optimizer.

    Returns its history, one row a finished epoch.
    """
    content = _read(path)
    check_same_version(f"{str(path)!r} holds a training", [str(content.get("version", "0.1.0"))])
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
        parameters = dict(enumerate(model.parameters()))
        _check_tensors(momenta, parameters)
        model.load_state_dict(content["model"])
        # The settings determine all of the optimizer's state but the momenta. These take the
        # memory layout of their parameters.
        state = {
            number: {"momentum_buffer": torch.empty_like(like).copy_(momenta[number])}
            for number, like in parameters.items()
        }
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except Exception as error:
        raise _broken(path, error) from None
    return list(content["history"])


@ambient_outside()
def load_training(path: Path, *, device: str | torch.device = "auto") -> Training:
    """Load a training from its checkpoint. No code in the file is run.

    Parameters
    ----------
    path : Path
        A checkpoint that `train` wrote, of this version or of 0.1.0.
    device : str or torch.device, default="auto"
        Where the model goes.

    Returns
    -------
    Training
        The model, its history and its settings.

    Raises
    ------
    InputError
        If the file is missing, damaged, or no checkpoint of this package.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import zmanifold as zm
    >>> from zmanifold.training import load_training, train
    >>> data = zm.load_dataset("digits", n_samples=256, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "model.safetensors")
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
        # First on the device "meta", which takes no memory: damaged settings may ask for a network
        # of any size.
        with torch.device("meta"):
            weights = make_classifier(*network, seed=0).state_dict()
        _check_tensors(content["model"], weights)
        model = make_classifier(*network, seed=0)
        model.load_state_dict(content["model"])
    except Exception as error:
        raise _broken(path, error) from None
    return Training(model.to(where).eval(), tuple(content["history"]), settings)


def _read(path: Path) -> dict[str, Any]:
    """Return a file's settings and history, checked, and its model and optimizer, unchecked.

    Model and optimizer are torch's ``state_dict`` of each. That of the optimizer may hold the
    momenta alone.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
        zipped = start.startswith(b"PK")
        content = _pt.read_pt(path) if zipped else _read_safetensors(path, start)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({shown(error)}): check the file.") from None
    except Exception as error:  # a damaged file raises nearly any error
        raise _broken(path, error) from None
    expected = _pt.FORMAT if zipped else _FORMAT
    if not isinstance(content, dict) or content.get("format") != expected:
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


def _read_safetensors(path: Path, start: bytes) -> dict[str, Any]:
    """Return the content of a file in the layout of version 0.1.0; a damaged one raises any error.

    The tensors are mapped from the file: they take no memory before their values are read.
    """
    length = int.from_bytes(start, "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header has {length} bytes")
    with path.open("rb") as opened, safe_open(_utf8_name(path, opened), "pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != _FORMAT:
            return {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not iterable itself
    if metadata.pop("sha256", None) != _checksum(metadata, tensors):
        raise ValueError("its checksum is another one")
    history = [
        {name: math.nan if value is None else value for name, value in row.items()}
        for row in json.loads(metadata["history"])
    ]
    momenta = {
        int(name.removeprefix(_MOMENTUM)): {"momentum_buffer": tensors.pop(name)}
        for name in list(tensors)
        if name.startswith(_MOMENTUM)
    }
    return {
        "format": _FORMAT,
        "version": metadata["version"],
        "settings": json.loads(metadata["settings"]),
        "history": history,
        "model": tensors,
        "optimizer": {"state": momenta},
    }


def _utf8_name(path: Path, opened: BinaryIO) -> str:
    """Return a name of an open file that safetensors takes, which must be UTF-8."""
    name = str(path)
    return name if encodable(name) == name else f"/dev/fd/{opened.fileno()}"


def _checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    content = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        content.update(name.encode())
        content.update(tensor.numpy().data)
    return content.hexdigest()


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(size, int) for size in value)
    return isinstance(value, str | int | float)


def _check_tensors(found: Mapping[Any, Any], expected: Mapping[Any, Tensor]) -> None:
    """Raise ValueError unless the tensors have the expected names, shapes and types and are finite.

    A tensor must also own all of its values: a stride of 0 would make a large one of few bytes.
    """
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
