"""Who is drawn for a named model, and what an order or a sort of the customer's puts in its place."""

from __future__ import annotations

import pytest

from routing.core import route
from routing.core.chat import Chat
from routing.core.listing import Endpoint
from routing.core.live import Live
from routing.core.preferences import Preferences
from routing.core.vitals import Recent, Vitals
from tests.bench.choose import make_listing
from tests.routing.selecting import THREE, choose, endpoint, knowing, listing_of, providers, wanting

# ── The draw ─────────────────────────────────────────────────────────────────────────────────────

NAMED = Chat("a/m0", False, 100, max_tokens=100)


def test_a_named_model_is_drawn_by_the_inverse_square_of_its_price():
    rounds = 4900
    counts = dict.fromkeys(("p0", "p1", "p2"), 0)
    for at in range(rounds):
        counts[providers(choose(THREE, NAMED, draws=((at + 0.5) / rounds, 1.0)))[0]] += 1

    # 1 : 1/4 : 1/9 is 36 : 9 : 4 of 49
    assert counts == {"p1": 3600, "p2": 900, "p0": 400}


def test_after_the_draw_the_others_follow_by_falling_weight():
    assert providers(choose(THREE, NAMED, draws=(0.0, 1.0))) == ["p1", "p2", "p0"]
    assert providers(choose(THREE, NAMED, draws=(0.8, 1.0))) == ["p2", "p1", "p0"]
    assert providers(choose(THREE, NAMED, draws=(0.999, 1.0))) == ["p0", "p1", "p2"]

    data = choose(THREE, NAMED, draws=(0.8, 1.0)).decision.as_data()
    assert [each["weight"] for each in data["candidates"]] == [0.1837, 0.7347, 0.0816]
    assert (data["strategy"], data["preference"]) == ("weighted", "default")
    assert data["reason"] == "drawn by price among 3: 18% of such calls go here, $0.0004 predicted"


def test_only_the_healthy_are_drawn():
    live = knowing(p1=Vitals(recent=Recent(attempts=10, failures=5)), p2=Vitals(healthy=False))

    for draw in (0.0, 0.5, 0.99):
        assert providers(choose(THREE, NAMED, live=live, draws=(draw, 1.0))) == ["p0", "p1", "p2"]
    reason = choose(THREE, NAMED, live=live).decision.reason
    assert reason.endswith("; 2 put last after failures")


def test_an_outage_that_others_saw_does_not_hide_an_endpoint_that_this_worker_watches_itself():
    live = knowing(p1=Vitals(recent=Recent(attempts=10, failures=10)))

    assert providers(choose(THREE, NAMED, live=live)) == ["p2", "p0", "p1"]
    due = choose(THREE, NAMED, live=live, watched={"p1:a/m0"})  # its own circuit wants a probe
    assert providers(due) == ["p1", "p2", "p0"]
    assert "state" not in due.targets[0].marks and "put last" not in due.decision.reason
    resting = choose(THREE, NAMED, live=live, watched={"p1:a/m0"}, resting={"p1:a/m0"})
    assert providers(resting) == ["p2", "p0", "p1"]
    assert resting.targets[2].marks["state"] == "resting"


def test_when_all_look_down_all_are_tried():
    live = knowing(**{name: Vitals(healthy=False) for name in ("p0", "p1", "p2")})

    assert providers(choose(THREE, NAMED, live=live)) == ["p1", "p2", "p0"]


def test_a_free_endpoint_is_nearly_always_drawn_and_nothing_is_divided_by_zero():
    listing = listing_of(endpoint("p0", input="0", output="0"), endpoint("p1", input="1", output="1"))

    assert providers(choose(listing, NAMED, draws=(0.9999, 1.0))) == ["p0", "p1"]


def test_whoever_states_a_preference_is_not_drawn():
    chat = Chat("a/m0", False, 100, preference="cost")

    assert {providers(choose(THREE, chat, draws=(draw, 1.0)))[0] for draw in (0.0, 0.5, 0.999)} == {"p1"}


# ── Order and sort ───────────────────────────────────────────────────────────────────────────────


def test_an_order_comes_before_everything_but_failures():
    chat = wanting(order=("p0", "nobody", "P2"))
    found = choose(THREE, chat, draws=(0.5, 1.0))

    assert providers(found) == ["p0", "p2", "p1"]
    assert found.decision.strategy == "order"
    assert found.decision.reason.startswith("first in provider.order of 3: $")
    assert found.decision.as_data()["unknown_providers"] == ["nobody"]
    assert providers(choose(THREE, chat, live=knowing(p0=Vitals(healthy=False)))) == ["p2", "p1", "p0"]


def test_an_order_may_name_an_endpoint():
    assert providers(choose(THREE, wanting(order=("p2:a/m0",)))) == ["p2", "p1", "p0"]


def test_an_order_without_fallbacks_is_all_there_is():
    found = choose(THREE, wanting(order=("p2", "p0"), allow_fallbacks=False))

    assert providers(found) == ["p2", "p0"]
    assert found.decision.as_data()["excluded"] == [
        {
            "endpoint": "p1:a/m0",
            "reason": "provider.allow_fallbacks is false and p1 is not in provider.order",
        }
    ]


def test_without_fallbacks_only_the_first_is_tried():
    assert providers(choose(THREE, wanting(allow_fallbacks=False), draws=(0.8, 1.0))) == ["p2"]


def test_a_sort_is_never_drawn():
    listing = listing_of(
        endpoint("p0", input="1", ttft=0.5, pace=50),
        endpoint("p1", input="2", ttft=0.1, pace=100),
        endpoint("p2", input="3", ttft=0.3, pace=200),
    )
    for sort, order in (
        ("price", ["p0", "p1", "p2"]),
        ("throughput", ["p2", "p1", "p0"]),
        ("latency", ["p1", "p2", "p0"]),
    ):
        for draw in (0.0, 0.9):
            found = choose(listing, wanting(sort=sort), draws=(draw, 0.0))
            assert providers(found) == order and found.decision.strategy == "sort"
    assert found.decision.reason.startswith("lowest latency of 3: $")


@pytest.mark.parametrize("sort", ["price", "throughput", "latency"])
def test_a_sort_of_a_thousand_endpoints_finds_the_same_as_sorting_all(sort: str):
    listing = make_listing(1000)
    chat = Chat("auto", False, 700, providers=Preferences(sort=sort))
    got = route.choose(chat, listing=listing, live=Live(), allowed_models=(), now=0)

    def value(e: Endpoint) -> float:
        if sort == "price":
            return float(e.price.rates.input * 700 + e.price.rates.output * 300)
        return e.ttft_seconds if sort == "latency" else -e.tokens_per_second

    every = sorted(value(e) for few in listing.endpoints.values() for e in few)
    assert [value(target.endpoint) for target in got.targets] == every[:16]
