"""What the latest live figures say of the endpoints of a pool: who is put last, and who misses a wish. Pure.

Nobody is left out for it: when all look down, all are tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from routing.core.listing import Endpoint
from routing.core.pool import MOST_RANKED, Columns, Pool
from routing.core.preferences import Wished
from routing.core.vitals import Percentiles, Snapshot, Vitals

OUTAGE, UNHEALTHY, RESTING = 1, 2, 3
STATES = {OUTAGE: "outage", UNHEALTHY: "unhealthy", RESTING: "resting"}
"""From who goes last but two to who goes last."""
LEAST_ATTEMPTS = 5
"""So many attempts within 30 seconds, at least half of them failed, are an outage."""
MANY = MOST_RANKED // 2
"""When more of a shortlist than this go last, it holds too few of the best."""
STATE_STEP = 1_000_000
"""Ranks grow by this from state to state; below it they count the places of `provider.order`, twice."""


class Standing(NamedTuple):
    """By position in the pool."""

    snapshot: Snapshot
    ranks: dict[int, int]
    """The less the earlier, whatever the score; one that is absent has `usual`."""
    usual: int
    missed: dict[int, str]
    """The wish that an endpoint misses, in words."""
    ailing: dict[int, int]
    """OUTAGE or UNHEALTHY."""
    warmed: Columns
    """Prices with the share of the prompt that a cache is expected to hold when a conversation goes on."""
    firsts: frozenset[int]
    """Those that come before the usual ones."""
    lasts: frozenset[int]
    well: Pool | None
    """The pool without who misses a wish or is unhealthy, where these are many and the others enough."""


def of(among: Pool, snapshot: Snapshot) -> Standing:
    """Made once per pool and snapshot."""
    kept: Standing | None = among.standing
    if kept is None or kept.snapshot is not snapshot:
        kept = among.standing = _make(among, snapshot)
    return kept


def _make(among: Pool, snapshot: Snapshot) -> Standing:
    soft, seen = among.soft, snapshot.endpoints
    usual = 2 * (1 + max(soft.places.values())) if soft.places else 0
    ranks: dict[int, int] = {}
    missed: dict[int, str] = {}
    ailing: dict[int, int] = {}
    shares: dict[int, float] = {}
    if soft.places or soft.lacks or soft.wishes or seen:
        for at, endpoint in enumerate(among.endpoints):
            vitals = seen.get(endpoint.slug)
            rank = 2 * soft.places[endpoint.slug] if endpoint.slug in soft.places else usual
            why = soft.lacks.get(endpoint.slug) or (soft.wishes and _misses(endpoint, vitals, *soft.wishes))
            if why:
                missed[at] = why
                rank += 1
            if vitals is not None:
                state = _state(vitals)
                if state:
                    ailing[at] = state
                    rank += state * STATE_STEP
                if vitals.cache_hit_share:
                    shares[at] = min(vitals.cache_hit_share, 1.0)
            if rank != usual:
                ranks[at] = rank
    firsts = frozenset(at for at, rank in ranks.items() if rank < usual)
    lasts = frozenset(at for at, rank in ranks.items() if rank > usual)
    warmed, well = _warmed(among, shares), _well(among, lasts, missed, ailing)
    return Standing(snapshot, ranks, usual, missed, ailing, warmed, firsts, lasts, well)


def _well(
    among: Pool, lasts: frozenset[int], missed: Mapping[int, str], ailing: Mapping[int, int]
) -> Pool | None:
    """Outages stay in: whether one is over, a worker may know better."""
    left_out = {at for at in lasts if at in missed or ailing[at] == UNHEALTHY}
    if len(left_out) <= MANY or len(among.endpoints) - len(left_out) < MOST_RANKED:
        return None
    kept = [at for at in range(len(among.endpoints)) if at not in left_out]
    return among.part(("well", among.name), kept, ())


def _state(vitals: Vitals) -> int:
    if vitals.healthy is False:
        return UNHEALTHY
    recent = vitals.recent
    return OUTAGE if recent.attempts >= LEAST_ATTEMPTS and recent.failures * 2 >= recent.attempts else 0


def _warmed(among: Pool, shares: Mapping[int, float]) -> Columns:
    lowered = {}
    for at, share in shares.items():
        rates = among.endpoints[at].price.rates
        if rates.cache_read < rates.input:
            lowered[at] = float(rates.input) - share * float(rates.input - rates.cache_read)
    if not lowered:
        return among.columns
    cold = among.columns
    return Columns([lowered.get(at, rate) for at, rate in enumerate(cold.input)], cold.output, cold.request)


def _misses(
    endpoint: Endpoint, vitals: Vitals | None, throughput: Wished | None, latency: Wished | None
) -> str:
    """What nobody has measured is taken from the catalog."""
    if throughput is not None:
        seen = vitals.tokens_per_second if vitals else None
        for name, least, value in _asked(throughput, seen, endpoint.tokens_per_second):
            if value < least:
                return f"provider.preferred_min_throughput: {name} of {value:.4g} tokens/s is below {least:g}"
    if latency is not None:
        seen = vitals.ttft_seconds if vitals else None
        for name, most, value in _asked(latency, seen, endpoint.ttft_seconds):
            if value > most:
                return f"provider.preferred_max_latency: {name} of {value:.4g} s is above {most:g} s"
    return ""


def _asked(wished: Wished, seen: Percentiles | None, stated: float) -> list[tuple[str, float, float]]:
    found = []
    for name in ("p50", "p75", "p90", "p99"):
        bound = getattr(wished, name)
        if bound is not None:
            found.append((name, bound, stated if seen is None else getattr(seen, name)))
    return found
