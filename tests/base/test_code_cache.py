"""Machine code on disk: what is damaged, old or of another type is compiled anew."""

from __future__ import annotations

import errno
import importlib.util
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

CALLEE = """
from zmanifold._base.kernels import kernel
FACTOR = {factor}
@kernel()
def scaled(x):
    return FACTOR * x
"""

CALLER = """
from zmanifold._base.kernels import kernel
from {callee} import scaled
@kernel("reassoc", "nsz", "contract", "arcp")
def total(x):
    return sum([scaled(v) for v in x])
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "zm_callee.py").write_text(CALLEE.format(factor=2))
    (tmp_path / "zm_caller.py").write_text(CALLER.format(callee="zm_callee"))
    return tmp_path


def fresh(folder, monkeypatch):
    """Import the modules as another process would, and return the caller."""
    for name in ("zm_callee", "zm_caller"):
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        # Bytecode is kept by seconds: a file that changes within one would not be read again.
        exec(compile((folder / f"{name}.py").read_text(), folder / f"{name}.py", "exec"),
             module.__dict__)  # fmt: skip
    return module.total


def hits(function):
    return sum(function.stats.cache_hits.values())


def files(folder):
    return sorted((folder / "compiled").rglob("*.nb*"))


X = np.arange(5)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:40],
        lambda content: content[:-1],
        lambda content: content[:99] + bytes([content[99] ^ 1]) + content[100:],
    ],
    ids=["emptied", "cut short", "one byte less", "a flipped bit"],
)
def test_damaged_files_are_compiled_anew(folder, monkeypatch, damage):
    assert fresh(folder, monkeypatch)(X) == 20
    assert files(folder)
    for path in files(folder):
        path.write_bytes(damage(path.read_bytes()))
    function = fresh(folder, monkeypatch)
    assert (function(X), hits(function)) == (20, 0)
    function = fresh(folder, monkeypatch)
    assert (function(X), hits(function)) == (20, 1)


def test_a_full_disk_keeps_nothing_and_stops_nothing(folder, monkeypatch):
    def full(path, content):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert fresh(folder, patch)(X) == 20
    assert not files(folder)


def test_two_first_runs_with_different_types(folder, monkeypatch):
    """Both began before the other wrote: neither takes the other's code for its own."""
    one, other = fresh(folder, monkeypatch), fresh(folder, monkeypatch)
    y = X + 0.5
    load = type(one._cache).load_overload

    def interrupted(cache, *given):
        found = load(cache, *given)
        if cache is other._cache:
            one(X)
        return found

    monkeypatch.setattr(type(one._cache), "load_overload", interrupted)
    assert other(y) == 25
    monkeypatch.undo()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder / "compiled"))
    monkeypatch.syspath_prepend(folder)
    third = fresh(folder, monkeypatch)
    # The same bytes, read as another type, would be other numbers.
    assert (third(X), third(y), hits(third)) == (20, 25, 2)


@pytest.mark.parametrize("changed", ["zm_callee", "zm_caller"])
def test_code_of_an_earlier_source_is_not_run(folder, monkeypatch, changed):
    """numba's own cache looks at the caller's file alone."""
    assert fresh(folder, monkeypatch)(X) == 20
    before = files(folder)
    path = folder / f"{changed}.py"
    text = path.read_text()
    path.write_text(text.replace("FACTOR = 2", "FACTOR = 3").replace("sum(", "9 + sum("))
    assert fresh(folder, monkeypatch)(X) == {"zm_callee": 30, "zm_caller": 29}[changed]
    # Old files are removed.
    assert len(files(folder)) == len(before)
