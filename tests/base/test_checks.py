from __future__ import annotations

from pathlib import Path

import pytest
import torch
from zmanifold._base.memory import working_memory

CPU = torch.device("cpu")
KIB = 2**10


@pytest.fixture
def system(monkeypatch):
    """Replace the system's files about memory; a file that is not given does not exist."""
    files = {}

    def read(path, *args, **kwargs):
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(Path, "read_text", read)
    return files


@pytest.mark.parametrize(
    ("available", "expected"),
    [(64 * 2**30, 2**30), (2**30, 2**28), (2**20, 2**20), (0, 2**20)],
)
def test_the_default_is_a_quarter_of_what_is_free(system, available, expected):
    system["/proc/meminfo"] = f"MemTotal: 999 kB\nMemAvailable:   {available // KIB} kB\n"
    assert working_memory(None, CPU) == expected
    assert working_memory(2**25, CPU) == 2**25


def test_a_containers_limit_counts(system):
    system["/proc/meminfo"] = f"MemAvailable: {2**36 // KIB} kB\n"
    system["/sys/fs/cgroup/memory.max"] = f"{2**30}\n"
    assert working_memory(None, CPU) == 2**28
    # Used memory is not free, except for the cache of files, which can be read again.
    system["/sys/fs/cgroup/memory.current"] = f"{2**30 - 2**28}\n"
    assert working_memory(None, CPU) == 2**26
    system["/sys/fs/cgroup/memory.stat"] = f"anon 5\ninactive_file {2**28}\nactive_file 7\n"
    assert working_memory(None, CPU) == 2**27
    system["/sys/fs/cgroup/memory.max"] = "max\n"
    assert working_memory(None, CPU) == 2**30


def test_a_system_that_does_not_say(system):
    assert working_memory(None, CPU) == 2**29
