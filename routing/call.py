"""One call under way: what it may spend, what was tried, and the record it ends as.

Price row, hours and mark-up are frozen when an attempt is dispatched; the same `charge` function made the
hold and makes the settlement.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from accounts.core.principal import Principal
from aggregator.lib import ids
from billing.core import generation, pricing
from billing.core.budgets import Account
from billing.core.generation import Generation
from billing.core.money import Nanos, round_nanos, usd
from billing.core.pricing import Charge
from billing.core.usage import NOTHING, Usage
from billing.plans import Terms
from billing.spool import Dispatch
from routing.core.chat import Chat
from routing.core.conversations import Name
from routing.core.decision import Target
from routing.core.failures import DEADLINE, Failure
from routing.core.listing import ManagedKey
from routing.core.route import Route

FIRST_SLICE = 1024
"""Completion tokens that a stream without `max_tokens` holds at first; it grows as it runs."""
_GROW_AT = 0.75
_LEAST_CLAMP = 16
_MOST_AGENT = 200
_MOST_ID = 200
_MOST_REASON = 100


@dataclass(slots=True, kw_only=True)
class Call:
    chat: Chat
    principal: Principal
    terms: Terms
    accounts: tuple[Account, ...]
    route: Route
    user_agent: str = ""
    id: Any = field(default_factory=ids.uuid7)
    began: float = field(default_factory=time.monotonic)
    arrived: float = 0.0
    """When its request was here; 0 once a provider was asked, or where our own time is not measured."""
    ours: float = -1.0
    """Seconds from there until the first provider was asked; negative where they are not measured."""
    until: float = field(init=False)
    """When the call must have ended: our own deadline, or the customer's if that is sooner."""
    public_id: str = ""
    target: Target = field(init=False)
    """The one being attempted."""
    held: Nanos = 0
    bound: int = 0
    """Completion tokens that the hold covers, of all choices together."""
    clamp: int | None = None
    """`max_tokens` to state for the customer, who stated none, or more than anybody writes."""
    growing: bool = False
    extending: asyncio.Task[None] | None = None
    """The gate is being asked for more, while the stream goes on."""
    ask_again_at: float = 0.0
    """After a no, the gate is not asked again before this."""
    short_of: Account | None = None
    """What covered no more when the stream last asked to hold more."""
    rate_left: int = -1
    attempts: list[dict[str, Any]] = field(default_factory=list)
    attempt_began: float = 0.0
    """0 when none is under way."""
    waited: float = 0.0
    """Seconds that the attempt under way was put off for."""
    on_trust: bool = False
    """The attempt under way is a fallback that drew nothing from the budget of retries."""
    on_trial: bool = False
    """And it is among the few that find out whether its endpoint answers."""
    key: ManagedKey | None = None
    """Which of our keys the attempt under way goes with, where there is a choice; its name is recorded."""
    first_event: float | None = None
    notes: dict[str, Any] | None = None
    """What else the record has to say, beside the decision."""
    apart: asyncio.Task[Any] | None = None
    """The attempt under way, where the provider bills it to its end whatever we do."""
    cost_nanos: Nanos = 0
    """What the call has cost us, as its record says."""
    paid_nanos: Nanos = 0
    """What its customer was charged, as its record says."""
    dispatched: bool = False
    settled: bool = False
    _charged: tuple[Usage, Target, Charge] | None = None
    status: str = ""
    """As its record has it, once it is settled."""

    def __post_init__(self) -> None:
        self.public_id = generation.public_id(self.id)
        self.target = self.route.targets[0]
        self.clamp = self.route.max_tokens
        own, ours = self.chat.timeout_seconds, settings.TOTAL_SECONDS
        self.until = self.began + (ours if own is None else min(own, ours))

    @property
    def conversation(self) -> Name:
        """Its name in what remembers warm caches."""
        return self.principal.organization_id, self.chat.model, self.chat.conversation

    @property
    def chose_deadline(self) -> bool:
        """Whether the customer's own `timeout` ends this call, and not ours."""
        own = self.chat.timeout_seconds
        return own is not None and own < settings.TOTAL_SECONDS

    @property
    def bills_on(self) -> bool:
        """Whether the provider of this attempt goes on billing when it is cancelled."""
        return "bills_after_cancel" in self.target.endpoint.provider.quirks

    def out_of_time(self) -> Failure:
        """The customer's own deadline has passed."""
        return Failure(
            DEADLINE,
            f"The call was ended by its own `timeout` of {self.chat.timeout_seconds:g} s. "
            "The prompt and what was produced until then are charged.",
        )

    # ── Holding ──────────────────────────────────────────────────────────────────────────────────

    def cap(self, target: Target) -> int:
        """The most completion tokens that this target can produce for this chat."""
        endpoint = target.endpoint
        room = endpoint.context_length - self.chat.prompt_tokens
        most = min(endpoint.max_output, max(room, 1))
        return min(self.chat.max_tokens or most, most) * self.chat.choices

    def bound_at(self, target: Target) -> int:
        """Completion tokens to hold for a fallback; 0 when `max_cost` pays for no call of it.

        It may write more than the target before it did, and `max_cost` pays for fewer tokens of a dearer one.
        """
        limit = self._most_at(target)
        if self.chat.stream and self.chat.max_tokens is None and limit:
            return min(limit, self.bound if self.growing else self.chat.choices * FIRST_SLICE)
        return limit

    def go_to(self, target: Target) -> None:
        """Make the target the current one, with the bound that `bound_at` says."""
        if target is self.target:
            return
        limit, self.bound = self._most_at(target), self.bound_at(target)
        self.target, self.growing = target, self.bound < limit
        if self.chat.max_cost_nanos is not None and limit < self.cap(target):
            self.clamp = limit // self.chat.choices

    def _most_at(self, target: Target) -> int:
        """Completion tokens that may come from a fallback at all, within what was stated and `max_cost`."""
        limit = self.cap(target)
        if self.clamp is not None:
            limit = min(limit, self.clamp * self.chat.choices)
        most, choices = self.chat.max_cost_nanos, self.chat.choices
        paid = None if most is None else self.affordable(most, target)
        if paid is None or paid >= limit:
            return limit
        if self.chat.max_tokens is not None or paid < _LEAST_CLAMP * choices:
            return 0
        return paid // choices * choices

    def first_bound(self) -> int:
        """What to hold for before the first attempt: the worst case, or a slice that grows."""
        cap = self.cap(self.target)
        if self.chat.max_tokens is not None:
            return cap
        if self.chat.max_cost_nanos is not None:
            cap = self._clamp_to_cost(cap, self.chat.max_cost_nanos)
        self.growing = self.chat.stream and self.chat.choices * FIRST_SLICE < cap
        return self.chat.choices * FIRST_SLICE if self.growing else cap

    def _clamp_to_cost(self, cap: int, most: Nanos) -> int:
        """`max_cost` without `max_tokens`: state as many tokens as the customer's cap pays for."""
        affordable = self.affordable(most)
        if affordable is None or affordable >= cap:
            return cap
        self.clamp = max(affordable // self.chat.choices, 1)
        return self.clamp * self.chat.choices

    def worst(self, target: Target, bound: int) -> Nanos:
        return pricing.worst(self.chat.prompt_tokens, bound, target.endpoint.price, self.terms.markup)

    def affordable(self, spendable: Nanos, target: Target | None = None) -> int | None:
        price = (target or self.target).endpoint.price
        return pricing.affordable_completion(spendable, self.chat.prompt_tokens, price, self.terms.markup)

    def shrink(self, spendable: Nanos) -> bool:
        """Clamp a call without `max_tokens` to what is affordable. False when that is not worth a call.

        A plain call takes half of it, so that calls in parallel find something too; a stream grows later.
        """
        affordable = self.affordable(spendable)
        if affordable is None:
            return False
        share = affordable // self.chat.choices
        tokens = share if self.chat.stream else max(share // 2, min(share, 256))
        if tokens < _LEAST_CLAMP or tokens * self.chat.choices >= self.bound:
            return False
        self.bound = tokens * self.chat.choices
        if self.chat.stream:
            self.growing = True
        else:
            self.clamp = tokens
        return True

    def most(self) -> int:
        """The most completion tokens that may come, what was stated for the customer included."""
        cap = self.cap(self.target)
        return cap if self.clamp is None else min(cap, self.clamp * self.chat.choices)

    def wants_more(self, produced: int) -> int | None:
        """The bound to hold next, when what was produced comes near to what is held."""
        if self.growing and produced >= self.bound * _GROW_AT:
            return min(max(self.bound, produced) * 2, self.most())
        return None

    # ── Ending ───────────────────────────────────────────────────────────────────────────────────

    def tried(self, failure: Failure, *, begun: bool = False) -> None:
        """Note a failed attempt; `begun` when its answer broke off after the first byte."""
        attempt: dict[str, Any] = {
            "endpoint": self.target.endpoint.slug,
            "failure": failure.kind,
            "status": failure.status,
            "seconds": round(time.monotonic() - self.attempt_began, 4),
        }
        if self.key is not None:
            attempt["key"] = self.key.name
        if self.waited:
            attempt["wait"] = round(self.waited, 4)
        self.attempts.append({**attempt, "begun": True} if begun else attempt)

    def dispatch(self) -> Dispatch:
        return Dispatch(self.id, self.principal.organization_id, self.principal.key_id, self.chat.model)

    def charge(self, usage: Usage) -> Charge:
        """The last one is remembered: whether the hold covers it is asked first, and then it is recorded."""
        if self._charged is None or self._charged[0] is not usage or self._charged[1] is not self.target:
            found = pricing.charge(usage, self.target.endpoint.price, self.terms.markup)
            self._charged = (usage, self.target, found)
        return self._charged[2]

    def record(
        self,
        status: str,
        usage: Usage = NOTHING,
        *,
        finish: str = "",
        estimated: bool = False,
        error_type: str = "",
        upstream_id: str = "",
    ) -> Generation:
        """The record of this ending. What exceeds the hold, and what a free ending cost, is our loss."""
        charge = self.charge(usage)
        paid = min(charge.nanos, self.held) if status in generation.CHARGED else 0
        base = round_nanos(charge.base)
        covered = min(base, paid)
        decision = self.decision()
        if paid < charge.nanos and status in generation.CHARGED:
            decision["capped_at_nanos"] = paid
        endpoint = self.target.endpoint
        return Generation(
            id=self.id,
            organization_id=self.principal.organization_id,
            key_id=self.principal.key_id,
            status=status,
            model_asked=self.chat.model,
            model=endpoint.model.slug,
            endpoint=endpoint.slug,
            preference=self.route.decision.preference,
            streamed=self.chat.stream,
            finish_reason=_kept(finish, _MOST_REASON),
            native_finish_reason=_kept(finish, _MOST_REASON),
            estimated=estimated,
            input=usage.input,
            cache_read=usage.cache_read,
            cache_write_5m=usage.cache_write_5m,
            cache_write_1h=usage.cache_write_1h,
            output=usage.output,
            reasoning=usage.reasoning,
            image=usage.image,
            audio=usage.audio,
            image_output=usage.image_output,
            audio_output=usage.audio_output,
            price_id=endpoint.price.id,
            price_window=endpoint.price.window,
            price_tier=charge.tier,
            markup=str(self.terms.markup),
            parts=tuple((kind, units, format(amount, "f")) for kind, units, amount in charge.parts),
            base_nanos=covered,
            charge_nanos=paid,
            loss_nanos=base - covered,
            ttft_ms=None if self.first_event is None else int((self.first_event - self.began) * 1000),
            latency_ms=int((time.monotonic() - self.began) * 1000),
            error_type=error_type,
            upstream_id=_kept(upstream_id, _MOST_ID),
            decision=decision,
            user_agent=_kept(self.user_agent, _MOST_AGENT),
            end_user=self.chat.end_user,
            ended_ms=time.time_ns() // 1_000_000,
        )

    def bill(self) -> dict[str, Any] | None:
        """What an error tells the customer of the charge; None as long as the call is free."""
        if self.status not in generation.CHARGED:
            return None
        cost = {"cost": usd(self.paid_nanos), "cost_nanos": self.paid_nanos}
        return {"generation_id": self.public_id, **cost}

    def decision(self) -> dict[str, Any]:
        """The selector's decision and what became of it."""
        data = self.route.decision.as_data()
        data["served"] = self.target.endpoint.slug
        data["attempts"] = self.attempts
        if self.key is not None:
            data["key"] = self.key.name
        if self.waited:
            data["wait"] = round(self.waited, 4)
        if data["served"] != data["chosen"]:
            data["served_reason"] = self.served_reason()
        return data if self.notes is None else data | self.notes

    def note(self, **said: Any) -> None:
        self.notes = (self.notes or {}) | said

    def served_reason(self) -> str:
        """Why this target: the selector's reason speaks of its first choice, which a fallback is not."""
        if self.target.endpoint.slug == self.route.targets[0].endpoint.slug:
            return self.route.decision.reason
        if not self.attempts:
            return f"{self.route.decision.chosen} is not tried while it rests after failures"
        failed = ", ".join(f"{tried['endpoint']} ({tried['failure']})" for tried in self.attempts)
        return f"took over from {failed}"

    def early_headers(self) -> list[tuple[bytes, bytes]]:
        """What is known before any target has answered."""
        return [
            (b"x-generation-id", self.public_id.encode()),
            (b"x-fairlead-preference", self.route.decision.preference.encode()),
        ]

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What is known at the start; cost and final figures ride the end of the answer."""
        found = [
            *self.early_headers(),
            (b"x-fairlead-endpoint", self.target.endpoint.slug.encode()),
            (b"x-fairlead-reason", self.served_reason().encode("ascii", "replace")),
            (b"x-fairlead-predicted-cost", usd(self.target.cost_nanos_predicted).encode()),
            (b"x-fairlead-attempts", str(len(self.attempts) + 1).encode()),
        ]
        if self.principal.requests_per_minute:
            found += [
                (b"x-ratelimit-limit", str(self.principal.requests_per_minute).encode()),
                (b"x-ratelimit-remaining", str(max(self.rate_left, 0)).encode()),
            ]
        if self.clamp is not None:
            found.append((b"x-fairlead-max-tokens", str(self.clamp).encode()))
        return found


def _kept(text: str, most: int) -> str:
    """Others' text as PostgreSQL keeps it: one NUL would hold up every record behind it."""
    return text[:most].replace("\0", "\N{REPLACEMENT CHARACTER}")
