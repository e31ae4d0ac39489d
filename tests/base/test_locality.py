from __future__ import annotations

import numpy as np
from zmanifold._base import locality


def test_a_walk_visits_every_row_once(monkeypatch, rng):
    """Whatever the lists: two cliques, lists of nobody, rows that nobody lists."""
    monkeypatch.setattr(locality, "_CACHE_BYTES", 0)
    points = np.zeros((200, 2))
    cliques = np.stack([rng.permutation(100) + 100 * (i >= 100) for i in rng.permutation(200)])
    for lists in (cliques, np.full((200, 3), -1), rng.integers(-1, 200, (200, 2), np.int32)):
        order = locality.walk(lists, points)
        np.testing.assert_array_equal(np.sort(order), np.arange(200))
    # Neighbours on a line that is shuffled: nearly every step goes to one of them.
    place = rng.permutation(3000)
    row_at = np.argsort(place)
    lists = np.stack([row_at[(place + step) % 3000] for step in (-2, -1, 1, 2)], axis=1)
    order = locality.walk(lists, np.zeros((3000, 2)))
    steps = np.abs(np.diff(place[order]))
    assert (np.minimum(steps, 3000 - steps) <= 2).mean() > 0.99


def test_points_that_a_cache_holds_are_visited_as_they_come():
    lists = np.array([[2], [0], [1]])
    np.testing.assert_array_equal(locality.walk(lists, np.zeros((3, 2))), np.arange(3))
    np.testing.assert_array_equal(locality.walk(lists, np.zeros((5, 10**6))), np.arange(3))
