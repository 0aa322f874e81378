"""What an organization's data policy leaves, and that a request can only narrow it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.core.principal import DataPolicy
from aggregator.lib.errors import Refusal
from routing.core import reach
from routing.core.chat import Chat
from routing.core.conversations import Warm
from routing.core.listing import Endpoint, Listing
from tests.routing import selecting
from tests.routing.selecting import PROVIDERS, choose, endpoint, listing_of, providers, slugs, wanting

POLICIES = st.builds(
    DataPolicy,
    no_training=st.booleans(),
    zero_retention=st.booleans(),
    only=st.none() | st.frozensets(st.sampled_from(PROVIDERS)),
    ignore=st.frozensets(st.sampled_from(PROVIDERS), max_size=2),
)


def allows(policy: DataPolicy, each: Endpoint) -> bool:
    does, slug = each.provider.data_policy, each.provider.slug
    return (
        (not policy.zero_retention or does == "zero-retention")
        and (not policy.no_training or does in ("zero-retention", "no-training"))
        and (policy.only is None or slug in policy.only)
        and slug not in policy.ignore
    )


def routed(listing: Listing, chat: Chat, policy: DataPolicy | None) -> set[str]:
    """Every endpoint that may be tried; none where the request is refused."""
    try:
        return set(slugs(choose(listing, chat, policy=policy)))
    except Refusal as refusal:
        assert refusal.error_type == "no_endpoints"
        return set()


@settings(max_examples=60, deadline=None)
@given(listing=selecting.listings(), chat=selecting.chats(), policy=POLICIES)
def test_no_request_reaches_an_endpoint_that_the_policy_leaves_out(listing, chat, policy):
    every = {each.slug: each for few in listing.endpoints.values() for each in few}

    assert all(allows(policy, every[slug]) for slug in routed(listing, chat, policy))


@settings(max_examples=40, deadline=None)
@given(listing=selecting.listings(), policy=POLICIES)
def test_what_the_page_counts_is_what_can_be_reached(listing, policy):
    found = reach.of(listing, policy, before=DataPolicy())

    plain = [Chat(slug, False, 10) for slug in listing.endpoints]
    reached = [routed(listing, chat, policy) for chat in plain]
    assert found.endpoints == sum(map(len, reached)) and found.models == sum(map(bool, reached))
    assert list(found.lost) == sorted(
        chat.model for chat, slugs in zip(plain, reached, strict=True) if not slugs
    )
    assert (found.percent == 0) == (not found.endpoints)


TWO = listing_of(
    endpoint("p0", input="1", output="1", policy="may-train"),
    endpoint("p1", input="2", output="2", policy="zero-retention"),
)


def test_a_request_narrows_the_policy_and_cannot_widen_it():
    policy = DataPolicy(no_training=True)
    assert providers(choose(TWO, wanting(), policy=policy)) == ["p1"]

    for wish in ({"only": frozenset({"p0"})}, {"order": ("p0",), "allow_fallbacks": False}):
        with pytest.raises(Refusal) as refused:
            choose(TWO, wanting(**wish), policy=policy)
        assert refused.value.status == 404
        assert refused.value.metadata["constraints"]["data_policy.no_training"] == 1


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (DataPolicy(zero_retention=True, ignore=frozenset({"p1"})), "data_policy.zero_retention"),
        (DataPolicy(only=frozenset({"p9"})), "data_policy.only"),
        (DataPolicy(ignore=frozenset({"p0", "p1"})), "data_policy.ignore"),
    ],
)
def test_the_refusal_says_which_rule_of_the_policy_leaves_nobody(policy, field):
    with pytest.raises(Refusal) as refused:
        choose(TWO, wanting(), policy=policy)

    assert refused.value.error_type == "no_endpoints" and field in refused.value.metadata["constraints"]
    assert "organization's data policy" in refused.value.message


def test_the_decision_names_the_policy_for_each_endpoint_that_it_left_out():
    data = choose(TWO, wanting(), policy=DataPolicy(ignore=frozenset({"p0"}))).decision.as_data()

    assert data["excluded"] == [
        {"endpoint": "p0:a/m0", "reason": "organization's data policy (ignore): p0 is left out"}
    ]


def test_a_warm_cache_or_an_exploration_leads_to_nobody_who_is_left_out():
    policy = DataPolicy(ignore=frozenset({"p0"}))
    for draws in ((0.0, 0.0), (0.99, 0.0)):
        found = choose(TWO, wanting(), policy=policy, draws=draws, warm=Warm("p0:a/m0", 1.0, 10**6))
        assert providers(found) == ["p1"]
