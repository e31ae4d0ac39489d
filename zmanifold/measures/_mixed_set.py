"""Metrics of a mixed set beside its originals: label error, distance to the manifold, diversity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from zmanifold._base.ambient import ambient_outside
from zmanifold._base.arrays import as_array
from zmanifold._base.checks import resolve_device
from zmanifold._base.errors import InputError
from zmanifold._base.memory import working_memory
from zmanifold.measures.comparison import Comparison
from zmanifold.measures.registry import make_measures

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MixedSetMetrics", "mixed_set_metrics"]


@dataclass(frozen=True, eq=False)
class MixedSetMetrics:
    """The result of `mixed_set_metrics` for m mixed samples.

    Each measure is also an attribute with its name: ``result.label_error``.

    Attributes
    ----------
    n_neighbors : int
        The neighbourhood size k.
    nearest : ndarray of int64, shape (m,)
        Row number of the original nearest to each mixed sample.
    samples : mapping of str to ndarray of shape (m,)
        The measures with one value a mixed sample, by name.
    of_set : mapping of str to float
        The measures with one value for the whole set, by name.

    Examples
    --------
    >>> import zmanifold as zm
    >>> X, y = zm.make_crescents(random_state=0)
    >>> mixed = zm.mixed_set(X, y, zm.Mixup())
    >>> zm.mixed_set_metrics(X, y, *mixed).nearest.shape
    (512,)
    """

    n_neighbors: int
    nearest: NDArray[np.int64] = field(repr=False)
    samples: Mapping[str, NDArray[Any]] = field(repr=False)
    of_set: Mapping[str, float]

    def __getattr__(self, name: str) -> Any:
        for measures in (self.__dict__.get("samples", {}), self.__dict__.get("of_set", {})):
            if name in measures:
                return measures[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def to_frame(self) -> pd.DataFrame:
        """Return the table of the samples.

        Returns
        -------
        pandas.DataFrame
            One row a mixed sample, with the columns nearest and one for each measure of samples.
        """
        import pandas as pd

        return pd.DataFrame({"nearest": self.nearest, **self.samples})

    def summary(self) -> dict[str, float]:
        """Return one number for each measure.

        Returns
        -------
        dict of str to float
            The means of the samples' measures, and the measures of the set.
        """
        means = {name: float(values.mean()) for name, values in self.samples.items()}
        return means | dict(self.of_set)


@ambient_outside()
def mixed_set_metrics(
    original_x: Any,
    original_y: Any,
    mixed_x: Any,
    mixed_y: Any,
    *,
    n_neighbors: int = 5,
    measures: Any = None,
    device: str | torch.device = "auto",
    memory_limit: int | None = None,
) -> MixedSetMetrics:
    """Measure label error, distance to the manifold and diversity of a mixed set.

    Parameters
    ----------
    original_x : array-like or torch.Tensor of shape (n, d)
        The samples that were mixed, or other samples of the same manifold.
    original_y : array-like of shape (n,) or (n, K)
        Their labels. If the mixed labels are soft, these are soft labels or classes 0..K-1.
    mixed_x : array-like or torch.Tensor of shape (m, d)
        The mixed samples.
    mixed_y : array-like of shape (m,) or (m, K)
        Their labels, usually soft.
    n_neighbors : int, default=5
        Neighbourhood size k of `contradicted_mass` and of the balls of precision, recall,
        density and coverage, k < n and k < m.
    measures : iterable of str or measure, optional
        Names that `zmanifold.measures.available` lists, or objects (see
        `zmanifold.measures.register`). By default all measures that are listed.
    device : str or torch.device, default="auto"
        The device that computes; "auto" takes that of a tensor, or a GPU if the machine has one.
    memory_limit : int, optional
        Bytes of working memory besides the data and what measures keep, up to 100 bytes a sample;
        results do not depend on it.

    Returns
    -------
    MixedSetMetrics
        `to_frame()` gives the table of the samples, `summary()` one number a measure.

    Raises
    ------
    InputError
        If an argument is out of its range; the message names the argument.

    Notes
    -----
    Each search is made once and shared by all measures.

    - *Label error* or *manifold intrusion* [1]_, [2]_: the class of the nearest original differs
      from the argmax of the mixed label (the first of equal entries).
    - *Contradicted label mass*: the total variation distance Σ_c max(y_c - q_c, 0) of the
      mixed label y from the mean label q of the k nearest originals.
    - *Distance to the manifold*: the distance to the nearest original x. The *relative* distance is
      that divided by the distance from x to the nearest other original. If x has a duplicate, so
      that the divisor is zero, the relative distance is 0 for a mixed sample at x and infinite
      for any other.
    - B(x, k) is the closed ball around x that reaches to the k-th nearest other point of the same
      set. *Precision* is the share of mixed samples in at least one ball of
      the originals, *recall* the share of originals in at least one ball of the mixed samples
      [3]_. *Density* is the number of originals' balls around a mixed sample, divided by k, on
      average. *Coverage* is the share of originals whose ball holds at least one mixed sample
      [4]_. Balls are closed, as in Eq. 1 of [3]_. The released code of [4]_ has open balls, which
      differ only by points exactly on their boundary.
    - *Spread*: the total variance (trace of the covariance) of the mixed set, divided by that of
      the originals. It is infinite if only the originals have variance 0, NaN if both have.

    References
    ----------
    .. [1] H. Guo, Y. Mao and R. Zhang, "MixUp as locally linear out-of-manifold regularization",
       AAAI 2019.
    .. [2] K. Abhishek, C. J. Brown and G. Hamarneh, "Multi-sample ζ-mixup: richer, more
       realistic synthetic samples from a p-series interpolant", Journal of Big Data 11, 2024.
    .. [3] T. Kynkäänniemi et al., "Improved precision and recall metric for assessing generative
       models", NeurIPS 2019.
    .. [4] M. F. Naeem et al., "Reliable fidelity and diversity metrics for generative models",
       ICML 2020.

    Examples
    --------
    >>> import zmanifold as zm
    >>> X, y = zm.make_crescents(random_state=0)
    >>> for mixer in (zm.Mixup(), zm.ZetaMixup(4.0)):
    ...     found = zm.mixed_set_metrics(X, y, *zm.mixed_set(X, y, mixer)).summary()
    ...     print(f"{found['label_error']:.2f} {found['precision']:.2f} {found['recall']:.2f}")
    0.19 0.86 1.00
    0.00 0.99 0.97
    """
    chosen = make_measures(measures)
    where = resolve_device(device, like=original_x)
    sets = Comparison.of(
        original_x, original_y, mixed_x, mixed_y,
        n_neighbors=n_neighbors, device=where, memory=working_memory(memory_limit, where),
    )  # fmt: skip
    samples: dict[str, NDArray[Any]] = {}
    of_set: dict[str, float] = {}
    for name, measure in chosen.items():
        value = as_array(measure(sets), f"measure {name!r}")
        if value.shape == (len(sets.mixed),):
            samples[name] = value
        elif value.ndim == 0:
            of_set[name] = float(value)
        else:
            raise InputError(
                f"measure {name!r} returned shape {tuple(value.shape)} for {len(sets.mixed)} mixed "
                "samples: return one number a sample, or one of the whole set."
            )
    return MixedSetMetrics(sets.n_neighbors, sets.nearest.cpu().numpy(), samples, of_set)
