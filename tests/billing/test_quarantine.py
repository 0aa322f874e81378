"""A record that PostgreSQL refuses for what it says: its money arrives, and nothing waits behind it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import time

import msgspec
import pytest
from django.db import IntegrityError

from billing import flush, quarantine, reconcile, spool
from billing.admission import Admission
from billing.models import Generation as Row
from billing.settlement import Settlement
from billing.spool import Spool
from tests.billing import books
from tests.billing.test_spool import die, dispatched, only_orphan, settled

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def own(tmp_path, settings):
    settings.SPOOL_DIR = tmp_path
    made = Spool.create(tmp_path)
    flush.register(made.id)
    return made


@pytest.fixture
def key():
    return books.make_key(books.make_organization())


def settle(own, key, count=5, *, odd=(), change=None):
    """`count` settlements, of which those numbered in `odd` are changed."""
    found = []
    for number in range(count):
        record = settled(number, organization_id=key.organization_id, key_id=key.pk)
        if number in odd:
            record = msgspec.structs.replace(record, **change)
        own.dispatch(dispatched(record))
        found.append(own.settle(record, key.organization.public_id, ("org:a",)))
    return found


def tally():
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT max(nanos) FROM tallies")
        return cursor.fetchone()[0]


@pytest.mark.parametrize("change", [{"user_agent": "\0"}, {"decision": {"a": "\0"}}, {"finish_reason": "\0"}])
@pytest.mark.parametrize("odd", [(0,), (4,), (1, 3)])
def test_it_holds_up_nothing_and_its_charge_arrives(own, key, change, odd, tmp_path):
    settlements = settle(own, key, odd=odd, change=change)

    flush.deliver(own.id, settlements)

    rows = {row.id: row for row in Row.unscoped.all()}
    assert len(rows) == 5 and sum(row.charge_nanos for row in rows.values()) == 500 == tally()
    assert {row.id for row in rows.values() if row.decision.get("quarantined")} == {
        settlements[number].generation.id for number in odd
    }
    assert quarantine.waiting(tmp_path) == {str(settlements[n].generation.id): True for n in odd}
    kept = [json.loads(line)["record"] for line in (tmp_path / quarantine.FILE).read_bytes().splitlines()]
    assert all(record[name] == value for record in kept for name, value in change.items())


def test_what_cannot_be_written_at_all_is_kept_whole_beside_the_spools(own, key, tmp_path):
    settlements = settle(own, key, odd=(2,), change={"output": 2**70})

    flush.deliver(own.id, settlements)

    assert Row.unscoped.count() == 4
    assert quarantine.waiting(tmp_path) == {str(settlements[2].generation.id): False}
    assert tally() == 500  # what the gate was told includes it


def test_a_dead_processs_refused_record_does_not_keep_the_next_from_starting(own, key, tmp_path):
    settlements = settle(own, key, odd=(1,), change={"upstream_id": "\0"})
    own.dispatch(dispatched(settled(9, organization_id=key.organization_id, key_id=key.pk)))
    die(own)

    assert flush.recover(only_orphan(tmp_path)) == 6

    assert sorted(row.status for row in Row.unscoped.all()) == ["completed"] * 5 + ["void"]
    assert quarantine.waiting(tmp_path) == {str(settlements[1].generation.id): True}


def test_one_that_comes_twice_is_one(own, key, tmp_path):
    settlements = settle(own, key, odd=(1,), change={"user_agent": "\0"})

    flush.deliver(own.id, settlements)
    flush.deliver(own.id, settlements)

    assert Row.unscoped.count() == 5 and len(quarantine.waiting(tmp_path)) == 1


def test_a_spool_that_was_closed_is_no_fault_of_its_records(own, key, tmp_path):
    settlements = settle(own, key)
    flush.close(own.id)

    with pytest.raises(IntegrityError):
        flush.deliver(own.id, settlements)

    assert Row.unscoped.count() == 0 and quarantine.waiting(tmp_path) == {}


def test_the_ledger_is_not_right_until_somebody_has_looked(own, key, tmp_path):
    flush.deliver(own.id, settle(own, key, odd=(1,), change={"user_agent": "\0"}))
    assert "nothing_is_refused" in {found.name for found in reconcile.check() if not found.holds}

    (tmp_path / quarantine.FILE).rename(tmp_path / "looked-at.jsonl")

    assert "nothing_is_refused" not in {found.name for found in reconcile.check() if not found.holds}


# ── What a process leaves half made or half removed ──────────────────────────────────────────────


def test_what_was_closed_and_not_removed_goes_with_the_next_start(tmp_path):
    own = Spool.create(tmp_path)
    own.folder.rename(own.folder.with_suffix(".closed"))
    os.close(own.lock)

    assert list(spool.orphans(tmp_path)) == [] and list(tmp_path.iterdir()) == []


def test_what_was_never_born_goes_when_it_is_old_and_what_is_damaged_stays(tmp_path):
    fresh, old, damaged = (tmp_path / name for name in ("a.new", "b.new", "c.damaged"))
    for folder in (fresh, old, damaged):
        folder.mkdir()
    for folder in (old, damaged):
        os.utime(folder, (time.time() - 100,) * 2)

    assert list(spool.orphans(tmp_path)) == []
    assert sorted(tmp_path.iterdir()) == [fresh, damaged]


def test_a_disk_that_is_full_ends_no_process(own, key, tmp_path, monkeypatch):
    """What cannot be put aside waits in the spool, as what PostgreSQL cannot take."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "no space left on device")

    async def work():
        settlement = Settlement(own, Admission(own))
        settle(own, key, odd=(2,), change={"user_agent": "\0"})
        settlement._unflushed.extend(own.pending.values())
        with monkeypatch.context() as broken:
            broken.setattr(quarantine, "put", full)
            await settlement.flush_once()
        assert [pending.flushed for pending in settlement._unflushed] == [False] * 5
        await settlement.flush_once()
        assert not settlement._unflushed

    asyncio.run(work())
    assert Row.unscoped.count() == 5 and tally() == 500
    assert len(quarantine.waiting(tmp_path)) == 1
