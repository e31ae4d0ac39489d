"""mixup: convex combinations of pairs (Zhang et al., ICLR 2018)."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from zmanifold._base.checks import is_number
from zmanifold._base.errors import InputError
from zmanifold.mixers.linear import LinearMixer, random_order, random_ranks

__all__ = ["Mixup"]


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
        lam = self._lambda(batch_size if self.per_sample else 1, generator, device)
        partner = random_order((batch_size,), generator, device)
        lam = lam.expand(batch_size)
        return torch.diag(lam).scatter_add(1, partner[:, None], (1 - lam)[:, None])

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
