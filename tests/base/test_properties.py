"""Every function takes points in every form, and refuses the same wrong input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
import zmanifold as zm
from hypothesis import given, settings
from hypothesis import strategies as st
from zmanifold._base.errors import InputError

from pointsets import CONTAINERS, LAYOUTS, SEEDS

LABELS = np.arange(24) % 2
FIXED = np.random.default_rng(0).integers(0, 40, (24, 4)).astype(float)
OPTIONS = {"n_neighbors": 3, "batch_size": 6, "seeds": 1, "progress": False}


def values(result):
    """Return all numbers of a result as arrays."""
    if isinstance(result, (tuple, list)):
        return [array for part in result for array in values(part)]
    if isinstance(result, torch.Tensor):
        return [result.detach().numpy()]
    if hasattr(result, "to_frame"):
        frame = result.to_frame().select_dtypes("number")
        return [frame.drop(columns="seconds", errors="ignore").to_numpy(float)]
    if isinstance(result, zm.LocalPCA):
        return [result.dimension_pw_, np.array(result.n_degenerate_)]
    return [np.asarray(result)]


# Every public function that takes points, wrapped as a function of one array.
TAKERS = {
    "kneighbors": lambda X: zm.kneighbors(X, 3),
    "cosine": lambda X: zm.kneighbors(X, 3, metric="cosine"),
    "LocalPCA": lambda X: zm.LocalPCA(n_neighbors=5).fit(X),
    "local_spectra": lambda X: zm.local_spectra(X, [[0, 1, 2, 3], [4, 5, 6, 7]]),
    "sweep_id": lambda X: zm.sweep_id(X, mixers=[None, zm.ZetaMixup(2.0)], **OPTIONS),
    "sweep_id of a Dataset": lambda X: zm.sweep_id(
        zm.Dataset(X, LABELS, None, None, "d"), mixers=zm.Mixup(), **OPTIONS
    ),
    "vicinity: train_x": lambda X: zm.vicinity(X, LABELS, FIXED, LABELS, n_neighbors=3),
    "vicinity: test_x": lambda X: zm.vicinity(FIXED, LABELS, X, LABELS, n_neighbors=3),
    "mixed_set": lambda X: zm.mixed_set(X, LABELS, zm.Mixup(), batch_size=6),
    "mixed_set_metrics: original_x": lambda X: zm.mixed_set_metrics(X, LABELS, FIXED, LABELS),
    "mixed_set_metrics: mixed_x": lambda X: zm.mixed_set_metrics(FIXED, LABELS, X, LABELS),
}

DTYPES = {
    **{name: lambda X, name=name: X.astype(name) for name in (
        "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
        "uint32", "uint64")},
    **{f"torch.{name}": lambda X, name=name: torch.from_numpy(X).to(getattr(torch, name)) for name
       in ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8",
           "uint16", "uint32", "uint64")},
}  # fmt: skip


def whole_numbers(seed):
    """Points that every type can hold: 24 rows of 4 different numbers, none of them zero."""
    rng = np.random.default_rng(seed)
    return np.array([rng.choice(np.arange(1, 120), 4, replace=False) for _ in range(24)], float)


every = settings(max_examples=max(3, settings().max_examples // 10))


@pytest.mark.parametrize("taker", TAKERS)
@every
@given(SEEDS, st.sampled_from(list(DTYPES)))
def test_every_type_of_number(taker, seed, dtype):
    X = whole_numbers(seed)
    given_x = DTYPES[dtype](X)
    expected, found = TAKERS[taker](X), TAKERS[taker](given_x)
    for a, b in zip(values(expected), values(found), strict=True):
        # Points of narrow types are mixed and measured in float32.
        np.testing.assert_allclose(b, a, rtol=3e-7, atol=3e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_float32_holds_stays_narrow_and_all_else_is_exact(dtype):
    X = DTYPES[dtype](whole_numbers(0))
    bits = int("".join(filter(str.isdigit, dtype)))
    narrow = bits <= 16 or dtype.endswith("float32")
    expected = np.float32 if narrow else np.float64
    for result in (zm.kneighbors(X, 3)[0], zm.mixed_set(X, LABELS, zm.Mixup(), batch_size=6)[0]):
        assert np.asarray(result).dtype == expected
    largest = 2 ** min(bits - 2, 50) if "int" in dtype else 1.0
    step = DTYPES[dtype](np.array([[largest], [largest + 1.0], [0.0]]))
    assert zm.kneighbors(step, 1)[0].tolist() == [[1.0], [1.0], [largest]]


@pytest.mark.parametrize("taker", TAKERS)
@every
@given(SEEDS, st.sampled_from(list(LAYOUTS)), st.sampled_from(["<f8", "<f4", "<i2", "u1"]))
def test_every_layout(taker, seed, layout, dtype):
    X = whole_numbers(seed).astype(dtype)
    given_x = LAYOUTS[layout](X)
    np.testing.assert_array_equal(given_x, X)
    before = given_x.tobytes()
    for a, b in zip(values(TAKERS[taker](X)), values(TAKERS[taker](given_x)), strict=True):
        np.testing.assert_array_equal(b, a)
        assert b.dtype == a.dtype
    assert given_x.tobytes() == before


@pytest.mark.parametrize("taker", TAKERS)
@every
@given(SEEDS, st.sampled_from(list(CONTAINERS)))
def test_every_container(taker, seed, container):
    X = whole_numbers(seed)
    given_x = CONTAINERS[container](X)
    for a, b in zip(values(TAKERS[taker](X)), values(TAKERS[taker](given_x)), strict=True):
        np.testing.assert_array_equal(b, a)


@pytest.mark.parametrize(("n", "d"), [(2, 1), (2, 13), (3, 2)])
def test_the_smallest_sets(n, d):
    X, y = np.arange(n * d, dtype=float).reshape(n, d), np.arange(n) % 2
    distances, indices = zm.kneighbors(X, n - 1)
    assert distances.shape == indices.shape == (n, n - 1)
    assert zm.local_spectra(X, [[0, 1]]).shape == (1, 1)
    assert zm.vicinity(X, y, X[:1], y[:1], n_neighbors=n).class_counts.sum() == n
    mixed, soft = zm.mixed_set(X, y, zm.ZetaMixup(2.0), batch_size=2)
    assert mixed.shape == X.shape
    assert zm.mixed_set_metrics(X, y, mixed, soft, n_neighbors=1).nearest.shape == (n,)
    if n > 2:
        assert zm.LocalPCA(n_neighbors=2).fit(X).dimension_pw_.tolist() == [1] * n
        kwargs = {"n_neighbors": 2, "batch_size": n, "seeds": 1, "progress": False}
        assert zm.sweep_id(X, mixers=None, **kwargs).rows[0]["id_mean"] == 1


@pytest.mark.parametrize("value", [0, 7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_value_held_once(value, dtype):
    """A broadcast array has strides of 0."""
    X = np.broadcast_to(dtype(value), (24, 4))
    T = torch.full((1, 1), float(value), dtype=torch.float64).expand(24, 4)
    for name, take in TAKERS.items():
        if name == "cosine" and value == 0:
            continue
        for a, b in zip(values(take(np.array(X))), values(take(X)), strict=True):
            np.testing.assert_array_equal(b, a)
        for a, b in zip(values(take(T.numpy().copy())), values(take(T)), strict=True):
            np.testing.assert_array_equal(b, a)


# Arrays that are no set of points, and the remedy in the message.
REFUSED = {
    **{f"{form} {kind}": (lambda X, kind=kind, form=form: getattr(
        scipy.sparse, f"{kind}_{form}")(X), r"convert it with \w+\.toarray\(\)")
       for kind in ("csr", "csc", "coo", "lil", "dok", "bsr", "dia") for form in
       ("matrix", "array")},
    "sparse tensor": (lambda X: torch.from_numpy(X).to_sparse(), r"with \w+\.to_dense\(\)"),
    "tensor without values": (lambda X: torch.empty(X.shape, device="meta"), "give its values"),
    "masked": (lambda X: np.ma.masked_greater(X, 30), r"drop or impute what is missing"),
    "complex": (lambda X: X + 1j, r"stack \w+\.real and \w+\.imag"),
    "complex tensor": (lambda X: torch.from_numpy(X) + 1j, r"stack \w+\.real and \w+\.imag"),
    "objects": (lambda X: X.astype(object), r"convert it with np\.asarray\(\w+, dtype=float\)"),
    "text": (lambda X: X.astype(str), r"convert it with np\.asarray\(\w+, dtype=float\)"),
    "dates": (lambda X: X.astype("M8[s]"), r"convert it with np\.asarray\(\w+, dtype=float\)"),
    "frame with text": (lambda X: pd.DataFrame(X).astype({0: str}), r"convert it with np\.asarray"),
    "frame with nothing": (lambda X: pd.DataFrame(X).where(X < 30), "remove or impute them"),
    "ragged": (lambda X: [*X.tolist()[:-1], [1.0]], "give every point the same features"),
    "ragged tensors": (lambda X: torch.nested.as_nested_tensor(
        [torch.ones(3), *torch.from_numpy(X)[1:].float()]), "give every point the same features"),
    "list of tensors": (lambda X: list(torch.from_numpy(X).bfloat16()), r"torch\.stack\(\w+\)"),
    "NaN": (lambda X: np.where(X.max() == X, np.nan, X), "NaN or inf.*: remove or impute them"),
    "inf": (lambda X: np.where(X.max() == X, np.inf, X), "NaN or inf.*: remove or impute them"),
    "half inf": (lambda X: np.where(X.max() == X, -np.inf, X).astype(np.float16), "impute them"),
    "NaN tensor": (lambda X: torch.from_numpy(X).bfloat16() * np.nan, "remove or impute them"),
    "too large a longdouble": (lambda X: X * np.longdouble("1e400"), "remove or impute them"),
    "no rows": (lambda X: X[:0], "give more rows"),
    "one row, no columns": (lambda X: X[:1, :0], "give more (rows|columns)"),
    "no columns": (lambda X: X[:, :0], "give more columns"),
    "a number": (lambda X: 3.0, r"reshape it|give one label"),
    "nothing": (lambda X: None, "convert it"),
    "a name": (lambda X: "digits", "convert it"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("taker", TAKERS)
def test_refused_in_one_sentence_with_the_remedy(taker, kind):
    make, remedy = REFUSED[kind]
    bad = make(FIXED)
    with pytest.raises(InputError, match=remedy) as caught:
        TAKERS[taker](bad)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


ROWS = {
    "ragged": [[0, 1], [2]],
    "fractions": [0.0, 1.0],
    "half": torch.tensor([0.0, 1.0], dtype=torch.bfloat16),
    "mask": [True, False],
    "masked": np.ma.array([0, 1], mask=[False, True]),
    "sparse": scipy.sparse.csr_matrix([[0, 1]]),
    "sparse tensor": torch.tensor([[0, 1]]).to_sparse(),
    "without values": torch.empty(2, dtype=torch.int64, device="meta"),
    "text": "ab",
    "objects": [None, 1],
    "large": [2**70, 1],
    "outside": [0, 99],
    "negative": [-1, 0],
    "complex": [1j],
}


@pytest.mark.parametrize("kind", ROWS)
def test_row_numbers_are_refused_in_one_sentence(kind):
    rows = ROWS[kind]
    for act in (
        lambda: zm.kneighbors(FIXED, 2, queries=rows),
        lambda: zm.LocalPCA(n_neighbors=2).fit(FIXED, queries=rows),
        lambda: zm.local_spectra(FIXED, rows),
        lambda: zm.LocalPCA().fit(FIXED, precomputed_knn=rows),
    ):
        with pytest.raises(InputError, match=r"^[^\n]*: [^\n]*\.$"):
            act()


INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


@given(st.lists(st.integers(0, 23), min_size=1, max_size=5), st.sampled_from(INTEGERS),
       st.sampled_from([np.asarray, torch.from_numpy, pd.Series, list, tuple]))  # fmt: skip
def test_row_numbers_of_every_type(rows, dtype, container):
    expected = zm.kneighbors(FIXED, 3, queries=rows)
    found = zm.kneighbors(FIXED, 3, queries=container(np.array(rows, dtype)))
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    if container in (np.asarray, torch.from_numpy):
        knn = expected[1].astype(dtype)
        spectra = zm.local_spectra(FIXED, container(knn))
        np.testing.assert_array_equal(spectra, zm.local_spectra(FIXED, expected[1]))


@pytest.mark.parametrize("kind", ["sparse", "complex", "integers", "array"])
def test_mixers_refuse_what_is_no_batch_of_floats(kind):
    x = {"sparse": torch.eye(4).to_sparse(), "complex": torch.eye(4) + 1j,
         "integers": torch.eye(4).long(), "array": torch.eye(4)}[kind]  # fmt: skip
    y = [0, 1, 0, 1] if kind == "array" else torch.tensor([0, 1, 0, 1])
    for act in (lambda: zm.Mixup(num_classes=2)(x, y), lambda: zm.ZetaMixup(num_classes=2)(x, y)):
        with pytest.raises(InputError, match=r"^[^\n]*: convert it with [^\n]*\.$"):
            act()
    if kind != "array":
        with pytest.raises(InputError, match="convert it with"):
            zm.mix(torch.eye(4), x)


@pytest.mark.parametrize("lam", [0, 1, -0.5, np.nan, "0.5", ["0.5"], True, None, 0.5j, [[0.5], []],
                                 np.array([0.5 + 1j]), np.ma.array([0.5], mask=[True]),
                                 scipy.sparse.csr_matrix([[0.5]]), torch.eye(2).to_sparse()],
                         ids=repr)  # fmt: skip
def test_what_is_no_lambda(lam):
    with pytest.raises(InputError, match=r"^lam(.|\n)*: .*\.$"):
        zm.gamma_from_lambda(lam)
