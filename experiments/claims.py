"""The sentences of the ζ-mixup paper about synthetic data and Figures 2, 6 and 7, one by one.

Claim:    each row of figures/CLAIMS.md is a sentence of the paper with what we measure of it.
Command:  make claims, or: python experiments/claims.py
Writes:   figures/CLAIMS.md and .json (effects by seed, intervals, verdicts and their rule)
Runtime:  see "seconds" in figures/CLAIMS.json, with the device and the versions

The verdicts are computed by the rule in verdicts.py from effects whose bounds stand below, in
CLAIMS. "Eq. 6" is the paper's text, "anchored" the authors' released code.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import typer
import zmanifold as zm
from zmanifold._base.files import write_atomically, write_json
from zmanifold._base.provenance import environment
from zmanifold.datasets.manifolds import distance_to_helix
from zmanifold.mixers import mixers_from_specs

from verdicts import RULE, Case, Claim, judge, summarise, to_json, to_markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

N_SEEDS = 40
BATCH_SIZE = 32
GAMMAS = (zm.gamma_min(), 2.4, 2.8, 4.0, 6.0, 15.0)
LARGE_GAMMAS = (6.0, 15.0)
HELIX_GAMMAS = (2.0, 4.0, 6.0)
VARIANTS = {"Eq. 6": False, "anchored": True}
PLANE = {"crescents": zm.make_crescents, "spirals": zm.make_spirals}
SWEPT = ("helix-r3", "helix-r12", "paraboloid-r12", "digits")
SWEEP_NEIGHBORS = (8, 128)
VICINITY_NEIGHBORS = (8, 16)
THEOREM_T = (2, 32, 128, 1024)
# A fresh sample of the same distribution must not share a seed with the original one.
FRESH = 10_000
FOLDER = Path(__file__).parent.parent / "figures"

# Less than a hundredth (of the samples, or of a dimension) is not counted as a difference.
RESOLUTION = 0.01

CLAIMS = [
    Claim(
        "T1", "Theorem 1",
        "For γ >= γ_min = 1.72865, the weight assigned to one sample dominates all other weights",
        "largest weight less the sum of the others, the least over all rows of a batch of T",
    ),
    Claim(
        "T2", "Theorem 2",
        "For T = 2 and γ = log2(λ / (1 - λ)), ζ-mixup simplifies to mixup",
        "largest difference between ζ-mixup's weights and {λ, 1 - λ}, 1,000 λ from U(½, 1) a "
        "seed (a λ < ½ is the same pair, exchanged)",
        side="below", bound=1e-12,
    ),
    Claim(
        "R1", "Realism, Fig. 2a",
        "mixup ... synthesizes samples off the data manifold, also known as manifold intrusion",
        "mean distance to the nearest original, mixup's samples less fresh ones of the same "
        "distribution",
    ),
    Claim(
        "R2", "Realism, Fig. 2a",
        "This also results in the generated samples being wrongly labeled ... \"label error\"",
        "label error, mixup's samples less fresh ones", bound=RESOLUTION,
    ),
    Claim(
        "R3", "Realism, Fig. 2a",
        "ζ-mixup preserves the class decision boundaries irrespective of the hyperparameter γ",
        "label error, ζ-mixup's samples less fresh ones, γ >= γ_min",
        side="below", bound=RESOLUTION,
    ),
    Claim(
        "R4", "Realism, Fig. 2a",
        "[ζ-mixup] generat[es] correctly labeled synthetic samples [where mixup] can contain "
        "incorrect labels",
        "label error, mixup less ζ-mixup, γ >= γ_min", bound=RESOLUTION,
    ),
    Claim(
        "R5", "Realism, Fig. 2a",
        "small values of γ (greater than γ_min) lead to samples being generated further away "
        "from the original data and as γ increases, the resulting distribution approaches the "
        "original data",
        "mean distance to the nearest original at the γ of the grid before this one, less at "
        "this one",
    ),
    Claim(
        "R6", "Abstract; Realism",
        "[ζ-mixup leads] to more realistic ... outputs",
        "precision (k = 5), ζ-mixup less mixup, γ >= γ_min", bound=RESOLUTION,
    ),
    Claim(
        "R7", "Realism, Fig. 2b",
        "[mixup's points are] sampled off the data manifold, filling up the entire hollow region "
        "in between the helical distribution",
        "share of 300 cells of equal volume of the cylinder inside 90% of the radius that hold "
        "a mixup sample", bound=0.95,
    ),
    Claim(
        "R8", "Realism, Fig. 2b",
        "ζ-mixup ... generates points that are relatively much closer to the original points",
        "1 - mean distance to the helix under ζ-mixup over that under mixup; much closer: at "
        "most half as far", bound=0.5,
    ),
    Claim(
        "R9", "Realism, Fig. 2b",
        "increasing the value of γ to a large value, say γ = 6.0, leads the generated samples to "
        "lie almost perfectly on the original data manifold",
        "mean distance to the helix over its diameter", side="below", bound=0.01,
    ),
    Claim(
        "D1", "Diversity, Fig. 2c",
        "As T increases, ... the synthesized samples allow for a wider exploration of the space "
        "around the original samples",
        "mean distance to the nearest original at γ = 2, T = 32 less T = 2",
    ),
    Claim(
        "D2", "Diversity, Fig. 2c",
        "This effect is more pronounced with smaller values of γ",
        "the effect of D1 at γ = 2 less at γ = 6",
    ),
    Claim(
        "D3", "Fig. 2",
        "higher values of T allowing for more diversity in the synthesized points",
        "coverage and recall (k = 5) at γ = 2, T = 32 less T = 2; coverage falls with realism, "
        "too: a sample off the manifold covers no original", bound=RESOLUTION,
    ),
    Claim(
        "D4", "Abstract",
        "[ζ-mixup leads] to more ... diverse outputs",
        "coverage and recall (k = 5), ζ-mixup less mixup, γ >= γ_min; coverage falls with realism, "
        "too, so that ζ-mixup's lead in it is not one in diversity alone", bound=RESOLUTION,
    ),
    Claim(
        "L1", "Richness of labels",
        "mixup's outputs are only made up of inputs from at most 2 classes",
        "largest number of classes in a soft label (digits)", side="below", bound=2.5,
    ),
    Claim(
        "L2", "Richness of labels",
        "the outputs of ζ-mixup can be made up of inputs from up to min(T, K) classes",
        "largest number of classes in a soft label over min(T, K) (digits, K = 10, γ = 2.8)",
        bound=0.999,
    ),
    Claim(
        "L3", "Richness of labels",
        "the probability of one class dominates all others (see Theorem 1)",
        "largest entry of a soft label less the sum of the others, the least over all samples "
        "(digits), γ >= γ_min",
    ),
    Claim(
        "L4", "Richness of labels",
        "richer labels with information from multiple classes in 1 synthetic sample",
        "mean entropy of the soft labels in nats, ζ-mixup less mixup (digits), γ >= γ_min",
        bound=RESOLUTION,
    ),
    Claim(
        "I1", "Intrinsic dimension, Fig. 6",
        "mixup's off-manifold sampling leads to an inflated estimate of the local ID",
        "mean local ID, mixup less original", bound=RESOLUTION,
    ),
    Claim(
        "I2", "Intrinsic dimension, Fig. 6",
        "the local ID of ζ-mixup's output is lower than that of mixup",
        "mean local ID, mixup less ζ-mixup, γ >= γ_min", bound=RESOLUTION,
    ),
    Claim(
        "I3", "Intrinsic dimension, Fig. 6",
        "[it] can be controlled using γ",
        "mean local ID at γ_min less at γ = 15", bound=RESOLUTION,
    ),
    Claim(
        "I4", "Intrinsic dimension, Fig. 6",
        "for all values of γ >= γ_min, as γ increases, the local ID of ζ-mixup's output drops "
        "dramatically [real-world data]",
        "1 - mean local ID at γ = 15 over that at γ_min (digits); dramatically: by a fifth",
        bound=0.2,
    ),
    Claim(
        "I5", "Abstract; Intrinsic dimension",
        "compared to mixup, ζ-mixup better preserves the intrinsic dimensionality of the "
        "original datasets",
        "mean local ID's distance to the original's, mixup less ζ-mixup, γ >= γ_min",
        bound=RESOLUTION,
    ),
    Claim(
        "I6", "Intrinsic dimension, Fig. 6",
        "for some datasets, when employing large values of γ, the local ID of ζ-mixup outputs "
        "may be lower than the local ID of the original dataset",
        "mean local ID, original less ζ-mixup, γ = 6 and 15", bound=RESOLUTION,
        quantifier="some",
    ),
    Claim(
        "V1", "Fig. 7d, e",
        "higher values of γ lead to synthesized samples being closer to each other and the "
        "distribution ... being more compact than the original dataset",
        "1 - mean distance to the k-th nearest sample under ζ-mixup over the original's",
        bound=RESOLUTION,
    ),
    Claim(
        "V2", "Fig. 7d, e",
        "ζ-mixup's more compact distribution leads to an ellipse with higher eccentricity than "
        "the one for the original distribution",
        "mean eccentricity of the neighbourhoods' covariance ellipses, ζ-mixup less original",
        bound=RESOLUTION,
    ),
    Claim(
        "V3", "Fig. 7f",
        "with mixup, a test sample may lie in the vicinity ... of training samples from classes "
        "different from the test image's correct label, leading to an incorrect prediction",
        "share of test samples whose class has no majority among their k nearest, mixup less "
        "original", bound=RESOLUTION,
    ),
    Claim(
        "V4", "Fig. 7g",
        "This is less likely with ζ-mixup",
        "the share of V3, mixup less ζ-mixup, γ >= γ_min", bound=RESOLUTION,
    ),
]  # fmt: skip

Values = dict[tuple[Any, ...], list[float]]


def main(
    first_seed: Annotated[int, typer.Option(help="The first of the seeds.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = FOLDER,
) -> None:
    """Measure every claim and write the table."""
    clock = time.perf_counter()
    seeds = list(range(first_seed, first_seed + N_SEEDS))
    cases: list[Case] = []
    for test in (theorems, plane, helix, labels, sweeps):
        cases += test(seeds)
        typer.echo(f"{test.__name__}: {time.perf_counter() - clock:.0f} s")
    by_key = {claim.key: claim for claim in CLAIMS}
    for case in cases:
        judge(by_key[case.claim], case)
    short = summarise(CLAIMS, cases)
    seconds = round(time.perf_counter() - clock, 1)
    made_with = environment()
    out.mkdir(parents=True, exist_ok=True)
    command = "python experiments/claims.py" + (f" --first-seed {first_seed}" if first_seed else "")
    text = "\n".join(
        [
            "# The paper's sentences, measured",
            "",
            f"Made by `{command}` in {seconds:.0f} s: seeds {seeds[0]} to {seeds[-1]}, batches of "
            f"{BATCH_SIZE}, {made_with['cpus']} CPUs, {made_with['platform']}. All effects by "
            "seed, and the versions, stand in [CLAIMS.json](CLAIMS.json).",
            "",
            f"**Rule.** {RULE}",
            "",
            "## Summary",
            "",
            short,
            "## Cases",
            "",
            to_markdown(CLAIMS, cases),
        ]
    )
    write_atomically(out / "CLAIMS.md", lambda part: part.write_text(text, encoding="utf-8"))
    content = {
        "command": command,
        "seconds": seconds,
        "seeds": seeds,
        "batch_size": BATCH_SIZE,
        "rule": RULE,
        **made_with,
        "claims": to_json(CLAIMS, cases),
    }
    write_json(out / "CLAIMS.json", content)
    typer.echo(short)
    typer.echo(f"wrote {out / 'CLAIMS'}.md, .json")


def zeta(gamma: float, variant: str, n_mix: int | None = None) -> zm.ZetaMixup:
    """Make a ζ-mixup in one of its two forms."""
    return zm.ZetaMixup(gamma, anchored=VARIANTS[variant], n_mix=n_mix)


def cases_of(
    claim: str,
    name: str,
    effect: Callable[[float, str], Any],
    gammas: Iterable[float] | None = None,
) -> list[Case]:
    """Collect a claim's effects at each γ, for both forms of ζ-mixup."""
    grid = list(GAMMAS if gammas is None else gammas)
    return [
        Case(claim, name, variant, [*grid], np.array([effect(g, variant) for g in grid]))
        for variant in VARIANTS
    ]


# --- Theorems 1 and 2 -----------------------------------------------------------------------


def theorems(seeds: list[int]) -> list[Case]:
    """Check the weights that are drawn, not their formula."""
    cases = []
    for n in THEOREM_T:

        def margin(gamma: float, variant: str, n: int = n) -> list[float]:
            draws = (drawn(zeta(gamma, variant), n, seed) for seed in seeds)
            return [float((2 * w.amax(dim=1) - w.sum(dim=1)).min()) for w in draws]

        cases += cases_of("T1", f"T = {n}", margin, (1.72865, *GAMMAS[1:]))
    for variant in VARIANTS:
        worst = []
        for seed in seeds:
            lams = np.random.default_rng(seed).uniform(0.5, 1, 1000)
            pairs = np.column_stack([lams, 1 - lams])
            weights = [
                drawn(zeta(float(g), variant), 2, seed).sort(dim=1, descending=True).values[0]
                for g in zm.gamma_from_lambda(lams)
            ]
            worst.append(float(np.abs(torch.stack(weights).numpy() - pairs).max()))
        cases.append(Case("T2", "λ in (½, 1)", variant, [None], np.array([worst])))
    return cases


def drawn(mixer: zm.ZetaMixup, n: int, seed: int) -> torch.Tensor:
    """Draw the weights of a batch of n."""
    generator = torch.Generator().manual_seed(seed)
    return mixer.weights(n, generator=generator, dtype=torch.float64)


# --- Figures 2a, 2c and 7: two classes in the plane -----------------------------------------


def plane(seeds: list[int]) -> list[Case]:
    """Measure mixed sets of crescents and spirals, and what surrounds test samples in them."""
    cases: list[Case] = []
    for name in PLANE:
        found: Values = {}
        for seed in seeds:
            for key, value in measure_plane(name, seed).items():
                found.setdefault(key, []).append(value)
        arrays = {key: np.array(values) for key, values in found.items()}
        cases += plane_cases(name, arrays)
    return cases


def measure_plane(name: str, seed: int) -> dict[tuple[Any, ...], float]:
    """Measure every mixer on one draw of a data set, by (mixer, measure)."""
    X, y = PLANE[name](random_state=seed)
    test_x, test_y = PLANE[name](random_state=FRESH + seed)
    mixers: dict[Any, Any] = {"original": None, "mixup": zm.Mixup()}
    mixers |= {(g, v): zeta(g, v) for g in GAMMAS for v in VARIANTS}
    mixers |= {(g, v, t): zeta(g, v, t) for g in (2.0, 6.0) for v in VARIANTS for t in (2, 32)}
    values: dict[tuple[Any, ...], float] = {}
    for key, mixer in mixers.items():
        mixed, soft = zm.mixed_set(X, y, mixer, batch_size=BATCH_SIZE, seed=seed)
        summary = zm.mixed_set_metrics(X, y, mixed, soft).summary()
        values |= {(key, measure): value for measure, value in summary.items()}
        around = zm.vicinity(mixed, soft, test_x, test_y, n_neighbors=VICINITY_NEIGHBORS)
        for k, no_majority in zip(
            VICINITY_NEIGHBORS, 1 - around.summary()["majority"], strict=True
        ):
            values[key, "no majority", k] = float(no_majority)
        distances, indices = zm.kneighbors(mixed, max(VICINITY_NEIGHBORS))
        for k in VICINITY_NEIGHBORS:
            values[key, "reach", k] = float(distances[:, k - 1].mean())
            values[key, "eccentricity", k] = eccentricity(mixed, indices[:, :k])
    fresh = zm.mixed_set_metrics(X, y, test_x, test_y).summary()
    return values | {("fresh", measure): value for measure, value in fresh.items()}


def eccentricity(points: NDArray[Any], indices: NDArray[Any]) -> float:
    """Return the mean eccentricity √(1 - b²/a²) of the ellipses that have any extent."""
    spectra = zm.local_spectra(points, indices)
    spectra = spectra[spectra[:, 0] > 1e-20 * spectra.max()]
    return float(np.sqrt(1 - spectra[:, 1] / spectra[:, 0]).mean())


def plane_cases(name: str, found: dict[tuple[Any, ...], NDArray[Any]]) -> list[Case]:
    """Build the cases of one data set in the plane."""

    def simple(claim: str, effect: Any, case: str = name) -> Case:
        return Case(claim, case, "", [None], effect)

    distance = {key[0]: value for key, value in found.items() if key[1:] == ("distance",)}
    error = {key[0]: value for key, value in found.items() if key[1:] == ("label_error",)}
    cases = [
        simple("R1", distance["mixup"] - distance["fresh"]),
        simple("R2", error["mixup"] - error["fresh"]),
        *cases_of("R3", name, lambda g, v: error[g, v] - error["fresh"]),
        *cases_of("R4", name, lambda g, v: error["mixup"] - error[g, v]),
        *cases_of("R5", name, lambda g, v: distance[before(g), v] - distance[g, v], GAMMAS[1:]),
    ]

    def gained(claim: str, measure: str, case: str) -> list[Case]:
        mixup = found["mixup", measure]
        return cases_of(claim, case, lambda g, v: found[(g, v), measure] - mixup)

    cases += gained("R6", "precision", name)

    def by_t(measure: str, gamma: float, v: str) -> Any:
        return found[(gamma, v, 32), measure] - found[(gamma, v, 2), measure]

    for v in VARIANTS:
        at_two, at_six = (by_t("distance", gamma, v) for gamma in (2.0, 6.0))
        cases.append(Case("D1", name, v, [None], at_two))
        cases.append(Case("D2", name, v, [None], at_two - at_six))
        for measure in ("coverage", "recall"):
            cases.append(Case("D3", f"{name}, {measure}", v, [None], by_t(measure, 2.0, v)))
    for measure in ("coverage", "recall"):
        cases += gained("D4", measure, f"{name}, {measure}")
    for k in VICINITY_NEIGHBORS:
        case = f"{name}, k = {k}"
        reach, flat, lost = (
            {key[0]: value for key, value in found.items() if key[1:] == (measure, k)}
            for measure in ("reach", "eccentricity", "no majority")
        )
        cases += around_cases(case, reach, flat, lost)
    return cases


def around_cases(case: str, reach: Any, flat: Any, lost: Any) -> list[Case]:
    """Build the cases of Figure 7 for one data set and neighbourhood size."""
    original = reach["original"]
    return [
        *cases_of("V1", case, lambda g, v: 1 - reach[g, v] / original, LARGE_GAMMAS),
        *cases_of("V2", case, lambda g, v: flat[g, v] - flat["original"], LARGE_GAMMAS),
        Case("V3", case, "", [None], lost["mixup"] - lost["original"]),
        *cases_of("V4", case, lambda g, v: lost["mixup"] - lost[g, v]),
    ]


def before(gamma: float) -> float:
    """Return the γ of the grid before this one."""
    return GAMMAS[GAMMAS.index(gamma) - 1]


# --- Figure 2b: the helix -------------------------------------------------------------------


def helix(seeds: list[int]) -> list[Case]:
    """Measure how far mixed samples are from the true curve."""
    mixers: dict[Any, Any] = {"mixup": zm.Mixup()}
    mixers |= {(g, v): zeta(g, v) for g in HELIX_GAMMAS for v in VARIANTS}
    away: dict[Any, list[float]] = {key: [] for key in mixers}
    filled = []
    for seed in seeds:
        X, y = zm.make_helix(random_state=seed)
        for key, mixer in mixers.items():
            mixed, _ = zm.mixed_set(X, y, mixer, batch_size=BATCH_SIZE, seed=seed)
            away[key].append(float(distance_to_helix(mixed).mean()))
            if key == "mixup":
                filled.append(filled_cells(mixed))
    distance = {key: np.array(values) for key, values in away.items()}
    cases = [Case("R7", "helix", "", [None], np.array(filled))]
    cases += cases_of(
        "R8", "helix", lambda g, v: 1 - distance[g, v] / distance["mixup"], HELIX_GAMMAS
    )
    cases += [Case("R9", "helix", v, [None], distance[6.0, v] / 200) for v in VARIANTS]
    return cases


def filled_cells(points: NDArray[Any]) -> float:
    """Return the share of 5 x 12 x 5 equal cells of the helix's inside that hold a point."""
    radius, angle = np.hypot(points[:, 0], points[:, 1]), np.arctan2(points[:, 1], points[:, 0])
    # Rings of equal area, sectors, and one layer a turn.
    edges = [90 * np.sqrt(np.linspace(0, 1, 6)), np.linspace(-np.pi, np.pi, 13),
             np.linspace(0, 10 * np.pi, 6)]  # fmt: skip
    counts, _ = np.histogramdd(np.column_stack([radius, angle, points[:, 2]]), edges)
    return float((counts > 0).mean())


# --- Richness of labels ---------------------------------------------------------------------


def labels(seeds: list[int]) -> list[Case]:
    """Look at the soft labels of mixed digits."""
    data = zm.load_dataset("digits")

    def soft(mixer: Any) -> list[NDArray[Any]]:
        return [
            zm.mixed_set(data.points, data.labels, mixer, batch_size=BATCH_SIZE, seed=seed)[1]
            for seed in seeds
        ]

    def most_classes(mixer: Any) -> NDArray[Any]:
        return np.array([float((y > 0).sum(axis=1).max()) for y in soft(mixer)])

    def entropy(drawn: list[NDArray[Any]]) -> NDArray[Any]:
        return np.array([-np.sum(y * np.log(np.where(y > 0, y, 1))) / len(y) for y in drawn])

    def lead(drawn: list[NDArray[Any]]) -> NDArray[Any]:
        return np.array([(2 * y.max(axis=1) - y.sum(axis=1)).min() for y in drawn])

    cases = [Case("L1", "digits", "", [None], most_classes(zm.Mixup()))]
    for variant in VARIANTS:
        for n_mix in (4, 32):
            share = most_classes(zeta(2.8, variant, n_mix)) / min(n_mix, 10)
            cases.append(Case("L2", f"digits, T = {n_mix}", variant, [None], share))
    of = {(g, v): soft(zeta(g, v)) for g in GAMMAS for v in VARIANTS}
    mixup = entropy(soft(zm.Mixup()))
    cases += cases_of("L3", "digits", lambda g, v: lead(of[g, v]))
    cases += cases_of("L4", "digits", lambda g, v: entropy(of[g, v]) - mixup)
    return cases


# --- Figure 6 -------------------------------------------------------------------------------


def sweeps(seeds: list[int]) -> list[Case]:
    """Sweep the local ID; each seed generates its own data, shuffles and mixes anew."""
    mixers = mixers_from_specs(("none", "mixup", "zeta", "zeta-anchored"), gammas=GAMMAS)
    cases: list[Case] = []
    for name in SWEPT:
        found: dict[tuple[Any, ...], list[float]] = {}
        saturated: set[int] = set()
        for seed in seeds:
            result = zm.sweep_id(
                zm.load_dataset(name, random_state=seed),
                mixers=mixers,
                n_neighbors=SWEEP_NEIGHBORS,
                batch_size=BATCH_SIZE,
                seeds=[seed],
            )
            for row in result.rows:
                gamma = None if np.isnan(row["gamma"]) else row["gamma"]
                key = row["n_neighbors"], row["mixer"], gamma
                found.setdefault(key, []).append(row["id_mean"])
                if "saturated" in row["flags"]:
                    saturated.add(row["n_neighbors"])
        for k in SWEEP_NEIGHBORS:
            # Means at the ceiling k - 1 are lower bounds, which the case says.
            case = f"{name}, k = {k}{', saturated' if k in saturated else ''}"
            of_size = {key[1:]: v for key, v in found.items() if key[0] == k}
            cases += sweep_cases(name, case, of_size)
    return cases


def sweep_cases(name: str, case: str, found: dict[tuple[Any, ...], list[float]]) -> list[Case]:
    """Build the cases of one data set and neighbourhood size."""
    original, mixup = (np.array(found[m, None]) for m in ("none", "mixup"))
    mixer = {"Eq. 6": "zeta", "anchored": "zeta-anchored"}
    of = {(g, v): np.array(found[mixer[v], g]) for g in GAMMAS for v in VARIANTS}
    first, last = GAMMAS[0], GAMMAS[-1]
    cases = [
        Case("I1", case, "", [None], mixup - original),
        *cases_of("I2", case, lambda g, v: mixup - of[g, v]),
        *(Case("I3", case, v, [None], of[first, v] - of[last, v]) for v in VARIANTS),
        *cases_of("I5", case, lambda g, v: abs(mixup - original) - abs(of[g, v] - original)),
        *cases_of("I6", case, lambda g, v: original - of[g, v], LARGE_GAMMAS),
    ]
    if name == "digits":
        cases += [Case("I4", case, v, [None], 1 - of[last, v] / of[first, v]) for v in VARIANTS]
    return cases


if __name__ == "__main__":
    typer.run(main)
