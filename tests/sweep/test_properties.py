"""Properties of sweeps: a cell depends on its own mixer, size and seed alone."""

from __future__ import annotations

import numpy as np
import torch
import zmanifold as zm
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsets import GENERAL, SEEDS, point_sets

few = settings(max_examples=max(15, settings().max_examples // 5))

MIXERS = {
    "none": None, "mixup": zm.Mixup(), "each": zm.Mixup(0.3, per_sample=True),
    "zeta": zm.ZetaMixup(2.8), "weak": zm.ZetaMixup(0.7), "pairs": zm.ZetaMixup(4.0, n_mix=2),
    "anchored": zm.ZetaMixup(1.8, anchored=True), "range": zm.ZetaMixup((1.0, 4.0)),
    "called": lambda x, y: (x + torch.rand(()), y),
}  # fmt: skip

COLUMNS = [
    "dataset", "mixer", "gamma", "alpha", "parameters", "estimator", "n_neighbors", "batch_size",
    "seed", "n_points", "n_queries", "id_mean", "id_median", "id_q25", "id_q75", "id_std", "id_sem",
    "id_std_seeds", "n_degenerate", "flags", "seconds", "device",
]  # fmt: skip


@st.composite
def sweeps(draw, kinds=GENERAL, n=(4, 50)):
    """Draw data and the options of a sweep over it."""
    X = draw(point_sets(kinds, n=n, d=(2, 3, 13, 30)))
    n_rows = len(X)
    return X, {
        "mixers": {name: MIXERS[name] for name in draw(
            st.lists(st.sampled_from(list(MIXERS)), min_size=1, max_size=4, unique=True))},
        "n_neighbors": draw(st.lists(st.integers(2, n_rows - 1), min_size=1, max_size=3,
                                     unique=True)),
        "batch_size": draw(st.integers(2, n_rows)),
        "seeds": draw(st.lists(st.integers(0, 2**32), min_size=1, max_size=2, unique=True)),
        "n_queries": draw(st.none() | st.integers(2, n_rows)),
        "progress": False,
    }  # fmt: skip


def by_cell(result):
    """Return the measured values of each cell, without its duration and its spread over seeds."""
    frame = result.to_frame().drop(columns=["seconds", "id_std_seeds"])
    frame = frame.fillna({"gamma": -1, "alpha": -1})
    return {(row[1], row[6], row[8]): row for row in map(tuple, frame.to_numpy())}


@few
@given(sweeps(), st.randoms(use_true_random=False))
def test_a_cell_depends_on_itself_alone(drawn, random):
    X, options = drawn
    whole = by_cell(zm.sweep_id(X, **options))
    mixers = list(options["mixers"].items())
    cells = [(m, k, s) for m in options["mixers"] for k in options["n_neighbors"]
             for s in options["seeds"]]  # fmt: skip
    assert list(whole) == sorted(whole, key=lambda cell: (
        options["seeds"].index(cell[2]), list(options["mixers"]).index(cell[0]),
        options["n_neighbors"].index(cell[1])))  # fmt: skip
    assert set(whole) == set(cells)
    turned = options | {
        "mixers": dict(random.sample(mixers, random.randint(1, len(mixers)))),
        "n_neighbors": random.sample(options["n_neighbors"], 1),
        "seeds": options["seeds"][::-1],
        "memory_limit": 2**20,
    }
    torch.manual_seed(random.randint(0, 99))
    state = torch.get_rng_state()
    part = by_cell(zm.sweep_id(X, **turned))
    assert torch.equal(torch.get_rng_state(), state)
    assert part == {cell: whole[cell] for cell in part}
    assert len(part) == len(turned["mixers"]) * len(options["seeds"])


@few
@given(sweeps())
def test_rows(drawn):
    X, options = drawn
    before = X.copy()
    result = zm.sweep_id(X, **options)
    assert X.tobytes() == before.tobytes()
    frame = result.to_frame()
    assert frame.columns.tolist() == COLUMNS
    n, d = X.shape
    q = options["n_queries"] or n
    assert (frame["n_points"] == n).all()
    assert (frame["n_queries"] == q).all()
    assert (frame["batch_size"] == options["batch_size"]).all()
    assert (frame["id_mean"] >= 0).all()
    assert (frame["id_mean"] <= np.minimum(frame["n_neighbors"] - 1, d)).all()
    assert (frame["n_degenerate"] <= q).all()
    assert (frame["id_q25"] <= frame["id_median"]).all()
    assert (frame["id_median"] <= frame["id_q75"]).all()
    for row in result.rows:
        assert ("degenerate" in row["flags"]) == (row["n_degenerate"] > 0)
        few = row["mixer"] != "none" and n / options["batch_size"] <= 9
        assert ("few-batches" in row["flags"]) == few
    # A neighbourhood without spread has dimension 0, any other at least 1.
    assert (frame["id_mean"] >= 1 - frame["n_degenerate"] / q - 1e-12).all()
    np.testing.assert_allclose(frame["id_sem"], frame["id_std"] / np.sqrt(q), rtol=1e-15)
    assert (frame["seconds"] > 0).all()


EXACT = {kind: GENERAL[kind] for kind in ("gaussian", "flat", "far from the origin", "copies")}


@few
@given(sweeps(EXACT), st.integers(-450, 450), st.sampled_from([np.float64, np.float32]))
def test_powers_of_two_change_nothing(drawn, exponent, dtype):
    X, options = drawn
    options["mixers"].pop("called", None)
    options["mixers"]["none"] = None
    if dtype == np.float32:
        exponent //= 10
    X = X.astype(dtype)
    scaled = X * dtype(2.0**exponent)
    assert by_cell(zm.sweep_id(scaled, **options)) == by_cell(zm.sweep_id(X, **options))


@few
@given(st.integers(1, 5), st.integers(3, 12), SEEDS, st.integers(2, 20), st.data())
def test_at_gamma_0_every_batch_is_one_point(n_batches, size, seed, d, data):
    k = data.draw(st.integers(2, size - 1))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    shift = data.draw(st.sampled_from([0.0, 1e4]))
    X = (np.random.default_rng(seed).normal(size=(n_batches * size, d)) + shift).astype(dtype)
    result = zm.sweep_id(X, mixers=zm.ZetaMixup(0.0), n_neighbors=k, batch_size=size, seeds=[seed],
                         progress=False)  # fmt: skip
    (row,) = result.rows
    assert (row["id_mean"], row["id_std"], row["n_degenerate"]) == (0, 0, len(X))


@few
@given(sweeps({"flat": GENERAL["flat"]}), SEEDS)
def test_the_original_is_that_of_the_estimator(drawn, seed):
    """The original data equals data mixed in ways that change no sample."""
    X, options = drawn
    options |= {"mixers": {"none": None, "same": lambda x, y: x}, "n_queries": None}
    rows = zm.sweep_id(X, **options).rows
    for row in rows:
        fitted = zm.LocalPCA(n_neighbors=row["n_neighbors"]).fit(X)
        assert abs(row["id_mean"] - fitted.dimension_) <= 1e-12
        assert row["n_degenerate"] == fitted.n_degenerate_
        quartiles = [row["id_q25"], row["id_median"], row["id_q75"]]
        assert quartiles == np.percentile(fitted.dimension_pw_, [25, 50, 75]).tolist()
        made = set(filter(None, row["flags"].split(";"))) - {"few-batches"}
        assert made == set(fitted.flags_)
