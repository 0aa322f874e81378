"""Claims on idempotency keys: leases that are renewed, and what a process that is gone leaves behind."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from aggregator.lib import clock, keepers, kv
from aggregator.lib.threads import in_thread
from billing import claims, flush
from billing.claims import Claim, Claims, Found
from billing.core import claim_scripts, generation
from billing.core.budgets import accounts_of
from billing.core.generation import Generation
from tests.billing.test_admission import Customer, run, running, until

pytestmark = pytest.mark.django_db(transaction=True)

REQUEST = b"a request"


@pytest.fixture
def customer():
    return Customer()


@asynccontextmanager
async def keeping(process):
    """The claims of a process that lives."""
    own = Claims(process.admission)
    task = asyncio.create_task(own.keep())
    try:
        yield own
    finally:
        await keepers.end([task])


def end(process, customer, claim, status):
    process.settlement.record(
        Generation(
            id=claim.id,
            organization_id=customer.organization.pk,
            key_id=customer.principal.key_id,
            status=status,
            ended_ms=1,
        ),
        accounts_of(customer.principal, clock.now()),
    )


def test_one_of_many_has_the_key(customer, tmp_path):
    async def work():
        async with running(tmp_path, 2) as processes:
            asked = [
                Claims(processes[n % 2].admission).claim(customer.principal, "k", REQUEST) for n in range(50)
            ]
            found = await asyncio.gather(*asked)
            (claim,) = [each for each in found if isinstance(each, Claim)]
            assert {each for each in found if isinstance(each, Found)} == {Found("live", claim.generation)}

    run(work)


def test_a_call_that_lasts_keeps_its_key(customer, tmp_path, settings):
    settings.HOLD_LEASE_SECONDS = 3

    async def work():
        async with running(tmp_path) as (process,), keeping(process) as own:
            claim = await own.claim(customer.principal, "k", REQUEST)
            await asyncio.sleep(3.5)
            assert await own.claim(customer.principal, "k", REQUEST) == Found("live", claim.generation)

    run(work)


def test_a_gate_that_lost_a_claim_hears_of_it_again(customer, tmp_path, settings):
    settings.HOLD_LEASE_SECONDS = 2

    async def work():
        async with running(tmp_path) as (process,), keeping(process) as own:
            claim = await own.claim(customer.principal, "k", REQUEST)
            await in_thread(kv.gate().delete, *claim.keys)
            await until(lambda: kv.gate().exists(*claim.keys) == len(claim.keys))
            assert await own.claim(customer.principal, "k", REQUEST) == Found("live", claim.generation)

    run(work)


@pytest.mark.parametrize("status", [generation.COMPLETED, generation.ABORTED])
@pytest.mark.parametrize("receipt", [True, False])
def test_what_a_dead_process_charged_is_not_called_again(customer, tmp_path, settings, status, receipt):
    settings.HOLD_LEASE_SECONDS = 1

    async def work():
        async with running(tmp_path) as (process,):
            dead = Claims(process.admission)  # nobody keeps its claims
            claim = await dead.claim(customer.principal, "k", REQUEST)
            end(process, customer, claim, status)
            await asyncio.sleep(1.2)
            if not receipt:
                await in_thread(_forget_receipts)
            other = Claims(process.admission)
            assert await other.claim(customer.principal, "k", REQUEST) == Found("done", claim.generation)

    run(work)


@pytest.mark.parametrize("status", [generation.VOID, generation.FAILED, None])
def test_what_a_dead_process_did_not_charge_is_called_anew(customer, tmp_path, settings, status):
    settings.HOLD_LEASE_SECONDS = 1

    async def work():
        async with running(tmp_path, 2) as (process, other):
            dead = Claims(process.admission)
            claim = await dead.claim(customer.principal, "k", REQUEST)
            if status is not None:
                end(process, customer, claim, status)
            await asyncio.sleep(1.2)
            if status is None:
                await in_thread(flush.close, process.spool.id)
            settings.HOLD_LEASE_SECONDS = 60  # of the one that takes it
            asked = [Claims(other.admission).claim(customer.principal, "k", REQUEST) for _ in range(20)]
            found = await asyncio.gather(*asked)
            (taken,) = [each for each in found if isinstance(each, Claim)]
            assert taken.generation != claim.generation
            assert {each for each in found if isinstance(each, Found)} == {Found("live", taken.generation)}
            assert await dead.claim(customer.principal, "k", b"another") == Found("other", taken.generation)

    run(work)


def test_while_a_dead_process_may_still_have_a_record_nothing_is_called_anew(customer, tmp_path, settings):
    settings.HOLD_LEASE_SECONDS = 1

    async def work():
        async with running(tmp_path, 2) as (process, other):
            claim = await Claims(process.admission).claim(customer.principal, "k", REQUEST)
            await asyncio.sleep(1.2)
            own = Claims(other.admission)
            for _ in range(3):
                assert await own.claim(customer.principal, "k", REQUEST) == Found("live", claim.generation)
            end(process, customer, claim, generation.COMPLETED)
            until = asyncio.get_running_loop().time() + 60
            while (found := await own.claim(customer.principal, "k", REQUEST)).state == "live":
                assert asyncio.get_running_loop().time() < until
                await asyncio.sleep(0.02)
            assert found == Found("done", claim.generation)
            while process.spool.pending:  # its record is on its way to PostgreSQL
                await asyncio.sleep(0.02)

    run(work)


def test_a_drop_that_the_gate_did_not_hear_is_told_again(customer, tmp_path, monkeypatch):
    async def work():
        async with running(tmp_path) as (process,), keeping(process) as own:
            pipeline, heard = process.admission.pipeline, []
            sent = type(pipeline).run

            def run_or_lose(self, source, keys, arguments):
                if source != claim_scripts.DROP or heard:
                    return sent(self, source, keys, arguments)
                heard.append(source)
                lost = asyncio.get_running_loop().create_future()
                lost.set_exception(kv.Failed("the connection broke"))
                return lost

            claim = await own.claim(customer.principal, "k", REQUEST)
            monkeypatch.setattr(type(pipeline), "run", run_or_lose)
            own.drop(claim)
            until = asyncio.get_running_loop().time() + 60
            while await in_thread(kv.gate().exists, *claim.keys):
                assert asyncio.get_running_loop().time() < until
                await asyncio.sleep(0.05)
            assert heard == [claim_scripts.DROP]

    run(work)


def test_only_its_own_call_drops_a_claim_and_none_one_that_is_done(customer, tmp_path):
    async def work():
        async with running(tmp_path) as (process,):
            own = Claims(process.admission)
            claim = await own.claim(customer.principal, "k", REQUEST)
            own.drop(Claim(claim.organization, claim.member, claim.request, claim.spool))
            assert await own.claim(customer.principal, "k", REQUEST) == Found("live", claim.generation)
            await own.finish(claim)
            own.drop(claim)
            assert await own.claim(customer.principal, "k", REQUEST) == Found("done", claim.generation)

    run(work)


def test_a_dropped_claim_leaves_nothing(customer, tmp_path):
    async def work():
        async with running(tmp_path) as (process,):
            own = Claims(process.admission)
            dropped = await own.claim(customer.principal, "k", REQUEST)
            own.drop(dropped)
            await until(lambda: not kv.gate().exists(*dropped.keys))  # a script that is new comes later
            claim = await own.claim(customer.principal, "k", b"another")
            assert isinstance(claim, Claim)
            own.drop(claim)
            async with asyncio.timeout(60):
                while await in_thread(kv.gate().exists, *claim.keys):
                    await asyncio.sleep(0.02)

    run(work)


def test_an_organization_keeps_its_newest_claims_and_no_more(customer, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "MOST_CLAIMS", 10)

    async def work():
        async with running(tmp_path) as (process,):
            own = Claims(process.admission)
            for number in range(25):
                await own.finish(await own.claim(customer.principal, f"k{number}", REQUEST))
                await asyncio.sleep(0.002)  # they are ordered by milliseconds
            kept = await in_thread(kv.gate().keys, f"*:i:{customer.organization.public_id}:*")
            assert len(kept) == 10
            for number in (15, 24):
                found = await own.claim(customer.principal, f"k{number}", REQUEST)
                assert isinstance(found, Found) and found.state == "done"
            assert isinstance(await own.claim(customer.principal, "k0", REQUEST), Claim)

    run(work)


def _forget_receipts():
    for name in kv.gate().keys("*:r:*"):
        kv.gate().delete(name)
