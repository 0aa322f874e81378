"""The lines of a postpaid invoice: whole cents, whose sum is what is owed to the cent."""

from __future__ import annotations

import random

import pytest

from billing.core import invoice_lines
from billing.core.invoice_lines import Used

DOLLAR = 10**9


def test_each_model_has_a_line_and_the_sum_is_what_is_owed():
    used = [Used("acme/swift", 1200, 3 * DOLLAR), Used("acme/deep", 7, 90 * DOLLAR + 4_000_000)]

    found = invoice_lines.lines(used, fee=500 * DOLLAR, rebate=2 * DOLLAR, cents=591_00)

    assert found == [
        ("acme/deep: 7 calls", 90_00),
        ("acme/swift: 1,200 calls", 3_00),
        ("Monthly fee", 500_00),
        ("Volume discount", -2_00),
    ]


def test_what_earlier_months_left_and_parts_of_cents_are_a_line_of_their_own():
    used = [Used("acme/swift", 1, 6_000_000), Used("acme/deep", 1, 6_000_000)]

    found = invoice_lines.lines(used, fee=0, rebate=0, cents=1)

    assert found == [
        ("acme/deep: 1 call", 1),
        ("acme/swift: 1 call", 1),
        ("Carried over, and parts of cents", -1),
    ]


def test_the_same_usage_gives_the_same_lines_in_whatever_order_it_is_read():
    used = [Used(f"acme/{number}", number, 5 * DOLLAR) for number in range(9)]

    again = invoice_lines.lines(list(reversed(used)), fee=0, rebate=0, cents=45_00)

    assert again == invoice_lines.lines(used, fee=0, rebate=0, cents=45_00)


def test_the_smallest_of_very_many_models_share_a_line():
    used = [Used(f"acme/{number:03}", 2, number * DOLLAR) for number in range(200)]
    cents = sum(each.nanos for each in used) // 10**7

    found = invoice_lines.lines(used, fee=0, rebate=0, cents=cents)

    assert len(found) == invoice_lines.MOST_MODELS + 1
    assert found[-1] == ("50 other models: 100 calls", sum(range(50)) * 100)
    assert sum(amount for _, amount in found) == cents


def test_what_stripe_is_to_tax_has_no_line_below_zero_and_the_same_sum():
    dice = random.Random(7)
    for _ in range(300):
        found = [(f"line {number}", dice.randint(-900, 1000)) for number in range(dice.randint(1, 6))]
        total = sum(amount for _, amount in found)
        if total < 0:
            with pytest.raises(ValueError, match="less than zero"):
                invoice_lines.without_discounts(found)
            continue
        kept = invoice_lines.without_discounts(found)
        assert sum(amount for _, amount in kept) == total
        assert all(amount >= 0 for _, amount in kept)


def test_a_discount_is_taken_off_the_dearest_line_and_said_there():
    kept = invoice_lines.without_discounts([("acme/swift: 3 calls", 250), ("Volume discount", -75)])

    assert kept == [("acme/swift: 3 calls (after a discount of $0.75)", 175)]
