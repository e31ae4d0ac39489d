from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from zmanifold._base.errors import InputError
from zmanifold._base.labels import as_labels, entropy


@pytest.mark.parametrize(
    "y",
    [
        np.array(["b", "a", "b"], dtype=object),
        np.array(["b", "a", "b"], dtype=np.dtypes.StringDType()),
        pd.Series(["b", "a", "b"]),
        pd.Series(["b", "a", "b"], dtype="category"),
        ("b", "a", "b"),
        [10, 2, 10],
        np.array([10, 2, 10], dtype=object),
        pd.Series([10, 2, 10]),
        torch.tensor([10, 2, 10]),
        np.array([10, 2, 10], dtype=np.uint8),
        [True, False, True],
    ],
)
def test_hard_labels(y):
    labels = as_labels(y, 3, name="y")
    assert labels.codes.tolist() == [1, 0, 1]
    assert labels.classes.tolist() in (["a", "b"], [2, 10], [False, True])
    assert labels.distributions().tolist() == [[0, 1], [1, 0], [0, 1]]
    assert labels.soft is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_soft_labels_as_a_network_rounds_them(dtype):
    logits = torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    soft = logits.double().softmax(dim=1).to(dtype)
    labels = as_labels(soft, 200, name="y")
    assert torch.equal(labels.soft, soft.double())
    assert torch.equal(labels.codes, soft.double().argmax(dim=1))
    if dtype == torch.float16:
        assert as_labels(soft.numpy(), 200, name="y").soft is not None


def test_the_first_of_equal_entries_is_the_class():
    assert as_labels([[0.2, 0.4, 0.4]], 1, name="y").codes.tolist() == [1]


def test_entropy_is_never_negative():
    found = entropy(torch.tensor([[1.00005, 0.0], [1.0, 0.0], [0.5, 0.5]]).double())
    assert found.tolist() == [0, 0, pytest.approx(np.log(2))]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[0.5, 0.501], [1, 0]], "the first is row 0 with least entry 0.5 and sum 1.001"),
        (np.zeros((2, 0)), r"y has dtype float64 and shape \(2, 0\) but soft labels are numbers"),
        ([["a", "b"], ["c", "d"]], "soft labels are numbers"),
        ([["a"], ["b", "c"]], r"y has shape \(\) for 2 samples"),
        (np.array([[1], [2, 3]], dtype=object), "y mixes types or holds"),
        ([0.0, 1.0], "y has dtype float64 but hard labels are integers or strings"),
        (np.array(["a", None], dtype=object), r"y holds 1 missing label\(s\), the first in row 1"),
        (pd.Series([1, None], dtype="Int64"), "missing|dtype"),
        (np.array([0.5, 1], dtype=object), "y mixes types or holds 0.5"),
        ([2**70, 1], "y holds integers of more than 64 bits: give codes"),
        (np.array(["a", 1], dtype=object), "y mixes types or holds"),
        (np.ma.array([0, 1], mask=[0, 1]), "y is masked: remove the samples without a label"),
        (torch.zeros(2, device="meta"), "y is a tensor without values"),
        (None, r"y has shape \(\) for 2 samples"),
    ],
)
def test_bad_input(y, message):
    with pytest.raises(InputError, match=message):
        as_labels(y, 2, name="y")


def test_soft_labels_of_other_classes():
    with pytest.raises(InputError, match=r"y has 2 columns, .* but the classes are 3, 5"):
        as_labels([[1.0, 0.0]], 1, name="y", classes=np.array([3, 5]))
