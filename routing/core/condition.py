"""How an endpoint does, in one word and in a few: what was seen last decides. Pure."""

from __future__ import annotations

from typing import NamedTuple

from routing.core.vitals import Vitals

NORMAL, DEGRADED, FAILING, RESTING = "normal", "degraded", "failing", "resting"

_FEW = 3
"""So many attempts of the last half minute say something."""
_STEADY = 0.95
_FAILING = 0.8


class Condition(NamedTuple):
    state: str
    """`normal`, `degraded`, `failing` or `resting`."""
    words: str
    known: bool = True
    """False where nobody has tried it lately: then it is taken for normal."""


def of(seen: Vitals | None, *, resting: bool = False) -> Condition:
    """The last half minute before five minutes, these before thirty; traffic before probes.

    `resting`: this gateway's circuit is open.
    """
    if resting:
        return Condition(RESTING, "resting after failures")
    if seen is None:
        return Condition(NORMAL, "no traffic yet", known=False)
    recent = seen.recent
    tried = recent.attempts if recent.attempts >= _FEW else 0
    if tried and recent.failures * 2 >= tried:
        return Condition(FAILING, "failing: put last")
    if tried and recent.rate_limited * 2 >= tried:
        return Condition(DEGRADED, "at capacity")
    if seen.healthy is False:
        return Condition(FAILING, "down: put last")
    uptime = seen.uptime_5m if seen.uptime_5m is not None else seen.uptime_30m
    if uptime is not None and uptime < _FAILING:
        return Condition(FAILING, "failing often")
    if uptime is not None and uptime < _STEADY:
        return Condition(DEGRADED, "unsteady")
    if not (seen.attempts or recent.attempts) and seen.healthy is None:
        return Condition(NORMAL, "no traffic lately", known=False)
    return Condition(NORMAL, "healthy")
