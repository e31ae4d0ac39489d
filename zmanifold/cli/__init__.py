"""The command line: parse, call, print.

Words come in, a call of a public function and its printed result go out. Open `app` first: it lists
the commands, one a file, and turns errors and signals into exit codes. `options` reads grids, lists
and sizes, `printing` draws tables.
"""

from zmanifold.cli.app import main

__all__ = ["main"]
