"""A gateway process does not go on half alive."""

from __future__ import annotations

import asyncio
import signal

from routing.process import Process


def ended(work, monkeypatch):
    """The signals that a process sent itself after this work had ended."""
    sent = []
    monkeypatch.setattr("os.kill", lambda _, number: sent.append(number))
    process = Process(gateway=None, admission=None, settlement=None, upstream=None)

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
