"""What the simulated providers do may change while they run: outages, brown-outs, prices, rate limits.

`POST /_sandbox/conditions` replaces the set and starts its clock anew; `POST /_sandbox/reset` clears it:

    {"seed": 7,
     "offers": [{"provider": "sandbox-a", "model": "m", "prices": {"input": "0.4", "output": "1.2"},
                 "ttft_ms": 80, "tokens_per_second": 200, "tokens": 16}],
     "conditions": [{"provider": "sandbox-a", "model": "m", "after": 4, "seconds": 5, "failure": 1},
                    {"provider": "sandbox-a", "after": 12, "slowdown": 4}]}

`offers` are models that the fleet does not have. What lies over each other adds up: slowdowns multiply, the
last price counts. Times are monotonic seconds.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from routing.sandbox.fleet import OFFERS, PROVIDERS, Fault, Offer

MOST_STATED = 2000
_WINDOW_SECONDS = 1.0

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=120, pattern=r"^[A-Za-z0-9._-]+$")]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]


class Invalid(Exception):
    """A set of conditions that makes no sense: (message, field)."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.message, self.param = message, param


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """USD per million tokens, as decimal strings."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None


class Stated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An offer beside the fleet's."""

    provider: Name
    model: Name
    prices: Prices
    ttft_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)]
    tokens_per_second: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    tokens: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 0


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What holds at a provider, or at one of its models, for some time."""

    provider: Name
    model: Annotated[str, msgspec.Meta(max_length=120)] = ""
    """Empty: all of its models."""
    after: Seconds = 0.0
    """Since the set was posted."""
    seconds: Seconds | None = None
    """None: for good."""
    slowdown: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 1.0
    """The time to the first token and the time for each one are this many times as long."""
    failure: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """The share of requests that are answered with `status`, drawn from the seed: no pattern to learn."""
    status: Literal[429, 500, 503] = 500
    capacity: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] | None = None
    """Requests within any second; what is above hears 429."""
    retry_after: Annotated[int, msgspec.Meta(ge=0, le=3600)] | None = None
    """What a 429 or 503 asks for, in seconds; else the usual for its status, and 1 for `capacity`."""
    prices: Prices | None = None
    hang: bool = False
    """Requests are taken and never answered."""


class Posted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seed: int = 0
    offers: Annotated[list[Stated], msgspec.Meta(max_length=MOST_STATED)] = []
    conditions: Annotated[list[Condition], msgspec.Meta(max_length=MOST_STATED)] = []


@dataclass(slots=True)
class _Held:
    """A condition with what it remembers: how many requests it drew for, and when it let some in."""

    said: Condition
    chances: str
    drawn: int = 0
    let_in: deque[float] = field(default_factory=deque)

    def holds(self, model: str, passed: float) -> bool:
        said = self.said
        until = float("inf") if said.seconds is None else said.after + said.seconds
        return (not said.model or said.model == model) and said.after <= passed < until

    def full(self, now: float) -> bool:
        """Whether this request is beyond the capacity; if not, it is counted."""
        if self.said.capacity is None:
            return False
        while self.let_in and self.let_in[0] <= now - _WINDOW_SECONDS:
            self.let_in.popleft()
        if len(self.let_in) + 1 > self.said.capacity:
            return True
        self.let_in.append(now)
        return False

    def fails(self) -> bool:
        if not self.said.failure:
            return False
        self.drawn += 1
        return random.Random(f"{self.chances}:{self.drawn}").random() < self.said.failure  # noqa: S311


class Conditions:
    """One set at a time. Without any, asking costs one look into the fleet."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._posted, self._since = Posted(), 0.0
        self._offers: dict[tuple[str, str], Offer] = {}
        self._held: dict[str, list[_Held]] = {}

    def post(self, body: bytes, now: float) -> None:
        """Take a new set. Raises Invalid, and keeps the old one."""
        try:
            posted = msgspec.json.decode(body or b"{}", type=Posted)
        except msgspec.ValidationError as error:
            problem, _, path = str(error).partition(" - at `")
            raise Invalid(problem, path.strip("`$.") or "body") from error
        except msgspec.DecodeError as error:
            raise Invalid(f"This is not JSON: {error}.", "body") from error
        offers = {(said.provider, said.model): _offer(said) for said in posted.offers}
        held: dict[str, list[_Held]] = {}
        for at, said in enumerate(posted.conditions):
            _check(said, f"conditions[{at}]", offers)
            held.setdefault(said.provider, []).append(_Held(said, f"{posted.seed}:{at}"))
        self._posted, self._since, self._offers, self._held = posted, now, offers, held

    def offer_in_force(self, provider: str, model: str, now: float) -> Offer | None:
        """The offer with the prices and the pace that hold at this moment."""
        offer = self._offers.get((provider, model)) or OFFERS.get((provider, model))
        if offer is None or provider not in self._held:
            return offer
        for held in self._in_force(provider, model, now):
            prices, slowdown = held.said.prices, held.said.slowdown
            if prices is not None:
                offer = replace(offer, input=prices.input, output=prices.output, cache_read=prices.cache_read)
            if slowdown != 1:
                slower = offer.tokens_per_second / slowdown
                offer = replace(offer, ttft_ms=offer.ttft_ms * slowdown, tokens_per_second=slower)
        return offer

    def knows(self, provider: str) -> bool:
        return provider in PROVIDERS or any(name == provider for name, _ in self._offers)

    def offers_of(self, provider: str, now: float) -> list[Offer]:
        """All that a provider offers now, each as it is in force; empty when there is no such provider."""
        names = [name for name in (*OFFERS, *self._offers) if name[0] == provider]
        found = (self.offer_in_force(*name, now) for name in dict.fromkeys(names))
        return [offer for offer in found if offer is not None]

    def strike(self, offer: Offer, now: float) -> Fault | None:
        """What goes wrong with one request for it; each asking is a request."""
        for held in self._in_force(offer.provider, offer.model, now):
            said = held.said
            if held.full(now):
                return Fault(
                    "status", status=429, retry_after=1 if said.retry_after is None else said.retry_after
                )
            if held.fails():
                return Fault("status", status=said.status, retry_after=said.retry_after)
            if said.hang:
                return Fault("hang")
        return None

    def as_data(self, now: float) -> dict[str, Any]:
        """The set as it was posted, the seconds since then, and what holds now."""
        passed = now - self._since if self._held or self._offers else 0.0
        active = [
            said
            for said in self._posted.conditions
            if any(held.said is said for held in self._in_force(said.provider, said.model, now))
        ]
        data: dict[str, Any] = msgspec.to_builtins(self._posted)
        return {**data, "passed": passed, "in_force": msgspec.to_builtins(active)}

    def _in_force(self, provider: str, model: str, now: float) -> Iterator[_Held]:
        passed = now - self._since
        return (held for held in self._held.get(provider, ()) if held.holds(model, passed))


def _offer(said: Stated) -> Offer:
    prices = said.prices
    _check_prices(prices, f"offers: {said.provider} {said.model}")
    pace = said.ttft_ms, said.tokens_per_second
    more = {"cache_read": prices.cache_read, "tokens": said.tokens}
    return Offer(said.provider, said.model, prices.input, prices.output, *pace, **more)  # type: ignore[arg-type]


def _check(said: Condition, where: str, offers: dict[tuple[str, str], Offer]) -> None:
    known = {*OFFERS, *offers}
    if said.model and (said.provider, said.model) not in known:
        raise Invalid(f"{said.provider} has no model {said.model!r}.", f"{where}.model")
    if said.provider not in {provider for provider, _ in known}:
        raise Invalid(f"There is no simulated provider {said.provider!r}.", f"{where}.provider")
    if said.prices is not None:
        _check_prices(said.prices, where)


def _check_prices(prices: Prices, where: str) -> None:
    for name in ("input", "output", "cache_read"):
        price = getattr(prices, name)
        if price is not None and not (price.is_finite() and price >= 0):
            raise Invalid("A price is a decimal of zero or more.", f"{where}.prices.{name}")
