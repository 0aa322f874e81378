"""Jobs of routing, by name."""

from __future__ import annotations

from celery import shared_task

from routing import merging, price_watch, probes, request_logs, roll_ups, snapshot


@shared_task(name="routing.publish_catalog")
def publish_catalog() -> None:
    """Say the catalog's version again if Redis lost it or was away when it changed. Cheap: run it often."""
    snapshot.heal()


@shared_task(name="routing.delete_aged_request_logs")
def delete_aged_request_logs() -> None:
    """Every hour: what is older than its organization keeps it."""
    request_logs.delete_aged()


@shared_task(name="routing.merge_vitals")
def merge_vitals() -> None:
    """Every half second: what all gateways saw becomes one snapshot. Cheap while nothing is new."""
    merging.merge_vitals()


@shared_task(name="routing.roll_up_vitals")
def roll_up_vitals(whole: bool = False) -> None:
    """Every minute: hours and days follow the windows of the last hours; `whole`: of all that are kept."""
    roll_ups.roll_up(whole=whole)


@shared_task(name="routing.probe_endpoints")
def probe_endpoints() -> None:
    """Every few seconds: a small request of our own to endpoints whose turn it is, where traffic is thin."""
    probes.probe_endpoints()


@shared_task(name="routing.watch_prices")
def watch_prices() -> None:
    """Compare the prices in force with what the price list and the providers state; tell operators."""
    price_watch.watch()
