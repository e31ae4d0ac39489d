"""Whether the same code and state are recognised, and others told apart."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
import threading

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
        lambda: lambda x, y: (x, y),
    ],
)
def test_the_same_is_recognised(make):
    first, second = twice(make)
    assert first is not None
    assert first == second


class Other:
    """A class called as another one is."""

    class Jitter(Jitter):
        def __call__(self, x, y):
            return x - self.sd * torch.randn_like(x), y


PAIRS = [
    (scaled(0.5), scaled(0.25)),
    (Jitter(0.1), Jitter(0.2)),
    (Jitter(0.1), Child(0.1)),
    (Jitter(0.1), Other.Jitter(0.1)),
    (Jitter(1), Jitter(1.0)),
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
    (lambda x, y: x, lambda x, y: 2 * x),  # on one line
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


@pytest.mark.parametrize("unreadable", [threading.Lock(), iter([]), (i for i in range(3))])
def test_what_cannot_be_read_is_not_recognised(unreadable):
    assert identity(unreadable) is None
    assert identity(Jitter(0, [unreadable])) is None


def test_in_other_processes(tmp_path):
    """Neither addresses nor the order of sets, which differ from process to process, count."""
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
