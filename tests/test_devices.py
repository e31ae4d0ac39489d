"""Other devices give the results of the CPU: a GPU, if there is one, and torch's `lazy` device."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import numpy as np
import pytest
import torch
import zmanifold as zm

from lazy_device import start_lazy

LAZY = torch.device("lazy")
CUDA = pytest.param(
    torch.device("cuda"),
    id="cuda",
    marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
)
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(params=[pytest.param(LAZY, id="lazy"), CUDA])
def elsewhere(request):
    if request.param == LAZY:
        start_lazy()
    return request.param


@pytest.fixture
def on_device(elsewhere, monkeypatch):
    """Return a function that calls another one on the device; "auto" finds a GPU by itself."""
    for module in pkgutil.walk_packages(zm.__path__, "zmanifold."):
        if not module.name.endswith(("__main__", "_triton")):
            importlib.import_module(module.name)

    def call(function, *args, **options):
        with monkeypatch.context() as patch:
            if elsewhere == LAZY:
                for module in [
                    m for name, m in sys.modules.items() if name.startswith("zmanifold.")
                ]:
                    patch.setattr(module, "resolve_device", lambda *_, **__: LAZY, raising=False)
                    patch.setattr(module, "working_memory", lambda *_: 2**26, raising=False)
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
    start_lazy()
    with pytest.raises(RuntimeError, match="not a lazy tensor"):
        torch.ones(2, device=LAZY) + torch.ones(2)


@pytest.mark.parametrize("mixer", MIXERS, ids=repr)
@pytest.mark.parametrize("batch", [6, 150])
@pytest.mark.parametrize("seeded", [False, True])
def test_mixers(elsewhere, mixer, batch, seeded):
    x, y = torch.rand(batch, 3, 4, 4), torch.arange(batch) % 3
    generator = torch.Generator().manual_seed(0) if seeded else None
    mixed, soft = mixer(x.to(elsewhere), y.to(elsewhere), generator=generator)
    assert mixed.device.type == soft.device.type == elsewhere.type
    assert mixed.cpu().isfinite().all()
    assert soft.shape == (batch, 3)
    # `lazy` may draw its random numbers again each time that a value is read.
    if seeded:
        expected = mixer(x, y, generator=generator.manual_seed(0))
        torch.testing.assert_close((mixed.cpu(), soft.cpu()), expected)


@pytest.mark.parametrize("mixer", MIXERS, ids=repr)
@pytest.mark.parametrize("unknown", [-100, 3])
def test_unknown_classes_are_no_incomplete_distributions(elsewhere, mixer, unknown):
    """No host learns of them: a loss must not be finite."""
    y = torch.tensor([0, 1, 2, unknown, 1, 0])
    _, soft = mixer(torch.rand(6, 3).to(elsewhere), y.to(elsewhere))
    rows = soft.cpu().sum(dim=1)
    assert rows.isnan().any()
    assert (rows.isnan() | ((rows - 1).abs() < 1e-6)).all()


def test_labels_on_another_device_are_refused(elsewhere):
    x, y = torch.rand(6, 3).to(elsewhere), torch.arange(6) % 3
    with pytest.raises(ValueError, match=f"y lies on cpu but x on {x.device}: give y.to"):
        MIXERS[0](x, y)


@pytest.mark.parametrize("queries", [None, [5, 2, 7]])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("d", [3, 20])
def test_neighbours(on_device, queries, metric, d):
    X = np.repeat(points(d=d), 2, axis=0)
    found = on_device(zm.kneighbors, X, 9, queries=queries, metric=metric)
    expected = zm.kneighbors(X, 9, queries=queries, metric=metric, device="cpu")
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("k", [8, 50])
def test_local_dimension(on_device, k):
    found = on_device(zm.LocalPCA(n_neighbors=k).fit, points())
    expected = zm.LocalPCA(n_neighbors=k, device="cpu").fit(points())
    np.testing.assert_array_equal(found.dimension_pw_, expected.dimension_pw_)
    indices = zm.kneighbors(points(), k, device="cpu")[1]
    spectra = on_device(zm.local_spectra, points(), indices)
    np.testing.assert_allclose(
        spectra, zm.local_spectra(points(), indices, device="cpu"), atol=1e-12
    )


@pytest.mark.parametrize("n_queries", [None, 50])
def test_sweeps(on_device, n_queries):
    options = {"mixers": [None, *MIXERS], "n_neighbors": (4, 8), "seeds": 2}
    options |= {"n_queries": n_queries, "progress": False}
    found = on_device(zm.sweep_id, points(), **options).to_frame()
    expected = zm.sweep_id(points(), device="cpu", **options).to_frame()
    (used,) = set(found["device"])
    assert used.startswith(("lazy", "cuda"))
    columns = ["id_mean", "id_std", "n_degenerate"]
    np.testing.assert_array_equal(found[columns], expected[columns])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_what_surrounds_samples(on_device, metric):
    X, y = points(), np.arange(300) % 3
    given = X[:200], y[:200], X[200:], y[200:]
    found = on_device(zm.vicinity, *given, n_neighbors=(4, 8), metric=metric).to_frame()
    expected = zm.vicinity(*given, n_neighbors=(4, 8), metric=metric, device="cpu").to_frame()
    np.testing.assert_allclose(
        found.select_dtypes("number"), expected.select_dtypes("number"), atol=1e-12
    )


def test_mixed_sets(on_device):
    X, y = points(), np.arange(300) % 3
    mixed, soft = zm.mixed_set(X, y, zm.ZetaMixup(2.0))
    found = on_device(zm.mixed_set_metrics, X, y, mixed, soft).summary()
    expected = zm.mixed_set_metrics(X, y, mixed, soft, device="cpu").summary()
    assert found == pytest.approx(expected)


@on_a_gpu
# torch says so once in a process.
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
@pytest.mark.parametrize("mixer", MIXERS, ids=repr)
@pytest.mark.parametrize("source", ["none", "cuda"])
def test_mixers_never_make_a_gpu_wait(mixer, source):
    x, y = torch.rand(150, 3, 4, 4, device="cuda"), torch.arange(150, device="cuda") % 3
    generator = None if source == "none" else torch.Generator("cuda").manual_seed(0)
    mixer(x, y, generator=generator)
    torch.cuda.set_sync_debug_mode("error")
    try:
        mixed, soft = mixer(x, y, generator=generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(150, device="cuda"))
    assert bool(((mixed >= 0) & (mixed <= 1 + 1e-6)).all())


@on_a_gpu
@pytest.mark.parametrize("mixer", MIXERS, ids=repr)
def test_a_captured_graph_draws_anew(mixer):
    x, y = torch.rand(32, 3, 4, 4, device="cuda"), torch.arange(32, device="cuda") % 3
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        mixer(x, y)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        mixed, soft = mixer(x, y)
    graph.replay()
    first = mixed.clone(), soft.clone()
    graph.replay()
    assert not torch.equal(first[0], mixed)
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(32, device="cuda"))


@on_a_gpu
@pytest.mark.parametrize("mixer", MIXERS, ids=repr)
def test_weights_of_a_generator_on_a_gpu_can_lie_on_the_cpu(mixer):
    def drawn(device):
        return mixer.weights(40, generator=torch.Generator("cuda").manual_seed(3), device=device)

    host = drawn("cpu")
    assert host.device.type == "cpu"
    torch.cuda.synchronize()
    torch.testing.assert_close(drawn("cuda").cpu(), host)


@on_a_gpu
@pytest.mark.parametrize("k", [8, 128])
def test_real_data_on_a_gpu(k):
    X = zm.load_dataset("digits").points
    found = zm.LocalPCA(n_neighbors=k, device="cuda").fit(X)
    expected = zm.LocalPCA(n_neighbors=k, device="cpu").fit(X)
    np.testing.assert_array_equal(found.dimension_pw_, expected.dimension_pw_)


@on_a_gpu
@pytest.mark.parametrize("mixer", [None, *MIXERS[:1], *MIXERS[2:3]], ids=repr)
def test_training_on_a_gpu_learns(mixer):
    from zmanifold.training import train

    data = zm.load_dataset("digits")
    mixer = None if mixer is None else type(mixer)()
    done = train(data, mixer=mixer, epochs=3, batch_size=64, device="cuda", progress=False)
    assert done.accuracy(data) > 0.9
    assert done.settings["device"].startswith("cuda (")
