"""Real files of arrays and tables."""

from __future__ import annotations

import gzip
import io
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zmanifold as zm


@dataclass(frozen=True)
class Seed:
    """A real file, its path, and its reader.

    The parts of a container are also damaged on their own: `join` makes a container of them with
    right checksums.
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
        frame.assign(label=TEXT).to_csv(sep=";", decimal=",", index=False),
        (frame * 12345).round(2).map("{:,}".format).to_csv(index=False),
        "# by me\n# a b label\n" + frame.assign(label=TEXT).to_csv(sep=" ", header=False),
        "sep=\t\n" + frame.assign(e="").to_csv(sep="\t") + "\t" * 5 + "\n",
        frame.to_string(),
    ]
    files = [text.encode() for text in texts]
    files += [b"\xef\xbb\xbf" + files[0], texts[6].encode("utf-16")]
    parts = {"all": files[0]}
    return [
        *[Seed("a.csv", content, zm.load_dataset) for content in files],
        Seed("a.tsv.gz", gz_joined(parts), zm.load_dataset, parts, gz_joined),
    ]


def gz_joined(parts):
    return gzip.compress(parts["all"], 1)


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
    lists = pa.table({"e": [*X.tolist()], "f": pa.array([*X.tolist()], pa.list_(pa.float32(), 4))})
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
        (lists, {"compression": "none"}),
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
