from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import zmanifold as zm
from skdim.id import lPCA
from zmanifold._base.errors import InputError
from zmanifold.datasets import Dataset
from zmanifold.mixers import mixers_from_specs
from zmanifold.mixers.batches import Batches
from zmanifold.sweep import cells
from zmanifold.sweep import result as results

import oracles

FAST = {"n_neighbors": (8, 20), "seeds": 2, "progress": False}


@pytest.fixture
def helix():
    return zm.make_helix(600, random_state=0)[0]


def means(result):
    return result.to_frame().drop(columns=["seconds"])


def test_one_cell_against_naive_loops(helix):
    """The reference computes shuffle, batches, weights, mixing, neighbours and rule by hand."""
    n, b, k = 590, 32, 8
    X = helix[:n]
    result = zm.sweep_id(X, mixers=zm.ZetaMixup(2.8), n_neighbors=k, seeds=[7], progress=False)
    order = np.random.default_rng(np.random.SeedSequence([7, 0])).permutation(n)
    seeds = np.random.SeedSequence([7, 2]).generate_state(19, np.uint64)
    out = []
    for i in range(19):
        rows = np.concatenate([order, order])[i * b : (i + 1) * b]
        generator = torch.Generator().manual_seed(int(seeds[i]))
        weights = zm.ZetaMixup(2.8).weights(b, generator=generator, dtype=torch.float64)
        out.append(oracles.mixed(weights.numpy(), X[rows]))
    mixed = np.concatenate(out)[:n]
    _, indices = oracles.neighbors(mixed, k)
    ids, _ = oracles.fukunaga_olsen(mixed, indices)
    (row,) = result.rows
    assert row["id_mean"] == pytest.approx(ids.mean(), abs=1e-12)
    assert row["id_std"] == pytest.approx(ids.std(ddof=1), abs=1e-12)
    assert row["id_sem"] == pytest.approx(ids.std(ddof=1) / math.sqrt(n), abs=1e-12)
    assert (row["n_points"], row["n_queries"], row["seed"]) == (n, n, 7)


def test_the_original_is_scikit_dimensions(helix):
    result = zm.sweep_id(helix, mixers=None, n_neighbors=20, seeds=1, progress=False)
    theirs = lPCA(ver="FO").fit_pw(helix, n_neighbors=20).dimension_pw_
    assert result.rows[0]["id_mean"] == theirs.mean()


def test_the_spread_over_seeds_stands_beside_each_cell(helix):
    mixers = mixers_from_specs(["none", "mixup", "zeta"], gammas=[2.0, 4.0])
    frame = zm.sweep_id(helix, mixers=mixers, n_neighbors=(8, 20), seeds=3, progress=False)
    frame = frame.to_frame()
    for _, rows in frame.groupby(["parameters", "n_neighbors"]):
        assert rows["id_std_seeds"].tolist() == [pytest.approx(np.std(rows["id_mean"], ddof=1))] * 3
    assert frame["id_std_seeds"].nunique() > 4
    one = zm.sweep_id(helix, mixers=mixers, n_neighbors=8, seeds=1, progress=False).to_frame()
    assert one["id_std_seeds"].isna().all()


def test_the_standard_error_over_points_is_not_the_spread_over_data():
    """Neighbourhoods overlap: over fresh paraboloids the mean varies 2.8 times as much."""
    rows = [
        zm.sweep_id(
            zm.load_dataset("paraboloid-r12", n_samples=1000, random_state=seed),
            mixers=None, n_neighbors=128, seeds=[seed], progress=False,
        ).rows[0]
        for seed in range(40)
    ]  # fmt: skip
    ratio = np.std([row["id_mean"] for row in rows], ddof=1) / rows[0]["id_sem"]
    assert 2 < ratio < 4


def test_flags_of_cells(monkeypatch):
    data = zm.load_dataset("digits", n_samples=300)
    result = zm.sweep_id(
        data, mixers=[None, zm.Mixup(), zm.ZetaMixup(0.0)], n_neighbors=(8, 31), batch_size=32,
        seeds=1, progress=False,
    )  # fmt: skip
    found = {(row["mixer"], row["n_neighbors"]): row["flags"] for row in result.rows}
    assert found == {
        ("none", 8): "saturated", ("none", 31): "",
        ("mixup", 8): "saturated", ("mixup", 31): "",
        ("zeta", 8): "degenerate", ("zeta", 31): "degenerate",
    }  # fmt: skip
    few = zm.sweep_id(data, mixers={"as it is": None, "mixed": zm.Mixup()}, n_neighbors=31,
                      batch_size=34, seeds=1, progress=False)  # fmt: skip
    assert [row["flags"] for row in few.rows] == ["", "few-batches"]


def test_where_the_space_is_full_more_neighbours_are_no_remedy(rng):
    result = zm.sweep_id(rng.normal(size=(400, 5)), mixers=None, n_neighbors=(6, 60), seeds=1,
                         progress=False)  # fmt: skip
    assert [row["flags"] for row in result.rows] == ["saturated"] * 2
    few, many = results.flagged_cells([result])
    assert "within 1 of k - 1, the most that k neighbours span: raise k" in few
    assert "dimension d of the space, the most that any spectrum shows there: lower k" in many


def test_the_table_is_tidy(helix):
    data = Dataset(helix, None, None, None, "mine")
    mixers = mixers_from_specs(["none", "mixup", "zeta"], gammas=[2.0, 4.0])
    result = zm.sweep_id(data, mixers=mixers, **FAST)
    frame = result.to_frame()
    assert tuple(frame.columns) == results.COLUMNS
    assert len(frame) == 4 * 2 * 2
    assert not frame.duplicated(["mixer", "gamma", "alpha", "n_neighbors", "seed"]).any()
    assert (frame["dataset"] == "mine").all()
    assert frame.groupby("mixer")["gamma"].count().to_dict() == {"mixup": 0, "none": 0, "zeta": 8}
    assert frame[frame["mixer"] == "mixup"]["alpha"].tolist() == [1.0] * 4
    assert (frame["seconds"] > 0).all()
    assert frame["device"].unique().tolist() == ["cpu"]
    # The settings can be written as JSON, and suffice to repeat the sweep.
    settings = json.loads(json.dumps(result.settings, allow_nan=False))
    assert settings["seeds"] == [0, 1]
    assert settings["versions"]["torch"] == torch.__version__
    assert settings["seconds"] > 0


def test_cells_depend_on_their_own_seed_only(helix):
    mixers = [zm.Mixup(), zm.ZetaMixup(2.0), zm.ZetaMixup(4.0)]

    def alone(result):
        return means(result).drop(columns="id_std_seeds")

    whole = alone(zm.sweep_id(helix, mixers=mixers, **FAST))
    parts = [
        alone(zm.sweep_id(helix, mixers=[mixer], n_neighbors=k, seeds=[seed], progress=False))
        for seed in (1, 0)
        for k in (20, 8)
        for mixer in reversed(mixers)
    ]
    key = ["mixer", "gamma", "n_neighbors", "seed"]
    again = np.concatenate([part.sort_values(key).to_numpy() for part in parts])
    as_set = {tuple(map(str, row)) for row in again}
    assert as_set == {tuple(map(str, row)) for row in whole.to_numpy()}


def test_results_do_not_depend_on_chunks_or_threads(helix, one_thread):
    mixers = mixers_from_specs(["mixup", "zeta"], gammas=[0.0, 2.0])
    expected = means(zm.sweep_id(helix, mixers=mixers, **FAST))
    torch.set_num_threads(2)
    found = means(zm.sweep_id(helix, mixers=mixers, memory_limit=2**20, **FAST))
    assert found.equals(expected)


def test_one_seed_means_the_same_shuffle_and_permutations_at_every_gamma(helix):
    batches = Batches(torch.from_numpy(helix), None, None, 32, 2**24)
    original = batches.mixed(None, 3)
    # At a large γ an anchored output equals its own sample, in the order of the originals.
    anchored = batches.mixed(zm.ZetaMixup(60.0, anchored=True), 3)
    torch.testing.assert_close(anchored, original)
    # And the outputs move continuously with γ.
    near = batches.mixed(zm.ZetaMixup(2.0), 3), batches.mixed(zm.ZetaMixup(2.001), 3)
    assert (near[0] - near[1]).abs().max() < 0.2
    assert (batches.mixed(zm.ZetaMixup(2.0), 4) - near[0]).abs().max() > 10


def test_weights_are_drawn_and_applied_in_float64(helix):
    """In float32 a mixed point would have an error of up to 1e-7 of its norm, which is 100."""
    X = torch.from_numpy(helix[:64])
    mixed = Batches(X, None, None, 64, 2**24).mixed(zm.ZetaMixup(0.7), 0)
    order = np.random.default_rng(np.random.SeedSequence([0, 0])).permutation(64)
    (seed,) = np.random.SeedSequence([0, 2]).generate_state(1, np.uint64).tolist()
    generator = torch.Generator().manual_seed(seed)
    weights = zm.ZetaMixup(0.7).weights(64, generator=generator, dtype=torch.float64)
    expected = oracles.mixed(weights.numpy(), helix[order])
    np.testing.assert_allclose(mixed, expected, rtol=0, atol=1e-12)


def test_a_short_last_batch_is_filled_up_and_cut(helix):
    X = torch.from_numpy(helix[:70])
    batches = Batches(X, None, None, 32, 2**24)
    mixed = batches.mixed(zm.ZetaMixup(60.0, anchored=True), 0)
    # Every sample has the largest weight in exactly one output.
    assert len(mixed) == 70
    assert (torch.cdist(mixed, X).min(dim=1).indices.sort().values == torch.arange(70)).all()
    at_zero = batches.mixed(zm.ZetaMixup(0.0), 0)
    for part in (at_zero[:32], at_zero[32:64], at_zero[64:]):
        torch.testing.assert_close(part, part[:1].expand_as(part))


def test_gamma_zero_constant_and_duplicate_data_give_an_answer(helix):
    at_zero = zm.sweep_id(helix, mixers=zm.ZetaMixup(0.0), n_neighbors=8, seeds=1, progress=False)
    assert at_zero.rows[0]["id_mean"] == 0
    assert at_zero.rows[0]["n_degenerate"] == 600
    single = zm.sweep_id(
        helix.astype(np.float32) + 1e4, mixers=zm.ZetaMixup(0.0), n_neighbors=8, seeds=1,
        progress=False,
    )  # fmt: skip
    assert single.rows[0]["n_degenerate"] == 600
    for X in (np.ones((100, 3)), np.ones((100, 30)), np.repeat(helix[:4], 25, axis=0)):
        mixers = [None, zm.Mixup(), zm.ZetaMixup(2.0)]
        for row in zm.sweep_id(X, mixers=mixers, n_neighbors=8, seeds=1, progress=False).rows:
            assert math.isfinite(row["id_mean"])


def test_queries_are_a_subset_of_all(helix):
    every = zm.sweep_id(helix, mixers=[None, zm.Mixup()], **FAST)
    all_queries = zm.sweep_id(helix, mixers=[None, zm.Mixup()], n_queries=600, **FAST)
    assert means(all_queries).equals(means(every))
    some = zm.sweep_id(helix, mixers=[None, zm.Mixup()], n_queries=200, **FAST)
    for row, whole in zip(some.rows, every.rows, strict=True):
        assert row["n_queries"] == 200
        assert row["id_sem"] == pytest.approx(row["id_std"] / math.sqrt(200))
        assert abs(row["id_mean"] - whole["id_mean"]) <= 4 * whole["id_std"] / math.sqrt(200)


def test_queries_are_drawn_from_all_points_and_neighbours_too(helix):
    order = np.random.default_rng(np.random.SeedSequence([3, 0])).permutation(600)
    chosen = np.random.default_rng(np.random.SeedSequence([3, 1])).choice(600, 50, replace=False)
    X = helix + 10 * np.random.default_rng(0).normal(size=helix.shape)
    some = zm.sweep_id(X, mixers=None, n_neighbors=8, seeds=[3], n_queries=50, progress=False)
    expected = zm.LocalPCA(n_neighbors=8).fit(X, queries=order[chosen]).dimension_
    assert some.rows[0]["id_mean"] == pytest.approx(expected, abs=1e-12)


class Plain:
    """A mixer whose weights come from torch's global generator."""

    def weights(self, batch_size):
        return torch.softmax(torch.randn(batch_size, batch_size), dim=1)


def shifted(x, y):
    assert x.shape == (32, 2, 2, 3)
    assert y.shape == (32,)
    return x + torch.rand(()), y


def test_any_mixer_can_be_swept(rng):
    data = Dataset(rng.normal(size=(100, 12)), rng.integers(0, 2, 100), (2, 2, 3), None, "mine")
    mixers = {"plain": Plain(), "own": [shifted], "zeta": [zm.ZetaMixup(1.0), zm.ZetaMixup(2.0)]}
    state = torch.get_rng_state()
    first = zm.sweep_id(data, mixers=mixers, **FAST)
    assert torch.equal(torch.get_rng_state(), state)
    assert means(first).equals(means(zm.sweep_id(data, mixers=mixers, **FAST)))
    assert first.to_frame()["mixer"].unique().tolist() == ["plain", "own", "zeta"]
    assert math.isnan(first.rows[0]["gamma"])
    # Shifting all points leaves the distances within a batch unchanged.
    assert first.to_frame().query("mixer == 'own'")["id_mean"].min() > 1


@pytest.mark.parametrize("read_only", [True, False])
def test_labels_that_run_backwards_or_are_read_only(read_only):
    data, labels = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 4
    seen = []

    def watch(x, y):
        seen.append(y.tolist())
        return x

    options = {"mixers": watch, "n_neighbors": 5, "seeds": 1, "progress": False}
    zm.sweep_id(Dataset(data, labels.copy(), None, None, "d"), **options)
    expected, seen = seen, []
    labels = labels[::-1].copy()[::-1]
    labels.setflags(write=not read_only)
    zm.sweep_id(Dataset(data, labels, None, None, "d"), **options)
    assert seen == expected


def test_names():
    X = np.random.default_rng(0).normal(size=(40, 3))
    mixers = [
        None,
        "mixup",
        zm.ZetaMixup(n_mix=4),
        zm.ZetaMixup((1.0, 2.0), anchored=True),
        shifted3,
    ]
    result = zm.sweep_id(X, mixers=mixers, n_neighbors=5, seeds=1, progress=False)
    names = [row["mixer"] for row in result.rows]
    assert names == ["none", "mixup", "zeta-T4", "zeta-anchored-U(1,2)", "shifted3"]


def shifted3(x, y):
    return x + 1


def test_on_every_device_the_same(helix, device):
    mixers = [None, zm.Mixup(), zm.ZetaMixup(2.8)]
    here = zm.sweep_id(helix, mixers=mixers, device=device, **FAST).to_frame()
    cpu = zm.sweep_id(helix, mixers=mixers, device="cpu", **FAST).to_frame()
    np.testing.assert_allclose(here["id_mean"], cpu["id_mean"], atol=2e-3)


def returns_nothing(x, y):
    return None


def returns_nan(x, y):
    return x * np.nan, y


X = np.random.default_rng(0).normal(size=(40, 3))
MIXER = zm.ZetaMixup()


@pytest.mark.parametrize(
    ("data", "kwargs", "message"),
    [
        (X, {"n_neighbors": 40}, "n_neighbors=40 needs more than 40 points, got 40"),
        (X, {"n_neighbors": (8, 41)}, "n_neighbors=41 needs more than 41 points"),
        (X, {"n_neighbors": 1}, "n_neighbors=1 is too small"),
        (X, {"n_neighbors": ()}, "n_neighbors is empty"),
        (X, {"n_neighbors": "8"}, "n_neighbors='8' is not a whole number"),
        (X, {"batch_size": 41}, "batch_size=41 is above the 40 points"),
        (X, {"batch_size": 1}, "batch_size=1 is too small: give an integer >= 2"),
        (X, {"seeds": 0}, "seeds=0 is too small"),
        (X, {"seeds": [-1]}, "seeds=-1 is too small"),
        (X, {"n_queries": 41}, "n_queries=41 is above the 40 points"),
        (X, {"n_queries": 1}, "n_queries=1 is too small"),
        (X, {"mixers": []}, "mixers is empty"),
        (X, {"mixers": "zetta"}, "unknown mixer 'zetta': did you mean 'zeta'"),
        (X, {"mixers": 3}, "mixer 3 has neither weights"),
        (X, {"mixers": [MIXER, zm.ZetaMixup()]}, "two mixers are called 'zeta' with gamma=2.8"),
        (X, {"mixers": zm.ZetaMixup(n_mix=33)}, "n_mix=33 samples cannot be chosen"),
        (X, {"mixers": returns_nothing}, "the mixer returned NoneType"),
        (X, {"mixers": returns_nan}, "made values that are not finite"),
        (X, {"device": "cuda:55"}, "use device='cpu' or 'auto'"),
        (X[:, :1], {}, r"X has 1 feature\(s\)"),
        (X[:1], {}, r"X has 1 point\(s\)"),
        (X * np.inf, {}, "NaN or inf"),
        (X + 1j, {}, "complex"),
        (Dataset(X, np.zeros(39, int), None, None, "d"), {}, "labels has 39 entries for 40 points"),
    ],
)
def test_bad_input_is_refused_before_any_work(data, kwargs, message, monkeypatch):
    monkeypatch.setattr(cells, "search", lambda *a, **k: pytest.fail("work has begun"))
    kwargs = {"mixers": MIXER, "n_neighbors": 8, "progress": False} | kwargs
    with pytest.raises(InputError, match=message):
        zm.sweep_id(data, **kwargs)
