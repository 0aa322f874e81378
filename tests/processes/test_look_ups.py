"""Whose key it is, asked of PostgreSQL: with its connections taken, and after all is forgotten."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import redis

from tests.desk import Desk
from tests.processes.conftest import SETTINGS, House, wait_for
from tests.processes.test_postgresql_away import ask, silent
from tests.product import Product
from tests.routing.gateway.caller import Sandbox, error_of

pytestmark = pytest.mark.xdist_group("look-ups")

_PUBLISHED = re.compile(r"SET \S+:k:key_", re.IGNORECASE)
KEYS, CALLERS, STRANGERS = 40, 16, 200
CHOSEN = {
    **SETTINGS,
    "DATABASE_POOL": "2",
    "KEY_CACHE_SECONDS": "600",
    "MAX_CALLS_PER_WORKER": "400",
    "MAX_CALLS_PER_ORGANIZATION": "400",
    "MAX_CONNECTIONS": "1000",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Two workers with two connections to PostgreSQL each, which remember keys for long."""
    product = Product.launch(tmp_path_factory.mktemp("look-ups") / "var", **CHOSEN)
    desk = Desk(product)
    with Sandbox(product.sandbox_url) as sandbox:
        made = House(product, desk, sandbox)
        made.await_workers()
        yield made
        made.close()
    desk.close()
    product.stop()


@pytest.mark.long
def test_after_all_is_forgotten_a_worker_asks_at_most_once_for_each_key(house, counted):
    """Caches and gate emptied in the middle of a load: forty keys, two workers, nothing but 200 and 503."""
    organization = house.caller(usd="100").organization
    texts = [house.desk.key(organization)[0] for _ in range(KEYS)]
    over, statuses = threading.Event(), []

    def call(number):
        at = number
        while not over.is_set():
            with httpx.Client(trust_env=False, timeout=60) as client:  # another connection, another worker
                for _ in range(4):
                    answer = ask(client, house, texts[at % KEYS])
                    statuses.append((answer.status_code, answer.headers.get("retry-after")))
                    at += 7

    with ThreadPoolExecutor(CALLERS) as pool:
        calling = [pool.submit(call, number) for number in range(CALLERS)]
        try:
            wait_for(lambda: len(statuses) > 30 * KEYS, seconds=120)
            known, before = counted(), len(statuses)
            redis.Redis.from_url(house.product.redis_url).flushall()
            wait_for(lambda: len(statuses) > before + 30 * KEYS, seconds=120)
        finally:
            over.set()
        for each in calling:
            each.result()
    asked = counted() - known

    print(f"{asked} look-ups for {KEYS} keys of 2 workers, {len(statuses)} calls")
    assert {status for status, _ in statuses} <= {200, 503}
    assert all(retry_after for status, retry_after in statuses if status == 503)
    assert statuses[-1][0] == 200
    assert KEYS <= asked <= 2 * KEYS
    assert house.desk.await_no_holds(organization).spent > 0


@pytest.fixture
def counted(house):
    """How often a key was looked up so far: each time, what PostgreSQL says is published in the gate."""
    found = []
    watcher = redis.Redis.from_url(house.product.redis_url)

    def watch(heard):
        with contextlib.suppress(redis.RedisError, ValueError, OSError):
            for command in heard.listen():
                if _PUBLISHED.match(command["command"]):
                    found.append(command)

    with watcher.monitor() as heard:
        threading.Thread(target=watch, args=(heard,), daemon=True).start()
        yield lambda: len(found)


@pytest.mark.long
def test_two_hundred_unknown_keys_with_two_connections_hear_503_soon(house):
    """F17: both are taken and PostgreSQL is silent: nobody hears 401 or hangs, a known key goes on."""
    known = house.caller()
    strangers = [house.desk.key(known.organization)[0] for _ in range(STRANGERS)]
    house.make_known(known)

    took = []

    def stranger(text):
        with httpx.Client(trust_env=False, timeout=60) as own:
            began = time.monotonic()
            answer = ask(own, house, text)
            took.append(time.monotonic() - began)
            return error_of(answer), answer.headers.get("retry-after")

    with silent(house):
        with ThreadPoolExecutor(STRANGERS) as pool:
            answers = list(pool.map(stranger, strangers))
        assert ask(httpx, house, known.text).status_code == 200

    took.sort()
    print(f"refused after {took[len(took) // 2]:.2f} s (median), {took[-1]:.2f} s (most)")
    assert set(answers) == {((503, "service_unavailable"), "1")}
    assert took[0] < 3 and took[-1] < 15  # a second each and all at once, on a machine with much else to do
    for text in strangers[:4]:
        wait_for(lambda text=text: ask(httpx, house, text).status_code == 200)
