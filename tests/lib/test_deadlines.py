"""Deadlines: never early, a look late at most, and a cancel from elsewhere stays a cancel."""

from __future__ import annotations

import asyncio
import time

import pytest

from aggregator.lib import deadlines as lib
from aggregator.lib.deadlines import Deadlines, within


async def test_what_takes_too_long_is_a_timeout():
    began = time.monotonic()
    with pytest.raises(TimeoutError), within(0.1):
        await asyncio.sleep(10)
    assert 0.1 <= time.monotonic() - began < 5
    assert asyncio.current_task().cancelling() == 0


async def test_what_ends_in_time_is_left_alone():
    with within(0.05):
        await asyncio.sleep(0)
    await asyncio.sleep(0.6)


async def test_an_error_from_inside_comes_out_as_it_is():
    with pytest.raises(KeyError), within(5):
        raise KeyError


async def test_a_cancel_from_elsewhere_stays_a_cancel():
    async def work():
        with within(60):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancel_and_a_deadline_at_once_are_a_cancel():
    async def work():
        with within(0.05):
            asyncio.get_running_loop().call_later(0.05, asyncio.current_task().cancel)
            time.sleep(0.3)  # noqa: ASYNC251 (both are due before the task runs again)
            await asyncio.sleep(10)

    task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_deadlines_nest():
    with pytest.raises(TimeoutError), within(60), within(0.1):
        await asyncio.sleep(10)


async def test_the_outer_deadline_of_two_goes_through_the_inner_one():
    with pytest.raises(TimeoutError), within(0.1), within(60):
        await asyncio.sleep(10)


async def test_a_look_that_comes_late_judges_nobody():
    deadlines = Deadlines(0.05)
    answer = asyncio.get_running_loop().create_future()

    def expire():
        if not answer.done():
            answer.set_exception(TimeoutError())

    deadlines.add(expire, 0.05)
    asyncio.get_running_loop().call_later(0.01, answer.set_result, "read after all")
    time.sleep(0.3)  # noqa: ASYNC251 (the loop is busy, the answer lies in the socket)
    assert await answer == "read after all"


async def test_a_loop_that_is_always_late_still_ends_what_is_due():
    deadlines = Deadlines(0.01)
    over = asyncio.Event()
    deadlines.add(over.set, 0.01)
    for _ in range(20):
        if over.is_set():
            break
        time.sleep(0.03)  # noqa: ASYNC251
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert over.is_set()


def test_another_loop_begins_anew():
    deadlines = Deadlines(0.01)

    async def once():
        over = asyncio.Event()
        deadlines.add(over.set, 0.01)
        await asyncio.wait_for(over.wait(), 60)

    for _ in range(2):
        asyncio.run(once())


async def test_an_exact_deadline_waits_for_no_look(monkeypatch):
    monkeypatch.setattr(lib, "_tasks", Deadlines(60))
    async with asyncio.timeout(60):
        with pytest.raises(TimeoutError), within(0.05, exact=True):
            await asyncio.sleep(30)
    with within(0.05, exact=True):
        await asyncio.sleep(0)
    await asyncio.sleep(0.2)
    assert asyncio.current_task().cancelling() == 0


async def test_what_one_deadline_removes_is_not_called_and_breaks_no_look():
    deadlines, called = Deadlines(0.05), []

    def first():
        called.append("first")
        deadlines.remove(second)

    def second():
        called.append("second")

    def third():
        called.append("third")

    for callback in (first, second, third):
        deadlines.add(callback, 0)
    async with asyncio.timeout(60):
        while "third" not in called:
            await asyncio.sleep(0.01)
    assert called == ["first", "third"]
