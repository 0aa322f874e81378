"""Which endpoints rest after failures, and how they come back. Pure: `now` comes in, monotonic seconds.

closed ── 3 failures in a row, or 3 of 10 attempts ──────▶ open ── its time is over ──▶ due: a single call
  ▲                                                         ▲                               │
  └────────────── two answers, one after the other ─────────┼───────────────────────────────┤
                                                            └─── a failure: half again as long ──┘

Nothing is excluded: what rests goes last, so when all rest, all are tried. A rate limit opens for the time
that the provider asks for and one answer ends it; it is no failure. An endpoint that fails again soon after
it came back stays away longer, so one that flaps is not the first choice every few seconds.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

from routing.core import failures
from routing.core.sliding import WINDOW_SECONDS, Sliding

FAILURES_TO_OPEN = 3
LEAST_ATTEMPTS = 10
FAILING_SHARE = 0.3
OPEN_SECONDS = 1.5
OPEN_GROWTH = 1.5
"""Each rest is so many times as long as the last: who is well again waits half as long as it was ill."""
TIMEOUT_OPEN_SECONDS = 5.0
"""The first rest of one that does not answer in time: a probe there costs somebody all that time."""
MOST_OPEN_SECONDS = 60.0
LONG_OPEN_SECONDS = 60.0
"""When our account or our catalog is wrong there: that takes a person."""
RELAPSE_SECONDS = 60.0
"""Failing again within this after coming back is the same trouble, not a new one."""
RELAPSE_OPEN_SECONDS = 4.0
PROBE_SECONDS = 10.0
"""A probe that has not ended by then gives its place to another."""
ANSWERS_TO_CLOSE = 2
PROVEN_SECONDS = 30.0
"""Who has answered within this is trusted by any number of fallbacks at once."""
MOST_TRIALS = 4
"""Of who has not, so many fallbacks at a time find out."""

_NONE: frozenset[str] = frozenset()
_NOT_ITS_FAULT = frozenset((failures.REJECTED, failures.DEADLINE, failures.FULL))
_LONG = frozenset((failures.CREDENTIALS, failures.MISSING))
_NEVER = float("-inf")


@dataclass(slots=True)
class _Circuit:
    """Of an endpoint that failed lately; there is none of one that did not."""

    lately: Sliding
    """Attempts, and how many of them failed."""
    row: int = 0
    """Failures since the last answer."""
    last_failure: float = _NEVER
    opened: float | None = None
    """None while it is closed."""
    until: float = _NEVER
    """When the first probe is due."""
    listens_from: float = _NEVER
    """From when on an answer counts that no probe brought: all rest then, and all are tried."""
    limited: bool = False
    """Open for a rate limit alone."""
    level: int = 0
    missing: int = 0
    """Answers that are still wanted before it closes."""
    probe_began: float = _NEVER
    closed: float = _NEVER

    def failing(self, now: float) -> bool:
        attempts, failed = self.lately.counts(now)
        return self.row >= FAILURES_TO_OPEN or (
            attempts >= LEAST_ATTEMPTS and failed >= FAILING_SHARE * attempts
        )

    def rests(self, now: float) -> bool:
        return now < self.until or self.probe_began > now - PROBE_SECONDS


class Circuits:
    """One per worker; memory is bounded by the number of endpoints in the catalog."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()  # noqa: S311
        self._circuits: dict[str, _Circuit] = {}
        self._open: dict[str, _Circuit] = {}
        self._answered: dict[str, float] = {}
        self._trials: dict[str, int] = {}
        self._resting = _NONE
        self._resting_until = _NEVER
        self.changes = 0
        """How often a circuit has opened or closed."""

    # ── Asked before a call ──────────────────────────────────────────────────────────────────────

    @property
    def troubled(self) -> bool:
        """Whether any circuit is open."""
        return bool(self._open)

    @property
    def watched(self) -> Collection[str]:
        """Endpoints that failed here lately, in whatever state they are now."""
        return self._circuits.keys()

    def resting(self, now: float) -> frozenset[str]:
        """Endpoints that go last. One whose time is over is not among them until a probe is under way."""
        if not self._open:
            return _NONE
        if now >= self._resting_until:
            resting = [(slug, circuit) for slug, circuit in self._open.items() if circuit.rests(now)]
            self._resting = frozenset(slug for slug, _ in resting)
            ends = (max(c.until, c.probe_began + PROBE_SECONDS) for _, c in resting)
            self._resting_until = min(ends, default=float("inf"))
        return self._resting

    def ready(self, slug: str, now: float) -> bool:
        """Whether a call may go there before what rests."""
        circuit = self._open.get(slug)
        return circuit is None or not circuit.rests(now)

    def sound(self, slug: str, now: float) -> bool:
        """Whether nothing speaks against it: it is closed, and its last ending was no failure of just now."""
        circuit = self._circuits.get(slug)
        return circuit is None or (
            circuit.opened is None and (not circuit.row or now - circuit.last_failure > WINDOW_SECONDS)
        )

    def proven(self, slug: str, now: float) -> bool:
        """Whether it is sound and has answered lately."""
        return now - self._answered.get(slug, _NEVER) <= PROVEN_SECONDS and self.sound(slug, now)

    def begin_trial(self, slug: str) -> bool:
        """Whether one more fallback may find out now whether it answers; `end_trial` gives the place back."""
        under_way = self._trials.get(slug, 0)
        if under_way >= MOST_TRIALS:
            return False
        self._trials[slug] = under_way + 1
        return True

    def end_trial(self, slug: str, *, answered: bool, now: float) -> None:
        self._trials[slug] -= 1
        if answered:
            self._answered[slug] = now

    # ── Told of each call ────────────────────────────────────────────────────────────────────────

    def begun(self, slug: str, now: float) -> None:
        """An attempt begins at `now`; where a probe is due, it is the probe."""
        circuit = self._open.get(slug)
        if circuit is not None and not circuit.rests(now):
            circuit.probe_began = now
            self._changed()

    def succeeded(self, slug: str, *, began: float, now: float) -> None:
        """`began` is what `begun` was told: an answer to a call from before a rest does not end it."""
        self._answered[slug] = now
        circuit = self._circuits.get(slug)
        if circuit is None:
            return
        if circuit.opened is None:
            circuit.lately.add(now, all=1)
            circuit.row = 0
            healthy_since = max(circuit.last_failure + WINDOW_SECONDS, circuit.closed + RELAPSE_SECONDS)
            if now >= healthy_since:
                del self._circuits[slug]
            return
        if began < circuit.opened:
            return
        self.left(slug, began=began)
        if now < min(circuit.until, circuit.listens_from):
            return
        circuit.missing -= 1
        if circuit.missing <= 0:
            self._close(slug, circuit, now)

    def failed(
        self, slug: str, kind: str, *, began: float, now: float, retry_after: float | None = None
    ) -> None:
        """`kind` is one of `failures`."""
        if kind in _NOT_ITS_FAULT:
            self.left(slug, began=began)
            return
        circuit = self._circuits.get(slug)
        if circuit is None:
            circuit = self._circuits[slug] = _Circuit(Sliding(now))
        was_probe = circuit.opened is not None and circuit.probe_began == began
        self.left(slug, began=began)
        if kind == failures.RATE_LIMITED:
            self._limit(slug, circuit, now, retry_after)
        elif circuit.opened is None or circuit.limited:
            circuit.last_failure = now
            circuit.row += 1
            circuit.lately.add(now, all=1, some=1)
            if circuit.failing(now) and (circuit.opened is None or began >= circuit.opened):
                relapse = now - circuit.closed < RELAPSE_SECONDS
                circuit.level = circuit.level + 1 if relapse else 0
                self._rest(slug, circuit, now, kind, least=RELAPSE_OPEN_SECONDS if relapse else 0.0)
        elif was_probe:
            circuit.last_failure = now
            circuit.level += 1
            self._rest(slug, circuit, now, kind)

    def left(self, slug: str, *, began: float) -> None:
        """An attempt ended without telling anything; if it was the probe, another may be."""
        circuit = self._open.get(slug)
        if circuit is not None and circuit.probe_began == began:
            circuit.probe_began = _NEVER
            self._changed()

    # ── Inside ───────────────────────────────────────────────────────────────────────────────────

    def _changed(self) -> None:
        self._resting_until = _NEVER

    def _rest(self, slug: str, circuit: _Circuit, now: float, kind: str, *, least: float = 0.0) -> None:
        """Open, or stay open for longer."""
        first = TIMEOUT_OPEN_SECONDS if kind == failures.TIMEOUT else OPEN_SECONDS
        shortest = max(first * OPEN_GROWTH ** min(circuit.level, 12), least)
        seconds = LONG_OPEN_SECONDS if kind in _LONG else min(shortest, MOST_OPEN_SECONDS)
        if circuit.opened is None:
            self.changes += 1
        circuit.opened = now
        circuit.limited = False
        circuit.until = now + seconds * self._chance.uniform(1.0, 1.25)
        circuit.listens_from = now + max(OPEN_SECONDS, least)
        circuit.missing = ANSWERS_TO_CLOSE
        circuit.probe_began = _NEVER
        self._open[slug] = circuit
        self._changed()

    def _limit(self, slug: str, circuit: _Circuit, now: float, retry_after: float | None) -> None:
        """A rate limit: rest for as long as the provider asks."""
        until = now + failures.rest_of_limit(retry_after)
        if circuit.opened is None:
            self.changes += 1
            circuit.opened, circuit.limited, circuit.missing = now, True, 1
            circuit.listens_from = until
        circuit.until = max(circuit.until, until)
        self._open[slug] = circuit
        self._changed()

    def _close(self, slug: str, circuit: _Circuit, now: float) -> None:
        if not circuit.limited:
            circuit.closed = now
        circuit.opened, circuit.limited, circuit.row = None, False, 0
        circuit.until = circuit.probe_began = _NEVER
        circuit.lately.clear(now)
        del self._open[slug]
        self.changes += 1
        self._changed()
