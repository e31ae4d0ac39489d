from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import zmanifold as zm
from zmanifold import sweep
from zmanifold.datasets import Dataset
from zmanifold.errors import InputError
from zmanifold.journal import Journal

X = zm.make_helix(300, random_state=0)[0]
MIXERS = [None, zm.Mixup(), zm.ZetaMixup(2.0)]


def run(path, data=X, **kwargs):
    settings = {"mixers": MIXERS, "n_neighbors": (8, 20), "seeds": 2} | kwargs
    return zm.sweep_id(data, journal=path, progress=False, **settings)


def numbers(result):
    return result.to_frame().drop(columns="seconds")


def test_a_finished_sweep_is_read_not_computed(tmp_path, monkeypatch):
    first = run(tmp_path / "a.journal")
    monkeypatch.setattr(sweep, "search", lambda *a, **k: pytest.fail("computed again"))
    again = run(tmp_path / "a.journal")
    pd.testing.assert_frame_equal(first.to_frame(), again.to_frame())


def test_more_cells_may_join(tmp_path):
    path = tmp_path / "a.journal"
    run(path, mixers=[zm.Mixup()], n_neighbors=8, seeds=1)
    run(path, mixers=[zm.ZetaMixup(2.0)], n_neighbors=20, seeds=[1])
    whole = run(path)
    assert numbers(whole).equals(numbers(run(None)))


def test_an_interrupted_sweep_goes_on(tmp_path, monkeypatch):
    path = tmp_path / "a.journal"
    searches = []
    search = sweep.search

    def fail_on_the_fourth(*args, **kwargs):
        searches.append(1)
        if len(searches) == 4:
            raise MemoryError
        return search(*args, **kwargs)

    monkeypatch.setattr(sweep, "search", fail_on_the_fourth)
    with pytest.raises(MemoryError):
        run(path)
    with Journal(path) as journal:
        assert len(journal.finished("array")) == 3 * 2
    again = run(path)
    assert len(searches) == 4 + 3
    assert numbers(again).equals(numbers(run(None)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 16}, "batch_size=32, now 16"),
        ({"n_queries": 100}, "n_queries=300, now 100"),
        ({"data": X + 1}, "data='sha256:"),
        ({"data": X.astype(np.float32)}, "dtype='float64', now 'float32'"),
        ({"data": X[:-1]}, "n_points=300, now 299"),
        ({"data": Dataset(X, np.ones(300, int), None, None, "array")}, "data='sha256:"),
    ],
)
def test_other_data_or_settings_are_refused(tmp_path, change, message):
    run(tmp_path / "a.journal")
    with pytest.raises(InputError, match=message):
        run(tmp_path / "a.journal", **change)


def test_two_data_sets_in_one_journal(tmp_path):
    for name in ("a", "b"):
        data = Dataset(X * (2 if name == "b" else 1), None, None, None, name)
        run(tmp_path / "a.journal", data)
    with Journal(tmp_path / "a.journal") as journal:
        assert len(journal.finished("a")) == len(journal.finished("b")) == 12


def test_numbers_come_back_to_the_last_digit(tmp_path):
    row = {"id_mean": 0.1 + 0.2, "gamma": float("nan"), "device": "cpu", "seed": 2**60}
    with Journal(tmp_path / "a.journal") as journal:
        journal.begin("a", {})
        journal.record("a", "key", row)
    with Journal(tmp_path / "a.journal") as journal:
        np.testing.assert_equal(journal.finished("a")["key"], row)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_bytes(b"not a database" * 99), "cannot be used"),
        (lambda p: p.mkdir(), "cannot be used"),
        (lambda p: sqlite3.connect(p).execute("CREATE TABLE a (b)"), "of another program"),
        (lambda p: Journal(p)._database.execute("PRAGMA user_version = 9"), "has version 9"),
    ],
)
def test_other_files_are_refused(tmp_path, make, message):
    path = tmp_path / "a.journal"
    made = make(path)
    if hasattr(made, "connection"):
        made.connection.close()
    with pytest.raises(InputError, match=message):
        Journal(path)


COMMAND = ["sweep-id", "helix-r3", "spirals", "--gamma", "0:3:0.25", "--seeds", "2"]


def shell(*arguments, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-m", "zmanifold", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs,
    )  # fmt: skip


def cells_in(path):
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            return database.execute("SELECT count(*) FROM cell").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_command_goes_on_where_it_was(tmp_path, sent):
    options = ["--neighbors", "8", "--n-samples", "2000"]
    stopped = shell(*COMMAND, *options, "--out", tmp_path / "a.csv")
    deadline = time.monotonic() + 60
    while cells_in(tmp_path / "a.journal") < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(stopped.pid, sent)
    _, error = stopped.communicate()
    before = cells_in(tmp_path / "a.journal")
    assert 5 <= before < 2 * 15 * 2
    if sent == signal.SIGINT:
        assert stopped.returncode == 130
        assert error.count("\n") == 1
        assert "--resume goes on" in error
    resumed = shell(*COMMAND, *options, "--out", tmp_path / "a.csv", "--resume")
    assert resumed.wait() == 0, resumed.stderr.read()
    resumed.communicate()
    whole = shell(*COMMAND, *options, "--out", tmp_path / "b.csv")
    assert whole.wait() == 0
    whole.communicate()
    frames = [pd.read_csv(tmp_path / f"{name}.csv") for name in "ab"]
    pd.testing.assert_frame_equal(*(f.drop(columns="seconds") for f in frames))
    assert len(json.loads((tmp_path / "a.json").read_text())["sweeps"]) == 2
