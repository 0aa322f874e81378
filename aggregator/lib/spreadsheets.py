"""What is written for spreadsheets to read: a text must not become a formula there."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def cell(value: object) -> str:
    """The value as a cell of CSV: behind an apostrophe, what a spreadsheet would run as a formula is text.

    A number stays one, whatever its sign.
    """
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text
