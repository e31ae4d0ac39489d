"""Reference results by naive loops, which import nothing of zmanifold."""

from __future__ import annotations

import math

import numpy as np


def distances(X, metric="euclidean"):
    """Return the distances of all pairs, scaled so that no square leaves the range of float64."""
    X = np.asarray(X, dtype=np.float64)
    if metric == "euclidean":
        return np.array([[math.dist(x, y) for y in X.tolist()] for x in X.tolist()])
    units = [x / np.abs(x).max() for x in X]
    units = [u / np.sqrt((u**2).sum()) for u in units]
    # 1 - cos(u, v) without cancellation.
    return np.array([[((u - v) ** 2).sum() / 2 for v in units] for u in units])


def neighbors(X, k, metric="euclidean"):
    """Return distances and row numbers of the k nearest other rows, ties by row number."""
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
    """Return the covariance eigenvalues of a neighbourhood, descending, by its singular values."""
    points = np.asarray(points, dtype=np.float64)
    centred = points - points.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False) ** 2 / (len(points) - 1)
    return values[: min(len(points) - 1, points.shape[1])]


def fukunaga_olsen(X, indices, alpha=0.05):
    """Return the rule's dimension of each neighbourhood, and the distance to its threshold.

    Points less the first of them, divided by the largest difference: neither rounding relative to
    their distance from the origin nor a square out of float64's range plays a part.
    """
    X = np.asarray(X, dtype=np.float64)
    counts, margins = [], []
    for row in indices:
        near = X[row] - X[row[0]]
        if not near.any():
            counts.append(0)
            margins.append(np.inf)
            continue
        values = spectrum(near / np.abs(near).max())
        relative = values / values[0]
        counts.append(int((relative > alpha).sum()))
        margins.append(np.abs(relative - alpha).min())
    return np.array(counts), np.array(margins)


def spreads(X, indices, units):
    """For each neighbourhood how far its most varying coordinate varies, in multiples of so many
    units of its own rounding."""
    X = np.asarray(X)
    rounding, found = units * np.finfo(X.dtype).eps, []
    X = X.astype(np.float64)
    for row in indices:
        ranges, own = np.ptp(X[row], axis=0), np.abs(X[row]).max(axis=0)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            found.append(np.where(ranges > 0, ranges / (rounding * own), 0).max())
    return np.array(found)


def p_series(gamma, n_mix):
    """i^-gamma / sum of j^-gamma, in Python floats."""
    terms = [float(i) ** -gamma for i in range(1, n_mix + 1)]
    total = sum(terms)
    return [term / total for term in terms]


def mixed(weights, x):
    """Return rows i: the sums over j of weights[i][j] * x[j]."""
    out = []
    for row in weights:
        total = np.zeros_like(x[0])
        for w, sample in zip(row, x, strict=True):
            total = total + w * sample
        out.append(total)
    return np.array(out)


def neighbors_of(points, queries, k, metric="euclidean"):
    """Return distances and row numbers of the k points nearest to each query, ties by row."""
    points, queries = np.asarray(points, float), np.asarray(queries, float)
    distances, indices = [], []
    for x in queries:
        if metric == "cosine":
            d = 1 - points @ x / (np.linalg.norm(points, axis=1) * np.linalg.norm(x))
        else:
            d = np.sqrt(((points - x) ** 2).sum(axis=1))
        order = sorted(range(len(points)), key=lambda j, d=d: (d[j], j))[:k]
        indices.append(order)
        distances.append(d[order])
    return np.array(distances), np.array(indices)


def vicinity(train_x, train_soft, test_x, test_codes, k, metric="euclidean"):
    """Return one dict a test sample. Labels are soft; the class of a row is its largest entry."""
    distances, indices = neighbors_of(train_x, test_x, len(train_x), metric)
    rows = []
    for d, order, own in zip(distances, indices, test_codes, strict=True):
        classes = [int(np.argmax(train_soft[j])) for j in order]
        mean = sum(np.asarray(train_soft[j], float) for j in order[:k]) / k
        rows.append(
            {
                "counts": [classes[:k].count(c) for c in range(len(train_soft[0]))],
                "n_same": classes[:k].count(own),
                "label_mass": mean[own],
                "entropy": -sum(p * np.log(p) for p in mean if p > 0),
                "own_distance": min(d[i] for i, c in enumerate(classes) if c == own),
                "other_distance": min(d[i] for i, c in enumerate(classes) if c != own),
            }
        )
    return rows


def memberships(centres, radii, points):
    """Return the number of points in each closed ball, and of balls around each point."""
    inside = [
        [np.sqrt(((c - p) ** 2).sum()) <= r for p in np.asarray(points)]
        for c, r in zip(np.asarray(centres), radii, strict=True)
    ]
    inside = np.array(inside, dtype=int)
    return inside.sum(axis=1), inside.sum(axis=0)


def precision_recall_density_coverage(real, fake, k):
    """Evaluate Kynkäänniemi et al. 2019, Eq. 1-2, and Naeem et al. 2020, Eq. 2-3, literally."""

    def distance(a, b):
        return float(np.sqrt(((a - b) ** 2).sum()))

    def radius(points, i):
        return sorted(distance(points[i], p) for j, p in enumerate(points) if j != i)[k - 1]

    real_radii = [radius(real, i) for i in range(len(real))]
    fake_radii = [radius(fake, i) for i in range(len(fake))]
    around_fake = [
        [distance(x, y) <= r for x, r in zip(real, real_radii, strict=True)] for y in fake
    ]
    around_real = [
        [distance(x, y) <= r for y, r in zip(fake, fake_radii, strict=True)] for x in real
    ]
    precision = sum(any(row) for row in around_fake) / len(fake)
    recall = sum(any(row) for row in around_real) / len(real)
    density = sum(sum(row) for row in around_fake) / (k * len(fake))
    coverage = sum(any(row[i] for row in around_fake) for i in range(len(real))) / len(real)
    return precision, recall, density, coverage
