"""Which of several keys of ours a request goes with. Virtual time."""

from __future__ import annotations

from collections import Counter

import pytest

from routing.core import failures
from routing.core.failures import Failure
from routing.core.keychain import FORBIDDEN_TO_REST, REFUSED_SECONDS, Keychain
from routing.core.listing import ManagedKey

A, B = ManagedKey("a", "secret-a"), ManagedKey("b", "secret-b")


def keychain(*keys, share=1.0):
    made = Keychain(share=share)
    made.holds(keys, 0)
    return made


def test_keys_take_turns():
    made = keychain(A, B)

    assert Counter(made.take(0).name for _ in range(10)) == {"a": 5, "b": 5}


def test_a_key_is_used_no_more_often_in_a_minute_than_it_may_be():
    limited = ManagedKey("a", "secret-a", requests_per_minute=6)
    made = keychain(limited, B)

    taken = Counter(made.take(second).name for second in range(59) for _ in range(3))

    assert taken["a"] == 6 and taken["b"] == 3 * 59 - 6
    assert "a" in {made.take(120).name for _ in range(2)}  # another minute


def test_a_worker_takes_its_share_of_a_limit():
    made = keychain(ManagedKey("a", "secret-a", requests_per_minute=60), B, share=0.25)

    assert Counter(made.take(0).name for _ in range(100))["a"] == 15


def test_no_more_are_under_way_with_a_key_than_it_may_have():
    made = keychain(ManagedKey("a", "secret-a", concurrent=2))
    first, _ = made.take(0), made.take(0)
    with pytest.raises(Failure) as caught:
        made.take(0)
    assert (caught.value.kind, caught.value.retry_after) == (failures.RATE_LIMITED, 2)

    made.done(first)

    assert made.take(0).name == "a"


def test_a_limited_key_rests_for_as_long_as_it_was_told():
    made = keychain(A, B)
    assert made.failed(A, Failure(failures.RATE_LIMITED, status=429, retry_after=7), 0)

    assert {made.take(6.9).name for _ in range(5)} == {"b"}
    assert made.take(7.1).name == "a"


@pytest.mark.parametrize("status", [401, 402])
def test_a_refused_key_rests_for_long(status):
    made = keychain(A, B)
    assert made.failed(A, failures.of_status(status, ""), 0) and made.left(0)

    assert {made.take(REFUSED_SECONDS - 1).name for _ in range(5)} == {"b"}


def test_a_prompt_that_is_forbidden_takes_no_key_away():
    """A customer could otherwise take them all away; three in a row are about the key."""
    made = keychain(A, B)
    forbidden = failures.of_status(403, "")
    for _ in range(10):
        assert not made.failed(A, forbidden, 0)
        made.answered(A)

    assert [made.failed(A, forbidden, 0) for _ in range(FORBIDDEN_TO_REST)] == [False, False, True]


def test_when_every_key_was_refused_that_is_what_is_told():
    made = keychain(A, B)
    made.failed(A, failures.of_status(401, ""), 0)
    made.failed(B, failures.of_status(401, ""), 0)

    assert not made.left(0)
    with pytest.raises(Failure) as caught:
        made.take(0)
    assert caught.value.kind == failures.CREDENTIALS


def test_a_key_that_stays_keeps_its_rest_and_one_with_a_new_secret_begins_anew():
    made = keychain(A, B)
    for key in (A, B):
        made.failed(key, failures.of_status(401, ""), 0)
    made.holds((A, ManagedKey("b", "a new secret")), 1)

    assert {made.take(1).text for _ in range(3)} == {"a new secret"}


def test_a_request_that_was_never_sent_takes_nothing_of_its_keys_minute():
    made = keychain(ManagedKey("a", "secret-a", requests_per_minute=1, concurrent=1))

    for _ in range(5):
        made.done(made.take(0), sent=False)
    made.done(made.take(0))
    with pytest.raises(Failure):
        made.take(0)


def test_a_limit_that_is_changed_forgets_nothing_that_is_under_way():
    made = keychain(ManagedKey("a", "secret-a", concurrent=2), B)
    old = next(key for key in (made.take(0), made.take(0)) if key.name == "a")

    made.holds((ManagedKey("a", "secret-a", concurrent=1),), 0)
    with pytest.raises(Failure):
        made.take(0)
    made.done(old)
    assert made.take(0).name == "a"
