"""The oracle itself, on worlds and calls that are written down here: what it must find is planted."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.scenarios import oracle, worlds
from tests.scenarios.oracle import Attempt, Verdict
from tests.scenarios.worlds import HELD_OUT, KINDS, PREFERENCES, SEEDS, Event, Place, World, weigh

CHEAP = Place("a", "p-a", "m", "m", Decimal("0.3"), Decimal("0.9"), 300, 100, 300, 100)
QUICK = Place("b", "p-b", "m", "m", Decimal("3"), Decimal("9"), 40, 1000, 40, 1000)
EVEN = Place("c", "p-c", "m", "m", Decimal("0.5"), Decimal("1.5"), 80, 500, 80, 500)


def world(preference: str, *events: Event) -> World:
    return World("outage", preference, 1, False, (CHEAP, QUICK, EVEN), events, 20.0)


def judged(found: World, where: Callable[[float], str], *, each: float = 0.25) -> Verdict:
    """A call every `each` seconds: `where(at)` names the places that it tried, failed ones in capitals."""
    labels, attempts = {}, []
    for number in range(int(found.seconds / each)):
        at = number * each
        tried = where(at)
        labels[str(number)] = at, tried[-1].islower()
        attempts += [
            Attempt(str(number), f"p-{letter.lower()}", at, "complete" if letter.islower() else "refused")
            for letter in tried
        ]
    return oracle.judge(found, labels, attempts)


def _always(letter: str) -> Callable[[float], str]:
    return lambda _: letter


@pytest.mark.parametrize(
    ("preference", "right"), [("cost", "a"), ("speed", "b"), ("balanced", "c"), ("default", "abc")]
)
def test_each_preference_has_its_own_best(preference: str, right: str):
    for letter in "abc":
        verdict = judged(world(preference), _always(letter))
        assert oracle.figures([verdict]).right == float(letter in right)


def test_what_is_down_is_not_to_be_called_and_is_to_be_called_again_at_once():
    down = world("cost", Event(CHEAP, 5.0, 5.0, failure=1.0))

    perfect = judged(down, lambda at: "c" if 5 <= at < 10 else "a")
    late = judged(down, lambda at: "Ac" if 5 <= at < 7 else "c" if 7 <= at < 14 else "a")
    blind = judged(down, lambda at: "Ac" if 5 <= at < 10 else "a")

    assert oracle.figures([perfect]).right == 1.0
    assert perfect.converged == {0.0: 0.0, 5.0: 0.0, 10.0: 0.0}
    assert late.converged == {0.0: 0.0, 5.0: 2.0, 10.0: 4.0}
    found = oracle.figures([late])
    assert (found.struck, found.healed, found.never) == ((2.0,), (4.0,), 0)
    assert (found.right, found.served, found.success) == (1 - 24 / 80, 1 - 16 / 80, 1.0)
    assert found.amplification == 1 + 8 / 80
    assert found.settled == 1 - 4 / 44  # of what was late, one second lies outside the grace
    assert blind.converged[5.0] is None and oracle.figures([blind]).never == 1


def test_a_price_that_changes_moves_the_cheapest_and_the_regret_says_by_how_much():
    dearer = world("cost", Event(CHEAP, 10.0, None, dearer=2.5))

    verdict = judged(dearer, lambda _: "a")

    assert [call.right for call in verdict.calls] == [True] * 40 + [False] * 40
    assert verdict.calls[-1].regret == pytest.approx(2.5 * 0.3 / 0.5 - 1)


def test_one_that_is_slow_is_no_longer_the_fastest_but_as_cheap_as_before():
    slow = Event(QUICK, 10.0, None, slowdown=5)

    assert oracle.figures([judged(world("speed", slow), lambda at: "b" if at < 10 else "c")]).right == 1.0
    slow_and_cheap = Event(CHEAP, 10.0, None, slowdown=5)
    assert oracle.figures([judged(world("cost", slow_and_cheap), lambda _: "a")]).right == 1.0


def test_beyond_its_capacity_the_next_best_is_right_and_it_need_not_be_left_alone_before():
    limited = world("cost", Event(CHEAP, 0.0, None, capacity=2))

    filled = judged(limited, lambda at: "a" if at % 1 < 0.5 else "c")
    shy = judged(limited, lambda _: "c")
    pushed = judged(limited, lambda at: "a" if at % 1 < 0.5 else "Ac")

    assert oracle.figures([filled]).right == 1.0
    assert oracle.figures([shy]).right == 0.0 and shy.calls[9].regret > 0.5
    assert oracle.figures([pushed]).right == 0.5 and oracle.figures([pushed]).amplification == 1.5


def test_a_call_that_no_provider_saw_is_wrong_and_one_that_failed_is_no_success():
    lost = judged(world("cost"), lambda at: "a" if at < 10 else "A")

    assert oracle.figures([lost]).success == 0.5
    verdict = oracle.judge(world("cost"), {"1": (0.0, False)}, [])
    assert [(call.right, call.whole, call.attempts) for call in verdict.calls] == [(False, False, 0)]


def test_the_default_is_held_against_the_inverse_squares_of_prices():
    costs = [place.cost**-2 for place in (CHEAP, QUICK, EVEN)]
    meant = [cost / sum(costs) for cost in costs]

    def spread_out(at: float) -> str:
        part = (at / 0.25 * 0.618034) % 1  # evenly over 0..1
        return "a" if part < meant[0] else "c" if part < meant[0] + meant[2] else "b"

    assert judged(world("default"), spread_out).spread < 0.05
    assert judged(world("default"), lambda _: "b").spread > 0.9


def test_a_world_is_drawn_by_its_seed_alone_and_its_change_strikes_the_best():
    for kind, preference in itertools.product(KINDS, PREFERENCES):
        found = worlds.draw(kind, preference, 3)
        assert found == worlds.draw(kind, preference, 3) != worlds.draw(kind, preference, 4)
        best = min(found.places, key=lambda place: weigh(place, preference))
        assert found.events[0].place == best
        assert found.changes[0] == 0.0 and max(found.changes) < found.seconds - 2
    assert not set(SEEDS) & set(HELD_OUT)
