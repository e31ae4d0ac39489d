from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmark
import scaling

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small(monkeypatch):
    """Run the work of every row on little data, each side once."""
    monkeypatch.setattr(benchmark, "SHORTEST_RUN", 0)
    points = np.random.default_rng(0).normal(size=(320, 3))
    monkeypatch.setattr(benchmark, "points_of", lambda name: points)
    monkeypatch.setattr(benchmark, "SAMPLE", 10)
    monkeypatch.setattr(benchmark, "GAMMAS", (2.8,))
    monkeypatch.setattr(benchmark, "CIFAR_GAMMAS", (2.8,))
    monkeypatch.setattr(benchmark, "CIFAR_SIZE", 160)
    monkeypatch.setattr(benchmark, "CIFAR_QUERIES", 20)
    monkeypatch.setattr(benchmark, "NEIGHBORS", (8,))
    monkeypatch.setattr(benchmark, "copy_rate", lambda device: 1e10)
    monkeypatch.setattr(benchmark, "product_rate", lambda dtype, device: 1e11)
    monkeypatch.setattr(benchmark, "mixup_peers", lambda: {"identity": lambda x, y: (x.clone(), y)})


def rows_here():
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    return [name for name, row in benchmark.ROWS.items() if row.device in devices]


@pytest.mark.parametrize("name", [name for name in rows_here() if name != "shell"])
def test_each_row_runs_both_sides(name, small, monkeypatch):
    row = benchmark.ROWS[name]
    tiny = {"weights": (40,), "mix-224": (4, 3, 8, 8), "mix-32": (6, 3, 4, 4)}
    arguments = tiny.get(
        name.removesuffix("-cuda"), tuple(8 if a == 128 else a for a in row.arguments)
    )
    monkeypatch.setitem(benchmark.ROWS, name, replace(row, arguments=arguments))
    found = benchmark.measure(name, runs=2)
    assert all(len(seconds) == 2 for seconds in found["seconds"].values())
    assert len(found["seconds"]) >= 2
    assert all(s > 0 for seconds in found["seconds"].values() for s in seconds)
    assert found["floor"] is None or found["floor"] > 0
    assert benchmark.measure_memory(name, "zmanifold") >= 0


def test_the_sweep_of_images_runs_both_sides(small):
    sides = benchmark.sweep_of_images("cpu")
    assert sides.ours() is None
    (peer,) = sides.peers.values()
    assert peer() > 0


def test_images_have_the_spectrum_of_natural_ones():
    """Amplitudes fall as one over the frequency; the three channels of a pixel are correlated."""
    images = benchmark.cifar_sized(400).reshape(-1, 3, 32, 32)
    amplitude = np.abs(np.fft.fft2(images)).mean(axis=(0, 1))
    assert amplitude[0, 2] / amplitude[0, 8] == pytest.approx(4, rel=0.1)
    assert 0.7 < np.corrcoef(images[:, 0].ravel(), images[:, 1].ravel())[0, 1] < 0.9


def test_the_peers_mixing_is_a_mixing():
    X = np.random.default_rng(0).normal(size=(64, 3))
    weights = benchmark.weights_by_numpy(32, 2.8)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert len(np.unique(weights.round(12))) == 32
    assert benchmark.mixed_by_numpy(X, 2.8).shape == X.shape


def test_the_fastest_peer_counts_and_the_median_decides():
    seconds = {"zmanifold": [0.1, 0.3, 0.2], "slow": [9.0, 9.0, 9.0], "fast": [2.0, 4.0, 3.0]}
    memory = {"zmanifold": 2**20, "fast": 2**21}
    row = benchmark.summary("helix-8", {"seconds": seconds, "floor": 0.05}, memory)
    assert (row["peer"], row["ours"], row["theirs"]) == ("fast", 0.2, 3.0)
    assert row["ratio"] == pytest.approx(15)
    line = benchmark.to_markdown([row]).splitlines()[-1]
    assert "| fast | 3.0 s ± 33% | 200 ms ± 50% | **15x** | 250x | 1 / 2 | 25% |" in line


def test_short_calls_are_repeated_and_extrapolations_are_not(monkeypatch):
    monkeypatch.setattr(benchmark, "SHORTEST_RUN", 0.02)
    calls = []
    assert 0 < benchmark.seconds_of(lambda: calls.append(1)) < 0.001
    assert len(calls) > 10
    assert benchmark.seconds_of(lambda: 7.0) == 7.0


def test_peak_memory_is_that_of_the_call():
    size = 64 * 2**20
    found = benchmark.peak_memory(lambda: np.ones(size, np.uint8).sum())
    assert 0.9 * size < found < 1.6 * size


def test_the_table_that_the_readme_shows_is_the_measured_one():
    results = json.loads((ROOT / "experiments" / "results" / "benchmark.json").read_text())
    table = (ROOT / "experiments" / "results" / "benchmark.md").read_text()
    assert benchmark.to_markdown(results["rows"]) == table
    assert table in (ROOT / "README.md").read_text()


def test_the_command_names_its_rows():
    command = [sys.executable, ROOT / "experiments" / "benchmark.py", "--help"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "knn-images" in shown.stdout.replace("\n", "")


def test_exponents_are_fitted(monkeypatch, tmp_path):
    monkeypatch.setattr(scaling, "HELIX_SIZES", (200, 400))
    monkeypatch.setattr(scaling, "IMAGE_SIZES", (200, 400, 10**6))
    monkeypatch.setattr(scaling, "QUERIES", (20, 40))
    monkeypatch.setattr(scaling, "NEIGHBORS", (8,))
    clock = iter(float(n * 10**-3) for _ in range(3) for n in (1, 1, 1, 4, 4, 4))
    monkeypatch.setattr(scaling, "seconds_of", lambda run: next(clock))
    scaling.main(out=tmp_path, images="digits")
    panels = json.loads((tmp_path / "scaling.json").read_text())["panels"]
    assert [line["exponent"] for (line,) in panels.values()] == [2.0, 2.0, 2.0]
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".svg", ".json"}
