"""Checkpoints of version 0.1.0: zip archives (.pt) of a pickle and the numbers of its tensors."""

from __future__ import annotations

import io
import pickletools
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from zmanifold._base.errors import shown

__all__ = ["FORMAT", "read_pt"]

FORMAT = "zmanifold classifier 1"

# The names that a pickle of tensors refers to. torch allows more, and some of those allocate as
# much memory as the file asks for.
_GLOBALS = {
    "collections OrderedDict",
    "torch FloatStorage",
    "torch LongStorage",
    "torch._utils _rebuild_tensor_v2",
}

# A file of 0.1.0 is nested 8 deep: a dictionary of dictionaries of tensors, each made from a tuple
# that holds that of its storage.
_DEEPEST = 20

# The opcodes that put parts into a list, a dictionary or an object that is there.
_FILLING = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"}


def read_pt(path: Path) -> Any:
    """Return an archive's content without running code in it; a damaged one raises any error."""
    with warnings.catch_warnings():
        # torch's messages about a damaged file include its values, and showing some of them warns.
        warnings.simplefilter("ignore")
        return torch.load(_repacked(path), map_location="cpu", weights_only=True)


def _repacked(path: Path) -> io.BytesIO:
    """Check the sizes, checksums and types of an archive, and return a copy of it.

    torch itself allocates whatever size an archive states, and compares no checksum.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(packed, "w") as copy:
        members = archive.infolist()
        stated = sum(member.file_size for member in members)
        if stated > path.stat().st_size or any(
            member.compress_type != zipfile.ZIP_STORED for member in members
        ):
            raise ValueError(f"it states a size of {stated} bytes")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("a part comes twice")
        for member in members:
            content = archive.read(member)
            if member.filename.endswith(".pkl"):
                _check_pickle(content)
            copy.writestr(member.filename, content)
    packed.seek(0)
    return packed


def _check_pickle(content: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name == "GLOBAL" and argument not in _GLOBALS:
            raise ValueError(f"it asks for {shown(argument, 40)}")
        if opcode.name == "PROTO" and argument != 2:
            raise ValueError(f"pickle protocol {argument}")
    if _depth(content) > _DEEPEST:
        raise ValueError(f"it is nested more than {_DEEPEST} deep")


def _depth(content: bytes) -> int:
    """Return how deep the parts of a pickle are nested; refuse one whose parts are shared.

    A tuple that holds another one twice, which does the same, and so on, takes 2**depth steps to
    be hashed or shown, and a deep one overruns the stack. Only names and texts come twice in what
    torch writes. The pickle machine is followed with depths in the place of objects.
    """
    mark = -1
    stack: list[int] = []
    memo: dict[object, int] = {}
    deepest = 0
    for opcode, argument, _ in pickletools.genops(content):
        name = opcode.name
        if name.endswith("PUT"):
            memo[argument] = stack[-1]
        elif name.endswith("GET") or name == "DUP":
            stack.append(stack[-1] if name == "DUP" else memo[argument])
            if stack[-1]:
                raise ValueError("a part comes twice")
        elif name == "STOP":
            break
        elif name == "MARK":
            stack.append(mark)
        else:
            taken = []
            alone = opcode.stack_before
            if pickletools.markobject in alone:
                while (top := stack.pop()) != mark:
                    taken.append(top)
                alone = alone[: alone.index(pickletools.markobject)]
            taken += [stack.pop() for _ in alone]
            if name in _FILLING:
                *parts, filled = taken
                made = max([filled, *(part + 1 for part in parts)])
            else:
                made = 1 + max(taken) if taken else int(name.startswith("EMPTY_"))
            stack += [made] * len(opcode.stack_after)
            deepest = max(deepest, made)
    return deepest
