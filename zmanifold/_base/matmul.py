"""Matrix products on a CPU by the faster of torch's two libraries for them, MKL and oneDNN."""

from __future__ import annotations

import contextlib
import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from zmanifold._base.ambient import ProcessWide

__all__ = [
    "full_precision",
    "multiplies_bfloat16",
    "multiplies_bfloat16_tiles",
    "multiplies_slowly",
    "product",
]


def multiplies_bfloat16() -> bool:
    """Tell whether this CPU has instructions for products in bfloat16 (AVX512_BF16).

    Examples
    --------
    >>> from zmanifold._base.matmul import multiplies_bfloat16
    >>> multiplies_bfloat16() in (True, False)
    True
    """
    has_product = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has_product and _has_instructions("avx512_bf16")


def multiplies_bfloat16_tiles() -> bool:
    """Tell whether this CPU multiplies whole tiles in bfloat16 (AMX), not just vectors.

    Examples
    --------
    >>> from zmanifold._base.matmul import multiplies_bfloat16_tiles
    >>> multiplies_bfloat16_tiles() in (True, False)
    True
    """
    return multiplies_bfloat16() and _has_instructions("amx_tile")


def multiplies_slowly() -> bool:
    """Tell whether the widest vectors of this CPU have 256 bits (AVX2 without AVX-512).

    Examples
    --------
    >>> from zmanifold._base.matmul import multiplies_slowly
    >>> multiplies_slowly() in (True, False)
    True
    """
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


def _has_instructions(name: str) -> bool:
    supported = getattr(torch.cpu, f"_is_{name}_supported", None)
    return supported is not None and bool(supported())


def product(a: Float[Tensor, "p d"], b: Float[Tensor, "q d"]) -> Float[Tensor, "p q"]:
    """Return a @ b.T by the library that is the faster one for large matrices.

    Both matrices are float32, or both are bfloat16. Products of bfloat16 are summed in float32 and
    rounded to bfloat16 at the end. The library is oneDNN on CPUs with AVX-512 and, for float32, on
    CPUs with AVX2 that are not Intel's: MKL keeps its fastest loops to Intel's CPUs, and oneDNN
    computes a sixth more products a second on the others. Elsewhere the library is MKL.

    Examples
    --------
    >>> import torch
    >>> from zmanifold._base.matmul import product
    >>> product(torch.ones(1, 2), torch.ones(3, 2))
    tensor([[2., 2., 2.]])
    """
    linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if linear is None or not _suits_onednn(a.dtype):
        return (a.float() @ b.float().mT).to(a.dtype)
    made: Tensor = linear(a, b, None, "none", [], "")
    return made


def _suits_onednn(dtype: torch.dtype) -> bool:
    capability = torch.backends.cpu.get_cpu_capability()
    if capability == "AVX2":
        return dtype == torch.float32 and not _has_intel_cpu()
    return capability == "AVX512"


@cache
def _has_intel_cpu() -> bool:
    try:
        with Path("/proc/cpuinfo").open() as file:
            # The maker stands in the second line.
            described = file.read(1024)
    except OSError:
        described = platform.processor()
    return "GenuineIntel" in described


# How torch computes float32 products: the name of a precision for all backends (None where the user
# has set one of them apart, by torch's newer attributes), and that of each backend.
_Precisions = tuple[str | None, tuple[str | None, ...]]


def full_precision() -> contextlib.AbstractContextManager[None]:
    """Compute float32 products in full float32 within this context.

    The error bound of the neighbour search holds for float32 arithmetic, and torch may be set to
    compute such products in TF32 or bfloat16.

    Examples
    --------
    >>> import torch
    >>> from zmanifold._base.matmul import full_precision
    >>> with full_precision():
    ...     torch.get_float32_matmul_precision()
    'highest'
    """
    common, apart = _precisions.read()
    wanted = tuple(None if one is None else "ieee" for one in apart)
    return _precisions.set_to((common and "highest", wanted))


def _read_precisions() -> _Precisions:
    try:
        common = torch.get_float32_matmul_precision()
    except RuntimeError:
        # torch's refusal to name one precision where backends have their own.
        common = None
    return common, tuple(getattr(backend, "fp32_precision", None) for backend in _backends())


def _write_precisions(precisions: _Precisions) -> None:
    common, apart = precisions
    if common is not None:
        torch.set_float32_matmul_precision(common)
    for backend, precision in zip(_backends(), apart, strict=True):
        if precision is not None:
            backend.fp32_precision = precision


def _backends() -> tuple[Any, Any]:
    # Those of torch before 2.9 have no precision of their own.
    return torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)


_precisions = ProcessWide(_read_precisions, _write_precisions)
