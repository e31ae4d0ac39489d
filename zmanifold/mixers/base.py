"""The one way to call, name and identify a mixer of any kind.

A mixer is None (the original data), an object with ``weights(batch_size)``, or a callable that
takes a batch and its labels. A callable may return what most published code does:

- ``x_mixed``: the labels stay as they are;
- ``(x_mixed, y_mixed)``;
- ``(x_mixed, y_mixed, loss_weights)`` with one weight a sample;
- ``(x_mixed, y_a, y_b, lam)`` or ``(x_mixed, (y_a, y_b, lam))``: lam y_a + (1 - lam) y_b.

Samples and labels are tensors or arrays. A mixer that takes the keywords ``generator`` and
``indices`` (the samples' row numbers in the data set) gets them. A mixer with ``fit(X, y)`` is
first fitted to the whole data set. A mixer whose attribute ``latent`` is true returns a network's
output instead of mixed samples.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from zmanifold._base.arrays import as_real_tensor
from zmanifold._base.checks import is_number
from zmanifold._base.errors import InputError
from zmanifold._base.identity import identity
from zmanifold._base.registry import fitting_name
from zmanifold.mixers._calls import called, check_samples, classes_of, distributions, parts_of
from zmanifold.mixers.linear import mix

__all__ = [
    "apply",
    "check_mixer",
    "describe",
    "draw_weights",
    "fitted",
    "identify",
    "is_linear",
    "is_ours",
    "label_of",
    "strength",
]


def apply(
    mixer: Any,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    indices: Int64[Tensor, " b"] | None = None,
    *,
    num_classes: int | None = None,
    latent: bool = False,
    seed: int | None = None,
) -> tuple[Tensor, Tensor, Float[Tensor, " b"] | None]:
    """Mix a batch with a mixer of any kind, and check what it returns.

    Parameters
    ----------
    mixer : mixer or None
        See `zmanifold.mixers.base`; None returns the batch as it is.
    x : torch.Tensor of shape (b, ...)
        The samples; never changed.
    y : torch.Tensor of shape (b,) or (b, K)
        Integer classes or soft labels.
    generator : torch.Generator
        The only source of randomness. A mixer without the keyword ``generator`` draws from the
        global generators of torch, NumPy and Python, which are seeded and then restored.
    indices : torch.Tensor of int64, shape (b,), optional
        The samples' row numbers in the data set, for mixers that take them.
    num_classes : int, optional
        The number of classes of integer labels, for mixers that do not know it themselves.
    latent : bool, default=False
        Whether a latent mixer may return a network's output.
    seed : int, optional
        The seed of the global generators; the next number of `generator` by default.

    Returns
    -------
    x_mixed : torch.Tensor of shape (b, ...)
        Mixed samples; for a latent mixer, the network's output.
    y_mixed : torch.Tensor of shape (b,) or (b, K)
        Their labels.
    loss_weights : torch.Tensor of shape (b,) or None
        The weight of each sample in the loss.

    Raises
    ------
    InputError
        If the mixer returns anything else, or is latent where samples are wanted.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.mixers import apply
    >>> def halfway(x, y):
    ...     return (x + x.flip(0)) / 2, y, y.flip(0), 0.5
    >>> x, y = torch.eye(2), torch.tensor([0, 1])
    >>> apply(halfway, x, y, torch.Generator(), num_classes=2)[1]
    tensor([[0.5000, 0.5000],
            [0.5000, 0.5000]])
    """
    if mixer is None:
        return x, y, None
    check_mixer(mixer, latent=latent)
    if is_linear(mixer) and not callable(mixer):
        to_x, to_y = draw_weights(mixer, len(x), generator, seed=seed)
        soft = distributions(y, classes_of(mixer, num_classes), x.dtype)
        # Mixed in float64 and rounded once, as in `Batches`, so that equal samples stay equal.
        mixed = mix(to_x.to(x.device), x.double()).to(x.dtype)
        return mixed, mix(to_y.to(y.device), soft), None
    if is_linear(mixer) and y.ndim == 1 and not y.is_floating_point():
        y = distributions(y, classes_of(mixer, num_classes), x.dtype)
    returned = called(mixer, generator, x, y, seed=seed, indices=indices)
    x_mixed, y_mixed, loss_weights = parts_of(returned, mixer, x, y, num_classes)
    if not latent:
        check_samples(x_mixed, x)
    return x_mixed, y_mixed, loss_weights


def draw_weights(
    mixer: Any, batch_size: int, generator: torch.Generator, *, seed: int | None = None
) -> tuple[Float[Tensor, "b b"], Float[Tensor, "b b"]]:
    """Draw the float64 weights of one batch, for the samples and for the labels.

    Parameters
    ----------
    mixer : object
        An object whose ``weights(batch_size)`` returns one matrix for both, or a pair of matrices.
    batch_size : int
        The number b of samples.
    generator : torch.Generator
        The only source of randomness.
    seed : int, optional
        As for `apply`.

    Raises
    ------
    InputError
        If the weights are not a b x b matrix of real numbers.

    Examples
    --------
    >>> import torch
    >>> import zmanifold as zm
    >>> from zmanifold.mixers import draw_weights
    >>> draw_weights(zm.ZetaMixup(0.0), 2, torch.Generator())[0]
    tensor([[0.5000, 0.5000],
            [0.5000, 0.5000]], dtype=torch.float64)
    """
    drawn = called(mixer.weights, generator, batch_size, seed=seed, dtype=torch.float64)
    if isinstance(drawn, tuple) and len(drawn) == 2:
        return _checked_weights(drawn[0], batch_size), _checked_weights(drawn[1], batch_size)
    both = _checked_weights(drawn, batch_size)
    return both, both


def _checked_weights(drawn: Any, b: int) -> Float[Tensor, "b b"]:
    weights = as_real_tensor(drawn, "the mixer's weights").double()
    if weights.shape != (b, b):
        raise InputError(
            f"the mixer's weights have shape {tuple(weights.shape)} for a batch of {b}: "
            "return one row a mixed sample, one column a sample."
        )
    return weights


def fitted(mixer: Any, X: Tensor, y: Any) -> Any:
    """Return the mixer; if it has ``fit(X, y)``, a copy that is fitted to the data set.

    Parameters
    ----------
    mixer : mixer or None
        The mixer, which is not changed.
    X : torch.Tensor of shape (n, ...)
        All samples; `indices` of `apply` are row numbers of these.
    y : array-like of shape (n,) or (n, K), or None
        Their labels.

    Examples
    --------
    >>> import torch
    >>> import zmanifold as zm
    >>> from zmanifold.mixers import fitted
    >>> fitted(zm.Mixup(), torch.zeros(4, 2), None)
    Mixup(alpha=1.0, per_sample=False)
    """
    if not callable(getattr(mixer, "fit", None)):
        return mixer
    own = copy.deepcopy(mixer)
    own.fit(X, y)
    return own


def check_mixer(mixer: Any, *, latent: bool = True) -> None:
    """Raise InputError unless `mixer` is None or can mix a batch.

    With ``latent=False`` a latent mixer is refused, too, because it makes no samples.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.mixers import check_mixer
    >>> check_mixer(zm.Mixup())
    """
    if isinstance(mixer, type):
        raise InputError(
            f"mixer {mixer.__name__} is a class: give an object of it, {mixer.__name__}()."
        )
    if not (mixer is None or callable(mixer) or is_linear(mixer)):
        raise InputError(
            f"mixer {mixer!r} has neither weights(batch_size) nor a call (x, y): give a mixer "
            "object, or None for the original data."
        )
    if not latent and getattr(mixer, "latent", False):
        raise InputError(
            f"mixer {label_of(mixer)!r} mixes inside a network and makes no samples: measure the "
            "network's features in the layer where it mixes, or train with it."
        )


def is_linear(mixer: Any) -> bool:
    """Tell whether a mixer mixes by weights that it draws.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.mixers import is_linear
    >>> is_linear(zm.Mixup()), is_linear(lambda x, y: x)
    (True, False)
    """
    return callable(getattr(mixer, "weights", None))


def label_of(mixer: Any) -> str:
    """Return a mixer's name in tables, without its strength.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.mixers import label_of
    >>> label_of(None), label_of(zm.ZetaMixup(2.8, anchored=True))
    ('none', 'zeta-anchored')
    """
    if mixer is None:
        return "none"
    own = getattr(mixer, "label", None)
    if isinstance(own, str):
        return own
    offered = fitting_name(mixer)
    if offered is not None:
        return offered
    inner = getattr(mixer, "func", mixer)  # of a functools.partial
    return str(getattr(inner, "__name__", None) or type(inner).__name__)


def strength(mixer: Any) -> dict[str, float]:
    """Return the numbers that distinguish mixers of one name, in a fixed order.

    They are the attributes that the mixer's ``strengths`` names. For a class without ``strengths``
    they are the numeric parameters of its constructor that are also attributes.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.mixers import strength
    >>> strength(zm.ZetaMixup(2.8)), strength(None)
    ({'gamma': 2.8}, {})
    """
    if mixer is None:
        return {}
    if isinstance(getattr(mixer, "keywords", None), Mapping):  # a functools.partial
        values = dict(mixer.keywords)
    else:
        values = {name: getattr(mixer, name, None) for name in _strengths(mixer)}
    return {name: float(value) for name, value in values.items() if is_number(value)}


def describe(mixer: Any) -> str:
    """Return the description of a mixer for settings: its class and parameters.

    A `repr` with an address in memory, which differs from run to run, is not used.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.mixers import describe
    >>> describe(zm.Mixup()), describe(lambda x, y: x)
    ('Mixup(alpha=1.0, per_sample=False)', '<lambda>')
    """
    text = repr(mixer)
    if " at 0x" not in text and "object at" not in text:
        return text
    values = ", ".join(f"{name}={value:g}" for name, value in strength(mixer).items())
    inner = getattr(mixer, "func", mixer)
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    return f"{name}({values})" if values else str(name)


def identify(mixer: Any) -> str | None:
    """Return the identity of a mixer for journals and checkpoints, the same in every run.

    A mixer of this package is identified by its description. A user's own mixer is identified by a
    digest of its code and state or, if these cannot be read, by its attribute ``label``; without
    that the result is None.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.mixers import identify
    >>> identify(zm.Mixup())
    'Mixup(alpha=1.0, per_sample=False)'
    >>> identify(zm.Mixup()) == identify(zm.Mixup(per_sample=True))
    False
    """
    if is_ours(mixer):
        return describe(mixer)
    digest = identity(mixer)
    if digest is None:
        label = getattr(mixer, "label", None)
        return label if isinstance(label, str) else None
    return f"{label_of(mixer)} #{digest}"


def is_ours(mixer: Any) -> bool:
    """Tell whether a mixer is None or one of this package's.

    Examples
    --------
    >>> import zmanifold as zm
    >>> from zmanifold.mixers import is_ours
    >>> is_ours(zm.Mixup()), is_ours(len)
    (True, False)
    """
    return mixer is None or type(mixer).__module__.split(".")[0] == "zmanifold"


def _strengths(mixer: Any) -> tuple[str, ...]:
    declared = getattr(mixer, "strengths", None)
    if isinstance(declared, tuple):
        return declared
    if inspect.isroutine(mixer):
        return ()
    try:
        parameters = inspect.signature(type(mixer)).parameters
    except (TypeError, ValueError):
        return ("gamma", "alpha")
    # As without a constructor of its own: these two have columns in every table.
    named = [name for name in parameters if name != "num_classes"]
    return tuple(dict.fromkeys([*named, "gamma", "alpha"]))
