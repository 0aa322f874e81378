"""How long every view of an organization with a year of calls takes, and how its statements are planned.

    python -m tests.bench.usage [--generations 10000000] [--keep FOLDER] [--plans] [--check] [--only WORDS]

Starts a PostgreSQL and a Valkey of its own, makes thirteen months of calls of twelve organizations by sets
in SQL, one of which has three fifths of them: 120 keys of 12 members, 60 endpoints of 24 models, 5,000 end
users. The ledger's postings are real, roll-ups are summed as posting sums them, `check_ledger` proves both.
Each view is then asked for by HTTP, eleven times: the median of the CPU, and the best, which is nearer to the
truth on a machine that others use too. That PostgreSQL does not wait for its disk. With `--keep` it stays,
and the next run with the same folder measures without making.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from aggregator.embedded.postgres import Postgres
from tests import servers
from tests.bench import machine, year

TIMES = 11
MOST_MS = 100


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--generations", type=int, default=10_000_000)
    options.add_argument(
        "--plans", action="store_true", help="print the plan of each view's slowest statement"
    )
    options.add_argument("--check", action="store_true", help="prove the books first: minutes")
    options.add_argument("--keep", type=Path, help="where the database is made, or was")
    options.add_argument("--only", default="", help="views whose name has these words")
    asked = options.parse_args()
    with ExitStack() as running:
        if asked.keep is not None:
            server = running.enter_context(
                Postgres(asked.keep / "postgres", password="bench", durable=False)  # noqa: S106
            )
            os.environ["DATABASE_URL"] = server.url
        servers.provide()
        running.callback(servers.stop)
        _run(asked)


def _run(asked: argparse.Namespace) -> None:
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    settings.ALLOWED_HOSTS = ["*"]
    organization, management = _made(asked.generations, asked.keep)
    if asked.check:
        call_command("check_ledger", stripe_days=0)
    print(f"{time.strftime('%Y-%m-%d')}, {machine.described()}, load {os.getloadavg()[0]:.1f}\n")
    print("| view | CPU ms, median (best) | of it PostgreSQL | by the clock | statements | yardstick ms |")
    print("|---|---|---|---|---|---|")
    plans = []
    for name, client, address in _views(organization, management):
        if asked.only not in name:
            continue
        spent, statements, slowest, ms = _measure(client, address)
        (median, best), postgresql, clock = _told(spent)
        over = " **over**" if best > MOST_MS else ""
        cpu = f"{median:.0f} ({best:.0f}){over}"
        told = (name, cpu, postgresql, clock, statements, f"{machine.yardstick():.1f}")
        print(f"| {' | '.join(map(str, told))} |", flush=True)
        plans.append((name, ms, slowest))
    if asked.plans:
        for name, ms, statement in plans:
            print(f"\n## {name}: its slowest statement, {ms:.0f} ms by the clock\n{_plan(statement)}")


def _made(generations: int, keep: Path | None) -> tuple[Any, str]:
    """The organization with most of the calls and a management key of it, made now or kept from before."""
    from accounts.models import Organization

    note = keep / "management_key" if keep else None
    if note is not None and note.exists():
        return Organization.objects.order_by("pk")[0], note.read_text()
    began = time.perf_counter()
    organization, management = year.make(generations)
    print(f"{generations:,} generations made in {time.perf_counter() - began:.0f} s", flush=True)
    if note is not None:
        note.write_text(management)
    return organization, management


def _views(organization: Any, management: str) -> Iterator[tuple[str, Any, str]]:
    from django.test import Client

    from accounts.core.roles import OWNER
    from accounts.models import Membership, User
    from billing.explorer import viewing

    api = Client(headers={"Authorization": f"Bearer {management}"})
    now = datetime.now().astimezone()
    for group in ("model", "provider", "endpoint", "key", "member", "end_user"):
        since = f"{now - timedelta(days=390):%Y-%m-%d}"
        yield f"API, 13 months by {group}", api, f"/api/v1/usage?group_by={group}&from={since}"
    for group, days in (
        *(("hour", 30), ("hour,model", 30), ("hour,key", 6), ("day", 390), ("day,endpoint", 390)),
        *(("day,key", 90), ("month,member", 390), ("day,end_user", 30)),
    ):
        since = f"{now - timedelta(days=days):%Y-%m-%d}"
        yield f"API, {days} days by {group}", api, f"/api/v1/usage?group_by={group}&from={since}&sort=-charge"
    yield "API, activity", api, "/api/v1/activity"
    yield "API, credits", api, "/api/v1/credits"
    yield "API, the calling key", api, "/api/v1/key"
    pages = Client()
    user, _ = User.objects.get_or_create(email="finance@bench.example")
    if not Membership.objects.of(organization).filter(user=user).exists():
        Membership.objects.create(organization=organization, user=user, role=OWNER)
    pages.force_login(user)
    for period in viewing.PERIODS:
        yield f"usage page, {period}", pages, f"/usage?period={period}"
    for by in viewing.GROUPS:
        yield f"usage page, 90 d by {by}", pages, f"/usage?period=90d&by={by}"
    for period in ("24h", "7d", "30d", "90d", "month"):
        yield f"overview, {period}", pages, f"/overview?period={period}"
    yield "activity", pages, "/activity"
    yield "activity, the dearest", pages, "/activity?sort=-cost"
    yield "activity, failed", pages, "/activity?status=failed"
    yield "activity, of a model", pages, "/activity?model=maker-3/model-3"
    for name, said in (
        ("failed, the slowest", "status=failed&sort=-latency"),
        ("of one endpoint", "endpoint=provider-3:maker-3/model-3"),
        ("of a model that nobody asked for", "model=maker-3/model-4"),
        ("of an error that nobody had", "error=no_such_error"),
        ("of an error that nobody had, the dearest", "error=no_such_error&sort=-cost"),
        ("dearer than any is", "cost=5"),
        ("by speed, which nobody asked for", "preference=speed"),
        ("by the provider's id", "q=up-0123456789"),
        ("by a program that nobody uses", "q=no-such-program"),
        ("of last year", f"to={now - timedelta(days=330):%Y-%m-%d}&status=void"),
    ):
        yield f"activity, {name}", pages, f"/activity?{said}"
    for page in ("keys", "budgets", "billing", "billing/history", "billing/invoices"):
        yield page.replace("/", ", "), pages, f"/{page}"
    yield "running statement", pages, "/billing/invoices/current"
    yield "API, running statement", api, "/api/v1/invoices/current"
    yield "API, invoices", api, "/api/v1/invoices"


def _measure(client: Any, address: str) -> tuple[list[tuple[float, ...]], int, str, float]:
    """Each time's milliseconds of CPU in Python and in PostgreSQL, and by the clock; how many statements, the
    slowest of them, and its milliseconds. No worker of PostgreSQL helps another, so all its CPU is seen.
    """
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with connection.cursor() as cursor:
        cursor.execute("SET max_parallel_workers_per_gather = 0")
        cursor.execute("SELECT pg_backend_pid()")
        (backend,) = cursor.fetchone()
    spent = []
    for _ in range(TIMES + 1):
        began, python, postgresql = time.perf_counter(), time.process_time(), _cpu(backend)
        answer = client.get(address)
        b"".join(answer) if answer.streaming else answer.content
        now = (time.process_time() - python, _cpu(backend) - postgresql, time.perf_counter() - began)
        spent.append(tuple(1000 * seconds for seconds in now))
        if answer.status_code != 200:
            raise SystemExit(f"{address}: {answer.status_code} {answer.content[:500]!r}")
    with CaptureQueriesContext(connection) as asked:
        client.get(address)
    every = asked.captured_queries
    slowest = max(every, key=lambda query: float(query["time"]))
    return spent[1:], len(every), slowest["sql"], 1000 * float(slowest["time"])


def _told(spent: list[tuple[float, ...]]) -> tuple[tuple[float, float], str, str]:
    """Median and best of the CPU; both of PostgreSQL's part of it, and by the clock, in words."""
    whole = [python + postgresql for python, postgresql, _ in spent]
    _, servers_part, clock = zip(*spent, strict=True)
    words = (f"{statistics.median(each):.0f} ({min(each):.0f})" for each in (servers_part, clock))
    return (statistics.median(whole), min(whole)), next(words), next(words)


def _cpu(process: int) -> float:
    """Seconds that a process was on a core, whatever else the machine does."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9


def _plan(statement: str) -> str:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {statement}")
        return "\n".join(row[0] for row in cursor.fetchall())


if __name__ == "__main__":
    main()
