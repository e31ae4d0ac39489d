"""Naive loops that import nothing of zmanifold: slow, obvious, and what it is compared with."""

from __future__ import annotations

import numpy as np


def neighbors(X, k, metric="euclidean"):
    """Distances and row numbers of the k nearest other rows, ties by row number."""
    X = np.asarray(X, dtype=np.float64)
    distances, indices = [], []
    for i, x in enumerate(X):
        if metric == "cosine":
            norms = np.linalg.norm(X, axis=1) * np.linalg.norm(x)
            d = 1 - X @ x / norms
        else:
            d = np.sqrt(((X - x) ** 2).sum(axis=1))
        others = [j for j in range(len(X)) if j != i]
        others.sort(key=lambda j, d=d: (d[j], j))
        indices.append(others[:k])
        distances.append(d[others[:k]])
    return np.array(distances), np.array(indices)


def spectrum(points):
    """Covariance eigenvalues of one neighbourhood by its singular values, descending."""
    points = np.asarray(points, dtype=np.float64)
    centred = points - points.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False) ** 2 / (len(points) - 1)
    return values[: min(len(points) - 1, points.shape[1])]


def fukunaga_olsen(X, indices, alpha=0.05):
    """The rule at each neighbourhood, and how near an eigenvalue comes to its threshold."""
    counts, margins = [], []
    for row in indices:
        values = spectrum(X[row])
        if values[0] == 0:
            counts.append(0)
            margins.append(np.inf)
            continue
        relative = values / values[0]
        counts.append(int((relative > alpha).sum()))
        margins.append(np.abs(relative - alpha).min())
    return np.array(counts), np.array(margins)


def p_series(gamma, n_mix):
    """i^-gamma / sum of j^-gamma, in Python floats."""
    terms = [float(i) ** -gamma for i in range(1, n_mix + 1)]
    total = sum(terms)
    return [term / total for term in terms]


def mixed(weights, x):
    """Row i is the sum over j of weights[i][j] * x[j]."""
    out = []
    for row in weights:
        total = np.zeros_like(x[0])
        for w, sample in zip(row, x, strict=True):
            total = total + w * sample
        out.append(total)
    return np.array(out)
