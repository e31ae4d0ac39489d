"""File formats, one a file: a path comes in, arrays go out.

A format declares its endings, its name and a function that reads a file; one line in `registry`
registers it. Open `registry` first, then `numpy`. Memory grows with what a file holds, never with
what its header promises; what is compressed may unpack to 64 MiB or 200 times the size of its file,
whichever is more. Nothing is ever unpickled.
"""
