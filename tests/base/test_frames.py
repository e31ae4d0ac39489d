from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import zmanifold as zm
from zmanifold._base.arrays import as_points
from zmanifold._base.errors import InputError

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32").astype("float64")
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])

FRAMES = {
    "Float64": FRAME.astype("Float64"),
    "Float32": FRAME.astype("Float32"),
    "Arrow double": FRAME.astype("float64[pyarrow]"),
    "Arrow float": FRAME.astype("float32[pyarrow]"),
    "several": FRAME.astype({"a": "Float64", "b": "float32", "c": "float64[pyarrow]"}),
}


@pytest.mark.parametrize("name", FRAMES)
def test_nullable_and_arrow_columns_are_their_numbers(name):
    points = as_points(FRAMES[name])
    assert str(points.dtype) == ("torch.float32" if name.endswith(("32", "float")) else
                                 "torch.float64")  # fmt: skip
    np.testing.assert_array_equal(points, X)
    np.testing.assert_array_equal(zm.kneighbors(FRAMES[name], 4)[1], zm.kneighbors(X, 4)[1])


@pytest.mark.parametrize("boolean", ["bool", "boolean", "bool[pyarrow]"])
@pytest.mark.parametrize("integer", ["int64", "Int16", "uint8[pyarrow]"])
def test_booleans_and_integers_beside_floats(boolean, integer):
    frame = FRAME.assign(
        b=(FRAME["b"] > 0).astype(boolean), c=(FRAME["c"].abs() * 9).round().astype(integer)
    )
    expected = np.c_[X[:, 0], X[:, 1] > 0, np.abs(X[:, 2] * 9).round()]
    np.testing.assert_array_equal(as_points(frame), expected)
    zm.LocalPCA(n_neighbors=5).fit(frame)


def _missing(dtype):
    frame = FRAME.astype(dtype)
    frame.iloc[4, 1] = pd.NA
    frame.iloc[7, 0] = pd.NA
    return frame


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (_missing("Float64"), "2 missing value.s., the first at row 4, column 'b'"),
        (_missing("float64[pyarrow]"), "2 missing value.s., the first at row 4, column 'b'"),
        (FRAME.assign(b=FRAME["b"] > 0, c=np.where(np.arange(40) == 5, np.nan, 1.0)),
         "1 missing value.s., the first at row 5, column 'c'"),
        (FRAME.astype("Float64").assign(b="x"), r"column 'b' of dtype .*drop\(columns=\['b'\]"),
        (FRAME.assign(a=pd.Timestamp(0)), "column 'a' of dtype datetime64"),
        (FRAME.assign(a=np.nan), "40 NaN or inf, the first is nan at row 0, column 0"),
    ],
)  # fmt: skip
def test_what_is_missing_or_no_number_is_refused_by_its_place(frame, message):
    with pytest.raises(InputError, match=message):
        as_points(frame)
