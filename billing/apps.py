"""HOW MUCH as a Django app; after a migration the plans are there."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.apps import apps as all_apps
from django.db.models.signals import post_migrate


class BillingConfig(AppConfig):
    name = "billing"

    def ready(self) -> None:
        post_migrate.connect(_seed_plans, sender=self)


def _seed_plans(*, apps: Any = all_apps, **_: Any) -> None:
    """The published plans are there whenever their table is, also after a test has emptied it."""
    try:
        apps.get_model("billing", "Plan")
    except LookupError:  # not migrated so far yet
        return
    from billing import plans

    plans.seed()
