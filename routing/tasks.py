"""Jobs of routing, by name."""

from __future__ import annotations

from celery import shared_task

from routing import snapshot


@shared_task(name="routing.publish_catalog")
def publish_catalog() -> None:
    """Say the catalog's version again if Redis lost it or was away when it changed. Cheap: run it often."""
    snapshot.heal()
