from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import zmanifold as zm
from zmanifold._base.errors import InputError
from zmanifold.datasets import Dataset
from zmanifold.plotting import sweep_figure
from zmanifold.sweep import cells, flagged_cells
from zmanifold.sweep.journal import Journal

from processes import (
    cells_in,
    go_on,
    limited_files,
    shell,
    table_in,
    whole_table,
)

X = zm.make_helix(300, random_state=0)[0]
MIXERS = [None, zm.Mixup(), zm.ZetaMixup(2.0)]


def run(path, data=X, **kwargs):
    settings = {"mixers": MIXERS, "n_neighbors": (8, 20), "seeds": 2} | kwargs
    return zm.sweep_id(data, journal=path, progress=False, **settings)


def numbers(result):
    return result.to_frame().drop(columns="seconds")


def test_a_finished_sweep_is_read_not_computed(tmp_path, monkeypatch):
    first = run(tmp_path / "a.journal")
    monkeypatch.setattr(cells, "search", lambda *a, **k: pytest.fail("computed again"))
    again = run(tmp_path / "a.journal")
    pd.testing.assert_frame_equal(first.to_frame(), again.to_frame())


def test_more_cells_may_join(tmp_path):
    path = tmp_path / "a.journal"
    run(path, mixers=[zm.Mixup()], n_neighbors=8, seeds=1)
    run(path, mixers=[zm.ZetaMixup(2.0)], n_neighbors=20, seeds=[1])
    whole = run(path)
    assert numbers(whole).equals(numbers(run(None)))


@pytest.fixture
def searches(monkeypatch):
    """A list of errors, or None for success, that successive searches raise."""
    planned, done = [], []
    search = cells.search

    def fail_as_planned(*args, **kwargs):
        done.append(kwargs["memory"])
        if planned and (error := planned.pop(0)):
            raise error
        return search(*args, **kwargs)

    monkeypatch.setattr(cells, "search", fail_as_planned)
    return planned, done


def test_an_interrupted_sweep_goes_on(tmp_path, searches):
    path = tmp_path / "a.journal"
    planned, done = searches
    planned += [None, None, None, KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        run(path)
    with Journal(path) as journal:
        assert len(journal.finished("array")) == 3 * 2
    again = run(path)
    assert len(done) == 4 + 3
    assert numbers(again).equals(numbers(run(None)))


def test_a_cell_that_fails_stands_alone(tmp_path, searches):
    planned, done = searches
    planned += [None, np.linalg.LinAlgError("no\nconvergence"), None, RuntimeError()]
    with pytest.warns(RuntimeWarning, match="4 of 12 cells failed, the first with LinAlgError"):
        result = run(tmp_path / "a.journal")
    assert len(result.rows) == 8
    assert [f["reason"] for f in result.failures] == [
        *2 * ["LinAlgError: no convergence"], *2 * ["RuntimeError"]
    ]  # fmt: skip
    assert result.failures[0] == {
        "mixer": "mixup", "gamma": None, "alpha": 1.0, "parameters": '{"alpha": 1.0}',
        "estimator": "FO", "n_neighbors": 8, "seed": 0,
        "reason": "LinAlgError: no convergence",
    }  # fmt: skip
    assert result.settings["failures"] == list(result.failures)
    json.dumps(result.settings, allow_nan=False)
    with Journal(tmp_path / "a.journal") as journal:
        assert len(journal.finished("array")) == 8
        assert sorted(journal.failures("array").values()) == sorted(
            f["reason"] for f in result.failures
        )
    # A resumed run computes the failed cells alone, and leaves no trace of the failure.
    done.clear()
    again = run(tmp_path / "a.journal")
    assert len(done) == 2
    assert numbers(again).equals(numbers(run(None)))
    with Journal(tmp_path / "a.journal") as journal:
        assert journal.failures("array") == {}


def test_one_neighbourhood_size_may_fail(monkeypatch):
    rule = cells.estimate

    def fail(estimator, around):
        if around.indices.shape[1] == 20:
            raise RuntimeError("too wide")
        return rule(estimator, around)

    monkeypatch.setattr(cells, "estimate", fail)
    with pytest.warns(RuntimeWarning, match="6 of 12 cells failed"):
        result = run(None)
    assert {row["n_neighbors"] for row in result.rows} == {8}
    assert {failure["n_neighbors"] for failure in result.failures} == {20}


def test_what_fails_everywhere_is_raised(searches):
    planned, _ = searches
    planned += [ValueError("never")] * 6
    with pytest.raises(ValueError, match="never"):
        run(None)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_halves_the_chunks_and_says_so_once(searches, error):
    planned, done = searches
    planned += [None, error, error, None, error]
    with pytest.warns(ResourceWarning, match="going on with chunks of 32 MiB or less") as said:
        result = run(None, memory_limit=2**26)
    assert len(said) == 1
    assert [memory // 2**20 for memory in done] == [64, 64, 32, 16, 16, 8, 8, 8, 8]
    assert numbers(result).equals(numbers(run(None)))


def test_memory_that_cannot_be_halved_any_more_is_a_failure(searches):
    planned, _ = searches
    planned += [None, *[MemoryError("too much")] * 3]
    with (
        pytest.warns(RuntimeWarning, match="2 of 12 cells failed, the first with MemoryError"),
        pytest.warns(ResourceWarning),
    ):
        run(None, memory_limit=2**25)


def test_a_journal_of_the_first_version_is_read(tmp_path):
    path = tmp_path / "old.journal"
    run(path)
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE failure")
        database.execute("DROP TABLE writer")
        database.execute("PRAGMA user_version = 1")
    with Journal(path) as journal:
        assert len(journal.finished("array")) == 12
        journal.record_failure("array", "a key", "a reason")
        assert journal.failures("array") == {"a key": "a reason"}


@pytest.mark.parametrize(
    "lacking",
    [
        ["id_median", "id_q25", "id_q75", "flags"],
        ["id_median", "id_q25", "id_q75", "flags", "parameters", "estimator"],
    ],
    ids=["a row before there were flags", "a row of 0.1.0"],
)
def test_cells_without_flags_are_kept_and_say_so(tmp_path, monkeypatch, lacking):
    """Such rows are not computed again; a missing flag is not taken for none."""
    path = tmp_path / "old.journal"
    data = zm.load_dataset("digits", n_samples=400)
    first = run(path, data, n_neighbors=8).to_frame()
    with sqlite3.connect(path) as database:
        found = database.execute("SELECT sweep, key, row FROM cell").fetchall()
        for sweep, key, text in found[:4]:
            row = {name: value for name, value in json.loads(text).items() if name not in lacking}
            database.execute(
                "UPDATE cell SET row = ? WHERE (sweep, key) = (?, ?)", (json.dumps(row), sweep, key)
            )
    monkeypatch.setattr(cells, "search", lambda *a, **k: pytest.fail("computed again"))
    result = run(path, data, n_neighbors=8)
    again = result.to_frame()
    old = again["flags"] == "unknown"
    assert old.sum() == 4
    new_columns = ["id_median", "id_q25", "id_q75", "flags"]
    assert again.loc[old, new_columns[:3]].isna().all(axis=None)
    pd.testing.assert_frame_equal(again[~old], first[~old])
    pd.testing.assert_frame_equal(again.drop(columns=new_columns), first.drop(columns=new_columns))
    saturated, unknown = flagged_cells([result])
    assert saturated.startswith("saturated in 2 of 6 cells (the first digits")
    assert unknown == (
        "unknown in 4 of 6 cells (the first digits, none, FO, k = 8, seed 0): an earlier version "
        "measured them, without quartiles and flags: measure them anew (--overwrite, or another "
        "--out)"
    )
    assert sweep_figure(again).legends


def test_a_journal_holds_the_version_and_refuses_others(tmp_path, monkeypatch):
    path = tmp_path / "a.journal"
    first = run(path, seeds=1)
    with sqlite3.connect(path) as database:
        found = database.execute("SELECT sweep, version FROM writer").fetchall()
        assert found == [("array", zm.__version__)]
        # As a journal of 0.1.0, which tells no version: its cells are read.
        database.execute("DELETE FROM writer")
    assert numbers(run(path, seeds=1)).equals(numbers(first))
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO writer VALUES ('array', '9.9.9')")
    with pytest.raises(InputError, match=r"'array' of zmanifold 9\.9\.9, whose numbers may differ"):
        run(path)
    # Another sweep in the same file is none of that version.
    run(path, Dataset(X, None, None, None, "other"), seeds=1)


def test_each_cell_is_on_the_disk(tmp_path):
    with Journal(tmp_path / "a.journal") as journal:
        (level,) = journal._database.execute("PRAGMA synchronous").fetchone()
    assert level == 3  # EXTRA: the file, and the folder in which SQLite's own journal was removed


def test_two_processes_make_one_journal(tmp_path):
    """Two processes open the same empty file: one of them creates the tables."""
    code = "from zmanifold.sweep.journal import Journal; import sys; Journal(sys.argv[1]).close()"
    made = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path / "a.journal"]) for _ in range(8)
    ]
    assert [process.wait() for process in made] == [0] * 8


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
        journal.begin({"a": {}})
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


def cell_with(**values):
    columns = {"sweep": "'digits'", "key": "'a key'", "row": "'{}'"} | values
    return f"INSERT INTO cell ({', '.join(columns)}) VALUES ({', '.join(columns.values())})"


def read_all(path):
    with Journal(path) as journal:
        journal.begin({"digits": {}})
        return journal.finished("digits"), journal.failures("digits")


ENDLESS = "WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t)"


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (
            [cell_with(row="'no JSON'")],
            "is damaged, it holds 'no JSON' instead of settings or a row",
        ),
        ([cell_with(row="'[1]'")], r"is damaged, it holds '\[1\]' instead"),
        ([cell_with(row=f"'{'[' * 99_999}'")], "is damaged"),
        ([cell_with(row=f"'{'1' * 5000}'")], "is damaged"),
        ([cell_with(row="X'7B7D'")], "is damaged, it holds a value that is no text"),
        ([cell_with(key="12.5", row="CAST(X'FF' AS TEXT)")], "cannot be used"),
        ([cell_with(key="X'00'")], "is damaged, it holds a value that is no text"),
        (["INSERT INTO failure VALUES ('digits', 'a key', X'00')"], "a value that is no text"),
        (["UPDATE sweep SET settings = '\"x\"'"], "is damaged, it holds '\"x\"' instead"),
        (["UPDATE sweep SET settings = X'00'"], "is damaged"),
        (["UPDATE sweep SET settings = '{\"\\u000a\": 1}'"], r"holds 'digits' with \?=1, now None"),
        (["PRAGMA user_version = -1"], "has version -1, this program reads up to 3"),
        (["PRAGMA user_version = 1"], "is damaged, it holds other tables than those of version 1"),
        (["DROP TABLE failure"], "other tables than those of version 3"),
        (["CREATE INDEX mine ON cell (row)"], "other tables than those of version 3"),
        # Views and triggers, which would run when a cell is read or written.
        (["DROP TABLE cell", f"CREATE VIEW cell AS {ENDLESS} SELECT i key FROM t"], "other tables"),
        (["CREATE TRIGGER t AFTER INSERT ON cell BEGIN DELETE FROM cell; END"], "other tables"),
        (
            [
                "PRAGMA writable_schema = ON",
                "UPDATE sqlite_master SET sql = 'CREATE TABLE cell (' || CAST(X'FF' AS TEXT)",
            ],
            "cannot be used",
        ),
    ],
)
def test_damaged_journals_are_refused(tmp_path, statements, message):
    path = tmp_path / "a.journal"
    with Journal(path) as journal:
        journal.begin({"digits": {}})
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)
    for _ in range(2):
        with pytest.raises(InputError, match=message) as caught:
            read_all(path)
        assert str(caught.value).isprintable()


def test_a_page_that_is_lost(tmp_path):
    path = tmp_path / "a.journal"
    with Journal(path) as journal:
        journal.begin({"digits": {}})
        for i in range(200):
            journal.record("digits", f"cell {i}", {"id_mean": i})
    content = bytearray(path.read_bytes())
    content[8192:] = bytes(len(content) - 8192)
    path.write_bytes(content)
    with Journal(path) as journal:
        with pytest.raises(
            InputError, match=r"cannot be used \(database disk image is malformed\)"
        ):
            journal.finished("digits")
        with pytest.raises(OSError, match="cannot be written"):
            journal.record("digits", "another cell", {})


def test_a_row_longer_than_sqlite_can_hold(tmp_path):
    path = tmp_path / "a.journal"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA page_size = 512")
        database.execute("VACUUM")
    with Journal(path):
        pass
    content = bytearray(path.read_bytes())
    # The header of an index's row in SQLite's schema table, after the row's length and number.
    start = content.index(bytes([6, 23, 61, 23, 1])) - 2
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be used \(SQLite has no memory for it\): give"):
        Journal(path)


COMMAND = ["sweep-id", "helix-r3", "spirals", "--gamma", "0:3:0.25", "--seeds", "2"]


def test_no_room_for_a_journal(tmp_path):
    full = shell(*COMMAND, "--out", tmp_path / "a.csv", preexec_fn=limited_files(8192))
    out, error = full.communicate()
    assert (full.returncode, out) == (2, "")
    assert "cannot be used" in error
    assert error.endswith("give another name, or make room.\n")


def check_that_it_goes_on(folder, options):
    """A sweep that is stopped and resumed gives the table of an undisturbed one."""
    resumed = shell(*COMMAND, *options, "--out", folder / "a.csv", "--resume")
    _, error = resumed.communicate()
    assert resumed.returncode == 0, error
    pd.testing.assert_frame_equal(table_in(folder / "a.csv"), whole_table(*COMMAND, *options))


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_goes_on_where_it_was(tmp_path, sent):
    options = ["--neighbors", "64", "--n-samples", "3000"]
    stopped = shell(*COMMAND, *options, "--out", tmp_path / "a.csv", stop_after=5)
    go_on(stopped, sent)
    _, error = stopped.communicate()
    assert cells_in(tmp_path / "a.journal") == 5
    if sent != signal.SIGKILL:
        assert stopped.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[sent]
        assert error.count("\n") == 1
        assert "--resume goes on" in error
    check_that_it_goes_on(tmp_path, options)
    assert len(json.loads((tmp_path / "a.json").read_text())["sweeps"]) == 2


def test_a_full_disk_keeps_what_is_finished(tmp_path):
    """A limit on the size of files stands for a full disk: the journal cannot grow."""
    options = ["--neighbors", "8", "--n-samples", "300"]
    limit = limited_files(36 * 1024)
    full = shell(*COMMAND, *options, "--out", tmp_path / "a.csv", preexec_fn=limit)
    _, error = full.communicate()
    assert full.returncode == 1
    assert error.startswith("zmanifold: failed: the journal")
    assert error.endswith("make room and go on; the same command with --resume goes on.\n")
    assert error.count("\n") == 1
    kept = cells_in(tmp_path / "a.journal")
    assert 1 <= kept < 2 * 15 * 2
    assert {path.suffix for path in tmp_path.iterdir()} <= {".journal", ".journal-journal"}
    check_that_it_goes_on(tmp_path, options)
