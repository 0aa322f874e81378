"""Silence is a failure: jobs that have not come to an end for too long, and work that waits too long.

A job says when it ended (`ran`). The serving processes look every minute, one of them at a time, because a
job cannot tell that no job runs; they also send the operators' mail then, since a job would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from smtplib import SMTPException

import structlog
from django.db import Error as DatabaseError
from django.db import connection, transaction

from aggregator.lib import clock
from aggregator.lib.threads import in_pool
from billing import alerts
from billing.models import JobRun

log = structlog.get_logger(__name__)

LOOK_SECONDS = 60

_MINUTE = timedelta(minutes=1)
LONGEST_SILENCE: Mapping[str, timedelta] = {
    "billing.post_generations": 5 * _MINUTE,
    "billing.send_mail": 10 * _MINUTE,
    "billing.handle_waiting_events": 5 * _MINUTE,
    "billing.pull_events": 40 * _MINUTE,
    "billing.expire_credit": 10 * _MINUTE,
    "billing.top_up_wallets": 10 * _MINUTE,
    "billing.look_at_budgets": 10 * _MINUTE,
    "billing.settle_payments": 10 * _MINUTE,
    "billing.check_ledger": 40 * _MINUTE,
    "billing.check_stripe": 40 * _MINUTE,
    "billing.check_whole_ledger": timedelta(hours=50),
    "billing.check_stripe_of_days": timedelta(hours=50),
    "billing.pull_events_of_days": timedelta(hours=50),
    "billing.close_month": timedelta(days=26),
    "billing.end_grace": timedelta(hours=3),
    "billing.invoice_months": timedelta(hours=3),
    "billing.issue_documents": timedelta(hours=2),
}
"""Job → how long it may be before it ends again: at least twice its period. Months are closed from the 1st
to the 7th, so that one is silent from the 7th until the month after is closed."""

_WAITING = {
    "stripe_events": (
        "events of Stripe have waited for more than 15 minutes to be handled",
        "SELECT count(*), min(received_at) FROM billing_stripeevent WHERE handled_at IS NULL",
        15 * _MINUTE,
    ),
    "letters": (
        "letters to customers have waited for more than an hour to be sent",
        "SELECT count(*), min(created_at) FROM billing_letter WHERE sent_at IS NULL",
        60 * _MINUTE,
    ),
    "generations": (
        "calls that ended more than 5 minutes ago are not posted",
        "SELECT count(*), min(ended_at) FROM generations WHERE posting_id IS NULL",
        5 * _MINUTE,
    ),
}
"""What → how it is told, how many wait and since when, and how long they may."""


@dataclass(frozen=True, slots=True)
class Backlog:
    name: str
    count: int
    oldest_seconds: int


def ran(job: str, note: str = "") -> None:
    """This job has just come to its end, as it should."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO billing_jobrun (name, ended_at, note) VALUES (%s, %s, %s)"
            " ON CONFLICT (name) DO UPDATE SET ended_at = excluded.ended_at, note = excluded.note",
            [job, clock.now(), note[:500]],
        )


def noted(job: str) -> datetime | None:
    """The instant that the job noted when it last ended; None while it has none."""
    note = JobRun.objects.filter(name=job).values_list("note", flat=True).first() or ""
    try:
        return datetime.fromisoformat(note)
    except ValueError:
        return None


def ages() -> dict[str, int]:
    """Whole seconds since each watched job ended, by its name; a new one counts from the first look."""
    now = clock.now()
    known = dict(JobRun.objects.filter(name__in=LONGEST_SILENCE).values_list("name", "ended_at"))
    return {name: int((now - ended_at).total_seconds()) for name, ended_at in sorted(known.items())}


def backlogs() -> list[Backlog]:
    """What waits, and for how long the oldest of it has."""
    found = []
    with connection.cursor() as cursor:
        for name, (_, query, _) in _WAITING.items():
            cursor.execute(query)
            count, since = cursor.fetchone()
            oldest = 0 if since is None else max(int((clock.now() - since).total_seconds()), 0)
            found.append(Backlog(name, count, oldest))
    return found


def look() -> list[str]:
    """Alert operators of what is silent or waits too long, resolve what no longer is; answers what is amiss.

    One process at a time looks; to the others nothing is.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext('watch'))")
            if not cursor.fetchone()[0]:
                return []
        _begin_to_watch()
        amiss = [*_silences(), *_delays()]
    alerts.mail_operators()
    return amiss


async def keep_looking() -> None:
    """Look every minute until cancelled, in a thread of its own: slow mail holds up nothing else."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="watch")
    try:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await in_pool(pool, look)
            except (DatabaseError, OSError, SMTPException) as error:
                log.error("the watch could not look", error=str(error))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin_to_watch() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO billing_jobrun (name, ended_at, note)"
            " SELECT name, %s, 'watched from here on' FROM unnest(%s::text[]) AS name ON CONFLICT DO NOTHING",
            [clock.now(), list(LONGEST_SILENCE)],
        )


def _silences() -> list[str]:
    amiss = []
    for name, seconds in ages().items():
        allowed = int(LONGEST_SILENCE[name].total_seconds())
        if seconds > allowed:
            says = f"The job {name} has not come to its end for {seconds // 60} minutes."
            alerts.raise_alert("silence", name, says)
            amiss.append(says)
        else:
            alerts.resolve("silence", name)
    return amiss


def _delays() -> list[str]:
    amiss = []
    for backlog in backlogs():
        told, _, allowed = _WAITING[backlog.name]
        if backlog.oldest_seconds > allowed.total_seconds():
            says = f"{backlog.count} {told}."
            alerts.raise_alert("backlog", backlog.name, says)
            amiss.append(says)
        else:
            alerts.resolve("backlog", backlog.name)
    return amiss
