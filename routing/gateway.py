"""THE hot path: one call from the customer's request to its settlement. The only place that knows the order.

    caller + chat → route → hold → attempts → stream or body → usage → charge → spool → last bytes → gate

Nothing here waits for PostgreSQL, except when a worker meets a key or a wallet that it does not know.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from django.conf import settings

from aggregator.lib import clock, crash, ids
from aggregator.lib.errors import Refusal, unavailable
from billing import refused
from billing.admission import Answer
from billing.core.budgets import accounts_of
from billing.core.money import round_nanos, usd
from routing import costs, refusals
from routing.attempts import Attempts, Streaming
from routing.call import Call
from routing.callers import Caller, Callers
from routing.core import conversations, route
from routing.core.chat import Chat
from routing.core.failures import DEADLINE, TIMEOUT, Failure
from routing.core.listing import Listing
from routing.costs import Question
from routing.dialects import openai
from routing.dialects.openai_stream import Reader
from routing.drains import Drains
from routing.endings import Endings
from routing.idempotency import Idempotency
from routing.logbook import Logbook
from routing.traffic import Traffic
from routing.upstream import next_block

_TRIES = 6
_ASK_AGAIN_SECONDS = 1.0
_REFUSED_SECONDS = 0.5
"""How long one who is frozen, or whose data policy leaves nobody, is refused without another look-up."""


class Out(Protocol):
    """The customer's side of a stream, as `routing.answer` has it."""

    async def start(self, headers: list[tuple[bytes, bytes]]) -> None: ...
    async def send(self, data: bytes) -> None: ...

    waited: float
    """Seconds spent until the client took what was sent."""

    def left(self) -> bool:
        """Whether the client, and not the process, ended the call."""
        ...


@dataclass(slots=True)
class Gateway:
    callers: Callers
    attempts: Attempts
    endings: Endings
    listing: Listing
    traffic: Traffic = field(default_factory=Traffic)
    logbook: Logbook = field(default_factory=Logbook)
    idempotency: Idempotency = field(init=False)
    drains: Drains = field(init=False)

    def __post_init__(self) -> None:
        self.idempotency = Idempotency(self.endings.admission)
        self.drains = Drains(self.attempts.upstream)

    async def begin(
        self,
        text: str,
        caller: Caller,
        chat: Chat,
        *,
        user_agent: str,
        call_id: UUID | None = None,
        arrived: float = 0.0,
    ) -> Call:
        """Choose and hold. Raises Refusal; nothing was dispatched then, and nothing is held.

        `call_id` is given when the call was announced under it before, by an idempotency key; `arrived` is
        when its request was here, where our own time is to be measured.
        """
        self.endings.settlement.refuse_when_full()
        for _ in range(_TRIES):
            if caller.terms.frozen:
                caller = await self._thawed(text, caller)
            try:
                call = self._choose(caller, chat, user_agent, call_id)
            except Refusal:
                if caller.principal.policy is None or not _is_aged(caller):
                    raise
                # The gate does not see this refusal: whether the data policy still stands is asked here.
                caller = await self.callers.renew(text, caller)
                call = self._choose(caller, chat, user_agent, call_id)
            call.bound = call.first_bound()
            answer = await self._admit(call)
            if answer.outcome == "no" and chat.max_tokens is None and call.shrink(answer.value):
                answer = await self._admit(call)
            if answer.outcome == "ok":
                call.rate_left, call.arrived = answer.value, arrived
                crash.point("after_hold")
                return call
            if answer.outcome == "rate":
                raise refusals.of_rate(call, answer)
            if answer.outcome == "no":
                if answer.account is not None:
                    refused.note(answer.account)
                raise refusals.of_funds(call, answer)
            # The key or the terms have changed: take the new ones.
            caller = await self.callers.renew(text, caller)
        raise unavailable("The gate")

    async def _thawed(self, text: str, caller: Caller) -> Caller:
        """Who was frozen a moment ago is looked up again. Raises Refusal 402 if they still are."""
        if _is_aged(caller):
            caller = await self.callers.renew(text, caller)
        if caller.terms.frozen:
            raise refusals.of_freeze(caller.terms)
        return caller

    def preview(self, caller: Caller, chat: Chat) -> dict[str, Any]:
        """What `begin` would choose now, and what it would hold; nothing is called, held or recorded.

        Raises Refusal as `begin` does, but for the wallet and the calls' rate limit, which are not asked.
        """
        call = self._choose(caller, chat, "", None)
        call.bound = call.first_bound()
        endpoint = call.target.endpoint
        predicted = round_nanos(Decimal(call.target.cost_nanos_predicted) * (1 + caller.terms.markup))
        return {
            "object": "route",
            "model": endpoint.model.slug,
            "provider": endpoint.provider.name,
            "endpoint": endpoint.slug,
            "reason": call.route.decision.reason,
            "prompt_tokens": chat.prompt_tokens,
            "max_tokens": call.bound // chat.choices,
            "cost": usd(predicted),
            "cost_most": usd(call.worst(call.target, call.bound)),
            "seconds": round(call.target.seconds_predicted, 4),
            "markup": format(caller.terms.markup, "f"),
            "route": call.route.decision.as_data(),
        }

    def costs(self, caller: Caller, question: Question) -> dict[str, Any]:
        """What it would come to wherever the caller could send it; nothing is called, held or recorded."""
        principal = caller.principal
        return costs.answer(
            question,
            listing=self.listing,
            allowed_models=principal.allowed_models,
            markup=caller.terms.markup,
            policy=principal.policy,
            now=clock.now(),
        )

    async def plain(self, call: Call, left: Callable[[], bool]) -> bytes:
        """Run the call and return the body of its answer. Raises Refusal."""
        try:
            reply = await self.attempts.plain(call)
            ended = time.monotonic()
            usage = await self.endings.completed(call, reply, finish=reply.finish_reason)
        except asyncio.CancelledError:
            self.endings.cancelled(call, None, by_client=left())
            self._leave_attempt(call, by_client=left())
            raise
        except BaseException:
            self.endings.broken(call)
            self._leave_attempt(call)
            raise
        endpoint = call.target.endpoint
        changed: dict[str, Any] = {"id": call.public_id, "model": endpoint.model.slug}
        changed |= {"provider": endpoint.provider.name, "usage": usage}
        if call.chat.show_route:
            changed["route"] = call.decision()
        body = openai.write_reply(reply, changed)
        self._measure(call, ended)
        return body

    async def stream(self, call: Call, out: Out) -> None:
        """Run the call and write its events. Raises Refusal only before the first byte."""
        begun: Streaming | None = None
        try:
            begun = await self.attempts.stream(call)
            await out.start(call.headers())
            if begun.first:
                await out.send(begun.first)
            cut = await self._forward_in_time(call, begun, out)
            ended = time.monotonic()
            last = await self._last(call, begun.reader, cut=cut)
            if begun.reader.finished:
                self.attempts.upstream.finish(begun.response)
                begun.let_go = True
            else:
                self.drains.let_go(call, begun)
            self._measure(call, ended)
            await out.send(last)
            crash.point("after_last_bytes")
        except Failure as failure:
            assert begun is not None  # noqa: S101 (before the first byte it is a Refusal)
            refusal = self.attempts.give_up(call, failure, begun.reader)
            if failure.kind == DEADLINE:
                self.drains.let_go(call, begun)
            else:
                begun.response.release()
            await out.send(begun.reader.failed(refusal.as_body()))
        except asyncio.CancelledError:
            self.endings.cancelled(call, begun.reader if begun else None, by_client=out.left())
            self._leave_attempt(call, begun, by_client=out.left())
            raise
        except BaseException:
            self.endings.broken(call)
            raise
        finally:
            if begun is not None and not begun.let_go:
                begun.response.release()
            self._leave_attempt(call)

    def _measure(self, call: Call, ended: float) -> None:
        """What we ourselves added: before the provider was asked, and since its answer ended."""
        if call.ours >= 0:
            self.endings.live.added(call.ours + time.monotonic() - ended)

    def _leave_attempt(self, call: Call, begun: Streaming | None = None, *, by_client: bool = True) -> None:
        """What goes on at a provider that bills it to the end is read on, unless the process ends as well."""
        if begun is not None and by_client and not begun.let_go:
            self.drains.let_go(call, begun)
        attempt, call.apart = call.apart, None
        if attempt is not None and by_client:
            self.drains.take_over(call, attempt)
        elif attempt is not None:
            attempt.cancel()

    def _choose(self, caller: Caller, chat: Chat, user_agent: str, call_id: UUID | None) -> Call:
        draw, warm, now = random.random(), None, time.monotonic()  # noqa: S311 (it spreads load, no more)
        if chat.conversation:  # it is drawn alike in every worker, and goes on where its cache is warm
            draw = conversations.draw(chat.conversation)
            name = (caller.principal.organization_id, chat.model, chat.conversation)
            warm = self.endings.conversations.warm(name, now)
        chosen = route.choose(
            chat,
            listing=self.listing,
            live=self.endings.live,
            allowed_models=caller.principal.allowed_models,
            now=now,
            markup=caller.terms.markup,
            resting=self.endings.circuits.resting(now),
            watched=self.endings.circuits.watched,
            draws=(draw, random.random() if settings.EXPLORE and not chat.continued else 1.0),  # noqa: S311
            warm=warm,
            policy=caller.principal.policy,
        )
        own_id = call_id or ids.uuid7()
        return Call(
            chat=chat,
            principal=caller.principal,
            terms=caller.terms,
            # As of the call's own instant: it counts in the windows that its record lies in.
            accounts=accounts_of(caller.principal, ids.uuid7_time(own_id), chat.end_user),
            route=chosen,
            user_agent=user_agent,
            id=own_id,
        )

    async def _admit(self, call: Call) -> Answer:
        call.held = call.worst(call.target, call.bound)
        return await self.endings.admission.admit(
            call.principal,
            call.accounts,
            call=call.public_id,
            amount=call.held,
            terms_version=call.terms.version,
        )

    async def _forward_in_time(self, call: Call, begun: Streaming, out: Out) -> bool:
        """A deadline that the customer chose needs a timer; ours is seen by `_forward` as it goes."""
        if not call.chose_deadline:
            return await self._forward(call, begun, out)
        try:
            async with asyncio.timeout(call.until - time.monotonic()):
                return await self._forward(call, begun, out)
        except TimeoutError as error:
            raise call.out_of_time() from error

    async def _forward(self, call: Call, begun: Streaming, out: Out) -> bool:
        """Pass blocks on until the provider is done. True when credit ended first."""
        response, reader, send = begun.response, begun.reader, out.send
        until = call.until
        while not reader.finished:
            block = await next_block(response)
            if not block:
                reader.end()
                return False
            data = reader.feed(block)
            if data:
                await send(data)
            if call.growing and await self._credit_ended(call, reader):
                return True
            if time.monotonic() > until:
                raise self._overdue(call, out)
        return False

    @staticmethod
    def _overdue(call: Call, out: Out) -> Failure:
        """Whoever was waited for longer has used up the time: a slow reader must not make its calls free."""
        if call.chose_deadline:
            return call.out_of_time()
        if out.waited * 2 > time.monotonic() - call.began:
            return Failure(DEADLINE, "The answer was read too slowly to end in time; it is charged so far.")
        return Failure(TIMEOUT, "the call took too long")

    async def _credit_ended(self, call: Call, reader: Reader) -> bool:
        """Grow the hold before more is spent; when no credit is left, what is held may still be used up.

        The gate is asked while the stream goes on: it is waited for only when what is held is used up.
        """
        produced = max(reader.events, reader.content_bytes // 4)
        more = call.wants_more(produced)
        if more is None or reader.answered:
            return False
        if call.extending is None and time.monotonic() >= call.ask_again_at:
            call.extending = asyncio.get_running_loop().create_task(self._extend(call, more))
        if produced < call.bound:
            return False
        if call.extending is not None:
            await asyncio.shield(call.extending)
        return produced >= call.bound

    async def _extend(self, call: Call, bound: int) -> None:
        """Hold enough for `bound` tokens. After a no, or without the gate, it is not asked again at once."""
        amount = call.worst(call.target, bound)
        try:
            answer = await self.endings.admission.extend(call.public_id, amount)
        finally:
            call.extending = None
        if answer.outcome == "ok":
            call.held, call.bound = max(call.held, amount), bound
            call.growing = bound < call.most()
        else:
            call.short_of = answer.account if answer.outcome == "no" else None
            call.ask_again_at = time.monotonic() + _ASK_AGAIN_SECONDS

    async def _last(self, call: Call, reader: Reader, *, cut: bool) -> bytes:
        """Settle, and only then have the last bytes."""
        finish = "length" if cut else reader.finish_reason
        usage = await self.endings.completed(call, reader, finish=finish)
        shown = call.decision() if call.chat.show_route else None
        if not cut:
            return reader.last(usage, route=shown)
        if call.short_of is not None:
            refused.note(call.short_of)
        return reader.cut_short(refusals.notice(call.short_of)) + reader.last(usage, route=shown)


def _is_aged(caller: Caller) -> bool:
    return time.monotonic() - caller.asked_at > _REFUSED_SECONDS
