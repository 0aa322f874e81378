"""From the event loop into PostgreSQL: blocking work in a small pool of threads of its own.

The pool is the bulkhead: however slow the database is, it holds up at most this many threads, and the
loop goes on.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import connection

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 4


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="postgres")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking `work`; its database connection goes back to the pool when it is done."""
    return await in_pool(_pool(), work, *args, **kwargs)


async def in_pool(pool: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same in threads that are kept for one kind of work. Cancelled before it began, it never begins."""
    return await asyncio.get_running_loop().run_in_executor(
        pool, functools.partial(_run, work, *args, **kwargs)
    )


def _run(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return work(*args, **kwargs)
    finally:
        connection.close()
