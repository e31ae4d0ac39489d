"""Writing of output files: links, leftovers of killed processes, names, and the disk itself."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from zmanifold._base import files
from zmanifold._base.errors import InputError


def write(path, text):
    files.write_atomically(path, lambda part: part.write_text(text))


def killed_while_writing(path):
    """Write to `path` in a process that is killed when the temporary file is half full."""
    pid = os.fork()
    if pid == 0:
        files.write_atomically(
            path, lambda part: part.write_text("half") and os.kill(os.getpid(), signal.SIGKILL)
        )
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


def test_what_a_killed_process_left_is_removed(tmp_path):
    path = tmp_path / "model.pt"
    killed_while_writing(path)
    killed_while_writing(tmp_path / "other.pt")
    assert len(list(tmp_path.iterdir())) == 2
    # Files of a user that look alike, and a link, stay.
    own = [tmp_path / ".model-original.pt", tmp_path / "model-abcdefgh.zmanifold-part.pt"]
    for file in own:
        file.write_text("mine")
    (tmp_path / ".model-abcdefgh.zmanifold-part.pt").symlink_to(own[0])
    write(path, "whole")
    assert path.read_text() == "whole"
    left = {p.name for p in tmp_path.iterdir()} - {p.name for p in own}
    assert {name for name in left if name.startswith(".model")} == {
        ".model-abcdefgh.zmanifold-part.pt"
    }
    assert len(left) == 3  # the file, the link, and what the other output's process left


def test_what_a_living_process_writes_is_left_alone(tmp_path):
    path = tmp_path / "model.pt"

    def another_writes(part):
        part.write_text("first")
        write(path, "second")
        assert part.read_text() == "first"

    files.write_atomically(path, another_writes)
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_a_file_taken_before_it_was_locked_is_made_anew(tmp_path, monkeypatch):
    make, made = files.tempfile.mkstemp, []

    def taken(**given):
        handle, name = make(**given)
        made.append(name)
        if len(made) == 1:
            files._remove_abandoned(tmp_path, given["prefix"], given["suffix"])
        return handle, name

    monkeypatch.setattr(files.tempfile, "mkstemp", taken)
    write(tmp_path / "a.txt", "whole")
    assert len(made) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_link_is_followed(tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    for name in ("real.csv", "new.csv"):
        (tmp_path / name).symlink_to(there / name)
    (there / "real.csv").write_text("old")
    for name in ("real.csv", "new.csv"):
        files.check_output(tmp_path / name, overwrite=True)
        write(tmp_path / name, "whole")
        assert (tmp_path / name).is_symlink()
        assert (there / name).read_text() == "whole"
    assert {p.name for p in there.iterdir()} == {"real.csv", "new.csv"}


def test_links_and_files_that_cannot_be_written(tmp_path):
    (tmp_path / "lost.csv").symlink_to(tmp_path / "no" / "a.csv")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    for name, message in (
        ("lost.csv", r"folder '.*no' does not exist"),
        ("loop.csv", r"cannot be written \(it is a link to itself|cannot be written \(Too many"),
        ("pipe.csv", r"is no regular file"),
    ):
        with pytest.raises(InputError, match=message):
            files.check_output(tmp_path / name, overwrite=True)
    with pytest.raises(OSError, match="link to itself"):
        write(tmp_path / "loop.csv", "whole")
    assert (tmp_path / "loop.csv").is_symlink()


def test_file_and_name_are_on_the_disk_before_it_returns(tmp_path, monkeypatch):
    synced, rename, sync = [], Path.replace, os.fsync

    def note(handle):
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        sync(handle)

    def renamed(self, target):
        synced.append("renamed")
        rename(self, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "replace", renamed)
    write(tmp_path / "a.txt", "whole")
    assert [getattr(step, "suffix", step) for step in synced] == [".txt", "renamed", ""]
    assert synced[2] == tmp_path.resolve()


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.expanded("~/x.csv") == tmp_path / "x.csv"
    assert files.expanded("~nobody-has-this-name/x.csv") == Path("~nobody-has-this-name/x.csv")
    (tmp_path / "x.npy").write_text("mine")
    with pytest.raises(InputError, match="is an input, too"):
        files.check_output(
            tmp_path / "x.npy", (".npy",), overwrite=True, inputs=["~/x.npy", "digits"]
        )


def test_names_that_are_not_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"donn\xe9es.json")
    files.write_json(path, {"file": path.name})
    assert json.loads(path.read_text()) == {"file": path.name}
