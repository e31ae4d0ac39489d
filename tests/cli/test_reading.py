"""What commands say of the files that they read, and the options that overrule it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zmanifold as zm
from PIL import Image

H = zm.make_helix(60, random_state=0)[0]
FAST = ["--neighbors", "4", "--mixer", "none", "--seeds", "1"]


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame(H, columns=list("xyz")).assign(kind=np.arange(60) % 2)
    table.to_csv("a.csv", index=False)
    np.savez("a.npz", emb=H, X=H[:, :2], Y=np.arange(60) % 3, kind=np.arange(60) % 2)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 9, 8), dtype=np.uint8)
    for i, image in enumerate(pixels):
        folder = tmp_path / "im" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[: 9 - i % 2]).save(folder / f"{i}.png")
    return tmp_path


def sweep(run, *arguments):
    code, _, err = run("sweep-id", *arguments, *FAST, "--out", "run.csv", "--overwrite")
    assert code == 0, err
    settings = json.loads(Path("run.json").read_text())["sweeps"][0]
    return err.splitlines(), settings


def test_a_sweep_says_what_it_read(run, there):
    said, settings = sweep(run, "a.csv")
    assert said == [
        "a.csv: a table with a header; features (4): x, y, z, kind; no labels; y, beside x, is a "
        "feature.",
        *(line for line in said if line.startswith("saturated")),
    ]
    assert settings["read"]["features"] == ["x", "y", "z", "kind"]
    assert settings["n_features"] == 4
    said, settings = sweep(run, "a.csv", "--label-column", "kind", "--features", "0:3")
    assert settings["read"]["labels"] == "kind"
    assert settings["n_features"] == 3
    _, settings = sweep(run, "digits", "--n-samples", "100")
    assert settings["read"] is None
    _, settings = sweep(run, "a.npz")
    assert settings["n_features"] == 2
    _, settings = sweep(run, "a.npz", "--x", "emb", "--y", "kind")
    assert settings["n_features"] == 3
    assert settings["read"]["skipped"] == ["X.npy, Y.npy (not x or y)"]
    _, settings = sweep(run, "im", "--resize", "8x7", "--batch-size", "8")
    assert settings["n_features"] == 56
    assert "24 images of 8 x 7 in grey, to which they were resized" in settings["read"]["notes"]


def test_the_other_commands(run, there):
    np.savetxt("b.csv", H, delimiter=",", header="0,1,2", comments="")
    command = ["vicinity", "--train", "a.csv", "--test", "a.csv", "--label-column", "kind"]
    code, _, err = run(*command, "--features", "x,y,z", "--k", "3", "--out", "v.csv")
    assert code == 0, err
    # Of one file there is one line.
    assert err.count("a.csv: a table with a header; features (3): x, y, z; labels: kind") == 1
    assert json.loads(Path("v.json").read_text())["read"]["test"]["labels"] == "kind"
    command = ["train", "im", "--resize", "8x8", "--epochs", "1", "--batch-size", "6"]
    code, _, err = run(*command, "--out", "m.safetensors")
    assert code == 0, err
    assert err.startswith("im: an image folder; labels: the class folders (2 classes: a, b); 24 im")
    read = json.loads(Path("m.json").read_text())["read"]
    assert read["train"]["classes"] == ["a", "b"]
    said, settings = sweep(run, "b.csv", "--no-header")
    assert (settings["n_points"], said[0].split(";")[0]) == (61, "b.csv: a table without a header")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.csv", "--label-column", "q"], "a.csv has no column 'q' for label_column: its columns"),
        (["a.csv", "--resize", "8x8"], "resize=(8, 8) is given for a.csv, but a .csv table takes"),
        (["a.npz", "--x", "q"], "a.npz has no array 'q' for x: it holds emb, X, Y, kind."),
        (["im", "--features", "a"], "features=('a',) is given for im, but a folder of"),
        (["im"], "resize the images to one size, with resize."),
        (["im", "--resize", "8"], "--resize 8 is no size: give HxW, height before width, 32x32."),
        (["digits", "--header"], "header=True is given for digits"),
    ],
)  # fmt: skip
def test_wrong_use(run, there, arguments, message):
    code, _, err = run("sweep-id", *arguments, *FAST)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
