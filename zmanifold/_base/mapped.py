"""Memory-mapped arrays, and a description by which another process maps the same values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

__all__ = ["Place", "is_mapped"]


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
class Place:
    """The place of a memory-mapped array in its file, sent to another process instead of values.

    Attributes
    ----------
    path : str
        The absolute path of the file.
    n_bytes : int
        The file's size.
    dtype : str
        The array's type, as NumPy writes it.
    offset : int
        The position of the first value in the file, in bytes.
    shape, strides : tuple of int
        Those of the array.
    """

    path: str
    n_bytes: int
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
            If the file is missing or has another size.
        """
        found = Path(self.path).stat().st_size
        if found != self.n_bytes:
            raise OSError(
                f"{self.path} has {found} bytes here but {self.n_bytes} where the sweep began: "
                "give all workers the same file."
            )
        content = np.memmap(self.path, np.uint8, "r")
        return np.ndarray(self.shape, self.dtype, content, self.offset, self.strides)
