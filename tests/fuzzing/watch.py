"""What a reader of files does besides reading."""

from __future__ import annotations

import ast
import mmap
import os
import sys
from dataclasses import dataclass, field


@dataclass
class Watch:
    """What happens while a reader runs."""

    on: bool = False
    folder: str = ""
    events: list = field(default_factory=list)


WATCH = Watch()

# What reading raises: none of these runs or writes anything.
HARMLESS = {
    "os.listdir", "os.scandir", "os.walk",
    "object.__getattr__", "object.__setattr__", "object.__delattr__",
    "sqlite3.connect", "sqlite3.connect/handle", "sys._getframe", "code.__new__",
    "builtins.id", "array.__new__",
}  # fmt: skip


def look(event, args):
    """Record what no reader may do; nothing can take an audit hook away again, so it is quiet."""
    if not WATCH.on or event in HARMLESS:
        return
    if event == "open":
        path, _, flags = args
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not writes or str(path).startswith(WATCH.folder):
            return
    if event == "mmap.__new__" and args[2] == mmap.ACCESS_READ:
        return
    # NumPy's headers are literals: parsed, not compiled.
    if event == "compile" and sys._getframe(1).f_code.co_filename == ast.__file__:
        return
    WATCH.events.append(f"{event} {args!r:.200}")


sys.addaudithook(look)
