"""Every path of the search gives the same bits, and those that were recorded.

Recorded values hold on every CPU: coordinates are whole eighths whose squares add up exactly in any
order, or no two distances are near each other and row numbers alone are recorded, or the tree is
asked, which rounds each operation by itself. All random numbers are whole or shares of 2**53.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch
from zmanifold.mixers.batches import Batches
from zmanifold.neighbors import _differences as differences
from zmanifold.neighbors import _measuring as measuring
from zmanifold.neighbors import _projections as projections
from zmanifold.neighbors import _rows as rows
from zmanifold.neighbors import _search as searches
from zmanifold.neighbors import _tiles as tiles
from zmanifold.neighbors import api as neighbors
from zmanifold.sweep.stream import Stream

CPU_PATHS = ["tiles", "small tiles", "bfloat16", "projections"]
PATHS = [*CPU_PATHS, "rows"]
MEMORY = 2**26


def take(path, patch):
    """Force one way of searching; tiles are small wherever many of them shall be seen."""
    patch.setattr(searches, "_TREE_MAX_DIM", 12 if path == "tree" else 0)
    if path != "tiles":
        patch.setattr(tiles, "_TILE_SIDE", 48)
    if path == "bfloat16":
        patch.setattr(tiles, "_bfloat16_pays", lambda _: True)
        patch.setattr(tiles, "_mostly_proven", lambda *_: True)
    if path == "projections":
        patch.setattr(tiles, "_projections_pay", lambda _: True)
        patch.setattr(projections, "_MOST_COST", math.inf)
    if path == "rows":
        patch.setattr(tiles, "search_tiles", rows.search_rows)
        patch.setattr(measuring, "measure_candidates", differences._write_nearest_by_torch)


def eighths(d, dtype=torch.float64):
    """Few places and many copies: distances that tie, within the data and with the queries."""
    rng = np.random.default_rng(d)
    X = rng.integers(-12, 13, (600, d)) / 8
    X[100:250] = X[rng.integers(0, 40, 150)]
    X[:, 3:] *= rng.integers(0, 2, max(0, d - 3))
    return torch.from_numpy(X[rng.permutation(600)]).to(dtype)


def real(d):
    """Points along a few directions more than others, and clusters that bfloat16 cannot part."""
    rng = np.random.default_rng(d)
    X = (rng.random((600, d)) - 0.5) / np.arange(1, d + 1)
    X[:80] = X[0] + 1e-3 * (rng.random((80, d)) - 0.5)
    return torch.from_numpy(X)


def asked(kind, points):
    if kind == "all":
        return {"rows": torch.arange(len(points))}
    if kind == "rows":
        return {"rows": torch.arange(1, len(points), 3).flip(0)}
    if kind == "few":
        return {"rows": torch.tensor([7, 599, 7])}
    return {"queries": torch.cat([points[::5] + 0.125, points[:9], -points[:20]])}


def digest(*tensors):
    parts = (np.ascontiguousarray(t.numpy()).tobytes() for t in tensors)
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]


EIGHTHS = {
    (2, "all", 1): "ed2b938b6255",
    (2, "all", 8): "250354f2b734",
    (2, "all", 128): "80412c493f53",
    (2, "rows", 1): "9e36155caa23",
    (2, "rows", 8): "61ada39775d1",
    (2, "rows", 128): "fec9bd332462",
    (2, "few", 1): "f74f726c4988",
    (2, "few", 8): "c7df6857ee83",
    (2, "few", 128): "3ce0dbed17d2",
    (2, "apart", 1): "6e1559c51d82",
    (2, "apart", 8): "d64187342927",
    (2, "apart", 128): "4f2042cb645e",
    (12, "all", 1): "e1a43828305e",
    (12, "all", 8): "f082a1732024",
    (12, "all", 128): "6a1767e7e236",
    (12, "rows", 1): "2759ccfd47c9",
    (12, "rows", 8): "cc96df897a71",
    (12, "rows", 128): "6fc945e695d3",
    (12, "few", 1): "557c14e81270",
    (12, "few", 8): "69ebfe933a56",
    (12, "few", 128): "823b54ab0a4d",
    (12, "apart", 1): "3250ae8efa5a",
    (12, "apart", 8): "faf3e15104e9",
    (12, "apart", 128): "afef6400ac90",
    (40, "all", 1): "c37852d0b3ac",
    (40, "all", 8): "891f9e5bfcc1",
    (40, "all", 128): "8dcfd08868d6",
    (40, "rows", 1): "0a6963154728",
    (40, "rows", 8): "bf7e150d046d",
    (40, "rows", 128): "5c5ef9b8f6f1",
    (40, "few", 1): "f336c6851fbb",
    (40, "few", 8): "8be6de573c34",
    (40, "few", 128): "6668c7e274db",
    (40, "apart", 1): "ab8f280f585d",
    (40, "apart", 8): "5c470f8ceafb",
    (40, "apart", 128): "caddc73c4ee1",
}

REAL = {
    ("all", 1): "d5895a6e3a64",
    ("all", 8): "76d98c3e4ba9",
    ("all", 128): "74950082a4a3",
    ("rows", 1): "e06236835ab4",
    ("rows", 8): "3834538ce551",
    ("rows", 128): "4deac2936837",
    ("few", 1): "6c93d180abe3",
    ("few", 8): "5283529e686e",
    ("few", 128): "a959846e822a",
    ("apart", 1): "bcbe95718289",
    ("apart", 8): "57d705393b44",
    ("apart", 128): "7beae4ec5e6e",
}

TREE = {
    (1, "all", 1): "f411e4e95766",
    (1, "all", 8): "b0c9ef8f4e95",
    (1, "all", 128): "79d23ce44dde",
    (1, "all", 599): "82858998b05c",
    (1, "rows", 1): "b6daee48a5af",
    (1, "rows", 8): "1e4f9a3163dc",
    (1, "rows", 128): "63f73df87689",
    (1, "rows", 599): "514d9c02a5d1",
    (1, "few", 1): "e7e1b0183386",
    (1, "few", 8): "2c6c4a07c972",
    (1, "few", 128): "e3b129c46503",
    (1, "few", 599): "7200f272d2b7",
    (1, "apart", 1): "cb345ccd7dca",
    (1, "apart", 8): "f30e2e37469a",
    (1, "apart", 128): "9b997716f62a",
    (1, "apart", 599): "c5485ee61c16",
    (3, "all", 1): "72e4d1b8e5be",
    (3, "all", 8): "afba0a5a005a",
    (3, "all", 128): "764cf75743c7",
    (3, "all", 599): "d509bea38ba2",
    (3, "rows", 1): "e817aba51b95",
    (3, "rows", 8): "4064a9539f1e",
    (3, "rows", 128): "b6691c4e2cbb",
    (3, "rows", 599): "cb090b16d28d",
    (3, "few", 1): "e23574ae6efa",
    (3, "few", 8): "2913b3a2fa86",
    (3, "few", 128): "2750c45931ab",
    (3, "few", 599): "c901a0b2a724",
    (3, "apart", 1): "b84c5f1904f7",
    (3, "apart", 8): "90c80d169ab3",
    (3, "apart", 128): "d32184114d1d",
    (3, "apart", 599): "b710155aa47d",
    (12, "all", 1): "d21e53fb3a6a",
    (12, "all", 8): "895c640b47f1",
    (12, "all", 128): "ae3130b2ac11",
    (12, "all", 599): "7c84ee5c2c4c",
    (12, "rows", 1): "ad6abc6d4fed",
    (12, "rows", 8): "b29b69a884fc",
    (12, "rows", 128): "2e0a6fc8eb43",
    (12, "rows", 599): "32db963a7444",
    (12, "few", 1): "51a75bbdbdc2",
    (12, "few", 8): "62f62bc47dd9",
    (12, "few", 128): "bf085567f566",
    (12, "few", 599): "001720e3f2f9",
    (12, "apart", 1): "080b3dbed981",
    (12, "apart", 8): "0c77a65bf0e5",
    (12, "apart", 128): "56e06f4ea8c8",
    (12, "apart", 599): "05927d311078",
}

STREAM = {
    ("eighths", 3, 1): "806b745727af",
    ("eighths", 3, 8): "9b421a50545d",
    ("eighths", 3, 128): "8d5cd77c033a",
    ("eighths", 40, 1): "5e59a58edc68",
    ("eighths", 40, 8): "ba3d5319d882",
    ("eighths", 40, 128): "250323de3500",
    ("real", 3, 1): "cb57dc0213b4",
    ("real", 3, 8): "4e59b2589b78",
    ("real", 3, 128): "a6b10b426a85",
    ("real", 40, 1): "3827591fac08",
    ("real", 40, 8): "6b12a7076d0d",
    ("real", 40, 128): "83fbb3b48fa4",
}


@pytest.mark.parametrize("path", ["tree", *PATHS])
@pytest.mark.parametrize("kind", ["all", "rows", "few", "apart"])
@pytest.mark.parametrize("d", [2, 12, 40])
def test_exact_sums_and_ties(path, kind, d, monkeypatch):
    take(path, monkeypatch)
    for dtype in (torch.float32, torch.float64):
        points = eighths(d, dtype)
        for k in (1, 8, 128):
            distances, indices = neighbors.search(points, k, **asked(kind, points), memory=MEMORY)
            squares = (64 * distances.square()).round()
            assert digest(squares, indices) == EIGHTHS[d, kind, k]
            if path == "rows":  # whose roots torch may leave to MKL, which does not round them
                torch.testing.assert_close(distances, squares.sqrt() / 8, rtol=1e-15, atol=0)
            else:
                np.testing.assert_array_equal(distances, np.sqrt(squares.numpy() / 64))


@pytest.mark.parametrize("kind", ["all", "rows", "few", "apart"])
def test_real_numbers(kind):
    """The CPU's paths agree to the last bit, others but for their order of adding."""
    points = real(40)
    for k in (1, 8, 128):
        found = {}
        for path in PATHS:
            with pytest.MonkeyPatch.context() as patch:
                take(path, patch)
                given = asked(kind, points) | {"memory": MEMORY}
                found[path] = neighbors.search(points, k, **given)
                last, members = neighbors.search(
                    points, k, **given, farthest_only=True, in_order=False
                )
            distances, indices = found[path]
            assert digest(indices) == REAL[kind, k]
            assert torch.equal(last[:, 0], distances[:, -1])
            assert torch.equal(members[:, -1], indices[:, -1])
            assert torch.equal(members.sort(dim=1).values, indices.sort(dim=1).values)
        for path in CPU_PATHS:
            assert torch.equal(found[path][0], found["tiles"][0])
        torch.testing.assert_close(found["rows"][0], found["tiles"][0], rtol=1e-14, atol=0)


@pytest.mark.parametrize("kind", ["all", "rows", "few", "apart"])
@pytest.mark.parametrize("d", [1, 3, 12])
def test_the_tree_rounds_in_order(kind, d):
    points = real(d)
    for k in (1, 8, 128, 599):
        found = neighbors.search(points, k, **asked(kind, points), memory=MEMORY)
        assert digest(*found) == TREE[d, kind, k]


@pytest.mark.parametrize("make", [eighths, real])
@pytest.mark.parametrize("d", [3, 40])
def test_blocks(make, d):
    points = make(d)
    positions = torch.arange(0, 600, 7)
    for size in (7, 32, 600):
        mixed = Batches(points, None, None, size, 2**20).rows(None, 0)
        for memory in (2**19, 2**26):
            stream = Stream.of(mixed, memory)
            for k in (1, 8, 128):
                found = stream.search(positions, k)
                assert digest(found) == STREAM[make.__name__, d, k]
                _, exact = neighbors.search(mixed.all(), k, rows=positions, memory=MEMORY)
                assert torch.equal(found, exact)
