"""Checks of the package's shape annotations, on every call in the process that `watch` them.

They cover functions and dataclasses with annotations of arrays. Others are left as they are:
jaxtyping's own import hook wraps these, too, and the suite took twice as long. Plain annotations
are not checked, so that tests of wrong input reach the package's own messages.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import wraps
from importlib.machinery import SourceFileLoader
from typing import get_args

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray, AbstractDtype

_DTYPES = {
    name
    for name, value in vars(jaxtyping).items()
    if isinstance(value, type) and issubclass(value, AbstractDtype)
}


def watch(package):
    """Check the shapes of a package whose modules are imported from now on."""
    sys.meta_path.insert(0, _Finder(package))


def check(checked):
    """Return a function or dataclass that checks its arrays."""
    # The code of a generator runs later, in the scope of another call.
    if isinstance(checked, type) or inspect.isgeneratorfunction(checked):
        return jaxtyping.jaxtyped(typechecker=_of_arrays)(checked)
    # Arguments and result are checked once, together: as a decorator jaxtyping would check the
    # arguments twice, or add notes to all errors.
    given = checked.__annotations__
    checked.__annotations__ = {name: _resolved(hint, checked) for name, hint in given.items()}
    inner = _of_arrays(checked)
    checked.__annotations__ = given

    @wraps(checked)
    def within(*arguments, **options):
        with jaxtyping.jaxtyped("context"):
            return inner(*arguments, **options)

    return within


def _resolved(hint, function):
    """Return the meaning of an annotation; names for type checkers alone have none here."""
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, function.__globals__)
    except NameError:
        return None


def _of_arrays(function):
    function.__annotations__ = {
        name: hint for name, hint in function.__annotations__.items() if _is_about_arrays(hint)
    }
    return beartype(function)


def _is_about_arrays(hint):
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(_is_about_arrays(part) for part in get_args(hint))


class _Finder:
    def __init__(self, package):
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] != self.package:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        for spec in (finder.find_spec(name, path, target) for finder in others):
            if spec is not None:
                if type(spec.loader) is SourceFileLoader:
                    spec.loader = _Loader(spec.loader.name, spec.loader.path)
                return spec
        return None


class _Loader(SourceFileLoader):
    def get_code(self, fullname):
        # Not through the cache of bytecode, whose code checks nothing.
        path = self.get_filename(fullname)
        tree = _Decorated().visit(ast.parse(self.get_data(path), path))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)


class _Decorated(ast.NodeTransformer):
    def visit_FunctionDef(self, node):
        # Functions within are left as they are: they would be decorated anew at each call.
        given = node.args
        arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        hints = [argument.annotation for argument in arguments if argument is not None]
        if _name_dtypes([*hints, node.returns]):
            # The innermost decorator, because others may remove the annotations.
            node.decorator_list.append(_decorator(node))
        return node

    def visit_ClassDef(self, node):
        self.generic_visit(node)
        if _name_dtypes([part.annotation for part in node.body if isinstance(part, ast.AnnAssign)]):
            # The outermost, because a dataclass has its fields only then.
            node.decorator_list.insert(0, _decorator(node))
        return node


def _name_dtypes(hints):
    parts = (part for hint in hints if hint is not None for part in ast.walk(hint))
    return any(isinstance(part, ast.Name) and part.id in _DTYPES for part in parts)


def _decorator(node):
    decorator = ast.parse(f"__import__({__name__!r}).check", mode="eval").body
    # Tracebacks and `inspect` take its line for the function's.
    for part in ast.walk(decorator):
        ast.copy_location(part, node)
    return decorator
