"""Lines of a bill, whatever was used: exact, and in all the charges of the calls."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing.core import pricing
from billing.core.money import round_nanos, usd
from billing.core.usage import Usage
from billing.documents import proofs, usage_lines
from billing.documents.usage_lines import Billed
from tests.billing import books
from tests.billing.documented import MAY

RATES = st.decimals(min_value=0, max_value=100, places=6)
COUNTS = st.integers(0, 10**6)


@settings(max_examples=60, deadline=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
@given(
    rates=st.tuples(RATES, RATES, RATES),
    markup=st.decimals(min_value=0, max_value=1, places=6),
    calls=st.lists(st.tuples(COUNTS, COUNTS, COUNTS, st.integers(0, 10**12)), min_size=1, max_size=30),
)
def test_lines_uncharged_and_rounding_are_always_the_sum_of_the_charges(rates, markup, calls):
    stated = dict(zip(("input", "output", "cache_read"), map(str, rates), strict=True))
    price = pricing.parse_price(1, stated)
    rows, charged = {}, 0
    for prompt, cached, completion, held in calls:
        usage = Usage(input=prompt, cache_read=cached, output=completion)
        charge = pricing.charge(usage, price, markup)
        nanos = min(charge.nanos, held)
        kind = "charged" if nanos == charge.nanos else "capped"
        rows.setdefault(kind, []).append((usage, nanos, min(round_nanos(charge.base), nanos)))
        charged += nanos
    billed = [_billed(kind, markup, found) for kind, found in rows.items()]

    bill = usage_lines.Bill(MAY, [usage_lines._line(row, price) for row in billed])
    said = bill.content()

    amounts = sum(Decimal(line["amount"]) for line in said["usage"])
    assert amounts + Decimal(said["uncharged"]) + Decimal(said["rounding"]) == Decimal(charged).scaleb(-9)
    assert said["usage_total"] == usd(charged)
    assert Decimal(said["uncharged"]) <= 0
    assert abs(Decimal(said["rounding"])) <= Decimal(len(calls) + 1).scaleb(-9)
    for line in said["usage"]:
        assert line["base"] == usage_lines.literal(
            sum((Decimal(item["base"]) for item in line["items"]), Decimal(0))
        )
    few = bill.content(most=0)
    assert few["usage"] == []
    assert sum(Decimal(model["amount"]) for model in few["others"]) == amounts


def test_every_kind_of_price_has_its_place_on_a_line():
    assert sorted(usage_lines.KINDS) == sorted(pricing.KINDS)


def _billed(kind, markup, found):
    units = [0] * len(usage_lines._UNITS)
    for usage, _, _ in found:
        for place, name in enumerate(usage_lines._UNITS):
            units[place] += getattr(usage, name)
    charge, base = sum(nanos for _, nanos, _ in found), sum(base for _, _, base in found)
    place = (MAY, "acme/swift", books.ENDPOINT, 1, 1, 0, 0, markup, kind, len(found), len(found))
    return Billed(*place, tuple(units), base, charge, 0)


def test_roundings_of_very_many_calls_are_no_fault_and_more_than_half_a_nano_dollar_a_call_is():
    nothing = ("usage", "others", "fees", "credits", "refunds", "disputes", "expired")
    said = {
        **{name: [] for name in nothing},
        **dict.fromkeys(("rounding", "usage_total", "total"), "0.02"),
        "uncharged": "0",
        "requests": 40_000_000,
        "rebate": None,
        "opening_balance": "1",
        "closing_balance": "0.98",
        "due": None,
    }

    assert proofs._arithmetic(said) is None
    assert "rounding" in proofs._arithmetic({**said, "requests": 39_999_999})
