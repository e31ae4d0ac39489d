"""torch's `lazy` device, which computes on the CPU but refuses tensors on other devices."""

from __future__ import annotations

from functools import cache

import pytest

__all__ = ["start_lazy"]


@cache
def start_lazy():
    """Start the device, which a process can do once; its module is private, not in every build."""
    pytest.importorskip("torch._lazy.ts_backend").init()
