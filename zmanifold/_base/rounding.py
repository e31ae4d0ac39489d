"""Unit roundoffs, and bounds on the rounding of sums of products."""

from __future__ import annotations

import math

import torch

__all__ = ["ROUNDING_UNITS", "UNIT_ROUNDOFF", "sum_error"]

UNIT_ROUNDOFF = {torch.bfloat16: 2.0**-8, torch.float32: 2.0**-24, torch.float64: 2.0**-53}

# Values that differ by no more than this many units of their type's spacing count as equal. float32
# data often varies by single units, so that only one counts as rounding there; float64 data hardly
# ever does, and 64 units cover the rounding of the sums that it may come from.
ROUNDING_UNITS = {torch.float32: 1.0, torch.float64: 64.0}


def sum_error(n_terms: int, unit: float) -> float:
    """Return a bound on the relative error of a sum of products in any order (Higham's gamma_n).

    Examples
    --------
    >>> from zmanifold._base.rounding import sum_error
    >>> sum_error(1, 0.25), sum_error(8, 0.25)
    (0.3333333333333333, inf)
    """
    return n_terms * unit / (1 - n_terms * unit) if n_terms * unit < 0.5 else math.inf
