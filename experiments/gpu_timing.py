"""Seconds, kernels and profiles of a call: by a GPU's own clock where there is one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import torch
from torch import Tensor

Call = Callable[[], object]

# The first pattern that a kernel's name holds says what it does.
GROUPS = {
    "float64 products": r"f64\w*gemm|gemm\w*f64|dgemm|d884|gemv.*double",
    "convolutions": r"conv|cudnn|implicit_gemm",
    "float32 products": r"gemm|gemv|cutlass|xmma|splitK",
    "products": r"aten::(b?mm|addb?mm|baddbmm)$|_linear",
    "copies from the host": r"Memcpy HtoD",
    "copies to the host": r"Memcpy DtoH",
    "sorting and selection": r"[sS]ort|[tT]op[kK]|radix|select",
    "random numbers": r"philox|distribution|random|aten::rand",
    "reductions": r"reduce|norm|[sS]can|aten::(sum|mean|max|min|any|all)$",
    "elementwise work and copies": r"elementwise|Memcpy|Memset|[cC]opy|Cat|index|gather|scatter"
    r"|aten::(add|sub|mul|div|where|fill|zero|clamp|pow|exp|log|cat|lt|gt|le|ge|eq)_?$",
    "a kernel of our own": r"^_(rows|draw_pairs|mix_pairs)|triton",
}
# Where kernels fill less than this share of the time, the GPU waits for the host.
BUSY = 0.7


@dataclass(frozen=True)
class Meter:
    """Measures calls on "cuda", "cpu" or "lazy"."""

    device: str
    repeats: int = 60

    @property
    def on_gpu(self) -> bool:
        """Whether events, graphs and kernels can be had."""
        return self.device == "cuda"

    @cached_property
    def _flush(self) -> Tensor:
        return torch.empty(2**26, device="cuda")

    def finish(self) -> None:
        """Wait until everything is computed."""
        if self.on_gpu:
            torch.cuda.synchronize()
        elif self.device == "lazy":
            from torch._lazy import mark_step

            mark_step("", wait=True)

    def wall_seconds(self, call: Call) -> float:
        """Time one call until its results are there."""
        self.finish()
        clock = time.perf_counter()
        call()
        self.finish()
        return time.perf_counter() - clock

    def seconds(self, call: Call) -> float:
        """Return the median time of calls on a GPU, by events.

        256 MiB written before each call leave nothing of it in the L2 cache.
        """
        if not self.on_gpu:
            return median(self.wall_seconds(call) for _ in range(self.repeats))
        Event: Any = torch.cuda.Event
        events = [[Event(enable_timing=True) for _ in range(2)] for _ in range(self.repeats)]
        for start, stop in events:
            self._flush.zero_()
            start.record()
            call()
            stop.record()
        torch.cuda.synchronize()
        return float(median(start.elapsed_time(stop) for start, stop in events)) / 1000

    def host_seconds(self, call: Call) -> float:
        """Return the time after which a call comes back, its work on the GPU only queued."""
        self.finish()
        clock = time.perf_counter()
        for _ in range(self.repeats):
            call()
        passed = time.perf_counter() - clock
        self.finish()
        return passed / self.repeats

    def graphed(self, call: Call) -> Call:
        """Return the replay of a CUDA graph of the call; elsewhere the call itself."""
        if not self.on_gpu:
            return call
        Stream: Any = torch.cuda.Stream
        side = Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        Graph: Any = torch.cuda.CUDAGraph
        graph = Graph()
        with torch.cuda.graph(graph):
            call()
        replay: Call = graph.replay
        return replay

    def peak_bytes(self, call: Call) -> int | None:
        """Return the largest allocation during a call less that before it; None off a GPU."""
        if not self.on_gpu:
            call()
            return None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def kernels(self, call: Call, calls: int = 10) -> float | None:
        """Count the kernels that a call launches, copies included; None off a GPU."""
        if not self.on_gpu:
            return None
        call()
        found = self.profile(lambda: [call() for _ in range(calls)])
        return float(sum(kernel["calls"] for kernel in found["kernels"])) / calls

    def profile(self, call: Call) -> dict[str, Any]:
        """Return what a call spends its time on.

        Returns
        -------
        dict
            "seconds" of the call, "busy": how much of that kernels took (off a GPU, operators),
            "kernels": each kernel's "name", "calls", "seconds" and "share" of all kernels' time,
            longest first, and "groups": the same shares by what kernels do.
        """
        from torch.profiler import ProfilerActivity, profile

        activity = ProfilerActivity.CUDA if self.on_gpu else ProfilerActivity.CPU
        self.finish()
        with profile(activities=[activity]) as profiler:
            seconds = self.wall_seconds(call)
        rows = [(e.key, e.count, self._spent(e)) for e in profiler.key_averages()]
        return summed(seconds, [row for row in rows if row[2] > 0])

    def _spent(self, event: Any) -> float:
        if not self.on_gpu:
            return float(event.self_cpu_time_total) / 1e6
        if event.device_type.name != "CUDA":
            return 0.0
        return float(event.self_device_time_total) / 1e6


def summed(seconds: float, rows: Iterable[tuple[str, int, float]]) -> dict[str, Any]:
    """Put a profile together from kernels' names, calls and seconds."""
    ordered = sorted(rows, key=lambda row: -row[2])
    total = sum(spent for _, _, spent in ordered) or 1.0
    groups: dict[str, float] = {}
    for name, _, spent in ordered:
        groups[group_of(name)] = groups.get(group_of(name), 0.0) + spent / total
    return {
        "seconds": seconds,
        "busy": total / seconds if ordered else 0.0,
        "kernels": [
            {"name": name, "calls": calls, "seconds": spent, "share": spent / total}
            for name, calls, spent in ordered
        ],
        "groups": dict(sorted(groups.items(), key=lambda group: -group[1])),
    }


def group_of(kernel: str) -> str:
    """Say what a kernel does, by its name."""
    return next((group for group, names in GROUPS.items() if re.search(names, kernel)), "the rest")


def what_holds(profile: dict[str, Any]) -> str:
    """Say in one sentence what a profile shows."""
    parts = ", ".join(f"{group} {share:.0%}" for group, share in [*profile["groups"].items()][:4])
    if not parts:
        return "No kernel was seen: the host does the work."
    busy = min(1.0, profile["busy"])
    if busy < BUSY:
        return f"Kernels fill {busy:.0%} of the time, so the host holds it; of theirs: {parts}."
    return f"Kernels fill {busy:.0%} of the time: {parts}."
