"""What a usage costs at every endpoint of a model: the arithmetic of a bill, before there is one. Pure."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.core.principal import DataPolicy
from aggregator.lib.errors import Refusal
from billing.core import pricing
from billing.core.usage import MOST_TOKENS, Usage
from routing import costs
from routing.core.listing import Listing
from tests.routing.selecting import THREE, endpoint, listing_of

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MARKUP = Decimal("0.05")
USAGE = {"prompt_tokens": 1000, "completion_tokens": 200}


def ask(
    listing: Listing = THREE, *, policy: DataPolicy | None = None, now: datetime = NOW, **body: Any
) -> dict[str, Any]:
    question = costs.read(json.dumps({"model": "a/m0", **body}).encode())
    return costs.answer(question, listing=listing, allowed_models=(), markup=MARKUP, policy=policy, now=now)


def test_every_endpoint_is_priced_and_the_cheapest_comes_first():
    found = ask(usage=USAGE)

    assert [each["endpoint"] for each in found["endpoints"]] == ["p1:a/m0", "p2:a/m0", "p0:a/m0"]
    assert found["endpoints"][0] == {
        "endpoint": "p1:a/m0",
        "provider": "P1",
        "completion_tokens": 200,
        "price_id": 1,
        "tier": 0,
        "tier_above": None,
        "window": 0,
        "until": None,
        "items": [
            {"kind": "input", "units": 1000, "unit_price": "1", "base": "0.001"},
            {"kind": "output", "units": 200, "unit_price": "1", "base": "0.0002"},
        ],
        "base": "0.0012",
        "base_nanos": 1_200_000,
        "markup_amount": "0.00006",
        "markup_nanos": 60_000,
        "total": "0.00126",
        "total_nanos": 1_260_000,
    }
    assert (found["object"], found["estimated"], found["markup"]) == ("cost", False, "0.05")


def test_our_own_kinds_say_the_same_as_openais_object():
    said = {
        **USAGE,
        "prompt_tokens_details": {"cached_tokens": 300, "cache_write_tokens": 100, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 50, "rejected_prediction_tokens": 10},
        "cost": 0.1,
    }
    own = {"input": 600, "cache_read": 300, "cache_write_5m": 100, "output": 150, "reasoning": 50}
    dear = listing_of(
        endpoint(prices={"cache_read": "0.1", "cache_write_5m": "1.25", "reasoning": "3", "request": "0.005"})
    )

    assert ask(dear, usage=said) == ask(dear, usage=own)
    (priced,) = ask(dear, usage=own)["endpoints"]
    assert [item["kind"] for item in priced["items"]] == [
        *("input", "cache_read", "cache_write_5m", "output", "reasoning", "request")
    ]
    assert priced["items"][-1] == {"kind": "request", "units": 1, "unit_price": "0.005", "base": "0.005"}
    (without,) = ask(dear, usage=own | {"request": 0})["endpoints"]
    assert without["base_nanos"] == priced["base_nanos"] - 5_000_000


def test_tier_and_hours_are_named_and_until_when_they_hold():
    stated = {
        "input": "2",
        "output": "8",
        "tiers": [{"above": 500, "input": "4"}],
        "windows": [
            {"from": "11:00", "until": "13:30", "input": "1", "tiers": [{"above": 900, "input": "9"}]}
        ],
    }
    priced = replace(endpoint(context=100_000), price=pricing.parse_price(7, stated).at(NOW))
    (found,) = ask(listing_of(priced), usage=USAGE)["endpoints"]

    assert (found["price_id"], found["window"], found["tier"], found["tier_above"]) == (7, 1, 1, 900)
    assert found["until"] == "2026-11-23T13:30:00Z" and found["items"][0]["unit_price"] == "9"
    later = replace(priced, price=priced.price.at(NOW + timedelta(hours=4)))
    (after,) = ask(listing_of(later), usage=USAGE, now=NOW + timedelta(hours=4))["endpoints"]
    assert (after["window"], after["tier_above"], after["until"]) == (0, 500, "2026-11-24T11:00:00Z")


def test_the_body_of_a_call_is_estimated_at_its_longest_answer():
    messages = [{"role": "user", "content": "Tell me. " * 40}]
    short, long = endpoint("p0", max_output=400), endpoint("p1", max_output=4000)
    listing = listing_of(short, long)

    bounded = ask(listing, messages=messages, max_tokens=100, n=2)
    assert {each["completion_tokens"] for each in bounded["endpoints"]} == {200}
    found = {each["endpoint"]: each for each in ask(listing, messages=messages)["endpoints"]}
    assert (found["p0:a/m0"]["completion_tokens"], found["p1:a/m0"]["completion_tokens"]) == (400, 4000)
    question = costs.read(json.dumps({"model": "a/m0", "messages": messages}).encode())
    assert found["p0:a/m0"]["items"][0]["units"] == question.chat.prompt_tokens == bounded["prompt_tokens"]
    assert bounded["estimated"]


def test_only_endpoints_that_the_caller_could_use_are_priced():
    listing = listing_of(
        endpoint("p0", policy="may-train"),
        endpoint("p1", policy="no-training"),
        endpoint("p2", max_output=100),
    )

    kept = ask(listing, usage=USAGE, policy=DataPolicy(no_training=True))
    assert [each["endpoint"] for each in kept["endpoints"]] == ["p1:a/m0"]
    named = ask(listing, usage=USAGE, provider={"ignore": ["p1"]})
    assert [each["endpoint"] for each in named["endpoints"]] == ["p0:a/m0"], "p2 cannot write so much"
    with pytest.raises(Refusal) as refused:
        ask(listing, usage={"prompt_tokens": 20_000})
    assert (refused.value.status, refused.value.error_type) == (404, "no_endpoints")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "usage"),
        ({"usage": {}}, "usage"),
        ({"usage": USAGE, "messages": [{"role": "user", "content": "hi"}]}, "usage"),
        ({"usage": USAGE, "model": "auto"}, "model"),
        ({"usage": USAGE, "models": ["a/m1"]}, "model"),
        ({"usage": [1]}, "usage"),
        ({"usage": {"input": 1, "searches": 2}}, "usage"),
        ({"usage": {"input": -1}}, "usage.input"),
        ({"usage": {"output": MOST_TOKENS + 1}}, "usage.output"),
        ({"usage": {"input": "1"}}, "usage.input"),
        ({"usage": {"prompt_tokens": 1.5}}, "usage.prompt_tokens"),
        ({"usage": {"completion_tokens": 1}}, "usage"),
        (
            {"usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 1001}}},
            "usage.prompt_tokens_details",
        ),
        (
            {"usage": {**USAGE, "completion_tokens_details": {"reasoning_tokens": 201}}},
            "usage.completion_tokens_details",
        ),
        (
            {"usage": {**USAGE, "prompt_tokens_details": {"video_tokens": 1}}},
            "usage.prompt_tokens_details",
        ),
        ({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_cannot_be_meant_is_a_400_that_names_the_field(body, field):
    with pytest.raises(Refusal) as refused:
        ask(**body)

    assert (refused.value.status, refused.value.error_type) == (400, "invalid_request")
    assert refused.value.param == field


counts = st.integers(0, 10**6)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(pricing.KINDS, counts)).filter(bool),
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(pricing.KINDS[2:], st.sampled_from(["0", "0.3", "7.000001"]))
    ),
)
def test_items_base_mark_up_and_total_add_up(kinds, stated):
    wide = endpoint(input="2.5", output="10.1", prices=stated, context=10**9, max_output=10**9)
    wide = replace(wide, model=replace(wide.model, capabilities=frozenset({"vision"})))
    (found,) = ask(listing_of(wide), usage=kinds)["endpoints"]

    exact = sum((Fraction(item["base"]) for item in found["items"]), Fraction(0)) * 10**9
    for item in found["items"]:
        per = 1 if item["kind"] == "request" else 10**6
        assert Fraction(item["base"]) == item["units"] * Fraction(item["unit_price"]) / per
    assert found["total_nanos"] == round(exact * (1 + Fraction(MARKUP)))
    assert found["base_nanos"] + found["markup_nanos"] == found["total_nanos"]
    assert Fraction(found["total"]) * 10**9 == found["total_nanos"]
    usage = Usage(requests=kinds.get("request", 1), **{k: n for k, n in kinds.items() if k != "request"})
    assert found["total_nanos"] == pricing.charge(usage, wide.price, MARKUP).nanos
