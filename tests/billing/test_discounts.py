"""The volume discount of a month, by itself: properties, and sums done by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.core import discounts
from billing.core.discounts import BASE, BILLED, Rule, Used

USD = 10**9
PRO = Rule(Decimal("0.02"), 1000 * USD)
BUSINESS = Rule(Decimal("0.05"), 1000 * USD)
NONE = Rule(Decimal(0), 1000 * USD)

rules = st.builds(
    Rule,
    rate=st.integers(0, 999_999).map(lambda millionths: Decimal(millionths) / 10**6),
    threshold_nanos=st.integers(0, 5000 * USD),
    basis=st.sampled_from([BILLED, BASE]),
)
amounts = st.integers(0, 5000 * USD)
used = st.builds(lambda base, more: Used(base, base + more), amounts, amounts)
months = st.lists(st.tuples(rules, used), min_size=1, max_size=5)


def billed(usd):
    return Used(int(Decimal(usd) / Decimal("1.05") * USD), int(Decimal(usd) * USD))


@pytest.mark.parametrize(
    ("month", "rebate"),
    [
        ([(PRO, billed(1000))], 0),
        ([(PRO, billed(1500))], 10 * USD),
        ([(BUSINESS, billed(1500))], 25 * USD),
        # The running total goes on where the plan changes; only what lies above counts, at its own rate.
        ([(PRO, billed(600)), (BUSINESS, billed(600))], 10 * USD),
        ([(PRO, billed(1200)), (BUSINESS, billed(100))], 9 * USD),
        ([(NONE, billed(2000)), (PRO, billed(100))], 2 * USD),
        ([(PRO, billed(2000)), (NONE, billed(100))], 20 * USD),
        # Half a nano goes to the even one, once for the month.
        ([(Rule(Decimal("0.5"), 0), Used(0, 1)), (Rule(Decimal("0.5"), 0), Used(0, 2))], 2),
        ([(Rule(Decimal("0.5"), 0), Used(0, 1))], 0),
        ([(Rule(Decimal("0.1"), 100, BASE), Used(300, 900))], 20),
        ([(Rule(Decimal("0.1"), 100, BASE), Used(300, 900)), (Rule(Decimal("0.1"), 100), Used(0, 100))], 30),
    ],
)
def test_a_rebate_worked_out_by_hand(month, rebate):
    assert discounts.rebate(month) == rebate


@settings(max_examples=200, deadline=None)
@given(months)
def test_a_rebate_is_never_below_zero_nor_more_than_its_rate_of_all(month):
    rebate = discounts.rebate(month)

    assert 0 <= rebate <= sum(rule.rate * used.on(rule.basis) for rule, used in month) + 1


@settings(max_examples=200, deadline=None)
@given(months, st.data())
def test_more_usage_never_gives_less_back(month, data):
    number = data.draw(st.integers(0, len(month) - 1))
    more = data.draw(used)
    rule, had = month[number]
    grown = list(month)
    grown[number] = (rule, Used(had.base_nanos + more.base_nanos, had.charge_nanos + more.charge_nanos))

    assert discounts.rebate(grown) >= discounts.rebate(month)


@settings(max_examples=100, deadline=None)
@given(rules, used)
def test_up_to_the_threshold_nothing_is_given_back(rule, had):
    reached = Rule(rule.rate, had.on(rule.basis), rule.basis)

    assert discounts.rebate([(reached, had)]) == 0


@settings(max_examples=200, deadline=None)
@given(months, st.data())
def test_cutting_a_stretch_at_equal_terms_changes_nothing(month, data):
    number = data.draw(st.integers(0, len(month) - 1))
    rule, had = month[number]
    base = data.draw(st.integers(0, had.base_nanos))
    first = Used(base, data.draw(st.integers(0, had.charge_nanos)))
    rest = Used(had.base_nanos - base, had.charge_nanos - first.charge_nanos)
    cut = [*month[:number], (rule, first), (rule, rest), *month[number + 1 :]]

    assert sum(discounts.shares(cut)) == sum(discounts.shares(month))
    assert discounts.rebate(cut) == discounts.rebate(month)
