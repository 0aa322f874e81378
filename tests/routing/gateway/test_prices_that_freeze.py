"""What a call pays is settled when an attempt is dispatched: price row and hours, whatever happens then."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from aggregator.lib.errors import Refusal
from aggregator.lib.threads import in_thread
from billing import recompute
from billing.core import pricing
from billing.core.usage import Usage
from routing.core.listing import Listing
from tests.billing import books
from tests.billing.test_admission import Customer, running
from tests.routing.gateway.test_strange_answers import House, Out, chunk, plain
from tests.routing.http1.provider import until

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
EVENING = NOON + timedelta(hours=6)
HOURS = {"from": "16:30", "until": "00:30"}
Reply = Callable[[], Iterator[bytes | asyncio.Event]]


class Time:
    """The clock of attempts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_now = NOON
        monkeypatch.setattr("routing.attempts.clock", SimpleNamespace(now=lambda: self.is_now))

    def passes(self) -> None:
        self.is_now = EVENING


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def well(*blocks: bytes) -> Reply:
    return lambda: iter([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", *blocks])


def fails(time: Time) -> Reply:
    """It takes so long that another price has come into force."""

    def reply() -> Iterator[bytes]:
        time.passes()
        yield b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"

    return reply


@contextlib.asynccontextmanager
async def replying(*replies: Reply):
    """A provider that answers one request after the other with these; its port."""
    left = [*replies]

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        size = next(int(line[15:]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:")
        await reader.readexactly(size)
        with contextlib.closing(writer):
            for block in left.pop(0)():
                if isinstance(block, asyncio.Event):
                    await block.wait()
                    continue
                writer.write(block)
                await writer.drain()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def run(tmp_path, stated, work, *providers: tuple[Reply, ...]):
    """An endpoint of the same price at each of these providers, the first preferred; the price at noon."""
    customer = Customer()
    price = books.make_price(stated={"input": "1", "output": "2", **stated})

    async def whole():
        async with contextlib.AsyncExitStack() as stack, running(tmp_path) as (process,):
            ports = [await stack.enter_async_context(replying(*replies)) for replies in providers]
            house = House(process, ports[0], customer)
            (found,) = house.gateway.listing.endpoints["a/m"]
            listed = [
                dataclasses.replace(
                    found,
                    slug=f"p{at}:a/m",
                    provider=dataclasses.replace(
                        found.provider, slug=f"p{at}", base_url=f"http://127.0.0.1:{port}/v1"
                    ),
                    price=price.at(NOON),
                    ttft_seconds=0.1 + 5 * at,
                )
                for at, port in enumerate(ports)
            ]
            house.gateway.listing = Listing(1, house.gateway.listing.models, {"a/m": tuple(listed)})
            try:
                await work(house, price)
            finally:
                await house.upstream.close()

    asyncio.run(whole())


async def row_of(house):
    row = await house.row()
    assert await in_thread(lambda: list(recompute.differences(uuid.UUID(int=0)))) == []
    return row


@pytest.mark.parametrize("night", ["0.5", "3"])
@pytest.mark.parametrize("providers", [1, 2])
def test_an_attempt_after_the_hours_have_changed_pays_what_holds_then(tmp_path, time, night, providers):
    """At another provider, or at the same once more; a dearer one is held for first."""

    async def work(house, price):
        call = await house.begin(route_preference="speed")
        before = call.held
        await house.gateway.plain(call, lambda: False)
        row = await row_of(house)

        charge = pricing.charge(Usage(input=5, output=2), price.at(EVENING), call.terms.markup)
        assert (row.price_id, row.price_window, row.charge_nanos) == (price.id, 1, charge.nanos)
        assert call.held == max(before, call.worst(call.target, call.bound))
        assert (call.held > before) == (night == "3")
        assert len(call.attempts) == 1 and row.endpoint == f"p{providers - 1}:a/m"

    stated = {"windows": [{**HOURS, "input": night, "output": night}]}
    replies = [(fails(time), well(plain()))] if providers == 1 else [(fails(time),), (well(plain()),)]
    run(tmp_path, stated, work, *replies)


@pytest.mark.parametrize("providers", [1, 2])
def test_an_attempt_that_costs_more_by_now_than_there_is_credit_is_not_made(tmp_path, time, providers):
    async def work(house, price):
        with pytest.raises(Refusal) as refused:
            await house.gateway.plain(await house.begin(route_preference="speed"), lambda: False)
        row = await row_of(house)

        assert refused.value.status == 503
        assert (row.status, row.charge_nanos, row.loss_nanos) == ("failed", 0, 0)

    stated = {"windows": [{**HOURS, "output": "1000000"}]}
    replies = [(fails(time), well(plain()))] if providers == 1 else [(fails(time),), (well(plain()),)]
    run(tmp_path, stated, work, *replies)


def test_a_stream_across_the_end_of_its_hours_is_extended_and_charged_as_it_began(tmp_path, time):
    told = {"prompt_tokens": 5, "completion_tokens": 1900}

    heard, grown = asyncio.Event(), asyncio.Event()

    def streams() -> Iterator[bytes | asyncio.Event]:
        yield b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        yield chunk("a " * 10)
        yield heard
        time.passes()
        yield from [chunk("word " * 100) for _ in range(12)]
        yield grown
        yield chunk(finish="stop") + chunk("", usage=told) + b"data: [DONE]\n\n"

    async def work(house, price):
        noon = price.at(NOON)
        call = await house.begin(stream=True, max_tokens=None)
        assert call.growing and call.held == pricing.worst(
            call.chat.prompt_tokens, call.bound, noon, call.terms.markup
        )
        before = call.held
        stream = asyncio.create_task(house.gateway.stream(call, out := Out()))
        await until(lambda: out.got)
        heard.set()
        await until(lambda: call.held > before)
        assert call.held == pricing.worst(call.chat.prompt_tokens, call.bound, noon, call.terms.markup)
        grown.set()
        await stream
        row = await row_of(house)

        charge = pricing.charge(Usage(input=5, output=1900), noon, call.terms.markup)
        assert (row.price_window, row.charge_nanos, row.output) == (0, charge.nanos, 1900)

    run(tmp_path, {"windows": [{**HOURS, "input": "70", "output": "90"}]}, work, (streams,))


def test_a_hold_covers_every_tier_that_the_prompt_may_fall_into(tmp_path, time):
    """Its length is estimated: a shorter one may be in a tier that is dearer."""

    async def work(house, price):
        call = await house.begin()
        assert call.chat.prompt_tokens > 6, "estimated beyond the tier that its five tokens are in"
        held = call.held
        await house.gateway.plain(call, lambda: False)
        row = await row_of(house)

        assert (row.price_tier, row.charge_nanos) == (
            1,
            pricing.charge(Usage(input=5, output=2), price, call.terms.markup).nanos,
        )
        assert row.charge_nanos <= held == call.held

    tiers = [{"above": 4, "input": "9", "output": "80"}, {"above": 6, "input": "0.1", "output": "0.1"}]
    run(tmp_path, {"tiers": tiers}, work, (well(plain()),))
