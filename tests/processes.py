"""Commands in processes of their own, and what they leave in a journal."""

from __future__ import annotations

import sqlite3
import subprocess
import sys


def shell(*arguments, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-m", "zmanifold", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs,
    )  # fmt: skip


def cells_in(path):
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            return database.execute("SELECT count(*) FROM cell").fetchone()[0]
    except sqlite3.OperationalError:
        return 0
