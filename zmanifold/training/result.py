"""The result of a training: the model, its history and its settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from zmanifold._base.labels import as_labels
from zmanifold.datasets import Dataset
from zmanifold.training.networks import Classifier

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Training"]


@dataclass(frozen=True, eq=False)
class Training:
    """A trained classifier.

    Attributes
    ----------
    model : Classifier
        The network, in evaluation mode.
    history : tuple of dict
        One row an epoch: epoch, learning_rate, loss, test_accuracy (NaN without a test set),
        seconds.
    settings : dict
        The settings of the training, as JSON takes them.

    Examples
    --------
    >>> import zmanifold as zm
    >>> data = zm.load_dataset("digits", n_samples=256, random_state=0)
    >>> mixer = zm.ZetaMixup(2.8)
    >>> done = zm.training.train(data, mixer=mixer, epochs=1, batch_size=64, progress=False)
    >>> done.model.penultimate(data.points).shape
    (256, 128)
    """

    model: Classifier
    history: tuple[dict[str, Any], ...]
    settings: dict[str, Any] = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """Return the history, one row an epoch."""
        import pandas as pd

        return pd.DataFrame(list(self.history))

    def accuracy(self, dataset: Dataset) -> float:
        """Return the share of a data set's samples whose predicted class is their label."""
        classes = np.arange(self.model.n_classes)
        labels = as_labels(dataset.labels, len(dataset.points), name="labels", classes=classes)
        return float((self.model.predict(dataset.points) == labels.codes.numpy()).mean())
