"""What a worker remembers of keys: asked for once, served while it asks again and while nobody answers."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from django.db import OperationalError

from accounts import keys
from accounts.models import Organization
from aggregator.lib.errors import Refusal
from aggregator.lib.threads import in_thread
from routing import callers as module
from routing.callers import Callers

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def made():
    """(the key, its text) of an organization of this test's own."""
    organization = Organization.objects.create(slug="known", name="Known")
    return keys.create(organization, name="test", by="test")


class LookUps:
    """Every look-up goes to PostgreSQL, is counted, and can be made to fail or to take its time."""

    def __init__(self, monkeypatch):
        self.count = 0
        self.away = False
        self.seconds = 0.0
        self._real = module._look_up
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._under_way = 0
        monkeypatch.setattr(module, "_look_up", self._look_up)

    def _look_up(self, text, digest):
        with self._lock:
            self.count += 1
            self._under_way += 1
        try:
            self._over.wait(self.seconds)
            if self.away or self._over.is_set():
                raise OperationalError("the database is away")
            return self._real(text, digest)
        finally:
            with self._lock:
                self._under_way -= 1

    def end(self):
        """What is waited for no longer does not ask in the midst of another test."""
        self._over.set()
        until = time.monotonic() + 60
        while self._under_way:
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.fixture
def look_ups(monkeypatch):
    made = LookUps(monkeypatch)
    yield made
    made.end()


async def until(is_so):
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(0.01)


def test_however_many_wait_a_key_is_asked_for_once(made, look_ups):
    _, text = made
    look_ups.seconds = 0.05

    async def run():
        callers = Callers()
        return await asyncio.gather(*(callers.of(text) for _ in range(200)))

    found = asyncio.run(run())
    assert look_ups.count == 1
    assert len({id(caller) for caller in found}) == 1


def test_an_aged_key_is_served_at_once_and_asked_for_behind(made, look_ups, settings):
    _, text = made
    settings.KEY_CACHE_SECONDS = 0

    async def run():
        callers = Callers()
        old = await callers.of(text)
        look_ups.seconds = 0.3
        served = [await callers.of(text) for _ in range(50)]
        assert all(caller is old for caller in served)
        await until(lambda: not callers._asking)
        assert (await callers.of(text)) is not old
        await until(lambda: not callers._asking)

    asyncio.run(run())
    assert look_ups.count == 3


def test_a_known_key_goes_on_while_postgresql_is_away_and_is_not_asked_for_at_every_call(
    made, look_ups, settings
):
    _, text = made
    settings.KEY_CACHE_SECONDS = 0

    async def run():
        callers = Callers()
        old = await callers.of(text)
        look_ups.away = True
        for _ in range(100):
            assert await callers.of(text) is old
            await asyncio.sleep(0.002)

    asyncio.run(run())
    assert 2 <= look_ups.count <= 4


def test_known_for_too_long_without_an_answer_is_known_no_more(made, look_ups, settings):
    _, text = made
    settings.KEY_CACHE_SECONDS = settings.KEY_STALE_SECONDS = 0

    async def run():
        callers = Callers()
        await callers.of(text)
        look_ups.away = True
        with pytest.raises(Refusal) as refused:
            await callers.of(text)
        return refused.value

    refusal = asyncio.run(run())
    assert (refusal.status, refusal.error_type, refusal.retry_after) == (503, "service_unavailable", 1)


def test_an_aged_key_that_was_deleted_is_refused_after_the_next_answer(made, look_ups, settings):
    key, text = made
    settings.KEY_CACHE_SECONDS = 0

    async def run():
        callers = Callers()
        await callers.of(text)
        await in_thread(keys.delete, key, by="test")
        await callers.of(text)  # the gate refuses it by its version; here it is only remembered
        await until(lambda: not callers._asking)
        with pytest.raises(Refusal) as refused:
            await callers.of(text)
        return refused.value

    assert asyncio.run(run()).error_type == "revoked_key"


def test_calls_that_found_the_same_key_old_ask_once(made, look_ups):
    """As after the loss of all that the gate held: every call is told to ask."""
    _, text = made

    async def run():
        callers = Callers()
        old = await callers.of(text)
        first = await asyncio.gather(*(callers.renew(text, old) for _ in range(50)))
        late = await callers.renew(text, old)  # its answer of the gate came after the others'
        return old, {id(caller) for caller in [*first, late]}

    old, renewed = asyncio.run(run())
    assert look_ups.count == 2
    assert len(renewed) == 1 and id(old) not in renewed


def test_a_database_that_does_not_answer_holds_up_nobody(made, look_ups, monkeypatch):
    _, text = made
    monkeypatch.setattr(module, "_ASK_SECONDS", 1.0)
    look_ups.seconds = 60

    async def run():
        began = time.monotonic()
        with pytest.raises(Refusal) as refused:
            await Callers().of(text)
        return refused.value, time.monotonic() - began

    refusal, seconds = asyncio.run(run())
    assert refusal.status == 503
    assert seconds < 20
