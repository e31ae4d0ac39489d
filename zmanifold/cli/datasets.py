"""The command `zmanifold datasets`."""

from __future__ import annotations

from zmanifold.cli.options import DataDir
from zmanifold.cli.printing import print_frame

__all__ = ["datasets"]


def datasets(data_dir: DataDir = None) -> None:
    """List the data sets that can be loaded here, and how to get the others.

    For example:

      zmanifold datasets

      zmanifold datasets --data-dir ~/data
    """
    import pandas as pd

    from zmanifold.datasets import available_datasets

    rows = available_datasets(data_dir)
    print_frame(
        pd.DataFrame(
            {
                "name": [row.name for row in rows],
                "here": ["yes" if row.here else "no" for row in rows],
                "where": [row.where for row in rows],
            }
        )
    )
