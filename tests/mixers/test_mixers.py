from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
import zmanifold as zm
from scipy.stats import beta, chisquare, kstest
from torch import nn
from zmanifold._base.errors import InputError
from zmanifold.mixers import mixers_from_specs, mixup
from zmanifold.mixers._shuffles import shuffled_rows

import oracles

MIXERS = [
    zm.Mixup(),
    zm.Mixup(0.2, per_sample=True),
    zm.ZetaMixup(2.4),
    zm.ZetaMixup(2.4, anchored=True),
    zm.ZetaMixup(4.0, n_mix=3),
    zm.ZetaMixup((1.8, 4.0), anchored=True, n_mix=5),
    zm.ZetaMixup(0.0),
    zm.ZetaMixup(60.0),
]


def seeded(seed=0, device="cpu"):
    return torch.Generator(device).manual_seed(seed)


@pytest.mark.parametrize("mixer", MIXERS, ids=repr)
@pytest.mark.parametrize("batch", [5, 32])
def test_weights_are_row_stochastic(mixer, batch, device):
    weights = mixer.weights(batch, device=device, dtype=torch.float64)
    assert weights.device.type == device
    assert weights.shape == (batch, batch)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones_like(weights[0]), rtol=0, atol=1e-14)


@pytest.mark.parametrize("mixer", MIXERS, ids=repr)
def test_one_seed_one_result_and_no_global_state(mixer):
    before = torch.get_rng_state()
    first = mixer.weights(16, generator=seeded(1))
    assert torch.equal(first, mixer.weights(16, generator=seeded(1)))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(
        zm.ZetaMixup().weights(16, generator=seeded(1)),
        zm.ZetaMixup().weights(16, generator=seeded(2)),
    )


def test_without_a_generator_the_global_seed_rules():
    torch.manual_seed(3)
    first = zm.ZetaMixup().weights(8)
    torch.manual_seed(3)
    assert torch.equal(first, zm.ZetaMixup().weights(8))


@pytest.mark.parametrize("gamma", [0.0, 1.7, 2.8, 15.0, 60.0])
@pytest.mark.parametrize("n_mix", [2, 3, 8])
def test_zeta_rows_are_permuted_p_series(gamma, n_mix):
    weights = zm.ZetaMixup(gamma, n_mix=n_mix).weights(8, dtype=torch.float64)
    expected = oracles.p_series(gamma, n_mix) + [0.0] * (8 - n_mix)
    for row in weights.tolist():
        np.testing.assert_allclose(sorted(row, reverse=True), expected, rtol=1e-13)


def test_zeta_permutations_are_uniform_and_rows_independent():
    generator = seeded()
    mixer = zm.ZetaMixup(2.0)
    draws = [mixer.weights(3, generator=generator) for _ in range(3000)]
    orders = torch.stack(draws).argsort(dim=2, descending=True)
    codes = {p: i for i, p in enumerate(itertools.permutations(range(3)))}
    rows = np.array([[codes[tuple(row)] for row in draw] for draw in orders.tolist()])
    for row in range(3):
        assert chisquare(np.bincount(rows[:, row], minlength=6)).pvalue > 1e-3
    # All 36 pairs of two rows' permutations are as frequent.
    assert chisquare(np.bincount(rows[:, 0] * 6 + rows[:, 1], minlength=36)).pvalue > 1e-3


def test_anchored_zeta_keeps_the_largest_weight_and_permutes_the_rest_uniformly():
    generator = seeded()
    mixer = zm.ZetaMixup(2.0, anchored=True)
    draws = torch.stack([mixer.weights(4, generator=generator) for _ in range(2000)])
    assert (draws.argmax(dim=2) == torch.arange(4)).all()
    second = draws[:, 0].argsort(dim=1, descending=True)[:, 1]
    assert chisquare(np.bincount(second.numpy(), minlength=4)[1:]).pvalue > 1e-3


def test_n_mix_chooses_uniformly():
    generator = seeded()
    mixer = zm.ZetaMixup(2.0, n_mix=2)
    chosen = sum((mixer.weights(5, generator=generator) > 0).float() for _ in range(2000))
    assert chisquare(chosen[0].numpy()).pvalue > 1e-3
    anchored = zm.ZetaMixup(2.0, n_mix=2, anchored=True).weights(5)
    assert (anchored.diagonal() == anchored.max()).all()


def test_one_seed_means_the_same_permutations_at_every_gamma():
    orders = [
        zm.ZetaMixup(gamma).weights(16, generator=seeded(5)).argsort(dim=1, descending=True)
        for gamma in (0.7, 2.8, 4.0)
    ]
    assert torch.equal(orders[0], orders[1])
    assert torch.equal(orders[0], orders[2])


def test_gamma_range_is_drawn_anew_and_uniformly():
    generator = seeded()
    mixer = zm.ZetaMixup((1.0, 3.0), n_mix=2)
    largest = [float(mixer.weights(4, generator=generator).max()) for _ in range(1000)]
    gammas = [zm.gamma_from_lambda(value) for value in largest]
    assert kstest(gammas, "uniform", args=(1.0, 2.0)).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.02, 0.4, 1.0, 3.0])
def test_mixup_lambda_is_beta_distributed(alpha):
    mixer = zm.Mixup(alpha, per_sample=True)
    lam = mixer._lambda(4000, seeded(), torch.device("cpu")).numpy()
    assert np.isfinite(lam).all()
    # Near 1 a float64 has no room for small alpha; the lower half has, and mirrors it.
    low = lam[lam < 0.5]
    assert kstest(low, lambda v: 2 * beta(alpha, alpha).cdf(v)).pvalue > 1e-3
    assert chisquare([len(low), len(lam) - len(low)]).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.02, 0.4, 1.0, 3.0, 40.0])
def test_lambda_of_a_gpu_is_beta_distributed(alpha):
    mixer = zm.Mixup(alpha, per_sample=True)
    uniforms = mixer._uniforms(4000, seeded(), torch.device("cpu"))
    lam, partner = mixer._pairs_of(uniforms, 4000)
    lam = lam.numpy()
    low = lam[lam < 0.5]
    assert kstest(low, lambda v: 2 * beta(alpha, alpha).cdf(v)).pvalue > 1e-3
    assert chisquare([len(low), len(lam) - len(low)]).pvalue > 1e-3
    assert sorted(partner.tolist()) == list(range(4000))


@pytest.mark.parametrize("per_sample", [False, True])
def test_weights_of_a_gpu(per_sample, monkeypatch):
    monkeypatch.setattr(mixup, "_draws_at_once", lambda _: True)
    mixer = zm.Mixup(per_sample=per_sample)
    weights = mixer.weights(16, generator=seeded(), dtype=torch.float64)
    lam, partner = mixer._pairs_of(mixer._uniforms(16, seeded(), torch.device("cpu")), 16)
    expected = torch.zeros(16, 16, dtype=torch.float64)
    for i, j in enumerate(partner.tolist()):
        share = lam[i if per_sample else 0]
        expected[i, i] += share
        expected[i, j] += 1 - share
    assert torch.equal(weights, expected)


def test_mixup_pairs_each_sample_with_one_partner():
    for per_sample in (False, True):
        weights = zm.Mixup(per_sample=per_sample).weights(
            16, generator=seeded(), dtype=torch.float64
        )
        lam = weights.diagonal()
        # λ weights the unpermuted sample.
        drawn = zm.Mixup()._lambda(16 if per_sample else 1, seeded(), torch.device("cpu"))
        assert torch.isclose(lam, drawn.expand(16)).sum() >= 14
        partners = weights - torch.diag(lam)
        assert ((partners > 0).sum(dim=0) <= 1).all()
        assert ((partners > 0).sum(dim=1) <= 1).all()
        apart = lam[lam < 1]
        assert (apart.std() > 0.05) == per_sample
        if not per_sample:
            torch.testing.assert_close(apart, apart[0].expand_as(apart))


def test_mixup_partners_are_a_uniform_permutation():
    generator = seeded()
    mixer = zm.Mixup()
    partner = []
    for _ in range(3000):
        weights = mixer.weights(3, generator=generator, dtype=torch.float64)
        off = weights - torch.diag(weights.diagonal())
        partner.append(int(off[0].argmax()) if off[0].max() > 0 else 0)
    assert chisquare(np.bincount(partner, minlength=3)).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(6,), (6, 4), (6, 3, 5, 5)])
def test_mixes_any_shape_and_dtype(dtype, shape, device):
    x = torch.rand(shape, device=device).to(dtype)
    y = torch.arange(6, device=device) % 3
    before = x.clone(), y.clone()
    mixer = zm.ZetaMixup(2.0, num_classes=3)
    mixed, soft = mixer(x, y, generator=seeded(1, device))
    weights = mixer.weights(6, generator=seeded(1, device), dtype=torch.float64).cpu().numpy()
    assert mixed.dtype == dtype
    assert mixed.shape == x.shape
    assert soft.dtype == torch.promote_types(dtype, torch.float32)
    tolerance = {torch.float16: 3e-3, torch.bfloat16: 3e-2}.get(dtype, 1e-6)
    expected = oracles.mixed(weights, x.cpu().double().numpy())
    np.testing.assert_allclose(mixed.cpu().double(), expected, atol=tolerance)
    one_hot = np.eye(3)[y.cpu()]
    np.testing.assert_allclose(soft.cpu().double(), oracles.mixed(weights, one_hot), atol=1e-6)
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


def test_soft_labels_pass_as_they_are():
    soft = torch.tensor([[0.2, 0.8], [1.0, 0.0]], dtype=torch.float64)
    _, mixed = zm.ZetaMixup(0.0)(torch.rand(2, 3), soft)
    assert mixed.dtype == torch.float64
    torch.testing.assert_close(mixed, soft.mean(dim=0).expand(2, 2))


def test_gradients_flow_through_the_samples():
    x = torch.rand(4, 2, requires_grad=True)
    mixed, _ = zm.ZetaMixup(num_classes=2)(x, torch.tensor([0, 1, 0, 1]))
    mixed.sum().backward()
    assert x.grad is not None
    assert x.grad.sum() == pytest.approx(8)


def test_is_a_module():
    mixer = zm.ZetaMixup((1.8, 4.0))
    assert isinstance(mixer, nn.Module)
    assert "gamma=(1.8, 4.0)" in repr(mixer)


def test_weights_from_a_cpu_generator_are_the_same_on_every_device(device):
    here = zm.ZetaMixup().weights(8, generator=seeded(3))
    there = zm.ZetaMixup().weights(8, generator=seeded(3), device=device)
    assert there.device.type == device
    assert torch.equal(here, there.cpu())


def test_mix_against_the_loop(rng):
    weights, x = rng.random((4, 6)), rng.random((6, 2, 3))
    mixed = zm.mix(torch.from_numpy(weights), torch.from_numpy(x))
    np.testing.assert_allclose(mixed, oracles.mixed(weights, x))


@pytest.mark.parametrize(
    "transform",
    [
        lambda call, w, x: call(w, x),
        lambda call, w, x: torch.func.grad(lambda *a: call(*a).square().sum(), (0, 1))(w, x),
        lambda call, w, x: torch.func.jvp(call, (w, x), (w.sqrt(), x + 1)),
        lambda call, w, x: torch.vmap(call, (None, 0))(w, torch.stack([x, 2 * x])),
        lambda call, w, x: torch.vmap(call, (2, None))(torch.stack([w, w.mT], 2), x),
        lambda call, w, x: torch.vmap(torch.func.grad(lambda x: call(w, x).square().sum()))(
            x[None]
        ),
        lambda call, w, x: torch.autograd.functional.hvp(lambda x: call(w, x).pow(3).sum(), x, x),
    ],
    ids=["call", "grad", "jvp", "vmap x", "vmap weights", "vmap grad", "hvp"],
)
# torch's own jvp; torch 2.14 made the warning one of another class.
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_mix_can_be_transformed_as_a_product(transform):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(150, 100, generator=generator)
    w = zm.ZetaMixup(0.5).weights(150, generator=generator)
    found, expected = transform(zm.mix, w, x), transform(torch.matmul, w, x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_mix_of_no_samples_is_zero():
    assert zm.mix(torch.zeros(2, 0), torch.zeros(0, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.bool])
def test_hard_labels_of_any_integer_type(dtype):
    y = torch.tensor([0, 1, 1, 0]).to(dtype)
    _, soft = zm.ZetaMixup(60.0, anchored=True, num_classes=2)(torch.rand(4, 3), y)
    # The other samples' weights are 2**-60 and less.
    torch.testing.assert_close(soft, torch.eye(2)[y.long()], rtol=0, atol=1e-12)


def test_gamma_min_is_theorem_1():
    # ζ(γ) = 2 has its root at 1.728647...: OEIS A107311.
    assert zm.gamma_min() == pytest.approx(1.7286472389981836, abs=1e-12)
    assert zm.gamma_min(2) == 0.0
    for n_mix in (3, 8, 32):
        series = oracles.p_series(zm.gamma_min(n_mix), n_mix)
        assert series[0] == pytest.approx(sum(series[1:]), rel=1e-12)
        assert zm.gamma_min(n_mix) < zm.gamma_min()


def test_numpy_scalars_are_numbers():
    assert zm.ZetaMixup(np.int64(2)).gamma == 2.0
    assert zm.ZetaMixup((np.float32(1), 3)).gamma == (1.0, 3.0)
    assert zm.Mixup(np.float32(0.5)).alpha == 0.5


def test_gamma_from_lambda_is_theorem_2():
    for lam in (0.1, 0.5, 0.93):
        assert oracles.p_series(zm.gamma_from_lambda(lam), 2)[0] == pytest.approx(lam)
    gammas = zm.gamma_from_lambda(np.array([0.5, 0.8]))
    np.testing.assert_allclose(gammas, [0.0, 2.0])
    np.testing.assert_allclose(zm.gamma_from_lambda([0.5, 0.8]), gammas)


def test_by_name():
    mixers = mixers_from_specs(["none", "mixup", "zeta-anchored"], gammas=[1.0, 2.0], alpha=0.3)
    assert mixers[0] is None
    assert mixers[1].alpha == 0.3
    assert [m.gamma for m in mixers[2:]] == [1.0, 2.0]
    assert all(m.anchored and m.label == "zeta-anchored" for m in mixers[2:])


X, Y = torch.rand(4, 3), torch.tensor([0, 1, 2, 1])


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: zm.ZetaMixup(-1.0), "gamma=-1.0 must be a number >= 0"),
        (lambda: zm.ZetaMixup(math.nan), "gamma=nan must be"),
        (lambda: zm.ZetaMixup(True), "gamma=True must be"),
        (lambda: zm.ZetaMixup("2"), "gamma='2' must be"),
        (lambda: zm.ZetaMixup((4.0, 1.0)), r"gamma=\(4.0, 1.0\) must be"),
        (lambda: zm.ZetaMixup((1.0, 2.0, 3.0)), "must be a number >= 0 or an ascending pair"),
        (lambda: zm.ZetaMixup(n_mix=1), "n_mix=1 is too small"),
        (lambda: zm.ZetaMixup(n_mix=9).weights(4), "n_mix=9 samples cannot be chosen from"),
        (lambda: zm.ZetaMixup().weights(0), "batch_size=0 is too small"),
        (lambda: zm.Mixup(0.0), "alpha=0.0 must be a positive number"),
        (lambda: zm.Mixup(math.inf), "alpha=inf must be a positive number"),
        (lambda: zm.Mixup(num_classes=0), "num_classes=0 is too small"),
        (lambda: zm.Mixup()(X, Y), "integer labels need num_classes"),
        (lambda: zm.Mixup(num_classes=2)(X, Y), "classes 0 to 2 but num_classes=2 allows"),
        (lambda: zm.Mixup(num_classes=3)(X, Y - 1), "holds classes -1 to 1"),
        (lambda: zm.Mixup(num_classes=3)(X, Y[:3]), r"y has shape \(3,\) for 4 samples"),
        (lambda: zm.Mixup(num_classes=3)(X.long(), Y), "x has dtype torch.int64"),
        (lambda: zm.Mixup(num_classes=3)(X, Y[:, None]), "hard labels have shape"),
        (lambda: zm.mix(torch.eye(3), X), "do not fit x of shape"),
        (lambda: zm.mix(torch.eye(4), X.long()), "mixing needs floats"),
        (lambda: zm.mix(torch.eye(4), X + 0j), r"convert it with torch.view_as_real\(x\)"),
        (lambda: zm.mix(torch.eye(4), X.to_sparse()), r"x is a sparse .* with x.to_dense\(\)"),
        (lambda: zm.Mixup(num_classes=3)(X.to_sparse(), Y), r"convert it with x.to_dense\(\)"),
        (lambda: zm.Mixup()(X, torch.eye(4).to_sparse()), r"convert it with y.to_dense\(\)"),
        (lambda: zm.Mixup(num_classes=3)(X, Y.tolist()), r"y is a list .* torch.as_tensor\(y\)"),
        (lambda: zm.gamma_min(1), "n_mix=1 is too small"),
        (lambda: zm.gamma_from_lambda(1.0), "lam=1.0 must lie strictly between"),
        (lambda: zm.gamma_from_lambda("x"), "lam='x' must lie strictly between"),
        (lambda: zm.gamma_from_lambda("0.5"), "lam='0.5' must lie strictly between"),
        (lambda: zm.gamma_from_lambda(np.array([0.5j])), r"lam=array\(.*\) must lie strictly"),
        (lambda: zm.gamma_from_lambda(np.ma.array([0.5], mask=True)), "lam is masked: leave out"),
        (
            lambda: mixers_from_specs(["zeta", "mixpu"]),
            "unknown mixer 'mixpu': did you mean 'mixup'",
        ),
        (lambda: mixers_from_specs(["zeta", "zeta"]), "mixer 'zeta' is given twice"),
    ],
)
def test_bad_input(act, message):
    with pytest.raises(InputError, match=message):
        act()


# --- large batches ----------------------------------------------------------------------------


def test_large_batches_come_in_any_dtype():
    """float64 rounded once, whatever the sizes from which on rows are shuffled."""
    for b in (127, 128, 600):
        exact = zm.ZetaMixup(1.5).weights(b, generator=seeded(2), dtype=torch.float64)
        for dtype in (torch.float16, torch.bfloat16, torch.float32):
            weights = zm.ZetaMixup(1.5).weights(b, generator=seeded(2), dtype=dtype)
            assert weights.dtype == dtype
            torch.testing.assert_close(weights.double(), exact.to(dtype).double(), rtol=0, atol=0)


@pytest.mark.parametrize("b", [20, 200])
def test_who_writes_to_weights_changes_no_others(b):
    zm.ZetaMixup(3.5).weights(b, dtype=torch.float64).zero_()
    found = zm.ZetaMixup(3.5).weights(b, dtype=torch.float64)[0].sort(descending=True).values
    expected = torch.tensor(oracles.p_series(3.5, b), dtype=torch.float64)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("n_mix", [None, 5])
def test_large_batches_are_shuffled_row_by_row(anchored, n_mix):
    mixer = zm.ZetaMixup(1.0, n_mix=n_mix, anchored=anchored)
    weights = mixer.weights(1024, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    series = oracles.p_series(1.0, n_mix or 1024)
    expected = torch.zeros(1024, dtype=torch.float64)
    expected[: len(series)] = torch.tensor(series, dtype=torch.float64)
    ordered = weights.sort(dim=1, descending=True).values
    torch.testing.assert_close(ordered, expected.expand(1024, -1), rtol=1e-12, atol=0)
    leads = weights.argmax(dim=1)
    if anchored:
        assert torch.equal(leads, torch.arange(1024))
    else:
        # Independent rows: about 1/e of the samples lead none.
        assert 330 < 1024 - len(leads.unique()) < 425
    again = mixer.weights(1024, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(weights, again)
    other = mixer.weights(1024, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert not torch.equal(weights, other)


def test_shuffles_do_not_depend_on_threads(one_thread):
    series, seeds = torch.arange(9.0).double(), torch.arange(1000) - 500
    expected = shuffled_rows(series, seeds, anchored=False)
    torch.set_num_threads(2)
    assert torch.equal(shuffled_rows(series, seeds, anchored=False), expected)


@pytest.mark.parametrize("anchored", [False, True])
def test_every_permutation_is_as_likely(anchored):
    """All 24 (anchored: 6) orders of four places, by a chi-squared test at one in a million."""
    series = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    seeds = torch.empty(24_000, dtype=torch.int64)
    seeds.random_(generator=torch.Generator().manual_seed(0))
    found = [shuffled_rows(series, part, anchored=anchored) for part in seeds.view(-1, 4)]
    rows = torch.cat(found).long().tolist()
    if anchored:
        # The diagonal leads; the others, in their order, are what is shuffled.
        assert all(row[i % 4] == 1 for i, row in enumerate(rows))
        rows = [[v for v in row if v != 1] for row in rows]
    counts = Counter(map(tuple, rows))
    assert len(counts) == (6 if anchored else 24)
    assert chisquare(list(counts.values())).pvalue > 1e-6
