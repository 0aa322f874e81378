"""HOW MUCH as a Django app; after a migration the plans are there."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.apps import apps as all_apps
from django.db import connections
from django.db.models.signals import post_migrate, pre_migrate


class BillingConfig(AppConfig):
    name = "billing"

    def ready(self) -> None:
        pre_migrate.connect(_take_time, sender=self)
        post_migrate.connect(_be_quick_again, sender=self)
        post_migrate.connect(_seed_plans, sender=self)


def _take_time(*, using: str, **_: Any) -> None:
    """A migration may go through all postings. For a lock it does not wait longer than others."""
    with connections[using].cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")


def _be_quick_again(*, using: str, **_: Any) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute("RESET statement_timeout")


def _seed_plans(*, apps: Any = all_apps, **_: Any) -> None:
    """The published plans are there whenever their table is, also after a test has emptied it."""
    try:
        apps.get_model("billing", "Plan")
    except LookupError:  # not migrated so far yet
        return
    from billing import plans

    plans.seed()
