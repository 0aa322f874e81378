"""A provider that hangs takes its own connections and nobody else's, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time

import pytest

from aggregator.lib.errors import Refusal
from routing.core.listing import Listing, ManagedKey
from tests.billing.test_admission import Customer, running
from tests.routing.gateway.test_strange_answers import House, answering, plain
from tests.routing.http1.provider import until

pytestmark = pytest.mark.django_db(transaction=True)

CONNECTIONS = 2


@contextlib.asynccontextmanager
async def hanging():
    """A provider that takes every request and answers none: its port, and what it heard."""
    heard, over = [], asyncio.Event()

    async def serve(reader, writer):
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        await over.wait()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], heard
        over.set()


def run(tmp_path, work, *, others):
    """Two endpoints of a provider that hangs with all its connections in use; `others`: one more is well."""
    customer = Customer()

    async def whole():
        async with hanging() as (port, heard), answering(plain()) as healthy, running(tmp_path) as (process,):
            house = House(process, port, customer)
            (found,) = house.gateway.listing.endpoints["a/m"]
            key = ManagedKey("only", "secret", requests_per_minute=CONNECTIONS + 2)
            stuck = dataclasses.replace(found.provider, keys=(key,))
            first = dataclasses.replace(found, provider=stuck)
            twin = dataclasses.replace(first, slug="p:a/m:twin", ttft_seconds=2.0)
            well = dataclasses.replace(found.provider, slug="q", base_url=f"http://127.0.0.1:{healthy}")
            last = dataclasses.replace(found, slug="q:a/m", provider=well, ttft_seconds=5.0)
            listed = (first, twin, last) if others else (first, twin)
            house.gateway.listing = Listing(1, house.gateway.listing.models, {"a/m": listed})
            hung = [asyncio.create_task(ask(house)) for _ in range(CONNECTIONS)]
            try:
                await until(lambda: len(heard) == CONNECTIONS)
                await work(house)
                assert len(heard) == CONNECTIONS and not any(call.done() for call in hung)
            finally:
                for call in hung:
                    call.cancel()
                await asyncio.gather(*hung, return_exceptions=True)
                await house.upstream.close()

    asyncio.run(whole())


async def ask(house, **fields):
    call = await house.begin(route_preference="speed", **fields)
    began = time.monotonic()
    await house.gateway.plain(call, lambda: False)
    return call.decision(), time.monotonic() - began


def is_spared(house):
    """Nothing is held against the provider or its key, and nobody waits there any more."""
    endings, host = house.gateway.endings, house.upstream._hosts["p"]
    (used,) = host.keychain._used.values()
    assert not endings.circuits.watched and "p:a/m" not in endings.live.folds
    assert (used.count, used.running, used.rests_until) == (CONNECTIONS, CONNECTIONS, 0)
    assert not host.pool._waiting


@pytest.fixture(autouse=True)
def few_connections(settings):
    settings.PROVIDER_CONNECTIONS = CONNECTIONS


def test_a_call_leaves_a_provider_whose_connections_all_hang_and_those_of_another_are_free(
    tmp_path, settings
):
    settings.POOL_WAIT_SECONDS = 2

    async def work(house):
        waits = asyncio.create_task(ask(house))
        await until(lambda: house.upstream._hosts["p"].pool._waiting)
        elsewhere, at_once = await ask(house, provider={"only": ["q"]})
        assert not waits.done() and elsewhere["served"] == "q:a/m" and not elsewhere["attempts"]
        crowded, refused_at_once = await ask(house)  # one waits already, as many as may
        assert not waits.done()
        decision, seconds = await waits

        for each in (decision, crowded):
            tried = [
                (attempt["endpoint"], attempt["failure"], "key" in attempt) for attempt in each["attempts"]
            ]
            assert each["served"] == "q:a/m" and tried == [("p:a/m", "full", False)]
        assert max(at_once, refused_at_once) < seconds
        assert seconds >= 2
        is_spared(house)

    run(tmp_path, work, others=True)


def test_when_nobody_else_is_left_the_crowd_is_told_as_ours_and_free(tmp_path, settings):
    settings.POOL_WAIT_SECONDS = 0.1

    async def work(house):
        call = await house.begin(route_preference="speed")
        with pytest.raises(Refusal) as caught:
            await house.gateway.plain(call, lambda: False)

        assert (caught.value.status, caught.value.error_type, caught.value.retry_after) == (
            503,
            "overloaded",
            1,
        )
        assert [attempt["endpoint"] for attempt in caught.value.metadata["previous_errors"]] == ["p:a/m"]
        assert (call.status, call.paid_nanos) == ("failed", 0)
        is_spared(house)

    run(tmp_path, work, others=False)
