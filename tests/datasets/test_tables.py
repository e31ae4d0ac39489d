"""Tables as people write them: what is taken for header, index, features and labels."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zmanifold as zm
from zmanifold._base.errors import InputError

H = zm.make_helix(300, random_state=0)[0]
FRAME = pd.DataFrame(H, columns=list("abc"))
SHUFFLED = FRAME.sample(frac=1, random_state=0)


def load(folder, content, name="a.csv", **options):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return zm.load_dataset(path, **options)


def saved(points, **options):
    stream = io.StringIO()
    np.savetxt(stream, points, delimiter=",", **options)
    return stream.getvalue()


# Each gives the helix in 3 dimensions.
HELIX = {
    "y beside x and z": FRAME.set_axis([*"xyz"], axis=1).to_csv(index=False),
    "Y beside X and Z": FRAME.set_axis([*"XYZ"], axis=1).to_csv(index=False),
    "index": pd.DataFrame(H).to_csv(),
    "index and names": FRAME.to_csv(),
    "index alone": pd.DataFrame(H).to_csv(header=False),
    "shuffled index alone": SHUFFLED.to_csv(header=False),
    "0..d-1 as names": pd.DataFrame(H).to_csv(index=False),
    "shuffled index": SHUFFLED.to_csv(),
    "rest of an index": pd.concat([FRAME, FRAME]).reset_index(drop=True).iloc[300:].to_csv(),
    "a mangled name": FRAME.to_csv(index_label="Unnamed: 0"),
    "an index of texts": FRAME.set_axis([f"r{i}" for i in range(300)]).to_csv(),
    "an index of dates": FRAME.set_axis(pd.date_range("2020", periods=300)).to_csv(),
    "a column called index": FRAME.reset_index().to_csv(index=False),
    "a left-behind index": SHUFFLED.to_csv(index_label="__index_level_0__"),
    "savetxt": saved(H, fmt="%.17g"),
    "savetxt with a header": saved(H, fmt="%.17g", header="a,b,c"),
    "savetxt with a header of words": saved(H, fmt="%.17g", header="made by me\nand others"),
    "savetxt without a mark": saved(H, fmt="%.17g", header="a,b,c", comments=""),
    "semicolons": FRAME.to_csv(index=False, sep=";"),
    "semicolons and decimal commas": FRAME.to_csv(index=False, sep=";", decimal=","),
    "tabs and decimal commas": FRAME.to_csv(index=False, sep="\t", decimal=","),
    "decimal commas without names": FRAME.to_csv(index=False, sep=";", decimal=",", header=False),
    "bars": FRAME.to_csv(index=False, sep="|"),
    "spaces": FRAME.to_csv(index=False, sep=" "),
    "columns of spaces": FRAME.to_string(index=False),
    "spaces and an index": FRAME.to_string(),
    "quoted names": FRAME.to_csv(index=False, quoting=2),
    "years in quotes as names": FRAME.set_axis([*"789"], axis=1).to_csv(index=False, quoting=2),
    "R's write.csv": FRAME.set_axis(range(1, 301)).to_csv(quoting=2),
    "R's write.table": '"a" "b" "c"\n' + FRAME.set_axis(map(str, range(1, 301))).to_csv(
        header=False, sep=" ", quoting=2
    ),
    "CRLF": FRAME.to_csv(index=False, lineterminator="\r\n"),
    "CR": FRAME.to_csv(index=False, lineterminator="\r"),
    "a mark of UTF-8": "\ufeff" + FRAME.to_csv(index=False),
    "trailing separators": FRAME.assign(d="").to_csv(index=False).replace(",d\n", ",\n"),
    "trailing separators of data": FRAME.assign(d="").to_csv(index=False).replace(",d\n", "\n"),
    "rows of separators": FRAME.to_csv(index=False) + ",,\n" * 3,
    "Excel's own line": "sep=;\n" + FRAME.to_csv(index=False, sep=";"),
    "comments": "# one\n" + FRAME.to_csv(index=False).replace("\n", "\n# two, three\n", 1),
    "blank lines": "\n\n" + FRAME.to_csv(index=False) + "\n",
    "equal names": FRAME.set_axis(["a", "a", "b"], axis=1).to_csv(index=False),
    "a target of real values": FRAME.set_axis(["a", "b", "target"], axis=1).to_csv(index=False),
}  # fmt: skip


@pytest.mark.parametrize("content", HELIX.values(), ids=HELIX)
def test_the_helix(tmp_path, content):
    loaded = load(tmp_path, content)
    assert loaded.points.shape == (300, 3)
    assert loaded.labels is None
    digits = 4e-6 if "0.00000" in content or content.lstrip().startswith("a ") else 0
    shuffled = np.array_equal(loaded.points, SHUFFLED)
    if not shuffled:
        np.testing.assert_allclose(loaded.points, H, rtol=1e-5 if digits else 1e-15, atol=digits)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_byte_order_marks(tmp_path, encoding):
    loaded = load(tmp_path, "a,b,label\n1,2,é\n3,4,ζ\n".encode(encoding))
    np.testing.assert_array_equal(loaded.points, [[1, 2], [3, 4]])
    assert loaded.class_names == ("é", "ζ")


def test_other_endings(tmp_path):
    tabs = b"a\tb\ty\n1\t2\tu\n3\t4\tv\n"
    for name, content in (
        ("a.tsv", tabs),
        ("a.TSV", tabs),
        ("a.tsv.gz", gzip.compress(tabs)),
        ("a.csv.gz", gzip.compress(tabs.replace(b"\t", b","))),
    ):
        loaded = load(tmp_path, content, name)
        np.testing.assert_array_equal(loaded.points, [[1, 2], [3, 4]])
        assert loaded.class_names == ("u", "v")
        assert loaded.name == "a"
    with pytest.raises(InputError, match=r"unpacks to more than 67108864 bytes"):
        load(tmp_path, gzip.compress(b"1,2\n" * 2**25), "a.csv.gz")
    with pytest.raises(InputError, match=r"is damaged"):
        load(tmp_path, gzip.compress(tabs)[:-9], "a.csv.gz")


def test_a_first_row_that_repeats_a_value_is_no_header(tmp_path):
    points = np.array([[0, 0, 5], [1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(load(tmp_path, saved(points)).points, points)
    np.testing.assert_array_equal(load(tmp_path, "0,0,5\n1,2,3\n4,5,6\n").points, points)


@pytest.mark.parametrize(
    ("content", "points", "names"),
    [
        ("a, b, label\n1, 2, 0\n3, 4, 1\n", [[1, 2], [3, 4]], ("0", "1")),
        ("a,b,label\n1,2,NA\n3,4,US\n", [[1, 2], [3, 4]], ("NA", "US")),
        ("a,b,label\n1,2,None\n3,4,null\n5,6,nan\n7,8,u\n", None, ("None", "nan", "null", "u")),
        ("a,Label \n1, cat\n2,cat\n", [[1], [2]], ("cat",)),
        ("x,y,label\n1,2,0\n2,2.5,1\n", [[1, 2], [2, 2.5]], ("0", "1")),
        ("x,y\n1,0\n2,1\n5,0\n", [[1], [2], [5]], ("0", "1")),
        ("a,y\n1,0.0\n2,1.0\n", [[1], [2]], ("0", "1")),
        ("0,1,label\n1,2,u\n3,4,v\n", [[1, 2], [3, 4]], ("u", "v")),
        (",0,1,label\n0,1,2,u\n1,3,4,v\n", [[1, 2], [3, 4]], ("u", "v")),
        ("# a,label\n1,u\n2,v\n", [[1], [2]], ("u", "v")),
        ("a;label\n1,5;u\n-,5;v\n1.234,5;v\n", [[1.5], [-0.5], [1234.5]], ("u", "v")),
        ('a,b,y\n"1,234","2,345.5",u\n"-1,111,222",3,v\n', [[1234, 2345.5], [-1111222, 3]], None),
        ('"V1" "V2" "y"\n"r1" 1.5 2 "a b"\n"r2" 3 4 "c"\n', [[1.5, 2], [3, 4]], ("a b", "c")),
        ("a,b,\n1,2,\n3,4,\n", [[1, 2], [3, 4]], None),
        ("1,2,\n3,4,\n", [[1, 2], [3, 4]], None),
        ("0\n1.5\n2\n", [[1.5], [2]], None),
        ("0\n1\n2\n", [[0], [1], [2]], None),
        ("0,1\n1,0\n1,1\n", [[1, 0], [1, 1]], None),
        ("id,b\n3,5\n9,6\n", [[3, 5], [9, 6]], None),
        ("a,b,\n1,7,0\n3,8,1\n", [[1, 7], [3, 8]], None),
        (",a,b\n1.0,7,0\n0.0,8,1\n", [[7, 0], [8, 1]], None),
        # An index is none where nothing else is left.
        ("id,label\n0,2\n1,3\n", [[0], [1]], ("2", "3")),
        ("a,y\n1,True\n2,False\n", [[1], [2]], ("False", "True")),
        ('a,label\n1,"C#\n#1"\n# no\n2,C#\n', [[1], [2]], ("C#", "C#\n#1")),
    ],
)  # fmt: skip
def test_small_tables(tmp_path, content, points, names):
    loaded = load(tmp_path, content)
    if points is not None:
        np.testing.assert_array_equal(loaded.points, points)
    if names is not None:
        assert loaded.class_names == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,,3\n4,5,6\n7,8,9\n", r"1 NaN or inf, the first is nan at row 0, column 1, where rows"),
        ("a,b\n1,2\n# no\n3,\n", r"the first is nan at row 1, column 1 \('b'\)"),
        (",a\n0,1\n1,NA\n", r"the first is nan at row 1, column 1 \('a'\)"),
        ("a,b\n1,2\n3,inf\n", r"the first is inf at row 1"),
        ("a,label\n1,NA\n2,nan\n", r"y holds nan as label in row 0|missing label"),
        ("a,label\n1,\n2,u\n", r"1 missing label\(s\), the first in row 0"),
        ("date,a\n2020-01-01,2\n2020-01-02,5\n", r"not numbers \(date\): .* with label_column, or"),
        ("5.1,3.5,u\n4.9,3.0,u\n6,3,v\n", r"not numbers \(column 2\)"),
        ("a\tb\n1,234\t2,345\n", "'1,234', which may have a decimal comma or be above a thousand"),
        ("a;b\n1.5;2,5\n4;5,5\n", "decimal commas but '1.5', too"),
        (",a\n0,1\n1,2\n0,3\n", "a first column without a name, of whole numbers that repeat"),
        ("label,label\n1,2\n", "label columns label, label: keep one, or name it with label_col"),
        ("a,b\n1,2,3\n4,5,6\n", "header has 2 fields but its first line of data 3, separated by a"),
        ("a,b\n1,2\n3,4,5\n", r"is not a .csv table \(.*(more than 2|Expected 2) fields"),
        ("a,b\0\n1,2\n", "holds zero bytes"),
        ("a,b\n1,2\n".encode("utf-16")[2:], "holds zero bytes"),
    ],
)  # fmt: skip
def test_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path, content)
    assert str(caught.value).isprintable()


TABLE = "a,b,c,q\n1,2,3,0\n4,5,6,1\n"


@pytest.mark.parametrize(
    ("options", "points", "names"),
    [
        ({"label_column": "q"}, [[1, 2, 3], [4, 5, 6]], ("0", "1")),
        ({"label_column": "Q", "features": "c,a"}, [[3, 1], [6, 4]], ("0", "1")),
        ({"label_column": -1, "features": ["a", 2]}, [[1, 3], [4, 6]], ("0", "1")),
        ({"features": "0:3"}, [[1, 2, 3], [4, 5, 6]], None),
        ({"features": ":2", "label_column": "3"}, [[1, 2], [4, 5]], ("0", "1")),
    ],
)
def test_overruled(tmp_path, options, points, names):
    loaded = load(tmp_path, TABLE, **options)
    np.testing.assert_array_equal(loaded.points, points)
    assert loaded.class_names == names
    parquet = tmp_path / "a.parquet"
    pd.read_csv(tmp_path / "a.csv").assign(day=pd.Timestamp(0)).to_parquet(parquet)
    if "features" in options and options.get("label_column") != -1:
        np.testing.assert_array_equal(zm.load_dataset(parquet, **options).points, points)


def test_a_header_that_is_overruled(tmp_path):
    numbers = "0,1\n1.5,2\n3,4\n"
    assert load(tmp_path, numbers).points.shape == (2, 2)
    assert load(tmp_path, numbers, header=False).points.shape == (3, 2)
    loaded = load(tmp_path, "1999,2000\n1,2\n3,4\n", header=True, features=["2000"])
    assert loaded.points.tolist() == [[2], [4]]
    # An index by name can be a feature by wish, and so can a target.
    table = "index,target\n0,0.5\n1,0.7\n2,0.9\n"
    assert load(tmp_path, table, features="index,target").points.shape == (3, 2)
    assert len(load(tmp_path, table, label_column="target").class_names) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_column": "z"}, "has no column 'z' for label_column: its columns are a, b, c, q"),
        ({"features": "a,z"}, "has no column 'z' for features: its columns are a, b, c, q"),
        ({"features": "1:9"}, "range '1:9' for the 4 columns"),
        ({"features": " , "}, "features is empty"),
        ({"features": "a", "label_column": "a"}, "label_column='a' among the features"),
        ({"resize": (8, 8)}, r"resize=\(8, 8\) is given for .*a.csv, but a .csv table takes label"),
        ({"x": "emb"}, "x='emb' is given for"),
        ({"resize": "8"}, "resize='8' is no size"),
        ({"resize": (0, 8)}, "resize's height=0 is too small"),
    ],
)
def test_wrong_use(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        load(tmp_path, TABLE, **options)
    with pytest.raises(InputError, match="digits, but a data set of that name takes no such"):
        zm.load_dataset("digits", header=True)


def parquet(folder, table, **options):
    table = table if isinstance(table, pa.Table) else pa.table(table)
    pq.write_table(table, folder / "a.parquet")
    return zm.load_dataset(folder / "a.parquet", **options)


def test_parquet_of_others(tmp_path):
    """As polars, DuckDB and Hugging Face leave tables: without the notes of pandas."""
    bare = pa.Table.from_pandas(SHUFFLED).replace_schema_metadata(None)
    loaded = parquet(tmp_path, bare)
    np.testing.assert_array_equal(loaded.points, SHUFFLED)
    assert loaded.read.index == ("__index_level_0__",)
    decimals = pa.table({"a": pa.array([1, 2]).cast(pa.decimal128(21, 2)), "b": [0.5, 1]})
    np.testing.assert_array_equal(parquet(tmp_path, decimals).points, [[1, 0.5], [2, 1]])
    coded = pa.table({"a": pa.array([3, 4, 3]).dictionary_encode(), "b": [0.5, 1, 2]})
    np.testing.assert_array_equal(parquet(tmp_path, coded).points, [[3, 0.5], [4, 1], [3, 2]])
    FRAME.iloc[:3].assign(label=[*"uvu"]).set_index("label").to_parquet(tmp_path / "b.parquet")
    loaded = zm.load_dataset(tmp_path / "b.parquet")
    assert loaded.class_names == ("u", "v")
    assert loaded.points.shape == (3, 3)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(H[:5].tolist()),
        pa.array(H[:5].tolist(), pa.large_list(pa.float64())),
        pa.array(H[:5].tolist(), pa.list_(pa.float64(), 3)),
    ],
)
def test_parquet_of_lists(tmp_path, column):
    loaded = parquet(tmp_path, {"id": range(5), "emb": column, "label": [*"abcab"]})
    np.testing.assert_array_equal(loaded.points, H[:5])
    assert loaded.class_names == ("a", "b", "c")
    assert loaded.read.index == ("id",)
    loaded = parquet(tmp_path, {"n": H[:5, 0], "emb": column}, features=["emb"])
    np.testing.assert_array_equal(loaded.points, H[:5])
    sliced = pa.table({"emb": column}).slice(2)
    np.testing.assert_array_equal(parquet(tmp_path, sliced).points, H[2:5])


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[1.0, 2], [1.0]], "lists of 2 and 1 numbers in column 'e', the first other one at row 1"),
        ([[1.0, 2], None], "no list in column 'e' at row 1"),
        ([[1.0, 2], [None, 2.0]], "a missing number in column 'e' at row 1"),
        ([[], []], "lists of 0 numbers|neither numbers"),
        ([["a"], ["b"]], r"neither numbers nor text \(e\)"),
        ([[[1.0]], [[2.0]]], r"neither numbers nor text \(e\)"),
        ([[1.0, np.nan], [1.0, 2]], r"first is nan at row 0, column 1 \('e\[1\]'\)"),
    ],
)
def test_lists_that_are_no_points(tmp_path, lists, message):
    with pytest.raises(InputError, match=message):
        parquet(tmp_path, {"e": lists})


def test_what_was_read_is_said(tmp_path):
    content = "# by me\n,a,b,species\n" + "".join(f"{i},{i}.5,2,{'uv'[i % 2]}\n" for i in range(5))
    read = load(tmp_path, content, label_column="species").read
    path = tmp_path / "a.csv"
    assert str(read) == (
        f"{path}: a table with a header; index: column 0 (unnamed); features (2): a, b; labels: "
        "species (2 classes: u, v). Skipped: 1 line of comments."
    )
    assert read.to_dict() == {
        "source": str(path), "kind": "table", "header": True, "index": ["column 0 (unnamed)"],
        "features": ["a", "b"], "labels": "species", "classes": ["u", "v"],
        "skipped": ["1 line of comments"], "notes": [],
    }  # fmt: skip
    hostile = load(tmp_path, "a,\x1b[31mb,label\n1,2,\x1b]0;u\n3,4,v\n").read
    assert str(hostile).isprintable()
    assert r"\x1b[31mb" in str(hostile)
