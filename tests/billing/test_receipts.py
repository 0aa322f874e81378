"""What a page writes out of a bill adds up to the bill, whatever the price, the usage and the mark-up."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import receipts
from billing.core import pricing
from billing.core.usage import Usage
from billing.statements import Call

PRICES = st.decimals(min_value=0, max_value=1000, places=pricing.MOST_PLACES).map(str)
TOKENS = st.one_of(st.just(0), st.integers(1, 2_000_000))
USAGES = st.builds(
    Usage,
    input=TOKENS,
    cache_read=TOKENS,
    cache_write_5m=TOKENS,
    cache_write_1h=TOKENS,
    output=TOKENS,
    reasoning=TOKENS,
    image=TOKENS,
    audio=TOKENS,
    image_output=TOKENS,
    audio_output=TOKENS,
    requests=st.integers(0, 1),
)
STATED = st.fixed_dictionaries(
    {"input": PRICES, "output": PRICES},
    optional={
        **dict.fromkeys((kind for kind in pricing.KINDS if kind not in ("input", "output")), PRICES),
        "tiers": st.lists(
            st.fixed_dictionaries({"above": st.integers(0, 3_000_000), "input": PRICES}),
            max_size=2,
            unique_by=lambda tier: tier["above"],
        ),
    },
)
MARKUPS = st.decimals(min_value=0, max_value=1, places=6)


def exact(text):
    """`$1,234.50` as a fraction."""
    assert text.startswith("$")
    return Fraction(text[1:].replace(",", ""))


def call(charged):
    return Call(
        **dict.fromkeys(("key", "key_name", "model_asked", "model", "endpoint", "preference"), ""),
        **dict.fromkeys(("finish_reason", "native_finish_reason", "error_type", "upstream_id"), ""),
        **dict.fromkeys(("input", "cache_read", "cache_write", "output", "reasoning", "latency_ms"), 0),
        **dict.fromkeys(("image", "audio", "image_output", "audio_output"), 0),
        id=uuid.uuid4(),
        status="completed",
        user_agent="",
        streamed=False,
        estimated=False,
        price_id=None,
        price_window=0,
        price_tier=charged.tier,
        markup=charged.markup,
        parts=charged.parts,
        base_nanos=charged.base_nanos,
        charge_nanos=charged.nanos,
        ttft_ms=None,
        posted=True,
        ended_at=datetime.now(UTC),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STATED, USAGES, MARKUPS)
def test_lines_sum_to_the_base_and_the_charge_is_the_price(stated, usage, markup):
    price = pricing.parse_price(1, stated)
    charged = pricing.charge(usage, price, markup)

    receipt = receipts.of(call(charged))

    for line in receipt.lines:
        units = Fraction(line.units, 1 if line.per == "each" else 1_000_000)
        assert units * exact(line.unit_price) == exact(line.amount)
    assert sum(exact(line.amount) for line in receipt.lines) == exact(receipt.sum)
    assert exact(receipt.sum) * 10**9 == Fraction(charged.base)
    total = exact(receipt.sum) * (1 + Fraction(receipt.markup_percent) / 100)
    assert exact(receipt.total) == total
    # Half to even, by Fraction's own rounding.
    assert receipt.rounded_nanos == receipt.charge_nanos == round(total * 10**9) == charged.nanos
    assert receipt.is_rounded == ((total * 10**9).denominator > 1)
    assert sum(line.units for line in receipt.lines if line.per != "each") == usage.prompt + usage.completion


def test_a_half_goes_to_the_even_nano_dollar():
    for base, wanted in (("0.5", 0), ("1.5", 2), ("2.5", 2)):
        price = pricing.parse_price(1, {"input": str(Decimal(base) / 1000), "output": "0"})
        charged = pricing.charge(Usage(input=1), price, Decimal(0))
        assert receipts.of(call(charged)).charge_nanos == wanted
