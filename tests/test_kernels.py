from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import zmanifold as zm

import oracles

ROOT = Path(__file__).parent.parent


def test_where_nothing_can_be_written_code_is_compiled_anew():
    """An installation that one may only read, and no home."""
    code = """
import numba.core.caching as caching
for locator in caching.CacheImpl._locator_classes:
    locator.from_function = classmethod(lambda *a: None)
import zmanifold as zm
X, _ = zm.make_helix(200, random_state=0)
print(*zm.kneighbors(X, 2)[1][0])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    X, _ = zm.make_helix(200, random_state=0)
    assert done.stdout.split() == [str(i) for i in oracles.neighbors(X, 2)[1][0]]
