"""Synthetic manifolds of any size, and data sets that come back as they were stored."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import zmanifold as zm
from hypothesis import given, settings
from hypothesis import strategies as st
from zmanifold.datasets.manifolds import distance_to_helix

from pointsets import LAYOUTS, SEEDS, point_sets

SIZES = st.integers(2, 60)
MAKE = {
    "crescents": (zm.make_crescents, 2, {}),
    "spirals": (zm.make_spirals, 2, {}),
    "helix": (zm.make_helix, 3, {}),
    "helix in R7": (zm.make_helix, 7, {"ambient_dim": 7}),
    "parabola": (zm.make_paraboloid, 6, {"intrinsic_dim": 1}),
    "paraboloid": (zm.make_paraboloid, 15, {"intrinsic_dim": 4}),
}


@given(st.sampled_from(list(MAKE)), SIZES, SEEDS, st.floats(0, 10))
def test_every_manifold(name, n, seed, noise):
    make, dim, options = MAKE[name]
    X, y = make(n, noise=noise, random_state=seed, **options)
    assert (X.shape, X.dtype) == ((n, dim), np.float64)
    assert (y.shape, y.dtype) == ((n,), np.int64)
    assert np.isfinite(X).all()
    counts = np.bincount(y)
    assert counts.max() - counts.min() <= 1
    assert len(counts) == (2 if name in ("crescents", "spirals") else 1)
    for state in (seed, np.random.RandomState(seed)):
        again, labels = make(n, noise=noise, random_state=state, **options)
        np.testing.assert_array_equal(again, X)
        np.testing.assert_array_equal(labels, y)
    # Noise is what is added to the same points, in proportion.
    clean, labels = make(n, noise=0.0, random_state=seed, **options)
    half, _ = make(n, noise=noise / 2, random_state=seed, **options)
    np.testing.assert_array_equal(labels, y)
    rounding = 8 * 2.0**-53 * (np.abs(X).max() + np.abs(clean).max())
    np.testing.assert_allclose(2 * half - clean, X, rtol=0, atol=rounding)


@given(SIZES, SEEDS)
def test_points_lie_on_their_manifold(n, seed):
    X, y = zm.make_crescents(n, noise=0.0, random_state=seed)
    centres = np.where(y[:, None] == 0, [0.0, 0.0], [1.0, 0.5])
    np.testing.assert_allclose(np.linalg.norm(X - centres, axis=1), 1, rtol=1e-14)
    assert (((X - centres)[:, 1] >= -1e-15) == (y == 0))[np.abs((X - centres)[:, 1]) > 1e-9].all()

    X, y = zm.make_spirals(n, noise=0.0, random_state=seed)
    radius = np.linalg.norm(X, axis=1)
    assert radius.min() >= 0.5 - 1e-12
    assert radius.max() <= 3.5 + 1e-12
    turned = np.pi * (radius + y)
    on_arm = radius[:, None] * np.column_stack([np.cos(turned), np.sin(turned)])
    np.testing.assert_allclose(X, on_arm, rtol=0, atol=1e-12)

    X, _ = zm.make_helix(n, random_state=seed)
    assert distance_to_helix(X).max() < 1e-6
    # In more dimensions it is the same curve, turned.
    wide, _ = zm.make_helix(n, ambient_dim=9, random_state=seed)
    for i in range(n):
        np.testing.assert_allclose(
            np.linalg.norm(wide - wide[i], axis=1), np.linalg.norm(X - X[i], axis=1), atol=1e-10
        )


@given(SIZES, st.integers(1, 9), SEEDS)
def test_points_lie_on_their_paraboloid(n, dim, seed):
    X, _ = zm.make_paraboloid(n, intrinsic_dim=dim, random_state=seed)
    assert X.shape == (n, 3 * (dim + 1))
    P = X[:, : dim + 1]
    assert P[:, :dim].min() >= 0
    assert P[:, :dim].max() <= 1
    np.testing.assert_allclose(P[:, dim], (P[:, :dim] ** 2).sum(axis=1), rtol=1e-14)
    np.testing.assert_array_equal(X[:, dim + 1 :], np.hstack([np.sin(P), P**2]))


@given(st.sampled_from(["crescents", "spirals", "helix-r3", "helix-r12", "paraboloid-r12"]), SIZES,
       SEEDS)  # fmt: skip
def test_a_name_gives_the_manifold(name, n, seed):
    make = {"crescents": zm.make_crescents, "spirals": zm.make_spirals, "helix-r3": zm.make_helix,
            "helix-r12": lambda *a, **k: zm.make_helix(*a, ambient_dim=12, **k),
            "paraboloid-r12": zm.make_paraboloid}[name]  # fmt: skip
    loaded = zm.load_dataset(name, n_samples=n, random_state=seed)
    X, y = make(n, random_state=seed)
    np.testing.assert_array_equal(loaded.points, X)
    np.testing.assert_array_equal(loaded.labels, y)


@given(
    point_sets(), st.sampled_from(list(LAYOUTS)), SEEDS, st.sampled_from(["f8", "f4"]), st.data()
)
def test_what_is_stored_comes_back(X, layout, seed, dtype, data):
    """Arrays of any layout, tables with all digits, and part of either."""
    with np.errstate(over="ignore", under="ignore"):
        X = np.nan_to_num(X.astype(dtype), posinf=1, neginf=-1)
    given_x = LAYOUTS[layout](X)
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, len(X))
    names = np.array(["u", "v", "w"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        np.save(path / "a.npy", given_x)
        np.savez(path / "b.npz", x=given_x, y=names[y])
        loaded = [zm.load_dataset(path / name) for name in ("a.npy", "b.npz")]
        n_samples = data.draw(st.integers(2, len(X)))
        some = zm.load_dataset(path / "b.npz", n_samples=n_samples, random_state=seed)
        again = zm.load_dataset(path / "b.npz", n_samples=n_samples, random_state=seed)
    for dataset in loaded:
        np.testing.assert_array_equal(dataset.points, X)
        assert dataset.points.dtype == X.dtype
    assert loaded[0].labels is None
    assert [loaded[1].class_names[i] for i in loaded[1].labels] == names[y].tolist()
    assert len(some.points) == len(some.labels) == n_samples
    np.testing.assert_array_equal(some.points, again.points)
    np.testing.assert_array_equal(some.labels, again.labels)
    drawn, stored = (
        Counter((x.tobytes(), int(label)) for x, label in zip(d.points, d.labels, strict=True))
        for d in (some, loaded[1])
    )
    assert drawn <= stored


@settings(max_examples=settings().max_examples // 3)
@given(point_sets(), SEEDS)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables_come_back(ending, X, seed):
    import pandas as pd

    y = np.random.default_rng(seed).integers(0, 3, len(X))
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(X.shape[1])]).assign(label=y)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{ending}"
        frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
        loaded = zm.load_dataset(path)
    # pandas before 3 reads the last digit of text wrong now and then.
    np.testing.assert_allclose(loaded.points, X, rtol=2.3e-16, atol=5e-324)
    np.testing.assert_array_equal(np.unique(y)[loaded.labels], y)
