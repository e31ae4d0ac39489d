from __future__ import annotations

import torch
from zmanifold._base import matmul as multiplying


def test_onednn_multiplies_where_mkl_does_not_use_all_instructions(monkeypatch):
    def suited(capability, intel):
        monkeypatch.setattr(multiplying, "_has_intel_cpu", lambda: intel)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        return [multiplying._suits_onednn(dtype) for dtype in (torch.float32, torch.bfloat16)]

    assert suited("AVX512", True) == suited("AVX512", False) == [True, True]
    assert suited("AVX2", True) == [False, False]
    assert suited("AVX2", False) == [True, False]
    assert suited("DEFAULT", False) == [False, False]
