"""A spool whose disk will never come back: what is known of it, who may close it, and what that costs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from aggregator.lib import clock, kv
from aggregator.lib.threads import in_thread
from billing import flush, gate, open_spools, reconcile
from billing.claims import Claim, Claims, Found
from billing.models import Generation as Row
from billing.models import Spool as SpoolRow
from routing import process
from tests.billing.test_admission import CREDIT, Customer, run, running

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def customer():
    return Customer()


@pytest.fixture(autouse=True)
def here(settings, tmp_path):
    """The folder of this machine, where the lost disk is not."""
    settings.SPOOL_DIR = tmp_path / "here"


def silent_for(spool, **time):
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE spools SET seen_at = %s WHERE id = %s", [clock.now() - timedelta(**time), spool]
        )


async def until(reached):
    async with asyncio.timeout(60):
        while not await in_thread(reached):
            await asyncio.sleep(0.02)


def lose(customer, folder, monkeypatch):
    """A process that wrote 100 nanos to PostgreSQL, told the gate of 50 more, and was gone with its disk.

    Its spool, and an idempotency key that it had claimed when it died.
    """
    seen = []

    async def work():
        async with running(folder) as (process,):
            assert (await process.admit(customer, "a", 1000)).outcome == "ok"
            claimed = await Claims(process.admission).claim(customer.principal, "k", b"request")
            process.settle(customer, 100)
            await until(lambda: process.spool.empty)
            monkeypatch.setattr(flush, "deliver", _away)
            process.settle(customer, 50)
            await until(lambda: gate.look(customer.wallet).spent == 150)
            process.admission._release([gate.wallet_key(customer.wallet)], "a")
            await until(lambda: gate.look(customer.wallet).held == 0)
            seen.extend((process.spool, claimed))

    run(work)
    monkeypatch.undo()
    return seen


def _away(*_):
    raise OperationalError("the database is away")


def test_what_reached_postgresql_stays_and_the_rest_is_the_customers_again(customer, tmp_path, monkeypatch):
    lost, _ = lose(customer, tmp_path / "lost", monkeypatch)
    assert not _finding("gate_agrees").holds
    silent_for(lost.id, minutes=6)

    abandoned = open_spools.abandon(lost.id)

    assert (abandoned.tallied, abandoned.organizations) == (100, 1)
    assert not flush.is_open(lost.id)
    assert gate.look(customer.wallet).spendable == CREDIT - 100
    assert _finding("gate_agrees").holds


def test_a_new_epoch_need_not_wait_for_it_any_more(customer, tmp_path, monkeypatch):
    lost, _ = lose(customer, tmp_path / "lost", monkeypatch)
    silent_for(lost.id, minutes=6)
    shard = gate.wallet_key(customer.wallet).partition(":w:")[0]
    kv.gate().delete(gate.epoch_key(shard))
    epoch = gate.begin(shard)
    assert gate.open_epoch(shard, epoch) == [lost.id]

    open_spools.abandon(lost.id)

    assert gate.open_epoch(shard, epoch) == []


def test_an_idempotency_key_that_its_call_had_is_free_again(customer, tmp_path, monkeypatch, settings):
    settings.HOLD_LEASE_SECONDS = 1
    lost, claimed = lose(customer, tmp_path / "lost", monkeypatch)
    silent_for(lost.id, minutes=6)

    async def work():
        async with running(tmp_path / "here") as (process,):
            async with asyncio.timeout(60):
                while not await _asked_past_its_lease(process, claimed):
                    await asyncio.sleep(0.1)
            await in_thread(open_spools.abandon, lost.id)
            taken = await Claims(process.admission).claim(customer.principal, "k", b"request")
            assert isinstance(taken, Claim) and taken.generation != claimed.generation

    async def _asked_past_its_lease(process, claimed):
        found = await Claims(process.admission).claim(customer.principal, "k", b"request")
        assert found == Found("live", claimed.generation)
        return clock.now() - began > timedelta(seconds=1.5)

    began = clock.now()
    run(work)


def test_a_disk_that_comes_back_after_all_is_charged_once(customer, tmp_path, monkeypatch, settings):
    lost, _ = lose(customer, tmp_path / "lost", monkeypatch)
    silent_for(lost.id, minutes=6)
    open_spools.abandon(lost.id)
    assert gate.look(customer.wallet).spendable == CREDIT - 100
    settings.SPOOL_DIR = tmp_path / "lost"

    assert process._take_over() == []

    assert list(settings.SPOOL_DIR.iterdir()) == []

    rows = Row.objects.of(customer.organization.pk)
    assert sorted(row.charge_nanos for row in rows) == [50, 100]
    assert gate.look(customer.wallet).spendable == CREDIT - 150
    assert _finding("gate_agrees").holds


def test_one_that_may_live_or_lies_here_is_not_abandoned(customer, tmp_path, monkeypatch, settings):
    lost, _ = lose(customer, tmp_path / "lost", monkeypatch)
    with pytest.raises(ValueError, match="may live"):
        open_spools.abandon(lost.id)
    silent_for(lost.id, hours=5)
    settings.SPOOL_DIR = tmp_path / "lost"
    with pytest.raises(ValueError, match="will replay it"):
        open_spools.abandon(lost.id)

    assert flush.is_open(lost.id)


@pytest.mark.parametrize("name", ["", "x", "0199d1a0-0000-7000-8000-000000000000", "' OR 1=1"])
def test_one_that_does_not_exist_is_said_not_to(name):
    with pytest.raises(LookupError, match="no open spool"):
        open_spools.abandon(name)


def test_the_command_tells_what_is_known_and_acts_only_when_it_is_told_to(customer, tmp_path, monkeypatch):
    lost, _ = lose(customer, tmp_path / "lost", monkeypatch)
    silent_for(lost.id, hours=5)
    SpoolRow.objects.filter(pk=lost.id).update(host="lost-host", pid=4711)

    for arguments in ([], [lost.id]):
        said = StringIO()
        if arguments:
            with pytest.raises(CommandError, match="--yes"):
                call_command("abandon_spool", *arguments, stdout=said, skip_checks=True)
        else:
            call_command("abandon_spool", stdout=said, skip_checks=True)
        assert f"{lost.id}: process 4711 on lost-host, started " in said.getvalue()
        assert "$0.0000001 of 1 organizations reached PostgreSQL" in said.getvalue()
    assert flush.is_open(lost.id)

    said = StringIO()
    call_command("abandon_spool", lost.id, "--yes", stdout=said, skip_checks=True)
    assert "Abandoned." in said.getvalue() and not flush.is_open(lost.id)
    with pytest.raises(CommandError, match="no open spool"):
        call_command("abandon_spool", lost.id, "--yes", skip_checks=True)


def test_the_check_of_the_ledger_names_a_spool_that_nobody_hears_of(customer, tmp_path, monkeypatch):
    lost, _ = lose(customer, tmp_path / "lost", monkeypatch)
    assert _finding("spools_are_heard_of").holds
    silent_for(lost.id, hours=2)

    (example,) = _finding("spools_are_heard_of").examples
    assert lost.id in example

    assert flush.seen(lost.id)
    assert _finding("spools_are_heard_of").holds
    flush.close(lost.id)
    assert not flush.seen(lost.id)


def _finding(name):
    (found,) = (finding for finding in reconcile.check() if finding.name == name)
    return found
