"""Comparison of trainings, and checkpoints in the format of version 0.1.0."""

from __future__ import annotations

import torch
from zmanifold.training.checkpoints import load_training, restore
from zmanifold.training.networks import make_classifier


def same(a, b):
    pairs = zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def content_of_0_1_0(path):
    """Return the content that version 0.1.0 would have passed to torch.save."""
    settings = load_training(path).settings
    network = settings["arch"], settings["image_shape"], settings["n_classes"]
    model = make_classifier(*network, seed=0).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), 0.1, 0.9, nesterov=True, weight_decay=settings["weight_decay"]
    )
    history = restore(path, settings, model, optimizer)
    return {
        "format": "zmanifold classifier 1",
        "settings": settings,
        "history": history,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
