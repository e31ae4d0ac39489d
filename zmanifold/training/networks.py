"""Networks for the classification of small images, with the features of their penultimate layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from zmanifold._base.ambient import ambient_outside
from zmanifold._base.arrays import as_points
from zmanifold._base.checks import check_count
from zmanifold._base.errors import InputError, unknown_name
from zmanifold._base.parallel import chunks

__all__ = ["ARCHITECTURES", "Classifier", "ResNet18", "SmallNet", "as_images", "make_classifier"]

# The number of images of a batch in evaluation. `ResNet18` at 32 x 32 pixels takes 256 KiB for the
# output of an early layer of one image (64 channels in float32), 250 MiB for a batch.
_INFERENCE_BATCH = 1000


class Classifier(nn.Module):
    """Convolutional layers, a mean over the image, and a linear layer.

    Parameters
    ----------
    image_shape : tuple of int
        (channels, height, width).
    n_classes : int
        The number of classes.
    n_features : int
        The width of the penultimate layer.

    Attributes
    ----------
    layers : nn.Sequential
        Maps standardised images to n_features channels.
    head : nn.Linear
        Maps features to logits.
    """

    layers: nn.Sequential
    mean: Tensor
    std: Tensor

    def __init__(self, image_shape: tuple[int, int, int], n_classes: int, n_features: int) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.n_classes = n_classes
        self.head = nn.Linear(n_features, n_classes)
        # The network standardises pixels itself, so that a saved model needs nothing else.
        self.register_buffer("mean", torch.zeros(image_shape[0], 1, 1))
        self.register_buffer("std", torch.ones(image_shape[0], 1, 1))

    def features(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f"]:
        """Return the outputs of `layers`, averaged over the image."""
        mean: Tensor = self.layers((x - self.mean) / self.std).mean(dim=(2, 3))
        return mean

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Return the classes' logits."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def standardise(self, images: Float[Tensor, "n c h w"]) -> None:
        """Take the channels' mean and standard deviation from the training images."""
        self.mean.copy_(images.mean(dim=(0, 2, 3))[:, None, None])
        # A constant channel has no scale to divide by.
        spread = images.std(dim=(0, 2, 3))[:, None, None]
        self.std.copy_(torch.where(spread > 0, spread, 1.0))

    def penultimate(self, X: Any) -> NDArray[np.float32]:
        """Return the features of a whole set of images.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images, flattened or not.

        Returns
        -------
        ndarray of float32, shape (n, n_features)
            The penultimate layer's outputs, in evaluation mode.
        """
        return self._map(self.features, X)

    def logits(self, X: Any) -> NDArray[np.float32]:
        """Return the logits of a whole set of images, shape (n, n_classes); see `penultimate`."""
        return self._map(self.forward, X)

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return the most likely class of each of a whole set of images, shape (n,)."""
        classes: NDArray[np.int64] = self.logits(X).argmax(axis=1)
        return classes

    @ambient_outside()
    def _map(self, function: Callable[[Tensor], Tensor], X: Any) -> NDArray[np.float32]:
        device = self.head.weight.device
        images = as_images(X, self.image_shape)
        training = self.training
        self.eval()
        out = []
        with torch.inference_mode():
            for part in chunks(len(images), _INFERENCE_BATCH):
                out.append(function(images[part].to(device)).float().cpu())
        self.train(training)
        return torch.cat(out).numpy()


class SmallNet(Classifier):
    """Three convolutions with batch normalisation, 94,000 parameters, small enough for a CPU.

    Parameters
    ----------
    image_shape : tuple of int
        (channels, height, width), at least 4 x 4.
    n_classes : int
        The number of classes.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.training.networks import SmallNet
    >>> SmallNet((1, 28, 28), 10)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, image_shape: tuple[int, int, int], n_classes: int) -> None:
        super().__init__(image_shape, n_classes, 128)
        self.layers = nn.Sequential(
            *_convolution(image_shape[0], 32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            *_convolution(32, 64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            *_convolution(64, 128),
            nn.ReLU(),
        )


class ResNet18(Classifier):
    """ResNet-18 for CIFAR: a 3 x 3 stem without pooling, 11 million parameters.

    Parameters
    ----------
    image_shape : tuple of int
        (channels, height, width), at least 8 x 8.
    n_classes : int
        The number of classes.

    References
    ----------
    .. [1] K. He et al., "Deep residual learning for image recognition", CVPR 2016.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.training.networks import ResNet18
    >>> ResNet18((3, 32, 32), 10).features(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 512])
    """

    def __init__(self, image_shape: tuple[int, int, int], n_classes: int) -> None:
        super().__init__(image_shape, n_classes, 512)
        widths = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
        blocks: list[nn.Module] = []
        for n_in, n_out, stride in widths:
            blocks += [_Residual(n_in, n_out, stride), _Residual(n_out, n_out, 1)]
        self.layers = nn.Sequential(*_convolution(image_shape[0], 64), nn.ReLU(), *blocks)


class _Residual(nn.Module):
    """Two convolutions and a shortcut, which is a 1 x 1 convolution where the shape changes."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(n_in, n_out, stride), nn.ReLU(), *_convolution(n_out, n_out)
        )
        same = stride == 1 and n_in == n_out
        self.shortcut = nn.Sequential(*([] if same else _convolution(n_in, n_out, stride, size=1)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h2 w2"]:
        return torch.relu(self.layers(x) + self.shortcut(x))


ARCHITECTURES: dict[str, Callable[[tuple[int, int, int], int], Classifier]] = {
    "small": SmallNet,
    "resnet18": ResNet18,
}

# A network halves the image's sides twice (small) or three times (resnet18): from this size on at
# least one pixel is left.
_LEAST_SIZE = {"small": 4, "resnet18": 8}


def make_classifier(
    arch: str, image_shape: tuple[int, ...], n_classes: int, *, seed: int
) -> Classifier:
    """Return a network whose initial weights are a function of the seed.

    Parameters
    ----------
    arch : {"small", "resnet18"}
        `SmallNet` or `ResNet18`.
    image_shape : tuple of int
        (channels, height, width).
    n_classes : int
        The number of classes, at least 2.
    seed : int
        The source of the initial weights.

    Returns
    -------
    Classifier
        The network, on the CPU and in training mode.

    Raises
    ------
    InputError
        If `arch` is unknown, or the images are smaller than its smallest image size.

    Examples
    --------
    >>> from zmanifold.training.networks import make_classifier
    >>> model = make_classifier("small", (1, 8, 8), 10, seed=0)
    >>> sum(p.numel() for p in model.parameters())
    94186
    """
    if arch not in ARCHITECTURES:
        raise unknown_name("architecture", arch, ARCHITECTURES)
    channels, height, width = image_shape
    if min(height, width) < _LEAST_SIZE[arch]:
        raise InputError(
            f"images of {height} x {width} pixels are too small for {arch!r}: it needs at least "
            f"{_LEAST_SIZE[arch]} x {_LEAST_SIZE[arch]}, enlarge them."
        )
    n_classes = check_count("n_classes", n_classes, least=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(check_count("seed", seed, least=0))
        return ARCHITECTURES[arch]((channels, height, width), n_classes)


def as_images(X: Any, image_shape: tuple[int, int, int]) -> Float[Tensor, "n c h w"]:
    """Return flattened or shaped images as a checked float32 tensor on the CPU.

    Examples
    --------
    >>> from zmanifold.training.networks import as_images
    >>> as_images([[0.0, 1.0, 2.0, 3.0]], (1, 2, 2)).shape
    torch.Size([1, 1, 2, 2])
    """
    flat = X.reshape(len(X), -1) if getattr(X, "ndim", 2) > 2 else X
    points = as_points(flat, name="images", min_samples=1, device=torch.device("cpu"))
    if points.shape[1] != np.prod(image_shape):
        raise InputError(
            f"images have {points.shape[1]} values but the model was made for shape "
            f"{tuple(image_shape)}: give images of that shape."
        )
    return points.float().view(-1, *image_shape)


def _convolution(n_in: int, n_out: int, stride: int = 1, *, size: int = 3) -> list[nn.Module]:
    return [
        nn.Conv2d(n_in, n_out, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(n_out),
    ]
