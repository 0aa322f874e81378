"""Providers that go on billing after a cancel: what they still answer is read on, detached and bounded.

The customer's call is settled when it ends, for what was produced until then. To close the connection would
save nothing there; its end states what the call has cost us, and what is beyond the record is our loss.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError

from aggregator.lib.threads import in_thread
from billing import losses
from billing.core.money import round_nanos
from billing.core.usage import Usage
from routing.attempts import Streaming
from routing.call import Call
from routing.core.failures import MALFORMED, Failure
from routing.dialects.openai import Completion
from routing.endings import believed
from routing.upstream import Upstream, next_block

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Drains:
    """One process's; what still runs when it stops is given up, and the loss then stays unknown."""

    upstream: Upstream
    running: int = 0

    def let_go(self, call: Call, begun: Streaming) -> None:
        """The customer's stream has ended before the provider's: close it, or read on where that bills on."""
        begun.let_go = True
        if call.bills_on and self._has_room():
            self._start(call, _rest_of_stream(call, begun))
        else:
            begun.response.release()

    def take_over(self, call: Call, attempt: asyncio.Task[Any]) -> None:
        """The call has ended before its first byte, and the attempt goes on."""
        if self._has_room():
            self._start(call, _rest_of_attempt(call, attempt))
        else:
            attempt.cancel()

    def _has_room(self) -> bool:
        return bool(self.running < settings.DRAIN_PROVIDER_MOST)

    def _start(self, call: Call, rest: Coroutine[Any, Any, Usage | None]) -> None:
        self.running += 1
        self.upstream.detach(self._drain(call, rest))

    async def _drain(self, call: Call, rest: Coroutine[Any, Any, Usage | None]) -> None:
        usage = None
        try:
            async with asyncio.timeout(settings.DRAIN_PROVIDER_SECONDS):
                usage = await rest
        except (Failure, TimeoutError) as error:
            log.info("a provider was not read to its end", extra={"call": call.public_id, "why": str(error)})
        finally:
            self.running -= 1
        if usage is None:
            log.warning("what a provider billed on is not known", extra={"call": call.public_id})
            return
        beyond = round_nanos(call.charge(usage).base) - call.cost_nanos
        if beyond > 0:
            await _book(call, beyond)


async def _book(call: Call, nanos: int) -> None:
    try:
        await in_thread(losses.book_after_cancel, call.public_id, call.principal.organization_id, nanos)
    except DatabaseError as error:
        log.error(
            "a loss is not booked",
            extra={"call": call.public_id, "nanos": nanos, "error": str(error)},
        )


async def _rest_of_attempt(call: Call, attempt: asyncio.Task[Any]) -> Usage | None:
    found: Streaming | Completion = await attempt
    if isinstance(found, Completion):
        return believed(call, found)
    return await _rest_of_stream(call, found)


async def _rest_of_stream(call: Call, begun: Streaming) -> Usage | None:
    response, reader = begun.response, begun.reader
    size = 0
    try:
        while not reader.finished:
            block = await next_block(response)
            if not block:
                reader.end()
            size += len(block)
            if size > settings.DRAIN_PROVIDER_BYTES:
                raise Failure(MALFORMED, "more than is read after a cancel")
            reader.feed(block)
        return believed(call, reader)
    finally:
        begun.response.release()
