from __future__ import annotations

import numpy as np
import pytest
import torch
from zmanifold._base.errors import InputError
from zmanifold.training.networks import ResNet18, SmallNet, make_classifier


@pytest.mark.parametrize("arch", ["small", "resnet18"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_shapes(arch, shape):
    model = make_classifier(arch, shape, 7, seed=0)
    x = torch.rand(5, *shape)
    assert model(x).shape == (5, 7)
    assert model.features(x).shape == (5, {"small": 128, "resnet18": 512}[arch])
    torch.testing.assert_close(model.head(model.features(x)), model(x), rtol=1e-3, atol=1e-3)


def test_resnet18_is_the_one_for_cifar():
    """ResNet-18 has 11,173,962 parameters for ten classes, and maps 32 x 32 pixels to 4 x 4."""
    model = ResNet18((3, 32, 32), 10)
    assert sum(p.numel() for p in model.parameters()) == 11_173_962
    assert model.layers(torch.zeros(1, 3, 32, 32)).shape == (1, 512, 4, 4)
    kinds = [type(m).__name__ for m in model.modules()]
    # 17 convolutions in the layers, 3 in shortcuts.
    assert kinds.count("Conv2d") == 20
    assert kinds.count("MaxPool2d") == 0


def test_weights_are_a_function_of_the_seed():
    torch.manual_seed(5)
    before = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (make_classifier("small", (1, 8, 8), 3, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.rand(3), before)
    for a, b, c in zip(*(m.parameters() for m in (first, again, other)), strict=True):
        assert torch.equal(a, b)
        assert a.unique().numel() < 2 or not torch.equal(a, c)


def test_pixels_are_standardised_inside():
    images = torch.rand(50, 3, 8, 8) * torch.tensor([1.0, 9.0, 0.0])[:, None, None] + 4
    model = SmallNet((3, 8, 8), 2)
    model.standardise(images)
    inside = (images - model.mean) / model.std
    torch.testing.assert_close(inside[:, :2].std(dim=(0, 2, 3)), torch.ones(2))
    assert inside[:, 2].abs().max() < 1e-5
    assert set(model.state_dict()) >= {"mean", "std"}


def test_whole_sets_go_through_in_evaluation_mode(monkeypatch):
    from zmanifold.training import networks

    monkeypatch.setattr(networks, "_INFERENCE_BATCH", 7)
    model = make_classifier("small", (1, 8, 8), 3, seed=0)
    X = np.random.default_rng(0).random((20, 64))
    logits = model.logits(X)
    assert model.training
    np.testing.assert_allclose(model.logits(X.reshape(20, 1, 8, 8)), logits)
    np.testing.assert_allclose(model.logits(X[:3]), logits[:3], atol=1e-6)
    np.testing.assert_array_equal(model.predict(X), logits.argmax(axis=1))
    head = model.head
    by_hand = model.penultimate(X) @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    np.testing.assert_allclose(by_hand, logits, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_classifier("smal", (1, 8, 8), 3, seed=0), "unknown architecture 'smal': did"),
        (lambda: make_classifier("small", (1, 3, 8), 3, seed=0), "images of 3 x 8 pixels are too"),
        (lambda: make_classifier("small", (1, 8, 8), 1, seed=0), "n_classes=1 is too small"),
        (lambda: make_classifier("small", (1, 8, 8), 3, seed=-1), "seed=-1 is too small"),
        (lambda: SmallNet((1, 8, 8), 3).predict(np.ones((2, 63))), "images have 63 values but"),
        (lambda: SmallNet((1, 8, 8), 3).predict(np.full((2, 64), np.nan)), "images holds 128 NaN"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
