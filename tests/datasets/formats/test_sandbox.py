"""Decoders in a child process: what they may take, and how their ends are told."""

from __future__ import annotations

import subprocess
import sys

import pytest
from zmanifold._base.errors import InputError
from zmanifold.datasets.formats import _sandbox
from zmanifold.datasets.formats._sandbox import decode_apart

import decoders


@pytest.fixture
def files(tmp_path):
    made = [tmp_path / name for name in ("good", "bad")]
    for file in made:
        file.write_bytes(file.name.encode() * 1000)
    return made


def decode(files, how, memory=2**28):
    return decode_apart(decoders.behave, files, library="json", memory=memory, how=how)


def test_the_content_of_each_file(files):
    assert [bytes(content) for content in decode(files, "well")] == [b"good" * 1000, b"bad" * 1000]


def test_a_decoder_that_ends_its_process(files):
    with pytest.raises(InputError, match=r"/bad cannot be read \(json ended or took more than"):
        decode(files, "abort")


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_a_decoder_that_takes_too_much(files):
    with pytest.raises(MemoryError):
        decode(files, "allocate")
    assert len(decode(files, "allocate", memory=2**32)) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="limits time as Unix does")
def test_a_decoder_that_does_not_end(files, monkeypatch):
    monkeypatch.setattr(_sandbox, "_LEAST_SECONDS", 0)
    with pytest.raises(InputError, match=r"/bad cannot be read \(.* or 2 seconds\): check"):
        decode(files, "spin")


def test_a_child_that_waits(files, monkeypatch):
    def late(*_, timeout, **__):
        raise subprocess.TimeoutExpired("child", timeout)

    monkeypatch.setattr(subprocess, "run", late)
    with pytest.raises(InputError, match=r"/good cannot be read \(json ended or took more than"):
        decode(files, "well")


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [("raise", Exception, "^'a key'"), ("cannot open", OSError, "permission denied")],
)
def test_what_a_decoder_raises(files, how, kind, message):
    with pytest.raises(kind, match=message):
        decode(files, how)


def test_a_child_starts_without_torch(tmp_path):
    (tmp_path / "bad").touch()
    (names,) = decode([tmp_path / "bad"], "modules")
    assert not {"torch", "pandas", "sklearn"} & set(bytes(names).decode().split(","))
    code = (
        "import sys; from zmanifold.datasets.formats import images, numpy, parquet, tables;"
        "assert not {'torch', 'pandas', 'pyarrow', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
