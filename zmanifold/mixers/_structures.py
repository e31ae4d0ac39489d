"""Batches as data loaders make them: nested dicts, lists and tuples."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from torch import Tensor

from zmanifold._base.errors import InputError
from zmanifold._base.naming import listed

__all__ = ["rebuilt", "samples_and_labels"]


def samples_and_labels(batch: Any) -> tuple[Tensor, Tensor]:
    """Return a batch's samples and labels, as torchvision's MixUp finds them.

    The labels are the second member of a list or tuple. In a mapping they are the member called
    "labels", else the first whose name contains "label". The samples are the first other tensor of
    floats.

    Raises
    ------
    InputError
        If the batch has no such member.

    Examples
    --------
    >>> import torch
    >>> from zmanifold.mixers._structures import samples_and_labels
    >>> samples_and_labels({"image": torch.ones(2), "label": torch.tensor([0, 1])})
    (tensor([1., 1.]), tensor([0, 1]))
    """
    y = _labels(batch)
    for x in _tensors(batch):
        if x is not y and (x.is_floating_point() or x.is_complex()):
            return x, y
    raise InputError(
        "the batch holds no tensor of floats beside its labels: convert its samples with "
        "torch.as_tensor(x).float()."
    )


def _labels(batch: Any) -> Tensor:
    if isinstance(batch, (list, tuple)):
        if len(batch) < 2:
            raise InputError(
                f"the batch is a {type(batch).__name__} of length {len(batch)} but its second "
                "member must be the labels: call mixer(x, y)."
            )
        batch = batch[1]
    if isinstance(batch, Mapping):
        names = [name for name in batch if isinstance(name, str)]
        exact = [name for name in names if name.lower() == "labels"]
        found = exact + [name for name in names if "label" in name.lower()]
        if not found:
            raise InputError(
                f"the batch has the members {listed(names)} but no labels: call one of them "
                "'labels', or call mixer(x, y)."
            )
        batch = batch[found[0]]
    if not isinstance(batch, Tensor):
        raise InputError(
            f"the batch's labels are a {type(batch).__name__} but must be a tensor: convert them "
            "with torch.as_tensor(labels)."
        )
    return batch


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, (Mapping, list, tuple)):
        for member in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _tensors(member)


def rebuilt(batch: Any, change: Callable[[Any], Any]) -> Any:
    """Return a copy of a batch in which `change` was called on each member.

    Examples
    --------
    >>> from zmanifold.mixers._structures import rebuilt
    >>> rebuilt({"a": [1, 2], "b": (3,)}, lambda member: -member)
    {'a': [-1, -2], 'b': (-3,)}
    """
    if isinstance(batch, Mapping):
        members = {name: rebuilt(member, change) for name, member in batch.items()}
        if type(batch) is dict or not isinstance(batch, MutableMapping):
            return members
        made = copy.copy(batch)
        made.update(members)
        return made
    if isinstance(batch, (list, tuple)):
        parts = [rebuilt(member, change) for member in batch]
        if type(batch) is tuple:
            return tuple(parts)
        # A named tuple takes its members one by one.
        return type(batch)(*parts) if isinstance(batch, tuple) else parts
    return change(batch)
