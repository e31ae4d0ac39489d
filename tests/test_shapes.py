"""The suite's own checks of shapes: without them no test would fail."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError
from zmanifold.dimension.flags import saturates
from zmanifold.mixers import apply
from zmanifold.neighbors.balls import _Distinct


def test_a_function_checks_shape_and_dtype():
    assert not saturates(np.zeros(3), 3, 8, 64)
    with pytest.raises(BeartypeCallHintViolation, match="known"):
        saturates(np.zeros((3, 1)), 3, 8, 64)
    with pytest.raises(BeartypeCallHintViolation, match="indices"):
        apply(None, torch.zeros(2, 2), torch.zeros(2), torch.Generator(), torch.zeros(2))


def test_a_dataclass_checks_its_fields():
    rows = torch.arange(3)
    assert len(_Distinct(rows, rows, rows).rows) == 3
    with pytest.raises(TypeCheckError):
        _Distinct(rows, rows, rows[:2])


def test_lines_are_those_of_the_source():
    lines, _ = inspect.getsourcelines(inspect.unwrap(saturates))
    assert lines[0] == "def saturates(\n"
