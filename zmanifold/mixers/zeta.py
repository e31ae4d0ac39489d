"""ζ-mixup: all samples of a batch, weighted by a normalised p-series (Abhishek et al., 2024)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar, overload

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import zeta
from torch import Tensor

from zmanifold._base.arrays import as_array
from zmanifold._base.checks import check_count, is_number
from zmanifold._base.errors import InputError
from zmanifold.mixers._kernels import is_drawn_there, runs_kernels
from zmanifold.mixers._targets import widened
from zmanifold.mixers.linear import LinearMixer, mix, random_order, random_ranks

__all__ = ["ZetaMixup", "gamma_from_lambda", "gamma_min"]

# On a GPU a kernel counts ranks, which takes a time of B³: above this size sorting is faster.
_LARGEST_BY_KERNEL = 1024


class ZetaMixup(LinearMixer):
    """ζ-mixup: each output mixes T samples with the weights i^-γ / Σ j^-γ, i = 1..T.

    Parameters
    ----------
    gamma : float or (float, float), default=2.8
        γ >= 0. At 0 all T samples weigh the same; from `gamma_min` on one sample outweighs all
        others. A pair (low, high) draws γ uniformly for each batch.
    n_mix : int, optional
        T: each output mixes T randomly chosen samples of the batch; all of them by default.
    anchored : bool, default=False
        The place of each row's largest weight. False permutes every row independently (Eq. 6 of
        the paper): some samples have the largest weight in several outputs, others in none. True
        puts it on the diagonal, as the authors' released code does: output k is nearest sample k.
    num_classes : int, optional
        The number of classes; needed when labels are integers.

    Raises
    ------
    InputError
        If `gamma` is not a number >= 0 or an ascending pair of such, or `n_mix` is below 2.

    References
    ----------
    .. [1] K. Abhishek, C. J. Brown, G. Hamarneh, "Multi-sample ζ-mixup: richer, more realistic
       synthetic samples from a p-series interpolant", Journal of Big Data 11, 2024.

    Examples
    --------
    >>> import torch
    >>> import zmanifold as zm
    >>> mixer = zm.ZetaMixup(gamma=2.0)
    >>> weights = mixer.weights(3, generator=torch.Generator().manual_seed(0))
    >>> weights.sort(dim=1, descending=True).values
    tensor([[0.7347, 0.1837, 0.0816],
            [0.7347, 0.1837, 0.0816],
            [0.7347, 0.1837, 0.0816]])
    """

    names: ClassVar[dict[str, dict[str, object]]] = {
        "zeta": {},
        "zeta-anchored": {"anchored": True},
    }
    kind = "linear"
    strengths = ("gamma",)

    def __init__(
        self,
        gamma: float | tuple[float, float] = 2.8,
        *,
        n_mix: int | None = None,
        anchored: bool = False,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(num_classes=num_classes)
        self.gamma = _check_gamma(gamma)
        self.n_mix = None if n_mix is None else check_count("n_mix", n_mix, least=2)
        self.anchored = bool(anchored)

    @property
    def label(self) -> str:
        """The mixer's name in tables, without its strength."""
        name = "zeta-anchored" if self.anchored else "zeta"
        if self.n_mix is not None:
            name += f"-T{self.n_mix}"
        if isinstance(self.gamma, tuple):
            name += f"-U({self.gamma[0]:g},{self.gamma[1]:g})"
        return name

    def extra_repr(self) -> str:
        """Show the parameters, as torch modules do."""
        return f"gamma={self.gamma}, n_mix={self.n_mix}, anchored={self.anchored}"

    def _draw(
        self,
        batch_size: int,
        generator: torch.Generator | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Float[Tensor, "b b"]:
        n_mix = self._n_mixed(batch_size)
        if _by_kernel(batch_size, device, dtype):
            return self._drawn_by_kernel(batch_size, None, generator, device, dtype)[0]
        # The permutations are drawn first: they are the same for every gamma.
        if device.type == "cpu" and not torch.compiler.is_compiling():
            from zmanifold.mixers._shuffles import shuffled_rows

            seeds = torch.empty(batch_size, dtype=torch.int64, device=device)
            seeds.random_(generator=generator)
            series = self._series(n_mix, generator, device)
            series = series.float() if dtype == torch.float32 else series
            return shuffled_rows(series, seeds, anchored=self.anchored)
        # Sorting random keys is the same on all devices, and one graph for all batch sizes.
        shape = (batch_size, batch_size)
        diagonal = None
        if self.anchored:
            diagonal = torch.eye(batch_size, device=device, dtype=torch.float64)
        order = random_order(shape, generator, device, first=diagonal)
        series = self._series(n_mix, generator, device).to(dtype)
        if self.n_mix is not None:
            # Not a part of the order, whose strides would tie a compiled graph to the batch size.
            series = torch.nn.functional.pad(series, (0, batch_size - n_mix))
        zeros = torch.zeros(shape, device=device, dtype=dtype)
        return zeros.scatter(1, order, series.expand(shape))

    def _drawn_and_mixed(
        self, x: Float[Tensor, "b *shape"], y: Tensor, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "b *shape"], Float[Tensor, "b *other"]]:
        dtype = widened(x.dtype)
        classes = y.ndim == 1 and not y.is_floating_point()
        one_place = is_drawn_there(generator, x.device)
        if not (classes and one_place and _by_kernel(x.shape[0], x.device, dtype)):
            return super()._drawn_and_mixed(x, y, generator)
        numbers = y.long().contiguous()
        weights, soft = self._drawn_by_kernel(x.shape[0], numbers, generator, x.device, dtype)
        return mix(weights, x), soft

    def _drawn_by_kernel(
        self,
        batch_size: int,
        classes: Int64[Tensor, " b"] | None,
        generator: torch.Generator | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> tuple[Float[Tensor, "b b"], Float[Tensor, "b c"]]:
        """Draw weights as `_draw` does from the same keys, and mix labels, in one GPU kernel."""
        from zmanifold.mixers._zeta_triton import drawn_rows

        n_mix = self._n_mixed(batch_size)
        keys = random_ranks((batch_size, batch_size), generator, device)
        gamma, uniform = self.gamma, None
        if isinstance(gamma, tuple):
            uniform = random_ranks((1,), generator, device)
        return drawn_rows(
            keys,
            classes,
            gamma=gamma if isinstance(gamma, tuple) else (gamma, gamma),
            uniform=uniform,
            n_mix=n_mix,
            anchored=self.anchored,
            num_classes=self.num_classes or 0,
            dtype=dtype,
        )

    def _n_mixed(self, batch_size: int) -> int:
        n_mix = batch_size if self.n_mix is None else self.n_mix
        if n_mix > batch_size:
            raise InputError(
                f"n_mix={n_mix} samples cannot be chosen from a batch of {batch_size}: "
                "lower n_mix or enlarge the batch."
            )
        return n_mix

    def _series(
        self, n_mix: int, generator: torch.Generator | None, device: torch.device
    ) -> Float64[Tensor, " t"]:
        """Return i^-γ / Σ j^-γ; the result is cached and must not be written to."""
        if isinstance(self.gamma, tuple):
            low, high = self.gamma
            drawn = low + (high - low) * random_ranks((1,), generator, device)
            return _p_series(drawn, n_mix, device)
        if device.type != "cpu" or torch.compiler.is_compiling():
            # Not from the cache: a CUDA graph owns the memory of what is computed in it.
            return _p_series(self.gamma, n_mix, device)
        return torch.from_numpy(_p_series_kept(self.gamma, n_mix))


def _by_kernel(batch_size: int, device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether one GPU kernel draws the weights, instead of 18 of torch's kernels."""
    # The size last: to compare it would tie a compiled graph to sizes up to that one.
    return (
        runs_kernels(device)
        and dtype in (torch.float32, torch.float64)
        and batch_size <= _LARGEST_BY_KERNEL
    )


def _p_series(gamma: float | Tensor, n_mix: int, device: torch.device) -> Float64[Tensor, " t"]:
    # The first term is 1 before division, so no γ overflows.
    terms = torch.exp(-gamma * torch.arange(1, n_mix + 1, device=device, dtype=torch.float64).log())
    return terms / terms.sum()


@lru_cache
def _p_series_kept(gamma: float, n_mix: int) -> Float64[np.ndarray, " t"]:
    return _p_series(gamma, n_mix, torch.device("cpu")).numpy()


def gamma_min(n_mix: int | None = None) -> float:
    """Return the γ from which ζ-mixup's largest weight outweighs all others together.

    Parameters
    ----------
    n_mix : int, optional
        The number T >= 2 of samples mixed; T -> infinity by default, which serves every T.

    Returns
    -------
    float
        The root of ζ_T(γ) = 1 + 2^-γ + ... + T^-γ = 2 (Theorem 1 of the ζ-mixup paper).

    Raises
    ------
    InputError
        If `n_mix` is not a whole number of at least 2.

    Examples
    --------
    >>> import zmanifold as zm
    >>> round(zm.gamma_min(), 5)
    1.72865
    >>> zm.gamma_min(2)
    0.0
    """
    if n_mix is None:
        return float(brentq(lambda g: zeta(g) - 2, 1.5, 2.0, xtol=1e-15))
    ranks = np.arange(2, check_count("n_mix", n_mix, least=2) + 1, dtype=float)
    if len(ranks) == 1:
        return 0.0
    return float(brentq(lambda g: (ranks**-g).sum() - 1, 0.0, 2.0, xtol=1e-15))


@overload
def gamma_from_lambda(lam: float) -> float: ...
@overload
def gamma_from_lambda(lam: NDArray[Any]) -> NDArray[np.float64]: ...
def gamma_from_lambda(lam: Any) -> Any:
    """Return the γ at which ζ-mixup of two samples is mixup with weight λ.

    Parameters
    ----------
    lam : float or ndarray
        λ, strictly between 0 and 1.

    Returns
    -------
    float or ndarray
        γ = log2(λ / (1 - λ)) (Theorem 2 of the ζ-mixup paper); negative where λ < 1/2.

    Raises
    ------
    InputError
        If a λ lies outside (0, 1).

    Examples
    --------
    >>> import zmanifold as zm
    >>> zm.gamma_from_lambda(0.5), round(zm.gamma_from_lambda(0.8), 6)
    (0.0, 2.0)
    """
    values = as_array(lam, "lam")
    # Text and truth values are no weights, even where NumPy would take them for numbers.
    values = values.astype(float) if values.dtype.kind in "iuf" else np.array(np.nan)
    if not ((values > 0) & (values < 1)).all():
        raise InputError(
            f"lam={lam!r} must lie strictly between 0 and 1: λ is the weight of a sample."
        )
    gamma = np.log2(values / (1 - values))
    return gamma if gamma.ndim else float(gamma)


def _check_gamma(gamma: Any) -> float | tuple[float, float]:
    pair = gamma if isinstance(gamma, (tuple, list)) else (gamma, gamma)
    numbers = len(pair) == 2 and all(is_number(g) and g >= 0 for g in pair)
    if not numbers or pair[0] > pair[1]:
        raise InputError(
            f"gamma={gamma!r} must be a number >= 0 or an ascending pair (low, high) of such: "
            "2.8 is the paper's middle choice."
        )
    if isinstance(gamma, (tuple, list)):
        return float(pair[0]), float(pair[1])
    return float(gamma)
