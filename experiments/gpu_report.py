"""The goals of the rows that gpu.py measures, and its page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Rows = dict[str, Any]
MICRO = 1e6


@dataclass(frozen=True)
class Goal:
    """What a row has to reach.

    Attributes
    ----------
    row : str
        The row.
    asked : str
        The goal in words.
    measured : callable
        Returns the number that counts, from all rows.
    most : float
        Its upper bound.
    shown : callable
        Writes the number.
    """

    row: str
    asked: str
    measured: Callable[[Rows], float]
    most: float
    shown: Callable[[float], str]


def against(peer: str) -> Goal:
    """Return the goal that ζ-mixup is faster than a library's mixup, both eager."""
    return Goal(
        "zeta-224",
        f"faster than {peer}",
        lambda rows: float(rows["zeta-224"]["eager"] / rows[f"{peer}-224"]["eager"]),
        1.0,
        lambda ratio: f"{1 / ratio:.2f}x as fast",
    )


def copies(row: str, most: float) -> Goal:
    """Return the goal that a mixer takes so many times a copy at most, in a CUDA graph."""
    return Goal(
        row,
        f"at most {most:g} copies of the samples",
        lambda rows: float(rows[row]["copies"]),
        most,
        lambda found: f"{found:.2f} copies",
    )


def seconds(row: str, most: float) -> Goal:
    """Return the goal that a row takes so long at most."""
    return Goal(
        row,
        f"at most {most:g} s",
        lambda rows: float(rows[row]["seconds"]),
        most,
        lambda found: duration(found),
    )


GOALS = (
    seconds("dimension", 1.0),
    Goal(
        "dimension",
        "500x as fast as scikit-dimension on the CPU",
        lambda rows: float(rows["dimension"]["seconds"] / rows["scikit-dimension"]["seconds"]),
        1 / 500,
        lambda ratio: f"{1 / ratio:,.0f}x",
    ),
    seconds("sweep", 60.0),
    copies("zeta-224", 2.5),
    against("torchvision v2.MixUp"),
    against("timm Mixup"),
    copies("mixup-224", 2.0),
)


def judged(rows: Rows) -> list[tuple[Goal, float | None]]:
    """Return each goal with its number, None where that was not measured."""
    found: list[tuple[Goal, float | None]] = []
    for goal in GOALS:
        try:
            found.append((goal, goal.measured(rows)))
        except (KeyError, TypeError):
            found.append((goal, None))
    return found


def missed(rows: Rows) -> list[str]:
    """Name the rows that were measured and miss a goal."""
    names = [goal.row for goal, found in judged(rows) if found is not None and found > goal.most]
    return list(dict.fromkeys(names))


def to_markdown(found: dict[str, Any]) -> str:
    """Write the page of a run."""
    rows = {name: row for part in found["parts"].values() for name, row in part["rows"].items()}
    machine = rows.get("machine", {"name": found["device"], "versions": {}})
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    about = [f"{versions}, Python {machine['python']}"] if "python" in machine else []
    if "cpu" in machine:
        about.append(f"{machine['cpu']}, {machine['cpus']} cores")
    if "gpu_memory_gib" in machine:
        about.append(f"{machine['gpu_memory_gib']} GiB on the GPU, CUDA {machine['cuda']}")
    sections = [
        f"# zmanifold on {machine['name']}",
        f"`{found['command']}`, {found['date']}, {found['seconds']:.0f} s. {'. '.join(about)}.",
        "The sizes are tiny: the program is tried, nothing is measured." if found["tiny"] else "",
        parts_table(found["parts"]),
        tests_section(rows.get("tests")),
        goals_table(rows) if not found["tiny"] else "",
        times_table(rows),
        mixers_table(rows),
        accuracies_table(rows),
        profiles_section(rows),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def parts_table(parts: dict[str, Any]) -> str:
    """Say what became of each part, and the end of the log of one that failed."""
    lines = [(name, f"{part['seconds']:.1f}", part["status"]) for name, part in parts.items()]
    logs = [
        f"The end of the log of {name}:\n\n```\n{part['log'].strip()[-1000:]}\n```"
        for name, part in parts.items()
        if part.get("log", "").strip()
    ]
    return "\n\n".join([table(("part", "seconds", "end"), lines), *logs])


def tests_section(tests: dict[str, Any] | None) -> str:
    """Count the tests and name those that failed."""
    if tests is None:
        return ""
    counts = [(tests["passed"], tests["failed"], tests["skipped"], len(tests["not_collected"]))]
    head = ("passed", "failed", "skipped", "files not imported")
    reasons = {**tests["failures"], **tests["not_collected"]}
    lines = [f"- `{name}`: {cell(reason)}" for name, reason in reasons.items()]
    return "\n\n".join(["## Tests", table(head, counts), "\n".join(lines)]).strip()


def goals_table(rows: Rows) -> str:
    """Compare the rows with their goals."""
    lines = [
        (
            goal.row,
            goal.asked,
            "–" if value is None else goal.shown(value),
            "–" if value is None else "yes" if value <= goal.most else "**no**",
        )
        for goal, value in judged(rows)
    ]
    return "## Goals\n\n" + table(("row", "asked", "measured", "reached"), lines)


def times_table(rows: Rows) -> str:
    """Show the rows that are not mixers."""
    lines = [
        (
            name,
            row["work"],
            row.get("error") or duration(row["seconds"]),
            duration(row.get("first")),
            "–" if row.get("memory") is None else f"{row['memory'] / 2**20:.0f}",
            row.get("note", ""),
        )
        for name, row in rows.items()
        if "work" in row and "shape" not in row
    ]
    head = ("row", "work", "time", "first call", "memory of the GPU, MiB", "note")
    return "## Neighbours and dimension\n\n" + table(head, lines) if lines else ""


def mixers_table(rows: Rows) -> str:
    """Show the mixers; a copy reads and writes the samples once."""
    lines = [
        (
            row["work"],
            "[" + ", ".join(map(str, row["shape"])) + "]",
            *(micro(row.get(kind)) for kind in ("graph", "eager", "host")),
            "–" if row.get("copies") is None else f"{row['copies']:.2f}",
            "–" if row.get("kernels") is None else f"{row['kernels']:g}",
            row.get("error", ""),
        )
        for row in rows.values()
        if "shape" in row
    ]
    head = (
        *("mixer", "shape", "in a CUDA graph, µs", "eager, µs", "the host's time, µs"),
        *("copies", "kernels a call", "note"),
    )
    return "## Mixers\n\n" + table(head, lines) if lines else ""


def accuracies_table(rows: Rows) -> str:
    """Show Table 4."""
    lines = [
        (
            row["model"],
            row["epochs"],
            f"{row['percent']:.2f}%",
            f"{row['paper']:.2f}%",
            f"{row['seconds']:.0f}",
        )
        for row in rows.values()
        if "paper" in row
    ]
    head = ("model", "epochs", "test accuracy", "the paper's, after 200 epochs", "seconds")
    return "## Table 4\n\n" + table(head, lines) if lines else ""


def profiles_section(rows: Rows) -> str:
    """Say what holds the rows that were profiled, with their longest kernels."""
    sections = []
    for row in rows.values():
        if "of" not in row:
            continue
        text = f"### {row['of']}\n\n{row.get('error') or row['holds']}"
        lines = [
            (f"{kernel['share']:.1%}", kernel["calls"], f"`{cell(kernel['name'])[:90]}`")
            for kernel in row.get("kernels", ())
        ]
        sections.append(
            f"{text}\n\n{table(('share', 'calls', 'kernel'), lines)}" if lines else text
        )
    return "\n\n".join(["## What holds the rows", *sections]) if sections else ""


def table(head: tuple[str, ...], lines: list[tuple[Any, ...]]) -> str:
    """Write a table."""
    rows = [head, ("---",) * len(head), *lines]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def cell(text: str) -> str:
    """Keep a text from ending its cell."""
    return " ".join(text.replace("|", "/").replace("`", "'").split())


def duration(value: float | None) -> str:
    """Write seconds."""
    if value is None:
        return "–"
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1000:.2f} ms"


def micro(value: float | None) -> str:
    """Write microseconds."""
    return "–" if value is None else f"{value * MICRO:.1f}"
