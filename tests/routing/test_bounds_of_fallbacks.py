"""What a call holds for the target that takes over: its own worst case, within `max_cost`. Pure."""

from __future__ import annotations

import uuid
from decimal import Decimal

from accounts.core import roles
from accounts.core.principal import Principal
from billing.plans import Terms
from routing.call import FIRST_SLICE, Call
from routing.core.chat import Chat
from routing.core.decision import Decision, Target
from routing.core.listing import Endpoint
from routing.core.route import Route
from tests.routing.selecting import endpoint

PRINCIPAL = Principal(1, "org", 1, "key", 1, roles.INFERENCE)
TERMS = Terms(1, "free", Decimal("0.05"), 1)


def call(chat: Chat, *endpoints: Endpoint) -> Call:
    targets = tuple(Target(each, 1, 1.0, 1.0) for each in endpoints)
    decision = Decision("a/m0", "default", endpoints[0].slug, "", "weighted", 2, targets, ())
    made = Call(
        chat=chat,
        principal=PRINCIPAL,
        terms=TERMS,
        accounts=(),
        route=Route(targets, decision),
        id=uuid.uuid4(),
    )
    made.bound = made.first_bound()
    return made


def test_a_fallback_that_writes_more_is_held_for_all_that_it_writes():
    made = call(Chat("a/m0", False, 100), endpoint("p0", max_output=400), endpoint("p1", max_output=4000))
    other = made.route.targets[1]
    assert made.bound == 400 and made.bound_at(other) == 4000

    made.go_to(other)
    assert made.bound == 4000 and made.clamp is None and not made.growing


def test_a_stream_that_falls_back_to_one_that_writes_more_grows_there():
    made = call(Chat("a/m0", True, 100), endpoint("p0", max_output=400), endpoint("p1", max_output=4000))
    assert made.bound == 400 and not made.growing

    made.go_to(made.route.targets[1])
    assert made.bound == FIRST_SLICE and made.growing and made.most() == 4000


def test_max_cost_bounds_a_stream_of_a_dearer_fallback_to_its_end():
    chat = Chat("a/m0", True, 100, max_cost_nanos=4_000_000)
    made = call(chat, endpoint("p0", output="1"), endpoint("p1", output="2"))
    assert made.most() == 3709
    made.go_to(made.route.targets[1])

    assert made.worst(made.target, made.most()) <= 4_000_000 < made.worst(made.target, made.most() + 10)
    assert made.clamp == made.most() and made.growing


def test_a_fallback_of_which_max_cost_pays_for_no_call_is_not_tried():
    chat = Chat("a/m0", False, 100, max_cost_nanos=1_000_000)
    made = call(chat, endpoint("p0"), endpoint("p1", output="900"))
    assert made.bound_at(made.route.targets[1]) == 0

    bounded = Chat("a/m0", False, 100, max_tokens=500, max_cost_nanos=1_000_000)
    made = call(bounded, endpoint("p0"), endpoint("p1", output="3"))
    assert made.bound == 500 and made.bound_at(made.route.targets[1]) == 0
