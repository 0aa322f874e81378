"""Small requests of our own to endpoints with little traffic, so that the first customer is not the probe.

What they find is a hint beside the figures of traffic (`Vitals.healthy`); no circuit hears of it. What they
cost is ours: bounded by endpoint and day, kept in a row a day, and on no customer's bill. A dear endpoint,
or one whose money of today is spent, is only asked for its provider's list of models.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import structlog
from django.conf import settings
from django.db import connection

from aggregator.lib import ids, kv
from billing.core import pricing
from billing.core.money import NANOS_PER_USD
from routing import figures, snapshot
from routing.core import health, histogram
from routing.core.chat import Chat
from routing.core.failures import MISSING, RATE_LIMITED, REJECTED, TIMEOUT, UNREACHABLE, Failure, of_status
from routing.core.folds import Fold
from routing.core.health import Health
from routing.core.listing import Endpoint, Listing
from routing.core.vitals import Snapshot
from routing.dialects import openai
from routing.dialects.openai_stream import Reader
from routing.models import ProbeDay, Window

MOST_AT_ONCE = 8
MOST_AT_A_PROVIDER = 2
MOST_TOKENS = 4
SECONDS = 10.0
"""A probe that takes longer has failed."""
_PROMPT = "Say hi."
_PROMPT_TOKENS = 32
"""More than the prompt has anywhere, for a bound of what a probe costs."""
_MOST_BYTES = 64 * 1024
_USED_SECONDS = 300.0
_DAY_SECONDS = 86_400
_LEAST_SHARE = 1 / 24
"""A day's money is given out as the day goes on, and at least an hour's of it at once."""

_ADD = """
INSERT INTO routing_probeday (day, endpoint, probes, failures, nanos) VALUES (%s, %s, 1, %s, %s)
ON CONFLICT (day, endpoint) DO UPDATE
SET probes = routing_probeday.probes + 1, failures = routing_probeday.failures + excluded.failures,
    nanos = routing_probeday.nanos + excluded.nanos
"""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    endpoint: Endpoint
    worked: bool | None
    """None where it says nothing of the endpoint: a limit of rates, or a request that it does not take."""
    ttft_seconds: float | None = None
    nanos: int = 0
    """What the provider bills for it."""
    why: str = ""


@dataclass
class Prober:
    """One per process; what it remembers saves asking."""

    _listing: Listing | None = None
    _used: frozenset[str] = frozenset()
    _used_at: float = float("-inf")
    _looking: threading.Lock = field(default_factory=threading.Lock)

    def look(self, now: float) -> list[Outcome]:
        """Probe what is due, unless a look is under way here. `now` is unix seconds."""
        if not self._looking.acquire(blocking=False):
            return []
        try:
            return self._look(now)
        finally:
            self._looking.release()

    def _look(self, now: float) -> list[Outcome]:
        seen = figures.published()
        if not seen.version:
            return []  # nobody knows what traffic there is
        listing = self._listed()
        known = figures.healths()
        gone = known.keys() - listing.endpoint_slugs()
        if gone:
            kv.cache().hdel(figures.HEALTH, *gone)
        chosen = [
            endpoint
            for endpoint in due(self._measured(listing, now), seen, known, now=now)
            if kv.cache().set(_claim(endpoint), 1, nx=True, ex=int(SECONDS) + 5)
        ]
        if not chosen:
            return []
        spent = dict(ProbeDay.objects.filter(day=_day(now)).values_list("endpoint", "nanos"))
        asks = [(_ask_for_models if _is_dear(e, spent, now) else _ask_for_text, e) for e in chosen]
        try:
            found = asyncio.run(_probe(asks))
        finally:
            kv.cache().delete(*map(_claim, chosen))
        _keep(found, known, now)
        return found

    def _listed(self) -> Listing:
        if self._listing is None or snapshot.version() != self._listing.version:
            self._listing = snapshot.load()
        return self._listing

    def _measured(self, listing: Listing, now: float) -> list[Endpoint]:
        """Whom customers may meet: what `auto` chooses from, and what had traffic within a day.

        Of simulated providers the first alone: the others are there to be broken.
        """
        if now - self._used_at > _USED_SECONDS:
            since = datetime.fromtimestamp(now, tz=UTC) - timedelta(days=1)
            rows = Window.objects.filter(start__gte=since).exclude(worked=0, failures=0)
            self._used = frozenset(rows.values_list("endpoint", flat=True).distinct())
            self._used_at = now
        return [
            endpoint
            for few in listing.endpoints.values()
            for endpoint in few
            if endpoint.model.auto or (endpoint.slug in self._used and not _is_simulated(endpoint))
        ]


def due(
    measured: list[Endpoint], seen: Snapshot, known: Mapping[str, Health], *, now: float
) -> list[Endpoint]:
    """Those with little traffic whose turn it is, the longest unprobed first, a few of each provider."""
    waiting = []
    for endpoint in measured:
        vitals = seen.endpoints.get(endpoint.slug)
        last = known.get(endpoint.slug, Health())
        if endpoint.provider.dialect != "openai" or (vitals and vitals.attempts >= health.THIN):
            continue
        if last.is_due(endpoint.slug, now=now, every=settings.PROBE_SECONDS):
            waiting.append((last.at, endpoint.slug, endpoint))
    chosen: list[Endpoint] = []
    taken: Counter[str] = Counter()
    for _, _, endpoint in sorted(waiting, key=lambda each: each[:2]):
        if taken[endpoint.provider.slug] < MOST_AT_A_PROVIDER and len(chosen) < MOST_AT_ONCE:
            taken[endpoint.provider.slug] += 1
            chosen.append(endpoint)
    return chosen


def _is_dear(endpoint: Endpoint, spent: Mapping[str, int], now: float) -> bool:
    worst = pricing.worst(_PROMPT_TOKENS, MOST_TOKENS, endpoint.price, Decimal(0))
    share = Decimal(max(now % _DAY_SECONDS / _DAY_SECONDS, _LEAST_SHARE))
    today = settings.PROBE_USD_PER_DAY * NANOS_PER_USD * share
    return bool(worst > settings.PROBE_USD * NANOS_PER_USD or spent.get(endpoint.slug, 0) + worst > today)


def _is_simulated(endpoint: Endpoint) -> bool:
    return bool(settings.SANDBOX_BASE_URL) and endpoint.provider.base_url.startswith(
        settings.SANDBOX_BASE_URL
    )


# ── Asking ───────────────────────────────────────────────────────────────────────────────────────

Ask = Callable[[httpx.AsyncClient, Endpoint], Awaitable[Outcome]]


async def _probe(asks: Sequence[tuple[Ask, Endpoint]]) -> list[Outcome]:
    """All at once. Nothing is redirected and no proxy read from the environment: keys go nowhere else."""
    timeout = httpx.Timeout(SECONDS, connect=settings.CONNECT_SECONDS)
    async with httpx.AsyncClient(timeout=timeout, trust_env=False, follow_redirects=False) as client:
        return await asyncio.gather(*(_judged(ask, client, endpoint) for ask, endpoint in asks))


async def _judged(ask: Ask, client: httpx.AsyncClient, endpoint: Endpoint) -> Outcome:
    try:
        async with asyncio.timeout(SECONDS):
            return await ask(client, endpoint)
    except TimeoutError:
        failure = Failure(TIMEOUT)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        slow = isinstance(error, httpx.TimeoutException)
        failure = Failure(TIMEOUT if slow else UNREACHABLE, type(error).__name__)
    except Failure as error:
        failure = error
    silent = failure.kind in (RATE_LIMITED, REJECTED) or failure.status == 408
    return Outcome(endpoint, None if silent else False, why=failure.kind)


async def _ask_for_text(client: httpx.AsyncClient, endpoint: Endpoint) -> Outcome:
    """One short stream, read to its end: the time to its first event, and what it costs."""
    chat = Chat(
        endpoint.model.slug,
        stream=True,
        prompt_tokens=_PROMPT_TOKENS,
        body={"stream": True, "messages": [{"role": "user", "content": _PROMPT}]},
    )
    reader = Reader(
        generation_id="probe",
        model=endpoint.model.slug,
        provider=endpoint.provider.name,
        choices=1,
        most_event_bytes=_MOST_BYTES,
        most_bytes=_MOST_BYTES,
        quirks=endpoint.provider.quirks,
    )
    body = openai.write_request(chat, endpoint, max_tokens=MOST_TOKENS)
    began, first = time.monotonic(), None
    async with client.stream(
        "POST", f"{endpoint.provider.base_url}{openai.PATH}", content=body, headers=_headers(endpoint)
    ) as response:
        if response.status_code != 200:
            raise openai.read_failure(response.status_code, await _error_of(response), None)
        async for block in response.aiter_raw():
            reader.feed(block)
            if first is None and reader.started:
                first = time.monotonic() - began
            if reader.finished:
                break
    if first is None:
        raise Failure(UNREACHABLE, "the stream ended before its first event")
    if reader.usage is None:
        nanos = pricing.worst(_PROMPT_TOKENS, MOST_TOKENS, endpoint.price, Decimal(0))
    else:
        nanos = pricing.charge(reader.usage, endpoint.price, Decimal(0)).nanos
    return Outcome(endpoint, True, first, nanos)


async def _ask_for_models(client: httpx.AsyncClient, endpoint: Endpoint) -> Outcome:
    """Free: whether the provider answers at all."""
    url = f"{endpoint.provider.base_url}/models"
    async with client.stream("GET", url, headers=_headers(endpoint)) as response:
        failure = None if response.status_code == 200 else of_status(response.status_code, "")
    if failure is None:
        return Outcome(endpoint, True)
    if failure.kind == MISSING:
        return Outcome(endpoint, None, why="it has no list of models")
    raise failure


def _headers(endpoint: Endpoint) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {endpoint.provider.api_key}",
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": "fairlead/1",
    }


async def _error_of(response: httpx.Response) -> bytes:
    body = b""
    async for block in response.aiter_raw():
        body += block
        if len(body) > _MOST_BYTES:
            break
    return body


# ── Keeping ──────────────────────────────────────────────────────────────────────────────────────


def _keep(found: list[Outcome], known: Mapping[str, Health], now: float) -> None:
    """Tell what was found like a worker tells of traffic, remember rows, and add up what it cost."""
    told: dict[str, Fold] = {}
    remembered: dict[Any, Any] = {}
    for outcome in found:
        slug = outcome.endpoint.slug
        before = known.get(slug, Health())
        remembered[slug] = figures.encode(before.after(outcome.worked, now))
        if outcome.worked is not None:
            told[slug] = fold = Fold(probes=1, probe_failures=int(not outcome.worked))
            if outcome.ttft_seconds is not None:
                histogram.add(fold.probe_ttft, outcome.ttft_seconds, histogram.SECONDS)
    pipeline = kv.cache().pipeline(transaction=False)
    figures.tell(pipeline, figures.stretch(now), f"probes:{ids.uuid7()}", told)
    pipeline.hset(figures.HEALTH, mapping=remembered)
    pipeline.expire(figures.HEALTH, _DAY_SECONDS)
    pipeline.execute()
    with connection.cursor() as cursor:
        cursor.executemany(
            _ADD, [(_day(now), o.endpoint.slug, int(o.worked is False), o.nanos) for o in found]
        )
    failed = {outcome.endpoint.slug: outcome.why for outcome in found if not outcome.worked}
    log.log(
        30 if failed else 10,
        "endpoints probed",
        probes=len(found),
        failed=failed,
        nanos=sum(o.nanos for o in found),
    )


def _claim(endpoint: Endpoint) -> str:
    return f"vitals:probing:{endpoint.slug}"


def _day(now: float) -> str:
    return datetime.fromtimestamp(now, tz=UTC).date().isoformat()


_prober = Prober()


def probe_endpoints() -> None:
    """One look; nothing while `PROBES` is off, or the cache away."""
    if not settings.PROBES:
        return
    try:
        _prober.look(time.time())
    except kv.Failed as error:
        log.warning("endpoints are not probed", error=str(error))
