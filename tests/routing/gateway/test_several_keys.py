"""Several keys of ours at one provider, over real HTTP: a key that is refused is replaced within the call."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections import Counter

import pytest

from aggregator.lib.errors import Refusal
from routing.core import picture
from routing.core.listing import Listing, ManagedKey
from tests.billing.test_admission import Customer, running
from tests.routing.gateway.test_strange_answers import House, plain

pytestmark = pytest.mark.django_db(transaction=True)

KEYS = (ManagedKey("first", "secret-one"), ManagedKey("second", "secret-two"))


@contextlib.asynccontextmanager
async def judging(said):
    """A provider that answers each key as `said` has it: (status, head lines); what it heard, by key."""
    heard = Counter()

    async def serve(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length: ")[2].split("\r\n")[0]))
        key = head.partition("bearer ")[2].split("\r\n")[0]
        heard[key] += 1
        status, lines = said.get(key, (200, ""))
        body = plain() if status == 200 else json.dumps({"error": {"message": "no"}}).encode()
        start = f"HTTP/1.1 {status} X\r\nConnection: close\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        writer.write(start.encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


def run(tmp_path, said, work, *, keys=KEYS):
    customer = Customer()

    async def whole():
        async with judging(said) as (port, heard), running(tmp_path) as (process,):
            house = House(process, port, customer)
            (endpoint,) = house.gateway.listing.endpoints["a/m"]
            provider = dataclasses.replace(endpoint.provider, keys=keys, api_key=keys[0].text)
            endpoint = dataclasses.replace(endpoint, provider=provider)
            house.gateway.listing = Listing(1, house.gateway.listing.models, {"a/m": (endpoint,)})
            try:
                await work(house, heard)
            finally:
                await house.upstream.close()

    asyncio.run(whole())


async def ask(house):
    call = await house.begin()
    await house.gateway.plain(call, lambda: False)
    return call.decision()


@pytest.mark.parametrize(("status", "lines"), [(401, ""), (402, ""), (429, "Retry-After: 30\r\n")])
def test_a_key_that_is_refused_is_replaced_by_another_within_the_call(tmp_path, status, lines):
    async def work(house, heard):
        decisions = [await ask(house) for _ in range(4)]

        assert heard == {"secret-one": 1, "secret-two": 4}
        assert {decision["key"] for decision in decisions} == {"second"}
        tried = [attempt for decision in decisions for attempt in decision["attempts"]]
        assert [(one["endpoint"], one["key"], one["status"]) for one in tried] == [("p:a/m", "first", status)]
        assert "secret" not in json.dumps(decisions)
        assert house.gateway.endings.circuits.sound("p:a/m", 0)  # the endpoint did not fail

    run(tmp_path, {"secret-one": (status, lines)}, work)


def test_only_when_no_key_is_left_the_endpoint_has_failed(tmp_path):
    async def work(house, heard):
        with pytest.raises(Refusal) as caught:
            await ask(house)

        assert (caught.value.status, caught.value.retry_after) == (429, 30)
        assert heard == {"secret-one": 1, "secret-two": 1}
        assert house.gateway.endings.circuits.troubled

    limited = (429, "Retry-After: 30\r\n")
    run(tmp_path, {"secret-one": limited, "secret-two": limited}, work)


def test_a_key_is_given_back_when_its_answer_is_over(tmp_path):
    async def work(house, heard):
        for _ in range(5):
            await ask(house)
        assert heard == {"secret-one": 5}

    run(tmp_path, {}, work, keys=(ManagedKey("only", "secret-one", concurrent=1),))


class Once(dict):
    """What is said of a key is said of its first request alone."""

    def get(self, key, default=None):
        return self.pop(key, default)


def test_how_long_the_attempt_that_served_was_put_off_is_recorded(tmp_path):
    async def work(house, heard):
        decision = await ask(house)

        assert heard == {"secret-one": 2} and "wait" not in decision["attempts"][0]
        assert 0.5 < decision["wait"] < 5
        drawn = picture.of(decision, status="completed", seconds=3).attempts
        assert [bool(each.wait) for each in drawn] == [False, True]

    busy = Once({"secret-one": (503, "Retry-After: 1\r\n")})
    run(tmp_path, busy, work, keys=(ManagedKey("only", "secret-one"),))
