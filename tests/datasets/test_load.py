from __future__ import annotations

import gzip
import io
import pickle
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zmanifold as zm
from PIL import Image
from zmanifold._base.errors import InputError
from zmanifold.datasets import (
    Dataset,
    available_datasets,
    comparable_labels,
    hold_out,
    train_test,
)
from zmanifold.datasets import named as named_sets


def idx(values):
    values = np.asarray(values, np.uint8)
    return (
        struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()
    )


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (6, 4, 5), dtype=np.uint8), np.array([0, 3, 1, 9, 3, 2], np.uint8)


def write_mnist(folder, images, *, gz=False, part="train"):
    folder.mkdir(parents=True, exist_ok=True)
    pixels, labels = images
    for name, values in (
        (f"{part}-images-idx3-ubyte", pixels),
        (f"{part}-labels-idx1-ubyte", labels),
    ):
        if gz:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(values)))
        else:
            (folder / name).write_bytes(idx(values))


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("sub", ["", "mnist", "MNIST/raw"])
def test_mnist_from_idx_files(tmp_path, images, gz, sub):
    write_mnist(tmp_path / sub, images, gz=gz)
    write_mnist(tmp_path / sub, (images[0][:2], images[1][:2]), gz=gz, part="t10k")
    train = zm.load_dataset("mnist", data_dir=tmp_path)
    np.testing.assert_array_equal(train.points, images[0].reshape(6, 20).astype(np.float32) / 255)
    np.testing.assert_array_equal(train.labels, images[1])
    assert train.points.dtype == np.float32
    assert train.labels.dtype == np.int64
    assert train.image_shape == (1, 4, 5)
    assert train.class_names == tuple("0123456789")
    assert len(zm.load_dataset("mnist", data_dir=tmp_path, split="test").points) == 2


def test_the_environment_names_a_folder(tmp_path, images, monkeypatch):
    write_mnist(tmp_path / "fashion-mnist", images)
    monkeypatch.setenv("ZMANIFOLD_DATA", str(tmp_path))
    assert zm.load_dataset("fashion-mnist").class_names[9] == "Ankle boot"
    rows = {row.name: row for row in available_datasets()}
    assert rows["fashion-mnist"].here
    assert rows["fashion-mnist"].where == str(tmp_path / "fashion-mnist")


@pytest.mark.parametrize(("name", "label_bytes"), [("cifar10", 1), ("cifar100", 2)])
def test_cifar_binary(tmp_path, rng, name, label_bytes):
    records = rng.integers(0, 256, (10, label_bytes + 3072), dtype=np.uint8)
    records[:, :label_bytes] %= 10
    source = named_sets._IMAGE_SETS[name]
    folder = tmp_path / source.folders[0]
    folder.mkdir()
    files = source.files["train"]
    for part, file in zip(np.array_split(records, len(files)), files, strict=True):
        part.tofile(folder / file)
    classes = tuple("abcdefghij")
    (folder / "batches.meta.txt").write_text("\n".join(classes) + "\n\n")
    loaded = zm.load_dataset(name, data_dir=tmp_path)
    np.testing.assert_array_equal(loaded.labels, records[:, label_bytes - 1])
    np.testing.assert_allclose(loaded.points * 255, records[:, label_bytes:], atol=1e-4)
    assert loaded.image_shape == (3, 32, 32)
    assert loaded.class_names == (classes if name == "cifar10" else None)


def test_digits():
    loaded = zm.load_dataset("digits")
    assert loaded.points.shape == (1797, 64)
    assert loaded.points.min() == 0
    assert loaded.points.max() == 1
    assert sorted(set(loaded.labels.tolist())) == list(range(10))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("helix-r3", (8192, 3)),
        ("helix-r12", (8192, 12)),
        ("paraboloid-r12", (8192, 12)),
        ("crescents", (512, 2)),
        ("spirals", (512, 2)),
        ("skdim:M7_Roll", (2500, 3)),
        ("skdim:Mbeta", (2500, 40)),
    ],
)
def test_generators_by_name(name, shape):
    first = zm.load_dataset(name, random_state=1)
    assert first.points.shape == shape
    assert first.name == name
    np.testing.assert_array_equal(first.points, zm.load_dataset(name, random_state=1).points)
    assert zm.load_dataset(name, n_samples=40).points.shape == (40, shape[1])


def test_n_samples_draws_without_replacement():
    some = zm.load_dataset("digits", n_samples=500, random_state=0)
    every = zm.load_dataset("digits")
    rows = {row.tobytes(): label for row, label in zip(every.points, every.labels, strict=True)}
    assert len({row.tobytes() for row in some.points}) == 500
    assert all(
        rows[row.tobytes()] == label for row, label in zip(some.points, some.labels, strict=True)
    )


def test_npy(tmp_path, rng):
    for x in (rng.normal(size=(5, 3)), np.asfortranarray(rng.normal(size=(5, 3)).astype(">f4"))):
        np.save(tmp_path / "own.npy", x)
        loaded = zm.load_dataset(tmp_path / "own.npy")
        np.testing.assert_array_equal(loaded.points, x)
        assert loaded.name == "own"
        assert loaded.labels is None
    np.save(tmp_path / "images.npy", rng.random((4, 6, 7)))
    assert zm.load_dataset(str(tmp_path / "images.npy")).image_shape == (1, 6, 7)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, rng, save):
    x, y = rng.normal(size=(5, 2)), np.array(["cat", "dog", "cat", "ant", "dog"])
    save(tmp_path / "own.npz", x=x, y=y)
    loaded = zm.load_dataset(tmp_path / "own.npz")
    np.testing.assert_array_equal(loaded.points, x)
    assert loaded.labels.tolist() == [1, 2, 1, 0, 2]
    assert loaded.class_names == ("ant", "cat", "dog")
    save(tmp_path / "bare.npz", x=x)
    assert zm.load_dataset(tmp_path / "bare.npz").labels is None


def test_tables(tmp_path, rng):
    frame = pd.DataFrame(rng.normal(size=(5, 3)), columns=["a", "b", "c"])
    frame["Label"] = ["u", "v", "u", "u", "v"]
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for ending in ("csv", "parquet"):
        loaded = zm.load_dataset(tmp_path / f"t.{ending}")
        np.testing.assert_allclose(loaded.points, frame[["a", "b", "c"]])
        assert loaded.labels.tolist() == [0, 1, 0, 0, 1]
    np.savetxt(tmp_path / "bare.csv", rng.normal(size=(4, 3)), delimiter=",")
    assert zm.load_dataset(tmp_path / "bare.csv").points.shape == (4, 3)


def test_a_table_of_several_types(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,y\nTrue,0.5,u\nFalse,2,v\n")
    loaded = zm.load_dataset(tmp_path / "t.csv")
    np.testing.assert_array_equal(loaded.points, [[1, 0.5], [0, 2]])


def test_image_folder(tmp_path, rng):
    grey = rng.integers(0, 256, (8, 9), dtype=np.uint8)
    colour = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
    for split in ("train", "test"):
        for name, picture in (("b", grey), ("a", colour)):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            Image.fromarray(picture).save(folder / "1.png")
            (folder / "notes.txt").write_text("not an image")
    loaded = zm.load_dataset(tmp_path, split="test")
    assert loaded.class_names == ("a", "b")
    assert loaded.labels.tolist() == [0, 1]
    assert loaded.image_shape == (3, 8, 9)
    pictures = loaded.points.reshape(2, 3, 8, 9) * 255
    np.testing.assert_allclose(pictures[0], colour.transpose(2, 0, 1), atol=1e-4)
    np.testing.assert_allclose(pictures[1], np.stack([grey] * 3), atol=1e-4)


# --- bad files ------------------------------------------------------------------------------


def npy_bytes(x):
    stream = io.BytesIO()
    np.save(stream, x)
    return stream.getvalue()


def with_shape(shape):
    """A .npy file of 6 floats whose header promises another shape."""
    return npy_bytes(np.zeros((2, 3))).replace(b"(2, 3), ", f"{shape}, ".encode())


def with_type(dtype):
    return npy_bytes(np.zeros((2, 3))).replace(b"'<f8'", dtype.encode())


def zipped(how=zipfile.ZIP_STORED, **members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as archive:
        for name, content in members.items():
            # With its own date, 1980: workers of the tests must see the same bytes.
            member = zipfile.ZipInfo(f"{name}.npy")
            member.compress_type = how
            archive.writestr(member, content)
    return stream.getvalue()


X = np.arange(12.0).reshape(4, 3)
OBJECTS = npy_bytes(np.array([{"a": 1}, None], dtype=object))
CSV = b"a,b\n1,2\n3,4\n"
Y = np.array(["a", "b", "a", "b"])
BOMB = npy_bytes(np.zeros((2, 2**25)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"", "is not a NumPy array file"),
        ("a.npy", b"\x93NUMPY\x01\x00", "is not a NumPy array file"),
        ("a.npy", CSV, "is not a NumPy array file"),
        ("a.npy", npy_bytes(X)[:-8], "is cut short: it promises 96 bytes of data but holds 88"),
        ("a.npy", with_shape((2**40, 2**20)), "is cut short: it promises"),
        ("a.npy", with_shape((-2, -3)), "promises the shape"),
        ("a.npy", OBJECTS, "holds pickled Python objects, which are never loaded"),
        ("a.npy", pickle.dumps(X), "is not a NumPy array file"),
        ("a.npy", npy_bytes(X + 1j), "a: x is complex"),
        ("a.npy", npy_bytes(X.astype(str)), "a: x has dtype <U"),
        ("a.npy", npy_bytes(X * np.nan), "a: x holds 12 NaN or inf"),
        ("a.npy", npy_bytes(X[:1]), "a: x has 1 point"),
        ("a.npy", npy_bytes(X[:0]), "a: x has 0 point"),
        ("a.npy", npy_bytes(X[0]), r"a: x has 1 dimension\(s\)"),
        (
            "a.npy",
            b"\x93NUMPY\1\0" + (9000).to_bytes(2, "little") + b"-" * 9000,
            "header nested too deeply",
        ),
        ("a.npy", b"\x93NUMPY\2\0\xff\xff\xff\xff{", "its header is said to have 4294967295 bytes"),
        ("a.npy", b"\x93NUMPY\1\0\4\0(\n\n ", "is not a NumPy array file"),
        ("a.npy", with_shape((0, 2, 3)), "a: x has 0 point"),
        ("a.npy", with_shape((2**40, 0)), "a: x has 0 feature"),
        ("a.npy", with_shape((2**70, 0)), "promises the shape"),
        ("a.npy", with_shape((2**62, 2**62, 0)), "promises the shape"),
        ("a.npy", with_shape(f"(0x{'f' * 50}, 1)"), "promises the shape"),
        ("a.npy", with_shape((True, 6)), "promises the shape"),
        ("a.npy", npy_bytes(X.reshape((1,) * 60 + (4, 3))), "a: x has 1 point"),
        ("a.npy", with_type("'|V0'"), r"holds values of type \|V0: save numbers"),
        ("a.npy", with_type("'<U0'"), "holds values of type <U0"),
        ("a.npy", with_type("('<f8', (2,))"), "holds values of type"),
        ("a.npy", with_type("[('a', '<f8')]"), "holds values of type"),
        ("a.npy", with_type("'\\8'"), "is not a NumPy array file"),
        ("a.npy", npy_bytes(X.astype("M8[s]")), r"holds values of type datetime64\[s\]"),
        ("a.npy", npy_bytes(np.full((4, 3), np.longdouble("1e4000"))), "a: x holds 12 NaN or inf"),
        ("a.npz", b"PK\x03\x04", "is not a whole .npz file"),
        (
            "a.npz",
            zipped(zipfile.ZIP_LZMA, x=npy_bytes(X)),
            "x.npy is compressed in way 14 of .zip",
        ),
        ("a.npz", zipped(zipfile.ZIP_DEFLATED, x=BOMB), "unpacks to more than 1[0-9]{8} bytes"),
        ("a.npz", zipped(**{"z\n": b"", "\x1b": b""}), r"holds z\?.npy, \?.npy but no array x"),
        (
            "a.npz",
            zipped(x=npy_bytes(X)).replace(b"x.npy", b"\xff.npy"),
            "is not a whole|no array x",
        ),
        (
            "a.npz",
            zipped(x=npy_bytes(X), y=npy_bytes(Y).replace(b"a\0\0\0", b"\xff" * 4)),
            "no text",
        ),
        (
            "a.npz",
            zipped(x=npy_bytes(X), y=npy_bytes(Y).replace(b"a\0\0\0", b"\0\xd8\0\0")),
            "a: y holds labels that are no text",
        ),
        (
            "a.npz",
            zipped(x=npy_bytes(X), y=npy_bytes(np.array([0, np.nan, 1, 2]))),
            "a: y holds nan as label in row 1",
        ),
        ("a.npz", npy_bytes(X), "is not a whole .npz file"),
        ("a.npz", zipped(z=npy_bytes(X)), "holds z.npy but no array x"),
        ("a.npz", zipped(x=OBJECTS), "holds pickled Python objects"),
        ("a.npz", zipped(x=npy_bytes(X), y=OBJECTS), "holds pickled Python objects"),
        ("a.npz", zipped(x=npy_bytes(X), y=npy_bytes(X[:3, 0])), r"y has shape \(3,\) for 4"),
        ("a.npz", zipped(x=with_shape((2**40,))), "is cut short"),
        ("a.npz", zipped(x=npy_bytes(X))[:-30], "is not a whole .npz file"),
        ("a.csv", b"", "is not a .csv table"),
        ("a.csv", b"a,b\n1,2,3\n4,5,6,7,8\n", "is not a .csv table"),
        ("a.csv", b"a,b\n1,x\n2,y\n", r"columns that are not numbers \(b\)"),
        ("a.csv", b"a,y,label\n1,2,3\n4,5,6\n", "label columns y, label: keep one"),
        ("a.csv", b"a,b\n1,\n2,3\n", "NaN or inf"),
        ("a.csv", b"a,b\n1,2,3\n4,5,6\n", "is not a .csv table"),
        ("a.csv", f"a,y\n1,{10**30}\n2,5\n".encode(), "a: y holds integers of more than 64 bits"),
        ("a.csv", b"a,y\n1,u\n2,\n3,v\n", r"a: y holds 1 missing label\(s\), the first in row 1"),
        ("a.csv", b"a,y\n1,5\n2,\n3,6\n", "a: y holds nan as label in row 1"),
        ("a.csv", b"\n" + (b"," * 100_000 + b"\n") * 3, "has 100001 columns, more than the 100000"),
        ("a.csv", b'"a\nb",c\nu,1\nv,2\n', r"columns that are not numbers \(a\?b\)"),
        ("a.csv", "a,ä\n1,2\n".encode("latin-1"), "is not a .csv table"),
        ("a.parquet", CSV, "is not a .parquet table"),
        ("a.parquet", b"PAR1" + b"\xff" * 40 + b"PAR1", "is not a .parquet table"),
        (
            "a.txt",
            CSV,
            "ends in '.txt': files end in .npy, .npz, .csv, .csv.gz, .tsv, .tsv.gz, .parquet",
        ),
    ],
)
def test_bad_file(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        zm.load_dataset(path)
    assert str(caught.value).isprintable()


def test_a_header_of_python_2(tmp_path):
    (tmp_path / "a.npy").write_bytes(with_shape("(2L, 3L)"))
    assert zm.load_dataset(tmp_path / "a.npy").points.shape == (2, 3)


def test_truth_values_and_numbers(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a,b\nTrue,2.5\nFalse,4\n")
    np.testing.assert_array_equal(zm.load_dataset(tmp_path / "a.csv").points, [[1, 2.5], [0, 4]])


# --- bad tables -----------------------------------------------------------------------------


def parquet_bytes(columns, **options):
    stream = io.BytesIO()
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    pq.write_table(table, stream, **options)
    return stream.getvalue()


PLAIN = {"compression": "none", "use_dictionary": False}
# A column of zeros is a few bytes a million.
ZEROS = parquet_bytes({"a": np.zeros(2**24), "b": np.zeros(2**24)})


def with_footer(content, old, new):
    """Replace a part of a table's list of columns, whose length is noted behind it."""
    length = int.from_bytes(content[-8:-4], "little") + len(new) - len(old)
    assert content.count(old) == 1
    return content[:-8].replace(old, new) + length.to_bytes(4, "little") + b"PAR1"


PAGE = parquet_bytes({"a": X[:, 0]}, use_dictionary=False, compression="snappy")
LISTED = parquet_bytes({"a": X[:, 0]}, compression="snappy")
HALVES = parquet_bytes({"a": X[:, 0].astype(np.float16)})
# A few bytes make each text as long as the one before.
DELTA = {"use_dictionary": False, "column_encoding": {"y": "DELTA_BYTE_ARRAY"}}
TEXTS = parquet_bytes({"a": range(10_000), "y": ["x" * 50_000] * 10_000}, **DELTA)
# A text that is written once comes in every row.
FEW_TEXTS = parquet_bytes({name: ["x" * 50_000] * 400 for name in "abcd"})
# How 2**31 - 1 is written in a page's header, after the number's own type.
HUGE = b"\x15\xfe\xff\xff\xff\x0f\x15"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ZEROS, "would take 2684[0-9]{5} bytes, more"),
        (TEXTS, "would take more than 67108864 bytes, too many for a file of"),
        (FEW_TEXTS, "would take 80[0-9]{6} bytes, more than 67108864 for a file of"),
        # The size of an unpacked page, and how many values the others refer to.
        (PAGE.replace(b"\x15\x4c\x15", HUGE, 1), "Page was smaller"),
        (LISTED.replace(b"\x4c\x15\x08\x15", b"\x4c" + HUGE, 1), "would take more than 67108864"),
        # How many bytes a number has.
        (
            with_footer(HALVES, b"\x15\x0e\x15\x04\x15", b"\x15\x0e" + HUGE),
            "neither numbers nor text",
        ),
        (PAGE.replace(b"\x16\x08\x19\x1c", b"\x16\x0a\x19\x1c"), "number of rows is not that"),
        # pyarrow would end the process: the histogram of levels is that of an optional column.
        (parquet_bytes({"a": X[:, 0]}).replace(b"\x25\x02", b"\x25\x00"), "cannot be read"),
        (
            parquet_bytes({"a": [1, 2], "y": ["qq", "q"]}, **PLAIN).replace(b"qq", b"\xff\xff"),
            "table",
        ),
        (
            parquet_bytes({"a": [1, 2]})[:-5] + b"\x7fPAR1",
            "smaller than the size reported",
        ),
        (parquet_bytes({"a": [1, 2]})[:-4] + b"PARE", "cannot be read"),
        (b"PAR1\x19\x5c\x05\0\0\0PAR1", "deserialize thrift: No more data"),
        (b"PAR1" + b"\x1c" * 20_000 + (20_000).to_bytes(4, "little") + b"PAR1", "depth limit"),
        (parquet_bytes({"a": [{"k": 1}, {"k": 2}]}), r"neither numbers nor text \(a\)"),
        (parquet_bytes({"a": X[:, 0], "b": pa.array([0] * 4, pa.timestamp("s", "UTC"))}), r"\(b\)"),
        (parquet_bytes(pa.table({"a": X[:, 0]}).replace_schema_metadata({"pandas": "{"})), "not a"),
    ],
)
def test_bad_parquet(tmp_path, content, message):
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        zm.load_dataset(path)
    assert str(caught.value).isprintable()


def test_a_table_that_just_fits(tmp_path):
    zeros = {name: np.zeros(4_100_000) for name in "ab"}
    (tmp_path / "a.parquet").write_bytes(parquet_bytes(zeros))
    assert zm.load_dataset(tmp_path / "a.parquet").points.shape == (4_100_000, 2)
    texts = {"a": range(1300), "y": ["x" * 50_000] * 1300}
    (tmp_path / "b.parquet").write_bytes(parquet_bytes(texts))
    assert zm.load_dataset(tmp_path / "b.parquet").points.shape == (1300, 1)


def test_an_index_is_no_feature(tmp_path):
    days = pd.date_range("2020-01-01", periods=4, tz="UTC", name="day")
    pd.DataFrame(X, columns=["a", "b", "c"], index=days).to_parquet(tmp_path / "a.parquet")
    np.testing.assert_array_equal(zm.load_dataset(tmp_path / "a.parquet").points, X)


def test_integers_that_may_be_missing(tmp_path):
    frame = pd.DataFrame({"a": pd.array([1, 2, 3], "Int64"), "b": [0.5, 1, 2]})
    frame.to_parquet(tmp_path / "a.parquet")
    np.testing.assert_array_equal(zm.load_dataset(tmp_path / "a.parquet").points, frame)
    frame.loc[1, "a"] = pd.NA
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="NaN or inf, the first is nan at row 1, column 0"):
        zm.load_dataset(tmp_path / "a.parquet")


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_BYTE_ARRAY", None])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_ways_to_write_a_table(tmp_path, encoding, version):
    options = {"data_page_version": version, "row_group_size": 3, "write_page_checksum": True}
    if encoding:
        options |= {"use_dictionary": False, "column_encoding": {"y": encoding}}
    columns = {"a": X[:, 0], "b": [True, False] * 2, "y": Y}
    (tmp_path / "a.parquet").write_bytes(parquet_bytes(columns, **options))
    loaded = zm.load_dataset(tmp_path / "a.parquet")
    np.testing.assert_array_equal(loaded.points, np.c_[X[:, 0], columns["b"]])
    assert loaded.class_names == ("a", "b")
    assert loaded.labels.tolist() == [0, 1, 0, 1]


GOOD_IMAGES = idx(np.zeros((3, 2, 2)))
GOOD_LABELS = idx(np.zeros(3))


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (b"", GOOD_LABELS, "is cut short: it promises 16 bytes"),
        (GOOD_IMAGES[:-1], GOOD_LABELS, "is cut short: it promises 12 bytes of data but holds 11"),
        (GOOD_IMAGES + b"x", GOOD_LABELS, "goes on after the"),
        (
            b"\x00\x00\x0d\x03" + GOOD_IMAGES[4:],
            GOOD_LABELS,
            "does not start as an IDX file of 3-D",
        ),
        (GOOD_LABELS, GOOD_LABELS, "does not start as an IDX file|is cut short"),
        (GOOD_IMAGES, idx(np.zeros(2)), "holds 3 images but"),
        (idx(np.zeros((0, 2, 2))), idx(np.zeros(0)), "holds no values"),
        (
            GOOD_IMAGES[:4] + b"\xff" * 12 + GOOD_IMAGES[16:],
            GOOD_LABELS,
            "is cut short: it promises",
        ),
    ],
)
@pytest.mark.parametrize("gz", [False, True])
def test_bad_idx_files(tmp_path, pixels, labels, message, gz):
    for name, content in (("images-idx3-ubyte", pixels), ("labels-idx1-ubyte", labels)):
        path = tmp_path / f"train-{name}{'.gz' if gz else ''}"
        path.write_bytes(gzip.compress(content) if gz else content)
    with pytest.raises(InputError, match=message):
        zm.load_dataset("mnist", data_dir=tmp_path)


def test_a_bomb_of_images(tmp_path):
    zeros = np.zeros((2**17, 2, 2**9), np.uint8)
    write_mnist(tmp_path, (zeros, zeros[:, 0, 0]), gz=True)
    with pytest.raises(InputError, match="unpacks to more than 67108864 bytes"):
        zm.load_dataset("mnist", data_dir=tmp_path)


def test_labels_without_a_name(tmp_path, images):
    write_mnist(tmp_path, (images[0], images[1] + 1))
    with pytest.raises(
        InputError, match="holds label 10 but 'mnist' has 10 classes: get its files"
    ):
        zm.load_dataset("mnist", data_dir=tmp_path)


def test_a_single_image(tmp_path, images):
    write_mnist(tmp_path / "idx", (images[0][:1], images[1][:1]))
    with pytest.raises(InputError, match="holds a single image: at least 2 are needed"):
        zm.load_dataset("mnist", data_dir=tmp_path / "idx")
    (tmp_path / "folder" / "a").mkdir(parents=True)
    Image.new("L", (4, 4)).save(tmp_path / "folder" / "a" / "1.png")
    with pytest.raises(InputError, match="holds a single image"):
        zm.load_dataset(tmp_path / "folder")


def test_a_file_that_may_not_be_read(tmp_path, images, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    write_mnist(tmp_path, images)
    monkeypatch.setattr(named_sets, "read_idx", refuse)
    with pytest.raises(InputError, match=r"^mnist cannot be read \(.*Permission denied"):
        zm.load_dataset("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("damage", [lambda b: b[:-6], lambda b: b[:30], lambda b: b"not gzip"])
def test_damaged_gzip(tmp_path, images, damage):
    write_mnist(tmp_path, images, gz=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match="is damaged"):
        zm.load_dataset("mnist", data_dir=tmp_path)


def test_bad_cifar(tmp_path):
    (tmp_path / "train.bin").write_bytes(b"\x00" * 3075)
    with pytest.raises(InputError, match="not a whole number of 3074-byte records"):
        zm.load_dataset("cifar100", data_dir=tmp_path)
    (tmp_path / "train.bin").write_bytes(bytes([1, 100]) + b"\x00" * 3072 + b"\x01" * 3074)
    with pytest.raises(InputError, match="holds label 100 but 'cifar100' has 100 classes"):
        zm.load_dataset("cifar100", data_dir=tmp_path)
    (tmp_path / "fine_label_names.txt").write_text("apple\nfish\n")
    with pytest.raises(InputError, match=r"names\.txt has 2 names but 'cifar100' has 100 classes"):
        zm.load_dataset("cifar100", data_dir=tmp_path)


def png_chunk(name, content, length=None):
    size = struct.pack(">I", len(content) if length is None else length)
    return size + name + content + struct.pack(">I", zlib.crc32(name + content))


PNG_START = b"\x89PNG\r\n\x1a\n"
SQUARE = png_chunk(b"IHDR", struct.pack(">2I5B", 4, 4, 8, 0, 0, 0, 0))
LARGE = png_chunk(b"IHDR", struct.pack(">2I5B", 2**12, 2**12 + 1, 8, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PNG_START + LARGE + png_chunk(b"IDAT", b""), "promises 4096 x 4097 pixels, more than the"),
        (
            b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x2f\0\xff\x2f\0",
            "is not a readable image",
        ),
        (b"RIFF\x16\0\0\0WEBPVP8L\x0a\0\0\0\x2f\xff\xff\xff\x0f", "is not a readable image"),
        (
            b"RIFF\x16\0\0\0WEBPVP8 \x0a\0\0\0\0\0\0\x9d\1\x2a\xff\x3f\xff\x3f",
            "is not a readable image",
        ),
        # A format in which reading would start another program.
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", "is not a readable image"),
        (
            PNG_START + SQUARE + png_chunk(b"IDAT", zlib.compress(bytes(9)), 2**32 - 2**29),
            "is not a readable image",
        ),
    ],
)
def test_images_that_promise_too_much(tmp_path, content, message):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=message):
            zm.load_dataset(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_what_pillow_only_warns_of(tmp_path):
    (tmp_path / "a").mkdir()
    few = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).convert("RGB").quantize(4)
    for name in "12":
        few.save(tmp_path / "a" / f"{name}.png", transparency=b"\x00\x80\xff\xff")
    assert zm.load_dataset(tmp_path).image_shape == (3, 4, 4)


def test_bad_images(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="holds no class folders with images"):
        zm.load_dataset(tmp_path)
    Image.new("L", (4, 4)).save(tmp_path / "a" / "1.png")
    Image.new("L", (4, 5)).save(tmp_path / "b" / "1.png")
    with pytest.raises(InputError, match="resize the images to one size"):
        zm.load_dataset(tmp_path)
    (tmp_path / "b" / "1.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match="is not a readable image"):
        zm.load_dataset(tmp_path)
    Image.new("I;16", (4, 4)).save(tmp_path / "b" / "1.png")
    with pytest.raises(InputError, match="more than 8 bits a pixel"):
        zm.load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("fashon-mnist", {}, "unknown data set 'fashon-mnist': did you mean 'fashion-mnist'"),
        ("skdim:M7_Rol", {}, "did you mean 'M7_Roll'"),
        ("digits", {"split": "tset"}, "unknown split 'tset': did you mean 'test'"),
        ("digits", {"split": "test"}, "'digits' has no 'test' split"),
        ("digits", {"n_samples": 1798}, "n_samples=1798 but 'digits' has 1797"),
        ("digits", {"n_samples": 1}, "n_samples=1 is too small"),
        ("nowhere.npy", {}, "'nowhere.npy' does not exist"),
        ("some/where", {}, "'some/where' does not exist"),
        ("mnist", {"data_dir": "/does/not/exist"}, "is not a folder"),
    ],
)
def test_bad_input(name, kwargs, message):
    with pytest.raises(InputError, match=message):
        zm.load_dataset(name, **kwargs)


def test_missing_files_name_the_places_and_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("ZMANIFOLD_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError) as caught:
        zm.load_dataset("cifar10", data_dir=tmp_path)
    for part in (str(tmp_path), "elsewhere", "/usr/share/datasets", "cifar-10-binary.tar.gz"):
        assert part in str(caught.value)


FASHION = named_sets._DEBIAN_FOLDER / "fashion-mnist"


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_debians_fashion_mnist():
    for split, n in (("train", 60_000), ("test", 10_000)):
        loaded = zm.load_dataset("fashion-mnist", split=split)
        assert loaded.points.shape == (n, 784)
        assert np.bincount(loaded.labels).tolist() == [n // 10] * 10
        assert loaded.points.max() == 1


def test_hold_out_keeps_the_shares_of_the_classes():
    data = zm.load_dataset("digits")
    train, test = hold_out(data, 1000, random_state=0)
    assert (len(train.points), len(test.points)) == (1000, 797)
    both = np.concatenate([train.points, test.points])
    np.testing.assert_array_equal(np.unique(both, axis=0), np.unique(data.points, axis=0))
    shares = [np.bincount(part.labels) / len(part.labels) for part in (data, train, test)]
    np.testing.assert_allclose(shares[1], shares[0], atol=2e-3)
    np.testing.assert_allclose(shares[2], shares[0], atol=2e-3)
    again, _ = hold_out(data, 1000, random_state=0)
    np.testing.assert_array_equal(again.points, train.points)


def test_train_test_cuts_or_takes_the_splits(tmp_path, images):
    train, test = train_test("digits", random_state=3)
    cut = hold_out(zm.load_dataset("digits"), round(0.8 * 1797), random_state=3)
    for part, expected in zip((train, test), cut, strict=True):
        np.testing.assert_array_equal(part.points, expected.points)
        np.testing.assert_array_equal(part.labels, expected.labels)
    assert len(train_test("digits", n_train=500)[0].points) == 500
    write_mnist(tmp_path, images)
    write_mnist(tmp_path, (images[0][:2], images[1][:2]), part="t10k")
    train, test = train_test("mnist", data_dir=tmp_path)
    assert (len(train.points), len(test.points)) == (6, 2)
    with pytest.raises(InputError, match="n_train=2 would cut 'mnist', which has a test split"):
        train_test("mnist", n_train=2, data_dir=tmp_path)


def labelled(labels, names):
    return Dataset(np.zeros((len(labels), 3)), np.array(labels), None, names, "x")


def test_labels_that_can_be_compared():
    numbers = labelled([2, 0, 1], None)
    assert comparable_labels(numbers, numbers)[1].tolist() == [2, 0, 1]
    soft = labelled([[0.5, 0.5], [1, 0]], ("0", "1"))
    train_y, test_y = comparable_labels(soft, labelled([1, 0], ("0", "1")))
    np.testing.assert_array_equal(train_y, soft.labels)
    assert test_y.tolist() == [1, 0]
    with pytest.raises(InputError, match="but the test labels are 'cat', 'dog': give the numbers"):
        comparable_labels(soft, labelled([1, 0], ("cat", "dog")))
    with pytest.raises(InputError, match="'x' has no labels: save them as array y"):
        comparable_labels(numbers, Dataset(np.zeros((2, 3)), None, None, None, "x"))


@pytest.mark.parametrize(
    ("labels", "n_train", "message"),
    [
        (
            np.arange(20) % 2,
            1,
            "n_train=1 of 20 samples leaves a part without one of each of the 2",
        ),
        (np.arange(20) % 2, 19, "n_train=19 of 20 samples"),
        (np.arange(20) // 19, 10, r"'x' cannot be cut in two \(.*\): remove classes with a single"),
        (None, 10, "'x' has no hard labels"),
        (np.full((20, 2), 0.5), 10, "'x' has no hard labels"),
    ],
)
def test_hold_out_of_too_little(labels, n_train, message):
    data = Dataset(np.zeros((20, 3)), labels, None, None, "x")
    with pytest.raises(InputError, match=message):
        hold_out(data, n_train, random_state=0)


def test_soft_labels_from_npz(tmp_path):
    soft = np.random.default_rng(0).dirichlet([1, 1, 1], 30)
    np.savez(tmp_path / "soft.npz", x=np.ones((30, 2)), y=soft)
    loaded = zm.load_dataset(tmp_path / "soft.npz")
    np.testing.assert_array_equal(loaded.labels, soft)
    assert loaded.class_names == ("0", "1", "2")
    np.savez(tmp_path / "bad.npz", x=np.ones((30, 2)), y=soft * 2)
    with pytest.raises(InputError, match=r"bad: y holds 30 row.s. that are no soft labels"):
        zm.load_dataset(tmp_path / "bad.npz")
