from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from zmanifold.datasets import Dataset

import figure_8
from figure_8 import Run


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figure_8")
    with pytest.MonkeyPatch.context() as patch:
        setting = figure_8.Setting(n_train=100, epochs=3, batch_size=25, n_mixed_sets=4)
        patch.setitem(figure_8.SETTINGS, "digits", setting)
        patch.setattr(figure_8, "SEEDS", (0, 1))
        figure_8.main(images="digits", lines=True, device="cpu", out=folder)
        again = tmp_path_factory.mktemp("again")
        figure_8.main(images="digits", lines=False, device="cpu", out=again)
    return folder, again


def test_it_draws_and_repeats(drawn):
    folder, _ = drawn
    names = {path.name for path in folder.iterdir()}
    assert names == {"figure_8.png", "figure_8.svg", "figure_8.json", "figure_8.md", "features"}
    first, second = (json.loads((f / "figure_8.json").read_text()) for f in drawn)
    for key in ("table", "accuracy", "selected_samples"):
        assert first[key] == second[key]
    assert len(first["table"]) == 3 * 3 * 3
    assert first["n_test"] == 1697


def test_the_counts_follow_from_the_saved_features(drawn):
    """The neighbours are those that scikit-learn finds."""
    folder, _ = drawn
    table = json.loads((folder / "figure_8.json").read_text())["table"]
    means = {}
    for model in ("mixup", figure_8.DRAWN):
        base = folder / "features" / f"figure_8_seed1_{model}"
        train, test = (np.load(f"{base}_{part}.npz") for part in ("train", "test"))
        near = NearestNeighbors(n_neighbors=128, metric="cosine").fit(train["x"])
        indices = near.kneighbors(test["x"], return_distance=False)
        right = (train["y"].argmax(axis=1)[indices] == test["y"][:, None]).sum(axis=1)
        means[model] = right
    row = next(
        r for r in table if (r["model"], r["group"], r["seed"]) == (figure_8.DRAWN, "all", 1)
    )
    zeta, mixup = means[figure_8.DRAWN], means["mixup"]
    assert row["n_samples"] == len(zeta)
    assert row["mean_zeta"] == pytest.approx(zeta.mean(), abs=0.02)
    assert row["mean_mixup"] == pytest.approx(mixup.mean(), abs=0.02)
    assert row["percent"] == pytest.approx(100 * (zeta.sum() / mixup.sum() - 1), abs=0.1)
    assert row["more"] == pytest.approx((zeta > mixup).sum(), abs=3)


def made_up(predicted, labels):
    data = Dataset(np.zeros((len(labels), 4)), labels, (1, 2, 2), ("a", "b"), "x")
    return Run(0, data, labels, {}, predicted, {}, {})


def test_groups():
    labels = np.array([0, 0, 0, 0])
    wrong, right = 1, 0
    predicted = {
        "erm": np.array([wrong, wrong, right, wrong]),
        "mixup": np.array([wrong, wrong, right, right]),
        "zeta-2.4": np.array([right, right, right, right]),
        "zeta-2.8": np.array([right, wrong, wrong, right]),
        "zeta-4": np.array([right, right, right, wrong]),
    }
    run = made_up(predicted, labels)
    assert run.group("selected", "zeta-2.8").tolist() == [True, False, False, False]
    assert run.group("mirrored", "zeta-2.8").tolist() == [False, False, True, False]
    assert run.group("mirrored", "zeta-4").tolist() == [False, False, False, True]
    assert run.group("all", "zeta-4").all()


def test_comparison_by_hand():
    row = figure_8.compare(np.array([[10, 20, 30, 5], [5, 20, 10, 15]]))
    assert (row["n_samples"], row["more"], row["fewer"]) == (4, 2, 1)
    assert (row["mean_zeta"], row["mean_mixup"], row["percent"]) == (16.25, 12.5, 30.0)
    low, high = row["interval"]
    assert low < 30 < high
    # The bootstrap resamples test samples; each keeps both of its counts.
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, 4, (20_000, 4))
    zeta, mixup = np.array([10, 20, 30, 5])[chosen].sum(1), np.array([5, 20, 10, 15])[chosen].sum(1)
    expected = np.quantile(100 * (zeta / mixup - 1), [0.025, 0.975])
    np.testing.assert_allclose([low, high], expected, atol=3)


@pytest.mark.parametrize(("pair", "n"), [(np.zeros((2, 0), int), 0), (np.array([[3], [0]]), 1)])
def test_nothing_to_compare(pair, n):
    row = figure_8.compare(pair)
    assert row["n_samples"] == n
    assert row["percent"] is None
    assert row["interval"] is None
    row |= {"model": "zeta-2.8", "group": "selected", "seed": None}
    last = figure_8.to_markdown([row]).splitlines()[-1]
    assert f"| γ = 2.8 | {n} |" in last
    assert last.endswith("| - | - | nothing to compare |")


def test_the_picture_without_a_selected_sample(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(8) % 2
    run = made_up(dict.fromkeys(figure_8.MIXERS, labels), labels)
    for name in ("mixup", figure_8.DRAWN):
        features = rng.normal(size=(150, 5)), np.eye(2)[np.arange(150) % 2], rng.normal(size=(8, 5))
        run.features[name] = features
    for name in ("mixup", *figure_8.ZETAS):
        run.right[name] = np.full(8, 64)
    table = figure_8.tabulate([run])
    figure = figure_8.draw([run], table, False)
    assert "no such test sample" in figure.subfigs[0].get_suptitle()
    figure.savefig(tmp_path / "none.png")
