"""No cell of an export is run by the spreadsheet that opens it."""

from __future__ import annotations

import pytest

from aggregator.lib import spreadsheets


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_what_a_formula_begins_with_is_told_to_be_text(first: str):
    assert spreadsheets.cell(f"{first}1+1") == f"'{first}1+1"


@pytest.mark.parametrize("value", ["plain", "a=b", "", -3, 0.5])
def test_other_texts_and_numbers_stay_as_they_are(value: object):
    assert spreadsheets.cell(value) == str(value)
