"""Request logs in the database: sealed in their place, kept for their days, deleted with evidence."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
import types
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, connections, transaction

from accounts import log_keys, privacy
from accounts.core.principal import Logging, Principal
from accounts.models import AuditEntry, LogKey, RequestLogging
from accounts.privacy import LogRules
from aggregator.lib import clock, ids, seal
from aggregator.lib.errors import Refusal
from routing import log_proofs, request_logs
from routing.core import transcript
from routing.core.kept import Content, Text
from routing.logbook import Logbook
from routing.models import LogDeletion, RequestLog, RequestLogLoss
from routing.request_logs import Entry
from tests.billing import books

pytestmark = pytest.mark.django_db

SAID = b'{"messages": [{"role": "user", "content": "canary"}]}'


def master() -> str:
    return base64.b64encode(seal.make_key()).decode()


@pytest.fixture(autouse=True)
def _masters(settings):
    settings.LOG_MASTER_KEYS = [master()]


@pytest.fixture
def acme():
    organization = books.make_organization()
    organization.api_key = books.make_key(organization)
    privacy.set_logging(organization, LogRules(on=True), by="test")
    return organization


def entry(organization, *, ago=timedelta(0), call=None):
    key = log_keys.living(organization.pk)
    return Entry(
        call or ids.uuid7(),
        organization.pk,
        organization.public_id,
        organization.api_key.pk,
        key.pk,
        clock.now() - ago,
        Content(Text(SAID, len(SAID)), Text(b"yes", 3), False),
    )


def logged(organization, **of):
    made = entry(organization, **of)
    assert request_logs.write([made], {}) == 0
    return made.id


def test_what_is_written_opens_and_each_opening_is_in_the_audit_log(acme):
    call = logged(acme)
    assert b"canary" not in bytes(RequestLog.objects.of(acme).get().sealed)

    content = request_logs.read(acme, call, by="somebody")

    assert content.request.data == SAID and content.reply.data == b"yes"
    opened = AuditEntry.objects.of(acme).get(verb="request_log.opened")
    assert opened.actor == "system:somebody"
    assert request_logs.read(acme, ids.uuid7(), by="somebody") is None


def test_a_row_that_was_moved_to_another_call_or_organization_does_not_open(acme):
    other = books.make_organization("globex")
    row = RequestLog.objects.of(acme).get(pk=logged(acme))

    with pytest.raises(seal.Unopened):
        request_logs.unsealed(
            RequestLog(pk=ids.uuid7(), log_key=row.log_key, sealed=row.sealed), acme.public_id
        )
    with pytest.raises(log_keys.KeyLost):
        request_logs.unsealed(row, other.public_id)

    RequestLog.objects.of(acme).update(organization=other)
    assert request_logs.read(acme, row.pk, by="x") is None
    assert any("a key that is gone" in problem for problem in log_proofs.check().problems)


def test_deleting_everything_destroys_the_key_and_no_copy_opens_after_it(acme):
    calls = [logged(acme, ago=timedelta(days=day)) for day in (3, 2, 1)]
    copy = list(RequestLog.objects.of(acme).select_related("log_key"))
    late = entry(acme)
    fingerprint = log_keys.living(acme.pk).fingerprint

    record = request_logs.delete_everything(acme, by="ada")

    assert (record.rows, record.what, record.fingerprints) == (len(calls), "everything", [fingerprint])
    assert record.last_at - record.first_at == max(row.at for row in copy) - min(row.at for row in copy)
    assert not privacy.log_rules(acme.pk).on
    assert request_logs.write([late], {}) == 1  # a worker had it in hand: it is to be kept no more
    assert RequestLog.objects.of(acme).count() == 0
    key = LogKey.objects.of(acme).get()
    assert key.wrapped is None and key.destroyed_at is not None
    for row in copy:
        row.log_key = key
        with pytest.raises(log_keys.KeyLost):
            request_logs.unsealed(row, acme.public_id)
    evidence = request_logs.as_evidence(record, acme)
    assert evidence["rows_left"] == 0
    assert evidence["destroyed_keys"] == [{"fingerprint_sha256": fingerprint}]
    assert log_proofs.check(acme.slug).problems == []

    privacy.set_logging(acme, LogRules(on=True), by="ada")
    assert log_keys.living(acme.pk).fingerprint != fingerprint


def test_a_destroyed_key_and_the_records_of_deletions_cannot_be_undone(acme):
    request_logs.delete_everything(acme, by="ada")

    for change in (
        lambda: LogKey.objects.of(acme).update(destroyed_at=None, wrapped=b"x"),
        lambda: LogKey.objects.of(acme).delete(),
        lambda: LogDeletion.objects.of(acme).update(rows=0),
        lambda: LogDeletion.objects.of(acme).delete(),
        lambda: RequestLogging.objects.of(acme).update(on=True),
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            change()


def test_one_call_or_a_period_is_deleted_and_nothing_else_of_nobody_else(acme):
    other = books.make_organization("globex")
    other.api_key = books.make_key(other)
    privacy.set_logging(other, LogRules(on=True), by="test")
    theirs = logged(other, ago=timedelta(days=5))
    old, mid, new = (logged(acme, ago=timedelta(days=day)) for day in (9, 5, 0))

    now = clock.now()
    period = request_logs.delete_period(acme, now - timedelta(days=6), now - timedelta(days=4), by="ada")
    one = request_logs.delete_one(acme, old, by="ada")

    assert (period.rows, one.rows) == (1, 1)
    assert request_logs.delete_one(acme, theirs, by="ada") is None
    assert [row.pk for row in RequestLog.objects.of(acme)] == [new]
    assert RequestLog.objects.of(other).count() == 1
    assert mid not in {new, old}


def test_what_is_past_its_days_goes_by_itself_also_when_logging_is_off(acme, monkeypatch):
    monkeypatch.setattr(request_logs, "_BATCH", 2)
    for day in (40, 39, 38, 31, 29):
        logged(acme, ago=timedelta(days=day))
    assert any("older than 30 days" in problem for problem in log_proofs.check().problems)

    assert request_logs.delete_aged() == {acme.pk: 4}
    privacy.set_logging(acme, LogRules(on=False, days=10), by="ada")
    assert request_logs.delete_aged() == {acme.pk: 1} and request_logs.delete_aged() == {}


def test_without_a_master_key_logging_cannot_be_switched_on_and_nothing_is_kept(acme, settings):
    made = entry(acme)
    settings.LOG_MASTER_KEYS = []

    assert request_logs.write([made], {}) == 1
    assert RequestLogLoss.objects.of(acme).get().calls == 1
    other = books.make_organization("globex")
    with pytest.raises(Refusal) as refused:
        privacy.set_logging(other, LogRules(on=True), by="ada")
    assert (refused.value.status, refused.value.error_type) == (409, "logging_unavailable")


def test_a_master_key_is_replaced_while_calls_are_logged(acme, settings):
    call, (old,) = logged(acme), settings.LOG_MASTER_KEYS
    settings.LOG_MASTER_KEYS = [master(), old]
    assert request_logs.read(acme, call, by="x") is not None

    call_command("rewrap_log_keys", verbosity=0)
    settings.LOG_MASTER_KEYS = settings.LOG_MASTER_KEYS[:1]

    assert request_logs.read(acme, call, by="x").request.data == SAID
    assert request_logs.write([entry(acme)], {}) == 0
    settings.LOG_MASTER_KEYS = [old]
    with pytest.raises(CommandError):
        call_command("check_request_logs")


def test_rules_that_cannot_be_are_refused(acme):
    other = books.make_key(books.make_organization("globex"))
    for wrong in (
        LogRules(on=True, days=0),
        LogRules(on=True, days=91),
        LogRules(on=True, request=False, reply=False),
        LogRules(on=True, keys=frozenset()),
        LogRules(on=True, keys=frozenset({other.pk})),
    ):
        with pytest.raises(Refusal):
            privacy.set_logging(acme, wrong, by="ada")


def call_of(organization):
    """As much of a call as a page of the logbook asks for."""
    logging = Logging(log_keys.living(organization.pk).pk, request=True, reply=True)
    principal = Principal(
        organization.pk,
        organization.public_id,
        organization.api_key.pk,
        "key_x",
        1,
        "inference",
        logging=logging,
    )
    return types.SimpleNamespace(id=ids.uuid7(), principal=principal, chat=types.SimpleNamespace(stream=True))


@pytest.mark.django_db(transaction=True)
def test_what_finds_no_room_is_dropped_and_counted_and_the_rest_is_written_at_the_end(acme, settings):
    settings.LOG_BUFFER_BYTES, settings.LOG_MOST_BYTES = 4000, 1024
    calls = [call_of(acme) for _ in range(4)]
    heard = []

    async def send(message):
        heard.append(message)

    async def gateway():
        book = Logbook()
        for call in calls:
            page = book.page(call, b"q" * 3000)
            await page.tap(send)({"type": "http.response.body", "body": b"a" * 700, "more_body": True})
            await page.tap(send)({"type": "http.response.body", "body": b"b" * 700})
            page.close()
        assert (book.dropped, book.room) == (3, 4000 - 2560)
        await book.close()
        assert book.room == 4000

    asyncio.run(gateway())

    assert len(heard) == 8  # whatever is not logged is delivered
    content = request_logs.read(acme, calls[0].id, by="x")
    assert content.request == Text(b"q" * 1024, 3000)
    assert content.reply == Text(b"a" * 700 + b"b" * 324, 1400)
    assert RequestLog.objects.of(acme).count() == 1 and request_logs.lost(acme.pk) == 3


@pytest.mark.django_db(transaction=True)
def test_a_batch_that_is_being_written_and_the_deletion_of_everything_do_not_stop_each_other(acme):
    made, held, failed = entry(acme), threading.Event(), []

    def write() -> None:
        try:
            with transaction.atomic():
                log_keys.hold([made.log_key_id])
                held.set()
                while not _someone_waits():
                    time.sleep(0.01)
                request_logs.write([made], {})
        except DatabaseError as error:
            failed.append(error)
        finally:
            held.set()
            connections.close_all()

    writer = threading.Thread(target=write)
    writer.start()
    held.wait()
    try:
        record = request_logs.delete_everything(acme, by="somebody")
    finally:
        writer.join()

    assert not failed
    assert (record.rows, RequestLog.objects.of(acme).count()) == (1, 0)
    assert not privacy.log_rules(acme.pk).on and log_keys.living(acme.pk) is None


def _someone_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks AS lock JOIN pg_stat_activity AS who USING (pid)"
            " WHERE NOT lock.granted AND who.datname = current_database()"
        )
        return bool(cursor.fetchone()[0])


def test_halves_of_a_letter_that_came_in_two_pieces_are_put_together():
    lines = [
        b'data: {"choices":[{"delta":{"content":"%s"}}]}' % half for half in (b"\\ud83d", b"\\ude00 \\ud83d")
    ]
    reply = b"\n".join(lines)
    asked = b'{"messages": [{"role": "\\ud83d", "content": "a\\ud83d"}]}'
    content = Content(Text(asked, len(asked)), Text(reply, len(reply)), True)

    said = [message for side in transcript.sides(content) for message in side.messages]

    assert said[-1].text == "\N{GRINNING FACE} \N{REPLACEMENT CHARACTER}"
    for side in transcript.sides(content):
        "".join([side.wire, *(each.role + each.text for each in side.messages)]).encode()
