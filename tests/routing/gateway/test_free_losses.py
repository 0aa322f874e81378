"""Free endings are a promise with a bound: past a sum a day, what a broken stream delivered is charged."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db.models import Sum

from aggregator.lib import clock, kv
from aggregator.lib.errors import Refusal
from aggregator.lib.threads import in_thread
from billing import posting
from billing.core import chart
from billing.models import Entry
from billing.models import Generation as Row
from tests.billing.test_admission import Customer, running
from tests.routing.gateway.test_strange_answers import House, Out, answering, chunk, run

pytestmark = pytest.mark.django_db(transaction=True)

BREAKS = [chunk("one "), chunk("two "), chunk("three ")]
"""A stream that ends without its end."""


async def broken(house):
    """One call whose stream breaks: what the customer is told, and the row."""
    call, out = await house.begin(stream=True), Out()
    await house.gateway.stream(call, out)
    error = json.loads(out.got.split(b"data: ")[-1])["error"]
    async with asyncio.timeout(60):
        while (row := await in_thread(Row.unscoped.filter(id=call.id).first)) is None:
            await asyncio.sleep(0.02)
    return error, row


def booked(account):
    return Entry.objects.filter(account__kind=account).aggregate(Sum("nanos"))["nanos__sum"]


def is_free(error, row):
    assert (row.status, row.charge_nanos) == ("failed", 0) and row.loss_nanos > 0
    assert "Nothing was charged" in error["message"] and "cost_nanos" not in error["metadata"]
    return True


def is_charged(error, row):
    assert (row.status, row.error_type, row.estimated) == ("aborted", "provider_unavailable", True)
    assert row.output > 0 and row.charge_nanos > 0 and row.loss_nanos == 0
    assert row.decision["charged_because"] == "free_loss_per_day"
    assert "is charged" in error["message"] and error["metadata"]["cost_nanos"] == row.charge_nanos
    return True


def test_broken_streams_are_free_until_the_day_is_used_up(tmp_path, settings):
    settings.FREE_LOSS_PER_DAY_USD = Decimal("0.000027")  # one of these costs $0.000018

    async def work(house):
        free = [await broken(house), await broken(house)]
        charged = await broken(house)
        assert all(is_free(*each) for each in free) and is_charged(*charged)
        await in_thread(posting.post_generations)
        assert await in_thread(booked, chart.LOSS) == -sum(row.loss_nanos for _, row in free)
        assert await in_thread(booked, chart.PROVIDER_COST) == 3 * charged[1].base_nanos

    run(tmp_path, BREAKS, work)


def test_a_new_day_is_free_again(tmp_path, settings, monkeypatch):
    settings.FREE_LOSS_PER_DAY_USD = Decimal("0.000001")

    async def work(house):
        assert is_free(*await broken(house))
        assert is_charged(*await broken(house))
        tomorrow = datetime(2100, 1, 1, tzinfo=UTC)
        monkeypatch.setattr(clock, "now", lambda: tomorrow)
        used_up = house.gateway.endings.losses.used_up(house.customer.organization.public_id)
        monkeypatch.undo()
        assert not used_up

    run(tmp_path, BREAKS, work)


def test_what_delivered_nothing_stays_free(tmp_path, settings):
    settings.FREE_LOSS_PER_DAY_USD = Decimal(0)

    async def work(house):
        call = await house.begin(stream=True)
        with pytest.raises(Refusal) as caught:
            await house.gateway.stream(call, Out())
        assert "Nothing was charged" in caught.value.message
        row = await house.row()
        assert (row.status, row.charge_nanos, row.loss_nanos) == ("failed", 0, 0)

    run(tmp_path, [b": no event\n\n"], work)


def test_a_worker_learns_of_anothers_losses_and_goes_on_without_the_gate(tmp_path, settings):
    settings.FREE_LOSS_PER_DAY_USD = Decimal("0.000045")
    customer = Customer()
    name = customer.organization.public_id

    async def work():
        async with answering(*BREAKS) as port, running(tmp_path, 2) as (one, other):
            first, second = House(one, port, customer), House(other, port, customer)
            assert is_free(*await broken(first))
            assert is_free(*await broken(first))
            assert is_free(*await broken(second))  # its own first
            async with asyncio.timeout(60):
                while not second.gateway.endings.losses.used_up(name):
                    await asyncio.sleep(0.02)
            assert is_charged(*await broken(second))
            await in_thread(kv.gate().delete, *await in_thread(kv.gate().keys, "*:l:*"))
            assert is_free(*await broken(first))  # it knew only of its own two
            assert is_charged(*await broken(first))
            await first.upstream.close()
            await second.upstream.close()

    asyncio.run(work())


def test_our_own_shutdown_is_held_against_nobody(tmp_path, settings):
    settings.FREE_LOSS_PER_DAY_USD = Decimal("0.000001")

    async def work(house):
        call, out = await house.begin(stream=True), Out()
        task = asyncio.create_task(house.gateway.stream(call, out))
        async with asyncio.timeout(60):
            while out.got.count(b"data: ") < 2:
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        row = await house.row()
        assert (row.status, row.error_type, row.charge_nanos) == ("failed", "shutdown", 0)
        assert row.loss_nanos > 0
        assert not house.gateway.endings.losses.used_up(house.customer.organization.public_id)

    run(tmp_path, [*BREAKS, chunk("never")], work, pause=0.3)
