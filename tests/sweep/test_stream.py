"""A streamed mixed set gives the same results as one that is held in memory."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import zmanifold as zm
from zmanifold._base.arrays import as_points
from zmanifold._base.errors import InputError
from zmanifold._base.mapped import Place, is_mapped
from zmanifold._base.memory import streaming_memory
from zmanifold._base.scaling import rescaled
from zmanifold.dimension.fo import FukunagaOlsen, fukunaga_olsen
from zmanifold.mixers.batches import Batches
from zmanifold.neighbors._proposals import SPARE_CANDIDATES
from zmanifold.neighbors.api import search
from zmanifold.sweep import plan as sweep
from zmanifold.sweep import stream as streams
from zmanifold.sweep._rounding import mixing_tolerance

from processes import anonymous_memory

MIXERS = [None, zm.Mixup(), zm.ZetaMixup(0.0), zm.ZetaMixup(2.8), zm.ZetaMixup(15.0)]


def mapped(folder, X):
    np.save(folder / "x.npy", X)
    return np.load(folder / "x.npy", mmap_mode="r")


@pytest.fixture
def never_held(monkeypatch):
    monkeypatch.setattr(sweep, "holds", lambda *_: False)


def lattice(rng):
    return rng.integers(0, 3, size=(700, 5))


def copies(rng):
    return np.repeat(rng.normal(size=(8, 16)), 70, axis=0) + 1e4


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda rng: rng.normal(size=(2100, 40)).astype(np.float32), {"n_queries": 300}),
        (lambda rng: rng.normal(size=(900, 3)), {}),
        (lambda rng: rng.normal(size=(500, 20)) * 1e200, {"batch_size": 37}),
        (lambda rng: rng.normal(size=(500, 20)) * 1e-310, {"batch_size": 37}),
        (lambda rng: rng.integers(0, 255, size=(900, 64)).astype(np.uint8), {}),
        (lambda rng: rng.integers(0, 2**40, size=(400, 20)).astype(np.uint64), {}),
        (lambda rng: rng.normal(size=(700, 300)).astype(np.float16), {"n_queries": 100}),
        (lambda rng: np.asfortranarray(rng.normal(size=(600, 30))), {"n_queries": 90}),
        (lattice, {}),
        (copies, {}),
        (lambda rng: np.full((200, 4), 7.0), {"n_queries": 50}),
        (lambda rng: rng.normal(size=(62, 4)), {"n_neighbors": (2, 61), "batch_size": 62}),
    ],
)
def test_the_same_numbers_as_in_memory(tmp_path, rng, never_held, make, options):
    X = make(rng)
    settings = {"mixers": MIXERS, "n_neighbors": (8, 60), "seeds": 1, "progress": False} | options
    held = zm.sweep_id(X, **settings).to_frame()
    file = mapped(tmp_path, X)
    streamed = zm.sweep_id(file, journal=tmp_path / "a.journal", **settings).to_frame()
    assert held.drop(columns="seconds").equals(streamed.drop(columns="seconds"))
    # The fingerprint is that of the file's content, whether it is held or streamed.
    again = zm.sweep_id(X, journal=tmp_path / "a.journal", **settings).to_frame()
    assert again.equals(streamed)


def test_the_same_flags_as_in_memory(tmp_path, never_held):
    X = zm.load_dataset("digits", n_samples=280).points.reshape(280, -1)
    settings = {"mixers": [None, zm.Mixup(), zm.ZetaMixup(0.0)], "n_neighbors": (8, 31)}
    result = zm.sweep_id(mapped(tmp_path, X), seeds=1, progress=False, **settings)
    assert [row["flags"] for row in result.rows] == [
        "saturated", "", "saturated;few-batches", "few-batches",
        "degenerate;few-batches", "degenerate;few-batches",
    ]  # fmt: skip


def tenths(rng):
    """Sums of the squares of such values depend on the order of summation."""
    return rng.integers(0, 4, size=(600, 5)) * 0.1


def near_and_far(rng):
    """A cloud as small as the rounding of far points: its spread is judged by itself."""
    X = rng.normal(size=(400, 8)).astype(np.float32)
    X[:200] *= 1e-3
    X[200:] += 1e6
    return X


@pytest.mark.parametrize(
    "make",
    [tenths, near_and_far, copies, lambda rng: rng.normal(size=(700, 30)) ** 9],
)
@pytest.mark.parametrize("memory", [2**19, 2**26])
def test_every_neighbour_and_count_is_that_of_the_whole(rng, make, memory):
    X = as_points(make(rng))
    batches = Batches(X, None, None, 10, 2**20)
    positions = torch.arange(0, len(X), 11)
    for mixer in (None, zm.ZetaMixup(0.0)):
        rows = batches.rows(mixer, 0)
        stream, whole = streams.Stream.of(rows, memory), rows.all()
        (scaled,), _ = rescaled(whole)
        _, exact = search(scaled, 45, rows=positions, memory=2**26)
        assert torch.equal(stream.search(positions, 45), exact)
        around = streams.StreamedNeighborhoods(stream, positions, exact)
        given = around.estimate(FukunagaOlsen(), 45, memory)
        for found, wanted in zip(
            given,
            fukunaga_olsen(
                whole, exact, alpha=0.05, memory=2**26,
                tolerance=mixing_tolerance(rows, torch.arange(len(X))),
            ),
            strict=True,
        ):  # fmt: skip
            assert torch.equal(found, wanted)
        # Each neighbourhood on its own, without the far points.
        alone = around.estimate(FukunagaOlsen(), 45, 1)
        assert all(torch.equal(found, wanted) for found, wanted in zip(given, alone, strict=True))


def test_no_more_is_made_than_the_memory_holds(rng, monkeypatch, one_thread):
    X = rng.normal(size=(600, 16))
    largest = []
    take = streams.MixedRows.take

    def taken(self, positions):
        largest.append(len(positions))
        return take(self, positions)

    monkeypatch.setattr(streams.MixedRows, "take", taken)
    batches = Batches(torch.from_numpy(X), None, None, 20, 2**20)
    stream = streams.Stream.of(batches.rows(zm.ZetaMixup(2.0), 0), 1)
    positions = torch.arange(0, 600, 50)
    around = streams.StreamedNeighborhoods(stream, positions, stream.search(positions, 45))
    around.estimate(FukunagaOlsen(), 45, 1)
    # The largest block is one batch, or the candidates of one query.
    assert max(largest) <= 45 + SPARE_CANDIDATES


def test_mixers_take_turns(tmp_path, rng, never_held):
    """A mixer that draws from torch's global generator gives the same from several threads."""

    def own(x, y):
        # Sleeping lets another thread run and, without the lock under test, draw.
        time.sleep(0.001)
        lam = torch.rand(len(x), 1)
        return lam * x + (1 - lam) * x.roll(1, 0), y

    X = rng.normal(size=(3000, 24))
    settings = {"mixers": [own], "n_neighbors": 9, "seeds": 1, "progress": False, "n_queries": 50}
    held = zm.sweep_id(X, **settings).to_frame()
    streamed = zm.sweep_id(mapped(tmp_path, X), **settings).to_frame()
    assert held.drop(columns="seconds").equals(streamed.drop(columns="seconds"))


def test_values_that_are_not_finite_are_a_failure_of_the_cell(tmp_path, rng, never_held):
    def own(x, y):
        return (x / 0 if own.broken else x), y

    own.broken = False
    X = mapped(tmp_path, rng.normal(size=(300, 4)))
    prepared = sweep.prepare_sweep(X, mixers=[own], n_neighbors=9, seeds=1)
    own.broken = True
    result = prepared.run(progress=False)
    assert "made values that are not finite" in result.failures[0]["reason"]


def test_what_is_mapped_and_sent(tmp_path, rng):
    X = rng.normal(size=(50, 6)).astype(np.float32)
    file = mapped(tmp_path, X)
    assert is_mapped(file)
    assert is_mapped(file[3:].T)
    assert not is_mapped(file + 1)
    for view in (file, file[5:, 2:], file.T, file[::3], file.reshape(25, 12)):
        np.testing.assert_array_equal(Place.of(view).open(), view)
    points = torch.from_numpy(np.array(file))
    batches = Batches(points, None, None, 10, 2**20, Place.of(file))
    sent = pickle.dumps(batches)
    assert b"x.npy" in sent
    assert len(sent) < X.nbytes
    assert torch.equal(pickle.loads(sent).points, points)
    with (tmp_path / "x.npy").open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(OSError, match="where the sweep began: give all workers the same file"):
        pickle.loads(sent)


def test_what_cannot_be_streamed_is_refused(tmp_path, rng, never_held):
    X = mapped(tmp_path, rng.integers(0, 9, size=(200, 4)).astype(">i4"))
    with pytest.raises(InputError, match="dtype >i4, which is not read batch by batch"):
        sweep.prepare_sweep(X, mixers=[None])
    X = mapped(tmp_path, rng.normal(size=(200, 4)))
    with pytest.raises(InputError, match=r"too little to go through a file .* at least \d+ MiB"):
        sweep.prepare_sweep(X, mixers=[None], memory_limit=2**27)
    assert streaming_memory(None) >= 2**26
    # The shuffle alone takes 8 bytes for each row.
    X = torch.zeros(1, 2).expand(2**30, 2)
    cells = sweep.Cells("big", Batches(X, None, None, 32, 0), 100, False, 2**33, "exact", ())
    with pytest.raises(InputError, match=r"too little .* at least 1[2-9]\d{3} MiB"):
        cells.room()


def test_a_file_larger_than_the_limit(tmp_path):
    """The command takes less anonymous memory than its limit, which is below the file's size."""
    n, d = 150_000, 900
    out = np.lib.format.open_memmap(tmp_path / "big.npy", "w+", np.float32, (n, d))
    rng = np.random.default_rng(0)
    for start in range(0, n, 10_000):
        out[start : start + 10_000] = rng.standard_normal((10_000, d), dtype=np.float32)
    out.flush()
    del out
    ran = subprocess.Popen(
        [
            sys.executable, "-m", "zmanifold", "sweep-id", tmp_path / "big.npy",
            "--n-queries", "300", "--memory-limit", "512MiB", "--seeds", "1", "--gamma", "2.8",
            "--mixer", "zeta", "--neighbors", "8", "--out", tmp_path / "a.csv",
        ],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    largest = 0
    while ran.poll() is None:
        largest = max(largest, anonymous_memory(ran.pid))
        time.sleep(0.01)
    assert ran.wait() == 0, ran.stderr.read()
    ran.stderr.close()
    assert 0 < largest < 2**29 < n * d * 4
