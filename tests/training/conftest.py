from __future__ import annotations

import pytest
import zmanifold as zm
from zmanifold.datasets import hold_out


@pytest.fixture(scope="package")
def digits():
    return hold_out(zm.load_dataset("digits"), 300, random_state=0)
