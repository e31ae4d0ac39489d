"""Decoders that do what damaged files make real ones do."""

from __future__ import annotations

import os


def behave(files, how):
    """Yield the content of each file; at the one called "bad" do something else."""
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
