"""A full disk, a gate or a database that is away, another's odd bytes: what is settled moves on, once."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from dataclasses import replace

import pytest
from django.db import DataError, connection

from accounts import keyring, keys
from accounts.models import Key
from aggregator.lib import kv
from aggregator.lib.threads import in_thread
from billing import flush, gate, spool
from billing.models import Generation as Row
from billing.spool import Dispatch, Spool
from tests.billing.test_admission import CREDIT, Customer, emptied, run, running, silent_gate
from tests.billing.test_spool import die, only_orphan, settled

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def customer():
    return Customer()


@pytest.fixture
def full_disk():
    """Files of this process cannot grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def until(reached, seconds=60):
    async with asyncio.timeout(seconds):
        while not await in_thread(reached):
            await asyncio.sleep(0.02)


# ── The spool ────────────────────────────────────────────────────────────────────────────────────


def test_a_line_that_did_not_fit_on_the_disk_spoils_no_other(tmp_path, full_disk):
    own = Spool.create(tmp_path)
    own.settle(settled(1), "org", ("org:org",))
    size = own.size
    full_disk(size + 20)
    with pytest.raises(OSError, match="full") as caught:
        own.settle(settled(2), "org", ("org:org",))
    assert caught.value.errno == errno.ENOSPC
    full_disk(resource.RLIM_INFINITY)
    own.settle(settled(3), "org", ("org:org",))
    die(own)

    orphan = only_orphan(tmp_path)

    assert [each.generation.model_asked for each in orphan.settlements] == ["model-1", "model-3"]
    assert orphan.damaged == 0 and orphan.totals() == {("org", "org:org"): 200}


def test_a_call_that_cannot_be_recorded_is_not_renewed_for_ever(customer, tmp_path, full_disk):
    async def work():
        async with running(tmp_path) as (process,):
            assert (await process.admit(customer, "gen-1", 100)).outcome == "ok"
            record = settled(1, organization_id=customer.organization.pk)
            process.admission.live[record.public_id] = process.admission.live.pop("gen-1")
            full_disk(10)
            with pytest.raises(OSError, match="full"):
                process.settlement.record(record, (customer.wallet,))
            full_disk(resource.RLIM_INFINITY)
            assert process.admission.live == {}

    run(work)


def test_a_spool_that_another_removes_just_now_is_no_orphan(tmp_path):
    own = Spool.create(tmp_path)
    die(own)
    orphan = only_orphan(tmp_path)
    late = os.open(orphan.folder / "lock", os.O_RDWR)  # as a process that looks at the same moment
    orphan.remove()

    assert list(spool.orphans(tmp_path)) == []
    assert spool._try_lock(orphan.folder) is None
    os.close(late)


def test_a_closed_spool_whose_folder_stayed_is_not_counted_again(customer, tmp_path):
    own = Spool.create(tmp_path)
    flush.register(own.id)
    record = settled(organization_id=customer.organization.pk, key_id=customer.principal.key_id)
    own.dispatch(Dispatch(record.id, record.organization_id, record.key_id, "model"))
    own.settle(record, customer.organization.public_id, (customer.wallet.name,))
    die(own)
    orphan = only_orphan(tmp_path)
    flush.recover(orphan)
    flush.close(own.id)

    flush.recover(orphan)

    assert not flush.is_open(own.id)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tallies")
        assert cursor.fetchone() == (0,)
    assert Row.unscoped.get().charge_nanos == 100


# ── PostgreSQL ───────────────────────────────────────────────────────────────────────────────────


def test_what_copy_refuses_is_an_error_of_the_database(tmp_path):
    own = Spool.create(tmp_path)
    flush.register(own.id)
    settlement = own.settle(settled("\0"), "org", ("org:org",))

    with pytest.raises(DataError):
        flush.write(own.id, [settlement])


# ── The gate ─────────────────────────────────────────────────────────────────────────────────────


def test_a_gate_that_cannot_say_ends_no_call_and_no_keeping(customer, tmp_path, settings):
    settings.HOLD_LEASE_SECONDS = 1

    async def work():
        async with running(tmp_path) as (process,):
            assert (await process.admit(customer, "gen-1", 100)).outcome == "ok"
            process.admission.live["gen-1"].renewed -= 1  # due, and cannot be had either
            settings.GATE_TIMEOUT_MS = 50
            async with silent_gate():
                assert (await process.admission.extend("gen-1", 200)).outcome == "unknown"
                await asyncio.sleep(1.2)  # it is tried again, twice
            settings.GATE_TIMEOUT_MS = 1000
            await emptied(process)
            await in_thread(keyring.load, customer.principal)
            assert (await process.admit(customer, "gen-2", 100)).outcome == "ok"

    run(work)


def test_an_epoch_that_was_joined_and_not_opened_is_opened_later(customer, tmp_path):
    async def work():
        async with running(tmp_path) as (process,):
            shard = kv.shard(customer.organization.public_id)
            # As after a failure of PostgreSQL between the joining and the opening.
            await in_thread(kv.gate().hdel, gate.epoch_key(shard), "open")
            await until(lambda: kv.gate().hexists(gate.epoch_key(shard), "open"))
            assert (await process.admit(customer, "gen-1", CREDIT)).outcome == "ok"

    run(work)


def test_a_connection_that_never_answers_is_given_up(monkeypatch, settings):
    monkeypatch.setattr(kv, "ANSWER_SECONDS", 0.3)

    async def work():
        with socket.create_server(("127.0.0.1", 0)) as silent:
            settings.GATE_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}"
            client = kv.async_gate()
            answer = kv.TickPipeline(client).run("return 1", [], [])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(answer), 5)
            assert answer.done()
            await client.aclose()

    run(work)


def test_a_limit_that_was_lowered_is_in_force_for_a_worker_that_knew_no_other(tmp_path):
    customer = Customer(limit_nanos=1000, limit_window="day")

    async def work():
        async with running(tmp_path) as (process,):
            assert (await process.admit(customer, "gen-1", 900)).outcome == "ok"
            await in_thread(_lower, customer, 950)
            answer = await process.admit(customer, "gen-2", 60)
            assert (answer.outcome, answer.value) == ("no", 50)
            await in_thread(_lower, customer, 2000)
            assert (await process.admit(customer, "gen-3", 60)).outcome == "ok"

    run(work)


def _lower(customer, nanos):
    keys.update(Key.unscoped.get(pk=customer.principal.key_id), by="test", limit_nanos=nanos)
    with connection.cursor() as cursor:
        cursor.execute("SELECT version FROM accounts_key WHERE id = %s", [customer.principal.key_id])
        (version,) = cursor.fetchone()
    customer.principal = replace(customer.principal, key_version=version, limit_nanos=nanos)


# ── The process ──────────────────────────────────────────────────────────────────────────────────


def test_the_folder_stays_when_its_row_could_not_be_removed(tmp_path):
    own = Spool.create(tmp_path)
    own.close(keep=True)

    assert only_orphan(tmp_path).id == own.id
