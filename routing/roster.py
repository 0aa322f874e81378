"""Every endpoint that can be called with how it does, the worst first: for operators."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from routing.core import condition
from routing.core.condition import DEGRADED, FAILING, RESTING, Condition
from routing.core.health import Health
from routing.core.listing import Listing
from routing.core.vitals import Snapshot, Vitals

_ORDER = (FAILING, RESTING, DEGRADED)


@dataclass(frozen=True, slots=True)
class Entry:
    slug: str
    condition: Condition
    vitals: Vitals
    probed_at: datetime | None
    row: int
    """So many probes in a row worked, or failed where it is negative."""


def of(listing: Listing, seen: Snapshot, healths: dict[str, Health]) -> list[Entry]:
    found = []
    for slug in listing.endpoint_slugs():
        vitals, health = seen.endpoints.get(slug), healths.get(slug, Health())
        at = datetime.fromtimestamp(health.at, tz=UTC) if health.at else None
        found.append(Entry(slug, condition.of(vitals), vitals or Vitals(), at, health.row))
    return sorted(found, key=_worst)


def _worst(entry: Entry) -> tuple[int, bool, float, str]:
    state = entry.condition.state
    place = _ORDER.index(state) if state in _ORDER else len(_ORDER)
    uptime = entry.vitals.uptime_1d
    return place, not entry.condition.known, 2.0 if uptime is None else uptime, entry.slug
