"""The kernels that draw pairs and mix them on a GPU, against torch and against loops.

Without a GPU, TRITON_INTERPRET=1 lets Triton interpret the kernels.
"""

from __future__ import annotations

import os

import pytest
import torch
import zmanifold as zm
from torch.autograd import forward_ad
from zmanifold.mixers import mixup
from zmanifold.mixers._kernels import runs_kernels

pytest.importorskip("triton")
if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs a GPU or TRITON_INTERPRET=1", allow_module_level=True)

from zmanifold.mixers import _pairs_triton
from zmanifold.mixers._pairs_triton import mixed_pairs, pairs_and_labels

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

BATCHES = [1, 2, 3, 32, 33, 150]
ALPHAS = [0.01, 0.2, 1.0, 8.0]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def seeded(seed=0):
    return torch.Generator(DEVICE).manual_seed(seed)


def random_numbers(*shape, seed=0):
    return torch.rand(shape, generator=seeded(seed), device=DEVICE, dtype=torch.float64)


def drawn(uniforms, b, classes=None, *, alpha=1.0, num_classes=0, dtype=torch.float32):
    return pairs_and_labels(
        uniforms, classes, batch_size=b, alpha=alpha, num_classes=num_classes, dtype=dtype
    )


def dense(lam, partner):
    """The table of weights, by a loop."""
    weights = torch.zeros((len(lam), len(lam)), dtype=torch.float64)
    for r, (share, j) in enumerate(zip(lam.tolist(), partner.tolist(), strict=True)):
        weights[r, r] += share
        weights[r, j] += 1 - share
    return weights


@pytest.fixture
def by_kernel(monkeypatch):
    """Return a function that switches the kernels on or off, interpreted where there is no GPU."""
    monkeypatch.setattr(mixup, "_draws_at_once", lambda _: True)

    def switch(use):
        monkeypatch.setattr(mixup, "runs_kernels", lambda _: use)

    return switch


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("b", BATCHES)
def test_pairs(b, per_sample):
    for alpha in ALPHAS:
        mixer = zm.Mixup(alpha, per_sample=per_sample)
        uniforms = mixer._uniforms(b, seeded(1), torch.device(DEVICE))
        lam, partner, soft = drawn(uniforms, b, alpha=alpha)
        expected, order = mixer._pairs_of(uniforms, b)
        assert torch.equal(partner, order)
        # The square root of U^(-1/α) - 1 multiplies the error of the power, an eps, by up to 1e8.
        torch.testing.assert_close(lam, expected.expand(b), rtol=1e-7, atol=1e-12)
        assert soft.shape == (b, 0)


def test_more_keys_than_one_block_holds(monkeypatch):
    monkeypatch.setattr(_pairs_triton, "_KEYS", 32)
    uniforms = random_numbers(2 + 100)
    classes = torch.arange(100, device=DEVICE) % 3
    _, partner, soft = drawn(uniforms, 100, classes, num_classes=3)
    assert torch.equal(partner, uniforms[2:].argsort())
    assert soft.isfinite().all()
    classes[70] = 3
    assert drawn(uniforms, 100, classes, num_classes=3)[2].isnan().all()


def test_of_equal_keys_the_earlier_ranks_first():
    for keys in (torch.zeros(40), (torch.arange(40) // 3 / 40).flip(0)):
        uniforms = torch.cat([torch.tensor([0.3, 0.6]), keys]).double().to(DEVICE)
        partner = drawn(uniforms, 40)[1]
        assert torch.equal(partner, uniforms[2:].argsort(stable=True))


def test_extreme_numbers_give_finite_weights():
    below_one = 1 - 2.0**-53
    for alpha in (1e-300, 0.01, 1.0, 1e300):
        for spread in (0.0, 2.0**-53, 0.5, below_one):
            for turn in (0.0, 2.0**-53, 0.5, below_one):
                uniforms = torch.tensor([spread, turn, 0.5], dtype=torch.float64, device=DEVICE)
                lam = drawn(uniforms, 1, alpha=alpha)[0]
                assert ((lam >= 0) & (lam <= 1)).all()
                expected = zm.Mixup(alpha)._pairs_of(uniforms, 1)[0]
                torch.testing.assert_close(lam, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("k", [1, 3, 1500])
@pytest.mark.parametrize("b", BATCHES)
def test_labels(b, k):
    classes = torch.randint(k, (b,), generator=seeded(2), device=DEVICE)
    for dtype in (torch.float32, torch.float64):
        lam, partner, soft = drawn(
            random_numbers(3 * b), b, classes, alpha=0.4, num_classes=k, dtype=dtype
        )
        one_hot = torch.nn.functional.one_hot(classes, k).double().cpu()
        expected = (dense(lam, partner) @ one_hot).to(dtype)
        torch.testing.assert_close(soft.cpu(), expected, rtol=2 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("unknown", [-100, -1, 3, 2**40])
def test_an_unknown_class_makes_labels_nan(unknown):
    for b in (1, 33):
        classes = torch.randint(3, (b,), generator=seeded(2), device=DEVICE)
        classes[-1] = unknown
        _, partner, soft = drawn(random_numbers(2 + b), b, classes, num_classes=3)
        assert soft.shape == (b, 3)
        assert soft.isnan().all()
        assert torch.equal(partner, random_numbers(2 + b)[2:].argsort())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("b", BATCHES)
def test_mixing(b, dtype):
    lam = random_numbers(b, seed=1)
    partner = random_numbers(b, seed=2).argsort()
    # One value, a part of a block, aligned and not, and more than two blocks.
    for d in (0, 1, 48, 75, 4100):
        rows = random_numbers(b, d, seed=3).sub(0.5).to(dtype)
        before = rows.clone()
        mixed = mixed_pairs(lam, partner, rows)
        exact = dense(lam, partner) @ rows.double().cpu()
        assert mixed.dtype == dtype
        # Terms up to 1/2, each with a rounded weight and product; the sum; rounding to the dtype.
        eps = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
        error = (mixed.double().cpu() - exact).abs()
        assert (error <= 2 * eps + exact.abs() * torch.finfo(dtype).eps).all()
        assert torch.equal(rows, before)
        own = partner == torch.arange(b, device=DEVICE)
        assert torch.equal(mixed[own], rows[own])


def test_who_is_its_own_partner_stays_whatever_its_values():
    rows = torch.tensor([[1e-45, 3e38, torch.inf, -0.0, 1 / 3], [1.0, 2, 3, 4, 5]], device=DEVICE)
    for share in (1 / 3, 0.9, 1e-17):
        lam = torch.full((2,), share, dtype=torch.float64, device=DEVICE)
        mixed = mixed_pairs(lam, torch.arange(2, device=DEVICE), rows)
        assert torch.equal(mixed.view(torch.int32), rows.view(torch.int32))


def test_rows_of_other_layouts():
    x = random_numbers(6, 40)
    lam, partner = random_numbers(3), torch.tensor([1, 2, 0], device=DEVICE)
    # What the imaginary part of a conjugate is, but contiguous: the sign is not in its memory.
    negative = torch._neg_view(x)
    assert negative.is_contiguous()
    for rows in (x[::2], x[:3, ::3], x.t()[:3], x[:1].expand(3, 40), x[3:, 1:], negative[:3]):
        expected = (dense(lam, partner) @ rows.cpu()).to(DEVICE)
        torch.testing.assert_close(mixed_pairs(lam, partner, rows), expected)


CHANNELS = {4: torch.channels_last, 5: torch.channels_last_3d}


@pytest.mark.parametrize("shape", [(), (5,), (3, 4, 4), (3, 4, 4, 2)], ids=repr)
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("b", [1, 12])
def test_a_mixer_mixes_the_same_with_and_without_kernels(b, per_sample, shape, by_kernel):
    x = random_numbers(b, *shape, seed=1)
    hard = torch.randint(3, (b,), generator=seeded(2), device=DEVICE)
    masks = torch.randint(3, (b, 4, 5), generator=seeded(3), device=DEVICE)
    targets = [hard, hard.to(torch.uint8), hard.repeat(2)[::2], masks, random_numbers(b)]
    targets += [random_numbers(b, 3).float(), random_numbers(b, 3, 2, 2).to(torch.bfloat16)]
    mixer = zm.Mixup(0.4, per_sample=per_sample, num_classes=3)
    for dtype in DTYPES:
        samples = x.to(dtype)
        if len(shape) > 2:
            samples = samples.contiguous(memory_format=CHANNELS[samples.ndim])
        for y in targets:
            found = []
            for use in (True, False):
                by_kernel(use)
                generator = seeded(4)
                mixed, soft = mixer(samples, y, generator=generator)
                weights = mixer.weights(b, generator=generator, device=DEVICE)
                assert mixed.stride() == samples.stride()
                found.append((mixed, soft, weights))
            for one, other in zip(*found, strict=True):
                # Values below 1. torch mixes with weights rounded to the dtypes of samples, or
                # float32, and of targets.
                weighed = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
                tolerance = max(2 * torch.finfo(one.dtype).eps, 2 * weighed, 1e-9)
                torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_weights_are_those_of_a_call(by_kernel):
    by_kernel(True)
    x = torch.eye(9, device=DEVICE, dtype=torch.float64)
    mixer = zm.Mixup(0.7, per_sample=True)
    mixed, soft = mixer(x, x, generator=seeded(5))
    weights = mixer.weights(9, generator=seeded(5), dtype=torch.float64)
    torch.testing.assert_close(mixed, weights, rtol=1e-9, atol=1e-12)
    assert torch.equal(mixed, soft)


# torch's own forward mode; torch 2.14 made the warning one of another class.
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_what_is_differentiated_is_left_to_torch(by_kernel):
    by_kernel(True)
    mixer = zm.Mixup(per_sample=True, num_classes=3)
    hard = torch.arange(6, device=DEVICE) % 3
    x = torch.rand((6, 4), device=DEVICE, requires_grad=True)
    weights = mixer.weights(6, generator=seeded(6), device=DEVICE)
    mixed, _ = mixer(x, hard, generator=seeded(6))
    torch.testing.assert_close(mixed, weights @ x)
    (gradient,) = torch.autograd.grad(mixed[:, 0].sum(), x)
    torch.testing.assert_close(gradient[:, 0], weights.sum(dim=0))
    y = torch.rand((6, 3), device=DEVICE, requires_grad=True)
    assert mixer(x.detach(), y, generator=seeded(6))[1].requires_grad
    with torch.no_grad():
        assert mixup._by_kernel(x, y)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x.detach(), torch.ones_like(x))
        tangent = forward_ad.unpack_dual(mixer(dual, hard)[0]).tangent
        torch.testing.assert_close(tangent, torch.ones_like(x))


def test_who_mixes(by_kernel):
    by_kernel(True)
    x, y = torch.rand(4, 2), torch.rand(4)
    assert mixup._by_kernel(x, y)
    assert mixup._by_kernel(torch.nn.Parameter(x, requires_grad=False), y)
    assert not mixup._by_kernel(x.to(torch.float8_e4m3fn), y)
    assert not mixup._by_kernel(x, y.to(torch.float8_e4m3fn))

    class Image(torch.Tensor):
        pass

    assert not mixup._by_kernel(x.as_subclass(Image), y)
    by_kernel(False)
    assert not mixup._by_kernel(x, y)
    assert runs_kernels(torch.device(DEVICE)) == (DEVICE == "cuda")


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
def test_a_large_batch():
    x = torch.rand((20_000, 33), device=DEVICE)
    hard = torch.arange(20_000, device=DEVICE) % 10
    mixer = zm.Mixup(per_sample=True, num_classes=10)
    uniforms = mixer._uniforms(20_000, seeded(7), x.device)
    lam, partner = mixer._pairs_of(uniforms, 20_000)
    mixed, soft = mixer(x, hard, generator=seeded(7))
    expected = lam[:, None] * x + (1 - lam)[:, None] * x[partner]
    torch.testing.assert_close(mixed.double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(soft.sum(dim=1), torch.ones_like(lam).float())


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
def test_a_cuda_graph_draws_anew():
    mixer = zm.Mixup(per_sample=True, num_classes=3)
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
