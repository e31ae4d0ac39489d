"""mixup: convex combinations of pairs (Zhang et al., ICLR 2018)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.autograd import forward_ad

from zmanifold._base.checks import is_number
from zmanifold._base.errors import InputError
from zmanifold.mixers._kernels import is_drawn_there, runs_kernels
from zmanifold.mixers._targets import widened
from zmanifold.mixers.linear import LinearMixer, as_rows, from_rows, random_order, random_ranks

__all__ = ["Mixup"]

_unpack_dual: Any = forward_ad.unpack_dual

# What a kernel mixes.
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Mixup(LinearMixer):
    """mixup: x_k becomes λ x_k + (1 - λ) x_π(k), with λ from Beta(α, α) and π random.

    Parameters
    ----------
    alpha : float, default=1.0
        α > 0; at 1 λ is uniform, towards 0 samples stay as they are.
    per_sample : bool, default=False
        Draw a λ for each sample rather than one for the batch.
    num_classes : int, optional
        The number of classes; needed when labels are integers.

    Raises
    ------
    InputError
        If `alpha` is not a positive number.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin, D. Lopez-Paz, "mixup: Beyond empirical risk
       minimization", ICLR 2018 (Eq. 4 of the ζ-mixup paper).

    Examples
    --------
    >>> import torch
    >>> import zmanifold as zm
    >>> x, y = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 1])
    >>> mixed, soft = zm.Mixup(num_classes=3)(x, y)
    >>> mixed.shape, soft.shape
    (torch.Size([4, 3, 8, 8]), torch.Size([4, 3]))
    """

    names: ClassVar[dict[str, dict[str, object]]] = {"mixup": {}}
    kind = "linear"
    strengths = ("alpha",)

    def __init__(
        self, alpha: float = 1.0, *, per_sample: bool = False, num_classes: int | None = None
    ) -> None:
        super().__init__(num_classes=num_classes)
        if not (is_number(alpha) and alpha > 0):
            raise InputError(f"alpha={alpha!r} must be a positive number: 1.0 makes λ uniform.")
        self.alpha = float(alpha)
        self.per_sample = bool(per_sample)

    @property
    def label(self) -> str:
        """The mixer's name in tables, without its strength."""
        return "mixup-per-sample" if self.per_sample else "mixup"

    def extra_repr(self) -> str:
        """Show the parameters, as torch modules do."""
        return f"alpha={self.alpha}, per_sample={self.per_sample}"

    def _draw(
        self,
        batch_size: int,
        generator: torch.Generator | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Float64[Tensor, "b b"]:
        # In float64: if a sample is its own partner, λ + (1 - λ) must be 1 exactly.
        if _draws_at_once(device):
            lam, partner = self._pairs_of(self._uniforms(batch_size, generator, device), batch_size)
        else:
            lam = self._lambda(self._n_lambdas(batch_size), generator, device)
            partner = random_order((batch_size,), generator, device)
        lam = lam.expand(batch_size)
        return torch.diag(lam).scatter_add(1, partner[:, None], (1 - lam)[:, None])

    def _drawn_and_mixed(
        self, x: Float[Tensor, "b *shape"], y: Tensor, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "b *shape"], Float[Tensor, "b *other"]]:
        if not (is_drawn_there(generator, x.device) and _by_kernel(x, y)):
            return super()._drawn_and_mixed(x, y, generator)
        from zmanifold.mixers._pairs_triton import mixed_pairs, pairs_and_labels

        b, dtype = x.shape[0], widened(x.dtype)
        hard = y.ndim == 1 and not y.is_floating_point()
        lam, partner, soft = pairs_and_labels(
            self._uniforms(b, generator, x.device),
            y.long().contiguous() if hard else None,
            batch_size=b,
            alpha=self.alpha,
            num_classes=self.num_classes or 0,
            dtype=dtype,
        )
        if not hard:
            targets = self._soft(y, dtype)
            soft = from_rows(mixed_pairs(lam, partner, as_rows(targets)), targets)
        return from_rows(mixed_pairs(lam, partner, as_rows(x)), x), soft

    def _n_lambdas(self, batch_size: int) -> int:
        return batch_size if self.per_sample else 1

    def _uniforms(
        self, batch_size: int, generator: torch.Generator | None, device: torch.device
    ) -> Float64[Tensor, " n"]:
        """Draw all numbers that a batch needs: two for each λ, then the keys of the partners."""
        lambdas = self._n_lambdas(batch_size)
        return random_ranks((2 * lambdas + batch_size,), generator, device)

    def _pairs_of(
        self, uniforms: Float64[Tensor, " n"], batch_size: int
    ) -> tuple[Float64[Tensor, " lambdas"], Int64[Tensor, " b"]]:
        """Return λ and the partners from the numbers that `_uniforms` draws."""
        lambdas = self._n_lambdas(batch_size)
        lam = _symmetric_beta(uniforms[:lambdas], uniforms[lambdas : 2 * lambdas], self.alpha)
        return lam, uniforms[2 * lambdas :].argsort(stable=True)

    def _lambda(
        self, count: int, generator: torch.Generator | None, device: torch.device
    ) -> Float64[Tensor, " count"]:
        """Draw λ ~ Beta(α, α) as G/(G + G') from gamma variates, in logarithms.

        Gamma(α) = Gamma(α + 1) U^(1/α) (Marsaglia and Tsang 2000, section 6) keeps the logarithm
        finite for small α, where the variates themselves underflow to 0/0.
        """
        shape = torch.full((2, count), self.alpha + 1, device=device, dtype=torch.float64)
        boosted = torch._standard_gamma(shape, generator=generator)
        # 1 - rand lies in (0, 1]: its logarithm is finite.
        uniform = 1 - random_ranks((2, count), generator, device)
        log_gamma = boosted.log() + uniform.log() / self.alpha
        return torch.sigmoid(log_gamma[0] - log_gamma[1])


def _draws_at_once(device: torch.device) -> bool:
    """Tell whether one launch draws all numbers of a batch: on a GPU each launch takes 2 to 10 µs.

    Elsewhere a seed keeps the λ and the partners that it has had since version 0.1.0.
    """
    return device.type == "cuda"


def _symmetric_beta(
    spread: Float64[Tensor, " n"], turn: Float64[Tensor, " n"], alpha: float
) -> Float64[Tensor, " n"]:
    """Return variates of Beta(α, α) from two uniform numbers in [0, 1) each, without rejection.

    With U = 1 - spread and c = cos(π turn), t = sqrt(U^(-1/α) - 1) c times sqrt(2α) has Student's
    t distribution of 2α degrees of freedom (Bailey 1994), of which 1/2 + t / (2 sqrt(1 + t²)) is a
    variate of Beta(α, α). The smaller of it and 1 minus it is 1/(1 + (|t| + sqrt(1 + t²))²).

    Examples
    --------
    >>> import torch
    >>> from zmanifold.mixers.mixup import _symmetric_beta
    >>> spread, turn = torch.tensor([[0.0, 0.75, 0.75], [0.2, 0.0, 1.0]]).double()
    >>> _symmetric_beta(spread, turn, 1.0)
    tensor([0.5000, 0.9330, 0.0670], dtype=torch.float64)
    """
    # exp(600) and its square root's square are finite, and exp(-600) is as good as 0.
    exponent = (-(1 - spread).log() / alpha).clamp(max=600)
    cosine = (math.pi * turn).cos()
    t = (exponent.exp() - 1).sqrt() * cosine.abs()
    smaller = 1 / ((t + (t * t + 1).sqrt()) ** 2 + 1)
    return torch.where(cosine < 0, smaller, 1 - smaller)


def _by_kernel(x: Tensor, y: Tensor) -> bool:
    """Tell whether GPU kernels, which nobody differentiates, mix these samples and targets."""
    mixed = (x, y) if y.is_floating_point() else (x,)
    return (
        runs_kernels(x.device)
        and all(t.dtype in _DTYPES for t in mixed)
        and not (torch.is_grad_enabled() and any(t.requires_grad for t in mixed))
        and not any(_has_tangent(t) for t in mixed)
        # Tensors of other classes may have no memory that a kernel could read.
        and all(type(t) in (Tensor, nn.Parameter) for t in (x, y))
    )


def _has_tangent(x: Tensor) -> bool:
    return _unpack_dual(x).tangent is not None
