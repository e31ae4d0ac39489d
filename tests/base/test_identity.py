"""Digests are equal for the same code and state, and differ for any other."""

from __future__ import annotations

import collections
import enum
import functools
import random
import subprocess
import sys
import textwrap
import threading
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from zmanifold._base.identity import identity

SCALE = 2.0


def halve(x, y):
    return x / SCALE, y


def scaled(by):
    def call(x, y):
        return by * x, y

    return call


class Jitter:
    step = 1

    def __init__(self, sd, values=()):
        self.sd, self.values = sd, values

    def __call__(self, x, y):
        return x + self.sd * torch.randn_like(x), y


class Slots:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


class Child(Jitter):
    pass


class Named(dict):
    """A dict with an attribute."""

    def __init__(self, name, **items):
        super().__init__(items)
        self.name = name


class Pair(NamedTuple):
    a: int
    b: int


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Refuses:
    def __reduce_ex__(self, protocol):
        raise AttributeError("not for pickle")


def reordered():
    made = Jitter.__new__(Jitter)
    made.values, made.sd = (), 0.1
    return made


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU())


def twice(make):
    return identity(make()), identity(make())


@pytest.mark.parametrize(
    "make",
    [
        lambda: halve,
        lambda: scaled(0.5),
        lambda: Jitter(0.1),
        lambda: Jitter(0.1, {"a": [1, (2, 3)], "b": {3, 1, 2}}),
        lambda: Jitter(0.1, np.arange(6.0).reshape(2, 3)),
        lambda: Jitter(torch.tensor([0.1]).bfloat16()),
        lambda: Slots(3),
        lambda: net(0),
        lambda: functools.partial(halve, y=1),
        lambda: Jitter(0.1).__call__,
        lambda: torch.Generator().manual_seed(3),
        lambda: np.random.default_rng(3),
        lambda: random.Random(3),
        lambda: collections.deque([1, 2], maxlen=3),
        lambda: Pair(1, 2),
        lambda: Named("a", x=1),
        lambda: Jitter(np.float64(0.1), np.bool_(True)),
        lambda: Jitter(Level.LOW, [np.str_("a"), np.float32(2)]),
        lambda: lambda x, y: (x, y),
    ],
)
def test_the_same_is_recognised(make):
    first, second = twice(make)
    assert first is not None
    assert first == second


def test_the_way_in_which_numpy_shows_numbers_does_not_count():
    mixer = Jitter(np.float64(0.1), np.arange(3.0))
    expected = identity(mixer)
    with np.printoptions(precision=1, legacy="1.21"):
        assert identity(mixer) == expected


def test_the_order_of_attributes_does_not_count():
    assert identity(reordered()) == identity(Jitter(0.1))


class Other:
    """A namespace for a second class called Jitter."""

    class Jitter(Jitter):
        def __call__(self, x, y):
            return x - self.sd * torch.randn_like(x), y


PAIRS = [
    (scaled(0.5), scaled(0.25)),
    (Jitter(0.1), Jitter(0.2)),
    (Jitter(0.1), Child(0.1)),
    (Jitter(0.1), Other.Jitter(0.1)),
    (Jitter(1), Jitter(1.0)),
    (Jitter(np.float64(0.1)), Jitter(np.float64(0.2))),
    (Jitter(Level.LOW), Jitter(Level.HIGH)),
    (Jitter(0, [1, 2]), Jitter(0, (1, 2))),
    (Jitter(0, [1, [2]]), Jitter(0, [[1], 2])),
    (Jitter(0, {"a": 1}), Jitter(0, {"a": 2})),
    (Jitter(0, np.zeros(4)), Jitter(0, np.zeros((2, 2)))),
    (Jitter(0, np.zeros(4)), Jitter(0, np.zeros(4, np.float32))),
    (Jitter(0, torch.zeros(4)), Jitter(0, torch.ones(4))),
    (Slots(3), Slots(4)),
    (net(0), net(1)),
    (functools.partial(halve, y=1), functools.partial(halve, y=2)),
    (np.random.default_rng(3), np.random.default_rng(4)),
    # The state of these is not in attributes, or not in attributes alone.
    (random.Random(3), random.Random(4)),
    (np.random.RandomState(3), np.random.RandomState(4)),
    (collections.deque([1]), collections.deque([2])),
    (collections.deque([1], maxlen=2), collections.deque([1], maxlen=3)),
    (collections.defaultdict(int), collections.defaultdict(float)),
    (collections.Counter("a"), collections.Counter("b")),
    (collections.OrderedDict(a=1), collections.OrderedDict(a=2)),
    (Named("a", x=1), Named("a", x=2)),
    (Named("a", x=1), Named("b", x=1)),
    # Two lambdas on one line have the same source.
    (lambda x, y: x, lambda x, y: 2 * x),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_others_are_told_apart(one, other):
    assert identity(one) != identity(other)


def test_a_constant_and_a_class_attribute_count(monkeypatch):
    before = identity(halve), identity(Jitter(0.1))
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    monkeypatch.setattr(Jitter, "step", 2)
    assert identity(halve) != before[0]
    assert identity(Jitter(0.1)) != before[1]


def test_objects_that_hold_themselves():
    def knot(value):
        made = Jitter(value)
        made.values = [made]
        return made

    assert identity(knot(1)) == identity(knot(1)) != identity(knot(2))


@pytest.mark.parametrize(
    "unreadable",
    [threading.Lock(), iter([]), (i for i in range(3)), zip([1]), threading.local(), Refuses()],
)
def test_what_cannot_be_read_is_not_recognised(unreadable):
    assert identity(unreadable) is None
    assert identity(Jitter(0, [unreadable])) is None


def test_in_other_processes(tmp_path):
    """Addresses and the order of sets differ between processes, and do not count."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        from zmanifold._base.identity import identity

        class Own:
            kinds = frozenset(["a", "b", "c", "d"])

            def __init__(self):
                self.state = {"x": {"p", "q", "r", "s"}}

            def __call__(self, x, y):
                return x if "z" in {"z", "w", "v"} else y

        print(identity(Own()), identity(lambda x, y: x in {"z", "w", "v"}))
        """)
    )
    run = [sys.executable, str(script)]
    found = {subprocess.run(run, check=True, capture_output=True).stdout for _ in range(3)}
    assert len(found) == 1
    assert b"None" not in found.pop()
