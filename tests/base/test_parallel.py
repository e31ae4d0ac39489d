from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from zmanifold._base import parallel
from zmanifold._base.memory import return_freed_memory
from zmanifold._base.parallel import chunks, run_chunks

from processes import anonymous_memory


@pytest.mark.parametrize("total", [0, 1, 7, 64])
@pytest.mark.parametrize("size", [0, 1, 3, 100])
def test_every_row_is_worked_on_once(total, size, device):
    done = torch.zeros(total, device=device)
    pieces = []

    def work(part):
        pieces.append(part.stop - part.start)
        done[part] += 1

    run_chunks(work, total, size, torch.device(device))
    assert (done == 1).all()
    assert max(pieces, default=0) <= max(1, size)
    assert sum(part.stop - part.start for part in chunks(total, size)) == total


def test_thread_settings_are_restored_and_errors_come_out(one_thread):
    torch.set_num_threads(2)
    seen = []

    def work(part):
        seen.append(torch.get_num_threads())
        if part.start >= 4:
            raise RuntimeError("the solver gave up")

    with pytest.raises(RuntimeError, match="the solver gave up"):
        run_chunks(work, 8, 4, torch.device("cpu"))
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2
    # The first call of torch in a thread takes over the number that any thread set last.
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2


def test_threads_last_and_a_forked_process_starts_its_own(one_thread):
    torch.set_num_threads(2)
    both, threads = threading.Barrier(2), set()

    def work(part):
        both.wait()
        threads.add(threading.get_ident())

    for _ in range(3):
        run_chunks(work, 2, 2, torch.device("cpu"))
    assert len(threads) == 2
    inherited = parallel._pool()
    with warnings.catch_warnings():
        # Python warns that the threads are not forked, which is the case under test.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            # The child would wait forever for the threads of the inherited pool.
            if parallel._pool() is not inherited:
                # It begins with one thread, and may ask for more.
                assert torch.get_num_threads() == 1
                torch.set_num_threads(2)
                run_chunks(work, 2, 2, torch.device("cpu"))
                code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize("failing", ["the calling thread", "another"])
def test_a_failure_ends_the_other_threads_work(failing, one_thread, monkeypatch):
    torch.set_num_threads(2)
    caller = threading.get_ident()
    both, cleared, begun = threading.Barrier(2), threading.Event(), []

    class Parts(deque):
        def clear(self):
            super().clear()
            cleared.set()

    monkeypatch.setattr(parallel, "deque", Parts)

    def work(part):
        begun.append(part)
        both.wait()
        if (threading.get_ident() == caller) == (failing == "the calling thread"):
            # run_chunks itself catches an IndexError where no part is left: this one is not that.
            raise IndexError("the solver gave up")
        cleared.wait()

    with pytest.raises(IndexError, match="the solver gave up"):
        run_chunks(work, 1000, 2, torch.device("cpu"))
    assert len(begun) == 2


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries have no malloc_trim"
)
def test_freed_memory_goes_back():
    # Blocks of 64 KiB come from the heap, not from mmap. The last one stays in use at the top of
    # the heap: free() alone then returns nothing of the 200 MiB below it.
    blocks = [bytearray(2**16) for _ in range(3200)]
    last = blocks.pop()
    before = anonymous_memory()
    blocks.clear()
    return_freed_memory()
    assert anonymous_memory() < before - 150 * 2**20
    assert last is not None


def test_a_forked_process_computes_on_its_own():
    """After a call whose threads it does not have: by tiles, by the tree, and by torch alone."""
    code = """
import os
import numpy as np
import torch
import zmanifold as zm

torch.set_num_threads(2)
rng = np.random.default_rng(0)
sets = [rng.normal(size=(6000, 40)), rng.normal(size=(6000, 3))]

def found():
    dimensions = [zm.LocalPCA(n_neighbors=9).fit(X).dimension_ for X in sets]
    return [float(torch.from_numpy(sets[0]).exp().sum()), *dimensions]

before = found()
pid = os.fork()
if pid == 0:
    same = np.allclose(found(), before, rtol=1e-12, atol=0)
    os._exit(0 if same else 3)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert torch.get_num_threads() == 2 and found()[1:] == before[1:]
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
