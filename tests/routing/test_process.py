"""A gateway process does not go on half alive."""

from __future__ import annotations

import asyncio
import signal
from types import SimpleNamespace

from django.db import OperationalError

from billing import flush
from routing.process import Process


def ended(work, monkeypatch):
    """The signals that a process sent itself after this work had ended."""
    sent = []
    monkeypatch.setattr("os.kill", lambda _, number: sent.append(number))
    process = Process(gateway=None, admission=None, settlement=None, upstream=None, exchange=None)

    async def run():
        process.keep(work())
        await asyncio.sleep(0.02)
        return process.ready

    return asyncio.run(run()), sent


async def fails():
    raise RuntimeError("nobody expected this")


async def goes_on():
    await asyncio.sleep(60)


def test_a_keeper_that_fails_stops_the_process_for_another(monkeypatch):
    assert ended(fails, monkeypatch) == (False, [signal.SIGTERM])


def test_a_keeper_that_is_cancelled_at_the_end_stops_nothing(monkeypatch):
    assert ended(goes_on, monkeypatch) == (True, [])


def seen(monkeypatch, answers):
    """What becomes of a process whose row of spools answers so, one look after the other."""
    sent, asked = [], iter(answers)

    def looked(_):
        answer = next(asked)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(flush, "seen", looked)
    monkeypatch.setattr("routing.process._SEEN_SECONDS", 0.01)
    monkeypatch.setattr("os.kill", lambda _, number: sent.append(number))
    settlement = SimpleNamespace(spool=SimpleNamespace(id="a-spool"))
    process = Process(gateway=None, admission=None, settlement=settlement, upstream=None, exchange=None)

    async def run():
        process.keep(process._be_seen())
        async with asyncio.timeout(10):
            while not sent:
                await asyncio.sleep(0.01)

    asyncio.run(run())
    return sent, list(asked)


def test_a_process_whose_spool_was_abandoned_stops_and_one_without_postgresql_goes_on(monkeypatch):
    answers = [True, OperationalError("the database is away"), True, False, "not asked any more"]

    assert seen(monkeypatch, answers) == ([signal.SIGTERM], ["not asked any more"])


def test_a_process_that_has_charged_too_many_accounts_stops_for_another(monkeypatch, settings):
    sent, dropped = [], []
    monkeypatch.setattr("routing.process._SMALL_SECONDS", 0.01)
    monkeypatch.setattr("os.kill", lambda _, number: sent.append(number))
    settings.SPOOL_MOST_ACCOUNTS = 10
    totals = dict.fromkeys(range(8), 1)

    async def forget_over():
        dropped.append(len(totals))
        totals[len(totals)] = 1

    settlement = SimpleNamespace(spool=SimpleNamespace(totals=totals), forget_over=forget_over)
    process = Process(gateway=None, admission=None, settlement=settlement, upstream=None, exchange=None)
    asyncio.run(asyncio.wait_for(process._stay_small(), 10))

    assert (process.ready, sent) == (False, [signal.SIGTERM])
    assert dropped[0] == 8 < len(totals) <= 11
