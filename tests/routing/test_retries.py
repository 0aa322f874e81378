"""How many retries the budget grants, and how long a second try waits. Virtual time."""

from __future__ import annotations

import random

import pytest

from routing.core import failures
from routing.core.failures import Failure
from routing.core.retries import FIRST_PAUSE_SECONDS, LEAST_RETRIES, LONGEST_PAUSE_SECONDS, SHARE, Retries


@pytest.fixture
def retries():
    return Retries(random.Random(1))


def test_of_a_thousand_calls_a_fifth_is_retried_at_most(retries):
    granted = 0
    for call in range(1000):
        retries.begun("m", call / 200)
        granted += sum(retries.draw("m", call / 200) for _ in range(2))

    assert 0.9 * SHARE * 1000 <= granted <= SHARE * 1000


def test_a_few_are_granted_however_few_calls_there_are(retries):
    retries.begun("m", 0)

    assert [retries.draw("m", 0) for _ in range(5)].count(True) == LEAST_RETRIES


def test_what_was_spent_comes_back_with_time(retries):
    retries.begun("m", 0)
    while retries.draw("m", 0):
        pass
    retries.begun("m", 11)

    assert retries.draw("m", 11)


def test_one_models_retries_draw_nothing_from_anothers(retries):
    for model in ("m", "another"):
        retries.begun(model, 0)
    while retries.draw("m", 0):
        pass

    assert retries.draw("another", 0)


def test_a_fallback_on_trust_that_fails_is_drawn_afterwards(retries):
    for _ in range(100):
        retries.begun("m", 0)
    for _ in range(20):
        retries.spend("m", 0)

    assert not retries.draw("m", 0)


@pytest.mark.parametrize(
    ("failure", "again"),
    [
        (Failure(failures.UNREACHABLE), True),
        (Failure(failures.OVERLOADED, status=503), True),
        (Failure(failures.OVERLOADED, status=503, retry_after=2), True),
        (Failure(failures.OVERLOADED, status=503, retry_after=3), False),
        (Failure(failures.SERVER_ERROR, status=500), True),
        (Failure(failures.TIMEOUT, status=408), True),
        (Failure(failures.TIMEOUT), False),
        (Failure(failures.RATE_LIMITED, status=429), False),
        (Failure(failures.RATE_LIMITED, status=429, retry_after=2), True),
        (Failure(failures.RATE_LIMITED, status=429, retry_after=7), False),
        (Failure(failures.CREDENTIALS, status=401), False),
        (Failure(failures.MISSING, status=404), False),
        (Failure(failures.REJECTED, status=400), False),
        (Failure(failures.MALFORMED), False),
    ],
)
def test_the_same_endpoint_is_asked_again_only_for_what_may_pass(retries, failure, again):
    assert (retries.pause(failure, 1) is not None) is again


def test_a_pause_is_anything_up_to_twice_as_much_each_time(retries):
    for attempts in (1, 2):
        pauses = [retries.pause(Failure(failures.UNREACHABLE), attempts) for _ in range(500)]
        most = FIRST_PAUSE_SECONDS * attempts
        assert 0 <= min(pauses) < most / 20 and most * 0.95 < max(pauses) <= most


def test_a_pause_is_never_shorter_than_the_provider_asks_nor_endless(retries):
    limited = Failure(failures.RATE_LIMITED, status=429, retry_after=1)

    assert all(1 <= retries.pause(limited, 1) <= 1 + FIRST_PAUSE_SECONDS for _ in range(100))
    assert all(retries.pause(Failure(failures.UNREACHABLE), 50) <= LONGEST_PAUSE_SECONDS for _ in range(100))
