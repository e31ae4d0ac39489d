"""Commands in separate processes: how to start, stop and limit them, and how to read their results.

Usage: python processes.py CELLS ARGUMENTS... This runs the command with the arguments, and stops
itself (SIGSTOP) as soon as CELLS cells are in the journal.
"""

from __future__ import annotations

import io
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
from functools import cache
from pathlib import Path

import pandas as pd
from zmanifold.cli.app import main
from zmanifold.sweep.journal import Journal


def heed_interrupts():
    """Restore SIGINT in a new process, which would inherit that this one ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def shell(*arguments, stop_after=None, preexec_fn=heed_interrupts, **kwargs):
    """Start the command; with `stop_after` return once it has stopped at that many cells."""
    program = ["-m", "zmanifold"] if stop_after is None else [__file__, stop_after]
    ran = subprocess.Popen(
        [sys.executable, *map(str, [*program, *arguments])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=preexec_fn, **kwargs,
    )  # fmt: skip
    if stop_after is not None:
        left = os.WSTOPPED | os.WEXITED | os.WNOWAIT
        seen = os.waitid(os.P_PID, ran.pid, left)
        assert seen.si_code == os.CLD_STOPPED, ran.communicate()
    return ran


def go_on(ran, sent=None):
    """Continue a stopped command, after a signal if one is given."""
    if sent is not None:
        ran.send_signal(sent)
    ran.send_signal(signal.SIGCONT)


def call_after(cells, action):
    """Call `action` once, as soon as journals of this process have recorded that many cells."""
    record, left = Journal.record, iter(range(cells - 1, -1, -1))

    def recorded(self, *given):
        record(self, *given)
        if next(left, None) == 0:
            action()

    Journal.record = recorded


def limited_files(n_bytes):
    """Return a function that limits the size of a process's files, as a full disk would."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def table_in(source):
    return pd.read_csv(source).drop(columns="seconds")


@cache
def whole_table(*command):
    """Return the table of an undisturbed run of the command."""
    ran = shell(*command)
    out, error = ran.communicate()
    assert ran.returncode == 0, error
    return table_in(io.StringIO(out))


def anonymous_memory(pid="self"):
    """Return the bytes of anonymous memory of a process, 0 once it has ended."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return 1024 * int(found[1]) if found else 0


def cells_in(path):
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            return database.execute("SELECT count(*) FROM cell").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


if __name__ == "__main__":
    call_after(int(sys.argv[1]), lambda: os.kill(os.getpid(), signal.SIGSTOP))
    del sys.argv[1]
    main()
