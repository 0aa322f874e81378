"""Everything at once: workers and PostgreSQL are killed again and again under load; nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import psycopg
import pytest

from tests.product import PROJECT

pytestmark = pytest.mark.xdist_group("faults")


def serving(stand):
    """Workers that are registered, as far as PostgreSQL can say."""
    with contextlib.suppress(psycopg.Error):
        return sorted(set(stand.workers()) & stand.pids_of_spools())
    return []


def await_served(log, calls, seconds=30):
    """So many calls more were served: a kill while nobody serves tries nothing."""
    target, until = len(log.of("ok")) + calls, time.monotonic() + seconds
    while len(log.of("ok")) < target and time.monotonic() < until:
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("kills", "crashes"), [(6, 1), pytest.param(100, 5, marks=pytest.mark.long)], ids=["short", "long"]
)
def test_workers_and_postgresql_killed_under_load(trial, kills, crashes):
    stand, chance, killed = trial.stand, trial.chance, 0
    with trial.load(callers=6):
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
            await_served(trial.log, 5)
        while crashes:
            stand.postgres.kill()
            stand.postgres.start()
            crashes -= 1
        stand.await_ready()
        time.sleep(1)

    verdict = trial.at_rest()

    trial.report("F03 F13 storm", verdict, kills=kills)
    assert verdict.ok > kills and {entry.status for entry in trial.log.of("failed")} <= {None, 503}, (
        trial.log.counts
    )


@pytest.mark.long
def test_postgresql_away_for_twenty_seconds_under_load(trial):
    stand = trial.stand
    stand.make_known(trial.customers, trial.log)
    with trial.load(callers=6):
        stand.postgres.signal(signal.SIGQUIT)
        time.sleep(20)
        stand.postgres.start()
        time.sleep(1)

    verdict = trial.at_rest(probe_within=10)

    assert (verdict.failed, verdict.unknown) == (0, 0), trial.log.counts
    trial.report("F14 20 s away", verdict)


POSTER = """
import django; django.setup()
from billing import posting
from django.db import connection
print("up", flush=True)
while True:
    posting.post_generations(batch=3)
    connection.close()
"""


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.long)], ids=["short", "long"])
def test_posters_killed_in_their_batches(trial, kills):
    """F08: rivals of the Celery worker post batches of three and are killed at any moment."""
    stand, chance = trial.stand, trial.chance
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
    with trial.load(callers=4):
        while len(killed) < kills:
            time.sleep(0.05)
    over.set()
    for rival in rivals:
        rival.join()

    verdict = trial.at_rest()

    assert set(killed) == {-signal.SIGKILL}
    trial.report("F08 posters", verdict, kills=len(killed))
