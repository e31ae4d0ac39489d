"""Decoders that behave as real ones do with a damaged file."""

from __future__ import annotations

import os


def behave(files, how):
    """Yield the content of each file, and misbehave at the file called "bad"."""
    for file in files:
        if file.name == "bad":
            match how:
                case "abort":
                    os.abort()
                case "allocate":
                    bytearray(2**31)
                case "spin":
                    while True:
                        pass
                case "modules":
                    import sys

                    yield ",".join(sys.modules).encode()
                    continue
                case "raise":
                    raise KeyError("a key")
                case "cannot open":
                    raise PermissionError("permission denied")
        yield file.read_bytes()
