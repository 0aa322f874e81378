"""Prices are exact: one rounding a generation, and a hold always covers its settlement."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.structs import asdict

from billing.core import pricing
from billing.core.usage import NOTHING, Usage

BRISK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MARKUPS = {"free": "0.10", "pro": "0.05", "business": "0.03"}


def price(**stated: object) -> pricing.Price:
    return pricing.parse_price(1, {"input": "2", "output": "8", **stated})


def test_the_customers_example_at_three_per_cent_is_exact():
    example = price(input="2", output="8")  # $0.002 and $0.008 per thousand tokens

    prompt = pricing.charge(Usage(input=1000), example, Decimal("0.03"))
    completion = pricing.charge(Usage(output=1000), example, Decimal("0.03"))

    assert prompt.nanos == 2_060_000  # $0.00206
    assert completion.nanos == 8_240_000  # $0.00824
    assert (prompt.base_nanos, completion.base_nanos) == (2_000_000, 8_000_000)


@pytest.mark.parametrize(
    ("plan", "nanos"), [("free", 11_000_000), ("pro", 10_500_000), ("business", 10_300_000)]
)
def test_each_plan_adds_its_mark_up(plan, nanos):
    charged = pricing.charge(Usage(input=1000, output=1000), price(), Decimal(MARKUPS[plan]))

    assert charged.nanos == nanos


@pytest.mark.parametrize(
    ("units", "nanos"),
    [(1, 0), (2, 1), (3, 2), (5, 2), (7, 4)],  # 0.5 → 0, 1 → 1, 1.5 → 2, 2.5 → 2, 3.5 → 4
)
def test_half_a_nano_goes_to_the_even_neighbour(units, nanos):
    half = price(input="0.0005")

    assert pricing.charge(Usage(input=units), half, Decimal(0)).nanos == nanos


def test_parts_are_not_rounded_by_themselves():
    thirds = price(input="0.0004", output="0.0004")

    charged = pricing.charge(Usage(input=1, output=1), thirds, Decimal("0.25"))

    assert [nanos for _, _, nanos in charged.parts] == [Decimal("0.4"), Decimal("0.4")]
    assert charged.nanos == 1  # 0.8 × 1.25


def test_the_shares_of_a_charge_sum_to_it():
    charged = pricing.charge(Usage(input=1), price(input="0.0015"), Decimal("0.03"))

    assert charged.nanos == 2  # 1.545
    assert charged.base_nanos == 2  # so the mark-up of so small a call is nothing, never less


def test_what_was_not_used_is_no_part():
    charged = pricing.charge(Usage(input=10), price(), Decimal(0))

    assert [kind for kind, _, _ in charged.parts] == ["input"]
    assert pricing.charge(NOTHING, price(request="1"), Decimal(0)).nanos == 0


def test_a_kind_that_a_price_leaves_out_costs_what_it_is_a_kind_of():
    rates = price(cache_write_5m="3").rates

    assert rates.cache_read == rates.input
    assert rates.cache_write_1h == rates.cache_write_5m == Decimal(3000)
    assert rates.reasoning == rates.image_output == rates.audio_output == rates.output
    assert rates.image == rates.audio == rates.input


def test_a_price_for_each_request_is_added_once():
    charged = pricing.charge(Usage(input=1000), price(request="0.005"), Decimal("0.10"))

    assert charged.parts == (("input", 1000, Decimal(2_000_000)), ("request", 1, Decimal(5_000_000)))
    assert charged.nanos == 7_700_000


def test_a_tier_prices_the_whole_of_a_long_prompt():
    tiered = price(tiers=[{"above": 1000, "input": "4"}])

    assert pricing.charge(Usage(input=1000), tiered, Decimal(0)).nanos == 2_000_000
    assert pricing.charge(Usage(input=1001), tiered, Decimal(0)).nanos == 4_004_000
    assert pricing.charge(Usage(input=500, cache_read=501), tiered, Decimal(0)).nanos == 4_004_000


def test_images_and_audio_have_prices_of_their_own_and_lengthen_a_prompt():
    heard = price(audio="7", image="3", audio_output="16", tiers=[{"above": 1000, "input": "4"}])
    short = pricing.charge(Usage(input=100, audio=10, image=20, output=1, audio_output=2), heard, Decimal(0))
    long = pricing.charge(Usage(input=900, audio=51, image=50), heard, Decimal(0))

    assert [(kind, units) for kind, units, _ in short.parts] == [
        *(("input", 100), ("output", 1), ("image", 20), ("audio", 10), ("audio_output", 2))
    ]
    assert (short.nanos, short.tier) == (200_000 + 8_000 + 60_000 + 70_000 + 32_000, 0)
    assert (long.nanos, long.tier) == (3_600_000 + 357_000 + 150_000, 1)


def test_a_tier_that_a_price_does_not_have_is_named():
    tiered = price(tiers=[{"above": 1000, "input": "4"}])

    assert pricing.unit_prices(tiered, 0, 1).input == 4000
    for tier in (-1, 2):
        with pytest.raises(LookupError, match=f"price 1 has no tier {tier}"):
            pricing.unit_prices(tiered, 0, tier)


def test_a_prompt_that_ends_at_a_tier_is_priced_below_it():
    stated = {"input": "1", "output": "1", "tiers": [{"above": 1000, "input": "2", "output": "100"}]}
    price = pricing.parse_price(1, stated)
    at, above = Usage(input=1000, output=10), Usage(input=1001, output=10)

    assert pricing.charge(at, price, Decimal(0)).nanos == 1_010_000
    assert pricing.charge(above, price, Decimal(0)).nanos == 3_002_000
    assert pricing.worst(1000, 10, price, Decimal(0)) == 1_010_001, "a hold has room for the rounding"
    assert pricing.affordable_completion(1_010_000, 1000, price, Decimal(0)) == 9
    assert pricing.affordable_completion(1_010_001, 1000, price, Decimal(0)) == 10


def test_a_budget_of_the_prompt_alone_affords_no_completion_and_one_below_it_nothing():
    price = pricing.parse_price(1, {"input": "1", "output": "1"})

    assert pricing.affordable_completion(1_000_001, 1000, price, Decimal(0)) == 0
    assert pricing.affordable_completion(999_000, 1000, price, Decimal(0)) == 0
    assert pricing.affordable_completion(1_001_001, 1000, price, Decimal(0)) == 1


def test_a_window_that_a_price_does_not_have_is_named():
    stated = {"input": "1", "output": "1", "windows": [{"from": "00:00", "until": "08:00", "input": "0.5"}]}
    price = pricing.parse_price(7, stated)

    assert price.within(1).rates != price.rates
    assert price.within(0) is price
    for window in (-1, 2):
        with pytest.raises(LookupError, match=f"price 7 has no window {window}"):
            price.within(window)


def test_the_threads_decimal_context_changes_nothing():
    usage = Usage(input=99_999_999, output=99_999_999)
    long = price(input="1.123456789012", output="9.876543210987")
    expected = pricing.charge(usage, long, Decimal("0.123457")).nanos

    with localcontext() as context:
        context.prec = 5

        assert pricing.charge(usage, long, Decimal("0.123457")).nanos == expected


@pytest.mark.parametrize(
    "stated",
    [
        {"input": "2"},
        {"output": "2"},
        {"input": "-1", "output": "1"},
        {"input": "NaN", "output": "1"},
        {"input": "much", "output": "1"},
        {"input": "1000001", "output": "1"},
        {"input": 0.1, "output": "1"},
        {"input": True, "output": "1"},
        {"input": "0.0000000000001", "output": "1"},
        {"input": "1", "output": "1", "speed": "1"},
        {"input": "1", "output": "1", "tiers": [{"input": "1"}]},
        {"input": "1", "output": "1", "tiers": [{"above": 1.5, "input": "1"}]},
        {"input": "1", "output": "1", "tiers": [{"above": 1}, {"above": 1, "input": "3"}]},
        {"input": "1", "output": "1", "tiers": "none"},
    ],
)
def test_a_price_that_is_not_exact_and_whole_is_refused(stated):
    with pytest.raises(ValueError):
        pricing.parse_price(1, stated)


def test_a_price_of_zero_must_be_said_and_is_then_free():
    free = pricing.parse_price(1, {"input": "0", "output": "0"})

    assert pricing.charge(Usage(input=10**6, output=10**6), free, Decimal("0.1")).nanos == 0


amounts = st.integers(0, 10**15).map(lambda amount: f"{Decimal(amount).scaleb(-12):f}")
tokens = st.integers(0, 2_000_000)
markups = st.integers(0, 10**6).map(lambda markup: Decimal(markup).scaleb(-6))
usages = st.builds(
    Usage,
    **dict.fromkeys([name for name in Usage.__struct_fields__ if name != "requests"], tokens),
    requests=st.sampled_from([0, 1]),
)
windows = st.lists(st.sampled_from([("00:00", "08:00"), ("09:00", "17:30"), ("22:00", "23:00")]), unique=True)


@st.composite
def tables(draw, within=()):
    kinds = draw(st.sets(st.sampled_from(pricing.KINDS))) | set(within)
    return {kind: draw(amounts) for kind in kinds}


@st.composite
def tiers(draw):
    above = draw(st.lists(st.integers(0, 4_000_000), max_size=2, unique=True))
    return [{**draw(tables()), "above": each} for each in above]


@st.composite
def prices(draw):
    """Any mix of kinds, tiers and windows, as one of its windows or none of them charges."""
    stated = {**draw(tables(("input", "output"))), "tiers": draw(tiers())}
    stated["windows"] = [
        {**draw(tables()), "tiers": draw(tiers()), "from": begins, "until": ends}
        for begins, ends in draw(windows)
    ]
    whole = pricing.parse_price(1, stated)
    return whole.within(draw(st.integers(0, len(whole.windows))))


@BRISK
@given(usages, prices(), markups)
def test_a_charge_is_the_exact_product_rounded_once(usage, priced, markup):
    charged = pricing.charge(usage, priced, markup)

    exact = sum((Fraction(nanos) for _, _, nanos in charged.parts), Fraction(0)) * (1 + Fraction(markup))
    assert charged.nanos == round(exact)  # of a fraction: half to even
    rates = priced.rates_for(usage.prompt)
    assert all(
        Fraction(nanos) == units * Fraction(getattr(rates, kind)) for kind, units, nanos in charged.parts
    )
    assert sum(nanos for _, _, nanos in charged.parts) == charged.base
    assert 0 <= charged.base_nanos <= charged.nanos, (
        "the mark-up is the remainder, and never less than nothing"
    )
    used = {kind: units for kind, units, _ in charged.parts if kind != "request"}
    assert used == {name: n for name, n in asdict(usage).items() if n and name != "requests"}


@BRISK
@given(usages, prices(), markups, st.data())
def test_more_of_anything_never_costs_less_within_a_tier(usage, priced, markup, data):
    name = data.draw(st.sampled_from(Usage.__struct_fields__))
    more = structs.replace(usage, **{name: getattr(usage, name) + data.draw(st.integers(1, 1000))})
    if priced.tier_for(more.prompt) != priced.tier_for(usage.prompt):
        return  # a tier may be cheaper than what is before it

    assert pricing.charge(more, priced, markup).nanos >= pricing.charge(usage, priced, markup).nanos
    dearer = pricing.charge(usage, priced, markup + Decimal("0.01"))
    assert dearer.nanos >= pricing.charge(usage, priced, markup).nanos


@BRISK
@given(usages, prices(), markups)
def test_a_bill_names_what_its_exact_price_is_reckoned_by(usage, priced, markup):
    charged = pricing.charge(usage, priced, markup)

    rates = pricing.unit_prices(priced.within(0), priced.window, charged.tier)
    assert rates == priced.rates_for(usage.prompt)
    assert pricing.exact({kind: units for kind, units, _ in charged.parts}, rates) == charged.base
    stated = {kind: f"{pricing.stated_rate(kind, rate):f}" for kind, rate in rates.each}
    assert pricing.parse_price(1, stated).rates == rates


@BRISK
@given(usages, prices(), markups)
def test_a_smaller_usage_is_held_for_too(usage, priced, markup):
    """Of every kind, in every tier that a shorter prompt may fall into, and at the very same size."""
    hold = pricing.worst(usage.prompt, usage.completion, priced, markup)

    for share in (1, 2, 7):
        counts = {name: n // share for name, n in asdict(usage).items()}
        assert pricing.charge(Usage(**counts), priced, markup).nanos <= hold
    for kind in ("input", "cache_read", "cache_write_1h", "image", "audio"):
        for written in ("output", "reasoning", "image_output", "audio_output"):
            only = Usage(**{kind: usage.prompt, written: usage.completion})
            assert pricing.charge(only, priced, markup).nanos <= hold


@BRISK
@given(usages, st.integers(0, 10**6), st.integers(0, 10**6), prices(), markups)
def test_a_hold_covers_every_usage_within_its_bounds(usage, more_prompt, more_completion, priced, markup):
    hold = pricing.worst(usage.prompt + more_prompt, usage.completion + more_completion, priced, markup)

    assert hold >= pricing.charge(usage, priced, markup).nanos


@BRISK
@given(st.integers(0, 10**12), st.integers(0, 2_000_000), prices(), markups)
def test_what_is_said_to_be_affordable_is_and_one_token_more_is_not(nanos, prompt, priced, markup):
    completion = pricing.affordable_completion(nanos, prompt, priced, markup)

    if completion is None:
        assert priced.rates.dearest_output == 0
    elif completion > 0:
        assert pricing.worst(prompt, completion, priced, markup) <= nanos
    if completion is not None:
        assert pricing.worst(prompt, completion + 2, priced, markup) > nanos - 2
