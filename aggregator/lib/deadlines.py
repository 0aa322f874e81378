"""Many deadlines, one timer. `asyncio.timeout` costs six microseconds a use, these cost one.

Deadlines are looked at every so often, so one may come that much late, and never early. A look that comes
late itself judges nobody: this loop was busy, and what is waited for may lie in a socket, unread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType


class Deadlines:
    """Callbacks that are due at a time of the event loop. Belongs to one loop at a time."""

    __slots__ = ("_due", "_every", "_forgiven", "_look_at", "_loop", "_timer")

    def __init__(self, every: float) -> None:
        """`every` is how often to look, in seconds."""
        self._every = every
        self._due: dict[Callable[[], None], float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._look_at = 0.0
        self._forgiven = False

    def add(self, callback: Callable[[], None], seconds: float) -> None:
        """Call it once in `seconds` from now, unless it is removed before. It must be hashable and unique."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._timer = loop, None
            self._due.clear()
        now = loop.time()
        self._due[callback] = now + seconds
        if self._timer is None:
            self._arm(loop, now)

    def remove(self, callback: Callable[[], None]) -> None:
        self._due.pop(callback, None)

    def _arm(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        self._look_at = now + self._every
        self._timer = loop.call_later(self._every, self._look)

    def _look(self) -> None:
        self._timer = None
        loop = self._loop
        if not self._due or loop is None:
            return
        now = loop.time()
        is_late = now - self._look_at > self._every
        self._arm(loop, now)
        if is_late and not self._forgiven:
            self._forgiven = True
            return
        self._forgiven = False
        for callback in [callback for callback, at in self._due.items() if at <= now]:
            if self._due.pop(callback, None) is not None:  # else another callback of this look removed it
                callback()


_tasks = Deadlines(0.25)


class within:
    """Bound the time of what a task awaits inside: `TimeoutError` after so many seconds, to a quarter.

    `exact` costs a timer of its own, and is never forgiven: for a deadline that somebody else chose.
    """

    __slots__ = ("_cancelling", "_exact", "_expired", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float, *, exact: bool = False) -> None:
        self._seconds = seconds
        self._exact = exact
        self._expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (it is used inside a coroutine)
        self._task = task
        self._cancelling = task.cancelling()
        if self._exact:
            self._timer = task.get_loop().call_later(self._seconds, self._expire)
        else:
            _tasks.add(self._expire, self._seconds)

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._expired:
            if self._exact:
                self._timer.cancel()
            else:
                _tasks.remove(self._expire)
        elif self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
