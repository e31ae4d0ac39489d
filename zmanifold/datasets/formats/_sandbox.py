"""Decoders of other libraries, run in a child process with limits on memory and time.

Some damaged files crash pyarrow's process, and a file of a few bytes may promise gigabytes. Both
end only the child, and the parent reports it in one sentence.
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

# The time limit: a decoder takes milliseconds for a small file, and reads tens of MiB a second.
_SECONDS_A_FILE = 1
_LEAST_SECONDS = 5
_BYTES_A_SECOND = 2**20
# The limit above is on processor time, which a file system that hangs does not use: the parent
# waits for this many times the limit.
_WAIT = 10

# The exit status tells the parent what the decoder raised: _FIRST plus the position of the first
# of these classes that the exception belongs to.
_RAISED = (InputError, OSError, MemoryError, Exception)
_FIRST = 100
_LENGTH = 8

# The child gets the parent's sys.path, which may have grown since the parent started.
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
        A function at module level. It takes a list of paths and `options`, and yields the content
        of each file in turn.
    files : sequence of Path
        The files.
    library : str
        The module that decodes. It is imported before memory is limited.
    memory : int
        Bytes that the decoder may allocate.
    **options
        More arguments of `decode`, of types that JSON has.

    Returns
    -------
    list of memoryview
        The content of each file.

    Raises
    ------
    InputError
        If the decoder needs too much memory or time, or crashes.
    InputError, OSError, MemoryError, Exception
        As the decoder raises them; exceptions of other classes become Exception.
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
        # Messages that a library prints as it crashes are dropped.
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
    """Split the output of `_serve` into contents, each of which follows its length."""
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
    """Decode, as the child process: under limits, to stdout; exit with the status of an error."""
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
    """Limit the memory that this process may still allocate, and its processor time.

    Linux limits address space and time, macOS time only, and Windows neither: there the time that
    the parent waits is the only limit.
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
