"""Enqueue by name, after commit: a verb needs no import of the task that will run, so no cycle. And do what
one process at a time must do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import current_app
from django.db import connection, transaction


def enqueue(name: str, **arguments: Any) -> None:
    """Run the job `name` once the transaction commits. Arguments are ids, never objects."""
    transaction.on_commit(lambda: _send(name, arguments))


@contextmanager
def alone(name: str) -> Iterator[bool]:
    """Whether this run is the only one of its name. The lock is the connection's: a dead worker frees it.

    No transaction stays open meanwhile, so it may wait for others as long as it likes. A look at a longer
    time has a name of its own, or one at the last hours that is under way at that minute of the night
    would be instead of it.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtext('job'), hashtext(%s))", [name])
        mine = bool(cursor.fetchone()[0])
    try:
        yield mine
    finally:
        if mine:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(hashtext('job'), hashtext(%s))", [name])


def _send(name: str, arguments: dict[str, Any]) -> None:
    current_app.send_task(name, kwargs=arguments)
