"""When an endpoint rests after failures, and what brings it back. Virtual time: nothing here waits."""

from __future__ import annotations

import random

import pytest

from routing.core import failures
from routing.core.circuits import (
    FAILURES_TO_OPEN,
    LONG_OPEN_SECONDS,
    MOST_OPEN_SECONDS,
    OPEN_GROWTH,
    OPEN_SECONDS,
    PROBE_SECONDS,
    RELAPSE_OPEN_SECONDS,
    TIMEOUT_OPEN_SECONDS,
    Circuits,
)
from routing.core.failures import MOST_RATE_LIMIT_SECONDS

LONGEST = 1.25
"""Jitter adds at most a quarter."""


@pytest.fixture
def circuits():
    return Circuits(random.Random(1))


def fail(circuits, now, *, times=FAILURES_TO_OPEN, kind=failures.SERVER_ERROR, began=None, **more):
    for _ in range(times):
        circuits.failed("e", kind, began=now if began is None else began, now=now, **more)


def probe(circuits, now, *, answered):
    """A call that is let through while the endpoint is due."""
    assert circuits.ready("e", now)
    circuits.begun("e", now)
    if answered:
        circuits.succeeded("e", began=now, now=now)
    else:
        fail(circuits, now, times=1)


def test_the_third_failure_in_a_row_opens(circuits):
    fail(circuits, 100, times=2)
    assert circuits.resting(100) == frozenset() and not circuits.sound("e", 100)

    fail(circuits, 100, times=1)

    assert circuits.resting(100) == {"e"} and not circuits.ready("e", 100)
    assert circuits.ready("another", 100) and circuits.sound("another", 100)


def test_an_answer_ends_a_row_of_failures(circuits):
    for _ in range(4):
        fail(circuits, 100, times=FAILURES_TO_OPEN - 1)
        for _ in range(12):  # fewer, and their share would open it
            circuits.succeeded("e", began=100, now=100)

    assert circuits.resting(100) == frozenset() and circuits.sound("e", 100)


def test_three_of_ten_attempts_open_though_no_three_failed_in_a_row(circuits):
    for turn in range(5):
        assert circuits.resting(100 + turn) == frozenset()
        fail(circuits, 100 + turn, times=1)
        circuits.succeeded("e", began=100 + turn, now=100 + turn)
    fail(circuits, 105, times=1)

    assert circuits.resting(105) == {"e"}


def test_failures_of_long_ago_have_no_part_in_the_share(circuits):
    for turn in range(20):
        fail(circuits, 100 + 20 * turn, times=1)
        circuits.succeeded("e", began=100 + 20 * turn, now=100 + 20 * turn)

    assert circuits.resting(100 + 20 * 20) == frozenset()


@pytest.mark.parametrize("kind", [failures.REJECTED, failures.DEADLINE, failures.FULL])
def test_what_is_not_the_providers_fault_opens_nothing(circuits, kind):
    fail(circuits, 100, times=50, kind=kind)

    assert circuits.resting(100) == frozenset() and circuits.sound("e", 100)


def test_when_its_time_is_over_one_call_goes_there_and_the_others_avoid_it(circuits):
    fail(circuits, 100)
    due = 100 + OPEN_SECONDS * LONGEST
    assert circuits.resting(100 + OPEN_SECONDS - 0.01) == {"e"}
    assert circuits.resting(due) == frozenset() and circuits.ready("e", due)

    circuits.begun("e", due)

    assert circuits.resting(due) == {"e"} and not circuits.ready("e", due)


def test_two_answers_close_and_one_does_not(circuits):
    fail(circuits, 100)
    probe(circuits, 110, answered=True)
    assert circuits.troubled and circuits.resting(110) == frozenset()

    circuits.begun("e", 110.5)
    assert circuits.resting(110.5) == {"e"}  # still one call at a time
    circuits.succeeded("e", began=110.5, now=111)

    assert not circuits.troubled and circuits.sound("e", 100)


def test_each_probe_that_fails_lengthens_the_rest_up_to_a_minute(circuits):
    fail(circuits, 100)
    now, rests = 100.0, []
    for _ in range(12):
        began = now
        while not circuits.ready("e", now):
            now += 0.25
        rests.append(now - began)
        probe(circuits, now, answered=False)

    assert OPEN_SECONDS <= rests[0] <= OPEN_SECONDS * LONGEST + 0.25
    second = OPEN_GROWTH * OPEN_SECONDS
    assert second <= rests[1] <= second * LONGEST + 0.25
    assert MOST_OPEN_SECONDS <= rests[11] <= MOST_OPEN_SECONDS * LONGEST + 0.25


def test_one_that_does_not_answer_in_time_rests_for_longer(circuits):
    fail(circuits, 100, kind=failures.TIMEOUT)

    assert circuits.resting(100 + TIMEOUT_OPEN_SECONDS - 0.1) == {"e"}
    assert circuits.ready("e", 100 + TIMEOUT_OPEN_SECONDS * LONGEST)


def test_rests_are_jittered():
    found = set()
    for seed in range(8):
        circuits, now = Circuits(random.Random(seed)), 100.0
        fail(circuits, 100)
        while not circuits.ready("e", now):
            now += 0.01
        found.add(round(now, 2))

    assert len(found) > 4


def test_an_answer_to_a_call_from_before_the_rest_does_not_end_it(circuits):
    fail(circuits, 100)
    for _ in range(10):
        circuits.succeeded("e", began=99, now=100 + OPEN_SECONDS * LONGEST)

    assert circuits.troubled


def test_a_failure_of_a_call_from_before_the_rest_does_not_lengthen_it(circuits):
    fail(circuits, 100)
    fail(circuits, 103, times=30, began=99)

    assert circuits.ready("e", 100 + OPEN_SECONDS * LONGEST)


def test_a_probe_that_hangs_gives_its_place_to_another(circuits):
    fail(circuits, 100)
    circuits.begun("e", 110)
    assert not circuits.ready("e", 110 + PROBE_SECONDS - 0.1)
    assert circuits.resting(110 + PROBE_SECONDS - 0.1) == {"e"}

    assert circuits.ready("e", 110 + PROBE_SECONDS) and circuits.resting(110 + PROBE_SECONDS) == frozenset()


@pytest.mark.parametrize("end", ["left", "rejected"])
def test_a_probe_that_tells_nothing_gives_its_place_back_at_once(circuits, end):
    fail(circuits, 100)
    circuits.begun("e", 110)
    if end == "left":
        circuits.left("e", began=110)
    else:
        fail(circuits, 110.5, times=1, kind=failures.REJECTED, began=110)

    assert circuits.ready("e", 110.6) and circuits.troubled


def test_when_all_rest_and_all_are_tried_answers_end_the_rest_early(circuits):
    """The endpoint is open, nobody was told to probe, and yet it answers again."""
    fail(circuits, 100)
    probe(circuits, 110, answered=False)
    probe(circuits, 125, answered=False)  # away for twenty seconds
    circuits.succeeded("e", began=126, now=126.1)
    circuits.succeeded("e", began=126, now=126.1)
    assert circuits.resting(126.2) == {"e"}  # not at once: it may flap

    for _ in range(2):
        circuits.succeeded("e", began=130.1, now=130.2)

    assert not circuits.troubled


def test_a_rate_limit_rests_for_as_long_as_it_asks_and_one_answer_ends_it(circuits):
    fail(circuits, 100, times=1, kind=failures.RATE_LIMITED, retry_after=7)
    assert circuits.resting(106.9) == {"e"} and circuits.resting(107) == frozenset()

    probe(circuits, 107, answered=True)

    assert not circuits.troubled and circuits.sound("e", 100)


def test_a_rate_limit_is_bounded_and_is_no_failure(circuits):
    fail(circuits, 100, times=50, kind=failures.RATE_LIMITED, retry_after=86_400)
    assert circuits.ready("e", 100 + MOST_RATE_LIMIT_SECONDS)

    probe(circuits, 200, answered=True)
    fail(circuits, 201, times=2)

    assert circuits.resting(201) == frozenset()


def test_a_wrong_key_rests_for_long_only_after_three_in_a_row(circuits):
    """One customer's flagged prompt may be a 403 as well."""
    fail(circuits, 100, times=2, kind=failures.CREDENTIALS)
    assert circuits.ready("e", 100)
    fail(circuits, 100, times=1, kind=failures.CREDENTIALS)

    assert circuits.resting(100 + LONG_OPEN_SECONDS - 1) == {"e"}


def test_failing_again_soon_after_it_came_back_rests_longer_than_the_first_time(circuits):
    fail(circuits, 100)
    probe(circuits, 110, answered=True)
    probe(circuits, 110, answered=True)
    fail(circuits, 112)

    assert circuits.resting(112 + RELAPSE_OPEN_SECONDS - 0.1) == {"e"}


def test_one_that_was_healthy_for_a_minute_begins_anew(circuits):
    fail(circuits, 100)
    probe(circuits, 110, answered=True)
    probe(circuits, 110, answered=True)
    circuits.succeeded("e", began=200, now=200)
    fail(circuits, 201)

    assert circuits.ready("e", 201 + OPEN_SECONDS * LONGEST)


@pytest.mark.parametrize("seed", range(5))
def test_one_that_flaps_changes_its_state_at_most_once_in_ten_seconds(seed):
    """Half of its calls fail, fifty a second, for ten minutes; there is a healthy second."""
    chance, circuits, now, tried = random.Random(seed), Circuits(random.Random(seed)), 0.0, 0
    while now < 600:
        now += 0.02
        if not circuits.ready("e", now):
            continue
        circuits.begun("e", now)
        tried += 1
        if chance.random() < 0.5:
            circuits.failed("e", failures.SERVER_ERROR, began=now, now=now + 0.01)
        else:
            circuits.succeeded("e", began=now, now=now + 0.01)

    assert 1 <= circuits.changes <= 1 + 600 / 10
    assert tried < 200  # of 30,000


def test_one_that_never_failed_costs_nothing_to_remember(circuits):
    for turn in range(1000):
        circuits.begun(f"e{turn}", turn)
        circuits.succeeded(f"e{turn}", began=turn, now=turn)

    assert circuits._circuits == {} and not circuits.troubled
