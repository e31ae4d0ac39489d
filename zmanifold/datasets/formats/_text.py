"""The layout of tables in text: encoding, separator, comments, and the line of column names."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zmanifold._base.errors import InputError
from zmanifold.datasets.formats._streams import opened, read_all, read_up_to

__all__ = ["LABEL_COLUMNS", "MISSING", "Layout", "is_number", "laid_out", "read_text"]

LABEL_COLUMNS = ("y", "label", "labels", "target", "class")

# Fields that pandas reads as missing.
MISSING = frozenset(
    [
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    ]
) | {""}

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity)", re.IGNORECASE)
# A number with decimal commas or separated thousands.
_WITH_COMMAS = re.compile(r"[+-]?[\d.,]*\d(,\d*)?([eE][+-]?\d+)?")
_PLACES = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar", " ": "spaces"}
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16",
          b"\xfe\xff": "utf-16"}  # fmt: skip

# Separator and header are found from this number of lines, or of bytes, at the start.
_SAMPLE_LINES = 50
_SAMPLE_BYTES = 2**16
_LONGEST_LINE = 2**22
_MOST_COLUMNS = 100_000


@dataclass(frozen=True)
class Layout:
    """The layout of a table in text.

    Attributes
    ----------
    separator : str
        The character between fields; a space stands for any white space.
    names : tuple of str
        The names of the columns; "" for a column without a name.
    header : bool
        Whether a line of the file gives the names.
    body : bytes
        The lines of data.
    notes, skipped : tuple of str
        Decisions, and parts that were left out, for `Reading`.
    """

    separator: str
    names: tuple[str, ...]
    header: bool
    body: bytes
    notes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def read_text(path: Path) -> bytes:
    """Return a text file as UTF-8 with newlines, without its byte order mark.

    Raises
    ------
    ValueError
        If the text has zero bytes, or is damaged UTF-16 or UTF-32.
    """
    with opened(path) as stream:
        head = read_up_to(stream, _SAMPLE_BYTES, path)
        encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
        # Checked before the rest is read, because a sparse file of zeros may have any size.
        if encoding is None and b"\0" in head:
            raise _no_text()
        text = head + read_all(stream, path, already=len(head))
    if encoding is not None:
        text = text.decode(encoding).encode()
    text = text.removeprefix(codecs.BOM_UTF8)
    if b"\0" in text:
        raise _no_text()
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return text


def _no_text() -> ValueError:
    return ValueError("it holds zero bytes, which only UTF-16 with a byte order mark may have")


def laid_out(text: bytes, path: Path, *, header: bool | None = None, tabs: bool = False) -> Layout:
    """Find the layout of a table.

    Parameters
    ----------
    text : bytes
        The text, as `read_text` returns it.
    path : Path
        The file, for messages.
    header : bool, optional
        Whether the first line names the columns; by default its fields, and those below, decide.
    tabs : bool, default=False
        Whether tabs are tried first as separators.

    Raises
    ------
    InputError
        If there are too many columns.
    ValueError
        If no layout fits.
    """
    comments, text, n_comments = _without_comments(text)
    announced = re.match(rb"sep=(.)\n", text)
    if announced:
        text = text[announced.end() :]
    text = text.lstrip(b"\n")
    lines = _first_lines(text)
    if not lines:
        raise ValueError("it holds no lines of data")
    separator = announced[1].decode() if announced else _separator(lines, tabs)
    rows, ends = _split(lines, separator)
    if len(rows[0]) > _MOST_COLUMNS:
        # A column needs several KiB in pandas, but only two bytes in a file.
        raise InputError(
            f"{path} has {len(rows[0])} columns, more than the {_MOST_COLUMNS} that are read: "
            "save it as .npy or .npz."
        )
    quoted = lines[0].lstrip().startswith('"') and not any('"' in line for line in lines[ends[0] :])
    named = header if header is not None else _is_header(rows, quoted)
    notes = (
        () if separator == "," else (f"fields separated by {_PLACES.get(separator, separator)}",)
    )
    if named:
        start = sum(len(line.encode()) + 1 for line in lines[: ends[0]])
        names = _names(rows[0], rows[1:], separator)
        return Layout(separator, names, True, text[start:], notes, _said(n_comments))
    if header is None and comments:
        # np.savetxt writes the header as a comment.
        (last, *_), _ = _split([comments[-1]], separator)
        if len(last) == len(rows[0]) and any(not is_number(name) for name in last):
            names = _clean(last)
            skipped = _said(n_comments - 1)
            return Layout(separator, names, True, text, notes, skipped)
    return Layout(separator, ("",) * len(rows[0]), False, text, notes, _said(n_comments))


def is_number(token: str) -> bool:
    """Tell whether a field is a number with a decimal point, or missing."""
    return token in MISSING or _NUMBER.fullmatch(token) is not None


def _looks_numeric(token: str) -> bool:
    return is_number(token) or _WITH_COMMAS.fullmatch(token) is not None


def _without_comments(text: bytes) -> tuple[list[str], bytes, int]:
    """Return the last comment before the data, the data, and the number of comments."""
    comments: list[str] = []
    n_comments = at = 0
    while at < len(text):
        end = text.find(b"\n", at) + 1 or len(text)
        line = text[at:end].strip()
        if line[:1] not in (b"#", b""):
            break
        n_comments += bool(line)
        # The last comment may be the header.
        comments = [line.decode().lstrip("#").strip()] if line else comments
        at = end
    text = text[at:]
    if b"\n#" in text:
        kept, quotes = [], 0
        for line in text.split(b"\n"):
            # After an odd number of quotes the line is the rest of a quoted field.
            if line.startswith(b"#") and quotes % 2 == 0:
                n_comments += 1
            else:
                quotes += line.count(b'"')
                kept.append(line)
        text = b"\n".join(kept)
    return comments, text, n_comments


def _said(n_comments: int) -> tuple[str, ...]:
    return (f"{n_comments} line{'s' * (n_comments > 1)} of comments",) if n_comments else ()


def _first_lines(text: bytes) -> list[str]:
    """Return the lines from which the layout is found; a very long one is cut."""
    lines: list[str] = []
    at = size = 0
    while at < len(text) and len(lines) < _SAMPLE_LINES and (size < _SAMPLE_BYTES or at == 0):
        end = text.find(b"\n", at, at + _LONGEST_LINE)
        end = min(at + _LONGEST_LINE, len(text)) if end < 0 else end
        lines.append(text[at:end].decode())
        size += end - at
        at = end + 1
    return lines


def _split(lines: Sequence[str], separator: str) -> tuple[list[list[str]], list[int]]:
    """Return the fields of each row, and the number of its last line: quotes may hold newlines."""
    if separator == " ":
        lines = [" ".join(line.split()) for line in lines]
    reader = csv.reader([f"{line}\n" for line in lines], delimiter=separator, skipinitialspace=True)
    rows, ends = [], []
    for row in reader:
        if row and (len(row) > 1 or row[0].strip()):
            rows.append([field.strip() for field in row])
            ends.append(reader.line_num)
    if not rows:
        raise ValueError("it holds no lines of data")
    return rows, ends


def _separator(lines: list[str], tabs: bool) -> str:
    """Return the separator for which most rows have equally many fields, most of them numbers."""
    best, chosen = (0.0, 0.0), ","
    for separator in ("\t", ",", ";", "|", " ") if tabs else (",", ";", "\t", "|", " "):
        try:
            rows, _ = _split(lines, separator)
        except csv.Error:
            continue
        data = rows[1:] or rows
        n_fields = len(data[0])
        if n_fields < 2:
            continue
        # R writes no name for the column of row names.
        alike = sum(len(row) == n_fields for row in rows[1:]) + (0 <= n_fields - len(rows[0]) <= 1)
        fields = [field for row in data for field in row]
        numbers = sum(is_number(f) or (separator != "," and _looks_numeric(f)) for f in fields)
        score = alike / len(rows), numbers / len(fields)
        if score > best:
            best, chosen = score, separator
    return chosen


def _is_header(rows: list[list[str]], quoted: bool) -> bool:
    """Tell whether the first row names the columns, by comparing its fields with those below."""
    first, rest = rows[0], rows[1:]
    texts = [i for i, field in enumerate(first) if not _looks_numeric(field)]
    if not texts:
        # Quoted numbers above unquoted ones are names, such as years.
        return quoted or _counts_columns(first, rest)
    if any(field.lower().lstrip("# ") in LABEL_COLUMNS for field in first):
        return True
    shift = len(rest[0]) - len(first) if rest else 0
    for i in texts:
        below = [row[i + shift] for row in rest if 0 <= i + shift < len(row)]
        filled = [field for field in below if field not in MISSING]
        if filled and all(map(_looks_numeric, filled)):
            return True
        # A text that occurs again below is a class, not a name.
        if first[i] in filled:
            return False
    numbers = [field for i, field in enumerate(first) if i not in texts and field]
    return numbers == [str(i) for i in range(len(numbers))]


def _counts_columns(first: list[str], rest: list[list[str]]) -> bool:
    """Tell whether a row is 0, 1, ..., d-1, which pandas writes for columns without names."""
    named = first[1:] if first[0] == "" else first
    if named != [str(i) for i in range(len(named))]:
        return False
    # A single 0 above whole numbers may be a value.
    return len(named) > 1 or any(not row[-1].lstrip("-").isdigit() for row in rest)


def _names(first: list[str], rest: list[list[str]], separator: str) -> tuple[str, ...]:
    """Return the names of all columns of the data."""
    width = len(rest[0]) if rest else len(first)
    if width == len(first) + 1:
        if all(row[-1:] == [""] for row in rest if len(row) == width):
            # Each line of data ends in a separator, but not the header.
            return (*_clean(first), "")
        keys = [row[0] for row in rest]
        numbered = sorted(keys) in (
            sorted(map(str, range(len(keys)))), sorted(map(str, range(1, len(keys) + 1)))
        )  # fmt: skip
        named = len(set(keys)) == len(keys) and not any(map(_looks_numeric, keys))
        if (numbered and (len(first) > 1 or separator != ",")) or named:
            return ("", *_clean(first))
    if width != len(first):
        raise ValueError(
            f"its header has {len(first)} fields but its first line of data {width}, separated by "
            f"{_PLACES.get(separator, separator)}"
        )
    return _clean(first)


def _clean(names: list[str]) -> tuple[str, ...]:
    names = [names[0].lstrip("#").strip(), *names[1:]]
    # Older versions of pandas wrote this for a column without a name.
    return tuple("" if re.fullmatch(r"Unnamed: \d+", name) else name for name in names)
