"""The tests that run on a device, counted while they run."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("test_devices.py", "mixers", "neighbors", "dimension", "measures", "sweep")
# Those whose names or parameters say so run on the device.
CHOSEN = {"cuda": "cuda or devices or gpu or triton", "lazy": "lazy", "cpu": "devices or cpu"}
TINY = {"cuda": "cuda and mixers", "lazy": "lazy and mixers", "cpu": "refuses"}


class Counter:
    """A plugin of pytest that counts outcomes and keeps why tests failed."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self.tell, self.told = tell, 0.0
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.failures: dict[str, str] = {}
        self.not_collected: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Take up a test's outcome; a set-up that fails is a failure, too."""
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.outcome] += 1
            if report.failed:
                self.failures[report.nodeid] = reason(report)
            self.write(every=1.0)

    def pytest_collectreport(self, report: Any) -> None:
        """Take up a file that could not be imported, for want of a package for example."""
        if report.failed:
            self.not_collected[report.nodeid] = reason(report)

    def write(self, every: float = 0.0) -> None:
        """Write the counts, but not more often than so many seconds."""
        if time.monotonic() - self.told >= every:
            self.told = time.monotonic()
            found: dict[str, Any] = {"failures": self.failures, "not_collected": self.not_collected}
            self.tell(**self.counts, **found)


def reason(report: Any) -> str:
    """Return the line of a report that names the error."""
    lines = [line for line in report.longreprtext.splitlines() if line.strip()]
    errors = [line.removeprefix("E").strip() for line in lines if line.startswith("E  ")]
    return str((errors or lines[-1:] or ["no message"])[0][:300])


def arguments(device: str, *, tiny: bool) -> list[str]:
    """Return pytest's arguments.

    pytest-benchmark, where it is installed, warns under xdist, and warnings are errors here.
    """
    chosen = (TINY if tiny else CHOSEN)[device]
    places = [ROOT / "tests" / name for name in (FOLDERS[:1] if tiny else FOLDERS)]
    given = ["-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:benchmark", "-k", chosen]
    given += ["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
    given += ["--continue-on-collection-errors", *(str(path) for path in places if path.exists())]
    workers = min(10, len(os.sched_getaffinity(0)) - 2)
    if not tiny and workers > 1 and find_spec("xdist"):
        given += ["-n", str(workers)]
    return given


def main(text: str) -> None:
    """Run the tests of a device; failures are results, an unusable pytest is an error."""
    job = json.loads(text)

    def tell(**values: Any) -> None:
        with Path(job["lines"]).open("a", encoding="utf-8") as out:
            out.write(json.dumps({"row": "tests"} | values) + "\n")

    counter = Counter(tell)
    code = pytest.main(arguments(job["device"], tiny=job["tiny"]), plugins=[counter])
    counter.write()
    # Files that are not collected make pytest end as if it had been interrupted.
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not counter.not_collected:
        raise SystemExit(f"pytest ended with {code!r}")


if __name__ == "__main__":
    main(sys.argv[1])
