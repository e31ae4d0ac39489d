"""The software and hardware that a result was computed with, and what may be gone on with."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from zmanifold._base.errors import InputError, shown

__all__ = ["check_same_version", "device_name", "environment"]

_PACKAGES = ("zmanifold", "torch", "numpy", "scipy", "scikit-learn", "pandas")


# Versions whose unfinished results this one goes on with. Journals of 0.1.0 do not tell theirs.
_CONTINUED = frozenset({"0.1.0"})


def check_same_version(what: str, found: Iterable[str]) -> None:
    """Raise InputError if a result was begun with a version whose numbers may differ.

    Parameters
    ----------
    what : str
        The file, and what it holds.
    found : iterable of str
        The versions that wrote to it.

    Examples
    --------
    >>> from zmanifold._base.provenance import check_same_version
    >>> check_same_version("the journal 'run.journal' holds cells", ["0.1.0"])
    """
    own = version("zmanifold")
    if others := sorted({*found} - {own} - _CONTINUED):
        raise InputError(
            f"{what} of zmanifold {shown(', '.join(others), 80)}, whose numbers may differ from "
            f"those of {own}: go on with that version, or write to another name."
        )


def device_name(device: torch.device) -> str:
    """Return a device's name in results: "cpu", or "cuda" with the GPU's model.

    Examples
    --------
    >>> import torch
    >>> from zmanifold._base.provenance import device_name
    >>> device_name(torch.device("cpu"))
    'cpu'
    """
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return device.type


def environment() -> dict[str, object]:
    """Return versions, platform, processor and number of threads, as JSON takes them.

    The processor matters because libraries order sums by its vector instructions: rounding, and
    with it a trained network, differs from one model to another.

    Examples
    --------
    >>> from zmanifold._base.provenance import environment
    >>> sorted(environment())
    ['cpu', 'cpus', 'platform', 'python', 'threads', 'versions']
    """
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    # torch.__version__ names the build, "+cpu" or "+cu130"; the package's metadata may not.
    versions["torch"] = str(torch.__version__)
    return {
        "versions": versions,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or "unknown")
