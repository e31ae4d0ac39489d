"""Arrays of archives: which are read, labels of every type, and the axes of images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import zmanifold as zm
from zmanifold._base.errors import InputError
from zmanifold.datasets import comparable_labels

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3))
Y = np.arange(24) % 2


def stored(folder, name="a", **arrays):
    np.savez(folder / f"{name}.npz", **arrays)
    return zm.load_dataset(folder / f"{name}.npz")


TEXT = np.array(["cat", "dog"])[Y]
NUMBERS = [Y, Y.astype(float), Y.astype(np.uint8), Y.astype(np.float16), Y.astype(str),
           Y.astype("S1"), Y.astype(bool), Y[:, None], Y.astype(float)[:, None], Y.astype(">i8"),
           pd.Series(Y).astype("category").to_numpy()]  # fmt: skip
TEXTS = [TEXT, TEXT.astype("S"), TEXT.astype(">U3"), TEXT[:, None],
         np.asarray(pd.Categorical(TEXT)).astype(str)]  # fmt: skip


@pytest.mark.parametrize("train", range(len(NUMBERS)))
def test_the_same_numbers(tmp_path, train):
    for test in NUMBERS:
        sets = stored(tmp_path, "tr", x=X, y=NUMBERS[train]), stored(tmp_path, "te", x=X, y=test)
        train_y, test_y = comparable_labels(*sets)
        np.testing.assert_array_equal(train_y, test_y)
        assert zm.vicinity(X, train_y, X, test_y, n_neighbors=1).classes.shape == (2,)


def test_the_same_texts(tmp_path):
    for y in TEXTS:
        assert stored(tmp_path, x=X, y=y).class_names == ("cat", "dog")
    with pytest.raises(InputError, match="holds bytes that are no UTF-8"):
        stored(tmp_path, x=X, y=np.array([b"\xff", b"a"])[Y])
    truths = stored(tmp_path, x=X, y=Y.astype(bool))
    assert truths.class_names == ("False", "True")
    words = stored(tmp_path, "b", x=X, y=np.array(["False", "True"])[Y])
    np.testing.assert_array_equal(*comparable_labels(truths, words))


def test_vicinity_of_other_types(tmp_path, run):
    np.savez(tmp_path / "tr.npz", x=X, y=Y)
    np.savez(tmp_path / "te.npz", x=X[:8], y=Y[:8].astype(float))
    command = ["vicinity", "--train", tmp_path / "tr.npz", "--test", tmp_path / "te.npz"]
    code, _, err = run(*command, "--k", "4")
    assert code == 0, err


def test_the_advice_for_objects_works(tmp_path):
    y = pd.Series(TEXT.astype(object)).to_numpy()
    with pytest.raises(InputError, match=r"a.npz:y.npy holds pickled .* text, y.astype\(str\)"):
        stored(tmp_path, x=X, y=y)
    assert stored(tmp_path, x=X, y=y.astype(str)).class_names == ("cat", "dog")
    with pytest.raises(InputError, match=r"numbers, np.save\(file, x.astype\(float\)\)"):
        stored(tmp_path, x=X.astype(object), y=Y)


@pytest.mark.parametrize("kind", [int, float, bool, np.float32, np.uint8])
def test_one_hot_labels(tmp_path, kind):
    loaded = stored(tmp_path, x=X, y=np.eye(2, dtype=kind)[Y])
    np.testing.assert_array_equal(loaded.labels, np.eye(2)[Y])
    assert loaded.class_names == ("0", "1")
    assert "one-hot labels of 2 classes" in loaded.read.notes
    soft = np.full((24, 2), 0.5)
    assert "soft labels of 2 classes" in stored(tmp_path, x=X, y=soft).read.notes
    with pytest.raises(InputError, match=r"y has shape \(24, 2\) for 24 points: give one label"):
        stored(tmp_path, x=X, y=np.ones((24, 2), int))


def test_names_of_arrays(tmp_path):
    upper = stored(tmp_path, X=X, Y=TEXT, ids=np.arange(24))
    assert upper.class_names == ("cat", "dog")
    assert upper.read.skipped == ("ids.npy (not x or y)",)
    np.savez(tmp_path / "b.npz", emb=X, kind=TEXT, x=X[:, :2], y=Y)
    named = zm.load_dataset(tmp_path / "b.npz", x="emb", y="kind")
    np.testing.assert_array_equal(named.points, X)
    assert named.class_names == ("cat", "dog")
    assert str(named.read).endswith(
        "features: array emb; labels: array kind (2 classes: cat, dog). Skipped: x.npy, y.npy (not "
        "x or y)."
    )
    for options, message in (
        ({"x": "z"}, "b.npz has no array 'z' for x: it holds emb, kind, x, y"),
        ({"y": "z"}, "b.npz has no array 'z' for y: it holds kind, emb, y|it holds"),
    ):
        with pytest.raises(InputError, match=message):
            zm.load_dataset(tmp_path / "b.npz", **options)
    with pytest.raises(InputError, match="holds the arrays x and X: name the one to read with x"):
        stored(tmp_path, x=X, X=X)
    with pytest.raises(InputError, match=r"but no array x: save it with .*, or name the arr"):
        stored(tmp_path, data=X)


@pytest.mark.parametrize(
    ("shape", "image_shape"),
    [
        ((12, 12, 3), (3, 12, 12)),
        ((12, 11, 1), (1, 12, 11)),
        ((12, 12, 4), (4, 12, 12)),
        ((4, 4, 1), (1, 4, 4)),
        ((3, 12, 12), (3, 12, 12)),
        ((1, 4, 4), (1, 4, 4)),
        ((3, 3, 3), (3, 3, 3)),
        ((2, 8, 8), (2, 8, 8)),
        ((8, 8, 8), (8, 8, 8)),
    ],
)
def test_axes_of_images(tmp_path, shape, image_shape):
    images = RNG.random((24, *shape))
    loaded = stored(tmp_path, x=images, y=Y)
    assert loaded.image_shape == image_shape
    last = shape != image_shape
    expected = images.transpose(0, 3, 1, 2) if last else images
    np.testing.assert_array_equal(loaded.points, expected.reshape(24, -1))
    assert ("channels last in the file" if last else "channels first") in loaded.read.notes[0]
    np.save(tmp_path / "a.npy", images)
    assert zm.load_dataset(tmp_path / "a.npy").image_shape == image_shape


@pytest.mark.parametrize("shape", [(32, 32, 10), (12, 12, 2), (1, 12, 3), (3, 12, 4)])
def test_axes_that_cannot_be_told_apart(tmp_path, shape):
    with pytest.raises(InputError, match=r"channels may be the .* x.transpose\(0, 3, 1, 2\) where"):
        stored(tmp_path, x=RNG.random((24, *shape)), y=Y)


def test_a_large_file_of_images_with_channels_last(tmp_path, monkeypatch):
    monkeypatch.setattr("zmanifold.datasets.formats.numpy._MAPPED_FROM", 0)
    images = RNG.random((24, 6, 5, 3))
    np.save(tmp_path / "a.npy", images)
    with pytest.raises(InputError, match=r"np.ascontiguousarray\(x.transpose\(0, 3, 1, 2\)\)"):
        zm.load_dataset(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    assert zm.load_dataset(tmp_path / "a.npy").image_shape == (3, 6, 5)
