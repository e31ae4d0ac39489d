"""The rule that turns measured effects into verdicts, and the table they are written as.

An effect is a number a seed, measured so that the sentence asks for it to lie above (or below) a
bound that was fixed before the measurement. A sentence is tested in cases: a data set, a
neighbourhood size, a measure; where it speaks of γ, at several γ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy.stats import bootstrap

CONFIDENCE = 0.95
N_RESAMPLES = 9999

RULE = (
    "At one γ a case supports its sentence if the whole 95% bootstrap interval of the mean effect "
    "over seeds (percentile, 9,999 resamples) lies on the sentence's side of the bound. A "
    'sentence about all γ "holds" in a case if every γ of its grid supports it, "holds from γ = g" '
    'if every γ >= g does and some below does not, and otherwise "does not hold". A sentence '
    'that says "may" or "some" holds in a case if any γ of its grid supports it. Without γ there '
    'is one effect a case: "holds" or "does not hold". A γ is a close call, and other seeds may '
    "decide it otherwise, where the deciding end of the interval is nearer to the bound than half "
    "the interval's width."
)


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper and what is asked of the effect."""

    key: str
    place: str
    sentence: str
    effect: str
    side: Literal["above", "below"] = "above"
    bound: float = 0.0
    quantifier: Literal["all", "some"] = "all"


@dataclass
class Case:
    """Measured effects of one claim, one row a γ (or one row alone), one column a seed."""

    claim: str
    name: str
    variant: str
    gammas: list[float | None]
    effects: np.ndarray[Any, Any]
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    verdict: str = ""
    close: list[float | None] = field(default_factory=list)


def judge(claim: Claim, case: Case) -> None:
    """Fill in the intervals and the verdict of a case."""
    case.effects = np.atleast_2d(np.asarray(case.effects, dtype=float))
    interval = bootstrap(
        (case.effects,),
        np.mean,
        axis=1,
        confidence_level=CONFIDENCE,
        n_resamples=N_RESAMPLES,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(0),
    ).confidence_interval
    case.low = np.atleast_1d(interval.low).tolist()
    case.high = np.atleast_1d(interval.high).tolist()
    case.verdict = verdict(claim, case)
    case.close = [
        gamma
        for gamma, low, high in zip(case.gammas, case.low, case.high, strict=True)
        if abs((low if claim.side == "above" else high) - claim.bound) < (high - low) / 2
    ]


def verdict(claim: Claim, case: Case) -> str:
    """Apply RULE to the intervals."""
    ends = case.low if claim.side == "above" else case.high
    supports = [end > claim.bound if claim.side == "above" else end < claim.bound for end in ends]
    if all(supports):
        return "holds"
    if claim.quantifier == "some" and any(supports):
        named = [g for g, ok in zip(case.gammas, supports, strict=True) if ok and g is not None]
        return "holds for γ = " + ", ".join(f"{g:.4g}" for g in named)
    if claim.quantifier == "all" and supports[-1] and case.gammas[-1] is not None:
        first = len(supports) - supports[::-1].index(False)
        return f"holds from γ = {case.gammas[first]:.4g}"
    return "does not hold"


def overall(cases: list[Case]) -> str:
    """Sum up the cases of one claim and variant: in how many it holds, and from which γ."""
    counts: dict[str, int] = {}
    first: list[str] = []
    for case in cases:
        kind, _, gamma = case.verdict.partition(" γ = ")
        # A sentence with "may" asks for one γ: which one stands with the case.
        kind = "holds" if kind == "holds for" else kind
        counts[kind] = counts.get(kind, 0) + 1
        if kind == "holds from":
            first.append(gamma)
    if len(counts) == 1 and not first:
        return next(iter(counts))
    ends = sorted(set(first), key=float)
    at = f" γ = {ends[0]}{f' to {ends[-1]}' if len(ends) > 1 else ''}" if ends else ""
    parts = [
        f"{kind}{at if kind == 'holds from' else ''} in {counts[kind]}"
        for kind in ("holds", "holds from", "does not hold")
        if kind in counts
    ]
    return f"{', '.join(parts)} of {len(cases)}" if len(cases) > 1 else cases[0].verdict


def to_json(claims: list[Claim], cases: list[Case]) -> list[dict[str, Any]]:
    """Return claims with their cases; the verdicts follow from the effects in there."""
    return [
        {
            "claim": claim.key,
            "place": claim.place,
            "sentence": claim.sentence,
            "effect": claim.effect,
            "side": claim.side,
            "bound": claim.bound,
            "quantifier": claim.quantifier,
            "cases": [
                {
                    "case": case.name,
                    "variant": case.variant,
                    "gammas": case.gammas,
                    "effects": [[float(f"{v:.5g}") for v in row] for row in case.effects],
                    "mean": [float(f"{v:.6g}") for v in case.effects.mean(axis=1)],
                    "low": [float(f"{v:.6g}") for v in case.low],
                    "high": [float(f"{v:.6g}") for v in case.high],
                    "verdict": case.verdict,
                    "close": case.close,
                }
                for case in cases
                if case.claim == claim.key
            ],
        }
        for claim in claims
    ]


def summarise(claims: list[Claim], cases: list[Case]) -> str:
    """Return the short table: a row a sentence, the verdict for both forms of ζ-mixup."""
    lines = ["| | The paper says | Eq. 6 | Anchored |", "| --- | --- | --- | --- |"]
    for claim in claims:
        mine = [case for case in cases if case.claim == claim.key]
        by_variant = {v: [c for c in mine if c.variant == v] for v in ("Eq. 6", "anchored", "")}
        cells = [overall(by_variant[v] or by_variant[""]) for v in ("Eq. 6", "anchored")]
        if not by_variant["Eq. 6"]:
            cells[1] = "the same"
        lines.append(
            f"| {claim.key} | {claim.sentence} ({claim.place}) | {cells[0]} | {cells[1]} |"
        )
    return "\n".join(lines) + "\n"


def to_markdown(claims: list[Claim], cases: list[Case]) -> str:
    """Return one table a sentence: every case with its effects, intervals and verdict."""
    parts = []
    for claim in claims:
        bound = f"{claim.side} {claim.bound:g}"
        about = "" if claim.quantifier == "all" else " at some γ"
        lines = [
            f"### {claim.key}. {claim.sentence}",
            "",
            f"{claim.place}. Effect: {claim.effect}. Asked for: {bound}{about}.",
            "",
            "| case | ζ-mixup | mean effect [95% interval] | verdict | close call |",
            "| --- | --- | --- | --- | --- |",
        ]
        for case in cases:
            if case.claim == claim.key:
                close = ", ".join("yes" if g is None else f"γ {g:.4g}" for g in case.close)
                cells = (case.name, case.variant or "-", measured(case), case.verdict, close)
                lines.append("| " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def measured(case: Case) -> str:
    """Lay out the effects of a case, at each γ where there are several."""
    means = case.effects.mean(axis=1)
    texts = []
    for gamma, mean, low, high in zip(case.gammas, means, case.low, case.high, strict=True):
        at = "" if gamma is None else f"γ {gamma:.4g}: "
        texts.append(f"{at}{mean:.3g} [{low:.3g}, {high:.3g}]")
    return "<br>".join(texts)
