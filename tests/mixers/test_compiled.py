"""Mixers under torch.compile and torch.export: whole graphs, few of them, checked labels.

In one process of its own, because the shape checker of this one cannot be compiled. There, and not
here, the functions below are called.
"""

from __future__ import annotations

import subprocess
import sys

import torch
import zmanifold as zm

MIXERS = (
    zm.Mixup(num_classes=5),
    zm.Mixup(0.4, per_sample=True, num_classes=5),
    zm.ZetaMixup(num_classes=5),
    zm.ZetaMixup((1.8, 4.0), n_mix=2, anchored=True, num_classes=5),
)


def compiled(function, backend="eager"):
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend=backend)


def batch(b):
    return torch.rand(b, 3, 4, 4), torch.arange(b) % 5


def check_graphs():
    """One graph for the first size, one for all others; for a single size only one."""
    from torch._dynamo.testing import CompileCounter

    for mixer in MIXERS:
        for sizes, graphs in (((8, 7, 6, 5, 9, 10, 130), 2), ((8, 8, 8), 1)):
            counter = CompileCounter()
            function = compiled(mixer, counter)
            for b in sizes:
                mixed, soft = function(*batch(b))
                assert mixed.shape == (b, 3, 4, 4)
                torch.testing.assert_close(soft.sum(dim=1), torch.ones(b))
            assert counter.frame_count == graphs, (mixer, sizes, counter.frame_count)


def check_labels():
    """An unknown class never looks like a distribution that is merely incomplete."""
    x, y = batch(8)
    for unknown in (-100, -1, 5, 2**40):
        wrong = y.where(y != 3, unknown)
        for mixer in MIXERS:
            rows = compiled(mixer)(x, wrong)[1].sum(dim=1)
            whole = (rows - 1).abs() < 1e-6
            assert rows.isnan().any()
            assert (rows.isnan() | whole).all(), (mixer, unknown, rows)


def check_autocast():
    x, y = batch(8)
    with torch.autocast("cpu", torch.bfloat16):
        for mixer in MIXERS:
            mixed, soft = compiled(mixer)(x, y)
            assert mixed.dtype == soft.dtype == torch.float32
            torch.testing.assert_close(soft.sum(dim=1), torch.ones(8))


def check_others():
    w, x = torch.rand(150, 150), torch.rand(150, 100)
    torch.testing.assert_close(compiled(zm.mix)(w, x), zm.mix(w, x))
    x, y = batch(8)
    last = x.contiguous(memory_format=torch.channels_last)
    mixed = compiled(MIXERS[0])({"image": last, "label": y})
    assert mixed["image"].is_contiguous(memory_format=torch.channels_last)
    assert compiled(MIXERS[0])(x, y % 5 * 0.5)[1].shape == (8,)


def check_export():
    b = torch.export.Dim("b")
    sizes = {"x": {0: b}, "y": {0: b}}
    for mixer in MIXERS:
        made = torch.export.export(mixer, batch(8), dynamic_shapes=sizes).module()
        for b_now in (3, 12, 130):
            mixed, soft = made(*batch(b_now))
            assert mixed.shape == (b_now, 3, 4, 4)
            torch.testing.assert_close(soft.sum(dim=1), torch.ones(b_now))


def test_mixers_are_compiled_and_exported():
    subprocess.run([sys.executable, __file__], check=True)


if __name__ == "__main__":
    check_graphs()
    check_labels()
    check_autocast()
    check_others()
    check_export()
