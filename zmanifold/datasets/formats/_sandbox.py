"""Decoders of other libraries, run in a child process with little memory and little time.

Some damaged files make pyarrow end its process, and a file of a few bytes may promise gigabytes.
Both end the child alone, and its parent says so in one sentence.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from zmanifold._base.errors import InputError

__all__ = ["decode_apart"]

Decoder = Callable[..., Iterator[bytes | memoryview]]

# A decoder takes milliseconds for a file of a few bytes and reads tens of MiB a second.
_SECONDS_A_FILE = 1
_LEAST_SECONDS = 5
_BYTES_A_SECOND = 2**20
# The limit above counts work; a file system that hangs does none.
_WAIT = 10

# What a decoder raises goes by its exit status: from 100 on, the first of these that it is.
_RAISED = (InputError, OSError, MemoryError, Exception)
_FIRST = 100
_LENGTH = 8

# The child imports what its parent would: sys.path may have grown since that one started.
_CHILD = f"""
import json, sys
request = json.load(sys.stdin.buffer)
sys.path[:] = request.pop("path")
from {__name__} import _serve
_serve(**request)
"""


def decode_apart(
    decode: Decoder, files: Sequence[Path], *, library: str, memory: int, **options: Any
) -> list[memoryview]:
    """Run a decoder over files in a child process.

    Parameters
    ----------
    decode : callable
        A function at the top of a module: takes a list of paths and `options`, yields the content
        of each file in turn.
    files : sequence of Path
        The files.
    library : str
        The module that decodes. It is imported before memory is limited.
    memory : int
        Bytes that the decoder may take.
    **options
        More arguments of `decode`, as JSON can hold them.

    Returns
    -------
    list of memoryview
        The content of each file.

    Raises
    ------
    InputError
        If the decoder takes too much memory or time, or ends its process.
    InputError, OSError, MemoryError, Exception
        Whatever the decoder raises; other kinds become Exception.
    """
    size = sum(file.stat().st_size for file in files)
    seconds = _LEAST_SECONDS + _SECONDS_A_FILE * len(files) + size // _BYTES_A_SECOND
    request = {
        "path": sys.path,
        "decoder": (decode.__module__, decode.__name__),
        "files": [str(file) for file in files],
        "limits": (memory, seconds),
        "library": library,
        "options": options,
    }
    code, out = _run(json.dumps(request).encode(), _WAIT * seconds)
    contents = _split(out)
    if 0 <= code - _FIRST < len(_RAISED):
        raise _RAISED[code - _FIRST](str(contents[-1], "utf-8"))
    if code != 0:
        how = f"{library} ended or took more than {memory} bytes or {seconds} seconds"
        raise InputError(
            f"{files[min(len(contents), len(files) - 1)]} cannot be read ({how}): check the file."
        )
    return contents


def _run(request: bytes, seconds: int) -> tuple[int, bytes]:
    """Return a child's exit status and output."""
    command = [sys.executable, "-P", "-c", _CHILD]
    try:
        # What a library prints as it ends its process is for nobody.
        done = subprocess.run(
            command,
            input=request,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return -1, late.stdout or b""
    return done.returncode, done.stdout


def _split(out: bytes) -> list[memoryview]:
    """Take apart what `_serve` wrote: each content after its length."""
    contents, at = [], 0
    while at + _LENGTH <= len(out):
        start = at + _LENGTH
        at = start + int.from_bytes(out[at:start], "little")
        if at <= len(out):
            contents.append(memoryview(out)[start:at])
    return contents


def _serve(
    decoder: tuple[str, str],
    files: list[str],
    limits: tuple[int, int],
    library: str,
    options: dict[str, Any],
) -> None:
    """Be the child: decode under limits, write to stdout, exit with a message for a bad file."""
    module, name = decoder
    decode: Decoder = getattr(import_module(module), name)
    import_module(library)
    _limit(*limits)
    try:
        for content in decode([Path(file) for file in files], **options):
            _send(content)
    except Exception as error:
        _send((str(error) or type(error).__name__).encode(errors="replace"))
        sys.exit(_FIRST + [isinstance(error, kind) for kind in _RAISED].index(True))


def _send(content: bytes | memoryview) -> None:
    sys.stdout.buffer.write(len(content).to_bytes(_LENGTH, "little"))
    sys.stdout.buffer.write(content)
    # The number of contents tells the parent which file ended its decoder.
    sys.stdout.buffer.flush()


def _limit(memory: int, seconds: int) -> None:
    """Limit this process to so much more memory than it has, and so much time of a processor.

    Linux counts and limits address space. macOS limits time alone. Windows limits neither: there
    the parent's patience is the only limit.
    """
    try:
        import resource
    except ImportError:
        return
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: math.ceil(time.process_time()) + seconds,
    }
    statm = Path("/proc/self/statm")
    if statm.exists():
        mapped = int(statm.read_text().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = mapped + memory
    for which, most in limits.items():
        _, hard = resource.getrlimit(which)
        lower = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (lower, lower))
