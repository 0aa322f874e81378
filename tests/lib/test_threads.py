"""Blocking work beside the event loop: bounded, and its connection goes back."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from django.db import connection

from aggregator.lib import threads
from aggregator.lib.threads import in_thread


async def test_the_loop_goes_on_while_a_thread_waits():
    waiting = asyncio.ensure_future(in_thread(time.sleep, 0.2))
    ticks = 0
    while not waiting.done():
        await asyncio.sleep(0.01)
        ticks += 1

    assert ticks >= 5


async def test_no_more_threads_run_than_the_bulkhead_has():
    running, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    await asyncio.gather(*(in_thread(work) for _ in range(threads.THREADS * 5)))

    assert most == threads.THREADS


async def test_an_error_comes_out_where_it_was_awaited():
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 1, 0)


@pytest.mark.django_db(transaction=True)
async def test_a_connection_is_closed_when_the_work_is_done_also_when_it_failed():
    used = []

    def work(*, fail: bool) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        used.append(connection)
        if fail:
            raise ValueError

    await in_thread(work, fail=False)
    with pytest.raises(ValueError):
        await in_thread(work, fail=True)

    assert len(used) == 2
    assert await in_thread(lambda: connection.connection) is None
