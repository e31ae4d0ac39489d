from __future__ import annotations

import importlib.util
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import zmanifold as zm
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from zmanifold._base import provenance
from zmanifold._base.errors import InputError
from zmanifold.training import checkpoints, load_training, loop, train

from trainings import same


def test_a_checkpoint_goes_on_and_is_loaded(digits, tmp_path):
    training, test = digits
    settings = {"mixer": zm.ZetaMixup(2.8), "batch_size": 50, "epochs": 4, "progress": False}
    through = train(training, **settings)
    path = tmp_path / "model.safetensors"
    saved = []
    original = loop.save

    def stop_after_two(*args):
        original(*args)
        saved.append(args)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save", stop_after_two)
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
    # The training is complete: no epoch is trained again.
    again = train(training, checkpoint=path, resume=True, **settings)
    assert same(again, through)
    with pytest.raises(
        InputError, match=r"model.safetensors was begun with epochs=4, now 5: give the same"
    ):
        train(training, checkpoint=path, resume=True, **settings | {"epochs": 5})
    with pytest.raises(InputError, match="arch='small', now 'resnet18'"):
        train(training, checkpoint=path, resume=True, arch="resnet18", **settings)
    with pytest.raises(InputError, match="data='sha256:"):
        train(test, checkpoint=path, resume=True, **settings)


def test_a_killed_command_goes_on_to_the_same_weights(tmp_path):
    command = [sys.executable, "-m", "zmanifold", "train", "digits", "--epochs", "8", "--mixer",
               "zeta", "--batch-size", "64", "--n-train", "400"]  # fmt: skip
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.pt"
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


def test_a_missing_checkpoint(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_training(tmp_path / "nothing.pt")


@pytest.fixture(scope="module")
def checkpoint(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    train(digits[0], epochs=1, batch_size=50, checkpoint=path, progress=False)
    return path.read_bytes()


def test_a_training_goes_on_in_its_own_version_alone(digits, checkpoint, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_bytes(checkpoint)
    settings = {"batch_size": 50, "epochs": 1, "progress": False}
    # A later version, as this one is to 0.1.0 and as it is not to 9.9.9.
    monkeypatch.setattr(provenance, "version", lambda name: "9.9.9")
    train(digits[0], checkpoint=path, resume=True, **settings)
    monkeypatch.setattr(provenance, "_CONTINUED", frozenset())
    with pytest.raises(InputError, match=r"model.safetensors' holds a training of zmanifold 0\.1"):
        train(digits[0], checkpoint=path, resume=True, **settings)
    # Any version's model can be used.
    assert len(load_training(path).history) == 1


def test_a_full_disk_is_one_sentence_and_the_last_epoch_is_safe(run, tmp_path, monkeypatch):
    """A limit on the size of files stands for a full disk."""
    monkeypatch.chdir(tmp_path)
    command = ["train", "digits", "--epochs", "2", "--batch-size", "64", "--n-train", "128",
               "--out", "m.pt"]  # fmt: skip
    save, limit = loop.save, resource.getrlimit(resource.RLIMIT_FSIZE)

    def full_at_the_second(path, *given):
        if path.exists():
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limit[1]))
        try:
            save(path, *given)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save", full_at_the_second)
        code, out, error = run(*command)
    assert (code, out, error.count("\n")) == (1, "", 1)
    assert re.fullmatch(
        r"zmanifold: failed: the checkpoint 'm.pt' cannot be written \(.*\): the last finished "
        r"epoch is safe, make room on the disk and go on; the same command with --resume goes "
        r"on.\n",
        error,
    )
    assert len(load_training(tmp_path / "m.pt").history) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]
    code, _, error = run(*command, "--resume")
    assert code == 0, error
    assert len(load_training(tmp_path / "m.pt").history) == 2


def test_what_a_file_holds(checkpoint, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(checkpoint)
    loaded, tensors = load_training(path), load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata.keys() == {"format", "version", "settings", "history", "sha256"}
    assert metadata["version"] == zm.__version__
    assert json.loads(metadata["settings"]) == loaded.settings
    assert "NaN" not in metadata["history"]
    assert np.isnan(loaded.history[0].pop("test_accuracy"))
    (row,) = json.loads(metadata["history"])
    assert row == loaded.history[0] | {"test_accuracy": None}
    weights = loaded.model.state_dict()
    momenta = {f"momentum.{i}": p.shape for i, p in enumerate(loaded.model.parameters())}
    assert {name: t.shape for name, t in tensors.items() if name not in weights} == momenta
    assert all(torch.equal(tensors[name], weights[name]) for name in weights)
    assert any(bool(tensors[name].any()) for name in momenta)


def changed(path, metadata=None, tensors=None, *, drop=(), signed=True):
    """Rewrite a checkpoint with other metadata and tensors, and with a new or the old checksum."""
    with safe_open(path, "pt") as file:
        meta = file.metadata() | (metadata or {})
    kept = {name: tensor.clone() for name, tensor in load_file(path).items()} | (tensors or {})
    meta, kept = ({k: v for k, v in d.items() if k not in drop} for d in (meta, kept))
    if signed:
        meta.pop("sha256", None)
        meta["sha256"] = checkpoints._checksum(meta, kept)
    save_file(kept, path, meta)
    return path.read_bytes()


def with_settings(**values):
    return lambda path: changed(
        path, {"settings": json.dumps(load_training(path).settings | values)}
    )


def with_history(rows):
    return lambda path: changed(path, {"history": json.dumps(rows)})


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    return bytes(content)


def headed(length, content):
    return lambda _: length.to_bytes(8, "little") + content


DAMAGED = {
    "cut short": lambda path: path.read_bytes()[:9999],
    "one byte less": lambda path: path.read_bytes()[:-1],
    "one byte more": lambda path: path.read_bytes() + b"x",
    "empty": lambda _: b"",
    "text": lambda _: b"hello, this is no checkpoint",
    "a flipped bit": flipped,
    "a digit of the settings": lambda path: path.read_bytes().replace(b"small", b"smalk", 1),
    "a header of 2**62 bytes": headed(2**62, b"{}"),
    "a header above the limit": lambda path: changed(path, {"note": "x" * 2**23}),
    "a header of nothing": headed(2, b"{}"),
    "a tensor beyond the end": headed(
        65, b'{"x":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}' % (2**20, 2**22)
    ),
    "no checksum": lambda path: changed(path, drop={"sha256"}, signed=False),
    "no format": lambda path: changed(path, drop={"format"}),
    "another format": lambda path: changed(path, {"format": "zmanifold classifier 9"}),
    "the format of 0.1.0": lambda path: changed(path, {"format": "zmanifold classifier 1"}),
    "no settings": lambda path: changed(path, drop={"settings"}),
    "settings that are no JSON": lambda path: changed(path, {"settings": "{"}),
    "settings of 100,000 levels": lambda path: changed(path, {"settings": "[" * 100_000}),
    "settings that are a list": lambda path: changed(path, {"settings": "[1]"}),
    "settings of two levels": with_settings(epochs={"a": 1}),
    "no history": lambda path: changed(path, drop={"history"}),
    "history that is a number": with_history(1),
    "history of lists": with_history([[1]]),
    "history of text": with_history([{"loss": "low"}]),
    "a large network": with_settings(n_classes=2**30),
    "no shape": with_settings(image_shape=3),
    "an unknown network": with_settings(arch="\n"),
    "another network": with_settings(arch="resnet18"),
    "a weight less": lambda path: changed(path, drop={"head.bias"}),
    "a weight more": lambda path: changed(path, tensors={"head.more": torch.zeros(2)}),
    "a weight of another shape": lambda path: changed(path, tensors={"head.bias": torch.ones(9)}),
    "a weight of another type": lambda path: changed(
        path, tensors={"head.bias": torch.ones(10, dtype=torch.float64)}
    ),
    "a weight in bfloat16": lambda path: changed(
        path, tensors={"head.bias": torch.ones(10, dtype=torch.bfloat16)}, signed=False
    ),
    "a weight that is no number": lambda path: changed(
        path, tensors={"head.bias": torch.full((10,), torch.nan)}
    ),
    "a momentum without a number": lambda path: changed(
        path, tensors={"momentum.x": torch.ones(1)}
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(digits, checkpoint, tmp_path, name):
    path = tmp_path / "model.safetensors"
    path.write_bytes(checkpoint)
    path.write_bytes(DAMAGED[name](path))
    message = "model.safetensors is no whole checkpoint of this package"
    with pytest.raises(InputError, match=message) as caught:
        load_training(path)
    assert str(caught.value).isprintable()
    with pytest.raises(InputError, match=r"checkpoint of this package|was begun with"):
        train(digits[0], epochs=1, batch_size=50, checkpoint=path, resume=True, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": {"momentum.0"}}, "those of another network"),
        ({"tensors": {"momentum.99": torch.ones(2)}}, "those of another network"),
        ({"tensors": {"momentum.1": torch.ones(2)}}, "its weight 1 is that of another network"),
        ({"tensors": {"momentum.1": torch.full((32,), torch.inf)}}, "its weight 1 is .* no number"),
        ({"metadata": {"history": '[{"epoch": 1}, {"epoch": 2}]'}}, "it has 2 epochs"),
    ],
)
def test_checkpoints_that_training_cannot_go_on_from(digits, checkpoint, tmp_path, change, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(checkpoint)
    changed(path, **change)
    load_training(path)
    with pytest.raises(InputError, match=f"no whole checkpoint of .*{message}"):
        train(digits[0], epochs=1, batch_size=50, checkpoint=path, resume=True, progress=False)


def test_settings_of_numpy_types_are_written(digits, tmp_path):
    path = tmp_path / "model.safetensors"
    settings = {"learning_rate": np.float32(0.1), "epochs": np.int64(1), "batch_size": 50}
    done = train(digits[0], checkpoint=path, progress=False, **settings)
    assert load_training(path).settings["learning_rate"] == np.float32(0.1)
    again = train(digits[0], checkpoint=path, progress=False, resume=True, **settings)
    assert same(done, again)


SOURCE = """
import torch

def halves(x, y, share={share}):
    return share * x + (1 - share) * x.flip(0), share * y + (1 - share) * y.flip(0)

class Halves:
    def __init__(self, share):
        self.share = share

    def __call__(self, x, y):
        return halves(x, y, self.share)
"""


@pytest.mark.parametrize(
    "make", [lambda m: m.halves, lambda m: m.Halves(0.5)], ids=["def", "class"]
)
def test_a_training_with_a_mixer_of_ones_own_goes_on(digits, tmp_path, monkeypatch, make):
    """A module that is imported anew gives objects at other addresses, as a new process does."""

    def loaded(share):
        path = tmp_path / f"version_{share}" / "own_mixer.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(SOURCE.format(share=share))
        spec = importlib.util.spec_from_file_location("own_mixer", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "own_mixer", module)
        spec.loader.exec_module(module)
        return make(module)

    path = tmp_path / "model.safetensors"
    options = {"epochs": 1, "batch_size": 50, "checkpoint": path, "progress": False}
    first, again = loaded(0.5), loaded(0.5)
    done = train(digits[0], mixer=first, **options)
    assert first is not again
    assert "0x" not in done.settings["mixer"]
    assert same(train(digits[0], mixer=again, resume=True, **options), done)
    with pytest.raises(InputError, match="was begun with mixer="):
        train(digits[0], mixer=loaded(0.25), resume=True, **options)
