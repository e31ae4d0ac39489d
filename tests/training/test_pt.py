"""Checkpoints of version 0.1.0."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
import zmanifold as zm
from zmanifold._base.errors import InputError
from zmanifold.training import _pt, load_training, loop, train

from trainings import content_of_0_1_0, same


@pytest.fixture(scope="module")
def checkpoint(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "model.pt"
    train(digits[0], epochs=1, batch_size=50, checkpoint=path, progress=False)
    torch.save(content_of_0_1_0(path), path)
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
        "room at will": content | {"bytes": bytearray(8)},
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
        (lambda content: content["history"].append(dict(content["history"][0])), "it has 2 epochs"),
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
    content = content_of_0_1_0(path)
    content["optimizer"]["param_groups"] = "any"
    torch.save(content, path)
    assert same(whole, train(digits[0], resume=True, **settings))


def test_it_is_read_and_goes_on_in_the_new_format(digits, tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    settings = {"mixer": zm.ZetaMixup(2.8), "batch_size": 50, "epochs": 3, "progress": False}
    through = train(digits[0], **settings)

    def stop(*args):
        save(*args)
        raise KeyboardInterrupt

    save = loop.save
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            train(digits[0], checkpoint=path, **settings)
    begun = load_training(path)
    torch.save(content_of_0_1_0(path), path)
    assert path.read_bytes().startswith(b"PK")
    again = load_training(path)
    assert same(again, begun)
    np.testing.assert_equal((again.history, again.settings), (begun.history, begun.settings))
    assert same(train(digits[0], checkpoint=path, resume=True, **settings), through)
    assert not path.read_bytes().startswith(b"PK")
    assert same(load_training(path), through)


EMPTY = b"\x80\x02}"

HANGING = {
    # {t: 1} where t holds t' twice, which holds t'' twice, and so on: 2**60 steps to hash.
    "duplicated": EMPTY + b")" + b"2\x86" * 60 + b"K\1s.",
    "remembered": EMPTY + b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60)) + b"K\1s.",
    "from a mark": EMPTY + b"()" + b"".join(b"q%c0(h%ch%ct" % (i, i, i) for i in range(60))
    + b"K\1u.",
    "three at a time": EMPTY + b")" + b"".join(
        b"r%c\0\0\0j%c\0\0\0K\1\x87" % (i, i) for i in range(60)
    ) + b"K\1s.",
    "popped first": EMPTY + b")" + b"".join(
        b"K\0000q%ch%c\x86" % (i, i) for i in range(60)
    ) + b"K\1s.",
    # Lists that an error would show: torch calls what is no function.
    "lists in a message": b"\x80\x02]" + b"".join(b"q%c]h%cah%ca" % (i, i, i) for i in range(60))
    + b")R.",
    # The stack of the processor ends before that of Python.
    "deep": EMPTY + b")" + b"\x85" * 10**6 + b"K\1s.",
}  # fmt: skip


@pytest.mark.parametrize("name", HANGING)
def test_archives_that_take_for_ever_or_overrun_the_stack(tmp_path, name):
    path = tmp_path / "model.pt"
    path.write_bytes(zipped([("a/data.pkl", HANGING[name]), ("a/version", b"3\n")]))
    said = r"model.pt is no whole checkpoint of this package \((a part comes twice|it is nested)"
    with pytest.raises(InputError, match=said):
        load_training(path)


def test_the_depth_of_what_torch_writes(checkpoint):
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".pkl"))
        assert _pt._depth(archive.read(name)) == 8
    # Texts may come twice, however long the list.
    assert _pt._depth(pickle.dumps([{"a": 1, "b": (2, "a")}] + [{"a": i} for i in range(5000)],
                                   protocol=2)) == 3  # fmt: skip
