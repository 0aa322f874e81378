"""The lines of a bill: units × unit price, mark-up, amount, exact; and what is left to make the charge."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from operator import attrgetter
from typing import Any, NamedTuple

from django.db import connection

from accounts.models import Key
from billing import prices
from billing.core.money import EXACT, NANOS_PER_USD, Nanos, round_nanos, usd
from billing.core.pricing import Price, Rates
from billing.models import BilledUsage

MOST_LISTED = 2_000
"""Lines on a document; of more, the cheaper ones are summed by model, and its CSV has them all."""

_ZERO = Decimal(0)
_PER_USD = Decimal(NANOS_PER_USD)
_PER_MILLION = Decimal(1000)
_UNITS = (
    *("input", "cache_read", "cache_write_5m", "cache_write_1h", "image", "audio"),
    *("output", "reasoning", "image_output", "audio_output"),
)
KINDS = (*_UNITS, "request")
"""In the order in which items stand. A new one comes last: an issued document keeps its order."""
_PLACE = (
    "used_in",
    "model",
    "endpoint",
    "key_id",
    "price_id",
    "price_window",
    "price_tier",
    "markup",
    "kind",
)
_SUMS = ("requests", "priced_requests", *_UNITS, "base_nanos", "charge_nanos", "loss_nanos")

_BILLED = f"""
WITH billed AS (
    SELECT {", ".join((*_PLACE, *_SUMS))} FROM billing_billedusage
    WHERE organization_id = %(organization)s AND month = %(month)s
    UNION ALL
    SELECT waits.*
    FROM (SELECT date_trunc('month', uuid7_time(id) AT TIME ZONE 'UTC')::date AS used_in, model, endpoint,
                 key_id, coalesce(price_id, 0), price_window, price_tier, markup,
                 CASE WHEN status IN ('failed', 'void') THEN 'free'
                      WHEN loss_nanos > 0 OR (decision ->> 'capped_at_nanos')::bigint = charge_nanos
                      THEN 'capped' ELSE 'charged' END,
                 1, CASE WHEN parts = '[]' THEN 0 ELSE 1 END, {", ".join(_UNITS)},
                 base_nanos, charge_nanos, loss_nanos
          FROM generations
          WHERE %(unposted)s AND organization_id = %(organization)s AND posting_id IS NULL) AS waits
    WHERE greatest(used_in, (SELECT (max(month) + interval '1 month')::date FROM billing_monthclose
                             WHERE organization_id = %(organization)s)) = %(month)s
)
"""  # noqa: S608 (our own constants)
_ROWS = f"""{_BILLED}
SELECT used_in, max(model), {", ".join(_PLACE[2:])}, {", ".join(f"total({name})" for name in _SUMS)}
FROM billed GROUP BY {", ".join(name for name in _PLACE if name != "model")}
"""  # noqa: S608
_CHARGED = f"{_BILLED} SELECT coalesce(total(charge_nanos), 0) FROM billed"  # noqa: S608


class Billed(NamedTuple):
    """One row of the month's bill: calls that had one price, window, tier and mark-up."""

    used_in: date
    model: str
    endpoint: str
    key_id: int
    price_id: int
    price_window: int
    price_tier: int
    markup: Decimal
    kind: str
    requests: int
    priced_requests: int
    units: tuple[int, ...]
    """In the order of `_UNITS`."""
    base_nanos: Nanos
    charge_nanos: Nanos
    loss_nanos: Nanos

    @property
    def used(self) -> dict[str, int]:
        """Units by kind of price, those that were used, in the order of `KINDS`."""
        counted = zip(KINDS, (*self.units, self.priced_requests), strict=True)
        return {kind: units for kind, units in counted if units}


class Amounts(NamedTuple):
    """Exact nanos."""

    base: Decimal
    markup: Decimal
    total: Decimal

    @classmethod
    def of(cls, base: Decimal, markup: Decimal) -> Amounts:
        return cls(base, markup, EXACT.add(base, markup))


class Line(NamedTuple):
    """A row with its price."""

    row: Billed
    rates: Rates | None
    """None where its price is not what was charged: then its amounts are those of the calls themselves."""
    amounts: Amounts
    uncharged: Nanos
    """What its price comes to and holds did not cover, zero or less."""

    @property
    def charge(self) -> Nanos:
        return self.row.charge_nanos


@dataclass(frozen=True, slots=True)
class Bill:
    """All lines, in their order."""

    month: date
    lines: Sequence[Line] = field(default_factory=tuple)
    keys: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Public id and name of each key."""
    late_requests: int = 0
    late_nanos: Nanos = 0

    @property
    def total(self) -> Nanos:
        return sum(line.charge for line in self.lines)

    @property
    def requests(self) -> int:
        return sum(line.row.requests for line in self.lines)

    def said(self, line: Line) -> dict[str, Any]:
        """A line as it stands on a document."""
        row, amounts = line.row, line.amounts
        key, key_name = self.keys.get(row.key_id, (str(row.key_id), ""))
        return {
            "model": row.model,
            "endpoint": row.endpoint,
            "provider": row.endpoint.partition(":")[0],
            "key": key,
            "key_name": key_name,
            "used_in": None if row.used_in == self.month else f"{row.used_in:%Y-%m}",
            "kind": row.kind,
            "requests": row.requests,
            "markup": _markup(row.markup),
            "price": row.price_id or None,
            "window": row.price_window,
            "tier": row.price_tier,
            "items": _items(row.used, line.rates),
            "base": plain(amounts.base),
            "markup_amount": plain(amounts.markup),
            "amount": plain(amounts.total),
        }

    def content(self, *, most: int | None = None) -> dict[str, Any]:
        """The part of a document that tells of usage; `most` lines of it one by one, as a document does."""
        listed = _dearest(self.lines, MOST_LISTED if most is None else most)
        others = [line for number, line in enumerate(self.lines) if number not in listed]
        exact = _sum(line.amounts.total for line in self.lines)
        uncharged = sum(line.uncharged for line in self.lines)
        return {
            "usage": [self.said(line) for number, line in enumerate(self.lines) if number in listed],
            "others": _by_model(others),
            "uncharged": usd(uncharged),
            "rounding": plain(EXACT.subtract(EXACT.subtract(Decimal(self.total), exact), Decimal(uncharged))),
            "usage_total": usd(self.total),
            "requests": self.requests,
            "late": {"requests": self.late_requests, "amount": usd(self.late_nanos)},
        }


def plain(nanos: Decimal) -> str:
    """Exact nanos as a plain decimal literal in USD."""
    return literal(nanos.scaleb(-9, EXACT))


def literal(amount: Decimal) -> str:
    """Plain, without an exponent or a zero at the end; zero is `0`."""
    return format(amount.normalize(EXACT), "f") if amount else "0"


_markup = functools.lru_cache(maxsize=100)(literal)


def read(organization_id: int, month: date, *, unposted: bool = False) -> list[Billed]:
    """What is on the bill of a month, with what will be once it is posted, in one snapshot."""
    with connection.cursor() as cursor:
        cursor.execute(_ROWS, {"organization": organization_id, "month": month, "unposted": unposted})
        rows = cursor.fetchall()
    first = len(_PLACE) + _SUMS.index(_UNITS[0])
    last = first + len(_UNITS)
    return [Billed(*(*row[:first], row[first:last], *row[last:])) for row in rows]


def charged(organization_id: int, month: date) -> Nanos:
    """What the lines of a month come to, with those that are not posted yet."""
    with connection.cursor() as cursor:
        cursor.execute(_CHARGED, {"organization": organization_id, "month": month, "unposted": True})
        return int(cursor.fetchone()[0])


def bill(
    organization_id: int, month: date, rows: Iterable[Billed], *, names: Mapping[str, str] | None = None
) -> Bill:
    """The lines of these rows. `names`: keys' names as a document has them already, by public id."""
    found = sorted(rows, key=attrgetter(*_PLACE))
    found.sort(key=lambda row: row.used_in != month)
    known = prices.by_id({row.price_id for row in found if row.price_id})
    keys = _keys(organization_id, {row.key_id for row in found}, names or {})
    late = [row for row in found if row.used_in != month]
    return Bill(
        month,
        tuple(_line(row, known.get(row.price_id)) for row in found),
        keys,
        late_requests=sum(row.requests for row in late),
        late_nanos=sum(row.charge_nanos for row in late),
    )


def _keys(organization_id: int, ids: set[int], names: Mapping[str, str]) -> dict[int, tuple[str, str]]:
    rows = Key.objects.of(organization_id).filter(pk__in=ids).values_list("pk", "public_id", "name")
    return {pk: (public_id, names.get(public_id, name)) for pk, public_id, name in rows}


def _line(row: Billed, price: Price | None) -> Line:
    rates, amounts = _priced(row, price)
    capped = row.kind == BilledUsage.Kind.CAPPED
    return Line(row, rates, amounts, min(row.charge_nanos - round_nanos(amounts.total), 0) if capped else 0)


def _priced(row: Billed, price: Price | None) -> tuple[Rates | None, Amounts]:
    """What its units come to. Where that is not what was charged (of what is free it never is), the line has
    no unit prices, and its amounts are those of the calls themselves."""
    rates = _rates(row, price)
    if rates is not None and row.kind != BilledUsage.Kind.FREE:
        base = _sum(EXACT.multiply(getattr(rates, kind), Decimal(units)) for kind, units in row.used.items())
        amounts = Amounts.of(base, EXACT.multiply(base, row.markup))
        if _charged_as_priced(row, amounts):
            return rates, amounts
    return None, Amounts.of(Decimal(row.base_nanos), Decimal(row.charge_nanos - row.base_nanos))


def _charged_as_priced(row: Billed, amounts: Amounts) -> bool:
    """One rounding a call moves it by half a nano-dollar at most; a cap only lowers it."""
    over = EXACT.subtract(Decimal(row.charge_nanos), amounts.total)
    most = EXACT.divide(Decimal(row.requests), Decimal(2))
    return over <= most and (row.kind == BilledUsage.Kind.CAPPED or -over <= most)


def _rates(row: Billed, price: Price | None) -> Rates | None:
    if price is None or not 0 <= row.price_window <= len(price.windows):
        return None
    within = price.within(row.price_window)
    if not row.price_tier:
        return within.rates
    return within.tiers[row.price_tier - 1].rates if row.price_tier <= len(within.tiers) else None


def _items(used: Mapping[str, int], rates: Rates | None) -> list[dict[str, Any]]:
    if rates is None:
        return [
            {"kind": kind, "units": units, "unit_price": None, "base": None} for kind, units in used.items()
        ]
    items = []
    for kind, units in used.items():
        rate = getattr(rates, kind)
        if kind != "request" or rate:
            base = plain(EXACT.multiply(rate, Decimal(units)))
            unit_price = _unit_price(rate, _PER_USD if kind == "request" else _PER_MILLION)
            items.append({"kind": kind, "units": units, "unit_price": unit_price, "base": base})
    return items


@functools.lru_cache(maxsize=2_000)
def _unit_price(rate: Decimal, per: Decimal) -> str:
    """Hundreds of lines of a document have the same few."""
    return literal(EXACT.divide(rate, per))


def _dearest(lines: Sequence[Line], most: int) -> frozenset[int]:
    """The places of the lines that are listed."""
    places = range(len(lines))
    if len(lines) <= most:
        return frozenset(places)
    return frozenset(sorted(places, key=lambda place: (-lines[place].charge, place))[:most])


def _by_model(lines: Iterable[Line]) -> list[dict[str, Any]]:
    by_model: dict[str, list[Line]] = {}
    for line in lines:
        by_model.setdefault(line.row.model, []).append(line)
    return [
        {
            "model": model,
            "lines": len(some),
            "requests": sum(line.row.requests for line in some),
            "base": plain(_sum(line.amounts.base for line in some)),
            "markup_amount": plain(_sum(line.amounts.markup for line in some)),
            "amount": plain(_sum(line.amounts.total for line in some)),
        }
        for model, some in sorted(by_model.items())
    ]


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    total = _ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total
