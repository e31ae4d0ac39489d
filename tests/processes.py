"""Commands in processes of their own: what they leave behind, and what they take."""

from __future__ import annotations

import io
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pandas as pd


def heed_interrupts():
    """What a process does first so that SIGINT reaches it, also where this one ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def shell(*arguments, preexec_fn=heed_interrupts, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-m", "zmanifold", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=preexec_fn, **kwargs,
    )  # fmt: skip


def limited_files(n_bytes):
    """What a process does first whose files shall not grow beyond that, as on a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def table_in(source):
    return pd.read_csv(source).drop(columns="seconds")


@cache
def whole_table(*command):
    """The table of a command that nothing disturbs."""
    ran = shell(*command)
    out, error = ran.communicate()
    assert (ran.returncode, error) == (0, "")
    return table_in(io.StringIO(out))


def anonymous_memory(pid="self"):
    """Bytes of a process, 0 when it has ended."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return 1024 * int(found[1]) if found else 0


def wait_for_cells(path, least):
    deadline = time.monotonic() + 60
    while cells_in(path) < least and time.monotonic() < deadline:
        time.sleep(0.005)


def cells_in(path):
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            return database.execute("SELECT count(*) FROM cell").fetchone()[0]
    except sqlite3.OperationalError:
        return 0
