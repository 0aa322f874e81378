"""The spool: what was settled survives the process, once, whatever state its file is in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid

import pytest

from aggregator.lib import ids
from billing import flush, posting, spool
from billing.core import generation
from billing.core.generation import Generation
from billing.models import Generation as Row
from billing.spool import Dispatch, Spool
from tests.billing import books


def settled(number=1, *, organization_id=1, key_id=1, nanos=100):
    return Generation(
        id=ids.uuid7(),
        organization_id=organization_id,
        key_id=key_id,
        status=generation.COMPLETED,
        model_asked=f"model-{number}",
        charge_nanos=nanos,
        base_nanos=nanos,
        ended_ms=1,
    )


def dispatched(record):
    return Dispatch(record.id, record.organization_id, record.key_id, record.model_asked)


def die(own):
    """The process is gone: its lock is free, its files are as they were."""
    os.close(own.lock)


def only_orphan(parent):
    (orphan,) = spool.orphans(parent)
    return orphan


def test_what_was_settled_is_read_again(tmp_path):
    own = Spool.create(tmp_path)
    records = [settled(number) for number in range(3)]
    for record in records:
        own.dispatch(dispatched(record))
        own.settle(record, "org", ("org:org", "key:k:total"))
    die(own)

    orphan = only_orphan(tmp_path)

    assert [each.generation for each in orphan.settlements] == records
    assert orphan.void == () and orphan.damaged == 0
    assert orphan.totals() == {("org", "org:org"): 300, ("org", "key:k:total"): 300}


def test_running_totals_only_grow(tmp_path):
    own = Spool.create(tmp_path)

    totals = [own.settle(settled(nanos=nanos), "org", ("org:org",)).totals["org:org"] for nanos in (5, 0, 7)]

    assert totals == [5, 5, 12]


def test_dispatched_and_never_settled_is_void(tmp_path):
    own = Spool.create(tmp_path)
    first, second = settled(1), settled(2)
    own.dispatch(dispatched(first))
    own.dispatch(dispatched(second))
    own.settle(second, "org", ("org:org",))
    die(own)

    orphan = only_orphan(tmp_path)

    assert orphan.void == (dispatched(first),)
    record = spool.void_record(orphan.void[0])
    assert (record.status, record.charge_nanos, record.id) == ("void", 0, first.id)


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_torn_tail_is_the_end(tmp_path, cut):
    own = Spool.create(tmp_path)
    whole, torn = settled(1), settled(2)
    own.settle(whole, "org", ("org:org",))
    own.dispatch(dispatched(torn))
    own.settle(torn, "org", ("org:org",))
    (path,) = own.folder.glob("*.jsonl")
    os.truncate(path, path.stat().st_size - cut)
    die(own)

    orphan = only_orphan(tmp_path)

    assert [each.generation for each in orphan.settlements] == [whole] if cut > 1 else True
    assert orphan.damaged == 0
    if cut > 1:
        assert orphan.void == (dispatched(torn),)


def test_a_damaged_line_keeps_the_folder(tmp_path):
    own = Spool.create(tmp_path)
    own.settle(settled(1), "org", ("org:org",))
    (path,) = own.folder.glob("*.jsonl")
    path.write_bytes(b"\x00\x00 rot\n" + path.read_bytes())
    die(own)

    orphan = only_orphan(tmp_path)
    assert (orphan.damaged, len(orphan.settlements)) == (1, 1)

    orphan.remove()
    (kept,) = tmp_path.iterdir()
    assert kept.suffix == ".damaged"
    assert list(spool.orphans(tmp_path)) == []


def test_segments_are_cut_from_the_front_when_all_in_them_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 1000)
    own = Spool.create(tmp_path)
    records = [settled(number) for number in range(20)]
    for record in records:
        own.dispatch(dispatched(record))
        own.settle(record, "org", ("org:org",))
    files = len(list(own.folder.glob("*.jsonl")))
    assert files > 4

    pendings = list(own.pending.values())
    for pending in pendings[1:]:
        pending.flushed = pending.acknowledged = True
        own.cut(pending)
    assert len(list(own.folder.glob("*.jsonl"))) == files  # the first record still waits

    pendings[0].flushed = True
    own.cut(pendings[0])
    assert not own.empty
    pendings[0].acknowledged = True
    own.cut(pendings[0])

    assert own.empty and own.oldest_seconds == 0
    (left,) = own.folder.glob("*.jsonl")
    assert left.stat().st_size == own.size == 0
    own.close()
    assert not own.folder.exists()


def test_a_settlement_in_a_later_segment_than_its_dispatch_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 500)
    own = Spool.create(tmp_path)
    early = settled(0)
    own.dispatch(dispatched(early))
    for number in range(10):
        own.settle(settled(number), "org", ("org:org",))
    own.settle(early, "org", ("org:org",))
    for pending in list(own.pending.values())[:-1]:
        pending.flushed = pending.acknowledged = True
        own.cut(pending)
    die(own)

    orphan = only_orphan(tmp_path)

    assert early in [each.generation for each in orphan.settlements]
    assert orphan.void == ()


def test_a_living_processs_spool_is_nobodys_orphan(tmp_path):
    own = Spool.create(tmp_path)
    other = Spool.create(tmp_path)

    assert list(spool.orphans(tmp_path)) == []
    die(own)
    assert only_orphan(tmp_path).id == own.id
    assert list(spool.orphans(tmp_path)) == []  # taken: its lock is held by us now
    die(other)


def test_an_unfinished_folder_is_no_orphan(tmp_path):
    (tmp_path / "0190.new").mkdir()
    (tmp_path / "a-file").touch()

    assert list(spool.orphans(tmp_path)) == []
    assert list(spool.orphans(tmp_path / "nothing-here")) == []


def test_a_killed_process_leaves_all_that_it_settled(tmp_path):
    program = f"""
import os, sys
from pathlib import Path
from billing.spool import Spool
from tests.billing.test_spool import settled
own = Spool.create(Path({str(tmp_path)!r}))
for number in range(50):
    own.settle(settled(number), "org", ("org:org",))
print("ready", flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", f"import django; django.setup()\n{program}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ.copy(),
    )
    with process:
        assert process.stdout.readline() == b"ready\n"
        assert list(spool.orphans(tmp_path)) == []
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    orphan = only_orphan(tmp_path)
    assert len(orphan.settlements) == 50 and orphan.totals()["org", "org:org"] == 5000


@pytest.mark.django_db(transaction=True)
class TestReplay:
    @pytest.fixture
    def orphan(self, tmp_path):
        organization = books.make_organization()
        key = books.make_key(organization)
        own = Spool.create(tmp_path)
        flush.register(own.id)
        for number in range(3):
            record = settled(number, organization_id=organization.pk, key_id=key.pk)
            own.dispatch(dispatched(record))
            own.settle(record, organization.public_id, (f"org:{organization.public_id}",))
        own.dispatch(dispatched(settled(9, organization_id=organization.pk, key_id=key.pk)))
        die(own)
        return only_orphan(tmp_path)

    def test_a_dead_processs_records_reach_postgresql_once(self, orphan):
        assert flush.recover(orphan) == 4
        assert flush.recover(orphan) == 4

        rows = Row.unscoped.order_by("id")
        assert sorted(row.status for row in rows) == ["completed"] * 3 + ["void"]
        assert sum(row.charge_nanos for row in rows) == 300
        assert {row.spool for row in rows} == {uuid.UUID(orphan.id)}

    def test_what_was_written_before_the_crash_is_not_written_twice(self, orphan):
        flush.write(orphan.id, orphan.settlements[:2])
        posting.post_generations()

        flush.recover(orphan)
        posting.post_generations()

        assert Row.unscoped.count() == 4

    def test_a_process_that_died_before_it_was_registered(self, orphan):
        flush.close(orphan.id)

        assert flush.recover(orphan) == 4
        assert Row.unscoped.count() == 4
