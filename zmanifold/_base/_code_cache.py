"""Machine code on disk: one file a function and signature, which checks itself when it is read.

numba's own cache keeps an index of numbered files. Two processes that compile two signatures at a
time give both the same number, and a process that is killed between index and file leaves an older
file under a new number: either runs code of another type or of another source. A damaged file ends
the run. Here a file's name is the hash of all that its code depends on, and its first bytes are the
checksum of the others: what is not whole is compiled anew, and so is what cannot be written.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import pickle
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import CodeType
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps

__all__ = ["CodeCache"]

_CHECKSUM = hashlib.sha256().digest_size


class CodeCache(FunctionCache):
    """numba's cache of a function, with files that check themselves.

    Parameters
    ----------
    function : function
        The Python function.
    options : sequence of str
        The options that it is compiled with, in an order of their own.

    Raises
    ------
    RuntimeError
        If numba finds no folder that can be written to.

    Examples
    --------
    >>> from zmanifold._base._code_cache import CodeCache
    >>> from zmanifold._base.kernels import aligned_zeros
    >>> isinstance(aligned_zeros._cache, CodeCache)
    True
    """

    def __init__(self, function: Any, options: Sequence[str]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]  # numba has no hints
        self._cache_file: Any = _Files(self._impl, function, options)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled code of a signature, None where there is none that can be used."""
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:  # of a file that is whole, but not of this version of a library
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store compiled code, unless the disk is full or the folder is gone."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]


class _Files:
    def __init__(self, implementation: Any, function: Any, options: Sequence[str]) -> None:
        self._folder = Path(implementation.locator.get_cache_path())
        self._base = implementation.filename_base
        self._function = function
        self._options = options

    def load(self, key: object) -> Any:
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        checksum, stored = content[:_CHECKSUM], content[_CHECKSUM:]
        return pickle.loads(stored) if hashlib.sha256(stored).digest() == checksum else None

    def save(self, key: object, data: object) -> None:
        path, stored = self._path(key), dumps(data)
        try:
            # Another process may write or read the same file now: the checksum tells.
            path.write_bytes(hashlib.sha256(stored).digest() + stored)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        # Files of an earlier source would stay for ever.
        for old in self._folder.glob(f"{glob.escape(self._base)}.*.nb[ci]"):
            if not old.name.startswith(f"{self._base}.{self._stamp}."):
                old.unlink(missing_ok=True)

    def _path(self, key: object) -> Path:
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:24]
        return self._folder / f"{self._base}.{self._stamp}.{name}.nbc"

    @cached_property
    def _stamp(self) -> str:
        """The hash of numba's version, the options, and the source that the code is made of."""
        content = hashlib.sha256(repr((numba.__version__, self._options)).encode())
        for part in sorted(set(_sources(self._function, set()))):
            content.update(part)
        return content.hexdigest()[:16]


def _sources(function: Any, seen: set[Any]) -> Iterator[bytes]:
    """Yield the source of a function, and what it takes from its module: functions and constants.

    The machine code of a function holds that of the functions that it calls, whatever their file.
    """
    if function in seen:
        return
    seen.add(function)
    yield hashlib.sha256(Path(function.__code__.co_filename).read_bytes()).digest()
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        if isinstance(value, (bool, int, float, str, tuple)):
            yield f"{name}={value!r}".encode()
        # Of a compiled function and of an intrinsic.
        called = getattr(value, "py_func", None) or getattr(value, "_defn", None)
        if called is not None:
            yield from _sources(called, seen)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
