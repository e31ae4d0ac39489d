"""The command line: parse, call, print.

Words come in, a call of a public function and its printed result go out. Open `app` first; it
holds the commands, `options` reads grids, lists and sizes.
"""

from zmanifold.cli.app import main

__all__ = ["main"]
