from __future__ import annotations

import os
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import settings

# Before the package is imported. A machine with a GPU may lack what it needs (docs/gpu.md).
if find_spec("beartype"):
    import shapes

    shapes.watch("zmanifold")

from zmanifold.cli import app as cli

# Drawing must not need a screen.
os.environ.setdefault("MPLBACKEND", "Agg")

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

# Every run has the same examples; `--hypothesis-profile=thorough` looks for new ones.
settings.register_profile("suite", max_examples=30, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=2000, deadline=None)
settings.load_profile("suite")

# `make fuzz`: examples for each of the nine kinds of files in tests/datasets/test_fuzz.py.
settings.register_profile("fuzz", max_examples=14_000, deadline=None, derandomize=False)


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def run(capsys):
    """Return a function that runs the command line here: to exit code, stdout and stderr."""

    def call(*arguments):
        code = cli._run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
