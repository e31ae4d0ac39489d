"""What a GPU would run, on a device that keeps its tensors apart from the CPU's as a GPU does.

torch's `lazy` device computes on the CPU, but takes no tensors that lie elsewhere.
"""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest
import torch
import zmanifold as zm

backend = pytest.importorskip("torch._lazy.ts_backend")
LAZY = torch.device("lazy")


@pytest.fixture(scope="module", autouse=True)
def _started():
    backend.init()


@pytest.fixture
def on_lazy(monkeypatch):
    """Return a call of a function that computes on the lazy device."""

    def call(function, *args, **options):
        with monkeypatch.context() as patch:
            for module in pkgutil.iter_modules(zm.__path__, "zmanifold."):
                if not module.name.endswith("__main__"):
                    loaded = importlib.import_module(module.name)
                    patch.setattr(loaded, "resolve_device", lambda *_, **__: LAZY, raising=False)
                    patch.setattr(loaded, "working_memory", lambda *_: 2**26, raising=False)
            return function(*args, **options)

    return call


def points(n=300, d=20):
    return np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)


MIXERS = [
    zm.Mixup(num_classes=3),
    zm.Mixup(0.4, per_sample=True, num_classes=3),
    zm.ZetaMixup(2.8, num_classes=3),
    zm.ZetaMixup((1.8, 4.0), n_mix=4, anchored=True, num_classes=3),
]


def test_it_refuses_what_lies_elsewhere():
    with pytest.raises(RuntimeError, match="not a lazy tensor"):
        torch.ones(2, device=LAZY) + torch.ones(2)


@pytest.mark.parametrize("mixer", MIXERS, ids=repr)
@pytest.mark.parametrize("batch", [6, 150])
@pytest.mark.parametrize("seeded", [False, True])
def test_mixers(mixer, batch, seeded):
    x, y = torch.rand(batch, 3, 4, 4), torch.arange(batch) % 3
    generator = torch.Generator().manual_seed(0) if seeded else None
    mixed, soft = mixer(x.to(LAZY), y.to(LAZY), generator=generator)
    assert mixed.device.type == soft.device.type == "lazy"
    assert mixed.cpu().isfinite().all()
    assert soft.shape == (batch, 3)
    # Random numbers of its own it may draw again each time that a value is read.
    if seeded:
        expected = mixer(x, y, generator=generator.manual_seed(0))
        torch.testing.assert_close((mixed.cpu(), soft.cpu()), expected)


@pytest.mark.parametrize("queries", [None, [5, 2, 7]])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("d", [3, 20])
def test_neighbours(on_lazy, queries, metric, d):
    X = np.repeat(points(d=d), 2, axis=0)
    found = on_lazy(zm.kneighbors, X, 9, queries=queries, metric=metric)
    expected = zm.kneighbors(X, 9, queries=queries, metric=metric, device="cpu")
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("k", [8, 50])
def test_local_dimension(on_lazy, k):
    found = on_lazy(zm.LocalPCA(n_neighbors=k).fit, points())
    expected = zm.LocalPCA(n_neighbors=k, device="cpu").fit(points())
    np.testing.assert_array_equal(found.dimension_pw_, expected.dimension_pw_)
    indices = zm.kneighbors(points(), k, device="cpu")[1]
    spectra = on_lazy(zm.local_spectra, points(), indices)
    np.testing.assert_allclose(
        spectra, zm.local_spectra(points(), indices, device="cpu"), atol=1e-12
    )


@pytest.mark.parametrize("n_queries", [None, 50])
def test_sweeps(on_lazy, n_queries):
    options = {"mixers": [None, *MIXERS], "n_neighbors": (4, 8), "seeds": 2}
    options |= {"n_queries": n_queries, "progress": False}
    found = on_lazy(zm.sweep_id, points(), **options).to_frame()
    expected = zm.sweep_id(points(), device="cpu", **options).to_frame()
    assert set(found["device"]) == {"lazy"}
    columns = ["id_mean", "id_std", "n_degenerate"]
    np.testing.assert_array_equal(found[columns], expected[columns])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_what_surrounds_samples(on_lazy, metric):
    X, y = points(), np.arange(300) % 3
    given = X[:200], y[:200], X[200:], y[200:]
    found = on_lazy(zm.vicinity, *given, n_neighbors=(4, 8), metric=metric).to_frame()
    expected = zm.vicinity(*given, n_neighbors=(4, 8), metric=metric, device="cpu").to_frame()
    np.testing.assert_allclose(
        found.select_dtypes("number"), expected.select_dtypes("number"), atol=1e-12
    )


def test_mixed_sets(on_lazy):
    X, y = points(), np.arange(300) % 3
    mixed, soft = zm.mixed_set(X, y, zm.ZetaMixup(2.0))
    found = on_lazy(zm.mixed_set_metrics, X, y, mixed, soft).summary()
    expected = zm.mixed_set_metrics(X, y, mixed, soft, device="cpu").summary()
    assert found == pytest.approx(expected)
