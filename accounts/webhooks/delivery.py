"""Sending what is due: many at once, few to each endpoint, in signed messages that are tried for three days.

Whoever sends a delivery takes it first, by moving its next try beyond the longest that sending can take: a
process that dies loses nothing. No transaction is open while anybody is waited for. Endpoints that fail have
places of their own, so that those which hang do not hold up those which answer.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

import structlog
from django.db import connection, transaction

from accounts import audit
from accounts.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from accounts.webhooks import endpoints, events, signing
from aggregator.lib import clock, egress, jobs, keepers

log = structlog.get_logger(__name__)

SECONDS: Final = 10.0
"""An endpoint that takes longer has failed."""
MOST_AT_ONCE: Final = 48
MOST_TO_FAILING: Final = 16
"""Besides: at once to endpoints whose last message did not get through."""
MOST_TO_ORGANIZATION: Final = 6
MOST_TO_ENDPOINT: Final = 2
KEPT_CHARACTERS: Final = 1000
"""Of an answer."""
GONE: Final = 410
LATER: Final = (429, 503)
"""With these an endpoint may say when to try again."""

PAUSES: Final = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 30, 120, 600, 1800, *(hours * 3600 for hours in (1, 2, 4, 8, 12, 20, 24)))
)
"""After each failure in a row; when they are used up, after three days, the delivery is given up. A longer
one that `Retry-After` asks for takes the place of all that it reaches into: the end comes no later."""
_SPREAD: Final = 0.1
"""Pauses differ by this part, so that what failed together does not come back together."""
_FAILING_FOR: Final = timedelta(hours=64)
"""An endpoint that has failed for so long when a delivery is given up is switched off."""
_LONGEST_SECONDS: Final = int(sum(PAUSES, timedelta()).total_seconds())
_LEASE: Final = timedelta(seconds=60)
_RUN_SECONDS: Final = 30
_LOOK_SECONDS: Final = 0.5
"""So often it looks for what came meanwhile."""

_DUE: Final = """
SELECT due.id FROM accounts_webhookendpoint endpoint CROSS JOIN LATERAL (
    SELECT id, next_try_at FROM accounts_webhookdelivery
    WHERE endpoint_id = endpoint.id AND next_try_at <= %(now)s
    ORDER BY next_try_at LIMIT %(each)s
) due
WHERE endpoint.off = '' AND (endpoint.failing_since IS NOT NULL) = %(failing)s
  AND endpoint.id <> ALL (%(full)s) AND endpoint.organization_id <> ALL (%(served)s)
ORDER BY due.next_try_at LIMIT 200
"""


@dataclass(frozen=True, slots=True)
class Message:
    """One attempt, with all that it needs."""

    delivery: WebhookDelivery
    failing: bool
    url: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    status: int | None
    error: str
    answer: str
    milliseconds: int
    later: timedelta = timedelta(0)
    """How long the endpoint asked to be left alone."""

    @property
    def got_through(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass
class _Run:
    """What is being sent by this process now."""

    pending: dict[Future[Outcome], Message] = field(default_factory=dict)

    def room(self, *, failing: bool) -> int:
        taken = sum(message.failing == failing for message in self.pending.values())
        return (MOST_TO_FAILING if failing else MOST_AT_ONCE) - taken

    def counts(self) -> tuple[Counter[int], Counter[int]]:
        """By endpoint, and by organization."""
        rows = [message.delivery for message in self.pending.values()]
        return Counter(row.endpoint_id for row in rows), Counter(row.organization_id for row in rows)


def deliver_due(*, seconds: float = _RUN_SECONDS) -> int:
    """Send what is due and what falls due meanwhile; how many were sent. Another run does nothing.

    When its time is up it takes no more, lets the next run begin, and waits for what it has taken.
    """
    run, sent, until = _Run(), 0, time.monotonic() + seconds
    with ExitStack() as opened:
        loop: asyncio.AbstractEventLoop | None = None
        with jobs.alone("accounts.deliver_webhooks") as mine:
            while mine and time.monotonic() < until:
                for message in _take(run):
                    loop = loop or opened.enter_context(_loop())
                    run.pending[asyncio.run_coroutine_threadsafe(_send(message), loop)] = message
                if not run.pending:
                    break
                sent += _settle(run)
        while run.pending:
            sent += _settle(run)
    return sent


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own: this one has the database.

    Names are looked up in threads, each of which may take long: there are as many as there are messages.
    """
    loop = asyncio.new_event_loop()
    names = ThreadPoolExecutor(MOST_AT_ONCE + MOST_TO_FAILING, thread_name_prefix="names")
    loop.set_default_executor(names)
    thread = threading.Thread(target=loop.run_forever, name="webhooks", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_end_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        names.shutdown(wait=False, cancel_futures=True)


async def _end_all() -> None:
    """What is left when this run failed; it is sent again when its lease is over."""
    await keepers.end(each for each in asyncio.all_tasks() if each is not asyncio.current_task())
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.sleep(0)  # a transport that was closed closes its socket in the next turn


def _take(run: _Run) -> list[Message]:
    """Take what is due and has a place, the longest waiting first."""
    taken: list[Message] = []
    endpoint_counts, organization_counts = run.counts()
    for failing in (False, True):
        room = run.room(failing=failing)
        if room <= 0:
            continue
        full = [pk for pk, count in endpoint_counts.items() if count >= MOST_TO_ENDPOINT]
        served = [pk for pk, count in organization_counts.items() if count >= MOST_TO_ORGANIZATION]
        with transaction.atomic():
            chosen: list[WebhookDelivery] = []
            for row in _due(failing, full, served):
                if len(chosen) >= room:
                    break
                if (
                    endpoint_counts[row.endpoint_id] < MOST_TO_ENDPOINT
                    and organization_counts[row.organization_id] < MOST_TO_ORGANIZATION
                ):
                    endpoint_counts[row.endpoint_id] += 1
                    organization_counts[row.organization_id] += 1
                    chosen.append(row)
            mine = [row.pk for row in chosen]
            WebhookDelivery.unscoped.filter(pk__in=mine).update(next_try_at=clock.now() + _LEASE)
        taken += [message for row in chosen if (message := _message(row, failing)) is not None]
    return taken


def _due(failing: bool, full: list[int], served: list[int]) -> list[WebhookDelivery]:
    """Held by this transaction; what somebody else holds is theirs."""
    asked: dict[str, Any] = {
        "now": clock.now(),
        "each": MOST_TO_ENDPOINT,
        "failing": failing,
        "full": full,
        "served": served,
    }
    with connection.cursor() as cursor:
        ids = [row[0] for row in cursor.execute(_DUE, asked).fetchall()]
    rows = WebhookDelivery.unscoped.select_for_update(skip_locked=True, of=("self",))
    rows = rows.filter(pk__in=ids, state=WebhookDelivery.State.WAITING, next_try_at__lte=asked["now"])
    return list(rows.select_related("event", "endpoint").order_by("next_try_at", "pk"))


def _message(row: WebhookDelivery, failing: bool) -> Message | None:
    """None where it cannot be signed; that is a failure like any other."""
    body = events.body(row.event)
    try:
        secrets = signing.opened(row.endpoint)
    except signing.SecretLost as error:
        log.error("webhook cannot be signed", webhook=row.endpoint.public_id, why=str(error))
        _record(row, Outcome(None, "its secret cannot be opened here: rotate it", "", 0))
        return None
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Fairlead-Webhooks/1",
        **signing.headers(row.event.message_id, int(time.time()), body, secrets),
    }
    return Message(row, failing, row.endpoint.url, body, headers)


async def _send(message: Message) -> Outcome:
    began = time.monotonic()
    status, error, answer, later = None, "", "", timedelta(0)
    try:
        got = await egress.door().post(message.url, message.body, message.headers, seconds=SECONDS)
        status, answer = got.status, _readable(got.body)
        later = _asked_for(got.retry_after) if status in LATER else later
    except egress.Refused as refused:
        error = f"not sent: {refused}"
    except egress.Unanswered as unanswered:
        error = str(unanswered)
    return Outcome(status, error[:200], answer, int((time.monotonic() - began) * 1000), later)


def _asked_for(header: str) -> timedelta:
    """What `Retry-After` says, in seconds or as an instant; zero for what is neither, or is over."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text[:10]), _LONGEST_SECONDS))
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return timedelta(0)
    return max((at if at.tzinfo else at.replace(tzinfo=UTC)) - clock.now(), timedelta(0))


def _settle(run: _Run) -> int:
    """Write down what has come back, after a moment at the longest; how many were sent."""
    done, _ = wait(run.pending, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
    for future in done:
        row, wrong = run.pending.pop(future).delivery, future.exception()
        if wrong is not None:  # must not keep the others from being sent
            log.error("webhook not sent", delivery=str(row.pk), exc_info=wrong)
        _record(row, Outcome(None, "an error of ours", "", 0) if wrong else future.result())
    return len(done)


def _record(row: WebhookDelivery, outcome: Outcome) -> None:
    """What came of an attempt; one of an endpoint that was deleted meanwhile is nobody's."""
    now = clock.now()
    with transaction.atomic():
        rows = WebhookEndpoint.objects.of(row.organization_id).select_for_update(no_key=True)
        endpoint = rows.filter(pk=row.endpoint_id).first()
        held = WebhookDelivery.objects.of(row.organization_id).select_for_update().filter(pk=row.pk).first()
        if endpoint is None or held is None:
            return
        WebhookAttempt.objects.create(
            delivery=held,
            status=outcome.status,
            error=outcome.error,
            answer=outcome.answer,
            milliseconds=outcome.milliseconds,
        )
        if outcome.got_through:
            held.state, held.failures, held.next_try_at = WebhookDelivery.State.DELIVERED, 0, None
            endpoint.failing_since = None
        else:
            endpoint.failing_since = endpoint.failing_since or now
            _put_off(held, outcome.later)
        held.save(update_fields=["state", "failures", "next_try_at"])
        endpoint.save(update_fields=["failing_since"])
        _judge(endpoint, held, outcome)


def _put_off(held: WebhookDelivery, later: timedelta) -> None:
    """Unless it was given up while it was sent, or got through by another attempt."""
    if held.state != WebhookDelivery.State.WAITING:
        return
    held.failures += 1
    if held.failures > len(PAUSES):
        held.state, held.next_try_at = WebhookDelivery.State.FAILED, None
        return
    usual = covered = PAUSES[held.failures - 1] * _spread()
    while covered < later and held.failures < len(PAUSES):
        covered += PAUSES[held.failures]
        held.failures += 1
    held.next_try_at = clock.now() + max(usual, min(later, covered))


def _spread() -> float:
    return 1 + random.uniform(-_SPREAD, _SPREAD)  # noqa: S311 - nothing rests on it


def _judge(endpoint: WebhookEndpoint, held: WebhookDelivery, outcome: Outcome) -> None:
    """Switch off who wants no more, or whom nothing has reached for days."""
    if endpoint.off or outcome.got_through:
        return
    why = ""
    if outcome.status == GONE:
        why = WebhookEndpoint.Off.GONE
    elif held.state == WebhookDelivery.State.FAILED and _failing_for(endpoint) >= _FAILING_FOR:
        why = WebhookEndpoint.Off.FAILING
    if why:
        endpoints.switch_off(endpoint, why)
        endpoint.letter_waits = True
        endpoint.save(update_fields=["letter_waits"])
        jobs.enqueue("accounts.send_webhook_letters")
        detail = {"name": endpoint.name, "because": endpoint.get_off_display()}
        audit.record(
            endpoint.organization_id,
            "webhook.disabled",
            by="webhooks",
            object=endpoint.public_id,
            detail=detail,
        )


def _failing_for(endpoint: WebhookEndpoint) -> timedelta:
    return clock.now() - endpoint.failing_since if endpoint.failing_since else timedelta(0)


def _readable(body: bytes) -> str:
    return body[: 4 * KEPT_CHARACTERS].decode(errors="replace").replace("\0", "�")[:KEPT_CHARACTERS]
