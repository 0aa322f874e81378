"""Jobs are safe to run twice, at once, and late."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, connections

from accounts.models import Organization
from aggregator import celery
from billing import posting, tasks
from billing.models import Posting
from tests.billing import books

pytestmark = pytest.mark.django_db(transaction=True)


def test_every_job_of_the_timetable_exists():
    celery.app.loader.import_default_modules()
    names = {entry["task"] for entry in celery.app.conf.beat_schedule.values()}

    assert names <= set(celery.app.tasks)


def test_opening_a_wallet_twice_opens_it_once():
    organization = Organization.objects.create(slug="new", name="New")

    tasks.open_wallet(organization_id=organization.pk)
    tasks.open_wallet(organization_id=organization.pk)

    assert Posting.objects.count() == 1


def test_a_second_run_of_posting_leaves_the_work_to_the_first(monkeypatch):
    key, price = books.make_key(books.make_organization()), books.make_price()
    books.deliver(key, price)
    entered, leave, runs = threading.Event(), threading.Event(), []
    post = posting.post_generations

    def slow(**arguments):
        entered.set()
        leave.wait(10)
        runs.append(post(**arguments))

    monkeypatch.setattr(posting, "post_generations", slow)

    def work():
        tasks.post_generations()
        connections.close_all()

    first = threading.Thread(target=work)
    first.start()
    assert entered.wait(10)
    tasks.post_generations()
    leave.set()
    first.join()

    assert runs == [1]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
            " WHERE locktype = 'advisory' AND datname = current_database()"
        )
        assert cursor.fetchone()[0] == 0


def test_partitions_and_sweeps_run_at_any_time():
    tasks.make_partitions()
    tasks.sweep_gate()
