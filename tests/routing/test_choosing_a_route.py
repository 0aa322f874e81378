from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.lib.errors import Refusal
from billing.core.pricing import parse_price
from routing.core import route
from routing.core.chat import Chat
from routing.core.listing import Endpoint, Listing, Model, Provider
from routing.core.live import Live
from tests.bench.choose import make_listing
from tests.routing.sandboxes import listed

SANDBOX = listed()
AMOUNTS = st.sampled_from(["0", "0.01", "0.1", "0.5", "1", "2.5", "10"])


def choose(
    model: str = "auto", *, listing: Listing = SANDBOX, live: Live | None = None, **more: object
) -> route.Route:
    allowed, now = more.pop("allowed_models", ()), more.pop("now", 0.0)
    resting = more.pop("resting", frozenset())
    chat = Chat(model, False, more.pop("prompt_tokens", 50), **more)  # type: ignore[arg-type]
    live = live or Live()
    return route.choose(chat, listing=listing, live=live, allowed_models=allowed, now=now, resting=resting)  # type: ignore[arg-type]


def refused(*args: object, **more: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        choose(*args, **more)  # type: ignore[arg-type]
    return caught.value


def make_endpoint(number: int, prices: dict[str, object], ttft: float, pace: float) -> Endpoint:
    model = Model(f"a/m{number}", "M", 10_000, 4000, "standard", True, frozenset({"tools"}), 0)
    provider = Provider("p", "P", "openai", "http://127.0.0.1:1", "simulated")
    return Endpoint(f"p:a/m{number}", provider, model, "m", 4000, parse_price(number, prices), ttft, pace)


def make(endpoints: list[Endpoint]) -> Listing:
    return Listing(
        1,
        {endpoint.model.slug: endpoint.model for endpoint in endpoints},
        {endpoint.model.slug: (endpoint,) for endpoint in endpoints},
    )


@st.composite
def listings(draw: st.DrawFn) -> Listing:
    endpoints = []
    for number in range(draw(st.integers(1, 60))):
        prices: dict[str, object] = {"input": draw(AMOUNTS), "output": draw(AMOUNTS)}
        if draw(st.integers(0, 20)) == 0:
            prices["tiers"] = [{"above": 1000, "input": draw(AMOUNTS), "output": draw(AMOUNTS)}]
        ttft, pace = (
            draw(st.sampled_from([0.001, 0.05, 0.3, 2.0])),
            draw(st.sampled_from([10.0, 50.0, 200.0, 1000.0])),
        )
        endpoints.append(make_endpoint(number, prices, ttft, pace))
    return make(endpoints)


@settings(max_examples=150, deadline=None)
@given(
    listing=listings(),
    preference=st.sampled_from(["cost", "speed", "balanced"]),
    prompt=st.integers(1, 4000),
    most=st.none() | st.integers(1, 4000),
    choices=st.integers(1, 4),
)
def test_the_chosen_endpoint_is_the_least_of_all(
    listing: Listing, preference: str, prompt: int, most: int | None, choices: int
):
    length = min(most or 300, 300)

    def score(endpoint: Endpoint) -> float:
        rates = endpoint.price.rates_for(prompt)
        cost = float(rates.input * prompt + rates.output * length * choices + rates.request)
        seconds = max(endpoint.ttft_seconds, 0.001) + length / endpoint.tokens_per_second
        if preference == "balanced":
            return math.log(max(cost, 1)) + math.log(seconds)
        return cost if preference == "cost" else seconds

    chat = Chat("auto", False, prompt, max_tokens=most, choices=choices, preference=preference)
    found = route.choose(chat, listing=listing, live=Live(), allowed_models=(), now=0)
    every = sorted(score(endpoint) for few in listing.endpoints.values() for endpoint in few)

    got = [score(target.endpoint) for target in found.targets]
    assert got == pytest.approx(every[: len(got)], abs=1e-9)
    assert len(got) == min(16, len(every))
    assert found.decision.considered == len(every)
    assert found.decision.chosen == found.targets[0].endpoint.slug


@pytest.mark.parametrize("preference", ["cost", "speed", "balanced"])
def test_of_a_thousand_endpoints_the_best_sixteen_are_the_same_as_by_sorting_all(preference: str):
    listing = make_listing(1000)
    chat = Chat("auto", False, 700, preference=preference)
    quick = route.choose(chat, listing=listing, live=Live(), allowed_models=(), now=0)

    resting = {quick.targets[0].endpoint.slug}  # one that rests turns the shortlist off
    slow = route.choose(chat, listing=listing, live=Live(), allowed_models=(), now=0, resting=resting)

    assert [t.endpoint.slug for t in quick.targets[1:]] == [t.endpoint.slug for t in slow.targets[:15]]
    assert quick.targets[1].score == pytest.approx(slow.targets[0].score)


def test_speed_cost_and_balanced_part_on_the_sandbox():
    chosen = {
        preference: choose(preference=preference).decision.chosen
        for preference in ("speed", "cost", "balanced")
    }

    assert chosen == {
        "speed": "sandbox-swift:sandbox/swallow",
        "cost": "sandbox-thrift:sandbox/harbor",
        "balanced": "sandbox-steady:sandbox/meridian",
    }


@pytest.mark.parametrize("most", [10, 60, 300, 2000])
@pytest.mark.parametrize("prompt", [5, 500, 5000])
def test_they_part_whatever_the_length(prompt: int, most: int):
    chosen = {
        choose(preference=preference, prompt_tokens=prompt, max_tokens=most).decision.chosen
        for preference in ("speed", "cost", "balanced")
    }

    assert len(chosen) == 3


def test_balanced_is_what_is_meant_when_nothing_is_said():
    decision = choose().decision

    assert decision.preference == "balanced"
    assert decision.reason.startswith("best balance of 8: $0.00")


def test_auto_never_takes_small_models_or_faults_unless_asked():
    slugs = {target.endpoint.model.slug for target in choose(preference="cost").targets}
    assert slugs == {f"sandbox/{name}" for name in ("harbor", "swallow", "meridian", "summit", "oracle")}

    assert choose(preference="cost", min_class="small").decision.chosen == "sandbox-thrift:sandbox/pebble"
    frontier = choose(preference="cost", min_class="frontier")
    assert {target.endpoint.model.slug for target in frontier.targets} == {"sandbox/summit", "sandbox/oracle"}


def test_a_named_model_goes_to_its_providers_only():
    found = choose("sandbox/meridian", preference="cost")

    assert [target.endpoint.provider.slug for target in found.targets] == ["sandbox-steady", "sandbox-deep"]
    assert choose("meridian", preference="cost").decision.chosen == found.decision.chosen


def test_fallback_models_come_after_all_endpoints_of_the_first():
    found = choose(
        "sandbox/meridian", preference="cost", fallback_models=("sandbox/oracle", "sandbox/harbor")
    )

    assert [target.endpoint.model.slug for target in found.targets] == [
        "sandbox/meridian",
        "sandbox/meridian",
        "sandbox/oracle",
        "sandbox/harbor",
        "sandbox/harbor",
    ]


def test_a_fallback_model_serves_when_the_first_cannot():
    found = choose("sandbox/instant", fallback_models=("sandbox/meridian",), needs=frozenset({"tools"}))

    assert found.decision.reason.startswith("fallback model, ")
    assert found.decision.as_data()["excluded"] == [
        {"endpoint": "sandbox-bench:sandbox/instant", "reason": "cannot do tools"}
    ]


def test_an_unknown_model_is_answered_with_the_nearest():
    for asked in ("sandbox/meridiam", "meridan", "Sandbox/Meridian", "sandbox-meridian"):
        error = refused(asked)
        assert (error.status, error.error_type, error.param) == (404, "model_not_found", "model")
        assert error.metadata["nearest"] == "sandbox/meridian"
        assert "The nearest is sandbox/meridian." in error.message


def test_auto_may_be_what_was_meant():
    for asked in ("AUTO", "aut", "openrouter/auto"):
        assert refused(asked).metadata["nearest"] == "auto"


def test_the_nearest_is_one_that_the_key_may_use():
    assert (
        refused("sandbox/meridiam", allowed_models={"sandbox/harbor"}).metadata["nearest"] == "sandbox/harbor"
    )


def test_a_bare_slug_of_two_authors_is_refused_naming_both():
    one, two = (
        make_endpoint(1, {"input": "1", "output": "1"}, 1, 1),
        make_endpoint(2, {"input": "1", "output": "1"}, 1, 1),
    )
    listing = make([one, two])
    twin = Model("b/m1", "M", 1, 1, "standard", True, frozenset(), 0)
    listing = Listing(1, {**listing.models, "b/m1": twin}, listing.endpoints)

    assert "m1 could be a/m1 or b/m1" in refused("m1", listing=listing).message


def test_a_model_that_no_provider_serves_has_no_endpoints():
    error = refused("openai/gpt-5")

    assert (error.status, error.error_type) == (404, "no_endpoints")
    assert "no provider of it is switched on" in error.message


def test_what_does_not_fit_is_left_out_with_its_reason():
    error = refused("sandbox/instant", needs=frozenset({"vision", "tools"}))
    assert error.error_type == "no_endpoints"
    assert error.metadata["excluded"] == [
        {"endpoint": "sandbox-bench:sandbox/instant", "reason": "cannot do tools, vision"}
    ]

    assert (
        "64001 tokens do not fit its context of 64000"
        in refused("sandbox/instant", prompt_tokens=64_000).message
    )
    long = choose(preference="cost", prompt_tokens=100_000)
    assert {target.endpoint.model.context_length for target in long.targets} == {128_000, 200_000}
    assert long.decision.as_data()["excluded_count"] == 3


def test_max_cost_bounds_the_worst_case_with_the_mark_up():
    # harbor at thrift: 50 × 250 + 100 × 800 = 92,500 nanos at worst; 10 % more is 101,750.
    within = choose(preference="speed", max_tokens=100, max_cost_nanos=92_500)
    assert within.decision.chosen == "sandbox-thrift:sandbox/harbor"
    assert within.decision.considered == 1

    error = refused(preference="speed", max_tokens=100, max_cost_nanos=92_499)
    assert "may cost $0.0000925, above max_cost $0.000092499" in str(error.metadata)

    chat = Chat("sandbox/harbor", False, 50, max_tokens=100, max_cost_nanos=101_749)
    with pytest.raises(Refusal):
        route.choose(
            chat, listing=SANDBOX, live=Live(), allowed_models=(), now=0, markup=parse_markup("0.10")
        )


def parse_markup(text: str):
    from decimal import Decimal

    return Decimal(text)


def test_a_key_uses_only_its_allowed_models():
    error = refused("sandbox/meridian", allowed_models=frozenset({"sandbox/harbor"}))
    assert (error.status, error.error_type) == (403, "model_not_allowed")

    error = refused("auto", allowed_models=frozenset({"sandbox/pebble"}))
    assert (error.status, error.error_type) == (403, "model_not_allowed")

    found = choose(preference="speed", allowed_models=frozenset({"sandbox/harbor", "sandbox/meridian"}))
    assert {target.endpoint.model.slug for target in found.targets} == {"sandbox/harbor", "sandbox/meridian"}


def test_the_decision_is_small_plain_data():
    data = choose(preference="cost", max_tokens=100).decision.as_data()

    assert data["candidates"][0] == {
        "endpoint": "sandbox-thrift:sandbox/harbor",
        "rank": 1,
        "cost_usd": "0.0000925",
        "cost_nanos": 92500,
        "seconds": 3.1222,
        "score": 92500.0,
    }
    assert data["reason"] == "cheapest of 8: $0.0000925 predicted"
    big = route.choose(
        Chat("auto", False, 10), listing=make_listing(400), live=Live(), allowed_models=(), now=0
    ).decision.as_data()
    assert len(big["candidates"]) == 16 and big["considered"] == 400


def test_a_prompt_in_a_dearer_tier_is_predicted_at_that_tier():
    tiered = make_endpoint(
        1, {"input": "1", "output": "1", "tiers": [{"above": 100, "input": "9", "output": "9"}]}, 1, 1
    )
    plain = make_endpoint(2, {"input": "5", "output": "5"}, 1, 1)
    listing = make([tiered, plain])

    assert choose(listing=listing, preference="cost", prompt_tokens=100).decision.chosen == "p:a/m1"
    assert choose(listing=listing, preference="cost", prompt_tokens=101).decision.chosen == "p:a/m2"


def test_traffic_moves_the_choice_and_then_fades():
    live = Live()
    for _ in range(20):
        live.observe(
            "sandbox-swift:sandbox/swallow",
            ttft_seconds=4.0,
            tokens=100,
            seconds=9.0,
            now=100.0,
        )

    assert (
        choose(preference="speed", live=live, now=100.0).decision.chosen == "sandbox-steady:sandbox/meridian"
    )
    assert (
        choose(preference="speed", live=live, now=100.0 + 3600).decision.chosen
        == "sandbox-swift:sandbox/swallow"
    )


def test_an_endpoint_that_rests_goes_last():
    first = "sandbox-faults:sandbox/flaky"
    assert choose("sandbox/flaky").decision.chosen == first

    found = choose("sandbox/flaky", resting={first, "another:one"})

    assert [target.endpoint.slug for target in found.targets] == ["sandbox-steady:sandbox/flaky", first]
    assert found.decision.reason.endswith("; 1 put last after failures")


def test_when_all_rest_they_keep_their_order():
    both = [target.endpoint.slug for target in choose("sandbox/flaky").targets]

    assert [target.endpoint.slug for target in choose("sandbox/flaky", resting=both).targets] == both


def test_a_plain_reply_scales_the_prediction():
    live = Live()
    for _ in range(50):
        live.observe("e", ttft_seconds=None, tokens=100, seconds=6.0, now=0.0)

    ttft, pace = live.predict("e", ttft_seconds=1.0, seconds_per_token=0.01, now=0.0)

    assert 5.5 < ttft + 100 * pace <= 6.0  # the catalog said 2 s


def test_a_prediction_is_near_the_catalog_after_one_sample_and_near_the_traffic_after_many():
    live = Live()
    live.observe("e", ttft_seconds=0.1, tokens=100, seconds=1.1, now=0.0)
    assert live.predict("e", ttft_seconds=1.0, seconds_per_token=0.1, now=0.0)[0] == pytest.approx(0.7)

    for _ in range(200):
        live.observe("e", ttft_seconds=0.1, tokens=100, seconds=1.1, now=0.0)
    ttft, pace = live.predict("e", ttft_seconds=1.0, seconds_per_token=0.1, now=0.0)
    assert ttft == pytest.approx(0.1, rel=0.1) and pace == pytest.approx(0.01, rel=0.1)
