"""Recognise the user's own mixers and estimators from one run to the next.

A name is too weak (its code may have been edited), an address too strong (it is another one in
each process). What identifies an object here is its class's source and its state.
"""

from __future__ import annotations

import hashlib
import inspect
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

__all__ = ["identity"]

# Modules whose classes are identified by their names: they change with a version alone.
_KNOWN = ("zmanifold", "torch", "numpy", "builtins", "scipy", "sklearn", "functools", "collections")

_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, range)


class _UnreadableError(Exception):
    """A part of the object has no state that can be read."""


def identity(thing: Any) -> str | None:
    """Return a digest of an object's code and state, the same in each process.

    Parameters
    ----------
    thing : object
        A function, a class's instance, a torch module, a functools.partial...

    Returns
    -------
    str or None
        None where a part cannot be read: a file, a lock, an object of compiled code.

    Examples
    --------
    >>> from functools import partial
    >>> from zmanifold._base.identity import identity
    >>> identity(partial(round, ndigits=1)) == identity(partial(round, ndigits=1))
    True
    >>> identity(partial(round, ndigits=1)) == identity(partial(round, ndigits=2))
    False
    >>> identity(iter([])) is None
    True
    """
    content = hashlib.sha256()
    try:
        for part in _parts(thing, {}):
            content.update(part + b"\0")
    except (_UnreadableError, RecursionError):
        return None
    return content.hexdigest()[:32]


def _parts(thing: Any, seen: dict[int, int]) -> Iterator[bytes]:
    if isinstance(thing, _PLAIN):
        yield f"{type(thing).__name__} {thing!r}".encode()
        return
    if id(thing) in seen:  # a cycle, or the same object twice
        yield f"same as {seen[id(thing)]}".encode()
        return
    seen[id(thing)] = len(seen)
    if isinstance(thing, type):
        yield from _of_class(thing, seen)
    elif isinstance(thing, types.FunctionType):
        yield from _of_function(thing, seen)
    elif isinstance(thing, types.MethodType):
        yield from _parts([thing.__func__, thing.__self__], seen)
    elif isinstance(thing, types.BuiltinFunctionType | types.ModuleType | np.ufunc):
        yield f"{getattr(thing, '__module__', '')}.{thing.__name__}".encode()
    elif isinstance(thing, torch.Generator):
        yield f"generator {thing.initial_seed()}".encode()
    elif isinstance(thing, np.ndarray) and thing.dtype.kind != "O":
        yield f"array {thing.dtype.str} {thing.shape}".encode() + np.ascontiguousarray(thing).data
    elif isinstance(thing, torch.Tensor):
        values = thing.detach().cpu().contiguous().reshape(-1)
        yield f"tensor {thing.dtype} {tuple(thing.shape)}".encode()
        yield values.view(torch.uint8).numpy().tobytes() if values.numel() else b""
    elif isinstance(thing, dict):
        yield f"dict of {len(thing)}".encode()
        for key, value in thing.items():
            yield from _parts(key, seen)
            yield from _parts(value, seen)
    elif isinstance(thing, (list, tuple)):
        yield f"{type(thing).__name__} of {len(thing)}".encode()
        for value in thing:
            yield from _parts(value, seen)
    elif isinstance(thing, (set, frozenset)):
        yield b"".join(sorted(b"".join(_parts(value, dict(seen))) for value in thing))
    else:
        yield from _of_object(thing, seen)


def _of_object(thing: Any, seen: dict[int, int]) -> Iterator[bytes]:
    yield from _parts(type(thing), seen)
    state: dict[str, Any] = dict(getattr(thing, "__dict__", {}))
    slots = [name for base in type(thing).__mro__ for name in getattr(base, "__slots__", ())]
    state |= {name: getattr(thing, name) for name in slots if hasattr(thing, name)}
    if not state:
        try:
            reduced = thing.__reduce_ex__(2)
        except TypeError:
            raise _UnreadableError from None
        # An object without state is its class; one of compiled code has to say what it holds.
        if isinstance(reduced, str):
            raise _UnreadableError
        compiled = not (type(thing).__flags__ & _HEAP_TYPE)
        if compiled and type(thing).__module__ == "builtins":
            raise _UnreadableError
        state = {"reduced": [part for part in reduced[1:3] if part is not None]}
    yield from _parts(dict(sorted(state.items())), seen)


# Py_TPFLAGS_HEAPTYPE: set for classes that are written in Python.
_HEAP_TYPE = 1 << 9


def _of_class(cls: type, seen: dict[int, int]) -> Iterator[bytes]:
    yield f"{cls.__module__}.{cls.__qualname__}".encode()
    for base in cls.__mro__:
        if base.__module__.split(".")[0] in _KNOWN:
            continue
        for name, value in sorted(vars(base).items()):
            member = getattr(value, "__func__", getattr(value, "fget", value))
            if isinstance(member, types.FunctionType):
                yield name.encode()
                yield from _of_function(member, seen)
            elif isinstance(value, (*_PLAIN, tuple, list, dict)) and not name.startswith("__"):
                yield name.encode()
                yield from _parts(value, seen)


def _of_function(function: types.FunctionType, seen: dict[int, int]) -> Iterator[bytes]:
    yield f"{function.__module__}.{function.__qualname__}".encode()
    if function.__module__.split(".")[0] in _KNOWN:
        return
    yield from _of_code_or_source(function)
    for value in (function.__defaults__, function.__kwdefaults__):
        yield from _parts(value, seen)
    for cell in function.__closure__ or ():
        try:
            yield from _parts(cell.cell_contents, seen)
        except ValueError:  # not yet bound
            yield b"empty"
    # Helpers and constants of its own module that it uses.
    for name in sorted(_names_of(function.__code__) & function.__globals__.keys()):
        value = function.__globals__[name]
        own = getattr(value, "__module__", None) == function.__module__
        if isinstance(value, (*_PLAIN, tuple)) or (
            own and isinstance(value, type | types.FunctionType)
        ):
            yield name.encode()
            yield from _parts(value, seen)


def _of_code_or_source(function: types.FunctionType) -> Iterator[bytes]:
    # The source of a lambda is its line, which may hold another one.
    if function.__name__ != "<lambda>":
        try:
            yield "\n".join(inspect.getsource(function).split()).encode()
        except (OSError, TypeError):
            pass
        else:
            return
    yield from _of_code(function.__code__)


def _names_of(code: types.CodeType) -> set[str]:
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return set(code.co_names).union(*map(_names_of, inner))


def _of_code(code: types.CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr((code.co_names, code.co_varnames)).encode()
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _of_code(const)
        elif isinstance(const, frozenset):
            yield repr(sorted(map(repr, const))).encode()
        else:
            yield repr(const).encode()
