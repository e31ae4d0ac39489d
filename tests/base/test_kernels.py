from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from zmanifold._base.kernels import aligned_zeros, single, use_widest_vectors

ROOT = Path(__file__).parents[2]


def test_where_nothing_can_be_written_code_is_compiled_anew():
    """numba finds no folder to cache code in, as with a read-only installation and no home."""
    code = """
import numba.core.caching as caching
for locator in caching.CacheImpl._locator_classes:
    locator.from_function = classmethod(lambda *a: None)
from zmanifold._base.kernels import aligned_zeros
print(aligned_zeros(1, 2, 64).shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "(1, 2, 72)\n"


def test_the_widest_vectors_are_asked_for():
    """The attribute is in the code on any CPU; LLVM uses such vectors only if the CPU has them."""

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


def test_every_bfloat16_is_its_bits():
    bits = np.arange(2**16, dtype=np.uint16)
    expected = torch.from_numpy(bits).view(torch.bfloat16).float().numpy()

    @numba.njit
    def converted(x):
        out = np.empty(len(x), np.float32)
        for i in range(len(x)):
            out[i] = single(x[i])
        return out

    np.testing.assert_array_equal(converted(bits), expected)
    np.testing.assert_array_equal(converted(expected), expected)


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.uint8])
def test_other_numbers_are_no_bits_of_a_bfloat16(dtype):
    with pytest.raises(numba.TypingError):
        numba.njit(lambda x: single(x[0]))(np.ones(1, dtype))


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
