"""How calls end, and what each ending costs: usage → charge → spool, then the last bytes.

normal                     usage × price; counted by us and marked `estimated` if the provider states none
refused, provider's fault  free; what it cost us is booked as our loss, up to a sum a day
the client left            the prompt and what was produced until then
its own deadline passed    as if it had left
our shutdown               free
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from billing.admission import Admission
from billing.core import generation
from billing.core.generation import Generation
from billing.core.money import usd
from billing.core.usage import NOTHING, Usage
from billing.losses import FreeLosses
from billing.settlement import Settlement
from routing.call import Call
from routing.core import tokencount
from routing.core.circuits import Circuits
from routing.core.conversations import Conversations
from routing.core.failures import MALFORMED, RATE_LIMITED, Failure
from routing.core.live import Live
from routing.dialects.openai import Completion
from routing.dialects.openai_stream import Reader
from routing.dialects.openai_usage import write_usage

log = logging.getLogger(__name__)

_OURS = ("shutdown", "internal_error")
"""Endings that no customer can bring about: what they cost us is not held against anybody."""


@dataclass(slots=True)
class Endings:
    admission: Admission
    settlement: Settlement
    live: Live
    circuits: Circuits = field(default_factory=Circuits)
    conversations: Conversations = field(default_factory=Conversations)
    losses: FreeLosses = field(init=False)

    def __post_init__(self) -> None:
        self.losses = FreeLosses(self.admission.pipeline, self.settlement.spool.id)

    async def completed(self, call: Call, said: Reader | Completion, *, finish: str) -> dict[str, Any]:
        """Charge and append to the spool; answers the customer's `usage` object."""
        upstream_id = said.upstream_id
        usage = believed(call, said)
        estimated = usage is None
        if usage is None:
            usage = counted(call, said.text())
        if usage.completion == 0 and not finish:
            stated = NOTHING if estimated else usage
            record = call.record(generation.FAILED, stated, error_type="empty", upstream_id=upstream_id)
        else:
            await self._cover_overrun(call, usage)
            record = call.record(
                generation.COMPLETED, usage, finish=finish, estimated=estimated, upstream_id=upstream_id
            )
        self.settle(call, record)
        if record.error_type:
            self._blame(call, Failure(MALFORMED, "an answer without a token"))
        else:
            self._observe(call, usage)
        return write_usage(
            usage,
            cost=usd(record.charge_nanos),
            cost_nanos=record.charge_nanos,
            base=usd(record.base_nanos),
        )

    def failed(self, call: Call, *, error_type: str, reader: Reader | None = None) -> None:
        """Free. A stream that had begun has cost us something."""
        usage, upstream_id = NOTHING, ""
        estimated = False
        if reader is not None:
            usage, estimated = _until_now(call, reader)
            upstream_id = reader.upstream_id
        self.settle(
            call,
            call.record(
                generation.FAILED, usage, estimated=estimated, error_type=error_type, upstream_id=upstream_id
            ),
        )

    def free_is_used_up(self, call: Call, reader: Reader | None) -> bool:
        """Whether a stream that broke after it had delivered is charged: today's free endings cost enough."""
        if reader is None or not reader.content_bytes:
            return False
        if not self.losses.used_up(call.principal.organization):
            return False
        call.note(charged_because="free_loss_per_day")
        return True

    def cancelled(self, call: Call, reader: Reader | None, *, by_client: bool) -> None:
        """The task was cancelled: the client left, or the process shuts down."""
        if call.settled:
            return
        if not (call.dispatched and call.attempt_began and by_client):
            self.failed(call, error_type="shutdown" if not by_client else "left_early", reader=reader)
            return
        self.cut_off(call, reader)

    def cut_off(self, call: Call, reader: Reader | None, *, error_type: str = "") -> Generation:
        """The customer left, or its deadline passed: the prompt and what was produced are charged."""
        usage, estimated = _until_now(call, reader)
        record = call.record(
            generation.ABORTED,
            usage,
            estimated=estimated,
            finish="aborted",
            error_type=error_type,
            upstream_id=reader.upstream_id if reader else "",
        )
        self.settle(call, record)
        return record

    def broken(self, call: Call) -> None:
        """An error that nobody expected. Free, and recorded: a hold must not be renewed without its call."""
        if not call.settled:
            self.failed(call, error_type="internal_error")

    def attempt_failed(self, call: Call, failure: Failure, *, begun: bool = False) -> None:
        call.tried(failure, begun=begun)
        if failure.spares_endpoint:
            self.circuits.left(call.target.endpoint.slug, began=call.attempt_began)
            return
        self._blame(call, failure)

    def _blame(self, call: Call, failure: Failure) -> None:
        """Tell those who remember that this endpoint failed, so that others are called."""
        slug = call.target.endpoint.slug
        self.circuits.failed(
            slug,
            failure.kind,
            began=call.attempt_began,
            now=time.monotonic(),
            retry_after=failure.retry_after,
        )
        if call.chat.conversation:
            self.conversations.failed(call.conversation, slug)
        if not failure.permanent:
            limited = failure.kind == RATE_LIMITED or failure.status == 408
            self.live.failed(slug, rate_limited=limited)

    def settle(self, call: Call, record: Generation) -> None:
        """Exactly once a call."""
        if not call.settled:
            call.settled = True
            if self.circuits.troubled:
                self.circuits.left(call.target.endpoint.slug, began=call.attempt_began)
            call.cost_nanos = record.base_nanos + record.loss_nanos
            self.settlement.record(record, call.accounts)
            call.status, call.paid_nanos = record.status, record.charge_nanos  # what is not written is free
            if record.loss_nanos and record.error_type not in _OURS:
                self.losses.add(call.principal.organization, record.loss_nanos)

    async def _cover_overrun(self, call: Call, usage: Usage) -> None:
        """More than held, because the prompt was longer than estimated: the rest is asked for, not taken.

        An answer longer than the customer allowed is not asked for: what is not covered of it is our loss.
        """
        due = call.charge(usage).nanos
        if due > call.held and usage.completion > (most := call.most()):
            due = call.charge(usage.cut(most)).nanos
        if due <= call.held:
            return
        extending = asyncio.ensure_future(self.admission.extend(call.public_id, due))
        try:
            answer = await asyncio.shield(extending)
        except asyncio.CancelledError:
            extending.cancel()
            return  # the client has left after the end: it is charged what was held
        if answer.outcome == "ok":
            call.held = due

    def _observe(self, call: Call, usage: Usage) -> None:
        now = time.monotonic()
        first = call.first_event or now
        rates = call.target.endpoint.price.rates
        caches = rates.cache_read != rates.input
        self.live.observe(
            call.target.endpoint.slug,
            ttft_seconds=first - call.attempt_began if call.chat.stream else None,
            tokens=usage.completion,
            seconds=now - call.attempt_began,
            now=now,
            prompt=usage.prompt if caches else 0,
            cached=usage.cache_read if caches else 0,
        )
        self.circuits.succeeded(call.target.endpoint.slug, began=call.attempt_began, now=now)
        if call.chat.conversation:
            self.conversations.answered(call.conversation, call.target.endpoint, usage, now)


def _until_now(call: Call, reader: Reader | None) -> tuple[Usage, bool]:
    """What a call that was cut off has used so far, and whether that is our own count."""
    usage = None if reader is None else believed(call, reader)
    if usage is not None:
        return usage, False
    return counted(call, reader.text() if reader else ""), True


def believed(call: Call, said: Reader | Completion) -> Usage | None:
    """The usage that the provider stated, if it can be true. Zero is a figure like any other.

    What is odd about it is noted and logged, so that somebody looks at that provider.
    """
    usage, odd = said.usage, said.odd_usage
    if usage is not None:
        room = call.target.endpoint.context_length
        if usage.prompt > room or usage.completion > room * call.chat.choices:
            usage, odd = None, "impossible"
        elif not (usage.prompt and usage.completion) and said.text():
            odd = "zero"
    if odd:
        call.note(odd_usage=odd)
        log.warning("a provider states an odd usage", extra={"call": call.public_id, "odd": odd})
    return usage


def counted(call: Call, text: str) -> Usage:
    """Our own count: the prompt as it was sent, and what was produced."""
    prompt = tokencount.count(bytes(call.chat.body["messages"]).decode("utf-8", "replace"))
    return Usage(input=min(prompt, call.chat.prompt_tokens), output=tokencount.count(text) if text else 0)
