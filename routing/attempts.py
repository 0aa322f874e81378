"""One target after the other, until one begins to answer; a failure before the first byte is not seen.

This is the one layer of retries (`retries` says how many): another target at once, the same one only when no
other is left, and after a pause. What rests (`circuits`) comes after what does not.

A plain answer is read whole within its attempt, so a body that breaks off or makes no sense falls back
as well. A fallback that may be dearer is tried only after the hold was extended.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.conf import settings

from aggregator.lib import clock, crash
from aggregator.lib.deadlines import within
from aggregator.lib.errors import Refusal
from billing.core.money import usd
from routing.call import Call
from routing.core import failures
from routing.core.decision import Target
from routing.core.failures import Failure
from routing.core.retries import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, MOST_ATTEMPTS, Retries
from routing.dialects import openai
from routing.dialects.openai import Completion
from routing.dialects.openai_stream import Reader, says_something
from routing.endings import Endings
from routing.upstream import Response, Upstream, next_block

T = TypeVar("T")
Attempt = Callable[[Call], Coroutine[Any, Any, T]]
SILENT_SECONDS = 2.0
"""How long the events of a stream are kept back that say nothing yet."""
_Again = tuple[float, Target]
"""From when on a target may be asked again, in monotonic seconds."""


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
    retries: Retries = field(default_factory=Retries)

    async def stream(self, call: Call) -> Streaming:
        """Raises Refusal when no target is left; the call is then recorded, free of charge."""
        return await self._first_of(call, self._open_stream, seconds=settings.FIRST_EVENT_SECONDS)

    async def plain(self, call: Call) -> Completion:
        """Raises Refusal when no target is left; the call is then recorded, free of charge."""
        return await self._first_of(call, self._read_plain, seconds=settings.TOTAL_SECONDS)

    async def _first_of(self, call: Call, attempt: Attempt[T], *, seconds: int) -> T:
        again: dict[str, _Again] = {}
        await self._begin(call)
        while True:
            left = call.until - call.attempt_began
            try:
                with within(min(seconds, left), exact=call.chose_deadline):
                    found = await (self._apart(call, attempt) if call.bills_on else attempt(call))
                if call.on_trial:
                    self._end_trial(call, answered=True)
                return found
            except (Failure, TimeoutError) as error:
                if call.chose_deadline and isinstance(error, TimeoutError) and left <= seconds:
                    raise self.give_up(call, call.out_of_time()) from error
                if call.apart is not None:
                    call.apart.cancel()
                failure = self._failed(call, error)
            finally:
                if call.on_trial:
                    self._end_trial(call)
            if not await self._goes_on(call, failure, again):
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

    async def _begin(self, call: Call) -> None:
        """The first attempt: at the first target, or at another where that one has come to rest by now."""
        now = time.monotonic()
        target, circuits = call.target, self.endings.circuits
        self.retries.begun(target.endpoint.model.slug, now)
        if circuits.troubled and not circuits.ready(target.endpoint.slug, now):
            target = await self._another(call) or target
        self._dispatch(call, target)

    async def _goes_on(self, call: Call, failure: Failure, again: dict[str, _Again]) -> bool:
        """Whether another attempt follows this failure. `again` collects what may be asked a second time."""
        attempts, most = len(call.attempts), call.chat.num_retries
        if failure.permanent or attempts >= (MOST_ATTEMPTS if most is None else min(most + 1, MOST_ATTEMPTS)):
            return False
        if failure.of_key:
            call.waited = 0.0
            return await self._repeats(call, call.target)
        now, slug = time.monotonic(), call.target.endpoint.slug
        pause = self.retries.pause(failure, attempts)
        if pause is None:
            again.pop(slug, None)
        else:
            again[slug] = now + pause, call.target
        target = await self._another(call)
        if target is None:
            found = self._once_more(call, again)
            if found is None:
                return False
            not_before, target = found
            call.waited = max(not_before - time.monotonic(), 0.0)
            await asyncio.sleep(call.waited)
            return await self._repeats(call, target)
        self._dispatch(call, target)
        return True

    async def _repeats(self, call: Call, target: Target) -> bool:
        """The same target once more, unless it has become dearer meanwhile than can be held."""
        now = target.charged_at(clock.now())
        if now is not target and not await self._covers(call, now):
            return False
        self._dispatch(call, now)
        return True

    async def _another(self, call: Call) -> Target | None:
        """The next target that was not tried, with what rests at the end; the attempt at it must follow.

        While a few others find out whether a target answers, this waits for them: to follow them at once
        would be a storm if it does not, and to give up would lose a call if it does.
        """
        circuits, pause = self.endings.circuits, FIRST_PAUSE_SECONDS
        moment = clock.now()
        left = [target.charged_at(moment) for target in _untried(call)]
        call.waited = 0.0
        while left:
            now, unsure = time.monotonic(), False
            for target in sorted(left, key=lambda target: not circuits.ready(target.endpoint.slug, now)):
                if not await self._covers(call, target):
                    left.remove(target)
                elif (granted := self._granted(call, target)) is not None:
                    if granted:
                        return target
                else:
                    unsure = True
            wait = self.retries.jittered(pause)
            if not unsure or now + wait >= call.until:
                return None
            await asyncio.sleep(wait)
            call.waited += wait
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return None

    def _granted(self, call: Call, target: Target) -> bool | None:
        """Whether this target, which was not tried yet, may be tried now; None: others are finding out."""
        slug, circuits, now = target.endpoint.slug, self.endings.circuits, time.monotonic()
        if not call.attempts:
            return True
        if not circuits.sound(slug, now):
            return self._drawn(call)
        if not circuits.proven(slug, now):
            call.on_trial = circuits.begin_trial(slug)
            if not call.on_trial:
                return None
        call.on_trust = True
        return True

    def _once_more(self, call: Call, again: dict[str, _Again]) -> _Again | None:
        """What failed before and may do better a moment later; not what has come to rest."""
        now, ready = time.monotonic(), self.endings.circuits.ready
        left = [found for slug, found in again.items() if ready(slug, now)]
        found = min(left, key=lambda entry: entry[0], default=None)
        return found if found is not None and found[0] < call.until and self._drawn(call) else None

    def _end_trial(self, call: Call, *, answered: bool = False) -> None:
        call.on_trial = False
        self.endings.circuits.end_trial(call.target.endpoint.slug, answered=answered, now=time.monotonic())

    def _drawn(self, call: Call) -> bool:
        return self.retries.draw(call.route.targets[0].endpoint.model.slug, time.monotonic())

    def _dispatch(self, call: Call, target: Target) -> None:
        """Make the target the current one, and write down that something is sent."""
        call.go_to(target)
        call.attempt_began = now = time.monotonic()
        self.endings.circuits.begun(target.endpoint.slug, now)
        if not call.dispatched:
            self.endings.settlement.dispatch(call.dispatch())
            crash.point("after_dispatch")
            call.dispatched = True

    async def _covers(self, call: Call, target: Target) -> bool:
        """Whether a fallback is still to be tried: it may be dearer than the target that was held for."""
        if time.monotonic() >= call.until:
            return False
        bound = call.bound_at(target)
        if not bound:
            return False
        amount = call.worst(target, bound)
        if amount > call.held:
            answer = await self.endings.admission.extend(call.public_id, amount)
            if answer.outcome != "ok":
                return False
            call.held = amount
        return True

    def _failed(self, call: Call, error: Failure | TimeoutError) -> Failure:
        failure = error if isinstance(error, Failure) else Failure(failures.TIMEOUT)
        if failure.kind == failures.FULL:  # nobody heard of it
            call.key, call.on_trust = None, False
        self.endings.attempt_failed(call, failure)
        if call.on_trust:
            self.retries.spend(call.route.targets[0].endpoint.model.slug, time.monotonic())
            call.on_trust = False
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
                quirks=endpoint.provider.quirks,
            )
            crash.point("before_first_event")
            first = b""
            while not reader.started:
                block = await next_block(response)
                if not block:
                    raise Failure(failures.MALFORMED, "the stream ended before its first event")
                first = reader.feed(block)
            if not says_something(first) and not reader.answered:
                first = await self._until_it_speaks(response, reader, first)
            call.first_event = time.monotonic()
            if settings.FIRST_EVENT_SECONDS > settings.IDLE_SECONDS:
                response.expect_within(settings.IDLE_SECONDS)
        except BaseException:
            response.release()
            raise
        return Streaming(response, reader, first)

    @staticmethod
    async def _until_it_speaks(response: Response, reader: Reader, first: bytes) -> bytes:
        """Some name the speaker at once and fail then: what says nothing is kept back for a while."""
        held = [first]
        with contextlib.suppress(TimeoutError), within(SILENT_SECONDS):
            while not (says_something(held[-1]) or reader.answered or reader.finished):
                block = await next_block(response)
                if not block:
                    reader.end()
                    break
                held.append(reader.feed(block))
        return b"".join(held)

    async def _read_plain(self, call: Call) -> Completion:
        response = await self._post(call)
        try:
            body = await self.upstream.read(response, most=settings.MAX_REPLY_BYTES)
            return openai.read_reply(body, call.target.endpoint.provider.quirks)
        finally:
            response.release()

    async def _post(self, call: Call) -> Response:
        endpoint = call.target.endpoint
        body = openai.write_request(call.chat, endpoint, max_tokens=call.clamp)
        idle = settings.TOTAL_SECONDS
        if call.chat.stream:  # until its first event a stream has a deadline of its own
            idle = max(settings.IDLE_SECONDS, settings.FIRST_EVENT_SECONDS)
        key = call.key = None
        if endpoint.provider.keys:
            key = call.key = self.upstream.take_key(endpoint.provider)
        if call.arrived:
            call.ours, call.arrived = time.monotonic() - call.arrived - call.waited, 0.0
        response = await self.upstream.post(endpoint, openai.PATH, body, idle_seconds=idle, key=key)
        if response.status == 200:
            if key is not None:
                self.upstream.key_answered(endpoint.provider, key)
            return response
        try:
            error = await self.upstream.read_error(response)
            retry_after = response.headers.get(b"retry-after", b"").decode("latin-1")
            failure = openai.read_failure(response.status, error, retry_after)
            if key is not None:
                failure.of_key = self.upstream.key_failed(endpoint.provider, key, failure)
            raise failure
        finally:
            response.release()


def _untried(call: Call) -> list[Target]:
    """Those that were not tried, nor would wait for the same connections as one that waited in vain."""
    tried = {attempt["endpoint"]: attempt["failure"] for attempt in call.attempts}
    slugs = [(target, target.endpoint.slug, target.endpoint.provider.slug) for target in call.route.targets]
    full = {provider for _, slug, provider in slugs if tried.get(slug) == failures.FULL}
    return [target for target, slug, provider in slugs if slug not in tried and provider not in full]
