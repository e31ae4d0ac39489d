"""The runtime type checker of the test suite: shapes and dtypes of tensors, nothing else.

It ignores plain annotations, so that tests of wrong input reach the package's own messages.
"""

from __future__ import annotations

from typing import get_args

from beartype import beartype
from jaxtyping import AbstractArray


def _is_about_arrays(hint):
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(_is_about_arrays(part) for part in get_args(hint))


def check(function):
    function.__annotations__ = {
        name: hint for name, hint in function.__annotations__.items() if _is_about_arrays(hint)
    }
    return beartype(function)
