from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import zmanifold as zm
from zmanifold.kernels import aligned_zeros, use_widest_vectors

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


def test_the_widest_vectors_are_asked_for():
    """Whether the CPU has them is the compiler's to know."""

    @numba.njit(fastmath={"reassoc"})
    def total(x):
        use_widest_vectors()
        s = 0.0
        for i in range(len(x)):
            s += x[i]
        return s

    assert total(np.arange(9.0)) == 36
    (code,) = total.inspect_llvm().values()
    assert '"prefer-vector-width"="512"' in code


@pytest.mark.parametrize("n_columns", [1, 7, 8, 56, 57, 64, 120, 784])
def test_zeros_are_aligned_and_apart(n_columns):
    arrays = [aligned_zeros(2, 3, n_columns) for _ in range(20)]
    for number, array in enumerate(arrays):
        width = array.shape[2]
        assert n_columns <= width <= n_columns + 15
        assert array.strides == (3 * width * 8, width * 8, 8)
        assert width % 64
        assert array.ctypes.data % 64 == width % 8 == 0
        assert not array.any()
        array[:] = number
    assert [array.sum() / array.size for array in arrays] == list(range(20))
