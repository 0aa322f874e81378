"""A conversation stays where its prompt cache is warm, as far as that is cheaper and the endpoint is well."""

from __future__ import annotations

import pytest

from billing.core.usage import Usage
from routing.core import conversations
from routing.core.chat import Chat
from routing.core.conversations import LONG_SECONDS, SECONDS, Conversations, Warm
from routing.core.preferences import Preferences
from routing.core.vitals import Vitals
from tests.routing.selecting import choose, endpoint, knowing, listing_of, providers

CACHING = endpoint("p1", input="2", prices={"cache_read": "0.2"})
PLAIN = endpoint("p0", input="1")
LISTING = listing_of(PLAIN, CACHING)
TALK = Chat("a/m0", False, 1000, max_tokens=10, continued=True, conversation=b"h12345678")
WARM = Warm("p1:a/m0", 900, 10.0)
HIT, MISS = Usage(input=100, cache_read=900, output=10), Usage(input=1000, output=10)
DERIVED, NAMED = (1, "a/m0", b"h1"), (1, "a/m0", b"s1")


def test_a_talk_goes_on_where_its_cache_is_warm():
    for draw in (0.0, 0.999):
        found = choose(LISTING, TALK, warm=WARM, draws=(draw, 0.0))
        assert providers(found) == ["p1", "p0"]
        assert found.decision.strategy == "sticky"
        assert found.targets[0].marks["sticky"] is True
    # 100 tokens at $2, 900 at $0.2, 10 written at $1, in nanos
    assert found.targets[0].cost_nanos_predicted == 100 * 2000 + 900 * 200 + 10 * 1000
    assert found.decision.reason == "where this conversation's prompt cache is warm: $0.00039 predicted"


@pytest.mark.parametrize("preference", ["cost", "balanced"])
def test_a_preference_keeps_it_for_what_it_saves_and_no_longer(preference: str):
    def first(seen: int) -> str:
        chat = Chat(
            "a/m0", False, 1000, max_tokens=10, conversation=b"h1", continued=True, preference=preference
        )
        return providers(choose(LISTING, chat, warm=Warm("p1:a/m0", seen, 10.0)))[0]

    assert first(900) == "p1" and first(100) == "p0"


def test_it_leaves_an_endpoint_that_is_down_or_gone_or_was_not_asked_for():
    assert providers(choose(LISTING, TALK, warm=WARM, resting={"p1:a/m0"}))[0] == "p0"
    assert providers(choose(LISTING, TALK, warm=WARM, live=knowing(p1=Vitals(healthy=False))))[0] == "p0"
    assert providers(choose(listing_of(PLAIN), TALK, warm=WARM)) == ["p0"]
    ordered = Chat("a/m0", False, 1000, conversation=b"h1", providers=Preferences(order=("p0",)))
    found = choose(LISTING, ordered, warm=WARM)
    assert providers(found) == ["p0", "p1"] and "sticky" not in found.targets[1].marks


def test_what_a_cache_is_expected_to_hold_makes_a_talk_cheaper_but_not_a_first_turn():
    live = knowing(p1=Vitals(cache_hit_share=0.9))
    going = Chat("a/m0", False, 1000, max_tokens=10, continued=True, preference="cost")
    first = Chat("a/m0", False, 1000, max_tokens=10, preference="cost")

    found = choose(LISTING, going, live=live)
    assert providers(found) == ["p1", "p0"] and found.targets[0].cost_nanos_predicted == 390_000
    assert providers(choose(LISTING, first, live=live)) == ["p0", "p1"]


def test_a_derived_conversation_is_kept_after_a_hit_and_a_named_one_after_any_answer():
    kept = Conversations()
    kept.answered(DERIVED, CACHING, MISS, now=0.0)
    kept.answered(NAMED, CACHING, MISS, now=0.0)
    assert kept.warm(DERIVED, 1.0) is None
    assert kept.warm(NAMED, 1.0) == ("p1:a/m0", 1010, SECONDS)

    kept.answered(DERIVED, CACHING, HIT, now=2.0)
    assert kept.warm(DERIVED, 3.0) == ("p1:a/m0", 1010, 2.0 + SECONDS)
    kept.answered(DERIVED, CACHING, MISS, now=4.0)  # somebody else's prefix was read in between
    assert kept.warm(DERIVED, 5.0) == ("p1:a/m0", 1010, 4.0 + SECONDS)


def test_nothing_is_kept_where_reading_the_cache_costs_as_much():
    kept = Conversations()
    kept.answered(NAMED, CACHING, HIT, now=0.0)
    kept.answered(NAMED, PLAIN, HIT, now=1.0)

    assert kept.warm(NAMED, 2.0) is None


def test_it_is_forgotten_when_the_cache_is_cold():
    kept = Conversations()
    kept.answered(NAMED, CACHING, HIT, now=0.0)

    assert kept.warm(NAMED, SECONDS - 1) and kept.warm(NAMED, SECONDS) is None
    assert len(kept) == 0


def test_what_was_written_for_an_hour_is_kept_for_an_hour_and_from_each_use_on():
    kept = Conversations()
    kept.answered(DERIVED, CACHING, Usage(cache_write_1h=900, output=10), now=0.0)
    assert kept.warm(DERIVED, LONG_SECONDS - 1)

    kept.answered(DERIVED, CACHING, HIT, now=600.0)
    assert kept.warm(DERIVED, 600.0 + LONG_SECONDS - 1)


def test_a_failure_lets_a_conversation_go_and_only_from_where_it_happened():
    kept = Conversations()
    kept.answered(NAMED, CACHING, HIT, now=0.0)

    kept.failed(NAMED, PLAIN.slug)
    assert kept.warm(NAMED, 1.0)
    kept.failed(NAMED, CACHING.slug)
    assert kept.warm(NAMED, 1.0) is None


def test_the_oldest_give_way(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(conversations, "MOST", 2)
    kept = Conversations()
    names = [(1, "a/m0", b"s%d" % number) for number in range(3)]
    for name in (names[0], names[1], names[0], names[2]):
        kept.answered(name, CACHING, HIT, now=0.0)

    assert [bool(kept.warm(name, 1.0)) for name in names] == [True, False, True]


def test_one_conversation_draws_alike_everywhere_and_many_draw_evenly():
    draws = [conversations.draw(b"h%d" % number) for number in range(4000)]

    assert conversations.draw(b"h7") == draws[7]
    assert all(0 <= each < 1 for each in draws)
    assert abs(sum(draws) / len(draws) - 0.5) < 0.02
