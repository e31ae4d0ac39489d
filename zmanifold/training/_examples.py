"""Conversion of a data set to checked images with soft labels."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from zmanifold._base.errors import InputError
from zmanifold._base.labels import as_labels, name_some
from zmanifold.datasets import Dataset
from zmanifold.training.networks import as_images

__all__ = ["as_examples", "as_test", "fingerprint"]


def as_examples(dataset: Dataset) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n k"]]:
    """Return a data set's images and its labels as distributions over the classes."""
    if dataset.image_shape is None or len(dataset.image_shape) != 3:
        raise InputError(
            f"{dataset.name!r} holds no images (image_shape={dataset.image_shape}) but a network "
            "needs them: save x with shape (n, channels, height, width)."
        )
    if dataset.labels is None:
        raise InputError(f"{dataset.name!r} has no labels: save them as array y of an .npz file.")
    channels, height, width = dataset.image_shape
    images = as_images(dataset.points, (channels, height, width))
    labels = as_labels(dataset.labels, len(images), name="labels")
    if labels.soft is None:
        known = 0 if dataset.class_names is None else len(dataset.class_names)
        n_classes = max(known, int(labels.classes[-1]) + 1)
        labels = as_labels(dataset.labels, len(images), name="labels", classes=np.arange(n_classes))
    return images, labels.distributions().float()


def as_test(test: Dataset, dataset: Dataset, n_classes: int) -> Dataset:
    """Return checked test images; their classes get the numbers of the training images' classes."""
    as_examples(test)
    if test.image_shape != dataset.image_shape:
        raise InputError(
            f"{test.name!r} holds test images of shape {test.image_shape} but training images of "
            f"shape {dataset.image_shape}: bring them to one size."
        )
    labels, names, known = test.labels, test.class_names, dataset.class_names
    if names and known and names != known and labels is not None and labels.ndim == 1:
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise InputError(
                f"{test.name!r} holds test images of class {unknown[0]!r} but training images of "
                f"{name_some(np.array(known))}: remove such images, or add training images."
            )
        labels = np.array([known.index(name) for name in names])[labels]
    as_labels(labels, len(test.points), name="test labels", classes=np.arange(n_classes))
    return replace(test, labels=labels)


def fingerprint(images: Float[Tensor, "n c h w"], labels: Float[Tensor, "n k"]) -> str:
    """Return a checksum of the data, by which a resumed training recognises it."""
    content = hashlib.sha256(images.numpy().data)
    content.update(labels.numpy().data)
    return f"sha256:{content.hexdigest()[:32]}"
