"""Files that are mapped, and change while their values are read."""

from __future__ import annotations

import os

import numpy as np
import pytest
import zmanifold as zm
from zmanifold._base.mapped import MappedFile, Place
from zmanifold.mixers import MixedRows
from zmanifold.sweep import cells as sweep_cells
from zmanifold.sweep import plan


@pytest.fixture
def file(tmp_path, rng):
    path = tmp_path / "x.npy"
    np.save(path, rng.normal(size=(4000, 8)))
    return path


def cut_short(path):
    os.truncate(path, 4096)


def overwritten(path):
    content = path.read_bytes()
    os.truncate(path, 0)
    path.write_bytes(content[:-8] + bytes(8))


@pytest.mark.parametrize("change", [cut_short, overwritten, lambda path: path.unlink()])
@pytest.mark.parametrize("held", [True, False])
def test_a_file_that_changes_fails_the_cells_that_would_read_it(file, monkeypatch, change, held):
    """Read on, one that was cut short would end this very process by SIGBUS."""
    monkeypatch.setattr(plan, "holds", lambda *_: held)
    X = np.load(file, mmap_mode="r")
    run, done = sweep_cells.Cells.measure, []

    def measure(self, *given):
        yield from run(self, *given)
        done.append(given)
        if len(done) == 2:
            change(file)

    monkeypatch.setattr(sweep_cells.Cells, "measure", measure)
    mixers = [None, zm.Mixup(), zm.ZetaMixup(1.0), zm.ZetaMixup(2.0)]
    with pytest.warns(
        RuntimeWarning, match="2 of 4 cells failed, the first with OSError: '.*x.npy"
    ):
        result = zm.sweep_id(X, mixers=mixers, n_neighbors=8, seeds=1, n_queries=50, progress=False)
    assert [row["mixer"] for row in result.rows] == ["none", "mixup"]


def test_a_block_of_a_stream_is_read_from_the_same_file(file, monkeypatch, one_thread):
    """In one thread: no check helps another that reads at the moment of the cut."""
    monkeypatch.setattr(plan, "holds", lambda *_: False)
    X = np.load(file, mmap_mode="r")
    take, taken = MixedRows.take, []

    def cut_in_the_middle(self, positions):
        taken.append(positions)
        if len(taken) == 4:
            cut_short(file)
        return take(self, positions)

    sweep = plan.prepare_sweep(X, mixers=[None], n_neighbors=8, n_queries=50, seeds=1)
    monkeypatch.setattr(MixedRows, "take", cut_in_the_middle)
    result = sweep.run(progress=False)
    assert "has changed while its values were read" in str(result.first_error)


def test_a_file_in_memory_may_go(file):
    X = np.load(file)
    file.unlink()
    assert zm.sweep_id(X, mixers=[None], n_neighbors=8, seeds=1, n_queries=50, progress=False).rows


def test_a_worker_with_another_file_of_the_same_size_is_noticed(tmp_path, rng):
    path = tmp_path / "x.npy"
    x = rng.normal(size=(4000, 8))
    np.save(path, x)
    place = Place.of(np.load(path, mmap_mode="r"))
    np.testing.assert_array_equal(place.open(), x)
    # As on another machine: the same file, copied later.
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    np.testing.assert_array_equal(place.open(), x)
    np.save(path, rng.normal(size=(4000, 8)))
    with pytest.raises(OSError, match=r"x.npy' has other values here than where the sweep began"):
        place.open()
    np.save(path, x[:-1])
    with pytest.raises(OSError, match=r"x.npy' has \d+ bytes here but \d+ where the sweep began"):
        place.open()


def test_a_change_is_seen_by_size_or_time(file):
    state = MappedFile.of(file)
    state.check()
    os.utime(file, ns=(0, state.modified + 1))
    with pytest.raises(OSError, match="has changed while its values were read: restore"):
        state.check()
