"""Everything at once: workers and PostgreSQL are killed again and again under load; nothing is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time

import psycopg
import pytest

from tests.faults.load import call
from tests.product import PROJECT

pytestmark = pytest.mark.xdist_group("faults")


def serving(stand):
    """Workers that are registered, as far as PostgreSQL can say."""
    with contextlib.suppress(psycopg.Error):
        return sorted(set(stand.workers()) & stand.pids_of_spools())
    return []


@pytest.mark.parametrize(
    ("kills", "crashes"), [(6, 1), pytest.param(100, 5, marks=pytest.mark.long)], ids=["short", "long"]
)
def test_workers_and_postgresql_killed_under_load(stand, load, log, at_rest, seed, figures, kills, crashes):
    began, chance = time.monotonic(), random.Random(seed)
    killed = 0
    with load(callers=6):
        while killed < kills:
            if killed and killed % (kills // crashes) == 0 and crashes:
                stand.postgres.kill()
                time.sleep(chance.random() * 0.5)
                stand.postgres.start()
                crashes -= 1
            alive = serving(stand)
            if not alive:
                time.sleep(0.05)
                continue
            time.sleep(chance.random() * 0.3)
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(alive), signal.SIGKILL)
                killed += 1
        while crashes:
            stand.postgres.kill()
            stand.postgres.start()
            crashes -= 1
        stand.await_ready()
        time.sleep(1)

    verdict = at_rest()

    figures(
        "F03 F13 storm",
        requests=len(log.entries),
        kills=kills,
        lost=verdict.lost,
        double=verdict.double,
        held=verdict.holds,
        seconds=round(time.monotonic() - began, 1),
    )
    assert verdict.ok > kills and {entry.status for entry in log.of("failed")} <= {None, 503}, log.counts


@pytest.mark.long
def test_postgresql_away_for_twenty_seconds_under_load(stand, customers, load, log, at_rest, figures):
    began = time.monotonic()
    for customer in customers:
        for _ in range(8):
            call(stand.product.api_base, customer, log, max_tokens=1)
    with load(callers=6):
        stand.postgres.signal(signal.SIGQUIT)
        time.sleep(20)
        stand.postgres.start()
        time.sleep(1)

    verdict = at_rest(probe_within=10)

    assert (verdict.failed, verdict.unknown) == (0, 0), log.counts
    figures(
        "F14 20 s away",
        requests=len(log.entries),
        lost=verdict.lost,
        double=verdict.double,
        held=verdict.holds,
        seconds=round(time.monotonic() - began, 1),
    )


POSTER = """
import django; django.setup()
from billing import posting
from django.db import connection
print("up", flush=True)
while True:
    posting.post_generations(batch=3)
    connection.close()
"""


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.long)], ids=["short", "long"])
def test_posters_killed_in_their_batches(stand, load, log, at_rest, seed, figures, kills):
    """F08: rivals of the Celery worker post batches of three and are killed at any moment."""
    began, chance = time.monotonic(), random.Random(seed)
    over, killed = threading.Event(), []

    def post_and_die():
        settings = {
            **stand.product.environment,
            "DATABASE_URL": stand.database,
            "DJANGO_SETTINGS_MODULE": "aggregator.settings",
        }
        while not over.is_set():
            with subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", POSTER],
                cwd=PROJECT,
                env=settings,
                stdout=subprocess.PIPE,
            ) as poster:
                poster.stdout.readline()
                time.sleep(chance.random() * 0.3)
                poster.kill()
                killed.append(poster.wait())

    rivals = [threading.Thread(target=post_and_die) for _ in range(2)]
    for rival in rivals:
        rival.start()
    with load(callers=4):
        while len(killed) < kills:
            time.sleep(0.05)
    over.set()
    for rival in rivals:
        rival.join()

    verdict = at_rest()

    assert set(killed) == {-signal.SIGKILL}
    figures(
        "F08 posters",
        requests=len(log.entries),
        kills=len(killed),
        lost=verdict.lost,
        double=verdict.double,
        held=verdict.holds,
        seconds=round(time.monotonic() - began, 1),
    )
