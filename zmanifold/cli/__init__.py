"""The command line: each command parses its arguments, calls a public function, prints the result.

Open `app` first: it lists the commands, one a file, and turns errors and signals into exit codes.
`options` reads grids, lists and sizes, `printing` draws tables.
"""

from zmanifold.cli.app import main

__all__ = ["main"]
