"""All that a GPU can show of the package, by one command on a machine without internet.

Claim:    on one GPU the CUDA tests pass and the rows reach their goals (`GOALS` in gpu_report.py)
Command:  make gpu, or: python experiments/gpu.py --data FOLDER --wheels FOLDER
Needs:    CUDA's torch and the package's own requirements; Fashion-MNIST's files for Table 4
Writes:   gpu.json and gpu.md, after each row, and the files of table_4.py
Runtime:  at most 8 minutes (--budget); without a GPU --device cpu --tiny takes one

The parts run in the order of their importance, each in a process of its own with a time limit: one
that hangs or crashes loses nothing but its unfinished row. This file imports the standard library
alone, for what the rest needs may first have to come from --wheels.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpu_report import GOALS, missed, to_markdown

ROOT = Path(__file__).parent.parent
BUDGET = 480.0
# The most seconds of each part, most important first; they grow with --budget.
PARTS = {
    "machine": 60,
    "tests": 200,
    "mixers": 60,
    "dimension": 90,
    "sweep": 160,
    "peers": 60,
    "table 4": 150,
    "profile": 60,
}
# A part that gets less time than this would only start.
SHORTEST = 5.0
LOG_SIZE = 3000


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, help="folder with Fashion-MNIST, for Table 4 as well")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to use for this run")
    parser.add_argument("--out", type=Path, default=ROOT / "experiments" / "results")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds in all")
    parser.add_argument("--epochs", type=int, default=15, help="of each training of Table 4")
    parser.add_argument("--device", choices=["cuda", "cpu", "lazy"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small sizes, which try the program")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of: %(default)s")
    given = parser.parse_args(arguments)
    given.parts = [part.strip() for part in given.parts.split(",")]
    for part in given.parts:
        if part not in PARTS:
            parser.error(f"--parts: {part!r} is none of {', '.join(PARTS)}")
    for folder in ("data", "wheels"):
        path = getattr(given, folder)
        if path is not None and not path.is_dir():
            parser.error(f"--{folder}: {path} is not a folder")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts and return 1 if one of them crashed or was stopped."""
    given = parsed(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        return Run(given, Path(scratch)).all_parts()


class Run:
    """One run: its clock, its folder for what is of no use later, and what was found."""

    def __init__(self, given: argparse.Namespace, scratch: Path) -> None:
        self.given, self.scratch = given, scratch
        self.clock = time.monotonic()
        self.paths = [str(ROOT)]
        self.data = given.data
        self.found: dict[str, Any] = {
            "command": "python experiments/gpu.py",
            "date": datetime.now(UTC).date().isoformat(),
            "device": given.device,
            "tiny": given.tiny,
            "parts": {},
        }

    def all_parts(self) -> int:
        """Run one part after the other."""
        if self.given.wheels is not None:
            self.install(self.given.wheels)
        if self.given.tiny and self.data is None:
            self.data = write_images(self.scratch / "images")
        for name, most in PARTS.items():
            left = self.given.budget - (time.monotonic() - self.clock)
            if name != "machine" and name not in self.given.parts:
                continue
            if name == "table 4" and self.data is None:
                self.leave_out(name, "it needs --data")
            elif left < SHORTEST:
                self.leave_out(name, "the budget is spent")
            else:
                self.part(name, min(most * self.given.budget / BUDGET, left))
            if name == "machine" and not self.can_go_on():
                return 1
        print(f"wrote {self.given.out / 'gpu'}.json, .md")
        ends = [part["status"] for part in self.found["parts"].values()]
        return int(any(end.startswith(("failed", "stopped")) for end in ends))

    def leave_out(self, name: str, why: str) -> None:
        """Note that a part does not run."""
        self.found["parts"][name] = {"status": f"left out: {why}", "seconds": 0.0, "rows": {}}
        self.write()

    def install(self, wheels: Path) -> None:
        """Install wheels where this run alone finds them, before what the machine has."""
        target = self.scratch / "site"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        command += ["--target", str(target), *map(str, sorted(wheels.glob("*.whl")))]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            # A run without them says what is missing.
            print(f"the wheels of {wheels} are left out: {last_line(done.stderr)}")
        else:
            self.paths.insert(0, str(target))

    def can_go_on(self) -> bool:
        """Say what is missing, if anything is."""
        part = self.found["parts"]["machine"]
        machine = part["rows"].get("machine")
        if machine is None:
            print(
                f"zmanifold cannot be imported ({last_line(part.get('log', ''))}): fetch what is "
                "missing with `pip download --no-deps -d FOLDER NAME`, then give --wheels FOLDER."
            )
            return False
        if self.given.device == "cuda" and not machine["cuda"]:
            print("torch finds no GPU here: give --device cpu --tiny to try the program.")
            return False
        return True

    def part(self, name: str, seconds: float) -> None:
        """Run a part in its process for so long at most, and write what it finds as it comes."""
        part: dict[str, Any] = {"status": "running", "seconds": 0.0, "rows": {}}
        self.found["parts"][name] = part
        lines, log = self.scratch / "lines", self.scratch / "log"
        lines.write_text("")
        clock = time.monotonic()
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, str(program(name)), self.job(name, seconds, lines)],
                cwd=ROOT, env=self.environment(), stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
            try:
                while process.poll() is None and time.monotonic() - clock < seconds:
                    time.sleep(0.1)
                    if self.read(part, lines):
                        self.write()
                code = process.poll()
            finally:
                end(process)
        self.read(part, lines)
        part["seconds"] = round(time.monotonic() - clock, 1)
        part["status"] = "done"
        if code is None:
            part["status"] = f"stopped after {seconds:.0f} s"
        elif code:
            part["status"] = f"failed with exit code {code}"
        if code != 0:
            part["log"] = log.read_text(errors="replace")[-LOG_SIZE:]
        self.write()
        print(f"{name}: {part['status']}, {part['seconds']:.1f} s", flush=True)

    def job(self, name: str, seconds: float, lines: Path) -> str:
        """Return what a part's process has to know."""
        rows = self.rows()
        return json.dumps({
            "part": name,
            "device": self.given.device,
            "tiny": self.given.tiny,
            "epochs": self.given.epochs,
            "ends": time.time() + seconds,
            "lines": str(lines),
            "scratch": str(self.scratch),
            "out": str(self.given.out.resolve()),
            # Tiny rows reach no goals: all that have some try the program.
            "rows": list({goal.row: goal for goal in GOALS}) if self.given.tiny else missed(rows),
        })  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Return the variables of a part's process."""
        paths = [*self.paths, *filter(None, [os.environ.get("PYTHONPATH")])]
        added = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
        if self.data is not None:
            added["ZMANIFOLD_DATA"] = str(self.data.resolve())
        return os.environ | added

    def read(self, part: dict[str, Any], lines: Path) -> bool:
        """Take up the lines that a part has written; a later one of a row replaces the former."""
        before = json.dumps(part["rows"])
        for line in lines.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                row = json.loads(line)
                part["rows"][row.pop("row")] = row
        return json.dumps(part["rows"]) != before

    def rows(self) -> dict[str, Any]:
        """Return the rows of all parts so far."""
        return {
            name: row for part in self.found["parts"].values() for name, row in part["rows"].items()
        }

    def write(self) -> None:
        """Write both files; whoever reads them meanwhile finds whole ones."""
        self.found["seconds"] = round(time.monotonic() - self.clock, 1)
        content = {
            "gpu.json": json.dumps(self.found, indent=1, ensure_ascii=False) + "\n",
            "gpu.md": to_markdown(self.found),
        }
        for name, text in content.items():
            new = self.given.out / f"{name}.new"
            new.write_text(text, encoding="utf-8")
            new.replace(self.given.out / name)


def program(part: str) -> Path:
    """Return the file that runs a part; pytest has to be there before the package is imported."""
    return Path(__file__).with_name("gpu_tests.py" if part == "tests" else "gpu_parts.py")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started and left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_line(text: str) -> str:
    """Return the last line that is not empty, which names the error."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no message")


def write_images(folder: Path) -> Path:
    """Write files like Fashion-MNIST's, with random pixels, for a tiny run."""
    target = folder / "fashion-mnist"
    target.mkdir(parents=True)
    draw = random.Random(0)
    for name, n in (("train", 320), ("t10k", 64)):
        pixels = struct.pack(">4i", 2051, n, 28, 28) + draw.randbytes(n * 784)
        labels = struct.pack(">2i", 2049, n) + bytes(i % 10 for i in range(n))
        for kind, content in (("images-idx3", pixels), ("labels-idx1", labels)):
            (target / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
    return folder


if __name__ == "__main__":
    sys.exit(main())
