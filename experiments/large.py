"""A file larger than the memory that is allowed, and approximate neighbours of a million points.

Claim:    a 4 GiB file is swept within 1 GiB of anonymous memory with the numbers of a sweep in
          memory; a million points are searched approximately in minutes, with measured recall
Command:  python experiments/large.py FOLDER      (4.3 GB of room there, 20 GiB of memory)
Needs:    the extra `approximate`; Linux, which tells the anonymous memory
Writes:   experiments/results/large.json
Runtime:  about 7 minutes on 2 cores

The points lie near a manifold of 12 dimensions in 784, drawn with a seed. Each command runs in a
process of its own, whose anonymous memory (RssAnon) is read every 10 ms.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from zmanifold._base.files import write_json
from zmanifold._base.provenance import environment

N, D, LATENT, SEED = 1_370_000, 784, 12, 0
PIECE = 20_000
SWEEP = ["--mixer", "zeta", "--gamma", "2.8", "--seeds", "1"]
RUNS = {
    "in memory": ["--n-queries", "2000", "--memory-limit", "9GiB"],
    "within 1 GiB": ["--n-queries", "2000", "--memory-limit", "1GiB"],
    "approximate, a million points": [
        "--n-samples", "1000000", "--neighbors", "8", "--neighbors-method", "approximate",
    ],
    "exact, 200,000 of them": ["--n-samples", "200000", "--neighbors", "8"],
}  # fmt: skip
RESULT = Path(__file__).parent / "results" / "large.json"


def write_points(path: Path) -> None:
    """Write tanh of a linear map of normal latent points, with noise of 5%."""
    rng = np.random.default_rng(SEED)
    basis = rng.standard_normal((LATENT, D), dtype=np.float32)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (N, D))
    for start in range(0, N, PIECE):
        latent = rng.standard_normal((min(PIECE, N - start), LATENT), dtype=np.float32)
        noise = rng.standard_normal((len(latent), D), dtype=np.float32)
        out[start : start + PIECE] = np.tanh(latent @ basis) + np.float32(0.05) * noise
    out.flush()


def measured(file: Path, options: list[str]) -> tuple[dict[str, Any], pd.DataFrame]:
    """Run the command; return what it took and its table."""
    command = ["sweep-id", file.name, *SWEEP, *options]
    clock = time.perf_counter()
    ran = subprocess.Popen(
        [sys.executable, "-m", "zmanifold", *command],
        cwd=file.parent, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    peak = 0
    while ran.poll() is None:
        found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{ran.pid}/status").read_text())
        peak = max(peak, int(found[1]) if found else 0)
        time.sleep(0.01)
    if ran.returncode:
        raise SystemExit(ran.returncode)
    frame = pd.read_csv(io.StringIO(ran.communicate()[0]))
    taken = {
        "command": " ".join(["zmanifold", *command]),
        "seconds": round(time.perf_counter() - clock, 1),
        "peak_anonymous_mib": round(peak / 1024),
        "table": frame.dropna(axis=1).to_dict("records"),
    }
    return taken, frame.drop(columns="seconds")


def main(folder: Annotated[Path, typer.Argument(help="Where the file of 4.3 GB goes.")]) -> None:
    """Make the file, sweep it in each way, and keep what was measured."""
    file = folder / "big.npy"
    write_points(file)
    results, tables = {}, {}
    try:
        for name, options in RUNS.items():
            results[name], tables[name] = measured(file, options)
            typer.echo(f"{name}: {results[name]['seconds']} s")
    finally:
        file.unlink()
    same = tables["in memory"].equals(tables["within 1 GiB"])
    content = {"n_points": N, "n_features": D, "seed": SEED, "same_table": same, "runs": results}
    write_json(RESULT, content | environment())
    typer.echo(f"the same table: {same}; wrote {RESULT}")


if __name__ == "__main__":
    typer.run(main)
