"""One target after the other, until one begins to answer; a failure before the first byte is not seen.

A plain answer is read whole within its attempt, so a body that breaks off or makes no sense falls back
as well. A fallback that may be dearer is tried only after the hold was extended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from django.conf import settings

from aggregator.lib import crash
from aggregator.lib.deadlines import within
from aggregator.lib.errors import Refusal
from billing.money import usd
from routing import failures
from routing.call import Call
from routing.dialects import openai
from routing.dialects.openai import Completion
from routing.dialects.openai_stream import Reader
from routing.endings import Endings
from routing.failures import Failure
from routing.route import Target
from routing.upstream import Response, Upstream, next_block

T = TypeVar("T")
Attempt = Callable[[Call], Coroutine[Any, Any, T]]

MOST_ATTEMPTS = 3


@dataclass(slots=True)
class Streaming:
    """A stream that has begun, and what may already go to the customer."""

    response: Response
    reader: Reader
    first: bytes
    let_go: bool = False
    """Its answer is another's business by now, or closed."""


@dataclass(slots=True)
class Attempts:
    upstream: Upstream
    endings: Endings

    async def stream(self, call: Call) -> Streaming:
        """Raises Refusal when no target is left; the call is then recorded, free of charge."""
        return await self._first_of(call, self._open_stream, seconds=settings.FIRST_EVENT_SECONDS)

    async def plain(self, call: Call) -> Completion:
        """Raises Refusal when no target is left; the call is then recorded, free of charge."""
        return await self._first_of(call, self._read_plain, seconds=settings.TOTAL_SECONDS)

    async def _first_of(self, call: Call, attempt: Attempt[T], *, seconds: int) -> T:
        failure = Failure(failures.SERVER_ERROR)
        for target in call.route.targets:
            if await self._is_next(call, target):
                left = call.until - call.attempt_began
                try:
                    with within(min(seconds, left), exact=call.chose_deadline):
                        return await (self._apart(call, attempt) if call.bills_on else attempt(call))
                except (Failure, TimeoutError) as error:
                    if call.chose_deadline and isinstance(error, TimeoutError) and left <= seconds:
                        raise self.give_up(call, call.out_of_time()) from error
                    if call.apart is not None:
                        call.apart.cancel()
                    failure = self._failed(call, error)
                    if failure.permanent:
                        break
        raise self.give_up(call, failure)

    @staticmethod
    async def _apart(call: Call, attempt: Attempt[T]) -> T:
        """In a task of its own: whoever ends the call then decides what becomes of the attempt."""
        task: asyncio.Task[T] = asyncio.get_running_loop().create_task(attempt(call))
        call.apart = task
        found = await asyncio.shield(task)
        call.apart = None
        return found

    def give_up(self, call: Call, failure: Failure, reader: Reader | None = None) -> Refusal:
        """Record the failed call and say what the customer is told.

        `reader` is the stream that broke after its first byte: that was an attempt too.
        """
        if reader is not None and failure.kind != failures.DEADLINE:
            self.endings.attempt_failed(call, failure, begun=True)
        metadata: dict[str, object] = {"generation_id": call.public_id}
        if call.attempts:
            metadata["previous_errors"] = call.attempts
        provider = call.target.endpoint.provider.name
        enough = failure.kind != failures.DEADLINE and self.endings.free_is_used_up(call, reader)
        refusal = failures.as_refusal(
            failure, provider=provider, attempts=len(call.attempts), metadata=metadata, charged=enough
        )
        if enough or failure.kind == failures.DEADLINE:
            record = self.endings.cut_off(call, reader, error_type=refusal.error_type)
            refusal.metadata |= {"cost": usd(record.charge_nanos), "cost_nanos": record.charge_nanos}
        else:
            self.endings.failed(call, error_type=refusal.error_type, reader=reader)
        return refusal

    async def _is_next(self, call: Call, target: Target) -> bool:
        """Make the target the current one, if there is an attempt left and the hold covers it."""
        if target is not call.target and not await self._covers(call, target):
            return False
        call.target = target
        call.attempt_began = time.monotonic()
        if not call.dispatched:
            self.endings.settlement.dispatch(call.dispatch())
            crash.point("after_dispatch")
            call.dispatched = True
        return True

    async def _covers(self, call: Call, target: Target) -> bool:
        """Whether a fallback is still to be tried: it may be dearer than the target that was held for."""
        if len(call.attempts) >= MOST_ATTEMPTS or time.monotonic() >= call.until:
            return False
        if not call.within_max_cost(target, call.bound):
            return False
        amount = call.worst(target, call.bound)
        if amount > call.held:
            answer = await self.endings.admission.extend(call.public_id, amount)
            if answer.outcome != "ok":
                return False
            call.held = amount
        return True

    def _failed(self, call: Call, error: Failure | TimeoutError) -> Failure:
        failure = error if isinstance(error, Failure) else Failure(failures.TIMEOUT)
        self.endings.attempt_failed(call, failure)
        call.attempt_began = 0.0
        call.apart = None
        return failure

    async def _open_stream(self, call: Call) -> Streaming:
        response = await self._post(call)
        try:
            endpoint = call.target.endpoint
            reader = Reader(
                generation_id=call.public_id,
                model=endpoint.model.slug,
                provider=endpoint.provider.name,
                choices=call.chat.choices,
                most_event_bytes=settings.MAX_EVENT_BYTES,
                most_bytes=settings.MAX_REPLY_BYTES,
            )
            crash.point("before_first_event")
            first = b""
            while not reader.started:
                block = await next_block(response)
                if not block:
                    raise Failure(failures.MALFORMED, "the stream ended before its first event")
                first = reader.feed(block)
            call.first_event = time.monotonic()
            if settings.FIRST_EVENT_SECONDS > settings.IDLE_SECONDS:
                response.expect_within(settings.IDLE_SECONDS)
        except BaseException:
            response.release()
            raise
        return Streaming(response, reader, first)

    async def _read_plain(self, call: Call) -> Completion:
        response = await self._post(call)
        try:
            return openai.read_reply(await self.upstream.read(response, most=settings.MAX_REPLY_BYTES))
        finally:
            response.release()

    async def _post(self, call: Call) -> Response:
        endpoint = call.target.endpoint
        body = openai.write_request(call.chat, endpoint, max_tokens=call.clamp)
        idle = settings.TOTAL_SECONDS
        if call.chat.stream:  # until its first event a stream has a deadline of its own
            idle = max(settings.IDLE_SECONDS, settings.FIRST_EVENT_SECONDS)
        response = await self.upstream.post(endpoint, openai.PATH, body, idle_seconds=idle)
        if response.status == 200:
            return response
        try:
            error = await self.upstream.read_error(response)
            retry_after = response.headers.get(b"retry-after", b"").decode("latin-1")
            raise openai.read_failure(response.status, error, retry_after)
        finally:
            response.release()
