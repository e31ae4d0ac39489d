"""Reference values for measures of mixed sets and vicinities, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
import zmanifold as zm

import oracles


def naive(original_x, original_codes, mixed_x, soft, k):
    """Compute every measure in plain loops."""
    distances, indices = oracles.neighbors_of(original_x, mixed_x, k)
    own, _ = oracles.neighbors(original_x, 1)
    rows = []
    for d, near, y in zip(distances, indices, soft, strict=True):
        share = [sum(original_codes[j] == c for j in near) / k for c in range(len(y))]
        unit = own[near[0], 0]
        rows.append(
            {
                "nearest": near[0],
                "label_error": original_codes[near[0]] != int(np.argmax(y)),
                "contradicted_mass": sum(abs(a - b) for a, b in zip(y, share, strict=True)) / 2,
                "distance": d[0],
                "relative_distance": 0 if d[0] == 0 else (d[0] / unit if unit else np.inf),
                "label_entropy": -sum(p * np.log(p) for p in y if p > 0),
            }
        )
    of_set = oracles.precision_recall_density_coverage(original_x, mixed_x, k)
    variance = [float(np.var(a, axis=0, ddof=1).sum()) for a in (mixed_x, original_x)]
    return rows, (*of_set, variance[0] / variance[1])


def check_mixed_set(X, codes, mixed_x, soft, k, device="cpu"):
    result = zm.mixed_set_metrics(X, codes, mixed_x, soft, n_neighbors=k, device=device)
    rows, of_set = naive(X, codes, mixed_x, soft, k)
    frame = result.to_frame()
    assert frame.columns.tolist() == list(rows[0])
    for name in rows[0]:
        expected = [row[name] for row in rows]
        np.testing.assert_allclose(frame[name], expected, rtol=1e-9, atol=1e-12)
    names = ("precision", "recall", "density", "coverage", "spread")
    assert [getattr(result, name) for name in names] == pytest.approx(of_set, abs=1e-12)
    summary = result.summary()
    assert summary["label_error"] == frame["label_error"].mean()
    assert summary["density"] == result.density
    assert len(summary) == 10


def check_vicinity(result, train_x, train_soft, test_x, test_codes, metric="euclidean", atol=1e-12):
    for r, k in enumerate(result.n_neighbors):
        expected = oracles.vicinity(train_x, train_soft, test_x, test_codes, k, metric)
        np.testing.assert_array_equal(result.class_counts[r], [row["counts"] for row in expected])
        np.testing.assert_array_equal(result.n_same[r], [row["n_same"] for row in expected])
        for name in ("label_mass", "entropy"):
            ours = getattr(result, name)[r]
            np.testing.assert_allclose(ours, [row[name] for row in expected], atol=1e-12)
        for name in ("own_distance", "other_distance"):
            ours = getattr(result, name)
            np.testing.assert_allclose(ours, [row[name] for row in expected], atol=atol)
