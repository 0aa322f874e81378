"""Every bill computed again, from its usage, its price row and its mark-up: zero differences are allowed."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from billing import prices
from billing.core import pricing
from billing.core.money import EXACT, round_nanos
from billing.core.usage import Usage
from billing.models import BilledUsage, Generation

CHUNK = 2_000
_HALF = Decimal("0.5")
_COUNTS = tuple(name for name in Usage.__struct_fields__ if name != "requests")
FREE = ("failed", "void")

_COLUMNS = (
    "id",
    "status",
    *_COUNTS,
    "price_id",
    "price_window",
    "price_tier",
    "markup",
    "parts",
    "base_nanos",
    "charge_nanos",
    "loss_nanos",
    "decision__capped_at_nanos",
)


@dataclass(frozen=True, slots=True)
class Again:
    """One bill, computed again from what is stored; `difference` tells why it cannot be."""

    usage: Usage
    price: pricing.Price | None
    """In the window that was charged."""
    charge: pricing.Charge | None
    """By the formula; what was charged is less where the call was free, or its hold covered less."""
    difference: str | None


def again(organization_id: int, generation_id: uuid.UUID) -> Again:
    """Raises `Generation.DoesNotExist`, for another organization's too."""
    row = Generation.objects.of(organization_id).values(*_COLUMNS).get(id=generation_id)
    price_id = row["price_id"]
    known = {} if price_id is None else prices.by_id([price_id])
    wrong = _difference(row, known)
    usage = _usage(row)
    if wrong is not None or price_id is None:
        return Again(usage, None, None, wrong)
    price = known[price_id].within(row["price_window"])
    return Again(usage, price, pricing.charge(usage, price, row["markup"]), None)


def differences(first: uuid.UUID) -> Iterator[str]:
    """A sentence for every generation from this id on whose bill cannot be computed again."""
    for _, found in generations(first):
        yield from found


def generations(first: uuid.UUID, organization_id: int | None = None) -> Iterator[tuple[int, list[str]]]:
    """How many generations from this id on were looked at, and a sentence for each whose bill differs;
    a chunk at a time.
    """
    known: dict[int, pricing.Price] = {}
    rows = Generation.unscoped.all() if organization_id is None else Generation.objects.of(organization_id)
    after = None
    while True:
        since = {"id__gte": first} if after is None else {"id__gt": after}
        chunk = list(rows.filter(**since).order_by("id").values(*_COLUMNS)[:CHUNK])
        if not chunk:
            return
        after = chunk[-1]["id"]
        _learn(known, (row["price_id"] for row in chunk))
        wrong = ((row["id"], _difference(row, known)) for row in chunk)
        yield len(chunk), [f"generation {row_id} {why}" for row_id, why in wrong if why is not None]


def bills(first: date, organization_id: int | None = None) -> Iterator[tuple[int, list[str]]]:
    """The same of what bills say, from this month on: units × rates of their price row, each call rounded."""
    known: dict[int, pricing.Price] = {}
    rows = BilledUsage.unscoped.all() if organization_id is None else BilledUsage.objects.of(organization_id)
    after = 0
    while True:
        chunk = list(rows.filter(pk__gt=after, month__gte=first).order_by("pk")[:CHUNK])
        if not chunk:
            return
        after = chunk[-1].pk
        _learn(known, (row.price_id or None for row in chunk))
        wrong = ((row, _wrong_bill(row, known)) for row in chunk)
        yield (
            len(chunk),
            [
                f"what {row.month:%Y-%m} bills organization {row.organization_id} for key {row.key_id} at "
                f"{row.endpoint or 'no endpoint'} ({row.kind}) {why}"
                for row, why in wrong
                if why is not None
            ],
        )


def _learn(known: dict[int, pricing.Price], named: Iterable[int | None]) -> None:
    wanted = {price_id for price_id in named if price_id is not None} - known.keys()
    if wanted:
        known |= prices.by_id(wanted)


def _wrong_bill(row: BilledUsage, known: dict[int, pricing.Price]) -> str | None:
    if not row.price_id:
        money = row.charge_nanos or row.base_nanos or row.loss_nanos
        return "costs something and names no price" if money else None
    price = known.get(row.price_id)
    if price is None:
        return f"names price {row.price_id}, which does not exist"
    try:
        rates = pricing.unit_prices(price, row.price_window, row.price_tier)
    except LookupError as error:
        return f"names what is not there: {error}"
    units = {kind: row.priced_requests if kind == "request" else getattr(row, kind) for kind, _ in rates.each}
    base = pricing.exact(units, rates)
    total = EXACT.multiply(base, EXACT.add(Decimal(1), row.markup))
    room = EXACT.multiply(Decimal(row.priced_requests), _HALF)  # so many roundings move a sum by that at most
    if row.kind == BilledUsage.Kind.FREE and row.charge_nanos:
        return f"is free and charges {row.charge_nanos}"
    if row.charge_nanos > total + room:
        return f"charges {row.charge_nanos}, the price says {total}"
    if row.kind == BilledUsage.Kind.CHARGED and row.charge_nanos < total - room:
        return f"charges {row.charge_nanos}, the price says {total}"
    if row.base_nanos + row.loss_nanos < base - room:
        return f"states a base of {row.base_nanos} and a loss of {row.loss_nanos}, the price says {base}"
    return None


def _difference(row: dict[str, Any], known: dict[int, pricing.Price]) -> str | None:
    if row["status"] in FREE and row["charge_nanos"]:
        return f"is {row['status']} and was charged {row['charge_nanos']}"
    if row["price_id"] is None:
        money = row["charge_nanos"] or row["base_nanos"] or row["loss_nanos"] or row["parts"]
        return "costs something and names no price" if money else None
    price = known.get(row["price_id"])
    if price is None:
        return f"names price {row['price_id']}, which does not exist"
    window = row["price_window"]
    if not 0 <= window <= len(price.windows):
        return f"names window {window} of price {row['price_id']}, which has {len(price.windows)}"
    again = pricing.charge(_usage(row), price.within(window), row["markup"])
    if row["price_tier"] != again.tier:
        return f"names tier {row['price_tier']} of price {row['price_id']}, its prompt reaches {again.tier}"
    if not _same_parts(row["parts"], again.parts):
        return (
            f"states the parts {row['parts']}, the price says {[(k, n, str(d)) for k, n, d in again.parts]}"
        )
    return _wrong_amount(row, again)


def _wrong_amount(row: dict[str, Any], again: pricing.Charge) -> str | None:
    """What a hold did not cover is our loss: then the record says so, or where the charge was capped."""
    charge, base, loss = row["charge_nanos"], row["base_nanos"], row["loss_nanos"]
    if charge > again.nanos:
        return f"was charged {charge}, the price says {again.nanos}"
    capped = row["status"] in FREE or loss > 0 or row["decision__capped_at_nanos"] == charge
    if charge < again.nanos and not capped:
        return f"was charged {charge}, the price says {again.nanos}"
    if base != min(round_nanos(again.base), charge):
        return f"states a base of {base}, the price says {round_nanos(again.base)}"
    if base + loss < round_nanos(again.base):
        return f"states a loss of {loss}, the price says {round_nanos(again.base) - base}"
    return None


def _usage(row: dict[str, Any]) -> Usage:
    """The request itself is priced with the first part: a call that used nothing was no request."""
    return Usage(requests=1 if row["parts"] else 0, **{name: row[name] for name in _COUNTS})


def _same_parts(stated: Sequence[Any], again: Sequence[tuple[str, int, Decimal]]) -> bool:
    return [(kind, units, Decimal(nanos)) for kind, units, nanos in stated] == list(again)
