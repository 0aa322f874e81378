"""The calls under way in this worker: how many, whose, and their end when the process stops.

Load is shed by how much is under way, not by how much arrives, and before anything of a call is read. The
bounds are this worker's; a console, a health check or a model list is none of these calls.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from aggregator.lib.errors import Refusal

log = logging.getLogger(__name__)

Task = asyncio.Task[Any]
_NOBODY = 0
_SAY_EVERY_SECONDS = 5.0


@dataclass(slots=True)
class Traffic:
    """Calls by task, with the organization once it is known. Belongs to the event loop."""

    ending: bool = False
    _calls: dict[Task, int] = field(default_factory=dict)
    _by_organization: dict[int, int] = field(default_factory=dict)
    _said: float = float("-inf")

    def __len__(self) -> int:
        return len(self._calls)

    def enter(self) -> Task:
        """Count the current task's call; `leave` must follow. Raises Refusal 503."""
        if self.ending:
            raise shutting_down()
        if len(self._calls) >= settings.MAX_CALLS_PER_WORKER:
            self._say_full()
            raise Refusal(
                "overloaded",
                "Too many calls are under way here. Nothing was charged; please retry.",
                status=503,
                retry_after=1,
            )
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (an ASGI application runs in a task)
        self._calls[task] = _NOBODY
        return task

    def belongs_to(self, task: Task, organization_id: int) -> None:
        """Whose the call is. Raises Refusal 429 when they have too many under way."""
        count = self._by_organization.get(organization_id, 0)
        if count >= settings.MAX_CALLS_PER_ORGANIZATION:
            raise Refusal(
                "too_many_concurrent",
                f"Your organization has {count} calls under way. Wait until one of them has ended.",
                status=429,
                retry_after=1,
                metadata={"concurrent": count},
            )
        self._calls[task] = organization_id
        self._by_organization[organization_id] = count + 1

    def leave(self, task: Task) -> None:
        organization_id = self._calls.pop(task)
        if organization_id != _NOBODY:
            count = self._by_organization[organization_id]
            if count == 1:
                del self._by_organization[organization_id]
            else:
                self._by_organization[organization_id] = count - 1

    def end(self) -> None:
        """End every call now, each with a typed error: the process stops."""
        self.ending = True
        for task in list(self._calls):
            task.cancel()

    def ended(self, bill: dict[str, Any] | None) -> Refusal | None:
        """What a cancelled call tells its client, if it was `end` that cancelled it; it may then go on.

        `bill` is that of a call which had ended before, and was charged.
        """
        if not self.ending:
            return None
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        return shutting_down(bill)

    def _say_full(self) -> None:
        now = time.monotonic()
        if now - self._said > _SAY_EVERY_SECONDS:
            self._said = now
            log.warning("this worker is full: calls are refused", extra={"calls": len(self._calls)})


def shutting_down(bill: dict[str, Any] | None = None) -> Refusal:
    if bill is not None:
        return Refusal(
            "shutting_down",
            "This server is being restarted, and the end of the answer could not be sent. It was charged.",
            status=503,
            metadata=bill,
        )
    return Refusal(
        "shutting_down",
        "This server is being restarted. Nothing was charged; please retry.",
        status=503,
        retry_after=1,
    )
