"""The command `zmanifold measures`."""

from __future__ import annotations

from zmanifold.cli.printing import print_registry

__all__ = ["measures"]


def measures() -> None:
    """List the measures of a mixed set.

    In a pipe the table is CSV.

    For example:

      zmanifold measures

      zmanifold measures > measures.csv
    """
    from zmanifold.measures import available

    print_registry(available())
