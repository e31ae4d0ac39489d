from __future__ import annotations

import torch
from zmanifold.training._augment import augmented


def test_augmentation():
    x = torch.arange(64.0).view(4, 1, 4, 4)
    generator = torch.Generator().manual_seed(0)
    flipped = augmented(x.repeat(50, 1, 1, 1), True, 0, generator)
    mirrored = (flipped == x.flip(3).repeat(50, 1, 1, 1)).all(dim=(1, 2, 3))
    kept = (flipped == x.repeat(50, 1, 1, 1)).all(dim=(1, 2, 3))
    assert (mirrored ^ kept).all()
    assert 60 < int(kept.sum()) < 140
    image = torch.rand(1, 2, 5, 6) + 1
    shifted = augmented(image.repeat(200, 1, 1, 1), False, 2, generator)
    padded = torch.nn.functional.pad(image, (2,) * 4)[0]
    windows = {(i, j): padded[:, i : i + 5, j : j + 6] for i in range(5) for j in range(5)}
    found = [next(k for k, w in windows.items() if torch.equal(w, s)) for s in shifted]
    assert set(found) == set(windows)
