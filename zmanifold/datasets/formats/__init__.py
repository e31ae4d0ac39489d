"""File formats, one a file: a path comes in, arrays go out.

A format declares its endings, its name and a function that reads a file; one line in `registry`
registers it. Open `registry` first, then `numpy`. Memory grows with the content of a file, never
with what its header promises. A compressed file may unpack to 64 MiB or 200 times its size,
whichever is more. Nothing is ever unpickled.
"""
