from __future__ import annotations

import dataclasses
import io
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import torch
import zmanifold as zm
from zmanifold._base.errors import InputError
from zmanifold.datasets import Dataset, hold_out
from zmanifold.training import loop as classifiers
from zmanifold.training.loop import load_training, train
from zmanifold.training.networks import make_classifier


@pytest.fixture(scope="module")
def digits():
    return hold_out(zm.load_dataset("digits"), 300, random_state=0)


def same(a, b):
    pairs = zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("mixer", [None, zm.Mixup(), zm.ZetaMixup(2.8)])
def test_it_learns(digits, mixer):
    training, test = digits
    done = train(training, mixer=mixer, epochs=15, batch_size=50, test=test, progress=False)
    frame = done.to_frame()
    assert frame["loss"].iloc[-1] < frame["loss"].iloc[0]
    assert frame["test_accuracy"].iloc[-1] == done.accuracy(test) > 0.85
    assert not done.model.training
    # Down to a fifth after 40, 60 and 80 per cent.
    expected = [0.1] * 6 + [0.02] * 3 + [0.004] * 3 + [0.0008] * 3
    np.testing.assert_allclose(frame["learning_rate"], expected)


def test_a_step_is_nesterovs_with_weight_decay(digits):
    """Against the update written out: v = 0.9 v + g, w -= rate (g + 0.9 v), g with decay."""
    training, _ = digits
    settings = {"epochs": 2, "batch_size": 100, "learning_rate": 0.05, "weight_decay": 0.01}
    done = train(training, seed=5, device="cpu", progress=False, **settings)
    model = make_classifier("small", (1, 8, 8), 10, seed=5)
    images = torch.from_numpy(training.points).view(-1, 1, 8, 8)
    model.standardise(images)
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    for epoch, rate in enumerate([0.05, 0.05 * 0.2]):
        shuffle, _ = classifiers._randomness(5, epoch, 300, torch.device("cpu"))
        for rows in shuffle.view(3, 100):
            chosen = model(images[rows]).log_softmax(dim=1)
            loss = -chosen[torch.arange(100), torch.from_numpy(training.labels)[rows]].mean()
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for p, g, v in zip(model.parameters(), gradients, velocity, strict=True):
                    g = g + 0.01 * p
                    v.mul_(0.9).add_(g)
                    p.sub_(rate * (g + 0.9 * v))
    for ours, by_hand in zip(done.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, by_hand, rtol=1e-3, atol=2e-4)


def test_one_seed_one_result(digits):
    training, _ = digits
    settings = {"mixer": zm.Mixup(), "epochs": 2, "batch_size": 50, "flip": True, "crop": 1}
    first, again = (train(training, seed=3, progress=False, **settings) for _ in range(2))
    other = train(training, seed=4, progress=False, **settings)
    assert same(first, again)
    assert not same(first, other)
    assert first.settings["mixer"] == repr(zm.Mixup())


def test_a_test_set_may_lack_classes_and_number_them_otherwise(digits):
    training, test = digits
    some = np.flatnonzero(test.labels >= 5)
    known = tuple("abcdefghij")
    lacking = dataclasses.replace(test, points=test.points[some], labels=test.labels[some])
    renumbered = dataclasses.replace(lacking, labels=lacking.labels - 5, class_names=known[5:])
    training = dataclasses.replace(training, class_names=known)
    done = train(training, test=renumbered, epochs=2, batch_size=50, progress=False)
    right = (done.model.predict(lacking.points) == lacking.labels).mean()
    assert right > 0.3
    assert done.accuracy(lacking) == done.history[-1]["test_accuracy"] == right


def test_a_called_mixer_and_soft_labels(digits):
    training, _ = digits
    soft = dataclasses.replace(training, labels=np.eye(10)[training.labels])
    seen = []

    def watch(x, y):
        seen.append((tuple(x.shape), tuple(y.shape), torch.rand(())))
        return x, y

    plain = train(training, epochs=1, batch_size=50, progress=False)
    assert same(plain, train(soft, epochs=1, batch_size=50, progress=False))
    assert same(plain, train(training, mixer=watch, epochs=1, batch_size=50, progress=False))
    assert {entry[:2] for entry in seen} == {((50, 1, 8, 8), (50, 10))}
    drawn = [float(entry[2]) for entry in seen]
    train(training, mixer=watch, epochs=1, batch_size=50, progress=False)
    # Global randomness is a function of the seed, too.
    assert [float(entry[2]) for entry in seen[len(drawn) :]] == drawn


def test_augmentation():
    x = torch.arange(64.0).view(4, 1, 4, 4)
    generator = torch.Generator().manual_seed(0)
    flipped = classifiers._augmented(x.repeat(50, 1, 1, 1), True, 0, generator)
    mirrored = (flipped == x.flip(3).repeat(50, 1, 1, 1)).all(dim=(1, 2, 3))
    kept = (flipped == x.repeat(50, 1, 1, 1)).all(dim=(1, 2, 3))
    assert (mirrored ^ kept).all()
    assert 60 < int(kept.sum()) < 140
    image = torch.rand(1, 2, 5, 6) + 1
    shifted = classifiers._augmented(image.repeat(200, 1, 1, 1), False, 2, generator)
    padded = torch.nn.functional.pad(image, (2,) * 4)[0]
    windows = {(i, j): padded[:, i : i + 5, j : j + 6] for i in range(5) for j in range(5)}
    found = [next(k for k, w in windows.items() if torch.equal(w, s)) for s in shifted]
    assert set(found) == set(windows)


def test_a_checkpoint_goes_on_and_is_loaded(digits, tmp_path):
    training, test = digits
    settings = {"mixer": zm.ZetaMixup(2.8), "batch_size": 50, "epochs": 4, "progress": False}
    through = train(training, **settings)
    path = tmp_path / "model.pt"
    saved = []
    original = classifiers._save

    def stop_after_two(*args):
        original(*args)
        saved.append(args)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifiers, "_save", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            train(training, checkpoint=path, **settings)
    assert len(load_training(path).history) == 2
    resumed = train(training, checkpoint=path, resume=True, **settings)
    assert same(through, resumed)
    losses = [[row["loss"] for row in t.history] for t in (through, resumed)]
    assert losses[0] == losses[1]
    loaded = load_training(path)
    assert same(loaded, through)
    np.testing.assert_array_equal(
        loaded.model.predict(test.points), through.model.predict(test.points)
    )
    # All is done: nothing is trained again.
    again = train(training, checkpoint=path, resume=True, **settings)
    assert same(again, through)
    with pytest.raises(InputError, match=r"model.pt was begun with epochs=4, now 5: give the same"):
        train(training, checkpoint=path, resume=True, **settings | {"epochs": 5})
    with pytest.raises(InputError, match="arch='small', now 'resnet18'"):
        train(training, checkpoint=path, resume=True, arch="resnet18", **settings)
    with pytest.raises(InputError, match="data='sha256:"):
        train(test, checkpoint=path, resume=True, **settings)


def test_a_killed_command_goes_on_to_the_same_weights(tmp_path):
    command = [sys.executable, "-m", "zmanifold", "train", "digits", "--epochs", "8", "--mixer",
               "zeta", "--batch-size", "64", "--n-train", "400"]  # fmt: skip
    whole, killed = tmp_path / "whole.pt", tmp_path / "killed.pt"
    done = subprocess.run([*command, "--out", whole], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("accuracy 0.")
    process = subprocess.Popen([*command, "--out", killed], stderr=subprocess.PIPE)
    while not killed.exists() and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert 1 <= len(load_training(killed).history) < 8
    subprocess.run([*command, "--out", killed, "--resume"], capture_output=True, check=True)
    assert same(load_training(whole), load_training(killed))
    again = subprocess.run([*command, "--out", killed], capture_output=True, text=True)
    assert again.returncode == 2
    assert "exists: give --resume to go on, --overwrite" in again.stderr


@pytest.fixture(scope="module")
def checkpoint(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "model.pt"
    train(digits[0], epochs=1, batch_size=50, checkpoint=path, progress=False)
    return path.read_bytes()


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil-was-here",))


def zipped(members, how=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def legacy(content):
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def broken_files(path):
    whole = path.read_bytes()
    content = torch.load(path, weights_only=True)
    settings, model = content["settings"], content["model"]
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    head = model["head.bias"].numpy().tobytes()
    twin = "x" * len(members[-1][0])
    twins = zipped([*members, (twin, b"")]).replace(twin.encode(), members[-1][0].encode())
    storage = b"\x80\x02(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuK\1tQ)R."
    called = [("a/data.pkl", storage), ("a/data/0", bytes(4)), ("a/version", b"3\n")]
    repeated = torch.zeros(1, 1).expand(2**30, 128)
    return {
        "a flipped bit": whole.replace(head, bytes([head[0] ^ 1]) + head[1:]),
        "compressed": zipped(members, zipfile.ZIP_DEFLATED),
        "a promise": zipped(members).replace(*[struct.pack("<2I", n, n) for n in (1, 2**31)]),
        "a part twice": twins,
        "the layout of old": legacy(content),
        "room at will": {"bytes": bytearray(8)},
        "another protocol": zipped([("a/data.pkl", b"\x80\x04}."), ("a/version", b"3")]),
        "an odd escape": zipped([("a/data.pkl", b"\x80\x02S'\\R'\n."), ("a/version", b"3")]),
        "a storage that is called": zipped(called),
        "no settings": {k: v for k, v in content.items() if k != "settings"},
        "settings of another type": content | {"settings": [1]},
        "settings with a tensor": content | {"settings": settings | {"epochs": torch.ones(2)}},
        "no history": content | {"history": None},
        "history of another type": content | {"history": [[1]]},
        "a large network": content | {"settings": settings | {"n_classes": 2**30}},
        "a few weights repeated": content
        | {
            "settings": settings | {"n_classes": 2**30},
            "model": model | {"head.weight": repeated, "head.bias": repeated[:, 0]},
        },
        "weights of another type": content | {"model": {k: v.double() for k, v in model.items()}},
        "weights that are no numbers": content
        | {"model": model | {"head.bias": torch.full((10,), torch.nan)}},
        "weights that are none": content | {"model": dict.fromkeys(model, 1)},
        "no shape": content | {"settings": settings | {"image_shape": 3}},
        "an unknown network": content | {"settings": settings | {"arch": "\n"}},
        "cut short": whole[: len(whole) // 2],
        "one byte less": whole[:-1],
        "empty": b"",
        "text": b"hello",
        "a pickle": pickle.dumps(Evil()),
        "another content": {"model": 1},
        "another format": content | {"format": "zmanifold classifier 9"},
        "no model": {k: v for k, v in content.items() if k != "model"},
        "other weights": content | {"model": {"head.weight": torch.zeros(2)}},
        "other settings": content | {"settings": {"arch": "small"}},
        "settings of another network": content
        | {"settings": content["settings"] | {"arch": "resnet18"}},
    }


@pytest.mark.parametrize(
    "name",
    ["cut short", "one byte less", "empty", "text", "a pickle", "another content",
     "another format", "no model", "other weights", "other settings",
     "settings of another network", "a flipped bit", "compressed", "a promise", "a part twice",
     "the layout of old", "room at will", "a storage that is called", "another protocol",
     "an odd escape", "no settings",
     "settings of another type", "settings with a tensor", "no history",
     "history of another type", "a large network", "a few weights repeated",
     "weights of another type", "weights that are no numbers", "weights that are none",
     "no shape", "an unknown network"],
)  # fmt: skip
def test_files_that_are_no_checkpoint(digits, checkpoint, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pt"
    path.write_bytes(checkpoint)
    content = broken_files(path)[name]
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    message = r"model.pt is no whole checkpoint of this package"
    with pytest.raises(InputError, match=message) as caught:
        load_training(path)
    assert str(caught.value).isprintable()
    assert "deprecated" not in str(caught.value)
    if name != "settings of another network":
        with pytest.raises(InputError, match=r"checkpoint of this package|was begun with"):
            train(digits[0], epochs=1, batch_size=50, checkpoint=path, resume=True, progress=False)
    assert not (tmp_path / "evil-was-here").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["optimizer"]["state"].pop(0), "those of another network"),
        (lambda content: content["optimizer"].pop("state"), "'state'"),
        (lambda content: content.pop("optimizer"), "'optimizer'"),
        (
            lambda content: content["optimizer"]["state"][1].update(momentum_buffer=torch.ones(2)),
            "its weight 1 is that of another network",
        ),
        (lambda content: content["history"].append(content["history"][0]), "it has 2 epochs"),
    ],
)
def test_checkpoints_that_training_cannot_go_on_from(digits, checkpoint, tmp_path, change, message):
    path = tmp_path / "model.pt"
    content = torch.load(io.BytesIO(checkpoint), weights_only=True)
    change(content)
    torch.save(content, path)
    with pytest.raises(InputError, match=f"model.pt is no whole checkpoint of .*{message}"):
        train(digits[0], epochs=1, batch_size=50, checkpoint=path, resume=True, progress=False)


def test_only_the_momenta_of_an_optimizer_are_taken(digits, tmp_path):
    path = tmp_path / "model.pt"
    settings = {"epochs": 2, "batch_size": 50, "checkpoint": path, "progress": False}
    whole = train(digits[0], **settings)
    content = torch.load(path, weights_only=True)
    content["optimizer"]["param_groups"] = "any"
    torch.save(content, path)
    assert same(whole, train(digits[0], resume=True, **settings))


def test_a_diverging_loss_is_a_failure(digits):
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1: lower the learning"):
        train(digits[0], epochs=1, batch_size=50, learning_rate=1e30, progress=False)


IMAGES = Dataset(np.random.default_rng(0).random((20, 64)), np.arange(20) % 2, (1, 8, 8), None, "x")


@pytest.mark.parametrize(
    ("change", "kwargs", "message"),
    [
        ({"image_shape": None}, {}, "'x' holds no images"),
        ({"labels": None}, {}, "'x' has no labels"),
        ({"labels": np.zeros(20, int)}, {}, "'x' holds a single class but a classifier needs"),
        ({"labels": np.arange(19)}, {}, "labels has shape"),
        ({}, {"batch_size": 21}, "batch_size=21 is above the 20 images: lower batch_size"),
        ({}, {"epochs": 0}, "epochs=0 is too small"),
        ({}, {"crop": -1}, "crop=-1 is too small"),
        ({}, {"learning_rate": 0}, "learning_rate=0 must be a positive number"),
        ({}, {"weight_decay": -1}, "weight_decay=-1 must be"),
        ({}, {"arch": "resnet"}, "unknown architecture 'resnet': did you mean 'resnet18'"),
        ({}, {"mixer": "zeta"}, "mixer 'zeta' has neither weights"),
        ({}, {"device": "gpu"}, "unknown device 'gpu'"),
    ],
)
def test_bad_input(change, kwargs, message):
    with pytest.raises(InputError, match=message):
        train(
            dataclasses.replace(IMAGES, **change), **{"batch_size": 10, "progress": False} | kwargs
        )


def test_a_missing_checkpoint(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_training(tmp_path / "nothing.pt")
