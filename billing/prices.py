"""Dated prices of endpoints: a new price is a new row, and no row is ever edited."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Min, QuerySet

from aggregator.lib import clock
from billing.core import pricing
from billing.models import Price


def record(
    endpoint: str, stated: Mapping[str, Any], *, source: str, starts_at: datetime | None = None
) -> int:
    """Put a price in force from `starts_at` (now), unless the one in force then says the same; its row's id.

    `stated` is what `pricing.parse_price` reads. Raises ValueError on a price that is not exact,
    incomplete or out of bounds; nothing is stored then.
    """
    return record_all({endpoint: (stated, source)}, starts_at=starts_at)[endpoint]


def record_all(
    stated: Mapping[str, tuple[Mapping[str, Any], str]], *, starts_at: datetime | None = None
) -> dict[str, int]:
    """The same for many endpoints at once: (stated price, source) of each; the ids of their rows."""
    wanted = {endpoint: pricing.parse_price(0, price) for endpoint, (price, _) in stated.items()}
    if "" in wanted:
        raise ValueError("a price needs its endpoint")
    with transaction.atomic():
        _take_turns(sorted(wanted))
        starts_at = starts_at or clock.now()  # read in turn, or a row of the one before lies in the future
        ids = {
            row.endpoint: row.pk
            for row in _in_force(starts_at).filter(endpoint__in=list(wanted))
            if pricing.parse_price(0, row.stated) == wanted[row.endpoint]
        }
        made = Price.objects.bulk_create(
            Price(endpoint=endpoint, stated=dict(price), source=source, starts_at=starts_at)
            for endpoint, (price, source) in stated.items()
            if endpoint not in ids
        )
        return ids | {row.endpoint: row.pk for row in made}


def current(at: datetime | None = None) -> dict[str, pricing.Price]:
    """The price in force of every endpoint that has one."""
    rows = _in_force(at or clock.now())
    return {row.endpoint: pricing.parse_price(row.pk, row.stated) for row in rows}


def at_the_time(endpoints: Collection[str], at: datetime) -> dict[str, pricing.Price]:
    """What some endpoints charged at an instant; who had no price then is left out."""
    rows = _in_force(at).filter(endpoint__in=endpoints)
    return {row.endpoint: pricing.parse_price(row.pk, row.stated).at(at) for row in rows}


def next_start(after: datetime) -> datetime | None:
    """When the next row that is dated ahead comes into force."""
    first: datetime | None = Price.objects.filter(starts_at__gt=after).aggregate(at=Min("starts_at"))["at"]
    return first


def _in_force(at: datetime) -> QuerySet[Price]:
    """One row of each endpoint that has a price by then."""
    return (
        Price.objects.filter(starts_at__lte=at).order_by("endpoint", "-starts_at", "-id").distinct("endpoint")
    )


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


def changes(endpoints: Iterable[str], since: datetime) -> list[tuple[Dated, Dated]]:
    """Prices that came into force since then, each with the one before it, the newest first."""
    rows = Price.objects.filter(endpoint__in=list(endpoints), starts_at__lte=clock.now())
    found: list[tuple[Dated, Dated]] = []
    last: dict[str, Dated] = {}
    for row in rows.order_by("starts_at", "id"):
        dated = Dated(pricing.parse_price(row.pk, row.stated), row.endpoint, row.source, row.starts_at)
        before = last.get(row.endpoint)
        if before is not None and row.starts_at >= since:
            found.append((before, dated))
        last[row.endpoint] = dated
    return found[::-1]


def in_force(endpoint: str) -> tuple[pricing.Price, dict[str, Any]] | None:
    """The price of one endpoint now, and as it was stated."""
    row = _in_force(clock.now()).filter(endpoint=endpoint).first()
    return None if row is None else (pricing.parse_price(row.pk, row.stated), dict(row.stated))


def last_from(source: str) -> dict[str, pricing.Price]:
    """The newest price of every endpoint that this source has stated one of, in force or succeeded.

    Without their rows' ids, to be compared with what is stated now.
    """
    rows = Price.objects.filter(source=source).order_by("endpoint", "-starts_at", "-id").distinct("endpoint")
    return {row.endpoint: pricing.parse_price(0, row.stated) for row in rows}


def by_id(price_ids: Iterable[int]) -> dict[int, pricing.Price]:
    """Price rows, in force or not, so that an old bill can be computed again."""
    return {
        row.pk: pricing.parse_price(row.pk, row.stated)
        for row in Price.objects.filter(pk__in=list(price_ids))
    }


def _take_turns(endpoints: list[str]) -> None:
    """Two syncs of one endpoint look and write one after the other; in one order, so none waits for good."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtext('price'), hashtext(endpoint))"
            " FROM unnest(%s::text[]) WITH ORDINALITY AS asked (endpoint, nth) ORDER BY nth",
            [endpoints],
        )
