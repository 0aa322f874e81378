"""What may be demanded or wished of providers, whatever they state: no endpoint slips through or is lost."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.lib.errors import Refusal
from billing.core import pricing
from routing.core import pool, route
from routing.core.chat import Chat
from routing.core.listing import Endpoint, Listing
from routing.core.live import Live
from routing.core.preferences import MaxPrice, Preferences, Wished
from routing.core.vitals import Percentiles, Vitals
from tests.routing import selecting
from tests.routing.selecting import THREE, choose, endpoint, knowing, listing_of, providers, slugs, wanting

MARKUP = Decimal("0.10")


def names(each: Endpoint) -> set[str]:
    return {each.provider.slug, each.provider.name.lower(), each.slug}


def may_serve(each: Endpoint, chat: Chat, *, clamped: int | None) -> bool:
    """Every hard demand, written down a second time."""
    asked, price = chat.providers, each.price.rates_for(chat.prompt_tokens)
    only, ignore, order = (
        {name.lower() for name in some} for some in (asked.only, asked.ignore, asked.order)
    )
    most = asked.max_price or MaxPrice()
    factor = (1 + MARKUP) / 1000
    max_tokens = clamped or chat.max_tokens
    written = (max_tokens or 300) * chat.choices
    dearest = price.dearest_input * chat.prompt_tokens + price.dearest_output * written + price.request
    author = each.model.slug.partition("/")[0]
    return (
        chat.prompt_tokens + (max_tokens or 1) <= each.context_length
        and (max_tokens or 1) <= each.max_output
        and (not only or bool(only & names(each)))
        and not ignore & names(each)
        and (asked.allow_fallbacks or not order or bool(order & names(each)))
        and (not asked.zdr or each.provider.data_policy == "zero-retention")
        and (not asked.no_collection or each.provider.data_policy in ("zero-retention", "no-training"))
        and (not asked.quantizations or each.quantization in asked.quantizations)
        and (
            not (asked.require_parameters and chat.parameters)
            or (each.parameters is not None and chat.parameters <= each.parameters)
        )
        and (most.prompt is None or price.input * factor <= most.prompt)
        and (most.completion is None or price.dearest_output * factor <= most.completion)
        and (not chat.free_only or pricing.worst(10**6, 10**6, each.price, MARKUP) == 1)
        and (not chat.allowed_models or {each.model.slug, f"{author}/*"} & set(chat.allowed_models))
        and (chat.max_cost_nanos is None or dearest * (1 + MARKUP) <= chat.max_cost_nanos)
    )


@settings(max_examples=60, deadline=None)
@given(data=st.data(), listing=selecting.listings(), chat=selecting.chats())
def test_targets_are_all_that_may_serve_and_nobody_else(data: st.DataObject, listing: Listing, chat: Chat):
    live = data.draw(selecting.lives(listing))
    draws = data.draw(st.tuples(st.floats(0, 0.999), st.sampled_from([0.0, 1.0])))
    pool = [e for few in listing.endpoints.values() for e in few if chat.model in ("auto", e.model.slug)]
    try:
        found = choose(listing, chat, live=live, draws=draws, markup=MARKUP)
    except Refusal as refusal:
        assert refusal.error_type == "no_endpoints"
        assert not [e.slug for e in pool if may_serve(e, chat, clamped=None)]
        return

    able = {e.slug for e in pool if may_serve(e, chat, clamped=found.max_tokens)}
    got = slugs(found)
    assert set(got) <= able and len(got) == len(set(got))
    assert found.decision.considered == len(able)
    if chat.providers.allow_fallbacks:
        assert min(8, len(able)) <= len(got) <= 16
    left_out = {entry["endpoint"] for entry in found.decision.as_data()["excluded"]}
    assert not left_out & set(got)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), listing=selecting.listings())
def test_who_is_down_lately_goes_last_and_is_tried_all_the_same(data: st.DataObject, listing: Listing):
    live = data.draw(selecting.lives(listing))
    resting = data.draw(st.frozensets(st.sampled_from(selecting.endpoint_slugs(listing)), max_size=3))
    preference = data.draw(st.sampled_from(["cost", "speed", "balanced", None]))

    found = choose(listing, Chat("auto", False, 10, preference=preference), live=live, resting=resting)

    every = selecting.endpoint_slugs(listing)
    worth = ["", "outage", "unhealthy", "resting"]
    states = [worth.index(target.marks.get("state", "")) for target in found.targets]
    assert min(8, len(every)) <= len(found.targets) <= 16 and states == sorted(states)
    for target, state in zip(found.targets, states, strict=True):
        vitals = live.vitals(target.endpoint.slug) or Vitals()
        down = vitals.healthy is False or vitals.recent.failures * 2 >= vitals.recent.attempts >= 5
        assert bool(state) == (down or target.endpoint.slug in resting)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), listing=selecting.listings())
def test_an_exploration_never_costs_more_than_the_choice_it_replaces(data: st.DataObject, listing: Listing):
    chat = data.draw(selecting.chats(providers=st.just(Preferences())))
    live, draw = data.draw(selecting.lives(listing)), data.draw(st.floats(0, 0.999))
    try:
        plain = choose(listing, chat, live=live, draws=(draw, 1.0))
    except Refusal:
        return
    found = choose(listing, chat, live=live, draws=(draw, 0.0))

    assert sorted(slugs(found)) == sorted(slugs(plain))
    if found.decision.strategy != "exploration":
        assert slugs(found) == slugs(plain) and not found.decision.replaced
        return
    first, replaced = found.targets[0], plain.targets[0]
    assert found.decision.replaced == replaced.endpoint.slug and first.marks["explored"]
    assert first.cost_nanos_predicted <= replaced.cost_nanos_predicted
    most = chat.max_tokens or max(each.endpoint.max_output for each in (first, replaced))
    worst = [
        pricing.worst(chat.prompt_tokens, most * chat.choices, each.endpoint.price, MARKUP)
        for each in (first, replaced)
    ]
    assert worst[0] <= worst[1]
    assert (live.vitals(first.endpoint.slug) or Vitals()).attempts < 3


# ── Demands and their words ──────────────────────────────────────────────────────────────────────


def refused(listing: Listing, chat: Chat, **more: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        choose(listing, chat, **more)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize(
    ("preferences", "reason"),
    [
        ({"only": frozenset({"nobody"})}, "provider.only: p0 is not nobody"),
        ({"ignore": frozenset({"P0"})}, "provider.ignore names p0"),
        ({"zdr": True}, "provider.zdr: the data policy of p0 is may-train"),
        ({"no_collection": True}, "provider.data_collection: the data policy of p0 is may-train"),
        ({"quantizations": frozenset({"bf16"})}, "provider.quantizations: it is fp8, not bf16"),
        ({"require_parameters": True}, "provider.require_parameters: does not honour seed"),
        (
            {"max_price": MaxPrice(completion=Decimal(10))},
            "provider.max_price: completion at $16.5 per million is above $10",
        ),
        (
            {"max_price": MaxPrice(prompt=Decimal("1.09"))},
            "provider.max_price: prompt at $1.1 per million is above $1.09",
        ),
    ],
)
def test_the_refusal_names_the_demand_and_the_figures(preferences: dict[str, object], reason: str):
    listing = listing_of(
        endpoint("p0", input="1", output="15", policy="may-train", quantization="fp8", parameters=frozenset())
    )
    chat = Chat("a/m0", False, 10, providers=Preferences(**preferences), parameters=frozenset({"seed"}))  # type: ignore[arg-type]
    error = refused(listing, chat, markup=MARKUP)

    assert (error.status, error.error_type) == (404, "no_endpoints")
    assert error.metadata["excluded"] == [{"endpoint": "p0:a/m0", "reason": reason}]
    assert error.param == reason.partition(":")[0].partition(" ")[0] == error.metadata["constraint"]
    assert reason in error.message


def test_the_refusal_names_the_demand_that_left_out_the_most():
    listing = listing_of(
        endpoint("p0", policy="may-train"), endpoint("p1"), endpoint("p2", policy="zero-retention")
    )
    error = refused(listing, wanting(zdr=True, ignore=frozenset({"p2"})))

    assert "provider.zdr leaves out 2 of 3 (p0:a/m0: provider.zdr: " in error.message
    assert error.metadata["constraints"] == {"provider.ignore": 1, "provider.zdr": 2}


def test_only_that_names_nobody_says_so():
    error = refused(THREE, wanting(only=frozenset({"openia"})))

    assert "No provider here is called openia." in error.message
    assert error.metadata["unknown_providers"] == ["openia"]


def test_a_price_within_the_bound_of_its_own_tier_serves():
    tiered = {"tiers": [{"above": 1000, "input": "9", "output": "9"}]}
    listing = listing_of(endpoint("p0", prices=tiered), endpoint("p1", input="5", output="5"))
    most = Preferences(max_price=MaxPrice(prompt=Decimal(5)))

    def able(prompt_tokens: int) -> set[str]:
        return set(providers(choose(listing, Chat("a/m0", False, prompt_tokens, providers=most))))

    assert able(1000) == {"p0", "p1"} and able(1001) == {"p1"} and able(1000) == {"p0", "p1"}


def test_what_is_free_is_free_in_every_tier_and_kind():
    listing = listing_of(
        endpoint("p0", input="0", output="0"),
        endpoint("p1", input="0", output="0", prices={"request": "0.01"}),
        endpoint("p2", input="0", output="0", prices={"reasoning": "1"}),
        endpoint("p3", input="0", output="0", prices={"tiers": [{"above": 10, "input": "1"}]}),
    )

    assert providers(choose(listing, Chat("a/m0", False, 5, free_only=True))) == ["p0"]


def test_an_output_cap_alone_never_refuses():
    listing = listing_of(
        endpoint("p0", max_output=100), endpoint("p1", max_output=4000), endpoint("p2", max_output=4000)
    )
    found = choose(listing, Chat("a/m0", False, 10, max_tokens=9000))

    assert found.max_tokens == 4000 and set(providers(found)) == {"p1", "p2"}
    assert found.decision.reason.endswith("; max_tokens lowered to its cap of 4000")
    assert found.decision.as_data()["max_tokens_lowered_to"] == 4000
    assert choose(listing, Chat("a/m0", False, 10, max_tokens=4000)).max_tokens is None
    assert "do not fit its context" in refused(listing, Chat("a/m0", False, 10_000, max_tokens=9000)).message


def test_parameters_that_others_honour_put_last_who_does_not():
    some = frozenset({"seed"})
    listing = listing_of(
        endpoint("p0", parameters=frozenset()),
        endpoint("p1", input="2", parameters=some),
        endpoint("p2", input="3"),
    )
    chat = Chat("a/m0", False, 10, parameters=some)
    found = choose(listing, chat)

    assert providers(found) == ["p1", "p2", "p0"]
    assert found.targets[2].marks["missed"] == "does not honour seed"
    nobody = Chat("a/m0", False, 10, parameters=frozenset({"logprobs"}))
    assert providers(choose(listing, nobody)) == ["p0", "p1", "p2"]


def test_allowed_models_of_a_request_narrow_auto_and_the_models_it_names():
    listing = listing_of(endpoint("p0", "a/m0"), endpoint("p0", "b/m1"), endpoint("p0", "b/m2"))
    models = ("a/m0", "b/*")

    assert set(slugs(choose(listing, Chat("auto", False, 9, allowed_models=("b/*",))))) == {
        "p0:b/m1",
        "p0:b/m2",
    }
    found = choose(listing, Chat("a/m0", False, 9, fallback_models=("b/m1",), allowed_models=("b/m1",)))
    assert slugs(found) == ["p0:b/m1"]
    assert "a/m0 is not among them" in str(found.decision.as_data()["excluded"])
    assert set(slugs(choose(listing, Chat("auto", False, 9, allowed_models=("b/m*",))))) == set(
        slugs(choose(listing, Chat("auto", False, 9, allowed_models=("b/*",))))
    )
    assert refused(listing, Chat("auto", False, 9, allowed_models=("c/*",))).param == "allowed_models"
    for asked in ("auto", *models[:1], "b/m2"):
        route.choose(Chat(asked, False, 9), listing=listing, live=Live(), allowed_models=models, now=0)
    with pytest.raises(Refusal, match="not among the key's allowed models"):
        route.choose(Chat("b/m1", False, 9), listing=listing, live=Live(), allowed_models=("a/*",), now=0)


def test_models_are_tried_in_order_unless_they_are_ranked_together():
    listing = listing_of(
        endpoint("p0", "a/m0", input="9"), endpoint("p0", "b/m1"), endpoint("p1", "b/m1", input="3")
    )
    models = ("b/m1", "a/m0")

    apart = Chat("a/m0", False, 9, fallback_models=models, providers=Preferences(sort="price"))
    assert slugs(choose(listing, apart)) == ["p0:a/m0", "p0:b/m1", "p1:b/m1"]
    together = Preferences(sort="price", across_models=True)
    found = choose(listing, Chat("a/m0", False, 9, fallback_models=models, providers=together))
    assert slugs(found) == ["p0:b/m1", "p1:b/m1", "p0:a/m0"]


# ── Wishes ───────────────────────────────────────────────────────────────────────────────────────


def test_who_misses_a_wish_goes_last_and_says_which():
    live = knowing(p1=Vitals(ttft_seconds=Percentiles(0.2, 0.5, 2.5, 4.0)))
    chat = wanting(max_latency=Wished(p90=1.0))
    found = choose(THREE, chat, live=live)

    assert providers(found) == ["p2", "p0", "p1"]
    assert found.targets[2].marks["missed"] == "provider.preferred_max_latency: p90 of 2.5 s is above 1 s"
    live.learn(knowing(p1=Vitals(ttft_seconds=Percentiles(0.2, 0.3, 0.9, 4.0))).snapshot)
    assert providers(choose(THREE, chat, live=live)) == ["p1", "p2", "p0"]


def test_a_wish_is_held_against_the_catalog_where_nobody_has_measured():
    listing = listing_of(endpoint("p0", pace=20), endpoint("p1", input="5", pace=80))
    found = choose(listing, wanting(min_throughput=Wished(p50=50)))

    assert providers(found) == ["p1", "p0"]
    missed = "provider.preferred_min_throughput: p50 of 20 tokens/s is below 50"
    assert found.decision.as_data()["candidates"][1]["missed"] == missed


def test_a_parameter_that_nobody_honours_hides_none_that_some_do():
    some = frozenset({"seed"})
    listing = listing_of(
        endpoint("p0", parameters=frozenset()), endpoint("p1", input="9", output="9", parameters=some)
    )
    chat = Chat("a/m0", False, 100, max_tokens=100, parameters=frozenset({"seed", "top_a"}))

    assert providers(choose(listing, chat)) == ["p1", "p0"]


def test_long_names_in_a_request_are_not_kept_once_for_each_endpoint_that_they_leave_out():
    names = frozenset(f"{number}{'y' * 190}" for number in range(90))
    others = [endpoint(f"p{number}") for number in range(1, 40)]
    listing = listing_of(endpoint("p0"), *others)

    decision = choose(listing, wanting(only=names | {"p0"})).decision
    assert decision.left_out[0].number == 39
    assert len(msgspec.json.encode(decision.as_data())) < 8_000


def test_what_is_kept_of_a_hostile_customers_lengths_and_models_is_bounded():
    listing = listing_of(*(endpoint(f"p{number}") for number in range(600)))
    live = Live()
    for length in range(1, 200):
        chat = Chat("a/m0", False, 100, max_tokens=length, preference="balanced")
        route.choose(chat, listing=listing, live=live, allowed_models=(), now=0.0)
    (wide,) = listing.derived["pools"].values()
    assert len(wide._timed) <= pool.MOST_LENGTHS
    for turn in range(100):
        route.choose(
            Chat("auto", False, 100), listing=listing, live=live, allowed_models=(f"x{turn}", "a/*"), now=0.0
        )
    kept = listing.derived["pools"].values()
    assert sum(len(each.endpoints) for each in kept) <= pool.MOST_WIDE


def test_a_server_of_our_own_fetches_nothing_for_customers_and_documents_go_where_they_have_no_price():
    near, far = endpoint("p0"), endpoint("p1")
    near = replace(near, provider=replace(near.provider, own_network=True))
    far = replace(far, provider=replace(far.provider, quirks=frozenset({"bills_files"})))
    both = listing_of(near, far)

    def served(*needs: str) -> list[str]:
        return sorted(slugs(choose(both, Chat("a/m0", False, 100, needs=frozenset(needs)))))

    assert served() == ["p0:a/m0", "p1:a/m0"]
    assert served("remote_media") == ["p1:a/m0"] and served("files") == ["p0:a/m0"]
    with pytest.raises(Refusal, match="send data: URLs"):
        choose(listing_of(near), Chat("a/m0", False, 100, needs=frozenset({"remote_media"})))
