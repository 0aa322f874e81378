"""A provider that bills to the end: the customer pays until it left, the rest is booked as our loss."""

from __future__ import annotations

import asyncio
import time

import pytest

from aggregator.lib.threads import in_thread
from billing.core.money import parse_usd
from billing.models import Posting
from routing.drains import Drains
from tests.billing.test_admission import Customer
from tests.billing.test_admission import running as processes
from tests.routing.gateway.test_clients_that_leave import left_call
from tests.routing.gateway.test_strange_answers import House, Out, answering, chunk

product = pytest.mark.xdist_group("gateway")
MODEL = "sandbox/unstoppable"


def billed(sandbox, upstream_id):
    """The provider's own account of that call, once it has ended."""
    until = time.monotonic() + 30
    while not (calls := sandbox.bill(id=upstream_id)["calls"]):
        assert time.monotonic() < until
        time.sleep(0.05)
    return calls[0]


def after_cancel(desk, organization, *, seconds=30):
    until = time.monotonic() + seconds
    while True:
        found = [each for each in desk.postings(organization) if each["kind"] == "after_cancel"]
        if found or time.monotonic() > until:
            return found
        time.sleep(0.05)


@product
def test_leaving_in_mid_stream_costs_until_then_and_the_rest_is_our_loss(caller, desk, sandbox):
    with caller.opened(MODEL) as response:
        blocks = response.iter_raw()
        for _ in range(10):
            next(blocks)
    (row,) = desk.await_generations(caller.organization, 1, posted=True)
    (posting,) = after_cancel(desk, caller.organization)
    call = billed(sandbox, row["upstream_id"])

    assert (row["status"], row["loss_nanos"]) == ("aborted", 0) and 0 < row["output"] < 60
    assert call["ending"] == "complete" and call["usage"]["completion_tokens"] == 100
    loss = parse_usd(call["cost_usd"]) - row["base_nanos"]
    assert posting["entries"] == {"provider_cost": loss, "loss": -loss} and loss > 0
    wallet = desk.await_no_holds(caller.organization)
    assert wallet.funds == 10 * 10**9 - row["charge_nanos"]
    assert desk.breaches() == []


@product
@pytest.mark.parametrize("streamed", [False, True])
def test_a_timeout_before_the_first_byte_costs_the_prompt_and_the_rest_is_our_loss(
    caller, desk, sandbox, streamed
):
    body = caller.body(MODEL, stream=streamed, timeout=0.2)  # its first byte comes after 0.4 s
    answer = caller.http.post("/chat/completions", json=body)
    (row,) = desk.await_generations(caller.organization, 1, posted=True)
    (posting,) = after_cancel(desk, caller.organization)
    call = sandbox.calls(model="unstoppable", ending="complete")["recent"][-1]

    assert answer.status_code == 408 and (row["status"], row["output"]) == ("aborted", 0)
    loss = parse_usd(call["cost_usd"]) - row["base_nanos"]
    assert posting["entries"] == {"provider_cost": loss, "loss": -loss}
    assert desk.breaches() == []


@product
def test_a_provider_that_stops_billing_is_let_go_at_once(caller, desk, sandbox):
    sandbox.http.post(f"{sandbox.url}/_sandbox/reset")
    with caller.opened("sandbox/harbor") as response:
        next(response.iter_raw())

    assert left_call(sandbox, "harbor")["ending"] == "client_closed"
    desk.await_generations(caller.organization, 1, posted=True)
    assert after_cancel(desk, caller.organization, seconds=0) == []


BLOCKS = [chunk("one "), chunk("two "), *[chunk("more ")] * 8]
END = chunk("", finish="stop", usage={"prompt_tokens": 50, "completion_tokens": 99}) + b"data: [DONE]\n\n"


def left_behind(tmp_path, blocks, work):
    """One call at a provider that bills on, left after its first events; then `work(house, call)`."""
    customer = Customer()

    async def whole():
        async with answering(*blocks, pause=0.1) as port, processes(tmp_path) as (process,):
            house = House(process, port, customer, quirks=frozenset({"bills_after_cancel"}))
            call, out = await house.begin(stream=True), Out()
            task = asyncio.create_task(house.gateway.stream(call, out))
            async with asyncio.timeout(60):
                while out.got.count(b"data: ") < 2:
                    await asyncio.sleep(0.01)
            out.gone = True
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            try:
                await work(house, call)
            finally:
                await house.upstream.close()

    asyncio.run(whole())


async def until_read(drains: Drains):
    async with asyncio.timeout(60):
        while drains.running:
            await asyncio.sleep(0.01)


def posted():
    return Posting.objects.filter(kind="after_cancel").count()


@pytest.mark.django_db(transaction=True)
def test_what_is_left_is_read_on_to_its_end(tmp_path):
    async def work(house, call):
        assert house.gateway.drains.running == 1
        assert call.settled and call.status == "aborted"  # at once: the record waits for nothing
        await until_read(house.gateway.drains)
        assert (await house.row()).status == "aborted"
        async with asyncio.timeout(60):
            while await in_thread(posted) == 0:
                await asyncio.sleep(0.01)
        assert await in_thread(posted) == 1

    left_behind(tmp_path, [*BLOCKS, END], work)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["DRAIN_PROVIDER_SECONDS", "DRAIN_PROVIDER_BYTES", "DRAIN_PROVIDER_MOST"])
def test_reading_on_is_bounded_in_time_size_and_number(tmp_path, settings, name):
    setattr(settings, name, {"DRAIN_PROVIDER_SECONDS": 0.2, "DRAIN_PROVIDER_BYTES": 300}.get(name, 0))

    async def work(house, call):
        began = time.monotonic()
        assert house.gateway.drains.running == (0 if name == "DRAIN_PROVIDER_MOST" else 1)
        await until_read(house.gateway.drains)
        assert time.monotonic() - began < 3  # the provider goes on for five seconds
        assert (await house.row()).status == "aborted"
        assert await in_thread(posted) == 0

    left_behind(tmp_path, [*BLOCKS, *[chunk("more ")] * 40, END], work)


@pytest.mark.django_db(transaction=True)
def test_a_process_that_stops_gives_up_what_it_reads_on(tmp_path):
    async def work(house, call):
        await house.row()
        await house.upstream.close()
        assert house.gateway.drains.running == 0

    left_behind(tmp_path, [*BLOCKS, END], work)
