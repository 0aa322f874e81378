"""Every bill computed again, from its usage, its price row and its mark-up: zero differences are allowed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing import prices, pricing
from billing.models import Generation
from billing.money import round_nanos
from billing.usage import Usage

CHUNK = 2_000
FREE = ("failed", "void")

_COLUMNS = (
    "id",
    "status",
    "input",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "output",
    "reasoning",
    "price_id",
    "price_window",
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
    known: dict[int, pricing.Price] = {}
    after = None
    while True:
        rows = Generation.unscoped.filter(**({"id__gte": first} if after is None else {"id__gt": after}))
        chunk = list(rows.order_by("id").values(*_COLUMNS)[:CHUNK])
        if not chunk:
            return
        after = chunk[-1]["id"]
        wanted = {row["price_id"] for row in chunk if row["price_id"] is not None} - known.keys()
        if wanted:
            known |= prices.by_id(wanted)
        for row in chunk:
            wrong = _difference(row, known)
            if wrong is not None:
                yield f"generation {row['id']} {wrong}"


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
    return Usage(
        input=row["input"],
        cache_read=row["cache_read"],
        cache_write_5m=row["cache_write_5m"],
        cache_write_1h=row["cache_write_1h"],
        output=row["output"],
        reasoning=row["reasoning"],
        requests=1 if row["parts"] else 0,
    )


def _same_parts(stated: Sequence[Any], again: Sequence[tuple[str, int, Decimal]]) -> bool:
    return [(kind, units, Decimal(nanos)) for kind, units, nanos in stated] == list(again)
