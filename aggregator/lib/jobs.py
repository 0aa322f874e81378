"""Enqueue by name, after commit: a verb needs no import of the task that will run, so no cycle."""

from __future__ import annotations

from typing import Any

from celery import current_app
from django.db import transaction


def enqueue(name: str, **arguments: Any) -> None:
    """Run the job `name` once the transaction commits. Arguments are ids, never objects."""
    transaction.on_commit(lambda: _send(name, arguments))


def _send(name: str, arguments: dict[str, Any]) -> None:
    current_app.send_task(name, kwargs=arguments)
