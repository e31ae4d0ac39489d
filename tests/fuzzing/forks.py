"""Decoders in children that are forked in milliseconds instead of started in tenths of a second.

A server that has imported the decoders forks a child for each request. The child does the work of
a started one, under the same limits, and is watched for forbidden events.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys

from zmanifold.datasets.formats import _sandbox

from fuzzing.watch import HARMLESS, WATCH

_SERVER = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    "from fuzzing.forks import serve; serve()"
)
_DECODERS = ("zmanifold.datasets.formats.images", "zmanifold.datasets.formats.parquet")
# An exit code that no decoder ends with.
_MISBEHAVED = 200
# Bytes of a message's length, which stands before it.
_LENGTH = 8


class Forks:
    """A server that forks decoders; `run` replaces the function of the sandbox."""

    def __init__(self):
        self.server = subprocess.Popen(
            [sys.executable, "-P", "-c", _SERVER, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def run(self, request, seconds):
        _write(self.server.stdin, request)
        answer = _read(self.server.stdout)
        code, out = int.from_bytes(answer[:2], "little", signed=True), answer[2:]
        if code == _MISBEHAVED:
            WATCH.events += json.loads(bytes(_sandbox._split(out)[-1]))
        return code, out

    def close(self):
        self.server.stdin.close()
        self.server.stdout.close()
        self.server.wait()


def serve():
    """Fork a child for each request until stdin is closed."""
    from PIL import Image

    # A module that a decoder imports at its first use would look like code from a file.
    for name in ("resource", "pyarrow.compute", "pyarrow.parquet", *_DECODERS):
        importlib.import_module(name)
    Image.init()
    HARMLESS.add("resource.setrlimit")
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    with contextlib.suppress(EOFError):
        while True:
            request = json.loads(_read(requests))
            request.pop("path")
            reading, writing = os.pipe()
            if (child := os.fork()) == 0:
                os.dup2(writing, 1)
                os.close(writing)
                os._exit(_answer(request))
            os.close(writing)
            with os.fdopen(reading, "rb") as pipe:
                out = pipe.read()
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            _write(answers, code.to_bytes(2, "little", signed=True) + out)


def _answer(request):
    """Decode in the child, and report forbidden events."""
    code, WATCH.on = 0, True
    try:
        _sandbox._serve(**request)
    except SystemExit as end:
        code = end.code
    except BaseException:
        code = 1
    WATCH.on = False
    if WATCH.events:
        _sandbox._send(json.dumps(WATCH.events).encode())
        return _MISBEHAVED
    return code


def _write(stream, content):
    stream.write(len(content).to_bytes(_LENGTH, "little") + content)
    stream.flush()


def _read(stream):
    length = stream.read(_LENGTH)
    if not length:
        raise EOFError
    return stream.read(int.from_bytes(length, "little"))
