"""Sweeps over several data sets in one run."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import zmanifold as zm
from zmanifold._base.errors import InputError
from zmanifold.sweep import JournalLost, joint_table, many, save_sweep, sweep_many
from zmanifold.sweep.plan import Sweep

SETTINGS = {
    "mixers": [None, zm.ZetaMixup()], "n_neighbors": 8, "seeds": 2, "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return [zm.load_dataset(name, n_samples=100) for name in ("helix-r3", "spirals")]


def numbers(frame):
    return frame.drop(columns="seconds")


def read_csv(path):
    """Read a table; pandas takes an empty text for a missing value."""
    return pd.read_csv(path, dtype={"flags": str}).fillna({"flags": ""})


def test_it_is_one_sweep_after_the_other(data, tmp_path):
    results = sweep_many(iter(data), out=tmp_path / "a.csv", plot=tmp_path / "a.svg", **SETTINGS)
    alone = [zm.sweep_id(one, **SETTINGS) for one in data]
    frame = joint_table(results)
    pd.testing.assert_frame_equal(numbers(frame), numbers(joint_table(alone)))
    pd.testing.assert_frame_equal(read_csv(tmp_path / "a.csv"), frame)
    sidecar = json.loads((tmp_path / "a.json").read_text())
    assert [sweep["dataset"] for sweep in sidecar["sweeps"]] == ["helix-r3", "spirals"]
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".json", ".journal", ".svg"}
    with pytest.raises(InputError, match="exists: give --resume to go on"):
        sweep_many(data, out=tmp_path / "a.csv", **SETTINGS)


def test_it_goes_on_or_begins_anew(data, tmp_path, monkeypatch):
    first = sweep_many(data, out=tmp_path / "a.csv", **SETTINGS)
    again = sweep_many(data, out=tmp_path / "a.csv", resume=True, **SETTINGS)
    # Even the durations are those in the journal: no cell was computed again.
    pd.testing.assert_frame_equal(joint_table(first), joint_table(again))
    other = SETTINGS | {"batch_size": 16}
    with pytest.raises(InputError, match="batch_size=32, now 16"):
        sweep_many(data, out=tmp_path / "a.csv", resume=True, **other)
    anew = sweep_many(data, out=tmp_path / "a.csv", overwrite=True, **other)
    assert joint_table(anew)["batch_size"].unique().tolist() == [16]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": []}, "data is empty: give at least one data set"),
        ({"data": [np.eye(40), np.eye(40)]}, "'array' and 'array' are both called 'array' in the"),
        ({"out": "a.txt"}, "unknown ending of the output '.txt'"),
        ({"plot": "a.gif"}, "unknown ending of the output '.gif'"),
        ({"resume": True}, "--resume goes with --out and without --overwrite: name the run's"),
        ({"out": "there.csv", "resume": True}, "has no journal 'there.journal' to go on from"),
        ({"out": "there.csv", "sources": ["there.csv"], "overwrite": True}, "is an input, too"),
        ({"dask": "here"}, "dask='here' is no cluster"),
        ({"n_neighbors": 0}, "n_neighbors=0 is too small"),
    ],
)
def test_wrong_use_is_refused_before_any_work(data, change, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("a,b\n1,2\n")
    monkeypatch.setattr(Sweep, "run", lambda *a, **k: pytest.fail("work has begun"))
    with pytest.raises(InputError, match=message):
        sweep_many(**{"data": data, **SETTINGS, **change})
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]


def test_what_a_lost_journal_held_is_in_the_error(data, tmp_path, monkeypatch):
    whole = Sweep.run

    def lose_it(self, *, journal, **kwargs):
        result = whole(self, journal=journal, **kwargs)
        journal.path.unlink()
        raise OSError(f"no room after {len(result.rows)} cells")

    monkeypatch.setattr(Sweep, "run", lose_it)
    with pytest.raises(JournalLost, match=r"a\.journal' is gone") as caught:
        sweep_many(data, out=tmp_path / "a.csv", **SETTINGS)
    assert caught.value.to_frame()["dataset"].tolist() == ["helix-r3"] * 4
    # If the journal still exists, the original error is raised.
    monkeypatch.setattr(many, "save_sweep", lambda *_: (_ for _ in ()).throw(OSError("full")))
    monkeypatch.setattr(Sweep, "run", whole)
    with pytest.raises(OSError, match=r"^full$"):
        sweep_many(data, out=tmp_path / "b.csv", **SETTINGS)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_round_trip(tmp_path, data, ending):
    result = zm.sweep_id(data[0], **SETTINGS)
    path = tmp_path / f"run.{ending}"
    written = save_sweep([result, result], path)
    read = pd.read_parquet(path) if ending == "parquet" else read_csv(path)
    pd.testing.assert_frame_equal(read, written)
    assert len(read) == 8
    settings = json.loads((tmp_path / "run.json").read_text())
    assert settings["sweeps"] == [result.settings, result.settings]
    assert {p.name for p in tmp_path.iterdir()} == {"run.json", f"run.{ending}"}
