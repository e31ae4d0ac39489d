"""Compile the kernels that most tests use, once, before several processes would each do so.

A fresh clone has no machine code yet. Each process of a parallel run would compile the same
functions, a minute or more of work, because none waits for another.
"""

from __future__ import annotations

import numpy as np
import zmanifold as zm


def main() -> None:
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        # Few features are searched by a tree, many by products; few neighbours have kernels of
        # their own, and so have more neighbours than features.
        for d, k in ((3, 8), (3, 40), (12, 130), (20, 4), (40, 20), (300, 130)):
            X = rng.normal(size=(400, d)).astype(dtype)
            for metric in ("euclidean", "cosine"):
                zm.kneighbors(X, k, metric=metric, device="cpu")
                zm.kneighbors(X, k, queries=np.arange(0, 400, 8), metric=metric, device="cpu")
            zm.LocalPCA(n_neighbors=k, device="cpu").fit(X)
        y = np.arange(400) % 4
        zm.vicinity(X[:300], y[:300], X[300:], y[300:], n_neighbors=(4, 8), device="cpu")
        mixed, soft = zm.mixed_set(X, y, zm.ZetaMixup(), batch_size=40)
        zm.mixed_set_metrics(X, y, mixed, soft, device="cpu")


if __name__ == "__main__":
    main()
