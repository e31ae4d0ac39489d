"""Specs NAME:PARAM=VALUE: those that are read, the objects made of them, those that are refused."""

from __future__ import annotations

import inspect

import pytest
import zmanifold as zm
from zmanifold._base.errors import InputError
from zmanifold._base.registry import Info, Registry
from zmanifold._base.specs import make_all, parse_spec
from zmanifold.mixers import mixers_from_specs


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("zeta", "zeta", {}),
        ("zeta:gamma=2", "zeta", {"gamma": [2]}),
        ("zeta: gamma = 2.5 , anchored = TRUE", "zeta", {"gamma": [2.5], "anchored": [True]}),
        ("a:p=0:1:0.5", "a", {"p": [0.0, 0.5, 1.0]}),
        ("a:p=0:0.3:0.1", "a", {"p": [0.0, 0.1, 0.2, 0.3]}),
        ("a:p=1/1/2", "a", {"p": [1, 2]}),
        ("a:p=none/-1e-3/word", "a", {"p": [None, -0.001, "word"]}),
        ("mine.Own:p=1", "mine.Own", {"p": [1]}),
    ],
)
def test_specifications(text, name, values):
    assert parse_spec(text) == (name, values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("zeta:gamma", "has the part 'gamma' where PARAM=VALUE is expected"),
        ("zeta:=3", "has the part '=3'"),
        ("zeta:gamma=1,gamma=2", "gives gamma twice: give it once, several values as A/B/C"),
        ("zeta:gamma=1:2", "has '1:2', which is not a grid"),
        ("zeta:gamma=3:1:1", "reversed or too fine"),
        ("zeta:gamma=0:1:0", "reversed or too fine"),
        ("zeta:gamma=0:1e5:1e-3", "reversed or too fine"),
        ("zeta:gamma=nan:1:1", "reversed or too fine"),
        ("zeta:gamma=two", "gamma='two' must be a number"),
        ("zeta:anchored=no", "zeta:anchored=no must be true or false"),
        ("zeta:gama=2", "unknown parameter of the mixer 'zeta' 'gama': did you mean 'gamma'"),
        ("zeta-anchored:anchored=false", "unknown parameter of the mixer 'zeta-anchored' 'anch"),
        ("zetta", "unknown mixer 'zetta': did you mean 'zeta'"),
        ("no.such.Mixer", "the mixer 'no.such.Mixer' cannot be imported"),
        ("math.nothing", "cannot be imported .AttributeError"),
        ("mixup:alpha=1/2", "makes 2 mixers: give one value a parameter"),
    ],
)
def test_what_is_refused(text, said):
    with pytest.raises(InputError, match=said):
        zm.make_mixer(text)


def test_grids_of_several_parameters_are_combined():
    made = mixers_from_specs(["zeta:gamma=2/3,n_mix=4/8"])
    assert [(m.gamma, m.n_mix) for m in made] == [(2, 4), (2, 8), (3, 4), (3, 8)]


def test_bare_names_take_the_flags_and_others_their_own():
    made = mixers_from_specs(["none,mixup,zeta", "zeta-anchored:gamma=9"], gammas=[2, 3], alpha=0.2)
    assert [repr(m) for m in made] == [
        "None",
        "Mixup(alpha=0.2, per_sample=False)",
        "ZetaMixup(gamma=2.0, n_mix=None, anchored=False)",
        "ZetaMixup(gamma=3.0, n_mix=None, anchored=False)",
        "ZetaMixup(gamma=9.0, n_mix=None, anchored=True)",
    ]


class Needy:
    """A mixer with a parameter that has no default.

    Parameters
    ----------
    p : float
        A number.
    """

    names = {"needy": {}}  # noqa: RUF012  # users write it without ClassVar

    def __init__(self, p):
        self.p = p


def test_registration():
    registry = Registry("zmanifold.mixers", "mixer", Info)
    registry.register(Needy)
    info = registry.available()[-1]
    assert (info.name, info.summary) == ("needy", "A mixer with a parameter that has no default.")
    (parameter,) = info.parameters
    assert parameter.required
    assert parameter.default is inspect.Parameter.empty
    assert parameter.description == "A number."
    with pytest.raises(InputError, match="'needy' needs p: give needy:p=VALUE"):
        make_all(registry, ["needy"])
    assert [made.p for made in make_all(registry, ["needy:p=1/2"])] == [1, 2]
    registry.register(Needy)  # registered a second time, as by a reloaded module
    for taken in ({"zeta": {}}, {}, None):
        wrong = type("Wrong", (Needy,), {"names": taken})
        with pytest.raises(InputError, match=r"is taken|must be a mapping"):
            registry.register(wrong)
