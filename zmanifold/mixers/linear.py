"""What all linear mixers share: draw weights, apply weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from zmanifold._base.arrays import check_dense
from zmanifold._base.checks import check_count
from zmanifold._base.errors import InputError

__all__ = ["LinearMixer", "mix"]


def mix(weights: Tensor, x: Shaped[Tensor, "b *shape"]) -> Float[Tensor, "m *shape"]:
    """Mix samples linearly: row i of the result is the sum over j of weights[i, j] * x[j].

    Parameters
    ----------
    weights : torch.Tensor of shape (m, b)
        One row of weights for each mixed sample.
    x : torch.Tensor of shape (b, ...)
        Samples of any shape and float dtype; never changed.

    Returns
    -------
    torch.Tensor of shape (m, ...)
        Mixed samples with the dtype of `x` (Eq. 5 of the ζ-mixup paper).

    Raises
    ------
    InputError
        If `x` is not a float tensor or does not have one sample a column of `weights`.

    Examples
    --------
    >>> import torch
    >>> import zmanifold as zm
    >>> zm.mix(torch.tensor([[0.25, 0.75]]), torch.tensor([[0.0, 4.0], [8.0, 4.0]]))
    tensor([[6., 4.]])
    """
    check_dense(x, "x")
    if not x.is_floating_point():
        raise InputError(
            f"x has dtype {x.dtype} but mixing needs floats: convert it with x.float()."
        )
    if weights.ndim != 2 or x.ndim < 1 or weights.shape[1] != len(x):
        raise InputError(
            f"weights of shape {tuple(weights.shape)} do not fit x of shape {tuple(x.shape)}: "
            "give one column of weights for each sample."
        )
    return _mixed(weights, x)


def _mixed(
    weights: Float[Tensor, "m b"], x: Float[Tensor, "b *shape"]
) -> Float[Tensor, "m *shape"]:
    m, b = weights.shape
    flat = x.reshape(b, math.prod(x.shape[1:]))
    return (weights.to(x.dtype) @ flat).reshape(m, *x.shape[1:])


class LinearMixer(nn.Module, ABC):
    """A mixer whose outputs are convex combinations of the samples of a batch.

    Called as `torchvision.transforms.v2.MixUp` is: ``mixer(x, y) -> (x_mixed, y_soft)``.

    Parameters
    ----------
    num_classes : int, optional
        The number K of classes; needed when labels are integers.
    """

    def __init__(self, *, num_classes: int | None = None) -> None:
        super().__init__()
        self.num_classes = None if num_classes is None else check_count("num_classes", num_classes)

    @property
    @abstractmethod
    def label(self) -> str:
        """The mixer's name in tables, without its strength."""

    @abstractmethod
    def _draw(
        self,
        batch_size: int,
        generator: torch.Generator | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Float[Tensor, "b b"]:
        """Draw the weights on `device`, which is the generator's if there is one.

        They are computed in float64 and come in `dtype` or a wider one.
        """

    def weights(
        self,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "b b"]:
        """Draw the mixing weights of one batch.

        Parameters
        ----------
        batch_size : int
            The number B of samples.
        generator : torch.Generator, optional
            The only source of randomness when given (torch's global one otherwise). The draw
            happens on its device, so one seed gives the same weights wherever they are used.
        device : str or torch.device, optional
            Where the weights go; the generator's device by default.
        dtype : torch.dtype, optional
            torch's default dtype if not given.

        Returns
        -------
        torch.Tensor of shape (B, B)
            Not negative, each row sums to 1; row i gives mixed sample i.

        Raises
        ------
        InputError
            If the batch is too small for the mixer.
        """
        batch_size = check_count("batch_size", batch_size)
        if generator is not None:
            source = generator.device
        else:
            source = torch.device(device) if device is not None else torch.get_default_device()
        wanted = torch.get_default_dtype() if dtype is None else dtype
        drawn = self._draw(batch_size, generator, source, wanted)
        return drawn.to(
            device=source if device is None else device, dtype=wanted, non_blocking=True
        )

    def forward(
        self,
        x: Shaped[Tensor, "b *shape"],
        y: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "b *shape"], Float[Tensor, "b c"]]:
        """Mix a batch and its labels with the same weights.

        Parameters
        ----------
        x : torch.Tensor of shape (B, ...)
            Samples, any float dtype.
        y : torch.Tensor of shape (B,) or (B, K)
            Integer classes (needs `num_classes`) or soft labels.
        generator : torch.Generator, optional
            The only source of randomness when given.

        Returns
        -------
        x_mixed : torch.Tensor of shape (B, ...)
            In the dtype of `x`.
        y_soft : torch.Tensor of shape (B, K)
            Soft labels, in their own float dtype, or for integer labels in that of `x` (float32
            for half-precision samples).

        Raises
        ------
        InputError
            If samples and labels do not fit each other or the mixer.
        """
        check_dense(x, "x")
        check_dense(y, "y")
        if not x.is_floating_point():
            raise InputError(
                f"x has dtype {x.dtype} but mixing needs floats: convert it with x.float()."
            )
        if y.ndim < 1 or len(y) != len(x):
            raise InputError(
                f"y has shape {tuple(y.shape)} for {len(x)} samples: give one label a sample."
            )
        at_least_float32 = torch.promote_types(x.dtype, torch.float32)
        weights, soft = self._drawn_with_labels(y, generator, x.device, at_least_float32)
        return _mixed(weights, x), soft

    def _drawn_with_labels(
        self,
        y: Tensor,
        generator: torch.Generator | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> tuple[Float[Tensor, "b b"], Float[Tensor, "b c"]]:
        """Draw the weights, and mix the labels with them."""
        soft = self._soft_labels(y, dtype)
        weights = self.weights(len(y), generator=generator, device=device, dtype=dtype)
        return weights, _mixed(weights, soft)

    def _are_soft(self, y: Tensor) -> bool:
        """Say whether labels are soft, once they are known to be what this mixer takes."""
        if y.is_floating_point():
            if y.ndim != 2:
                raise InputError(
                    f"y holds floats of shape {tuple(y.shape)} but soft labels have shape "
                    "(batch, classes): give integers for hard labels."
                )
            return True
        if y.ndim != 1:
            raise InputError(
                f"y holds integers of shape {tuple(y.shape)} but hard labels have shape (batch,): "
                "give floats for soft labels."
            )
        if self.num_classes is None:
            raise InputError(
                "integer labels need num_classes: give it to the mixer, or pass soft labels of "
                "shape (batch, classes)."
            )
        return False

    def _soft_labels(self, y: Tensor, dtype: torch.dtype) -> Float[Tensor, "b c"]:
        if self._are_soft(y):
            return y
        assert self.num_classes is not None
        classes = y.long()
        if y.device.type != "cpu" or torch.compiler.is_compiling():
            # To learn whether all classes are known would make a GPU wait.
            every = torch.arange(self.num_classes, device=y.device)
            return (classes[:, None] == every).to(dtype)
        try:
            return nn.functional.one_hot(classes, self.num_classes).to(dtype)
        except RuntimeError:
            low, high = int(classes.min()), int(classes.max())
            if low >= 0 and high < self.num_classes:
                raise
            raise InputError(
                f"y holds classes {low} to {high} but num_classes={self.num_classes} allows 0 to "
                f"{self.num_classes - 1}: raise num_classes."
            ) from None


def random_order(
    shape: tuple[int, ...],
    generator: torch.Generator | None,
    device: torch.device,
    *,
    first: Tensor | None = None,
) -> Int64[Tensor, ...]:
    """Draw permutations of the last axis; `first` marks what comes first."""
    keys = random_ranks(shape, generator, device)
    if first is not None:
        # Keys lie in [0, 1).
        keys = keys - first.to(keys.dtype)
    if device.type == "cpu" and not torch.compiler.is_compiling():
        # NumPy sorts with vector instructions.
        return torch.from_numpy(keys.numpy().argsort(axis=-1))
    return keys.argsort(dim=-1)


def random_ranks(
    shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
) -> Float[Tensor, ...]:
    """Draw sort keys; float64 makes a tie, and so a biased permutation, all but impossible."""
    return torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
