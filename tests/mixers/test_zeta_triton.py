"""The kernel that draws ζ-mixup's weights on a GPU, against what torch draws from the same keys.

Without a GPU, TRITON_INTERPRET=1 lets Triton interpret the kernel.
"""

from __future__ import annotations

import os

import pytest
import torch
import zmanifold as zm
from zmanifold.mixers import zeta

pytest.importorskip("triton")
if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs a GPU or TRITON_INTERPRET=1", allow_module_level=True)

from zmanifold.mixers._zeta_triton import drawn_rows

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

BATCHES = [2, 3, 32, 33, 100, 150]
GAMMAS = [0.0, 2.8, 50.0, (1.8, 4.0)]


def seeded(seed=0):
    return torch.Generator(DEVICE).manual_seed(seed)


def random_keys(b, seed=0):
    return torch.rand((b, b), generator=seeded(seed), device=DEVICE, dtype=torch.float64)


def expected_rows(keys, gamma, n_mix, anchored, dtype):
    """What `ZetaMixup._draw` does after it has drawn its keys."""
    b = len(keys)
    keys = keys - torch.eye(b, device=DEVICE, dtype=torch.float64) if anchored else keys
    order = keys.argsort(dim=1, stable=True)[:, :n_mix]
    series = zeta._p_series(gamma, n_mix, keys.device).to(dtype).expand(b, n_mix)
    return torch.zeros((b, b), device=DEVICE, dtype=dtype).scatter(1, order, series)


def check(weights, expected):
    """Compare weights: equal ranks, and values up to how exponentials and sums are rounded.

    Interpreted, they are NumPy's. exp(-γ log j) multiplies an error of the logarithm, at most a
    unit in the last place, by γ log j, here at most 250. A float32 then differs only where a
    float64 lies that close to the middle between two float32: once in some million.
    """
    double = expected.dtype == torch.float64
    torch.testing.assert_close(weights, expected, rtol=1e-13 if double else 0, atol=0)


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("n_mix", [None, 2])
@pytest.mark.parametrize("gamma", GAMMAS, ids=repr)
@pytest.mark.parametrize("b", BATCHES)
def test_weights(b, gamma, n_mix, anchored):
    keys, n_mix = random_keys(b), n_mix or b
    pair = isinstance(gamma, tuple)
    uniform = torch.rand(1, generator=seeded(1), device=DEVICE, dtype=torch.float64)
    low, high = gamma if pair else (gamma, gamma)
    for dtype in (torch.float32, torch.float64):
        weights, soft = drawn_rows(
            keys,
            None,
            gamma=(low, high),
            uniform=uniform if pair else None,
            n_mix=n_mix,
            anchored=anchored,
            num_classes=0,
            dtype=dtype,
        )
        drawn = low + (high - low) * uniform if pair else gamma
        check(weights, expected_rows(keys, drawn, n_mix, anchored, dtype))
        assert soft.shape == (b, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 3, 10, 1000])
@pytest.mark.parametrize("b", BATCHES)
def test_labels(b, k, dtype):
    classes = torch.randint(k, (b,), generator=seeded(2), device=DEVICE)
    options = {"gamma": (1.0, 1.0), "uniform": None, "n_mix": b, "anchored": False}
    weights, soft = drawn_rows(random_keys(b), classes, num_classes=k, dtype=dtype, **options)
    check(weights, expected_rows(random_keys(b), 1.0, b, False, dtype))
    one_hot = (classes[:, None] == torch.arange(k, device=DEVICE)).double()
    # Sums of at most 150 rounded numbers, added in a tree.
    tolerance = 8 * torch.finfo(dtype).eps
    expected = (weights.double() @ one_hot).to(dtype)
    torch.testing.assert_close(soft, expected, rtol=tolerance, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [3, 1000])
@pytest.mark.parametrize("unknown", [-100, -1, "k", 2**40])
@pytest.mark.parametrize("b", [2, 33])
def test_an_unknown_class_makes_labels_nan(b, unknown, k, dtype):
    classes = torch.randint(k, (b,), generator=seeded(2), device=DEVICE)
    classes[-1] = k if unknown == "k" else unknown
    options = {"gamma": (1.0, 1.0), "uniform": None, "n_mix": b, "anchored": False}
    weights, soft = drawn_rows(random_keys(b), classes, num_classes=k, dtype=dtype, **options)
    assert soft.isnan().all()
    check(weights, expected_rows(random_keys(b), 1.0, b, False, dtype))


@pytest.mark.parametrize("anchored", [False, True])
def test_of_equal_keys_the_earlier_ranks_first(anchored):
    options = {"gamma": (1.0, 1.0), "uniform": None, "n_mix": 40, "anchored": anchored}
    for keys in (torch.zeros(40, 40), torch.arange(40) // 3 / 40 * torch.ones(40, 1)):
        keys = keys.double().to(DEVICE)
        weights, _ = drawn_rows(keys, None, num_classes=0, dtype=torch.float64, **options)
        check(weights, expected_rows(keys, 1.0, 40, anchored, torch.float64))


@pytest.mark.parametrize("b", [2, 12])
@pytest.mark.parametrize("gamma", GAMMAS, ids=repr)
@pytest.mark.parametrize("options", [{}, {"anchored": True}, {"n_mix": 2}], ids=repr)
def test_a_mixer_draws_the_same_with_and_without_the_kernel(b, gamma, options, monkeypatch):
    x = torch.rand((b, 2, 3), generator=seeded(1), device=DEVICE)
    hard = torch.randint(3, (b,), generator=seeded(2), device=DEVICE)
    soft = torch.rand((b, 3), generator=seeded(3), device=DEVICE)
    mixer = zm.ZetaMixup(gamma, num_classes=3, **options)
    for dtype in (torch.float16, torch.float32, torch.float64):
        found = []
        for by_kernel in (True, False):
            monkeypatch.setattr(zeta, "_by_kernel", lambda *_, use=by_kernel: use)
            generator = seeded(4)
            for y in (hard, hard.to(torch.uint8), hard.repeat(2)[::2], soft):
                mixed, labels = mixer(x.to(dtype), y, generator=generator)
                weights = mixer.weights(b, generator=generator, device=DEVICE)
                found.append((mixed, labels, weights))
        half = len(found) // 2
        for by_kernel, by_torch in zip(found[:half], found[half:], strict=True):
            for one, other in zip(by_kernel, by_torch, strict=True):
                tolerance = {torch.float16: 1e-3, torch.float32: 1e-6}.get(one.dtype, 1e-13)
                torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_who_draws():
    gpu = torch.device("cuda", 0)
    assert not zeta._by_kernel(32, torch.device("cpu"), torch.float32)
    assert not zeta._by_kernel(1025, gpu, torch.float32)
    assert not zeta._by_kernel(32, gpu, torch.float16)
    found = []
    torch.func.vmap(lambda x: found.append(zeta._by_kernel(32, gpu, torch.float32)) or x)(
        torch.ones(2)
    )
    assert found == [False]
    if torch.cuda.is_available():
        assert zeta._by_kernel(32, gpu, torch.float32)


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
def test_the_largest_batch():
    options = {"gamma": (2.8, 2.8), "uniform": None, "n_mix": 1024, "anchored": False}
    classes = torch.arange(1024, device=DEVICE) % 10
    keys = random_keys(1024)
    weights, soft = drawn_rows(keys, classes, num_classes=10, dtype=torch.float32, **options)
    check(weights, expected_rows(keys, 2.8, 1024, False, torch.float32))
    torch.testing.assert_close(soft.sum(1), weights.sum(1), rtol=1e-5, atol=0)


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
@pytest.mark.parametrize("gamma", [2.8, (1.8, 4.0)], ids=repr)
def test_a_cuda_graph_draws_anew(gamma):
    mixer = zm.ZetaMixup(gamma, num_classes=3)
    x, y = torch.rand((8, 5), device=DEVICE), torch.arange(8, device=DEVICE) % 3
    mixer(x, y)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        mixed, _ = mixer(x, y)
    found = []
    for _ in range(2):
        graph.replay()
        found.append(mixed.clone())
    assert not torch.equal(*found)
    torch.manual_seed(0)
    graph.replay()
    torch.manual_seed(0)
    torch.testing.assert_close(mixed, mixer(x, y)[0])
