"""Rows F13 to F17: PostgreSQL crashes, is cut off, does not answer or refuses; nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import psycopg
import pytest

from tests.faults.load import Customer, Log, call
from tests.faults.stand import Stand
from tests.routing.gateway.test_clients_that_leave import await_dispatch

pytestmark = pytest.mark.xdist_group("faults")


def row_of(stand: Stand, entry):
    rows = stand.ask("SELECT status, charge_nanos FROM generations WHERE user_agent = %s", entry.label)
    assert len(rows) < 2
    return rows[0] if rows else None


def await_row(stand: Stand, entry, seconds=60):
    until = time.monotonic() + seconds
    while (row := row_of(stand, entry)) is None:
        assert time.monotonic() < until, stand.log()
        time.sleep(0.05)
    return row


def test_it_crashes_and_starts_again_under_load(stand, load, log, at_rest, seed):
    """F13: streams go on, keys that are known go on; posted exactly once."""
    chance = random.Random(seed)
    with load(callers=5):
        for _ in range(2):
            time.sleep(0.4 + chance.random() * 0.4)
            stand.postgres.kill()
            time.sleep(chance.random() * 0.5)
            stand.postgres.start()
        time.sleep(0.5)

    verdict = at_rest(probe_within=30)

    assert verdict.unknown == 0 and verdict.ok > 0, log.counts
    assert {entry.status for entry in log.of("failed")} <= {503}, log.counts


def test_it_stays_away_under_load(stand, customers, load, log, at_rest):
    """No call of a known key fails, and all are billed after."""
    stand.make_known(customers, log)
    with load(callers=4, most=None):
        stand.postgres.signal(signal.SIGQUIT)
        time.sleep(5)
        stand.postgres.start()
        time.sleep(0.5)

    verdict = at_rest(probe_within=30)

    assert (verdict.failed, verdict.unknown) == (0, 0), log.counts
    assert verdict.ok > 10


def test_a_worker_that_dies_while_it_is_away_takes_no_other_with_it(stand, customers, log, at_rest):
    """The one in its place cannot start; the others go on, and so does their master."""
    stand.make_known(customers[:1], log)
    master, (first, second) = stand.master(), sorted(stand.workers())
    stand.postgres.signal(signal.SIGQUIT)
    os.kill(first, signal.SIGKILL)

    until = time.monotonic() + 8  # long enough for the next one to have failed
    while time.monotonic() < until:
        assert call(stand.product.api_base, customers[0], log, max_tokens=1).outcome == "ok"
        time.sleep(0.1)

    assert stand.master() == master and second in stand.workers()
    stand.postgres.start()
    stand.await_ready()
    at_rest()


def test_a_call_that_ends_while_it_is_cut_off_is_billed_after(stand, customers, log, at_rest):
    """F14: cut off after the dispatch; the stream completes, the receipt is the gate's."""
    call(stand.product.api_base, customers[0], log)
    found = []
    following = threading.Thread(
        target=lambda: found.append(
            call(stand.product.api_base, customers[0], log, model="sandbox/stream-100", stream=True)
        )
    )
    following.start()
    await_dispatch(stand.sandbox, "stream-100")
    stand.to_postgres.refuse()
    following.join(60)
    (entry,) = found
    assert entry.outcome == "ok" and entry.cost > 0
    time.sleep(1)
    assert row_of(stand, entry) is None

    stand.to_postgres.up()

    assert await_row(stand, entry) == ("completed", entry.cost)
    at_rest()


@pytest.mark.parametrize("handed_on", [True, False], ids=["committed", "not committed"])
def test_a_commit_whose_outcome_is_unknown(stand, customers, log, at_rest, handed_on):
    """F15: the connection breaks between COMMIT and its reply; the retry meets its own row."""
    call(stand.product.api_base, customers[0], log)
    # The transaction of a flush is known by its COPY: the COMMIT that follows on the same connection is cut.
    cut = stand.to_postgres.cut(b"COMMIT", after=b"COPY generation_staging", hand_on=handed_on, times=3)

    entries = [call(stand.product.api_base, customers[0], log, max_tokens=4) for _ in range(6)]

    assert cut.done.wait(60)
    at_rest()
    assert {entry.outcome for entry in entries} == {"ok"}


FORCED = """
CREATE SEQUENCE forced;
CREATE FUNCTION forced() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE turn bigint := nextval('forced');
BEGIN
    IF turn % 3 = 0 THEN
        RAISE EXCEPTION 'forced' USING ERRCODE = (ARRAY['40001', '40P01', '55P03'])[1 + turn / 3 % 3];
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER forced BEFORE INSERT ON generations FOR EACH STATEMENT EXECUTE FUNCTION forced();
CREATE TRIGGER forced BEFORE INSERT ON billing_entry FOR EACH STATEMENT EXECUTE FUNCTION forced();
CREATE TRIGGER forced BEFORE INSERT ON billing_usagespan FOR EACH STATEMENT EXECUTE FUNCTION forced();
"""
UNFORCED = "DROP FUNCTION forced CASCADE; DROP SEQUENCE forced"


def test_deadlocks_and_serialisation_failures_are_tried_again(stand, load, log, at_rest):
    """F16: every third statement of a flush or a posting is refused with 40001, 40P01 or 55P03."""
    with psycopg.connect(stand.database, autocommit=True) as connection:
        connection.execute(FORCED)
        try:
            with load(callers=3):
                until = time.monotonic() + 60
                time.sleep(2.5)
                while stand.ask("SELECT last_value FROM forced") <= [(9,)]:
                    assert time.monotonic() < until
                    time.sleep(0.1)
            at_rest()
        finally:
            connection.execute(UNFORCED)
    assert log.of("failed") == log.of("unknown") == []


@pytest.mark.long
def test_sessions_that_are_ended_are_opened_again(stand, load, log, at_rest):
    """F16: an administrator's `pg_terminate_backend`, as at a failover."""
    with load(callers=3):
        for _ in range(6):
            time.sleep(0.2)
            stand.ask(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )

    at_rest(probe_within=30)

    assert {entry.status for entry in log.of("failed")} <= {503} and log.of("unknown") == []


def calls_at_once(stand: Stand, customers, log):
    threads = [
        threading.Thread(target=call, args=(stand.product.api_base, each, log), kwargs={"max_tokens": 1})
        for each in customers
    ]
    for thread in threads:
        thread.start()
    return threads


def seconds_of(threads, began=None):
    """Until all have ended."""
    began = began or time.monotonic()
    for thread in threads:
        thread.join()
    return time.monotonic() - began


def test_many_unknown_keys_while_it_is_slow_are_503_and_soon(stand, customers, log, at_rest):
    """F17: the few connections are taken and every answer is slow: 503 at once, no 401, nothing hangs."""
    strangers = []
    for _ in range(60):
        strangers.append(Customer(customers[0].organization, *stand.desk.key(customers[0].organization)))
    stand.make_known(customers[:1], log)
    usual = seconds_of(calls_at_once(stand, [customers[0]] * len(strangers), log))
    stand.to_postgres.blackhole()
    hurried, began = Log(), time.monotonic()
    threads = calls_at_once(stand, strangers, hurried)
    time.sleep(0.3)
    known = [call(stand.product.api_base, customers[0], log, max_tokens=1) for _ in range(3)]
    seconds = seconds_of(threads, began)
    stand.to_postgres.up()

    assert {(entry.status, entry.error) for entry in hurried.entries} == {(503, "service_unavailable")}
    assert all(entry.retry_after for entry in hurried.entries)
    # A look-up is given up after one second; a session would be waited for five, an answer for fifteen.
    assert seconds < 4 + 3 * usual, (seconds, usual)
    assert {entry.outcome for entry in known} == {"ok"}
    at_rest()
