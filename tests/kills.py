"""Kill a small sweep at random moments, resume it, and compare with one that ran through.

Every second kill waits for a random number of cells instead of a random time, so that some kills
come in the middle of the sweep even if the load of the machine changes.

Usage: python kills.py FOLDER KILLS SEED. Each run is a fork. What the first one imports is then
imported here, so that the others import nothing. Nothing is computed before the forks, so that no
fork loses a thread. Prints, for each kill, the number of finished cells and whether the table is
the same.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from zmanifold.cli import app as cli

from processes import cells_in, table_in

COMMAND = [
    "sweep-id", "helix-r3", "spirals", "--n-samples", "300", "--gamma", "0:7:1", "--neighbors",
    "8,20", "--seeds", "2",
]  # fmt: skip


def begun(*options: object, listing: Path | None = None) -> int:
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = cli._run([*COMMAND, *map(str, options)])
            if listing is not None:
                listing.write_text("\n".join(sys.modules))
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def wait_for_cells(pid: int, journal: Path, least: int) -> None:
    """Wait until the journal has `least` cells, or the process has ended."""
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while cells_in(journal) < least and os.waitid(os.P_PID, pid, options) is None:
        time.sleep(0.001)


def main(folder: Path, kills: int, seed: int) -> None:
    assert ended(begun("--out", folder / "compiled.csv", listing=folder / "modules")) == 0
    for name in (folder / "modules").read_text().splitlines():
        # Some that extensions make cannot be imported by their names.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    clock = time.perf_counter()
    assert ended(begun("--out", folder / "whole.csv")) == 0
    duration = time.perf_counter() - clock
    whole = table_in(folder / "whole.csv")
    rng = random.Random(seed)
    for i in range(kills):
        run = folder / str(i)
        run.mkdir()
        pid = begun("--out", run / "a.csv")
        if i % 2:
            wait_for_cells(pid, run / "a.journal", rng.randint(1, len(whole) - 1))
        else:
            time.sleep(rng.uniform(0, duration))
        os.kill(pid, signal.SIGKILL)
        ended(pid)
        finished = cells_in(run / "a.journal")
        code = ended(begun("--out", run / "a.csv", "--resume"))
        same = code == 0 and table_in(run / "a.csv").equals(whole)
        print(finished, len(whole), code, same, flush=True)
        shutil.rmtree(run)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
