"""The command `zmanifold mixers`."""

from __future__ import annotations

from zmanifold.cli.printing import print_registry

__all__ = ["mixers"]


def mixers() -> None:
    """List the mixers that --mixer takes, with their parameters and defaults.

    In a pipe the table is CSV.

    For example:

      zmanifold mixers

      zmanifold mixers > mixers.csv
    """
    from zmanifold.mixers import available

    print_registry(available())
