"""What may be an `Idempotency-Key`, and what is kept for one: for a while, and not for ever."""

from __future__ import annotations

import re
import time

import pytest
import redis

from tests.routing.gateway.caller import error_of
from tests.routing.gateway.test_idempotency import ask, dispatched

pytestmark = pytest.mark.xdist_group("gateway")


@pytest.fixture(autouse=True)
def _fresh_bill(sandbox):
    sandbox.http.post(f"{sandbox.url}/_sandbox/reset")


@pytest.mark.parametrize("key", [b"", b"x" * 256, b"caf\xc3\xa9", b"a\tb"])
def test_a_key_that_cannot_be_one_is_refused(caller, sandbox, key):
    refused = caller.http.post(
        "/chat/completions", json=caller.body(max_tokens=5), headers={"Idempotency-Key": key}
    )

    assert error_of(refused) == (400, "invalid_idempotency_key")
    assert refused.json()["error"]["param"] == "Idempotency-Key"
    assert dispatched(sandbox) == 0


def test_the_longest_key_is_one(caller):
    key = "".join(chr(code) for code in range(33, 127)) + "~" * 161
    assert len(key) == 255
    first = ask(caller, key, max_tokens=5)

    assert first.status_code == 200 and ask(caller, key, max_tokens=5).content == first.content


@pytest.fixture
def stores(running):
    """The gate and the cache."""
    opened = [
        redis.Redis.from_url(f"{running.redis_url}/{number}", decode_responses=True) for number in (0, 1)
    ]
    yield opened
    for store in opened:
        store.close()


def of_keys(store, organization):
    return [name for name in store.keys(f"*{organization.public_id}*") if re.search(r":i:|answer", name)]


def test_all_that_is_kept_runs_out(caller, desk, sandbox, stores):
    first = ask(caller, max_tokens=5)
    gate, cache = stores
    kept = [(store, name) for store in stores for name in of_keys(store, caller.organization)]

    assert (len(of_keys(gate, caller.organization)), len(of_keys(cache, caller.organization))) == (2, 2)
    for store, name in kept:
        assert 0 < store.ttl(name) <= 24 * 60 * 60, name
    for store, name in kept:
        store.pexpire(name, 1)
    time.sleep(0.05)
    anew = ask(caller, max_tokens=6)
    assert anew.status_code == 200 and anew.json()["id"] != first.json()["id"]
    assert dispatched(sandbox) == 2


def test_a_request_without_a_key_leaves_nothing_behind(caller, stores):
    assert caller.chat(max_tokens=5).status_code == 200

    assert [name for store in stores for name in of_keys(store, caller.organization)] == []


def test_a_lost_answer_is_not_called_again(caller, sandbox, stores):
    first = ask(caller, max_tokens=5)
    stores[1].flushdb()
    refused = ask(caller, max_tokens=5)

    assert error_of(refused) == (409, "idempotency_answer_not_kept")
    assert refused.json()["error"]["metadata"]["generation_id"] == first.json()["id"]
    assert dispatched(sandbox) == 1
