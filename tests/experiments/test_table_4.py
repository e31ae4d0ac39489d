from __future__ import annotations

import json

import numpy as np
import pytest
import zmanifold as zm
from PIL import Image
from zmanifold.training import load_training

import table_4


@pytest.fixture
def folder(tmp_path, rng):
    """Return dark and bright images, some of them hard to classify."""
    for split in ("train", "test"):
        for name, mean in (("bright", 140), ("dark", 110)):
            place = tmp_path / "images" / split / name
            place.mkdir(parents=True)
            for i in range(24):
                level = rng.normal(mean, 20)
                pixels = rng.normal(level, 10, size=(8, 8)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")
    return tmp_path


def test_it_trains_and_goes_on(folder, capsys):
    options = {"images": str(folder / "images"), "arch": "small", "batch_size": 16,
               "seed": 0, "device": "cpu", "checkpoints": folder / "models"}  # fmt: skip
    table_4.main(**options, epochs=2, out=folder / "first")
    content = json.loads((folder / "first" / "table_4.json").read_text())
    test = zm.load_dataset(folder / "images", split="test")
    for number, (name, model) in enumerate(content["models"].items()):
        again = load_training(folder / "models" / f"{number}.pt", device="cpu")
        assert content["percent"][name] == pytest.approx(100 * again.accuracy(test), abs=0.005)
        assert model["settings"]["flip"] is True
        assert content["seconds"][name] == round(sum(r["seconds"] for r in model["history"]), 1)
    assert content["paper_percent"] == {"ERM": 93.89, "mixup": 93.96, "ζ-mixup, γ = 2.8": 94.3}
    mixers = [model["settings"]["mixer"] for model in content["models"].values()]
    assert mixers[0] == "None"
    assert mixers[1].startswith("Mixup")
    assert "gamma=2.8" in mixers[2]
    report = (folder / "first" / "table_4.md").read_text()
    printed = capsys.readouterr().out
    for line, (name, percent) in zip(
        report.splitlines()[2:], content["percent"].items(), strict=True
    ):
        assert line.startswith(f"| {name} | 2 | {percent:.2f}% |")
        assert line in printed

    table_4.main(**options, epochs=2, out=folder / "second")
    repeated = json.loads((folder / "second" / "table_4.json").read_text())
    assert repeated["models"] == content["models"]
