"""Memory-mapped arrays, and a description by which another process maps the same values."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

__all__ = ["MappedFile", "Place", "is_mapped"]

# The parts of a file that another process compares, spread evenly over it: 1,024 pages of 4 KiB.
_PARTS, _PART = 1024, 4096


def is_mapped(X: object) -> TypeGuard[np.memmap[Any, Any]]:
    """Tell whether an array is memory-mapped: its values are those of a file.

    Examples
    --------
    >>> import numpy as np
    >>> from zmanifold._base.mapped import is_mapped
    >>> is_mapped(np.zeros(2))
    False
    """
    # The result of arithmetic with a mapped array is a numpy.memmap, too, but has no file.
    return isinstance(X, np.memmap) and X.filename is not None


@dataclass(frozen=True)
class MappedFile:
    """The state of a file when it was mapped, by which a later change is seen.

    Values of a mapped file are read when they are used. One that was overwritten gives others, and
    one that was cut short ends the process by SIGBUS.

    Attributes
    ----------
    path : str
        The absolute path.
    n_bytes, modified : int
        Its size, and the time of its last change in nanoseconds.
    """

    path: str
    n_bytes: int
    modified: int

    @classmethod
    def of(cls, path: str | Path) -> MappedFile:
        """Return the present state of a file.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from zmanifold._base.mapped import MappedFile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "x.npy")
        ...     _ = path.write_bytes(bytes(8))
        ...     MappedFile.of(path).check()
        """
        path = Path(path).resolve()
        status = path.stat()
        return cls(str(path), status.st_size, status.st_mtime_ns)

    def check(self) -> None:
        """Raise OSError if the file was changed or removed since."""
        try:
            same = MappedFile.of(self.path) == self
        except OSError:
            same = False
        if not same:
            raise OSError(
                f"{self.path!r} has changed while its values were read: restore the file, or begin "
                "anew with another output."
            )


@dataclass(frozen=True)
class Place:
    """The place of a memory-mapped array in its file, sent to another process instead of values.

    Attributes
    ----------
    path : str
        The absolute path of the file.
    n_bytes : int
        The file's size.
    digest : str
        The hash of parts of the file.
    dtype : str
        The array's type, as NumPy writes it.
    offset : int
        The position of the first value in the file, in bytes.
    shape, strides : tuple of int
        Those of the array.
    """

    path: str
    n_bytes: int
    digest: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, array: np.memmap[Any, Any]) -> Place:
        """Return the place of a mapped array or of a view of one.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> from zmanifold._base.mapped import Place
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/x.npy", np.arange(6).reshape(3, 2))
        ...     mapped = np.load(f"{folder}/x.npy", mmap_mode="r")
        ...     Place.of(mapped[1:]).open().tolist()
        [[2, 3], [4, 5]]
        """
        # A view repeats the attribute `offset` of the whole array, so the distance of the two
        # addresses is added to it.
        whole = array
        while isinstance(whole.base, np.memmap):
            whole = whole.base
        path = Path(str(array.filename)).resolve()
        return cls(
            str(path),
            path.stat().st_size,
            _digest(path),
            array.dtype.str,
            whole.offset + array.ctypes.data - whole.ctypes.data,
            array.shape,
            array.strides,
        )

    def open(self) -> NDArray[Any]:
        """Map the array again, read-only.

        Raises
        ------
        OSError
            If the file is missing, or has another size or other values.
        """
        path = Path(self.path)
        found = path.stat().st_size
        if found != self.n_bytes:
            raise OSError(
                f"{self.path!r} has {found} bytes here but {self.n_bytes} where the sweep began: "
                "give all workers the same file."
            )
        if _digest(path) != self.digest:
            raise OSError(
                f"{self.path!r} has other values here than where the sweep began: give all workers "
                "the same file."
            )
        content = np.memmap(self.path, np.uint8, "r")
        return np.ndarray(self.shape, self.dtype, content, self.offset, self.strides)


def _digest(path: Path) -> str:
    """Hash evenly spaced parts of a file, the first and the last among them."""
    last = max(0, path.stat().st_size - _PART)
    content = hashlib.sha256()
    with path.open("rb") as file:
        for start in sorted({last * i // (_PARTS - 1) for i in range(_PARTS)}):
            file.seek(start)
            content.update(file.read(_PART))
    return content.hexdigest()
