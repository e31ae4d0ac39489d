"""Digests by which a later run recognises the user's own mixers and estimators.

A name does not identify an object, because its code may have been edited; neither does an address,
which differs in each process. The digest is one of the class's source and of the object's state.
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

# Packages whose classes and functions are identified by their names: their code is not the user's.
_KNOWN = ("zmanifold", "torch", "numpy", "builtins", "scipy", "sklearn", "functools", "collections")

# Types whose repr determines the value.
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, range)


# Objects by their id, each with its number. The reference keeps the id from being used again.
_Seen = dict[int, tuple[int, Any]]


class _UnreadableError(Exception):
    """A part of the object has no state that can be read."""


def identity(thing: Any) -> str | None:
    """Return a digest of an object's code and state, which is the same in each process.

    Parameters
    ----------
    thing : object
        For example a function, an instance of a class, a torch module or a functools.partial.

    Returns
    -------
    str or None
        None if the state has a part that cannot be read: an open file, a lock, an iterator.

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
    # 32 hexadecimal digits are 128 bits: 2**64 objects until two are expected to collide.
    try:
        for part in _parts(thing, {}):
            content.update(part + b"\0")
    except (_UnreadableError, RecursionError):
        return None
    return content.hexdigest()[:32]


def _parts(thing: Any, seen: _Seen) -> Iterator[bytes]:
    # Not those derived from them: how NumPy shows a float64 depends on np.set_printoptions.
    if type(thing) in _PLAIN:
        yield f"{type(thing).__name__} {thing!r}".encode()
        return
    if id(thing) in seen:  # a cycle, or a second reference to the object
        yield f"same as {seen[id(thing)][0]}".encode()
        return
    seen[id(thing)] = len(seen), thing
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
    elif type(thing) is dict:
        yield f"dict of {len(thing)}".encode()
        for key, value in thing.items():
            yield from _parts(key, seen)
            yield from _parts(value, seen)
    elif type(thing) in (list, tuple):
        yield f"{type(thing).__name__} of {len(thing)}".encode()
        for value in thing:
            yield from _parts(value, seen)
    elif isinstance(thing, (set, frozenset)):
        yield b"".join(sorted(b"".join(_parts(value, dict(seen))) for value in thing))
    else:
        yield from _of_object(thing, seen)


def _of_object(thing: Any, seen: _Seen) -> Iterator[bytes]:
    """Yield the class, and the state that pickle would store: attributes, items, compiled state."""
    # Built-in types without a branch in `_parts` are iterators and their like: use changes them.
    if type(thing).__module__ == "builtins":
        raise _UnreadableError
    yield from _parts(type(thing), seen)
    try:
        stored = thing.__reduce_ex__(2)
    except Exception:
        # pickle's refusal, or an error of the class's own method: the state is unknown either way.
        raise _UnreadableError from None
    if isinstance(stored, str):
        # The name of a global object stands for the object, and tells nothing of its state.
        raise _UnreadableError
    arguments, state, items, pairs = (*stored[1:5], None, None, None)[:4]
    yield from _parts(arguments, seen)
    # A class with slots has a state of two mappings.
    for part in state if isinstance(state, tuple) else (state,):
        # The order in which attributes were set does not matter.
        yield from _parts(dict(sorted(part.items())) if _has_names(part) else part, seen)
    yield from _parts([list(values or ()) for values in (items, pairs)], seen)


def _has_names(state: Any) -> bool:
    return type(state) is dict and all(isinstance(name, str) for name in state)


def _of_class(cls: type, seen: _Seen) -> Iterator[bytes]:
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


def _of_function(function: types.FunctionType, seen: _Seen) -> Iterator[bytes]:
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
    # A function also depends on the functions, classes and constants of its module that it names.
    for name in sorted(_names_of(function.__code__) & function.__globals__.keys()):
        value = function.__globals__[name]
        own = getattr(value, "__module__", None) == function.__module__
        if isinstance(value, (*_PLAIN, tuple)) or (
            own and isinstance(value, type | types.FunctionType)
        ):
            yield name.encode()
            yield from _parts(value, seen)


def _of_code_or_source(function: types.FunctionType) -> Iterator[bytes]:
    # inspect gives whole lines, and the line of a lambda may hold a second lambda.
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
