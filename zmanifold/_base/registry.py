"""Registries of mixers, estimators and measures by name.

A registered class has a literal class attribute ``names``, which maps each of its names to the
parameters that the name presets, and a numpydoc docstring. The package's own classes are those that
the stub of their wing exports. Their source is parsed, not imported, so that help and listings need
no numerical library. Other packages register their classes when they are imported.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from zmanifold._base.errors import InputError, unknown_name

__all__ = ["Info", "Parameter", "Registry", "fitting_name", "load_plugins"]

_PLUGINS = "ZMANIFOLD_PLUGINS"

# A parameter of a numpydoc docstring: its names, its type, its indented description.
_PARAMETER = re.compile(r"^(\w+(?:, \w+)*) : (.*)\n((?:    .*\n|\n)*)", re.MULTILINE)


@dataclass(frozen=True)
class Parameter:
    """A parameter of a registered class.

    Attributes
    ----------
    name : str
        Its name in Python and in ``NAME:PARAM=VALUE``.
    default : object
        Its default; `inspect.Parameter.empty` if it must be given.
    description : str
        Its meaning and range.
    """

    name: str
    default: Any
    description: str

    @property
    def required(self) -> bool:
        """Whether the parameter has no default."""
        return self.default is inspect.Parameter.empty

    def __str__(self) -> str:
        return self.name if self.required else f"{self.name}={self.default}"


@dataclass(frozen=True)
class Info:
    """The description of a name in help, listings and tables.

    Attributes
    ----------
    name : str
        The name.
    summary : str
        The first sentence of the class's docstring.
    parameters : tuple of Parameter
        The parameters that the name does not preset.
    kind : str
        The class attribute ``kind``.
    reference : str
        The first reference of the docstring, or "".
    presets : mapping
        The parameters that the name presets.
    source : str
        Module and class.
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    kind: str
    reference: str
    presets: Mapping[str, Any] = field(repr=False)
    source: str = field(repr=False)


@dataclass(frozen=True)
class _Description:
    """The description of a class, from its source or from the class itself."""

    source: str
    doc: str
    attributes: Mapping[str, Any]
    parameters: Mapping[str, Any]


Offered = TypeVar("Offered", bound=Info)


class Registry(Generic[Offered]):
    """The names of a wing.

    Parameters
    ----------
    package : str
        The wing, "zmanifold.mixers".
    what : str
        What a name stands for, for messages: "mixer".
    info : type
        `Info`, or a subclass of it; its further fields are read from class attributes of the same
        names.
    """

    def __init__(self, package: str, what: str, info: type[Offered]) -> None:
        self.package, self.what, self.info = package, what, info
        self._registered: dict[str, tuple[Offered, Callable[..., Any]]] = {}

    def register(self, offered: Any) -> Any:
        """Register a class; also a decorator.

        Raises
        ------
        InputError
            If the class has no ``names``, or one of them is taken.
        """
        names = getattr(offered, "names", None)
        if not isinstance(names, Mapping) or not names:
            raise InputError(
                f"{offered!r} has names={names!r} but its names must be a mapping of each name to "
                f"the parameters that it presets: give names = {{'my-name': {{}}}}."
            )
        ours = self._ours
        for info in self._infos(_described(offered)):
            before = self._registered.get(info.name)
            if info.name in ours or (before is not None and before[0].source != info.source):
                raise InputError(f"the {self.what} name {info.name!r} is taken: give another one.")
            self._registered[info.name] = info, offered
        return offered

    def available(self) -> list[Offered]:
        """List the names: the package's own, then those of plugins."""
        load_plugins()
        return [*self._ours.values(), *(info for info, _ in self._registered.values())]

    def find(self, name: str) -> tuple[Offered, Callable[..., Any]]:
        """Return the description of a name, and its class.

        Raises
        ------
        InputError
            If the name is unknown; the message suggests the most similar one.
        """
        ours = self._ours
        if name not in ours:
            load_plugins()
            if name in self._registered:
                return self._registered[name]
            raise unknown_name(self.what, name, [*ours, *self._registered])
        module, attribute = ours[name].source.rsplit(".", 1)
        return ours[name], getattr(importlib.import_module(module), attribute)

    def make(self, name: str, parameters: Mapping[str, Any]) -> Any:
        """Make an object of the class that a name stands for.

        Raises
        ------
        InputError
            If the name or a parameter is unknown, or a value is out of its range.
        """
        info, factory = self.find(name)
        known = [parameter.name for parameter in info.parameters]
        for given in parameters:
            if given not in known:
                raise unknown_name(f"parameter of the {self.what} {name!r}", given, known)
        for parameter in info.parameters:
            if parameter.required and parameter.name not in parameters:
                raise InputError(
                    f"the {self.what} {name!r} needs {parameter.name}: give "
                    f"{name}:{parameter.name}=VALUE."
                )
            given = parameters.get(parameter.name, parameter.default)
            if isinstance(parameter.default, bool) and not isinstance(given, bool):
                # bool("no") would be True.
                raise InputError(
                    f"{name}:{parameter.name}={given} must be true or false: give one of them."
                )
        return factory(**info.presets, **parameters)

    @cached_property
    def _ours(self) -> dict[str, Offered]:
        return {info.name: info for found in _exported(self.package) for info in self._infos(found)}

    def _infos(self, found: _Description) -> Iterator[Offered]:
        sections = _sections(found.doc)
        described = {
            name: " ".join(text.split())
            for names, _, text in _PARAMETER.findall(sections.get("Parameters", ""))
            for name in names.split(", ")
        }
        further = set(self.info.__dataclass_fields__) - set(Info.__dataclass_fields__)
        for name, presets in found.attributes["names"].items():
            yield self.info(
                name=name,
                summary=" ".join(sections[""].split("\n\n")[0].split()),
                parameters=tuple(
                    Parameter(parameter, default, described.get(parameter, ""))
                    for parameter, default in found.parameters.items()
                    if parameter not in presets
                ),
                kind=str(found.attributes.get("kind", "")),
                reference=_reference(sections.get("References", "")),
                presets=presets,
                source=found.source,
                **{key: found.attributes[key] for key in further if key in found.attributes},
            )


def fitting_name(thing: Any) -> str | None:
    """Return the name of an object; None if its class has no ``names``.

    If the class has several names, it is the one that presets most of the object's own values. If
    none of them fits, it is the first.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold._base.registry import fitting_name
    >>> fitting_name(zm.ZetaMixup()), fitting_name(zm.ZetaMixup(anchored=True)), fitting_name(2)
    ('zeta', 'zeta-anchored', None)
    """
    names = getattr(thing, "names", None)
    if not isinstance(names, Mapping) or not names:
        return None
    fits = [
        name
        for name, presets in names.items()
        if all(getattr(thing, key, None) == value for key, value in presets.items())
    ]
    return str(max(fits or [next(iter(names))], key=lambda name: len(names[name])))


@cache
def load_plugins() -> None:
    """Import the plugins: entry points of the group "zmanifold.plugins", and $ZMANIFOLD_PLUGINS.

    Raises
    ------
    InputError
        If a plugin cannot be imported.

    Examples
    --------
    >>> from zmanifold._base.registry import load_plugins
    >>> load_plugins()
    """
    modules = [point.value for point in entry_points(group="zmanifold.plugins")]
    modules += [name.strip() for name in os.environ.get(_PLUGINS, "").split(",") if name.strip()]
    for module in modules:
        try:
            importlib.import_module(module)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"the plugin {module!r} cannot be imported ({type(error).__name__}: {error}): "
                f"install it again, or take it out of ${_PLUGINS}."
            ) from error


@cache
def _exported(package: str) -> tuple[_Description, ...]:
    """Return the classes with ``names`` that a wing's stub exports, in the order of its lines."""
    folder = Path(__file__).parents[1] / package.removeprefix("zmanifold.").replace(".", "/")
    found: list[_Description] = []
    for line in ast.parse((folder / "__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(line, ast.ImportFrom) and line.module:
            tree = _parsed(folder / f"{line.module.replace('.', '/')}.py")
            wanted = {alias.name for alias in line.names}
            for node in tree.body:
                if isinstance(node, ast.ClassDef) and node.name in wanted:
                    read = _read(node, f"{package}.{line.module}.{node.name}")
                    found += [read] if "names" in read.attributes else []
    return tuple(found)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.parse("")


def _read(node: ast.ClassDef, source: str) -> _Description:
    attributes, parameters = {}, {}
    for part in node.body:
        target = part.targets[0] if isinstance(part, ast.Assign) else getattr(part, "target", None)
        if isinstance(part, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name):
            attributes[target.id] = _literal(part.value)
        elif isinstance(part, ast.FunctionDef) and part.name == "__init__":
            given = part.args
            named = [argument.arg for argument in given.args[1:]]
            defaults = [_literal(default) for default in given.defaults]
            empty = [inspect.Parameter.empty] * (len(named) - len(defaults))
            parameters = dict(zip(named, [*empty, *defaults], strict=True))
            for argument, value in zip(given.kwonlyargs, given.kw_defaults, strict=True):
                parameters[argument.arg] = _literal(value)
    return _Description(source, ast.get_docstring(node) or "", attributes, parameters)


def _literal(node: ast.expr | None) -> Any:
    if node is None:
        return inspect.Parameter.empty
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _described(offered: Any) -> _Description:
    """Describe an imported class or function."""
    parameters = {
        name: parameter.default
        for name, parameter in inspect.signature(offered).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    attributes = {name: getattr(offered, name) for name in dir(offered) if not name.startswith("_")}
    source = f"{offered.__module__}.{offered.__qualname__}"
    return _Description(source, inspect.getdoc(offered) or "", attributes, parameters)


def _sections(doc: str) -> dict[str, str]:
    """Return the sections of a numpydoc docstring by their headings; the first heading is ""."""
    parts = re.split(r"^(\w+)\n-{3,}\n", doc + "\n", flags=re.MULTILINE)
    return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def _reference(text: str) -> str:
    """Return the first reference as one line, without its number."""
    first = re.split(r"^\.\. \[", text, flags=re.MULTILINE)[1:2]
    return " ".join(first[0].split("]", 1)[-1].split()) if first else ""
