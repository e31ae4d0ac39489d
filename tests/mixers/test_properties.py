"""Mixers of every strength on batches of every shape, and what they are drawn from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import zmanifold as zm
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles
from pointsets import SEEDS

FLOATS = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float32: 2.0**-24,
          torch.float64: 2.0**-53}  # fmt: skip
GAMMAS = st.sampled_from([0.0, 1.0, 2.8, 60.0]) | st.floats(0, 60)
# Beyond the range that anyone uses, too: every weight but the first underflows.
ANY_GAMMA = GAMMAS | st.floats(0, allow_infinity=False)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def off_by(n_mix, dtype):
    """How far a row's sum, taken exactly, may be from 1.

    In float64 the sum of T terms is off by T - 1 roundings at most, and each quotient by one
    more. Another type then rounds each weight by its unit, or by half of its least number.
    """
    own = 0.0 if dtype == torch.float64 else FLOATS[dtype] + n_mix * torch.finfo(dtype).tiny
    return (n_mix + 1) * 2.0**-53 + own


def check_stochastic(weights, n_mix, dtype):
    assert weights.dtype == dtype
    assert (weights >= 0).all()
    for row in weights.double().tolist():
        assert abs(math.fsum(row) - 1) <= off_by(n_mix, dtype)


@st.composite
def zetas(draw, gammas, batch, **kwargs):
    """Draw a batch size and a mixer for it."""
    n = draw(batch)
    n_mix = draw(st.none() | st.integers(2, n))
    mixer = zm.ZetaMixup(draw(gammas), n_mix=n_mix, anchored=draw(st.booleans()), **kwargs)
    return n, mixer


def check_zeta(mixer, n, weights):
    n_mix = mixer.n_mix or n
    assert weights.shape == (n, n)
    check_stochastic(weights, n_mix, weights.dtype)
    # The exponent's rounding, gamma ln(i), is what a power is off by, relatively.
    expected = np.zeros(n)
    expected[:n_mix] = oracles.p_series(mixer.gamma, n_mix)
    rows = np.sort(weights.double().numpy(), axis=1)[:, ::-1]
    unit = FLOATS[weights.dtype]
    off = 1.01 * unit + (4 * min(mixer.gamma, 1e3) * math.log(n) + n) * 2.0**-53
    least = torch.finfo(weights.dtype).tiny
    np.testing.assert_allclose(rows, np.tile(expected, (n, 1)), rtol=off, atol=least)
    if mixer.anchored:
        assert torch.equal(weights.diagonal(), weights.amax(dim=1))


@given(zetas(ANY_GAMMA, st.integers(2, 70)), SEEDS, st.sampled_from(list(FLOATS)))
def test_every_row_is_a_permuted_p_series(drawn, seed, dtype):
    n, mixer = drawn
    weights = mixer.weights(n, generator=seeded(seed), dtype=dtype)
    check_zeta(mixer, n, weights)
    assert torch.equal(weights, mixer.weights(n, generator=seeded(seed), dtype=dtype))


@settings(max_examples=6)
@given(zetas(GAMMAS, st.sampled_from([1000, 1023, 1024, 1025, 2000, 4096])), SEEDS)
def test_large_batches_too(drawn, seed):
    n, mixer = drawn
    weights = mixer.weights(n, generator=seeded(seed), dtype=torch.float64)
    rows = weights.sort(dim=1, descending=True).values
    # All rows hold the same numbers: one stands for all.
    assert torch.equal(rows, rows[:1].expand_as(rows))
    n_mix = mixer.n_mix or n
    check_stochastic(rows[:1], n_mix, torch.float64)
    expected = torch.tensor(oracles.p_series(mixer.gamma, n_mix), dtype=torch.float64)
    torch.testing.assert_close(rows[0, :n_mix], expected, rtol=1e-12, atol=0)
    assert not rows[0, n_mix:].any()
    if mixer.anchored:
        assert torch.equal(weights.diagonal(), rows[:, 0])


@given(st.integers(1, 60), st.floats(1e-3, 1e3), st.booleans(), SEEDS,
       st.sampled_from(list(FLOATS)))  # fmt: skip
def test_mixup_pairs_samples(n, alpha, per_sample, seed, dtype):
    mixer = zm.Mixup(alpha, per_sample=per_sample)
    weights = mixer.weights(n, generator=seeded(seed), dtype=dtype)
    assert weights.shape == (n, n)
    check_stochastic(weights, 2, dtype)
    assert ((weights > 0).sum(dim=1) <= 2).all()
    off = weights - torch.diag(weights.diagonal())
    # Nobody is the partner of two.
    assert ((off > 0).sum(dim=0) <= 1).all()
    if not per_sample:
        check_stochastic(weights.T, 2, dtype)
    assert torch.equal(weights, mixer.weights(n, generator=seeded(seed), dtype=dtype))


@st.composite
def batches(draw):
    """Draw samples of any shape, type and layout with labels of any kind."""
    n = draw(st.integers(2, 12))
    shape = draw(st.sampled_from([(), (1,), (7,), (0,), (2, 3), (3, 4, 5)]))
    dtype = draw(st.sampled_from(list(FLOATS)))
    generator = seeded(draw(SEEDS))
    x = torch.randn((n, *shape), generator=generator, dtype=torch.float64).to(dtype)
    x = draw(st.sampled_from([
        lambda x: x, lambda x: x.flip(0), lambda x: x.repeat_interleave(2, dim=0)[::2],
        lambda x: x.mT.contiguous().mT if x.ndim > 1 else x, lambda x: x[:1].expand(x.shape),
    ]))(x)  # fmt: skip
    n_classes = draw(st.integers(1, 5))
    y = torch.randint(n_classes, (n,), generator=generator)
    kind = draw(st.sampled_from([torch.int64, torch.uint8, torch.int16, torch.uint16, *FLOATS]))
    if kind not in FLOATS:
        return x, y.to(kind), torch.nn.functional.one_hot(y, n_classes).double()
    soft = torch.rand((n, n_classes), generator=generator, dtype=torch.float64).softmax(dim=1)
    return x, soft.to(kind), soft.to(kind).double()


MAKE = (
    lambda k: zm.Mixup(num_classes=k),
    lambda k: zm.Mixup(0.3, per_sample=True, num_classes=k),
    lambda k: zm.ZetaMixup(2.4, num_classes=k),
    lambda k: zm.ZetaMixup(0.0, num_classes=k),
    lambda k: zm.ZetaMixup(60.0, n_mix=2, num_classes=k),
    lambda k: zm.ZetaMixup((0.5, 9.0), anchored=True, num_classes=k),
)


@given(batches(), st.sampled_from(MAKE), SEEDS)
def test_samples_and_labels_are_mixed_with_the_same_weights(batch, make, seed):
    x, y, soft = batch
    before = x.clone(), y.clone()
    mixer = make(soft.shape[1])
    mixed, mixed_soft = mixer(x, y, generator=seeded(seed))
    assert (mixed.shape, mixed.dtype) == (x.shape, x.dtype)
    at_least_float32 = torch.promote_types(x.dtype, torch.float32)
    label_dtype = y.dtype if y.is_floating_point() else at_least_float32
    assert (mixed_soft.shape, mixed_soft.dtype) == (soft.shape, label_dtype)
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])
    weights = mixer.weights(len(x), generator=seeded(seed), dtype=torch.float64).numpy()
    for found, source in ((mixed, x), (mixed_soft, soft)):
        values = source.double().numpy()
        # Weights are rounded for the samples, to float32 where those are narrower, and then to
        # the type of what is mixed; sums are kept in float32 or wider and rounded once more.
        unit, drawn = FLOATS[found.dtype], FLOATS[at_least_float32]
        reach = oracles.mixed(weights, np.abs(values))
        off = (2.1 * unit + 1.1 * drawn + (len(x) + 2) * min(unit, 2.0**-24)) * reach
        off += len(x) * torch.finfo(found.dtype).tiny
        assert (np.abs(found.double().numpy() - oracles.mixed(weights, values)) <= off).all()
    assert (mixed_soft >= 0).all()


@given(SEEDS, st.integers(1, 9), st.integers(1, 9),
       st.sampled_from([(), (3,), (2, 0), (2, 3, 4)]))  # fmt: skip
def test_mix_is_a_sum(seed, m, b, shape):
    rng = np.random.default_rng(seed)
    weights, x = rng.normal(size=(m, b)), rng.normal(size=(b, *shape))
    before = x.copy()
    mixed = zm.mix(torch.from_numpy(weights), torch.from_numpy(x))
    assert mixed.shape == (m, *shape)
    reach = oracles.mixed(np.abs(weights), np.abs(x))
    assert (np.abs(mixed.numpy() - oracles.mixed(weights, x)) <= 2 * b * 2.0**-53 * reach).all()
    np.testing.assert_array_equal(x, before)


def test_of_nothing_comes_nothing():
    assert zm.mix(torch.zeros(2, 0), torch.zeros(0, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]


@given(st.integers(2, 5000), st.floats(1e-6, 1))
def test_gamma_min_is_where_one_weight_outweighs_all_others(n_mix, step):
    gamma = zm.gamma_min(n_mix)
    assert zm.gamma_min(max(2, n_mix - 1)) <= gamma < zm.gamma_min()
    others = math.fsum(i**-gamma for i in range(2, n_mix + 1))
    # The root is found to 1e-15 and 4 roundings; the sum falls by ln(i) of each term with gamma.
    slope = math.fsum(math.log(i) * i**-gamma for i in range(2, n_mix + 1))
    assert abs(others - 1) <= slope * 4e-15 + n_mix * 2.0**-53
    series = oracles.p_series(gamma + step, n_mix)
    assert series[0] > math.fsum(series[1:])
    if gamma > step:
        series = oracles.p_series(gamma - step, n_mix)
        assert series[0] < math.fsum(series[1:])


LAMBDAS = st.floats(0, 1, exclude_min=True, exclude_max=True)


@given(st.lists(LAMBDAS, min_size=1, max_size=9))
def test_gamma_from_lambda_and_back(lams):
    lams = sorted(lams)
    gammas = zm.gamma_from_lambda(np.array(lams))
    assert gammas.shape == (len(lams),)
    assert (np.diff(gammas) >= 0).all()
    for lam, gamma in zip(lams, gammas.tolist(), strict=True):
        assert isinstance(zm.gamma_from_lambda(lam), float)
        assert zm.gamma_from_lambda(lam) == gamma
        # 2**-gamma is off, relatively, by the rounding of gamma times ln 2 and of the quotient.
        off = (abs(gamma) + 4) * 2.0**-52
        other = 2.0**-gamma if gamma > -1000 else math.inf
        assert lam == pytest.approx(1 / (1 + other), rel=off, abs=1e-300)
        if lam >= 0.5:
            weights = zm.ZetaMixup(gamma, n_mix=2).weights(2, dtype=torch.float64)
            assert float(weights.max()) == pytest.approx(lam, rel=4 * off)
