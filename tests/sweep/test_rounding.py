"""Rounding of a mixer is told from spread batch by batch, whatever lies in other batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import zmanifold as zm
from zmanifold.mixers import Batches
from zmanifold.sweep._rounding import mixing_tolerance

OPTIONS = {"n_neighbors": 8, "seeds": [0], "progress": False}


def swept(X, mixer, **options):
    (row,) = zm.sweep_id(X, mixers=mixer, **OPTIONS, **options).rows
    return row["id_mean"], row["id_std"], row["n_degenerate"]


def helix(n, dtype):
    return zm.make_helix(n, random_state=0)[0].astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [1e8, 1e15, 3e38])
def test_a_sentinel_row_spoils_its_own_batch_alone(value, dtype, tmp_path):
    """At γ = 0 each batch is one point; elsewhere one batch of 32 in 32 is another."""
    X = helix(1024, dtype)
    with_row = X.copy()
    with_row[5] = value
    assert swept(with_row, zm.ZetaMixup(0.0)) == (0, 0, 1024)
    for mixer in (None, zm.ZetaMixup(2.8), zm.Mixup(1.0), lambda x, y: x):
        mean, _, degenerate = swept(X, mixer)
        with_mean, _, with_degenerate = swept(with_row, mixer)
        assert degenerate == 0
        assert with_degenerate <= 3
        assert abs(mean - with_mean) < 0.15
    # A file that is not held gives the same, in batches of its own.
    path = tmp_path / "x.npy"
    np.save(path, with_row)
    mapped = np.load(path, mmap_mode="r")
    for mixer in (None, zm.ZetaMixup(0.0), zm.ZetaMixup(2.8)):
        assert swept(mapped, mixer) == swept(with_row, mixer)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_constant_column_changes_nothing(dtype):
    X = helix(512, dtype)
    for mixer in (None, zm.ZetaMixup(2.8), zm.ZetaMixup(0.0)):
        expected = swept(X.astype("float64"), mixer)
        mean, _, degenerate = swept(np.c_[X, np.full(512, 1e9, dtype)], mixer)
        assert degenerate == expected[2]
        assert abs(mean - expected[0]) < 0.02


def test_cancelled_sums_of_large_values_are_one_point():
    """Means near 0 of values of 1e6: what rounding leaves is large beside the mean."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(256, 3)), 2, axis=0) * 1e6
    X[1::2] *= -1
    assert swept(X, zm.ZetaMixup(0.0)) == (0, 0, 512)


def test_tolerances_bound_the_spread_of_equal_weights(rng):
    """And hold for their batches alone; nothing mixed needs none."""
    X = torch.from_numpy(rng.normal(size=(320, 3)) * [1, 1e6, 1e-6])
    X[7] = 1e12
    batches = Batches(X, None, None, 32, 2**20)
    rows = batches.rows(zm.ZetaMixup(0.0), 0)
    positions = torch.arange(320)
    tolerance, mixed = mixing_tolerance(rows, positions), rows.all()
    beside = 0
    for number in range(10):
        part = mixed[32 * number : 32 * number + 32]
        values = tolerance.values[tolerance.groups[32 * number]]
        assert ((part.amax(dim=0) - part.amin(dim=0)) <= 2 * values).all()
        beside += int((values < 1e-14 * torch.tensor([9.0, 9e6, 9e-6])).all())
    assert beside == 9
    some = mixing_tolerance(rows, positions[40:100])
    assert torch.equal(some.values[some.groups], tolerance.values[tolerance.groups[40:100]])
    assert mixing_tolerance(batches.rows(None, 0), positions) is None
