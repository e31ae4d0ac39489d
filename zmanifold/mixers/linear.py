"""The base class of linear mixers, which draw weights and mix with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from zmanifold._base.ambient import autocast_outside
from zmanifold._base.arrays import check_dense
from zmanifold._base.checks import check_count
from zmanifold._base.errors import InputError
from zmanifold.mixers._structures import rebuilt, samples_and_labels
from zmanifold.mixers._targets import check_targets, one_hot, widened

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
        If `x` is not a float tensor, or does not have one sample for each column of `weights`.

    Examples
    --------
    >>> import torch
    >>> import zmanifold as zm
    >>> zm.mix(torch.tensor([[0.25, 0.75]]), torch.tensor([[0.0, 4.0], [8.0, 4.0]]))
    tensor([[6., 4.]])
    """
    _check_samples(x)
    if weights.ndim != 2 or x.ndim < 1 or weights.shape[1] != x.shape[0]:
        raise InputError(
            f"weights of shape {tuple(weights.shape)} do not fit x of shape {tuple(x.shape)}: "
            "give one column of weights for each sample."
        )
    return _mixed(weights, x)


def _check_samples(x: Tensor) -> None:
    check_dense(x, "x")
    if not x.is_floating_point():
        convert = "torch.view_as_real(x)" if x.is_complex() else "x.float()"
        raise InputError(
            f"x has dtype {x.dtype} but mixing needs floats: convert it with {convert}."
        )


def _mixed(
    weights: Float[Tensor, "m b"], x: Float[Tensor, "b *shape"]
) -> Float[Tensor, "m *shape"]:
    flat = as_rows(x)
    # torch does not multiply floats of 8 bits.
    dtype = x.dtype if x.dtype.itemsize > 1 else torch.float32
    with autocast_outside(x.device.type):
        product = weights.to(dtype) @ flat.to(dtype)
    return from_rows(product.to(x.dtype), x)


def as_rows(x: Shaped[Tensor, "b *shape"]) -> Shaped[Tensor, "b d"]:
    """Return each sample as a row, without a copy where samples lie dense in memory.

    Samples in the memory format channels_last have their channels last in the rows, and mixed rows
    the same format in `from_rows`.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.mixers.linear import as_rows, from_rows
    >>> x = torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    >>> as_rows(x).shape, from_rows(as_rows(x), x).equal(x)
    (torch.Size([2, 48]), True)
    """
    ordered = x.movedim(1, -1) if _channels_last(x) else x
    return ordered.flatten(1) if x.ndim > 1 else x[:, None]


def from_rows(
    rows: Shaped[Tensor, "m d"], like: Shaped[Tensor, "b *shape"]
) -> Shaped[Tensor, "m *shape"]:
    """Return rows, ordered as those that `as_rows` makes of `like`, in its shape."""
    shape, count = like.shape[1:], rows.shape[0]
    if not _channels_last(like):
        return rows.reshape(count, *shape)
    return rows.reshape(count, *shape[1:], shape[0]).movedim(-1, 1)


def _channels_last(x: Tensor) -> bool:
    return x.ndim > 2 and x.stride(1) == 1


class LinearMixer(nn.Module, ABC):
    """A mixer whose outputs are convex combinations of the samples of a batch.

    It is called like `torchvision.transforms.v2.MixUp`: ``mixer(x, y) -> (x_mixed, y_soft)``.

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

        Weights are computed in float64 and returned in `dtype` or a wider one.
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
            The only source of randomness; torch's global generator by default. Weights are drawn on
            its device, so that a seed gives the same weights wherever they are used.
        device : str or torch.device, optional
            The device of the weights; by default the generator's.
        dtype : torch.dtype, optional
            torch's default dtype if not given.

        Returns
        -------
        torch.Tensor of shape (B, B)
            Weights of at least 0. Each row sums to 1; row i gives mixed sample i.

        Raises
        ------
        InputError
            If the batch is too small for the mixer.
        """
        batch_size = check_count("batch_size", batch_size)
        _check_generator(generator)
        where = None if device is None else torch.device(device)
        if where is None and generator is None:
            where = torch.get_default_device()
        wanted = torch.get_default_dtype() if dtype is None else dtype
        return self._drawn(batch_size, generator, where, wanted)

    def _drawn(
        self,
        batch_size: int,
        generator: torch.Generator | None,
        device: torch.device | None,
        dtype: torch.dtype,
    ) -> Float[Tensor, "b b"]:
        source = device if generator is None else generator.device
        assert source is not None
        drawn = self._draw(batch_size, generator, source, dtype)
        target = source if device is None else device
        # A copy to the host must be waited for: it could be read before it has arrived.
        return drawn.to(target, dtype, non_blocking=target.type != "cpu")

    def forward(
        self, x: Any, y: Any = None, *others: Any, generator: torch.Generator | None = None
    ) -> Any:
        """Mix a batch and its labels with the same weights.

        Parameters
        ----------
        x : torch.Tensor of shape (B, ...), or dict, list or tuple
            Samples of any float dtype. Without `y`, a batch as data loaders make them: the result
            has the same structure, with samples and labels mixed and all else as it was. As in
            torchvision's MixUp, the labels are the second member of a list or tuple, and the member
            of a dict whose name is "labels" or contains "label"; the samples are the first other
            tensor of floats.
        y : torch.Tensor of shape (B,), (B, K) or (B, ...)
            Integer classes, one for each sample or, in a mask (B, H, W), for each pixel (they need
            `num_classes`); soft labels (B, K); or floats of any shape, such as targets of a
            regression.
        *others : object
            Further members of the batch, which are returned as they are.
        generator : torch.Generator, optional
            The only source of randomness; torch's global generator by default.

        Returns
        -------
        x_mixed : torch.Tensor of shape (B, ...)
            Mixed samples, in the dtype and memory format of `x`.
        y_mixed : torch.Tensor of shape (B, K), (B, K, H, W) or (B, ...)
            Floats keep their dtype; soft labels of integer classes have that of `x` (float32 for
            half-precision samples). An unknown class is refused on a CPU, and gives NaN in compiled
            code and on other devices, where a check would make the host wait.

        Raises
        ------
        InputError
            If samples and labels do not fit each other or the mixer.

        Examples
        --------
        >>> import torch
        >>> import zmanifold as zm
        >>> batch = {"image": torch.rand(2, 3, 8, 8), "label": torch.tensor([0, 1]), "id": [7, 8]}
        >>> mixed = zm.Mixup(num_classes=2)(batch)
        >>> mixed["image"].shape, mixed["label"].shape, mixed["id"]
        (torch.Size([2, 3, 8, 8]), torch.Size([2, 2]), [7, 8])
        """
        if not isinstance(x, (Mapping, list, tuple)) and not isinstance(y, Mapping):
            if y is None:
                raise InputError(
                    "mixer(x) has no labels: call mixer(x, y), or zm.mix(mixer.weights(len(x)), x) "
                    "for samples alone."
                )
            return (*self._mixed_batch(x, y, generator), *others)
        batch = x if y is None else (x, y, *others)
        samples, labels = samples_and_labels(batch)
        mixed, soft = self._mixed_batch(samples, labels, generator)

        def change(member: Any) -> Any:
            return mixed if member is samples else soft if member is labels else member

        return rebuilt(batch, change)

    def _mixed_batch(
        self, x: Tensor, y: Tensor, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "b *shape"], Float[Tensor, "b *other"]]:
        _check_samples(x)
        check_dense(y, "y")
        _check_generator(generator)
        if x.ndim < 1:
            raise InputError("x is a single number but must hold samples: give x[None].")
        if y.ndim < 1 or y.shape[0] != x.shape[0]:
            raise InputError(
                f"y has shape {tuple(y.shape)} for {x.shape[0]} samples: give one label a sample."
            )
        if y.device != x.device:
            raise InputError(
                f"y lies on {y.device} but x on {x.device}: give y.to({str(x.device)!r})."
            )
        check_targets(y, self.num_classes)
        if x.shape[0] == 0:
            return x, self._soft(y, widened(x.dtype))
        return self._drawn_and_mixed(x, y, generator)

    def _drawn_and_mixed(
        self, x: Float[Tensor, "b *shape"], y: Tensor, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "b *shape"], Float[Tensor, "b *other"]]:
        """Draw weights, and mix a checked batch and its checked labels with them."""
        dtype = widened(x.dtype)
        weights = self._drawn(x.shape[0], generator, x.device, dtype)
        return _mixed(weights, x), _mixed(weights, self._soft(y, dtype))

    def _soft(self, y: Shaped[Tensor, "b *shape"], dtype: torch.dtype) -> Float[Tensor, "b *other"]:
        if y.is_floating_point():
            return y
        assert self.num_classes is not None
        return one_hot(y, self.num_classes, dtype)


def _check_generator(generator: Any) -> None:
    if generator is not None and not isinstance(generator, torch.Generator):
        seed = generator if type(generator) is int else 0
        raise InputError(
            f"generator={generator!r} is a {type(generator).__name__} but must be a "
            f"torch.Generator: give torch.Generator().manual_seed({seed})."
        )


def random_order(
    shape: tuple[int, ...],
    generator: torch.Generator | None,
    device: torch.device,
    *,
    first: Tensor | None = None,
) -> Int64[Tensor, "..."]:
    """Draw permutations of the last axis; places where `first` is 1 come first."""
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
) -> Float[Tensor, "..."]:
    """Draw random numbers to sort by, in float64: ties, which bias a permutation, hardly occur."""
    if generator is None:
        return torch.rand(shape, device=device, dtype=torch.float64)
    # Given a generator, None included, torch cannot trace a shape that varies.
    return torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
