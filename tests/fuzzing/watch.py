"""A watch over readers of files, which must do nothing but read."""

from __future__ import annotations

import ast
import mmap
import os
import sys
from dataclasses import dataclass, field


@dataclass
class Watch:
    """Audit events that were recorded while a reader ran."""

    on: bool = False
    folder: str = ""
    events: list = field(default_factory=list)


WATCH = Watch()

# Audit events of reading: none of them runs code or writes.
HARMLESS = {
    "os.listdir", "os.scandir", "os.walk",
    "object.__getattr__", "object.__setattr__", "object.__delattr__",
    "sqlite3.connect", "sqlite3.connect/handle", "sys._getframe", "code.__new__",
    "builtins.id", "array.__new__",
}  # fmt: skip


def look(event, args):
    """Record forbidden events. An audit hook cannot be removed: off duty it does nothing."""
    if not WATCH.on or event in HARMLESS:
        return
    if event == "open":
        path, _, flags = args
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not writes or str(path).startswith(WATCH.folder):
            return
    if event == "mmap.__new__" and args[2] == mmap.ACCESS_READ:
        return
    # NumPy parses headers as literals, without compiling them to code that runs.
    if event == "compile" and sys._getframe(1).f_code.co_filename == ast.__file__:
        return
    WATCH.events.append(f"{event} {args!r:.200}")


sys.addaudithook(look)
