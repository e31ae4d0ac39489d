"""Finished cells survive kills, folders that vanish or are closed, and a second process."""

from __future__ import annotations

import ctypes
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from processes import cells_in, go_on, shell, table_in, whole_table

COMMAND = ["sweep-id", "helix-r3", "--n-samples", "4096", "--neighbors", "64", "--seeds", "2"]
FOLDER = Path(__file__).parents[1]
_CAP_DAC_OVERRIDE, _PR_CAPBSET_DROP = 1, 24


def test_killed_at_random_moments(tmp_path):
    kills = 20
    ran = subprocess.run(
        [sys.executable, FOLDER / "kills.py", tmp_path, str(kills), "0"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    lines = [line.split() for line in ran.stdout.splitlines() if not line.startswith("wrote")]
    assert len(lines) == kills
    assert all(code == "0" and same == "True" for _, _, code, same in lines), lines
    assert any(0 < int(finished) < int(every) for finished, every, _, _ in lines), lines


def as_user():
    """Drop root's capability to write to any folder."""
    if os.geteuid() == 0:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0)


@pytest.fixture
def closed(tmp_path):
    """A folder that processes of `as_user` cannot write to once a test makes it read-only."""
    folder = tmp_path / "runs"
    folder.mkdir()
    folder.chmod(0o555)
    probe = [sys.executable, "-c", f"open({str(folder / 'x')!r}, 'w')"]
    tried = subprocess.run(probe, preexec_fn=as_user, capture_output=True, check=False)
    folder.chmod(0o755)
    if tried.returncode == 0:
        pytest.skip("this user can write to a folder in spite of its mode")
    yield folder
    folder.chmod(0o755)


def check_table(path):
    pd.testing.assert_frame_equal(table_in(path), whole_table(*COMMAND))


def test_a_read_only_folder_is_refused_at_once(closed):
    closed.chmod(0o555)
    ran = shell(*COMMAND, "--out", closed / "a.csv", preexec_fn=as_user)
    out, error = ran.communicate()
    assert (ran.returncode, out) == (2, "")
    assert error.count("\n") == 1
    assert "cannot be written (Permission denied): choose another folder" in error


def test_a_folder_that_is_closed_in_the_middle(closed):
    ran = shell(*COMMAND, "--out", closed / "a.csv", stop_after=3, preexec_fn=as_user)
    closed.chmod(0o555)
    go_on(ran)
    out, error = ran.communicate()
    assert (ran.returncode, out) == (1, "")
    assert error.count("\n") == 1
    assert "a.journal' cannot be written" in error
    assert "what it holds is safe" in error
    closed.chmod(0o755)
    assert cells_in(closed / "a.journal") == 3
    resumed = shell(*COMMAND, "--out", closed / "a.csv", "--resume")
    assert resumed.communicate()[1] == ""
    check_table(closed / "a.csv")


def test_a_folder_that_is_removed_in_the_middle(tmp_path):
    """The finished cells cannot be read from a removed file later: they are printed."""
    folder = tmp_path / "runs"
    folder.mkdir()
    ran = shell(*COMMAND, "--out", folder / "a.csv", stop_after=3)
    shutil.rmtree(folder)
    go_on(ran)
    out, error = ran.communicate()
    assert ran.returncode == 1
    assert error.count("\n") == 1
    assert "a.journal' is gone: its finished cells go to the output." in error
    assert not folder.exists()
    kept = table_in(io.StringIO(out))
    assert len(kept) == 3
    assert len(kept.merge(whole_table(*COMMAND))) == len(kept)


def test_two_commands_on_one_journal(tmp_path):
    both = [shell(*COMMAND, "--out", tmp_path / "a.csv", "--resume") for _ in range(2)]
    for ran in both:
        _, error = ran.communicate()
        assert ran.returncode == 0, error
    assert cells_in(tmp_path / "a.journal") == 36
    check_table(tmp_path / "a.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "a.json", "a.journal"}
