"""Plain makers for tests of money: organizations with a wallet, keys, prices, delivered calls."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal

from django.db import connection
from msgspec.structs import asdict

from accounts import keys
from accounts.models import Key, Organization
from aggregator.lib import ids
from billing import prices, wallets
from billing.core import pricing
from billing.core.money import round_nanos
from billing.core.usage import Usage
from billing.models import Generation

ENDPOINT = "sandbox:acme/swift"
STATED = {"input": "2", "output": "8"}
MARKUP = Decimal("0.03")
USAGE = Usage(input=1000, output=500)


def make_organization(slug: str = "acme", *, usd: str = "100") -> Organization:
    """An organization whose wallet holds the starting credit of $1 and `usd` more."""
    organization = Organization.objects.create(slug=slug, name=slug.title())
    wallets.open_wallet(organization.pk)
    if usd != "0":
        wallets.grant(slug, int(Decimal(usd) * 10**9))
    return organization


def make_key(organization: Organization, name: str = "test") -> Key:
    return keys.create(organization, name=name, by="test")[0]


def make_price(endpoint: str = ENDPOINT, stated: dict | None = None) -> pricing.Price:
    price_id = prices.record(endpoint, stated or STATED, source="test")
    return prices.by_id([price_id])[price_id]


def deliver(
    key: Key,
    price: pricing.Price,
    *,
    usage: Usage = USAGE,
    status: str = "completed",
    free: bool = False,
    at: datetime | None = None,
    **columns: object,
) -> Generation:
    """One row as a spool writes it, priced as the gateway prices it."""
    charged = pricing.charge(usage, price, MARKUP)
    values: dict[str, object] = {
        "id": ids.uuid7(None if at is None else int(at.timestamp() * 1000)),
        "organization_id": key.organization_id,
        "key_id": key.pk,
        "spool": uuid.uuid4(),
        "status": status,
        "model_asked": "auto",
        "model": "acme/swift",
        "endpoint": ENDPOINT,
        **{name: count for name, count in asdict(usage).items() if name != "requests"},
        "price_id": price.id,
        "price_window": price.window,
        "price_tier": charged.tier,
        "markup": MARKUP,
        "parts": [[kind, units, str(nanos)] for kind, units, nanos in charged.parts],
        "base_nanos": 0 if free else charged.base_nanos,
        "charge_nanos": 0 if free else charged.nanos,
        "loss_nanos": round_nanos(charged.base) if free else 0,
        **({} if at is None else {"ended_at": at}),
        **columns,
    }
    return Generation.objects.create(**values)


def deliver_many(key: Key, price: pricing.Price, count: int) -> int:
    """Many calls of a thousand prompt tokens each in one statement; what they come to."""
    usage = Usage(input=1000)
    charged = pricing.charge(usage, price, MARKUP)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO generations (id, organization_id, key_id, spool, status, model, endpoint, input,
                                     price_id, markup, parts, base_nanos, charge_nanos)
            SELECT (left(uuid7_from(clock_timestamp())::text, 14) || '7'
                    || right(gen_random_uuid()::text, 21))::uuid,
                   %s, %s, gen_random_uuid(), 'completed', 'acme/swift', %s, 1000,
                   %s, %s, %s::jsonb, %s, %s
            FROM generate_series(1, %s)
            """,
            [
                key.organization_id,
                key.pk,
                ENDPOINT,
                price.id,
                MARKUP,
                f'[["input", 1000, "{charged.parts[0][2]}"]]',
                charged.base_nanos,
                charged.nanos,
                count,
            ],
        )
    return charged.nanos * count


def balance(organization: Organization) -> int:
    return wallets.open_wallet(organization.pk).balance_nanos


def entries_sum(kind: str) -> int:
    """What all entries of one kind of account come to."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(nanos), 0) FROM billing_entry JOIN billing_account"
            " ON billing_account.id = account_id WHERE kind = %s",
            [kind],
        )
        return int(cursor.fetchone()[0])
