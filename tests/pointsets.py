"""Strategies of hypothesis: point sets of every kind, and arrays of every form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

SEEDS = st.integers(0, 2**32 - 1)


def _clusters(rng, n, d):
    centres = 1e6 * rng.normal(size=(3, d))
    return centres[rng.integers(0, 3, n)] + 1e-3 * rng.normal(size=(n, d))


def _scales(rng, count):
    return 10.0 ** rng.uniform(-150, 150, count)


def _on_a_line(rng, n, d):
    X = np.zeros((n, d))
    X[:, rng.integers(d)] = np.arange(n)
    return X


# Kinds of sets whose distances all differ, except where points coincide.
GENERAL = {
    "gaussian": lambda rng, n, d: rng.normal(size=(n, d)),
    "flat": lambda rng, n, d: rng.normal(size=(n, d)) * np.linspace(1, 0.02, d),
    "far from the origin": lambda rng, n, d: rng.normal(size=(n, d)) + 1e6,
    "clusters": _clusters,
    "copies": lambda rng, n, d: rng.normal(size=(4, d))[rng.integers(0, 4, n)],
    "tiny": lambda rng, n, d: 1e-150 * rng.normal(size=(n, d)),
    "huge": lambda rng, n, d: 1e150 * rng.normal(size=(n, d)),
    "scaled rows": lambda rng, n, d: _scales(rng, n)[:, None] * rng.normal(size=(n, d)),
    "scaled columns": lambda rng, n, d: _scales(rng, d) * rng.normal(size=(n, d)),
}  # fmt: skip

# Kinds of sets with many ties. Sums of their squares are exact in any order.
TIED = {
    "lattice": lambda rng, n, d: rng.integers(-3, 4, (n, d)) / 8,
    "corners": lambda rng, n, d: rng.integers(0, 2, (n, d)).astype(float),
    "line": _on_a_line,
    "last digits": lambda rng, n, d: 1 + 2.0**-52 * rng.integers(-2000, 2000, (n, d)),
    "constant": lambda rng, n, d: np.full((n, d), rng.integers(-99, 100) / 7),
    "denormal": lambda rng, n, d: 5e-324 * rng.integers(-9, 10, (n, d)),
    "zero": lambda rng, n, d: np.zeros((n, d)),
}

ANY = GENERAL | TIED


@st.composite
def point_sets(draw, kinds=ANY, n=(2, 40), d=(1, 2, 3, 12, 13, 30)):
    """Draw points of float64, shape (n, d)."""
    make = kinds[draw(st.sampled_from(list(kinds)))]
    rng = np.random.default_rng(draw(SEEDS))
    return make(rng, draw(st.integers(*n)), draw(st.sampled_from(d)))


def any_floats(n=(2, 12), d=(1, 20)):
    """Draw points whose values may be 0, denormal or as large as finite distances allow."""
    shapes = st.tuples(st.integers(*n), st.integers(*d))
    finite = st.floats(-(2.0**1019), 2.0**1019)
    return arrays.arrays(np.float64, shapes, elements=finite)


def _strided(X):
    wide = np.zeros((2 * X.shape[0], 3 * X.shape[1]), X.dtype)
    wide[::2, ::3] = X
    return wide[::2, ::3]


def _read_only(X):
    X = X.copy()
    X.setflags(write=False)
    return X


def _offset(X):
    """Return the same values at an address that is not a multiple of their size."""
    held = np.zeros(X.nbytes + 1, np.uint8)
    moved = np.ndarray(X.shape, X.dtype, buffer=held.data[1:])
    moved[...] = X
    return moved


# The same array in other memory layouts.
LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided": _strided,
    "backwards": lambda X: np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
    "read-only": _read_only,
    "offset": _offset,
    "other byte order": lambda X: X.astype(X.dtype.newbyteorder("S")),
}

# The same values in another container. Lists and frames keep no dtype of their own.
CONTAINERS = {
    "list": lambda X: X.tolist(),
    "tuple of rows": lambda X: tuple(X),
    "frame": pd.DataFrame,
    "masked array without a mask": np.ma.masked_array,
    "longdouble": lambda X: X.astype(np.longdouble),
    "tensor": torch.from_numpy,
    "transposed tensor": lambda X: torch.from_numpy(np.ascontiguousarray(X.T)).mT,
    "strided tensor": lambda X: torch.from_numpy(X).repeat_interleave(2, dim=0)[::2],
    "tensor with a gradient": lambda X: torch.from_numpy(X).requires_grad_(),
    "conjugate's imaginary part": lambda X: torch.complex(
        torch.zeros(X.shape, dtype=torch.float64), -torch.from_numpy(X)
    ).conj().imag,
}  # fmt: skip
