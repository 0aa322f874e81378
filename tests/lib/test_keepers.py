"""Keepers end when they are told to, also when they do not hear it the first time."""

from __future__ import annotations

import asyncio

from aggregator.lib import keepers


async def test_a_task_that_does_not_hear_the_first_cancel_ends_all_the_same():
    heard = 0

    async def deaf():
        nonlocal heard
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                heard += 1
                if heard > 2:
                    raise

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await keepers.end([task])
    assert task.cancelled() and heard == 3


async def test_whatever_they_end_with_is_nobodys_error_any_more():
    async def broken():
        raise KeyError

    async def well():
        return 1

    tasks = [asyncio.create_task(broken()), asyncio.create_task(well())]
    await asyncio.sleep(0.01)
    await keepers.end(tasks)
    await keepers.end([])
    assert all(task.done() for task in tasks)
