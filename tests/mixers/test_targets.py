"""What is mixed beside samples, the forms in which loaders hand out batches, and refusals."""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest
import torch
import zmanifold as zm
from torch import nn
from zmanifold._base.errors import InputError

MIXERS = [zm.Mixup(num_classes=3), zm.ZetaMixup(2.0, num_classes=3)]
X, Y = torch.rand(4, 3, 5, 5), torch.tensor([0, 1, 2, 1])
MASKS = torch.arange(100).view(4, 5, 5) % 3


def seeded():
    return torch.Generator().manual_seed(0)


def by_hand(mixer, values):
    weights = mixer.weights(len(values), generator=seeded(), dtype=torch.float64)
    return torch.einsum("ij,j...->i...", weights, values.double())


@pytest.mark.parametrize("mixer", MIXERS, ids=repr)
@pytest.mark.parametrize(
    "y",
    [torch.rand(4), torch.rand(4, 3), torch.rand(4, 5, 5), torch.rand(4, 7, 5, 5).double()],
    ids=lambda y: str(tuple(y.shape)),
)
def test_floats_are_mixed_as_samples_are(mixer, y):
    mixed, targets = mixer(X, y, generator=seeded())
    assert (targets.shape, targets.dtype) == (y.shape, y.dtype)
    torch.testing.assert_close(targets.double(), by_hand(mixer, y), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(mixed.double(), by_hand(mixer, X), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mixer", MIXERS, ids=repr)
@pytest.mark.parametrize("masks", [MASKS, MASKS.to(torch.uint8), MASKS[:, None]])
def test_masks_are_mixed_where_cross_entropy_has_its_classes(mixer, masks):
    _, soft = mixer(X, masks, generator=seeded())
    one_hot = nn.functional.one_hot(masks.long(), 3).movedim(-1, 1)
    torch.testing.assert_close(soft.double(), by_hand(mixer, one_hot), rtol=1e-6, atol=1e-6)
    logits = torch.rand(soft.shape)
    assert nn.functional.cross_entropy(logits, soft) > 0


class Pair(NamedTuple):
    image: torch.Tensor
    target: torch.Tensor


# The labels, then where torchvision finds them: the second member, else "labels", else "label".
@pytest.mark.parametrize(
    ("made", "at"),
    [
        ({"image": X, "label": Y}, lambda b: (b["image"], b["label"])),
        ({"Labels": Y, "x_label": 3, "image": X}, lambda b: (b["image"], b["Labels"])),
        (OrderedDict(id=Y + 7, my_label=Y, image=X), lambda b: (b["image"], b["my_label"])),
        ([X, Y], lambda b: (b[0], b[1])),
        ((X, Y, ["a", "b"]), lambda b: (b[0], b[1])),
        (Pair(X, Y), lambda b: (b.image, b.target)),
        ((X, {"label": Y, "id": [1, 2]}), lambda b: (b[0], b[1]["label"])),
        ({"in": {"rgb": X, "depth": X[:, :1]}, "label": Y}, lambda b: (b["in"]["rgb"], b["label"])),
    ],
    ids=["dict", "labels", "ordered", "list", "tuple", "named", "nested", "two images"],
)
def test_batches_of_loaders(made, at):
    mixer = MIXERS[0]
    before = at(made)
    given = mixer(made, generator=seeded())
    expected = mixer(X, Y, generator=seeded())
    torch.testing.assert_close(at(given), expected, rtol=0, atol=0)
    assert type(given) is type(made)
    assert at(made) is not given
    assert all(a is b for a, b in zip(at(made), before, strict=True))
    if isinstance(made, dict) and "in" in made:
        assert given["in"]["depth"] is made["in"]["depth"]


def test_batches_as_arguments():
    mixer, expected = MIXERS[0], MIXERS[0](X, Y, generator=seeded())
    *mixed, other = mixer(X, Y, "id", generator=seeded())
    torch.testing.assert_close(tuple(mixed), expected)
    assert other == "id"
    images, soft = mixer({"image": X}, Y, generator=seeded())
    torch.testing.assert_close((images["image"], soft), expected)
    mixed, soft = mixer(X, {"label": Y}, generator=seeded())
    torch.testing.assert_close((mixed, soft["label"]), expected)


@pytest.mark.parametrize("mixer", [*MIXERS, zm.ZetaMixup(n_mix=8, num_classes=3)], ids=repr)
def test_an_empty_batch_is_returned_as_it_is(mixer):
    mixed, soft = mixer(X[:0], Y[:0])
    assert mixed.shape == (0, 3, 5, 5)
    assert (soft.shape, soft.dtype) == ((0, 3), torch.float32)
    assert mixer(X[:0], MASKS[:0])[1].shape == (0, 3, 5, 5)
    assert mixer(X[:0], torch.rand(0))[1].shape == (0,)


@pytest.mark.parametrize(
    ("shape", "memory"),
    [((4, 3, 5, 5), torch.channels_last), ((4, 3, 5, 5, 2), torch.channels_last_3d)],
)
def test_channels_stay_last_in_memory(shape, memory):
    x = torch.rand(shape)
    mixed = MIXERS[0](x.to(memory_format=memory), Y, generator=seeded())[0]
    assert mixed.is_contiguous(memory_format=memory)
    plain = MIXERS[0](x, Y, generator=seeded())[0]
    assert plain.is_contiguous()
    torch.testing.assert_close(mixed, plain)


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]
)
def test_floats_of_8_bits_are_mixed_in_float32(dtype):
    x = X.to(dtype)
    mixed, soft = MIXERS[0](x, Y, generator=seeded())
    assert (mixed.dtype, soft.dtype) == (dtype, torch.float32)
    exact = by_hand(MIXERS[0], x.float())
    # Half a unit of 2 or 3 bits behind the first.
    assert ((mixed.double() - exact).abs() <= exact * 2.0**-3 + 2.0**-8).all()
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(4))


def test_weights_that_go_to_the_host_are_waited_for(monkeypatch):
    """Not run on a GPU: a copy to the host must not be asynchronous, one to a device may be."""
    asked = []

    class Drawn(torch.Tensor):
        def to(self, device, dtype, non_blocking):
            asked.append((torch.device(device).type, non_blocking))
            return torch.ones(2, 2)

    mixer = zm.Mixup()
    monkeypatch.setattr(mixer, "_draw", lambda *_: torch.ones(2, 2).as_subclass(Drawn))
    for device in (None, "cpu", "cuda"):
        mixer.weights(2, generator=seeded(), device=device)
    assert asked == [("cpu", False), ("cpu", False), ("cuda", True)]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((X, Y - 100), "holds classes -100 to -98 .* 0 to 2: leave such samples out.$"),
        ((X, Y + 1), "holds classes 1 to 3 .* 0 to 2: raise num_classes to 4.$"),
        ((X, Y * 3 - 1), "-1 to 5 .*: leave such samples out, and raise num_classes to 6.$"),
        ((X, Y + 10**9), r"number the classes from 0, torch.unique\(y, return_inverse=True\)"),
        ((X, MASKS - 1), "holds classes -1 to 1 .*: give such pixels a class.$"),
        ((X, MASKS + 253), "holds classes 253 to 255 .*: raise num_classes to 256.$"),
        ((X + 0j, Y), r"x has dtype torch.complex64 .* with torch.view_as_real\(x\).$"),
        ((X, Y + 0j), r"y has dtype torch.complex64 .* with torch.view_as_real\(y\).$"),
        ((X.to(torch.uint8), Y), r"x has dtype torch.uint8 .* with x.float\(\).$"),
        ((X, torch.rand(4, 7)), "soft labels of 7 classes but num_classes=3: give the mixer num_"),
        ((X, Y[:, None]), r"integers of shape \(4, 1\) .*: give y.squeeze\(1\).$"),
        ((X, torch.eye(4, 3).long()), r"integers of shape \(4, 3\) .* soft labels, y.float\(\).$"),
        ((torch.tensor(1.0), Y), r"x is a single number but must hold samples: give x\[None\]"),
        ((X, torch.tensor(1)), r"y has shape \(\) for 4 samples"),
        ((X,), r"mixer\(x\) has no labels: call mixer\(x, y\)"),
        (([X],), "a list of length 1 but its second member must be the labels"),
        (({"image": X, "target": Y},), "the members image, target but no labels: call one of them"),
        (({"image": X, "label": [0]},), r"labels are a list but must be a tensor: .*as_tensor"),
        (({"image": [1], "label": Y},), "no tensor of floats beside its labels: convert its"),
        (({"image": X + 0j, "label": Y},), r"convert it with torch.view_as_real\(x\)"),
    ],
)
def test_remedies_look_at_the_value(args, message):
    with pytest.raises(InputError, match=message):
        MIXERS[0](*args)


def test_masks_need_the_number_of_classes():
    with pytest.raises(InputError, match="integer labels need num_classes"):
        zm.Mixup()(X, MASKS)


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        (3, r"generator=3 is a int .*: give torch.Generator\(\).manual_seed\(3\).$"),
        (np.random.default_rng(0), r"is a Generator but must be a torch.Generator: .*_seed\(0\)"),
        (random.Random(0), "is a Random but must be a torch.Generator"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [lambda g: MIXERS[0](X, Y, generator=g), lambda g: zm.ZetaMixup().weights(4, generator=g)],
)
def test_other_generators_are_refused(call, generator, message):
    with pytest.raises(InputError, match=message):
        call(generator)
