"""Mixers from the names and strengths that the command line and the experiments use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zmanifold._base.errors import InputError, unknown_name
from zmanifold.mixers.linear import LinearMixer
from zmanifold.mixers.mixup import Mixup
from zmanifold.mixers.zeta import ZetaMixup

__all__ = ["mixers_by_name"]


def mixers_by_name(
    names: Iterable[str],
    *,
    gammas: Sequence[float] = (2.8,),
    alpha: float = 1.0,
    n_mix: int | None = None,
) -> list[LinearMixer | None]:
    """Make the mixers of a sweep.

    Parameters
    ----------
    names : iterable of str
        "none" (the original data), "mixup", "zeta" and "zeta-anchored".
    gammas : sequence of float, default=(2.8,)
        The strengths of each ζ-mixup.
    alpha : float, default=1.0
        The strength of mixup.
    n_mix : int, optional
        How many samples ζ-mixup mixes; the whole batch by default.

    Returns
    -------
    list of LinearMixer or None
        One entry a strength; None stands for the original data.

    Raises
    ------
    InputError
        If a name is unknown, given twice, or a strength is out of its range.

    Examples
    --------
    >>> from zmanifold.mixers.by_name import mixers_by_name
    >>> for mixer in mixers_by_name(["none", "zeta"], gammas=[2.4, 4.0]):
    ...     print(mixer)
    None
    ZetaMixup(gamma=2.4, n_mix=None, anchored=False)
    ZetaMixup(gamma=4.0, n_mix=None, anchored=False)
    """
    # A strength that no named mixer uses is checked, too.
    known: dict[str, list[LinearMixer | None]] = {
        "none": [None],
        "mixup": [Mixup(alpha)],
        "zeta": [ZetaMixup(gamma, n_mix=n_mix) for gamma in gammas],
        "zeta-anchored": [ZetaMixup(gamma, n_mix=n_mix, anchored=True) for gamma in gammas],
    }
    mixers: list[LinearMixer | None] = []
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"mixer {name!r} is given twice: name each mixer once.")
        seen.add(name)
        if name not in known:
            raise unknown_name("mixer", name, known)
        mixers += known[name]
    return mixers
