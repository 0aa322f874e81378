"""Where each call should have gone, by one who knows what is true at every provider at every moment. Pure.

It judges by what the sandbox saw (which provider was called when, and how that ended), not by what the
gateway says. Each preference by its definition: `cost` the cheapest that is up, `speed` the fastest,
`balanced` the least product of both, `default` any that is up. A place that takes no more within this second
is not the best; one that asked to be left alone for a second may be called or not.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from tests.scenarios.worlds import DOWN, Event, Place, World, weigh

TIE = 1.05
"""What is within this factor of the best is as good."""
GRACE_SECONDS = 3.0
"""So long after a change a selector may take to find it out; shares are stated with and without that time."""
_RUN, _RIGHT_OF_RUN = 8, 7
"""Converged: from the first call on after which 7 of 8 in a row are right."""
_WINDOW_SECONDS = 1.0


@dataclass(frozen=True)
class Attempt:
    """One request that a provider saw. `at` is seconds since the load began."""

    label: str
    provider: str
    at: float
    ending: str
    """`complete`, or how it failed, as the sandbox has it."""


@dataclass(frozen=True)
class Judged:
    """One call: where it went first and last, and what the oracle says."""

    at: float
    first: str
    """A letter, or empty when no provider was called."""
    served: str
    right: bool
    served_right: bool
    whole: bool
    attempts: int
    regret: float
    """What was served against the best, as a share above it; 0 for a call that failed."""


@dataclass
class Verdict:
    world: World
    calls: list[Judged]
    converged: dict[float, float | None] = field(default_factory=dict)
    """Seconds from each change until the choices were right; None: not before the next change."""

    @property
    def settled(self) -> list[Judged]:
        return [call for call in self.calls if not _near_a_change(self.world, call.at)]

    @property
    def spread(self) -> float:
        """`default` alone: how far the shares of the settled calls are from the inverse squares of prices."""
        served = Counter(call.served for call in self.settled if call.whole)
        meant: Counter[str] = Counter()
        for call in self.settled:
            meant.update(_weights(_up(self.world, call.at)))
        total, wanted = sum(served.values()) or 1, sum(meant.values()) or 1
        letters = {*served, *meant}
        return sum(abs(served[letter] / total - meant[letter] / wanted) for letter in letters) / 2


def judge(world: World, labels: dict[str, tuple[float, bool]], attempts: Iterable[Attempt]) -> Verdict:
    """`labels`: of every call, when it began and whether its client got a whole answer."""
    letters = {place.provider: place.letter for place in world.places}
    tried: dict[str, list[Attempt]] = {label: [] for label in labels}
    refused: dict[str, list[float]] = {}
    taken: dict[str, list[float]] = {}
    for attempt in sorted(attempts, key=lambda found: found.at):
        if attempt.label in tried and attempt.provider in letters:
            tried[attempt.label].append(attempt)
            which = refused if attempt.ending == "refused" else taken
            which.setdefault(letters[attempt.provider], []).append(attempt.at)
    calls = []
    for label, (began, whole) in labels.items():
        mine = tried[label]
        at = mine[0].at if mine else began
        full, asked_to_wait = _limited(world, at, taken), _limited(world, at, refused, at_once=1)
        best = _best(world, at, full) | _best(world, at, full | asked_to_wait)
        first = letters[mine[0].provider] if mine else ""
        served = letters[mine[-1].provider] if whole and mine else ""
        regret = _regret(world, at, served, best) if served else 0.0
        right, served_right = first in best, served in best
        calls.append(Judged(at, first, served, right, served_right, whole, len(mine), regret))
    calls.sort(key=lambda call: call.at)
    verdict = Verdict(world, calls)
    for at, until in zip(world.changes, (*world.changes[1:], world.seconds), strict=True):
        verdict.converged[at] = _converged([call for call in calls if at <= call.at < until], at)
    return verdict


def in_force(world: World, at: float) -> tuple[Place, ...]:
    """The places as they truly are at a moment: prices and paces."""
    found = []
    for place in world.places:
        for event in _events(world, place, at):
            factor = Decimal(str(event.dearer))
            place = replace(
                place,
                input=place.input * factor,
                output=place.output * factor,
                ttft_ms=round(place.ttft_ms * event.slowdown),
                tokens_per_second=max(1, round(place.tokens_per_second / event.slowdown)),
            )
        found.append(place)
    return tuple(found)


def _events(world: World, place: Place, at: float) -> list[Event]:
    return [e for e in world.events if e.place.letter == place.letter and e.after <= at < e.until]


def _up(world: World, at: float) -> tuple[Place, ...]:
    """Those that do not fail, as they are now."""
    return tuple(
        place
        for place in in_force(world, at)
        if not any(event.hang or event.failure > DOWN for event in _events(world, place, at))
    )


def _limited(
    world: World, at: float, seen: dict[str, list[float]], *, at_once: float | None = None
) -> frozenset[str]:
    """Places with a capacity that within the last second took as much (or refused `at_once`)."""
    found = set()
    for event in world.events:
        if event.capacity is not None and event.after <= at < event.until:
            lately = [when for when in seen.get(event.place.letter, ()) if at - _WINDOW_SECONDS < when < at]
            if len(lately) >= (event.capacity if at_once is None else at_once):
                found.add(event.place.letter)
    return frozenset(found)


def _best(world: World, at: float, limited: frozenset[str]) -> frozenset[str]:
    """Letters of all places that are as good as any."""
    able = [place for place in _up(world, at) if place.letter not in limited]
    if not able or world.preference == "default":
        return frozenset(place.letter for place in able)
    least = min(weigh(place, world.preference) for place in able)
    return frozenset(place.letter for place in able if weigh(place, world.preference) <= least * TIE)


def _weights(places: Sequence[Place]) -> dict[str, float]:
    raw = {place.letter: place.cost**-2 for place in places}
    total = sum(raw.values())
    return {letter: weight / total for letter, weight in raw.items()}


def _regret(world: World, at: float, served: str, best: frozenset[str]) -> float:
    now = {place.letter: place for place in in_force(world, at)}
    if world.preference == "default":
        weights = _weights(_up(world, at))
        meant = sum(now[letter].cost * weight for letter, weight in weights.items())
        return now[served].cost / meant - 1 if meant else 0.0
    if not best:
        return 0.0
    least = min(weigh(now[letter], world.preference) for letter in best)
    return max(0.0, weigh(now[served], world.preference) / least - 1)


def _near_a_change(world: World, at: float) -> bool:
    return any(change <= at < change + GRACE_SECONDS for change in world.changes)


def _converged(calls: list[Judged], since: float) -> float | None:
    for at in range(len(calls) - _RUN + 1):
        run = calls[at : at + _RUN]
        if run[0].right and sum(call.right for call in run) >= _RIGHT_OF_RUN:
            return run[0].at - since
    return None


# ── Figures ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Figures:
    """Of some verdicts together; shares from 0 to 1, times in seconds."""

    calls: int
    right: float
    settled: float
    served: float
    success: float
    amplification: float
    regret: float
    spread: float
    struck: tuple[float, ...]
    """Times to converge after each thing that went wrong."""
    healed: tuple[float, ...]
    never: int
    """Changes after which the choices were not right before the next."""


def figures(verdicts: Sequence[Verdict]) -> Figures:
    calls = [call for verdict in verdicts for call in verdict.calls]
    settled = [call for verdict in verdicts for call in verdict.settled]
    struck, healed, never = [], [], 0
    for verdict in verdicts:
        ends = {event.until for event in verdict.world.events}
        for change, seconds in verdict.converged.items():
            if seconds is None:
                never += 1
            elif change in ends:
                healed.append(seconds)
            elif change:
                struck.append(seconds)
    spreads = [verdict.spread for verdict in verdicts if verdict.world.preference == "default"]
    return Figures(
        calls=len(calls),
        right=_share(call.right for call in calls),
        settled=_share(call.right for call in settled),
        served=_share(call.served_right for call in calls),
        success=_share(call.whole for call in calls),
        amplification=sum(call.attempts for call in calls) / max(1, len(calls)),
        regret=statistics.fmean([call.regret for call in calls if call.whole] or [0.0]),
        spread=statistics.fmean(spreads or [0.0]),
        struck=tuple(struck),
        healed=tuple(healed),
        never=never,
    )


def _share(truths: Iterable[bool]) -> float:
    return statistics.fmean([*truths] or [0.0])
