"""Files of image benchmarks: MNIST's IDX, CIFAR's binary records, lists of class names."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from zmanifold._base.errors import InputError
from zmanifold.datasets.formats._streams import opened, read_exactly, read_up_to, unpacked_limit

__all__ = ["read_cifar", "read_idx", "read_names"]


def read_idx(path: Path, n_axes: int) -> UInt8[np.ndarray, "..."]:
    """Read an IDX file of unsigned bytes: magic 0, 0, 8, axes; big-endian sizes; the bytes."""
    with opened(path) as stream:
        header = read_exactly(stream, 4 + 4 * n_axes, path)
        if header[:4] != bytes([0, 0, 8, n_axes]):
            raise InputError(
                f"{path} does not start as an IDX file of {n_axes}-D bytes does "
                f"({header[:4].hex(' ')}): get the original file."
            )
        shape = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
        limit = unpacked_limit(path) if path.suffix == ".gz" else None
        body = read_exactly(stream, math.prod(shape), path, limit)
        # Reading past the end also verifies a compressed file's checksum.
        if read_up_to(stream, 1, path):
            raise InputError(f"{path} goes on after the {shape} values it promises: get it again.")
    if math.prod(shape) == 0:
        raise InputError(f"{path} holds no values, its shape is {shape}: get the original file.")
    return np.frombuffer(body, np.uint8).reshape(shape)


def read_cifar(
    paths: list[Path], label_bytes: int
) -> tuple[UInt8[np.ndarray, "n 3 32 32"], Int64[np.ndarray, " n"]]:
    """Read CIFAR's binary records: label byte(s), the last one the class, then 3 x 32 x 32."""
    record = label_bytes + 3072
    parts = []
    for path in paths:
        size = path.stat().st_size
        if path.suffix == ".gz" or size == 0 or size % record:
            raise InputError(
                f"{path} has {size} bytes, which is not a whole number of {record}-byte records: "
                "get the binary version again."
            )
        parts.append(np.fromfile(path, np.uint8).reshape(-1, record))
    records = np.concatenate(parts)
    pixels = records[:, label_bytes:].reshape(-1, 3, 32, 32)
    return pixels, records[:, label_bytes - 1].astype(np.int64)


def read_names(path: Path) -> tuple[str, ...] | None:
    """Return the names in a file, one a line, or None if there is no such file."""
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return tuple(line.strip() for line in lines if line.strip())
