"""Mutations that damage a file."""

from __future__ import annotations

import re

from hypothesis import strategies as st

NUMBERS = [
    0, 1, 2, 3, 7, 16, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**28, 2**31 - 1, 2**31,
    2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1,
]  # fmt: skip

WORDS = [
    b"-1", b"0", b"1", b"99999999999999999999999", b"2147483648", b"-9223372036854775809", b"1e999",
    b"nan", b"inf", b"None", b"True", b"''", b"()", b"[]", b"{}", b"null", b'"', b",", b"\n", b"\0",
    b"'|O'", b"'V8'", b"'V0'", b"'<U0'", b"'<U9'", b"'S3'", b"'M8[ns]'", b"'m8[7s]'", b"'<f16'",
    b"'<c8'", b"'?'", b"'>u2'", b"'f4,f4'", b"('<f8', (2,))", b"[('a', '<f8'), ('b', '|O')]",
    b"[('a', [('b', '<i8', (2, 2))])]", b"(2, 3)", b"(0, 4)", b"(4, 0, 5)", b"(True, 4)",
    b"(1099511627776, 1099511627776)", b"(-6, -4)", b'__import__("os").system("touch hacked")',
    b"os\nsystem", b"posix system", b"builtins\nbytearray", b"torch\nTensor", b"(" * 99,
    b"[" * 3000, b"0x" + b"f" * 5000, b"label", b"y", b"class", b"2020-01-01",
    b"1" * 5000, b"e" * 300, "ζ".encode(), b"\xff\xfe",
]  # fmt: skip

TOKEN = re.compile(rb"'[<>|=]?\w+'|-?\d+(?:\.\d+)?|\([^()]*\)|\w{2,}|[^\w\s]")


def place(where, size):
    """Draw a position in a file: uniform, or near an end, where headers and tables are."""
    region, at = where % 4, where // 4
    if region == 0:
        return at % min(size, 128)
    if region == 1:
        return size - 1 - at % min(size, 400)
    return at % size


def damage(content, mutations, others):
    """Apply mutations, each given by three numbers: its kind, its position and its value."""
    data = bytearray(content)
    for what, where, value in mutations:
        if not data:
            data += b"\x00"
        at = place(where, len(data))
        match what:
            case "flip":
                data[at] ^= 1 << value % 8
            case "byte":
                data[at] = value % 256
            case "field":
                width, order = (2, 4, 8)[value % 3], ("little", "big")[value // 3 % 2]
                number = NUMBERS[value // 6 % len(NUMBERS)]
                data[at : at + width] = (number % 256**width).to_bytes(width, order)
            case "grow":
                width, order = (1, 2, 4, 8)[value % 4], ("little", "big")[value // 4 % 2]
                number = int.from_bytes(data[at : at + width], order)
                number = (number * 256, number + 1, number - 1, -number)[value // 8 % 4]
                data[at : at + width] = (number % 256**width).to_bytes(width, order)
            case "varint":
                end = at + 1
                while end < len(data) and data[end - 1] > 127:
                    end += 1
                number, out = NUMBERS[value % len(NUMBERS)] << value // 64 % 2, []
                while number > 127:
                    out.append(number & 127 | 128)
                    number >>= 7
                data[at:end] = bytes([*out, number])
            case "cut":
                del data[at:]
            case "delete":
                del data[at : at + 1 + value % 40]
            case "insert":
                data[at:at] = value.to_bytes(3, "big") * (1 + value % 5)
            case "repeat":
                data[at:at] = data[at : at + 1 + value % 60] * (1 + value % 50)
            case "splice":
                other = others[value % len(others)]
                start = place(value // 7, max(len(other), 1))
                piece = other[start : start + 1 + value % 200]
                data[at : at + (0 if value % 2 else len(piece))] = piece
            case "word":
                tokens = list(TOKEN.finditer(data, 0, 6000))
                if tokens:
                    token = tokens[where % len(tokens)]
                    data[token.start() : token.end()] = WORDS[value % len(WORDS)]
    return bytes(data)


NUMBER = st.integers(0, 2**24 - 1)
WAYS = [
    "flip", "byte", "field", "grow", "varint", "cut", "delete", "insert", "repeat", "splice",
    "word",
]  # fmt: skip
MUTATION = st.tuples(st.sampled_from(WAYS), NUMBER, NUMBER)
CASE = st.tuples(NUMBER, st.lists(MUTATION, min_size=1, max_size=5))
