"""Epochs that begin, end and open while calls are admitted, settled and renewed: nothing falls between."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta

import msgspec
import pytest
from django.db import connection

from accounts import keyring
from aggregator.lib import clock, ids, kv
from aggregator.lib.threads import in_thread
from billing import admission, flush, gate
from billing.core import budgets, gate_scripts
from billing.core.budgets import Account, accounts_of
from tests.billing.test_admission import CREDIT, Customer, run, running
from tests.billing.test_spool import settled

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def customer():
    return Customer()


async def until(reached, seconds=60):
    async with asyncio.timeout(seconds):
        while not await in_thread(reached):
            await asyncio.sleep(0.02)


@pytest.fixture
def between(monkeypatch):
    """Do something in the middle of a join: after the epoch has begun and before the joining is done."""

    def arrange(name, do):
        real = getattr(gate, name)
        done = []

        def first_time(*arguments, **named):
            if not done:
                done.append(True)
                do()
            return real(*arguments, **named)

        monkeypatch.setattr(gate, name, first_time)
        return done

    return arrange


def shard_of(customer):
    return kv.shard(customer.organization.public_id)


async def emptied(customer, process):
    """The gate has lost everything, the process has joined again, and the wallet is loaded."""
    await in_thread(kv.gate().flushall)
    process.admission._poke.set()
    await until(lambda: kv.gate().hexists(gate.epoch_key(shard_of(customer)), "open"))
    await in_thread(keyring.load, customer.principal)


def test_what_is_settled_while_a_join_is_under_way_is_told_when_it_is_over(customer, tmp_path, between):
    async def work():
        async with running(tmp_path) as (process,):
            assert (await process.admit(customer, "a", 1000)).outcome == "ok"
            loop, told = asyncio.get_running_loop(), []
            run_settle = process.admission.pipeline.run

            def watched(source, *rest):
                if source is gate_scripts.SETTLE:
                    told.append(process.admission.epochs[shard_of(customer)])
                return run_settle(source, *rest)

            process.admission.pipeline.run = watched

            def settle():
                asyncio.run_coroutine_threadsafe(_settle(process, customer, 70), loop).result(60)
                assert told == []  # not while the join is under way

            between("joined", settle)
            await emptied(customer, process)
            assert (await process.admit(customer, "b", 5)).outcome == "ok"
            await until(lambda: gate.look(customer.wallet).spent == 70)
            await until(lambda: not process.spool.pending)
            assert told and None not in told

    run(work)


async def _settle(process, customer, nanos):
    process.settle(customer, nanos)


def test_a_call_that_ended_while_it_was_registered_again_holds_nothing_in_the_end(
    customer, tmp_path, between
):
    async def work():
        async with running(tmp_path) as (process,):
            record_id = ids.uuid7()
            call = f"gen-{record_id.hex}"
            assert (await process.admit(customer, call, 1000)).outcome == "ok"
            loop = asyncio.get_running_loop()

            def end():
                asyncio.run_coroutine_threadsafe(_end(process, customer, record_id), loop).result(60)

            between("join", end)  # its hold is collected, and not yet registered
            await emptied(customer, process)
            assert (await process.admit(customer, "b", 5)).outcome == "ok"
            await until(lambda: gate.look(customer.wallet).held == 5)
            assert gate.look(customer.wallet).spent == 70

    run(work)


async def _end(process, customer, record_id):
    record = settled(nanos=70, organization_id=customer.organization.pk, key_id=customer.principal.key_id)
    process.settlement.record(msgspec.structs.replace(record, id=record_id), (customer.wallet,))


def test_an_admission_of_an_epoch_that_was_left_is_asked_again_in_the_next(customer, tmp_path, monkeypatch):
    async def work():
        async with running(tmp_path) as (process,):
            assert (await process.admit(customer, "warm", 1)).outcome == "ok"
            real, emptied_once = admission.Admission.ask, []

            async def answered_late(itself, *question):
                answer = await real(itself, *question)
                if not emptied_once:
                    emptied_once.append(True)
                    await emptied(customer, process)
                    await asyncio.wait_for(process.admission.joined.wait(), 60)
                return answer

            monkeypatch.setattr(admission.Admission, "ask", answered_late)
            assert (await process.admit(customer, "a", 300)).outcome == "ok"
            view = await in_thread(gate.look, customer.wallet)
            assert (view.held, set(process.admission.live)) == (301, {"warm", "a"})

    run(work)


def test_an_epoch_that_ends_while_it_is_joined_is_joined_anew(customer, tmp_path, between):
    async def work():
        async with running(tmp_path) as (process,):
            assert (await process.admit(customer, "a", 300)).outcome == "ok"
            before = between("joined", lambda: kv.gate().flushall())
            await emptied(customer, process)
            await until(lambda: process.admission.joined.is_set())
            await in_thread(keyring.load, customer.principal)
            assert (await process.admit(customer, "b", 5)).outcome == "ok"
            assert before and (await in_thread(gate.look, customer.wallet)).held == 305

    run(work)


def test_a_process_joins_an_open_epoch_without_waiting_for_others(customer, tmp_path):
    async def work():
        async with running(tmp_path):
            await in_thread(flush.register, str(ids.uuid7()))  # of a machine that is gone
            async with asyncio.timeout(60):
                async with running(tmp_path) as (late,):
                    assert (await late.admit(customer, "a", 1)).outcome == "ok"

    run(work)


def test_two_processes_whose_shards_closed_crosswise_do_not_wait_for_each_other(customer, tmp_path, settings):
    settings.GATE_SHARDS = 2

    async def work():
        async with running(tmp_path, 2) as processes:
            for shard in kv.shards():
                await in_thread(kv.gate().delete, gate.epoch_key(shard))
            for process in processes:
                process.admission._poke.set()
            await until(
                lambda: all(kv.gate().hexists(gate.epoch_key(shard), "open") for shard in kv.shards())
            )
            await until(lambda: all(process.admission.joined.is_set() for process in processes))

    run(work)


def test_an_epoch_opened_by_grace_says_who_is_absent(customer, tmp_path, settings, caplog):
    settings.GATE_GRACE_SECONDS = 1
    absent = str(ids.uuid7())

    async def work():
        async with running(tmp_path) as (process,):
            await in_thread(flush.register, absent)
            with caplog.at_level(logging.ERROR, logger=admission.log.name):
                await emptied(customer, process)
            assert (await process.admit(customer, "a", CREDIT)).outcome == "ok"
            # The absent one comes after all: what it runs competes, like any other.
            epoch = await in_thread(gate.begin, shard_of(customer))
            assert await in_thread(gate.join, customer.wallet, epoch, totals={absent: 40}, holds={"late": 7})
            view = await in_thread(gate.look, customer.wallet)
            assert (view.held, view.spent) == (CREDIT, 40)

    run(work)
    assert [record.absent for record in caplog.records if "by grace" in record.message] == [[absent]]


def test_a_server_with_another_run_id_is_another_epoch_whatever_its_file_says(customer, tmp_path):
    async def work():
        async with running(tmp_path) as (process,):
            assert (await process.admit(customer, "a", 300)).outcome == "ok"
            key = gate.epoch_key(shard_of(customer))
            old = await in_thread(kv.gate().hget, key, "id")
            foreign = "0" * 40 + ":" + old.partition(":")[2]
            await in_thread(kv.gate().hset, key, "id", foreign)
            process.admission.epochs[shard_of(customer)] = foreign  # as if it had joined that life
            await in_thread(kv.gate().client_kill_filter, _type="normal", skipme=True)  # as a restart does
            await until(lambda: process.admission.epochs[shard_of(customer)] not in (None, foreign))
            assert await in_thread(gate.begin, shard_of(customer)) != foreign

    run(work)


def test_a_release_that_overtakes_its_admission_leaves_a_hold_for_one_lease(customer, tmp_path, settings):
    settings.HOLD_LEASE_SECONDS = 3

    async def work():
        async with running(tmp_path) as (process,):
            assert (await process.admit(customer, "warm", 1)).outcome == "ok"
            await process.admission.pipeline.run(
                gate_scripts.RELEASE, [gate.wallet_key(customer.wallet)], ["a"]
            )
            assert (await process.admit(customer, "a", CREDIT - 1)).outcome == "ok"
            process.admission.ended("a")
            process.admission.ended("warm")
            await until(lambda: gate.sweep() >= 0 and gate.look(customer.wallet).holds == 0)

    run(work)


def test_a_lease_that_was_swept_is_renewed_only_if_it_still_fits(customer, tmp_path):
    async def work():
        async with running(tmp_path) as (process,):
            assert (await process.admit(customer, "a", CREDIT - 100)).outcome == "ok"
            wallet = gate.wallet_key(customer.wallet)
            lapsed = {"h:a": f"{CREDIT - 100} 1", "next": "1"}
            await in_thread(kv.gate().hset, wallet, None, None, lapsed)
            assert await in_thread(gate.sweep) == 1
            assert (await process.admit(customer, "b", 200)).outcome == "ok"
            assert (await process.admission.extend("a", CREDIT - 100)).outcome == "no"
            process.admission._release([wallet], "b")
            await until(lambda: gate.look(customer.wallet).held == 0)
            assert (await process.admission.extend("a", CREDIT - 100)).outcome == "ok"

    run(work)


@pytest.mark.parametrize("limits", [{}, {"limit_nanos": CREDIT // 2, "limit_window": "day"}])
def test_an_emptied_gate_admits_no_more_than_there_is(tmp_path, limits):
    """Under load: what runs and what is owed never exceeds the wallet, nor the budget."""
    customer = Customer(**limits)
    most, each = limits.get("limit_nanos", CREDIT), CREDIT // 40

    async def work():
        async with running(tmp_path, 2) as processes:
            for n in range(40):
                process = processes[n % 2]
                if n in (10, 25):
                    await emptied(customer, process)
                answer = await process.admit(customer, f"call-{n}", each)
                if answer.outcome == "key":
                    await in_thread(keyring.load, customer.principal)
                elif answer.outcome == "ok" and n % 3 == 0:
                    process.admission.ended(f"call-{n}")
                    process.settle(customer, each // 2)
                owed = sum(sum(one.spool.totals.values()) for one in processes) // (2 if limits else 1)
                live = sum(one.amount for process in processes for one in process.admission.live.values())
                assert owed + live <= most

    run(work)


# ── Forgetting ───────────────────────────────────────────────────────────────────────────────────


def loaded(customer):
    """The accounts of the customer's key, as one process has loaded them."""
    shard = shard_of(customer)
    assert gate.open_epoch(shard, gate.begin(shard)) == []
    accounts = accounts_of(customer.principal, clock.now())
    assert all(gate.load(account).outcome == "ok" for account in accounts)
    return accounts


def marks(customer):
    return set(kv.gate().hkeys(gate.epoch_key(shard_of(customer)))) - {"id", "open"}


def test_a_budget_of_a_window_that_is_over_is_forgotten_with_its_mark():
    customer = Customer(limit_nanos=1000, limit_window="day")
    wallet, today = loaded(customer)
    yesterday = budgets.window("day", clock.now() - timedelta(days=1))
    name = today.name.replace(today.window.label, yesterday.label)
    past = Account(name, today.organization, today.organization_id, today.key_id, yesterday)
    assert gate.load(past).outcome == "ok"

    gate.sweep()

    assert not kv.gate().exists(gate.wallet_key(past))
    assert marks(customer) == {gate.wallet_key(wallet), gate.wallet_key(today)}
    assert gate.load(past).outcome == "ok"  # it was not lost: the epoch goes on


def test_what_nothing_moves_is_forgotten_after_a_while_and_loaded_when_it_is_needed(customer):
    (wallet,) = loaded(customer)
    gate.sweep(idle_seconds=1)
    assert gate.look(wallet) is not None
    time.sleep(1.1)

    gate.sweep(idle_seconds=1)

    assert gate.look(wallet) is None and marks(customer) == set()
    assert gate.load(wallet).spendable == CREDIT


@pytest.mark.parametrize("field", ["h:call", "s:spool"])
def test_what_holds_or_owes_something_is_not_forgotten(customer, field):
    (wallet,) = loaded(customer)
    if field == "h:call":
        kv.gate().hset(gate.wallet_key(wallet), mapping={"h:call": f"5 {10**15}", "held": 5})
    else:
        spool = str(ids.uuid7())
        kv.gate().hset(gate.wallet_key(wallet), mapping={f"s:{spool}": 5, "spent": 5})
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO spools (id) VALUES (%s)", [spool])
    gate.sweep(idle_seconds=0)

    gate.sweep(idle_seconds=0)

    assert gate.look(wallet).spendable == CREDIT - 5


def test_the_sweep_leaves_alone_what_postgresql_does_not_know(customer):
    loaded(customer)
    stranger = f"{shard_of(customer)}:w:org:nobody"
    kv.gate().hset(stranger, mapping={"c": 5, "e": "gone"})

    gate.sweep(idle_seconds=0)

    assert kv.gate().exists(stranger)
