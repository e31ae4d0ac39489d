"""Columns of numbers with decimal commas or separated thousands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zmanifold._base.errors import InputError
from zmanifold.datasets.formats._text import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pandas as pd

__all__ = ["with_numbers"]

_PLAIN = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_DECIMAL_COMMA = r"[+-]?(?:\d{1,3}(?:\.\d{3})+,\d+|\d*,\d+(?:[eE][+-]?\d+)?)"
_WHOLE = r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d+(?:[eE][+-]?\d+)?)"
_THOUSANDS = r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?"
# Either three decimals or thousands.
_EITHER = r"[+-]?[1-9]\d{0,2},\d{3}"


def with_numbers(
    frame: pd.DataFrame, path: Path, separator: str, written: Callable[[], pd.DataFrame]
) -> tuple[pd.DataFrame, str | None]:
    """Convert columns of text that hold such numbers.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table as pandas read it, with decimal points.
    path : Path
        The file, for messages.
    separator : str
        The separator of fields.
    written : callable
        Returns all fields as text.

    Returns
    -------
    frame : pandas.DataFrame
        The table with numbers in these columns.
    note : str or None
        What the commas were read as.

    Raises
    ------
    InputError
        If the commas may be either, or both points and commas are decimal.
    """
    kinds = [dtype.kind for dtype in frame.dtypes]
    texts = {
        i: frame[i].dropna().astype(str) for i in range(frame.shape[1]) if kinds[i] not in "biuf"
    }
    filled = {i: fields.str.strip() for i, fields in texts.items() if len(fields)}
    every = f"{_DECIMAL_COMMA}|{_THOUSANDS}|{_PLAIN}"
    numbers = {i: fields for i, fields in filled.items() if fields.str.fullmatch(every).all()}
    commas = [with_one for f in numbers.values() if len(with_one := f[f.str.contains(",")])]
    if not commas:
        return frame, None
    decimal = all(f.str.fullmatch(f"{_DECIMAL_COMMA}|{_WHOLE}").all() for f in numbers.values())
    thousands = all(f.str.fullmatch(f"{_THOUSANDS}|{_PLAIN}").all() for f in numbers.values())
    either = separator not in ",;" and all(f.str.fullmatch(_EITHER).all() for f in commas)
    if decimal and thousands and either:
        raise InputError(
            f"{path} holds {commas[0].iloc[0]!r}, which may have a decimal comma or be above a "
            "thousand: write it with a decimal point, without separated thousands."
        )
    if decimal and not (thousands and separator == ","):
        return _with_decimal_commas(frame, written(), numbers, path), "decimal commas"
    if thousands:
        made = {i: _converted(fields, point=".", group=",") for i, fields in numbers.items()}
        return _replaced(frame, made), "commas between thousands"
    return frame, None


def _with_decimal_commas(
    frame: pd.DataFrame, written: pd.DataFrame, numbers: Iterable[int], path: Path
) -> pd.DataFrame:
    """Convert these columns, and all with decimals, anew from text: points separate thousands."""
    made = {}
    kinds = [dtype.kind for dtype in frame.dtypes]
    for i in {*numbers, *(i for i in range(frame.shape[1]) if kinds[i] == "f")}:
        fields = written[i].iloc[: len(frame)].str.strip()
        fields = fields[~fields.isin(MISSING)]
        strange = fields[~fields.str.fullmatch(f"{_DECIMAL_COMMA}|{_WHOLE}")]
        if len(strange):
            raise InputError(
                f"{path} holds decimal commas but {strange.iloc[0]!r}, too: write all numbers with "
                "a decimal point."
            )
        made[i] = _converted(fields, point=",", group=".")
    return _replaced(frame, made)


def _replaced(frame: pd.DataFrame, made: dict[int, pd.Series]) -> pd.DataFrame:
    import pandas as pd

    # Rows without a value become NaN.
    return pd.concat(
        [made[i].reindex(frame.index) if i in made else frame[i] for i in range(frame.shape[1])],
        axis=1,
    )


def _converted(fields: pd.Series, *, point: str, group: str) -> pd.Series:
    import pandas as pd

    plain = fields.str.replace(group, "", regex=False).str.replace(point, ".", regex=False)
    return pd.to_numeric(plain)
