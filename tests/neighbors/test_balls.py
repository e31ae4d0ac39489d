from __future__ import annotations

import numpy as np
import pytest
import torch
import zmanifold as zm
from hypothesis import given, settings
from hypothesis import strategies as st
from zmanifold.neighbors import balls, pair_distances
from zmanifold.neighbors.balls import count_memberships

import oracles


def sets(dim):
    rng = np.random.default_rng(dim)
    gaussian = rng.normal(size=(120, dim))
    return {
        "gaussian": (gaussian[:70], gaussian[70:]),
        "shifted by 1e4": (gaussian[:70] + 1e4, gaussian[70:] + 1e4),
        "the same": (gaussian, gaussian),
        "copies": (np.repeat(gaussian[:9], 8, axis=0), gaussian[:40]),
        "constant": (np.full((30, dim), 3.7), np.full((50, dim), 3.7)),
        "whole numbers": (rng.integers(0, 2, (60, dim)) * 1.0, rng.integers(0, 2, (80, dim)) * 1.0),
        "wild scales": (gaussian[:70] * 10.0 ** rng.uniform(-6, 6, (70, 1)), gaussian[70:]),
    }


@pytest.mark.parametrize("dim", [1, 3, 20])
@pytest.mark.parametrize("name", sets(1))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_against_the_loop(dim, name, dtype, device):
    centres, points = (torch.from_numpy(a).to(device, dtype) for a in sets(dim)[name])
    _, indices = zm.kneighbors(centres, 6)
    # To the sixth neighbour, which lies exactly at the edge, to none, and around everything.
    last = indices[:, -1]
    radii = pair_distances(centres, centres[last], 2**20)
    # The loop's sums round otherwise: its edges are where it measures them.
    double = centres.double().cpu().numpy()
    edges = [np.sqrt(((a - b) ** 2).sum()) for a, b in zip(double, double[last.cpu()], strict=True)]
    for r in (radii, edges := np.array(edges)):
        r[::7] = 0
        r[1::7] = 1e9
    expected = oracles.memberships(double, edges, points.double().cpu())
    per_ball, per_point = count_memberships(centres, radii, points, memory=2**20)
    np.testing.assert_array_equal(per_ball.cpu(), expected[0])
    np.testing.assert_array_equal(per_point.cpu(), expected[1])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), dim=st.sampled_from([2, 12, 13]), levels=st.integers(1, 4))
def test_whole_numbers_at_the_edge(seed, dim, levels):
    """Every distance is the root of a whole number: edges are hit all the time."""
    rng = np.random.default_rng(seed)
    centres, points = rng.integers(0, levels, (15, dim)), rng.integers(0, levels, (20, dim))
    radii = np.sqrt(rng.integers(0, 6, 15))
    expected = oracles.memberships(centres, radii, points)
    counted = count_memberships(
        torch.from_numpy(centres).double(), torch.from_numpy(radii),
        torch.from_numpy(points).double(), memory=2**20,
    )  # fmt: skip
    np.testing.assert_array_equal(counted[0], expected[0])
    np.testing.assert_array_equal(counted[1], expected[1])


def test_balls_of_another_magnitude(rng):
    centres, points = (torch.from_numpy(rng.normal(size=(n, 20))) for n in (5, 30))
    for scale in (1e60, 1e-60):
        per_ball, per_point = count_memberships(
            centres * scale, torch.full((5,), 1e62, dtype=torch.float64), points, memory=2**20
        )
        assert per_ball.tolist() == [30] * 5
        assert per_point.tolist() == [5] * 30


def test_the_edge_does_not_depend_on_threads(one_thread):
    """A long row that is alone: threads would share its sum, and round it otherwise."""
    for seed in (4, 20):
        rng = np.random.default_rng(seed)
        real = rng.normal(size=(2, 60_000))
        fake = np.stack([real[1], -6 * real[0]])
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(zm.mixed_set_metrics(real, [0, 1], fake, [0, 1], n_neighbors=1).summary())
        assert found[0] == found[1]
        assert found[0]["coverage"] == 1


@pytest.mark.parametrize("dim", [3, 40])
def test_chunks_do_not_matter(dim, rng):
    centres, points = torch.from_numpy(rng.normal(size=(2, 3000, dim)))
    radii = torch.full((3000,), 0.8 * dim**0.5, dtype=torch.float64)
    small = count_memberships(centres, radii, points, memory=2**20)
    large = count_memberships(centres, radii, points, memory=2**30)
    assert torch.equal(small[0], large[0])
    assert torch.equal(small[1], large[1])
    assert small[0].sum() == small[1].sum() > 0


@pytest.mark.parametrize("dim", [3, 20])
def test_copies_are_counted_and_not_compared(dim, monkeypatch):
    """5 places of 3,200 copies each: not every pair of them is measured, only that of places."""
    rng = np.random.default_rng(0)
    centres = torch.from_numpy(rng.normal(size=(5, dim))[rng.integers(0, 5, 16_000)])
    compared = []
    measure = balls.pair_distances
    monkeypatch.setattr(
        balls, "pair_distances", lambda a, b, m: compared.append(len(a)) or measure(a, b, m)
    )
    radii = torch.zeros(16_000, dtype=torch.float64)
    per_ball, per_point = count_memberships(centres, radii, centres, memory=2**24)
    assert sum(compared) <= 25
    copies = (centres[:, None, 0] == centres[None, :5000, 0]).sum(dim=0)
    assert torch.equal(per_ball[:5000], copies)
    assert torch.equal(per_point, per_ball)
    # Balls of several radii, around copies and others.
    some = torch.cat([centres[:300], torch.from_numpy(rng.normal(size=(100, dim)))])
    radii = torch.from_numpy(rng.integers(0, 3, 400) * dim**0.5)
    found = count_memberships(some, radii, some, memory=2**24)
    expected = oracles.memberships(some, radii, some)
    for counts, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(counts, wanted)


def test_lists_of_members_take_a_share_of_the_memory(rng, monkeypatch):
    """A part holds as many members as fit, or those of a single ball."""
    points = torch.from_numpy(rng.normal(size=(3000, 3)))
    radii = torch.full((3000,), 1.0, dtype=torch.float64)
    lengths = []
    parts = balls._parts
    monkeypatch.setattr(
        balls,
        "_parts",
        lambda sizes, most: [
            lengths.append((int(sizes[p][:-1].sum()), p.stop - p.start, most)) or p
            for p in parts(sizes, most)
        ],
    )
    for memory in (2**18, 2**26):
        lengths.clear()
        expected = count_memberships(points, radii, points, memory=2**30)
        lengths.clear()
        found = count_memberships(points, radii, points, memory=memory)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        assert sum(count for _, count, _ in lengths) == 3000
        for before_the_last, _, most in lengths:
            assert 96 * most <= memory // 4
            assert before_the_last <= most
