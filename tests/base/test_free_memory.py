"""What is free and taken, by files of Linux that a test writes itself."""

from __future__ import annotations

import numpy as np
import pytest
from zmanifold._base.errors import InputError
from zmanifold._base.free_memory import free_memory, taken_memory
from zmanifold._base.memory import streaming_memory

MIB = 2**20


def tree(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


MACHINE = {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable:   {2**33 // 1024} kB\n"}


def unified(path, limit, used=0, inactive=0, high="max"):
    folder = f"sys/fs/cgroup/{path}"
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.high": f"{high}\n",
        f"{folder}/memory.current": f"{used}\n",
        f"{folder}/memory.stat": f"anon 5\ninactive_file {inactive}\nactive_file 7\n",
    }


def memory_alone(path, limit, used=0, inactive=0):
    folder = f"sys/fs/cgroup/memory/{path}"
    return {
        f"{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"{folder}/memory.usage_in_bytes": f"{used}\n",
        f"{folder}/memory.stat": f"inactive_file 1\ntotal_inactive_file {inactive}\n",
    }


UNLIMITED = 9223372036854771712
SLURM = "6:pids:/\n5:cpuacct,memory:/slurm/uid_7/job_3/step_0\n0::/\n"


@pytest.mark.parametrize(
    ("own", "files", "free"),
    [
        # No limit at all, no files at all.
        ("0::/a/b\n", {}, 2**33),
        # The process's own group; one of its ancestors; the root of a container.
        ("0::/a/b\n", unified("a/b", 512 * MIB, 200 * MIB, 50 * MIB), 362 * MIB),
        ("0::/a/b/c\n", unified("a/b/c", "max") | unified("a", 512 * MIB, 100 * MIB), 412 * MIB),
        ("0::/docker/f00\n", unified(".", 300 * MIB), 300 * MIB),
        ("0::/../other\n", unified(".", 300 * MIB), 300 * MIB),
        # The least that is left counts, not the smallest limit.
        (
            "0::/a/b\n",
            unified("a/b", 512 * MIB, 12 * MIB) | unified("a", 1024 * MIB, 900 * MIB),
            124 * MIB,
        ),
        # A limit beyond which processes are slowed down.
        ("0::/a\n", unified("a", 512 * MIB, high=64 * MIB), 64 * MIB),
        # Version 1, as Slurm nests it.
        (
            SLURM,
            memory_alone("slurm/uid_7/job_3/step_0", UNLIMITED, 9)
            | memory_alone("slurm/uid_7/job_3", 256 * MIB, 100 * MIB, 30 * MIB),
            186 * MIB,
        ),
        # Names with colons; a limit of another controller is none of memory.
        ("0::/user@1:x\n", unified("user@1:x", 40 * MIB), 40 * MIB),
        ("5:cpu:/a\n", memory_alone("a", 40 * MIB), 2**33),
        # More is used than the limit allows.
        ("0::/a\n", unified("a", MIB, 2 * MIB), 0),
    ],
)
def test_the_least_that_is_left_in_any_group_is_free(tmp_path, own, files, free):
    assert free_memory(tree(tmp_path, MACHINE | {"proc/self/cgroup": own} | files)) == free


def test_other_systems_have_no_such_files(tmp_path):
    assert free_memory(tmp_path) == 2**31
    assert taken_memory(tmp_path) == float("inf")


def test_linux_writes_a_tab(tmp_path):
    status = "VmRSS:\t 900 kB\nRssAnon:\t     704 kB\nRssFile:\t 1 kB\n"
    assert taken_memory(tree(tmp_path, {"proc/self/status": status})) == 704 * 1024


def test_the_limit_sees_what_is_taken():
    """The case's 2 GiB under a limit of 1 GiB, with a 16th of both."""
    taken = int(taken_memory())
    limit = taken + (160 + 64 + 32) * MIB
    before = streaming_memory(limit)
    held = np.ones(2**24)
    after = taken_memory() - taken
    assert after == pytest.approx(held.nbytes, rel=0.1)
    with pytest.raises(InputError, match=r"memory_limit=.* is too little .* allow at least"):
        streaming_memory(limit)
    assert streaming_memory(limit + held.nbytes) == pytest.approx(before, abs=16 * MIB)
