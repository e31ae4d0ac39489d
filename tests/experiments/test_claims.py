from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import claims
import verdicts
from verdicts import Case, Claim

ROOT = Path(__file__).parents[2]


def judged(effects, *, gammas=None, seeds=8, **kwargs):
    """Judge effects with a small scatter around given means."""
    rows = np.atleast_1d(effects)[:, None] + np.linspace(-0.1, 0.1, seeds)
    case = Case("X", "a case", "Eq. 6", gammas or [None] * len(rows), rows)
    verdicts.judge(Claim("X", "Fig. 0", "A sentence", "an effect", **kwargs), case)
    return case


@pytest.mark.parametrize(
    ("effects", "gammas", "kwargs", "expected"),
    [
        (1.0, None, {}, "holds"),
        (0.0, None, {}, "does not hold"),
        (-1.0, None, {}, "does not hold"),
        (-1.0, None, {"side": "below"}, "holds"),
        (0.3, None, {"side": "below", "bound": 0.5}, "holds"),
        (0.5, None, {"side": "below", "bound": 0.5}, "does not hold"),
        ([1.0, 1, 1], [2.0, 4, 6], {}, "holds"),
        ([0.0, 1, 1], [2.0, 4, 6], {}, "holds from γ = 4"),
        ([1.0, 0, 1], [2.0, 4, 6], {}, "holds up to γ = 2 and from γ = 6"),
        ([1.0, 1, 0], [2.0, 4, 6], {}, "holds up to γ = 4"),
        # Richer labels, L4.
        (
            [0.93, 0.43, 0.22, -0.3, -0.5, -0.6],
            [1.73, 2.4, 2.8, 4, 6, 15],
            {},
            "holds up to γ = 2.8",
        ),
        ([-1.0, 0, 0], [2.0, 4, 6], {}, "does not hold"),
        ([0.0, 1, 0], [2.0, 4, 6], {}, "holds at γ = 4"),
        ([0.0, 1, 1, 0, 1], [2.0, 4, 6, 8, 9], {}, "holds from γ = 4 to 6 and from γ = 9"),
        ([-1.0, -1, 1], [2.0, 4, 6], {"side": "below"}, "holds up to γ = 4"),
        ([1.0, 0, 0], [2.0, 4, 6], {"quantifier": "some"}, "holds for γ = 2"),
        ([1.0, 0, 1], [2.0, 4, 6], {"quantifier": "some"}, "holds for γ = 2, 6"),
        ([0.0, 0, 0], [2.0, 4, 6], {"quantifier": "some"}, "does not hold"),
    ],
)
def test_the_rule(effects, gammas, kwargs, expected):
    assert judged(effects, gammas=gammas, **kwargs).verdict == expected


def test_close_calls():
    case = judged([0.05, 0.5, -0.4], gammas=[2.0, 4.0, 6.0])
    assert case.close == [2.0]
    assert judged(0.46, side="below", bound=0.5).close == [None]


@pytest.mark.parametrize(
    ("draw", "mean", "share"),
    [
        (lambda rng, shape: rng.normal(3, 2, shape), 3, 0.95),
        (lambda rng, shape: rng.exponential(1, shape), 1, 0.948),
        (lambda rng, shape: -rng.exponential(1, shape), -1, 0.948),
        (lambda rng, shape: rng.lognormal(0, 1, shape), np.exp(0.5), 0.925),
    ],
)
def test_intervals_hold_the_mean(draw, mean, share, rng):
    """The share of samples whose interval holds the mean is that which the rule states."""
    low, high = verdicts.intervals(draw(rng, (20_000, claims.N_SEEDS)))
    # Three standard errors of a share of 20,000.
    assert np.mean((low <= mean) & (mean <= high)) == pytest.approx(share, abs=0.0055)
    assert f"{share:.1%}" in verdicts.RULE


def test_intervals_of_symmetric_samples_are_students(rng):
    half = rng.normal(size=(5, 20))
    samples = 7 + np.concatenate([half, -half], axis=1)
    low, high = verdicts.intervals(samples)
    expected = stats.t.interval(0.95, 39, samples.mean(axis=1), stats.sem(samples, axis=1))
    np.testing.assert_allclose([low, high], expected, rtol=1e-6)
    # Of skewed ones they are continuous where the transformation sets in.
    skewed = samples + 1e-4 * samples**2
    np.testing.assert_allclose(verdicts.intervals(skewed)[0], low, atol=0.02)


def test_the_ends_solve_halls_polynomial(rng):
    """t + g t²/3 + g² t³/27 + g/6 is the quantile, with g the skewness over the root of n."""
    samples = rng.lognormal(0, 1, (9, 40))
    g = stats.skew(samples, axis=1) / np.sqrt(40)
    ends = np.array(verdicts.intervals(samples))
    t = (samples.mean(axis=1) - ends) / stats.sem(samples, axis=1)
    quantile = stats.t.ppf(0.975, 39)
    found = t + g * t**2 / 3 + g**2 * t**3 / 27 + g / 6
    np.testing.assert_allclose(found, np.outer([quantile, -quantile], np.ones(9)), rtol=1e-9)


def test_equal_effects_have_no_interval():
    same = judged(3.0)
    same.effects[:] = 3.0
    verdicts.judge(Claim("X", "", "", ""), same)
    assert (same.low, same.high, same.verdict) == ([3.0], [3.0], "holds")


def test_cases_are_summed_up():
    def cases(*names):
        made = [judged(1.0) for _ in names]
        for case, name in zip(made, names, strict=True):
            case.verdict = name
        return made

    four, six = "holds from γ = 4", "holds from γ = 6"
    assert verdicts.overall(cases("holds", "holds")) == "holds"
    assert verdicts.overall(cases("does not hold")) == "does not hold"
    assert verdicts.overall(cases(four)) == four
    assert verdicts.overall(cases(six, four)) == "holds from γ = 4 to 6 in 2 of 2"
    assert verdicts.overall(cases("does not hold", four, "holds", "holds")) == (
        "holds in 2, holds from γ = 4 in 1, does not hold in 1 of 4"
    )
    assert verdicts.overall(cases("holds for γ = 6", "does not hold")) == (
        "holds in 1, does not hold in 1 of 2"
    )
    assert verdicts.overall(cases("holds up to γ = 2.8")) == "holds up to γ = 2.8"
    assert verdicts.overall(cases("holds up to γ = 15", "holds up to γ = 2.8")) == (
        "holds up to γ = 2.8 to 15 in 2 of 2"
    )
    both, middle = "holds up to γ = 2 and from γ = 6", "holds from γ = 4 to 6"
    assert verdicts.overall(cases(both)) == both
    assert verdicts.overall(cases("does not hold", both, "holds", middle, four)) == (
        "holds in 1, holds from γ = 4 in 1, holds at some γ in 2, does not hold in 1 of 5"
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Run the whole experiment on little data."""
    folder = tmp_path_factory.mktemp("claims")
    generate = {name: claims.PLANE[name] for name in claims.PLANE}
    load, helix = claims.zm.load_dataset, claims.zm.make_helix
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims, "N_SEEDS", 3)
        patch.setattr(claims, "GAMMAS", (claims.GAMMAS[0], 2.8, 15.0))
        patch.setattr(claims, "LARGE_GAMMAS", (15.0,))
        patch.setattr(claims, "THEOREM_T", (2, 8))
        patch.setattr(claims, "PLANE", {
            name: lambda make=make, **kw: make(96, **kw) for name, make in generate.items()
        })  # fmt: skip
        patch.setattr(claims.zm, "make_helix", lambda **kw: helix(400, **kw))
        patch.setattr(claims.zm, "load_dataset", lambda name, **kw: load(name, n_samples=200, **kw))
        claims.main(first_seed=7, out=folder)
    return folder


def test_every_claim_is_measured(written):
    content = json.loads((written / "CLAIMS.json").read_text())
    assert [c["claim"] for c in content["claims"]] == [c.key for c in claims.CLAIMS]
    assert content["seeds"] == [7, 8, 9]
    assert content["command"] == "python experiments/claims.py --first-seed 7"
    for claim in content["claims"]:
        variants = {case["variant"] for case in claim["cases"]}
        assert variants in ({""}, {"Eq. 6", "anchored"})
        named = {case["case"] for case in claim["cases"] if case["case"].startswith("digits, k")}
        assert named <= {"digits, k = 8, saturated", "digits, k = 128"}
        for case in claim["cases"]:
            assert np.shape(case["effects"]) == (len(case["gammas"]), 3)


def recomputed(claim, case):
    about = {k: claim[k] for k in ("place", "sentence", "effect", "side", "bound", "quantifier")}
    again = Case(claim["claim"], case["case"], case["variant"], case["gammas"], case["effects"])
    verdicts.judge(Claim(claim["claim"], **about), again)
    return again


@pytest.mark.parametrize("committed", [False, True])
def test_the_verdicts_follow_from_the_json(written, committed):
    folder = ROOT / "figures" if committed else written
    content = json.loads((folder / "CLAIMS.json").read_text())
    text = (folder / "CLAIMS.md").read_text()
    assert content["rule"] in text
    cases = []
    for claim in content["claims"]:
        for case in claim["cases"]:
            again = recomputed(claim, case)
            assert again.verdict == case["verdict"]
            # The effects there are rounded; of three seeds a cube root may magnify that.
            low, high = np.array(case["low"]), np.array(case["high"])
            allowed = 0.02 * (high - low) + 1e-4 * np.abs(low) + 1e-12
            assert (np.abs(again.low - low) <= allowed).all()
            cases.append(again)
    assert verdicts.summarise(claims.CLAIMS, cases) in text


def test_the_readme_shows_the_summary():
    text = (ROOT / "figures" / "CLAIMS.md").read_text()
    start = text.index("| | The paper says")
    summary = text[start : text.index("\n\n", start)]
    assert summary in (ROOT / "README.md").read_text()


def test_the_theorems_margins():
    """The expected value is the closed form 2 / ζ_T(γ) - 1."""
    (case, *_) = claims.theorems([0])
    ranks = np.arange(1, claims.THEOREM_T[0] + 1)
    for gamma, effect in zip(case.gammas, case.effects[:, 0], strict=True):
        assert effect == pytest.approx(2 / (ranks**-gamma).sum() - 1, abs=1e-12)


def test_cells_of_the_helix():
    assert claims.filled_cells(np.array([[50.0, 1, 1]])) == pytest.approx(1 / 300)
    assert claims.filled_cells(np.array([[99.0, 1, 1]])) == 0
    rng = np.random.default_rng(0)
    angle, radius = rng.uniform(-np.pi, np.pi, 20_000), 90 * np.sqrt(rng.uniform(size=20_000))
    inside = [radius * np.cos(angle), radius * np.sin(angle), rng.uniform(0, 10 * np.pi, 20_000)]
    assert claims.filled_cells(np.column_stack(inside)) == 1


def test_eccentricity():
    circle = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    hoods = [[0, 1, 2, 3]]
    assert claims.eccentricity(circle, hoods) == pytest.approx(0, abs=1e-7)
    assert claims.eccentricity(circle * [5, 3], hoods) == pytest.approx(0.8)
