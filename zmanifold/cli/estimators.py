"""The command `zmanifold estimators`."""

from __future__ import annotations

from zmanifold.cli.printing import print_registry

__all__ = ["estimators"]


def estimators() -> None:
    """List the estimators of intrinsic dimension, with their parameters.

    In a pipe the table is CSV.

    For example:

      zmanifold estimators

      zmanifold estimators > estimators.csv
    """
    from zmanifold.dimension import available

    print_registry(available())
