"""Every reader of files against real files that were damaged, thousands of times.

A reader may return what the file holds or raise InputError. It may not raise anything else, warn,
hang, allocate more than 1 GiB, run code from the file or write anywhere.

The ordinary suite tries a few cases of each kind; `make fuzz` tries more than 100,000.
"""

from __future__ import annotations

import ast
import codecs
import contextlib
import gzip
import io
import json
import mmap
import os
import re
import resource
import signal
import sqlite3
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
import zmanifold as zm
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from zmanifold._base.errors import InputError
from zmanifold._base.files import write_json
from zmanifold._base.provenance import environment
from zmanifold.datasets.load import Dataset
from zmanifold.sweep.journal import Journal
from zmanifold.training import Training, checkpoints, load_training, train

from trainings import content_of_0_1_0

LONG_RUN = settings.get_current_profile_name() == "fuzz"
RESULTS = Path(__file__).parents[2] / "experiments" / "results" / "fuzz.json"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")

SECONDS = 10
MEMORY = 2**30

# Journals are synced to disk: a file system in memory where there is one.
SHARED_MEMORY = Path("/dev/shm")


# --- real files -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Seed:
    """A real file, where it lies, and what reads it.

    A container is taken apart, too: `join` makes it anew, with right checksums, of parts that
    were damaged.
    """

    file: str
    whole: bytes
    read: Callable[[Path], object]
    parts: Mapping[str, bytes] = field(default_factory=dict)
    join: Callable[[Mapping[str, bytes]], bytes] | None = None
    beside: Mapping[str, bytes] = field(default_factory=dict)
    twice: bool = False

    def write(self, folder, content):
        path = folder / self.file
        path.write_bytes(content)
        if self.twice:
            path.with_stem(f"{path.stem}-again").write_bytes(content)
        return path


def npy_bytes(x, layout=(1, 0)):
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.lib.format.write_array(stream, np.asanyarray(x), version=layout)
    return stream.getvalue()


def npy_parts(content, name=""):
    end = content.index(b"\n") + 1
    return {f"{name}header": content[10:end].rstrip(), f"{name}data": content[end:]}


def npy_joined(parts, name=""):
    header = parts[f"{name}header"][:60_000]
    length = len(header).to_bytes(2, "little")
    return b"\x93NUMPY\x01\x00" + length + header + parts[f"{name}data"]


RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4))
COUNTS = RNG.integers(0, 100, (6, 4))
TEXT = np.array(["cat", "dog", "cat", "ant", "dog", "ant"])
PIXELS = RNG.integers(0, 256, (6, 4, 5), dtype=np.uint8)
RECORDS = np.zeros(6, [("a", "<f8"), ("b", "<i4")])


def npy_seeds():
    arrays = [
        X,
        np.asfortranarray(X.astype(np.float32)),
        X.astype(">f4"),
        X.astype(np.float16),
        X.astype(np.longdouble),
        X + 1j,
        X > 0,
        PIXELS,
        PIXELS[:, None].repeat(3, 1),
        COUNTS.astype(np.int16),
        COUNTS.astype(">u8"),
        X.astype("<U9"),
        COUNTS.astype("M8[s]"),
        RECORDS,
        np.array([[{"a": 1}, None], [2, 3]], dtype=object),
    ]
    files = [npy_bytes(x) for x in arrays] + [npy_bytes(X, (2, 0)), npy_bytes(X, (3, 0))]
    return [
        Seed("a.npy", content, zm.load_dataset, npy_parts(content), npy_joined) for content in files
    ]


def zipped(members, how=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def npz_joined(parts, names, how):
    return zipped({f"{name}.npy": npy_joined(parts, name) for name in names}, how)


def npz_seeds():
    labels = [
        None,
        np.arange(6),
        TEXT,
        TEXT.astype(">U3"),
        TEXT.astype("S3"),
        np.arange(6) % 2 / 2,
        np.arange(6) > 2,
        RNG.dirichlet([1, 1, 1], 6),
        RNG.dirichlet([1, 1], 6).astype(np.float32),
        TEXT.astype(object),
        RECORDS,
        np.arange(6).astype("m8[s]"),
    ]
    seeds = []
    for y in labels:
        x = PIXELS if y is None else X
        arrays = {"x": x} | ({} if y is None else {"y": y})
        parts = {}
        for name, array in arrays.items():
            parts |= npy_parts(npy_bytes(array), name)
        for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            join = partial(npz_joined, names=list(arrays), how=how)
            seeds.append(Seed("a.npz", join(parts), zm.load_dataset, parts, join))
    return [
        *seeds,
        Seed("a.npz", join(parts, how=zipfile.ZIP_LZMA), zm.load_dataset),
        Seed("a.npz", join(parts, how=zipfile.ZIP_BZIP2), zm.load_dataset),
    ]


def csv_seeds():
    frame = pd.DataFrame(X.round(3), columns=["a", "b", "c", "d"])
    texts = [
        frame.assign(label=TEXT).to_csv(index=False),
        frame.assign(y=np.arange(6)).to_csv(index=False, lineterminator="\r\n"),
        frame.to_csv(index=False, header=False),
        frame.assign(a=COUNTS[:, 0], b=X[:, 0] > 0).to_csv(index=False),
        frame.assign(Target=[None, *TEXT[1:]]).to_csv(index=False),
        frame.assign(a=[2**63, 2**64, -(2**63), 0, 1, 2]).to_csv(index=False, quoting=1),
        '"x\n1","x, 2",class\n1e3,-0x1,"a ""b"""\n nan,inf,ä\n3,1_000,𝛇\n',
        frame.to_csv(sep=";"),
    ]
    files = [text.encode() for text in texts]
    return [
        Seed("a.csv", content, zm.load_dataset)
        for content in [*files, b"\xef\xbb\xbf" + files[0], texts[6].encode("utf-16")]
    ]


def parquet_seeds():
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    labelled = frame.assign(label=TEXT)
    wide = frame.assign(
        a=COUNTS[:, 0].astype(np.int8),
        b=X[:, 0] > 0,
        c=X[:, 0].astype(np.float32),
        d=np.arange(6, dtype=np.uint64),
        y=pd.Categorical(TEXT),
    )
    strange = pa.table(
        {
            "a": pa.array([1, None, 3]),
            "b": pa.array([[1.0], [], None]),
            "c": pa.array([{"k": 1}, None, {"k": 2}]),
            "y": pa.array([0, 1, 2], pa.timestamp("ns", "UTC")),
        }
    )
    halves = pa.table({"a": X[:, 0].astype(np.float16), "b": X[:, 1]})
    made = [(labelled, {"compression": c}) for c in ("none", "snappy", "gzip", "zstd", "brotli")]
    made += [
        (frame, {"compression": "lz4", "data_page_version": "2.0"}),
        (frame, {"use_dictionary": False, "compression": "none"}),
        (frame, {"use_byte_stream_split": True, "use_dictionary": False, "compression": "none"}),
        (labelled.set_index("label"), {}),
        (wide, {"compression": "none", "row_group_size": 2}),
        (wide, {"compression": "none", "write_page_checksum": True}),
        (wide, {"compression": "none", "store_schema": False, "write_statistics": False}),
        (
            wide[["a", "d", "y"]].assign(y=TEXT),
            {
                "use_dictionary": False,
                "compression": "none",
                "column_encoding": {
                    "a": "DELTA_BINARY_PACKED",
                    "d": "DELTA_BINARY_PACKED",
                    "y": "DELTA_BYTE_ARRAY",
                },
            },
        ),
        (pd.DataFrame(np.zeros((3000, 2)), columns=["a", "b"]), {"compression": "none"}),
        (strange, {"compression": "none"}),
        (halves, {"compression": "none"}),
    ]
    seeds = []
    for table, options in made:
        stream = io.BytesIO()
        if isinstance(table, pd.DataFrame):
            table = pa.Table.from_pandas(table)
        pq.write_table(table, stream, **options)
        content = stream.getvalue()
        end = len(content) - 8
        start = end - int.from_bytes(content[end:-4], "little")
        parts = {"pages": content[:start], "footer": content[start:end]}
        seeds.append(Seed("a.parquet", content, zm.load_dataset, parts, parquet_joined))
    return seeds


def parquet_joined(parts):
    length = len(parts["footer"]).to_bytes(4, "little")
    return parts["pages"] + parts["footer"] + length + b"PAR1"


def png_parts(content):
    """Chunks by name and number, those of pixels inflated."""
    parts, at = {}, 8
    while at < len(content):
        size, name = struct.unpack(">I4s", content[at : at + 8])
        body = content[at + 8 : at + 8 + size]
        parts[f"{len(parts)}{name.decode()}"] = zlib.decompress(body) if name == b"IDAT" else body
        at += size + 12
    return parts


def png_joined(parts):
    out = [b"\x89PNG\r\n\x1a\n"]
    for key, body in parts.items():
        name = key[-4:].encode()
        content = name + (zlib.compress(body, 1) if name == b"IDAT" else body)
        out.append(struct.pack(">I", len(content) - 4) + content)
        out.append(struct.pack(">I", zlib.crc32(content)))
    return b"".join(out)


def image_seeds():
    grey = Image.fromarray(RNG.integers(0, 256, (8, 9), dtype=np.uint8))
    colour = Image.fromarray(RNG.integers(0, 256, (8, 9, 3), dtype=np.uint8))
    veiled = colour.convert("RGBA")
    few = colour.quantize(7)
    made = [
        *[(image, "png", {}) for image in (grey, colour, veiled, few, grey.convert("1"))],
        (grey.convert("LA"), "png", {}),
        (few, "png", {"transparency": b"\x00\x80\xff"}),
        (Image.new("I;16", (9, 8), 999), "png", {}),
        (colour, "png", {"save_all": True, "append_images": [veiled.convert("RGB")]}),
        *[(image, "jpg", {}) for image in (grey, colour, colour.convert("CMYK"))],
        (colour, "jpg", {"progressive": True}),
        (few, "gif", {}),
        (few, "gif", {"save_all": True, "append_images": [few.rotate(90)], "transparency": 0}),
        *[(image, "bmp", {}) for image in (grey, colour, few, grey.convert("1"))],
        (grey, "tif", {}),
        (colour, "tif", {"save_all": True, "append_images": [grey]}),
        (grey.convert("1"), "tif", {"compression": "group4"}),
        *[(colour, "tif", {"compression": c}) for c in ("tiff_lzw", "jpeg", "packbits")],
        (few, "tif", {"compression": "tiff_adobe_deflate"}),
        (grey.convert("F"), "tif", {}),
        *[(image, "webp", {}) for image in (colour, veiled)],
        (veiled, "webp", {"lossless": True}),
        (veiled, "webp", {"save_all": True, "append_images": [veiled.rotate(90)]}),
        *[(image, "ppm", {}) for image in (grey, colour, grey.convert("1"))],
    ]
    good = io.BytesIO()
    colour.save(good, "png")
    seeds = []
    names = {"jpg": "jpeg", "tif": "tiff"}
    for number, (image, ending, options) in enumerate(made):
        stream = io.BytesIO()
        image.save(stream, names.get(ending, ending), **options)
        content = stream.getvalue()
        parts, join = (png_parts(content), png_joined) if ending == "png" else ({}, None)
        # The damaged file comes first or last: the first one says how large all are.
        beside = {"a/5.png": good.getvalue(), "b/5.png": good.getvalue()}
        file = f"{'ab'[number % 2]}/{number % 2 * 9}.{ending}"
        seeds.append(Seed(file, content, load_folder, parts, join, beside))
        # Twice the same: whatever size it has now is a common one.
        seeds.append(Seed(f"a/0.{ending}", content, load_folder, parts, join, twice=True))
    plain = b"P3\n# in plain text\n2 2\n255\n" + b"1 2 3 255 0 7\n" * 2
    return [*seeds, Seed("a/0.ppm", plain, load_folder, twice=True)]


def load_folder(path):
    return zm.load_dataset(path.parent.parent)


def idx_bytes(values):
    sizes = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return sizes + values.astype(np.uint8).tobytes()


def gz_joined(parts):
    return gzip.compress(parts["all"], 1)


def load_named(name, path):
    return zm.load_dataset(name, data_dir=path.parent)


def idx_seeds():
    contents = {
        "images-idx3-ubyte": idx_bytes(PIXELS),
        "labels-idx1-ubyte": idx_bytes(np.array([0, 3, 1, 9, 3, 2])),
    }
    seeds = []
    for name in ("mnist", "fashion-mnist"):
        for (file, content), other in zip(contents.items(), [*contents][::-1], strict=True):
            read = partial(load_named, name)
            beside = {f"train-{other}": contents[other]}
            seeds.append(Seed(f"train-{file}", content, read, beside=beside))
            parts = {"all": content}
            packed = gz_joined(parts)
            seeds.append(Seed(f"train-{file}.gz", packed, read, parts, gz_joined, beside))
    return seeds


def cifar_seeds():
    names = "".join(f"class {i}\n" for i in range(10)).encode()
    records = RNG.integers(0, 10, (2, 3073), dtype=np.uint8).tobytes()
    batches = {f"data_batch_{i}.bin": records for i in range(1, 6)} | {"batches.meta.txt": names}
    pairs = {
        "train.bin": RNG.integers(0, 20, (3, 3074), dtype=np.uint8).tobytes(),
        "fine_label_names.txt": b"".join(b"class %d\n" % i for i in range(100)),
    }
    return [
        Seed(
            file,
            content,
            partial(load_named, name),
            beside={other: c for other, c in files.items() if other != file},
        )
        for name, files in (("cifar10", batches), ("cifar100", pairs))
        for file, content in files.items()
    ]


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


# --- damage ---------------------------------------------------------------------------------

NUMBERS = [
    0, 1, 2, 3, 7, 16, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**28, 2**31 - 1, 2**31,
    2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1,
]  # fmt: skip

WORDS = [
    b"-1", b"0", b"1", b"99999999999999999999999", b"2147483648", b"-9223372036854775809", b"1e999",
    b"nan", b"inf", b"None", b"True", b"''", b"()", b"[]", b"{}", b"null", b'"', b",", b"\n", b"\0",
    b"'|O'", b"'V8'", b"'V0'", b"'<U0'", b"'<U9'", b"'S3'", b"'M8[ns]'", b"'m8[7s]'", b"'<f16'",
    b"'<c8'", b"'?'", b"'>u2'", b"'f4,f4'", b"('<f8', (2,))", b"[('a', '<f8'), ('b', '|O')]",
    b"[('a', [('b', '<i8', (2, 2))])]", b"(2, 3)", b"(0, 4)", b"(4, 0, 5)", b"(True, 4)",
    b"(1099511627776, 1099511627776)", b"(-6, -4)", b'__import__("os").system("touch hacked")',
    b"os\nsystem", b"posix system", b"builtins\nbytearray", b"torch\nTensor", b"(" * 99,
    b"[" * 3000, b"0x" + b"f" * 5000, b"label", b"y", b"class", b"2020-01-01",
    b"1" * 5000, b"e" * 300, "ζ".encode(), b"\xff\xfe",
]  # fmt: skip

TOKEN = re.compile(rb"'[<>|=]?\w+'|-?\d+(?:\.\d+)?|\([^()]*\)|\w{2,}|[^\w\s]")


def place(where, size):
    """A place in a file: everywhere alike, or near an end, where headers and tables are."""
    region, at = where % 4, where // 4
    if region == 0:
        return at % min(size, 128)
    if region == 1:
        return size - 1 - at % min(size, 400)
    return at % size


def damage(content, mutations, others):
    """Apply mutations, each three numbers: what, where and with which value."""
    data = bytearray(content)
    for what, where, value in mutations:
        if not data:
            data += b"\x00"
        at = place(where, len(data))
        match what:
            case "flip":
                data[at] ^= 1 << value % 8
            case "byte":
                data[at] = value % 256
            case "field":
                width, order = (2, 4, 8)[value % 3], ("little", "big")[value // 3 % 2]
                number = NUMBERS[value // 6 % len(NUMBERS)]
                data[at : at + width] = (number % 256**width).to_bytes(width, order)
            case "grow":
                width, order = (1, 2, 4, 8)[value % 4], ("little", "big")[value // 4 % 2]
                number = int.from_bytes(data[at : at + width], order)
                number = (number * 256, number + 1, number - 1, -number)[value // 8 % 4]
                data[at : at + width] = (number % 256**width).to_bytes(width, order)
            case "varint":
                end = at + 1
                while end < len(data) and data[end - 1] > 127:
                    end += 1
                number, out = NUMBERS[value % len(NUMBERS)] << value // 64 % 2, []
                while number > 127:
                    out.append(number & 127 | 128)
                    number >>= 7
                data[at:end] = bytes([*out, number])
            case "cut":
                del data[at:]
            case "delete":
                del data[at : at + 1 + value % 40]
            case "insert":
                data[at:at] = value.to_bytes(3, "big") * (1 + value % 5)
            case "repeat":
                data[at:at] = data[at : at + 1 + value % 60] * (1 + value % 50)
            case "splice":
                other = others[value % len(others)]
                start = place(value // 7, max(len(other), 1))
                piece = other[start : start + 1 + value % 200]
                data[at : at + (0 if value % 2 else len(piece))] = piece
            case "word":
                tokens = list(TOKEN.finditer(data, 0, 6000))
                if tokens:
                    token = tokens[where % len(tokens)]
                    data[token.start() : token.end()] = WORDS[value % len(WORDS)]
    return bytes(data)


NUMBER = st.integers(0, 2**24 - 1)
WAYS = [
    "flip", "byte", "field", "grow", "varint", "cut", "delete", "insert", "repeat", "splice",
    "word",
]  # fmt: skip
MUTATION = st.tuples(st.sampled_from(WAYS), NUMBER, NUMBER)
CASE = st.tuples(NUMBER, st.lists(MUTATION, min_size=1, max_size=5))


# --- what a reader may do -------------------------------------------------------------------


class Hang(BaseException):
    """Nothing that a reader catches."""


@dataclass
class Watch:
    """What happens while a reader runs."""

    on: bool = False
    folder: str = ""
    events: list = field(default_factory=list)


WATCH = Watch()

# What reading raises: none of these runs or writes anything.
HARMLESS = {
    "os.listdir", "os.scandir", "object.__getattr__", "object.__setattr__", "object.__delattr__",
    "sqlite3.connect", "sqlite3.connect/handle", "sys._getframe", "code.__new__",
    "builtins.id", "array.__new__",
}  # fmt: skip


def look(event, args):
    """Record what no reader may do; nothing can take an audit hook away again, so it is quiet."""
    if not WATCH.on or event in HARMLESS:
        return
    if event == "open":
        path, _, flags = args
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not writes or str(path).startswith(WATCH.folder):
            return
    if event == "mmap.__new__" and args[2] == mmap.ACCESS_READ:
        return
    # NumPy's headers are literals: parsed, not compiled.
    if event == "compile" and sys._getframe(1).f_code.co_filename == ast.__file__:
        return
    WATCH.events.append(f"{event} {args!r:.200}")


sys.addaudithook(look)

# What is imported when it is needed first would look like code from a file.
for encoding in ("cp437", "latin-1", "utf-16", "raw_unicode_escape", "unicode_escape"):
    codecs.lookup(encoding)
repr(torch.zeros(1))


def out_of_time(*_):
    raise Hang


@contextlib.contextmanager
def watched(folder, memory=MEMORY):
    """Give the block 10 seconds, 1 GiB and nothing to write or run."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, out_of_time)
    WATCH.events, WATCH.folder = [], str(folder)
    # An endless loop in C never comes back to the handler: there the kernel ends the process.
    signal.setitimer(signal.ITIMER_VIRTUAL, 6 * SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, hard))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    WATCH.on = True
    try:
        yield
    finally:
        WATCH.on = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGALRM, handler)


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
    assert declined or not refused_for_memory(error), f"{where}:\n{said}"
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
def test_damaged_files(kind, root, calm):
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
