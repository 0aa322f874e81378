"""Admission as gateway processes do it: many calls in one tick, epochs joined and lost, one credit."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from django.db import OperationalError

from accounts import keyring, keys
from aggregator.lib import clock, ids, keepers, kv
from aggregator.lib.errors import Refusal
from aggregator.lib.threads import in_thread
from billing import admission, flush, gate
from billing.admission import Admission
from billing.core import generation
from billing.core.budgets import accounts_of, wallet_account
from billing.core.generation import Generation
from billing.models import Generation as Row
from billing.models import Wallet
from billing.settlement import Settlement
from billing.spool import Spool
from tests.billing import books

pytestmark = pytest.mark.django_db(transaction=True)

CREDIT = 10**9


class Customer:
    """An organization with exactly $1, and a key."""

    def __init__(self, slug="acme", **limits):
        self.organization = books.make_organization(slug, usd="0")
        _, text = keys.create(self.organization, name="test", by="test", **limits)
        self.principal = keys.principal(text)
        keyring.load(self.principal)
        self.terms = Wallet.objects.of(self.organization.pk).get().terms_version
        self.wallet = wallet_account(self.organization.public_id, self.organization.pk)


@pytest.fixture
def customer():
    return Customer()


class Process:
    """What a gateway process keeps of the gate."""

    def __init__(self, folder):
        self.spool = Spool.create(folder)
        flush.register(self.spool.id)
        self.admission = Admission(self.spool)
        self.settlement = Settlement(self.spool, self.admission)

    async def admit(self, customer, call, amount):
        return await self.admission.admit(
            customer.principal,
            accounts_of(customer.principal, clock.now()),
            call=call,
            amount=amount,
            terms_version=customer.terms,
        )

    def settle(self, customer, nanos):
        record = Generation(
            id=ids.uuid7(),
            organization_id=customer.organization.pk,
            key_id=customer.principal.key_id,
            status=generation.COMPLETED,
            charge_nanos=nanos,
            base_nanos=nanos,
            ended_ms=1,
        )
        self.settlement.record(record, accounts_of(customer.principal, clock.now()))
        return record


@asynccontextmanager
async def running(folder, count=1):
    processes = [await in_thread(Process, folder) for _ in range(count)]
    tasks = [asyncio.create_task(process.admission.keep()) for process in processes]
    tasks += [asyncio.create_task(process.settlement.keep()) for process in processes]
    for process in processes:
        await asyncio.wait_for(process.admission.joined.wait(), 60)
    try:
        yield processes
    finally:
        await keepers.end(tasks)
        for process in processes:
            await process.admission.close()
            process.spool.close()


async def until(is_so, seconds=60):
    """Of what does not wait itself: it may ask the gate."""
    async with asyncio.timeout(seconds):
        while not await in_thread(is_so):
            await asyncio.sleep(0.02)


@asynccontextmanager
async def silent_gate():
    """No script is answered inside, however long that takes on a busy machine."""
    await in_thread(kv.gate().client_pause, 60_000, False)
    try:
        yield
    finally:
        await in_thread(kv.gate().client_unpause)


async def emptied(*processes, then=lambda: None):
    """The gate has lost everything, `then` is done at once, and all of these have joined it again."""
    before = [process.admission.epochs.copy() for process in processes]
    await in_thread(kv.gate().flushall)
    then()
    for process, left in zip(processes, before, strict=True):
        await until(lambda own=process.admission, left=left: own.joined.is_set() and own.epochs != left)


def run(work):
    asyncio.run(work())


def test_two_hundred_calls_of_two_processes_on_credit_for_ten(customer, tmp_path):
    async def work():
        async with running(tmp_path, 2) as (one, other):
            asked = [
                process.admit(customer, f"{name}-{n}", CREDIT // 10)
                for n in range(100)
                for name, process in (("a", one), ("b", other))
            ]
            answers = Counter(answer.outcome for answer in await asyncio.gather(*asked))
            assert answers == {"ok": 10, "no": 190}
            assert len(one.admission.live) + len(other.admission.live) == 10

    run(work)
    assert gate.look(customer.wallet).held == CREDIT


def test_a_budget_is_named_when_it_is_what_falls_short(tmp_path):
    customer = Customer(limit_nanos=1000, limit_window="day")

    async def work():
        async with running(tmp_path) as (process,):
            refused = await process.admit(customer, "a", 1001)
            assert (refused.outcome, refused.value) == ("no", 1000)
            assert refused.account.window.kind == "day"
            assert (await process.admit(customer, "b", 1000)).outcome == "ok"

    run(work)


def test_holds_grow_and_renew(customer, tmp_path):
    async def work():
        async with running(tmp_path) as (process,):
            await process.admit(customer, "a", 100)
            assert (await process.admission.extend("a", 500)).outcome == "ok"
            assert (await process.admission.extend("a", 200)).outcome == "ok"
            assert process.admission.live["a"].amount == 500
            assert (await process.admission.extend("a", CREDIT + 1)).outcome == "no"

    run(work)
    assert gate.look(customer.wallet).held == 500


def test_an_emptied_gate_learns_totals_and_holds_again(customer, tmp_path):
    async def work():
        async with running(tmp_path, 2) as (one, other):
            await one.admit(customer, "a", 1000)
            await other.admit(customer, "b", 2000)
            one.settle(customer, 70)
            # What is settled then is told to a gate that has forgotten everything.
            await emptied(one, other, then=lambda: other.settle(customer, 30))
            await in_thread(keyring.load, customer.principal)
            assert (await one.admit(customer, "c", 5)).outcome == "ok"
            view = await in_thread(gate.look, customer.wallet)
            assert view.held == 3005
            assert view.credit - view.spent == CREDIT - 100
            await until(lambda: one.spool.empty and other.spool.empty)

    run(work)


def test_the_lost_key_version_means_ask_not_refuse(customer, tmp_path):
    async def work():
        async with running(tmp_path) as (process,):
            await emptied(process)
            assert (await process.admit(customer, "a", 1)).outcome == "key"

    run(work)


def test_a_gate_that_is_silent_is_refused_as_our_fault(customer, tmp_path, settings):
    usual = settings.GATE_TIMEOUT_MS

    async def work():
        async with running(tmp_path) as (process,):
            await process.admit(customer, "warm", 1)
            settings.GATE_TIMEOUT_MS = 60
            async with silent_gate():
                with pytest.raises(Refusal) as refused:
                    await process.admit(customer, "a", 1)
            settings.GATE_TIMEOUT_MS = usual
            assert (refused.value.status, refused.value.error_type) == (503, "service_unavailable")
            assert "a" not in process.admission.live
            assert (await process.admit(customer, "b", 1)).outcome == "ok"

    run(work)


def test_a_settlement_is_told_and_written_and_then_cut(customer, tmp_path):
    async def work():
        async with running(tmp_path) as (process,):
            await process.admit(customer, "a", 1000)
            for nanos in (1, 2, 3):
                process.settle(customer, nanos)
            await until(lambda: process.spool.empty)
            assert process.spool.size == 0

    run(work)
    assert gate.look(customer.wallet).spent == 6
    assert sum(row.charge_nanos for row in Row.objects.of(customer.organization.pk)) == 6


def test_one_wallet_that_cannot_be_loaded_takes_no_other_calls_lease(
    customer, tmp_path, monkeypatch, settings
):
    """The gate has lost its credit, and PostgreSQL is away: the calls of others are renewed all the same."""
    settings.HOLD_LEASE_SECONDS = 3
    other = Customer("other")

    def away(_):
        raise OperationalError("PostgreSQL is away")

    async def work():
        async with running(tmp_path) as (process,):
            await process.admit(customer, "first", 100)
            await process.admit(other, "second", 100)
            monkeypatch.setattr(admission, "_load_or_open", away)
            await in_thread(kv.gate().hdel, gate.wallet_key(customer.wallet), "c", "e")
            admitted = process.admission.live["second"].renewed
            async with asyncio.timeout(60):
                while process.admission.live["second"].renewed == admitted:
                    await asyncio.sleep(0.05)
            assert (await process.admission.extend("first", 100)).outcome == "unknown"

    run(work)


def test_an_admission_that_arrives_twice_is_one_request(tmp_path, monkeypatch):
    """Its answer was lost with the connection: it has its hold already, so it is not refused for its rate."""
    customer = Customer(requests_per_minute=1)

    async def work():
        async with running(tmp_path) as (process,):
            run_once = process.admission.pipeline.run

            def run_twice(source, keys, arguments):
                run_once(source, keys, arguments)
                return run_once(source, keys, arguments)

            monkeypatch.setattr(kv.TickPipeline, "run", lambda _, *asked: run_twice(*asked))
            answer = await process.admit(customer, "call-1", 100)
            other = await process.admit(customer, "call-2", 100)

            assert (answer.outcome, answer.value, other.outcome) == ("ok", 0, "rate")
            assert gate.look(customer.wallet).held == 100

    run(work)


def test_a_settlement_that_another_epoch_heard_is_told_again(customer, tmp_path):
    """It went once more, to a server that was restarted meanwhile: only what follows the join counts."""

    async def work():
        async with running(tmp_path) as (process,):
            await process.admit(customer, "gen-1", 100)
            shard = kv.shard(customer.organization.public_id)
            epoch = process.admission.epochs[shard]
            record = process.settle(customer, 60)
            process.admission.epochs[shard] = None  # as `_greet` has it
            pending = process.spool.pending[record.id]
            async with asyncio.timeout(60):
                while pending.telling:
                    await asyncio.sleep(0)
            assert not pending.acknowledged
            process.admission.epochs[shard] = epoch
            async with asyncio.timeout(60):
                while not pending.acknowledged:
                    await asyncio.sleep(0.01)

    run(work)


def test_a_full_spool_refuses_new_calls(customer, tmp_path, settings):
    settings.SPOOL_MAX_BYTES = 10

    async def work():
        process = await in_thread(Process, tmp_path)
        process.settlement.refuse_when_full()
        process.settle(customer, 1)
        with pytest.raises(Refusal) as refused:
            process.settlement.refuse_when_full()
        assert refused.value.status == 503
        await process.admission.close()

    run(work)


def test_a_cancelled_admission_leaves_the_connection_in_order(customer, tmp_path):
    """No answer of one call ever reaches another, whichever await a cancel hits."""

    async def work():
        async with running(tmp_path) as (process,):
            for n in range(150):
                task = asyncio.create_task(process.admit(customer, f"cut-{n}", 1))
                for _ in range(n % 7):
                    await asyncio.sleep(0)
                task.cancel()
                own = await process.admit(customer, f"own-{n}", 2)
                assert own.outcome == "ok"
            more = await process.admission.extend("own-0", 3)
            assert more.outcome == "ok" and process.admission.live["own-0"].amount == 3

    run(work)


def test_a_call_whose_admission_was_cancelled_holds_nothing(customer, tmp_path):
    async def work():
        async with running(tmp_path) as (process,):
            await process.admit(customer, "first", 1)
            asking = asyncio.create_task(process.admit(customer, "left", 500))
            for _ in range(4):  # asked, and not yet answered
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            async with asyncio.timeout(60):
                while gate.look(customer.wallet).held > 1:
                    await asyncio.sleep(0.01)
            assert "left" not in process.admission.live

    run(work)


def test_a_keeper_that_is_roused_as_it_is_cancelled_ends(customer, tmp_path):
    """`asyncio.wait_for` would take the one for the other: a process could then never stop."""

    async def work():
        async with running(tmp_path) as (process,):
            for _ in range(3):
                task = asyncio.create_task(process.admission.keep())
                await asyncio.sleep(0.2)  # it waits to be roused
                process.admission._poke.set()
                task.cancel()
                done, _ = await asyncio.wait({task}, timeout=30)
                task.cancel()
                assert done == {task}

    run(work)
