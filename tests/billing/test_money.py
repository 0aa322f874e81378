"""Amounts are read exactly or not at all, and shown whole."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.core import money

CORE = Path(money.__file__).parent
MONEY = (
    "chart",
    "ledger",
    "money",
    "plans",
    "posting",
    "prices",
    "pricing",
    "recompute",
    "statements",
    "usage",
    "wallets",
)


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("12.50", 12_500_000_000),
        ("0", 0),
        (" 1 ", 1_000_000_000),
        ("0.000000001", 1),
        ("0.0000000010", 1),
        ("-3.2", -3_200_000_000),
        ("9007199.254740991", money.MOST_NANOS),
    ],
)
def test_an_exact_amount_is_read(text, nanos):
    assert money.parse_usd(text) == nanos


@pytest.mark.parametrize(
    "text",
    ["", "1e3", "NaN", "inf", "1_000", "1,000", "$5", "0.0000000001", "٣", "9007199.254740992", ".5", "1.",
     "0.1234567890000000000000000000000001"],
)  # fmt: skip
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError):
        money.parse_usd(text)


@given(st.integers(-money.MOST_NANOS, money.MOST_NANOS))
def test_an_amount_shown_plainly_reads_back(nanos):
    text = money.usd(nanos)

    assert "e" not in text.lower()
    assert money.parse_usd(text) == nanos


@pytest.mark.parametrize(
    ("nanos", "shown"),
    [
        (1_234_500_000_000, "$1,234.50"),
        (0, "$0.00"),
        (1_230, "$0.00000123"),
        (-2_500_000_000, "-$2.50"),
        (1, "$0.000000001"),
    ],
)
def test_a_page_shows_every_digit_that_an_amount_has(nanos, shown):
    assert money.show_usd(nanos) == shown


@pytest.mark.parametrize(
    ("nanos", "text"),
    [(0, "0"), (12_500_000_000, "12.5"), (20_000_000_000, "20"), (-1, "-0.000000001")],
)
def test_a_plain_amount_has_no_digit_that_says_nothing(nanos, text):
    assert money.usd(nanos) == text


def test_what_is_refused_is_named_with_the_reason():
    with pytest.raises(ValueError, match="'1e3' is not an amount in dollars"):
        money.parse_usd("1e3")
    with pytest.raises(ValueError, match="is more than one amount may be"):
        money.parse_usd("9007199.254740992")


def test_cents_are_whole_and_what_is_less_stays():
    assert money.nanos_of_cents(1250) == 12_500_000_000
    assert [money.whole_cents(nanos) for nanos in (0, 9_999_999, 10_000_000, 12_509_999_999)] == [
        0,
        0,
        1,
        1250,
    ]
    with pytest.raises(ValueError, match="-1 nanos are below zero"):
        money.whole_cents(-1)


def _of(name: str) -> Path:
    """The module, whether it only computes or not."""
    return next(path for folder in (CORE, CORE.parent) if (path := folder / f"{name}.py").exists())


def test_no_float_is_written_in_the_modules_of_money():
    found = [
        f"{name}.py:{node.lineno}"
        for name in MONEY
        for node in ast.walk(ast.parse(_of(name).read_text(encoding="utf-8")))
        if (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (isinstance(node, ast.Name) and node.id == "float")
    ]

    assert found == []
