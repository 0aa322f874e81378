"""Worlds by seed: some endpoints with prices and paces, and what changes at them while calls go on.

A world is drawn for one kind of change and one preference, so that the change strikes where that preference
would send its calls. The same three always give the same world. Times are seconds since the load began.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

KINDS = ("outage", "brown-out", "price", "rate-limit", "flapping", "recovery")
PREFERENCES = ("cost", "speed", "balanced", "default")
"""`default` asks for a named model and states no preference: spread by price among what is healthy."""

SEEDS = range(1, 6)
"""For tuning."""
HELD_OUT = range(101, 111)
"""Nobody looks at these while tuning."""

TOKENS = 16
"""Every answer is as long as this, and every call says so."""
PROMPT_TOKENS = 24
"""About; it only scales costs that are compared with each other."""
CALLS_PER_SECOND = 12.0
DOWN = 0.1
"""An endpoint that fails a greater share of its calls than this is not up."""

_STEP_COST, _STEP_TIME = 1.3, 1.35
_LEAST_SECONDS = 0.110
_CATALOG_ERROR = 0.1
_APART = 1.15
"""By how much the best choice is better than the next, at the least: else nothing could be told."""


@dataclass(frozen=True)
class Place:
    """An endpoint: what it truly is, and what the catalog states of its pace."""

    letter: str
    provider: str
    model: str
    upstream_name: str
    input: Decimal
    output: Decimal
    ttft_ms: int
    tokens_per_second: int
    stated_ttft_ms: int
    stated_tokens_per_second: int

    @property
    def slug(self) -> str:
        return f"{self.provider}:{self.model}"

    @property
    def cost(self) -> float:
        """Of one call, in any unit."""
        return float(self.input) * PROMPT_TOKENS + float(self.output) * TOKENS

    @property
    def seconds(self) -> float:
        return self.ttft_ms / 1000 + TOKENS / self.tokens_per_second


@dataclass(frozen=True)
class Event:
    """What holds at one place from `after` on."""

    place: Place
    after: float
    seconds: float | None
    slowdown: float = 1.0
    failure: float = 0.0
    status: int = 500
    hang: bool = False
    capacity: float | None = None
    dearer: float = 1.0
    """The price is this many times what it was, at the provider and in the catalog."""

    @property
    def until(self) -> float:
        return float("inf") if self.seconds is None else self.after + self.seconds

    def prices(self) -> dict[str, str]:
        factor = Decimal(str(self.dearer))
        return {"input": f"{self.place.input * factor:f}", "output": f"{self.place.output * factor:f}"}

    def as_condition(self, shift: float) -> dict[str, Any]:
        """As the sandbox takes it; its clock began `shift` seconds before the load."""
        said: dict[str, Any] = {"provider": self.place.provider, "model": self.place.upstream_name}
        said |= {"after": self.after + shift if self.after else 0.0}
        if self.seconds is not None:
            said["seconds"] = self.seconds + (0 if self.after else shift)
        said |= {"slowdown": self.slowdown, "failure": self.failure, "status": self.status, "hang": self.hang}
        if self.capacity is not None:
            said["capacity"] = self.capacity
        return said | ({"prices": self.prices()} if self.dearer != 1 else {})


@dataclass(frozen=True)
class World:
    kind: str
    preference: str
    seed: int
    auto: bool
    """The pool of `auto` holds a model for each place; else one model is served at all of them."""
    places: tuple[Place, ...]
    events: tuple[Event, ...]
    seconds: float

    @property
    def name(self) -> str:
        return f"{self.seed}-{self.kind}-{self.preference}"

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(place.model for place in self.places))

    @property
    def changes(self) -> tuple[float, ...]:
        """Moments at which something changes, the beginning included."""
        ends = {event.until for event in self.events if event.until < self.seconds}
        return tuple(sorted({0.0, *(event.after for event in self.events), *ends}))

    def offers(self) -> list[dict[str, Any]]:
        return [
            {
                "provider": place.provider,
                "model": place.upstream_name,
                "prices": {"input": f"{place.input:f}", "output": f"{place.output:f}"},
                "ttft_ms": place.ttft_ms,
                "tokens_per_second": place.tokens_per_second,
                "tokens": TOKENS,
            }
            for place in self.places
        ]

    def listed(self) -> dict[str, list[dict[str, Any]]]:
        """As `desk.list_models` takes it."""
        found: dict[str, list[dict[str, Any]]] = {}
        for place in self.places:
            found.setdefault(place.model, []).append(
                {
                    "provider": place.provider,
                    "upstream_name": place.upstream_name,
                    "prices": {"input": f"{place.input:f}", "output": f"{place.output:f}"},
                    "ttft_ms": place.stated_ttft_ms,
                    "tokens_per_second": place.stated_tokens_per_second,
                }
            )
        return found


def weigh(place: Place, preference: str) -> float:
    """What the preference wants little of; by design, the least sum of log ratios is the least product."""
    if preference == "speed":
        return place.seconds
    return place.cost * (place.seconds if preference == "balanced" else 1)


def draw(kind: str, preference: str, seed: int) -> World:
    chance = random.Random(f"{kind}:{preference}:{seed}")
    auto = preference != "default" and chance.random() < 0.5
    name = f"{seed}-{kind}-{preference}"
    while True:
        places = tuple(_places(chance, name, auto=auto))
        ranked = sorted(places, key=lambda place: weigh(place, preference))
        first, second, third = (weigh(place, preference) for place in ranked[:3])
        if second / first > _APART and third / second > _APART:
            break
    events, seconds = _EVENTS[kind](chance, ranked)
    return World(kind, preference, seed, auto, places, tuple(events), seconds)


def _places(chance: random.Random, name: str, *, auto: bool) -> Iterator[Place]:
    count = chance.randint(4, 6)
    costs = [0.3 * _STEP_COST**at * chance.uniform(0.95, 1.05) for at in range(count)]
    times = [_LEAST_SECONDS * _STEP_TIME**at * chance.uniform(0.95, 1.05) for at in range(count)]
    chance.shuffle(times)
    for letter, cost, seconds in zip("abcdef", costs, times, strict=False):
        first = seconds * chance.uniform(0.4, 0.8)
        ttft_ms, pace = round(first * 1000), round(TOKENS / (seconds - first))
        error = chance.lognormvariate(0, _CATALOG_ERROR)
        yield Place(
            letter,
            provider=f"sandbox-{name}-{letter}",
            model=f"scene/{name}-{letter}" if auto else f"scene/{name}",
            upstream_name=f"scene-{name}",
            input=Decimal(f"{cost:.3f}"),
            output=Decimal(f"{cost * 3:.3f}"),
            ttft_ms=ttft_ms,
            tokens_per_second=pace,
            stated_ttft_ms=round(ttft_ms * error),
            stated_tokens_per_second=max(1, round(pace / error)),
        )


# ── What changes ─────────────────────────────────────────────────────────────────────────────────

Drawn = tuple[list[Event], float]


def _outage(chance: random.Random, ranked: list[Place]) -> Drawn:
    """The best fails every call, for a while."""
    down = Event(ranked[0], chance.uniform(3.5, 4.5), chance.uniform(4, 5))
    how = chance.choice(("500", "500", "503", "hang"))
    event = replace(down, hang=True) if how == "hang" else replace(down, failure=1.0, status=int(how))
    return [event], 18.0


def _brown_out(chance: random.Random, ranked: list[Place]) -> Drawn:
    """The best becomes several times slower; in half of the worlds it fails some calls as well."""
    slow = Event(ranked[0], chance.uniform(3.5, 4.5), chance.uniform(5, 6), slowdown=chance.uniform(3, 7))
    return [replace(slow, failure=0.3) if chance.random() < 0.5 else slow], 19.0


def _price(chance: random.Random, ranked: list[Place]) -> Drawn:
    """The best becomes dearer; later, one of the others becomes the cheapest of all."""
    dear = Event(ranked[0], chance.uniform(3.5, 4.5), None, dearer=round(chance.uniform(2, 4), 2))
    least = min(place.cost for place in ranked)
    other = chance.choice(ranked[1:])
    cheap = Event(other, chance.uniform(8.5, 9.5), None, dearer=round(0.7 * least / other.cost, 2))
    return [dear, cheap], 14.0


def _rate_limit(chance: random.Random, ranked: list[Place]) -> Drawn:
    """The best takes only a part of the load, and says when to come back."""
    capacity = round(CALLS_PER_SECOND * chance.uniform(0.3, 0.6))
    return [Event(ranked[0], chance.uniform(3.5, 4.5), chance.uniform(6, 7), capacity=capacity)], 17.0


def _flapping(chance: random.Random, ranked: list[Place]) -> Drawn:
    """The best fails about half of its calls, in no order."""
    share = chance.uniform(0.4, 0.6)
    return [Event(ranked[0], chance.uniform(3.5, 4.5), chance.uniform(6, 7), failure=share)], 19.0


def _recovery(chance: random.Random, ranked: list[Place]) -> Drawn:
    """The two best are down from the start; the second comes back, then the first."""
    first, second = chance.uniform(7, 8), chance.uniform(3.5, 4.5)
    status = chance.choice((500, 503))
    down = [Event(ranked[0], 0.0, first, failure=1.0, status=status)]
    return [*down, Event(ranked[1], 0.0, second, failure=1.0, status=status)], 20.0


_EVENTS = {
    "outage": _outage,
    "brown-out": _brown_out,
    "price": _price,
    "rate-limit": _rate_limit,
    "flapping": _flapping,
    "recovery": _recovery,
}
