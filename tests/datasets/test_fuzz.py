"""Every reader of files against real files that were damaged, thousands of times.

A reader may return what the file holds or raise InputError. It may not raise anything else, warn,
hang, allocate more than 1 GiB, run code from the file or write anywhere.

The ordinary suite tries a few cases of each kind; `make fuzz` tries more than 100,000.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import re
import resource
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from zmanifold._base.errors import InputError
from zmanifold._base.files import write_json
from zmanifold._base.provenance import environment
from zmanifold.datasets import Dataset
from zmanifold.datasets.formats import _sandbox
from zmanifold.sweep.journal import Journal
from zmanifold.training import Training, checkpoints, load_training, train

from fuzzing.damage import CASE, damage
from fuzzing.forks import Forks
from fuzzing.images import cifar_seeds, idx_seeds, image_seeds
from fuzzing.tables import RNG, Seed, csv_seeds, npy_seeds, npz_seeds, parquet_seeds, zipped
from fuzzing.watch import WATCH
from trainings import content_of_0_1_0

LONG_RUN = settings.get_current_profile_name() == "fuzz"
RESULTS = Path(__file__).parents[2] / "experiments" / "results" / "fuzz.json"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")

SECONDS = 10
MEMORY = 2**30

# Journals are synced to disk: a file system in memory where there is one.
SHARED_MEMORY = Path("/dev/shm")


# --- real files that this package wrote -------------------------------------------------------

IMAGES = Dataset(
    RNG.random((8, 16)).astype(np.float32), np.arange(8) % 2, (1, 4, 4), None, "images"
)


def as_before(path, **kwargs):
    return train(
        IMAGES, epochs=1, batch_size=4, device="cpu", checkpoint=path, progress=False, **kwargs
    )


def load_checkpoint(path):
    """Load a checkpoint and go on from it, as `zmanifold train --resume` does."""
    try:
        # Weights that were exchanged may make a loss that is no longer finite.
        with contextlib.suppress(FloatingPointError):
            as_before(path, resume=True)
    finally:
        loaded = load_training(path, device="cpu")
    return loaded


def checkpoint_joined(tensors):
    """Write a checkpoint with a right checksum, of settings, history and numbers that may differ.

    The tensors' shapes are those of `tensors`; numbers that are missing are zero.
    """

    def join(parts):
        data, at, made = parts["data"], 0, {}
        for name, tensor in tensors.items():
            part = data[at : at + tensor.nbytes].ljust(tensor.nbytes, b"\0")
            at += tensor.nbytes
            made[name] = torch.frombuffer(bytearray(part), dtype=tensor.dtype).view(tensor.shape)
        metadata = {name: parts[name].decode(errors="replace") for name in ("settings", "history")}
        metadata |= {"format": checkpoints._FORMAT, "version": "0"}
        metadata["sha256"] = checkpoints._checksum(metadata, made)
        return safetensors.torch.save(made, metadata)

    return join


def checkpoint_seeds():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.safetensors")
        as_before(path)
        whole, tensors = path.read_bytes(), safetensors.torch.load_file(path)
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata()
        old = content_of_0_1_0(path)
        torch.save(old, path)
        archive = path.read_bytes()
        torch.save(old, path, _use_new_zipfile_serialization=False)
        legacy = path.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    headed = {"header": whole[8:end], "data": whole[end:]}
    signed = {name: metadata[name].encode() for name in ("settings", "history")}
    signed["data"] = b"".join(tensor.numpy().tobytes() for tensor in tensors.values())
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        parts = {name: opened.read(name) for name in opened.namelist()}
    # The pickle is where sizes, names and types are.
    pickled = next(name for name in parts if name.endswith("/data.pkl"))
    pickle_only = {pickled: parts[pickled]}
    return [
        Seed("a.safetensors", whole, load_checkpoint, headed, checkpoint_headed),
        Seed("a.safetensors", whole, load_checkpoint, signed, checkpoint_joined(tensors)),
        Seed("a.pt", archive, load_checkpoint, parts, zipped),
        Seed("a.pt", archive, load_checkpoint, pickle_only, lambda part: zipped(parts | part)),
        Seed("a.pt", legacy, load_checkpoint),
    ]


def checkpoint_headed(parts):
    return len(parts["header"]).to_bytes(8, "little") + parts["header"] + parts["data"]


SETTINGS = {"n_points": 300, "dtype": "float64", "data": "sha256:00", "alphaFO": 0.05}
ROW = {"id_mean": 6.8, "gamma": float("nan"), "device": "cpu", "seed": 2**60, "mixer": None}


def journal_bytes(*, page_size=512, sql=()):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.journal")
        if page_size:
            with contextlib.closing(sqlite3.connect(path)) as database:
                database.execute(f"PRAGMA page_size = {page_size}")
                database.execute("VACUUM")
        with Journal(path) as journal:
            for name in ("digits", "others"):
                journal.begin({name: SETTINGS})
                for i in range(12):
                    journal.record(name, json.dumps({"k": 8, "seed": i}), ROW | {"seed": i})
                journal.record_failure(name, "a key", "LinAlgError: no convergence")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
            for statement in sql:
                database.execute(statement)
        return path.read_bytes()


JOURNAL_PARTS = {
    "settings": json.dumps(SETTINGS, sort_keys=True).encode(),
    "row": json.dumps(ROW).encode(),
    "reason": b"LinAlgError: no convergence",
    "key": b'{"k": 8, "seed": 0}',
    "sql": b"CREATE TABLE cell (\n sweep TEXT NOT NULL REFERENCES sweep, key TEXT NOT NULL)",
}


def journal_joined(parts):
    """A journal in which texts, and the statements that made the tables, are others."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.deserialize(JOURNAL)

    def value(name):
        try:
            return parts[name].decode()
        except UnicodeDecodeError:
            return parts[name]

    with contextlib.closing(database):
        database.execute("UPDATE sweep SET settings = ? WHERE name = 'digits'", [value("settings")])
        database.execute("UPDATE OR IGNORE cell SET row = ? WHERE rowid = 2", [value("row")])
        database.execute("UPDATE OR IGNORE cell SET key = ? WHERE rowid = 3", [value("key")])
        database.execute("UPDATE failure SET reason = ?", [value("reason")])
        if parts["sql"] != JOURNAL_PARTS["sql"]:
            database.execute("PRAGMA writable_schema = ON")
            database.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'cell'", [value("sql")])
        return database.serialize()


JOURNAL = journal_bytes()


def use_journal(path):
    """Open a journal, read all, and write to it as a sweep does."""
    try:
        with Journal(path) as journal:
            journal.begin({"digits": SETTINGS})
            found = journal.finished("digits"), journal.failures("digits")
            # Writing may fail as a full disk does.
            with contextlib.suppress(OSError):
                journal.record("digits", "new", ROW)
                journal.record_failure("digits", "new", "a reason")
    finally:
        for rest in path.parent.iterdir():
            if rest != path:
                rest.unlink()
    return found


def journal_seeds():
    recursive = "WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t) "
    others = [
        ["DROP TABLE failure", "PRAGMA user_version = 1"],
        ["PRAGMA journal_mode = WAL"],
        ["DROP TABLE cell", f"CREATE VIEW cell AS {recursive} SELECT 'digits' sweep, i key FROM t"],
        ["CREATE TRIGGER t AFTER INSERT ON cell BEGIN DELETE FROM cell; END"],
    ]
    return [
        Seed("a.journal", JOURNAL, use_journal, JOURNAL_PARTS, journal_joined),
        Seed("a.journal", journal_bytes(page_size=0), use_journal),
        *[Seed("a.journal", journal_bytes(sql=sql), use_journal) for sql in others],
    ]


KINDS = {
    "npy": npy_seeds,
    "npz": npz_seeds,
    "csv": csv_seeds,
    "parquet": parquet_seeds,
    "images": image_seeds,
    "idx": idx_seeds,
    "cifar": cifar_seeds,
    "checkpoint": checkpoint_seeds,
    "journal": journal_seeds,
}


# --- what a reader may do -------------------------------------------------------------------


class Hang(BaseException):
    """Nothing that a reader catches."""


# What is imported when it is needed first would look like code from a file.
for encoding in ("cp437", "latin-1", "utf-16", "raw_unicode_escape", "unicode_escape"):
    codecs.lookup(encoding)
repr(torch.zeros(1))


def out_of_time(*_):
    raise Hang


@contextlib.contextmanager
def watched(folder, memory=MEMORY):
    """Give the block 10 seconds of a processor, 1 GiB and nothing to write or run."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, out_of_time)
    WATCH.events, WATCH.folder = [], str(folder)
    # An endless loop in C never comes back to the handler: there the kernel ends the process.
    signal.setitimer(signal.ITIMER_VIRTUAL, 6 * SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, hard))
    # Of a processor: a machine that does other work besides makes no hang.
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    WATCH.on = True
    try:
        yield
    finally:
        WATCH.on = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGPROF, handler)


OUT_OF_MEMORY = re.compile(r"alloc|out of memory|malloc|insufficient memory", re.IGNORECASE)


def refused_for_memory(error):
    """Whether memory ran out, even if a reader has made another error of it."""
    while error is not None:
        if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def check_result(result):
    if isinstance(result, Training):
        assert not result.model.training
        assert {"arch", "image_shape", "n_classes"} <= result.settings.keys()
        assert all(isinstance(row, dict) for row in result.history)
        return
    if isinstance(result, tuple):
        finished, failures = result
        assert all(isinstance(row, dict) for row in finished.values())
        assert all(isinstance(text, str) for text in [*finished, *failures, *failures.values()])
        return
    assert isinstance(result, Dataset)
    points, labels = result.points, result.labels
    assert points.dtype in (np.float32, np.float64)
    assert points.ndim == 2
    n, d = points.shape
    assert n >= 2
    assert d >= 1
    assert np.isfinite(points).all()
    if result.image_shape is not None:
        assert np.prod(result.image_shape) == d
    if labels is not None and labels.ndim == 2:
        assert labels.dtype.kind == "f"
        assert len(labels) == n
        assert (labels >= 0).all()
        np.testing.assert_allclose(labels.sum(axis=1, dtype=np.float64), 1, atol=0.01)
    elif labels is not None:
        assert labels.dtype == np.int64
        assert labels.shape == (n,)
        assert labels.min() >= 0
        if result.class_names is not None:
            assert labels.max() < len(result.class_names)
    for name in result.class_names or ():
        assert isinstance(name, str)
        name.encode()


# These are decoded in a child: where its memory ends, the parent says so in one sentence.
APART = {"parquet", "images"}

TOTALS = {kind: Counter() for kind in KINDS}


def attempt(kind, seed, folder, content):
    """Read one damaged file and judge what the reader did."""
    path = seed.write(folder, content)
    result = error = None
    declined = False
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            with watched(folder):
                result = seed.read(path)
        except (Exception, Hang) as raised:
            error = raised
        if kind == "journal" and refused_for_memory(error):
            # SQLite declines of itself what is beyond the 2 GiB that it ever allocates: then it
            # does so, too, where there is room for that.
            try:
                with watched(folder, 8 * MEMORY):
                    seed.read(seed.write(folder, content))
            except (Exception, Hang) as raised:
                declined = refused_for_memory(raised)
    where = f"{kind}, {seed.file}, {len(content)} bytes"
    said = "".join(traceback.format_exception(error)) if error is not None else ""
    assert error is None or type(error) is InputError, f"{where}:\n{said}"
    assert declined or kind in APART or not refused_for_memory(error), f"{where}:\n{said}"
    assert not WATCH.events, f"{where}: {WATCH.events}"
    assert not warned, f"{where}: {[str(w.message) for w in warned]}"
    if error is None:
        check_result(result)
        TOTALS[kind]["read"] += 1
    else:
        message = str(error)
        assert message.isprintable(), f"{where}: {message!r}"
        assert len(message) < 1500, f"{where}: {message!r}"
        TOTALS[kind]["refused"] += 1


@pytest.fixture(scope="module")
def root():
    parent = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def forks():
    """A child for each file, without the time that it takes to start one."""
    server = Forks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sandbox, "_run", server.run)
        yield server
    server.close()


@pytest.fixture(scope="module")
def calm():
    """Threads of their own would take address space whenever they like."""
    before = torch.get_num_threads(), pa.cpu_count(), pa.io_thread_count()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    yield
    torch.set_num_threads(before[0])
    pa.set_cpu_count(before[1])
    pa.set_io_thread_count(before[2])


@pytest.fixture(scope="module", autouse=True)
def report(request):
    """Write what the long run has done; a run in which something failed leaves no report."""
    clock = time.perf_counter()
    yield
    if LONG_RUN and all(TOTALS.values()) and not request.session.testsfailed:
        made_with = environment()
        packages = ("pyarrow", "pillow", "hypothesis")
        made_with["versions"] |= {name: version(name) for name in packages}
        made_with["versions"]["sqlite"] = sqlite3.sqlite_version
        kinds = {
            kind: {"cases": counts.total(), "read": counts["read"], "refused": counts["refused"]}
            for kind, counts in TOTALS.items()
        }
        content = {
            "cases": sum(counts["cases"] for counts in kinds.values()),
            "kinds": kinds,
            "limits": {"seconds": SECONDS, "bytes": MEMORY},
            "hypothesis_seed": request.config.getoption("--hypothesis-seed"),
            "seconds": round(time.perf_counter() - clock),
            **made_with,
        }
        write_json(RESULTS, content)


RUN = (
    {}
    if LONG_RUN
    else {"max_examples": 150, "derandomize": True, "deadline": None, "database": None}
)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(kind, root, calm, forks):
    seeds = KINDS[kind]()
    folders = []
    for number, seed in enumerate(seeds):
        folder = root / f"{kind}-{number}"
        for name in (*seed.beside, seed.file):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        for name, content in seed.beside.items():
            (folder / name).write_bytes(content)
        folders.append(folder)
        # Undamaged first: what is imported and mapped once for all happens here.
        with contextlib.suppress(InputError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seed.read(seed.write(folder, seed.whole))

    @settings(**RUN)
    @given(CASE)
    def many(case):
        choice, mutations = case
        number, choice = choice % len(seeds), choice // len(seeds)
        seed = seeds[number]
        others = [other.whole for other in seeds]
        if seed.join and choice % 3:
            part = list(seed.parts)[choice // 3 % len(seed.parts)]
            inner = damage(seed.parts[part], mutations, others)
            content = seed.join({**seed.parts, part: inner})
        else:
            content = damage(seed.whole, mutations, others)
        attempt(kind, seed, folders[number], content)

    many()
