"""Dated prices of endpoints: a new price is a new row, and no row is ever edited."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from aggregator.lib import clock
from billing import pricing
from billing.models import Price


def record(
    endpoint: str, stated: Mapping[str, Any], *, source: str, starts_at: datetime | None = None
) -> int:
    """Put a price in force from `starts_at` (now), unless the one in force then says the same; its row's id.

    `stated` is what `pricing.parse_price` reads. Raises ValueError on a price that is not exact,
    incomplete or out of bounds; nothing is stored then.
    """
    wanted = pricing.parse_price(0, stated)
    if not endpoint:
        raise ValueError("a price needs its endpoint")
    with transaction.atomic():
        _take_turns(endpoint)
        starts_at = starts_at or clock.now()  # read in turn, or a row of the one before lies in the future
        before = (
            Price.objects.filter(endpoint=endpoint, starts_at__lte=starts_at)
            .order_by("-starts_at", "-id")
            .first()
        )
        if before is not None and pricing.parse_price(0, before.stated) == wanted:
            return before.pk
        return Price.objects.create(
            endpoint=endpoint, stated=dict(stated), source=source, starts_at=starts_at
        ).pk


def current(at: datetime | None = None) -> dict[str, pricing.Price]:
    """The price in force of every endpoint that has one."""
    rows = (
        Price.objects.filter(starts_at__lte=at or clock.now())
        .order_by("endpoint", "-starts_at", "-id")
        .distinct("endpoint")
    )
    return {row.endpoint: pricing.parse_price(row.pk, row.stated) for row in rows}


@dataclass(frozen=True, slots=True)
class Dated:
    """A price row as a bill names it."""

    price: pricing.Price
    endpoint: str
    source: str
    starts_at: datetime


def find(price_id: int) -> Dated | None:
    """One price row, in force or not."""
    row = Price.objects.filter(pk=price_id).first()
    if row is None:
        return None
    return Dated(pricing.parse_price(row.pk, row.stated), row.endpoint, row.source, row.starts_at)


def by_id(price_ids: Iterable[int]) -> dict[int, pricing.Price]:
    """Price rows, in force or not, so that an old bill can be computed again."""
    return {
        row.pk: pricing.parse_price(row.pk, row.stated)
        for row in Price.objects.filter(pk__in=list(price_ids))
    }


def _take_turns(endpoint: str) -> None:
    """Two syncs of one endpoint look and write one after the other."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('price'), hashtext(%s))", [endpoint])
