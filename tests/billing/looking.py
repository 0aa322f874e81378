"""Plain makers for tests of the billing pages: who looks, and what money has done."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, date, datetime, timedelta

from django.db.models import F
from django.test import Client

from accounts.core import roles
from accounts.models import Membership, Organization, User
from aggregator.lib import clock
from billing import ledger, plans
from billing.core import chart
from billing.models import Card, EndpointSpan, Subscription, TopUp, UsageSpan
from tests.billing import books

CENT, DOLLAR = 10**7, 10**9


def signed_in(client: Client, organization: Organization, role: str = roles.OWNER) -> Client:
    user = User.objects.create(email=f"{role}-of-{organization.slug}@example.com")
    Membership.objects.create(organization=organization, user=user, role=role)
    client.force_login(user)
    return client


def look(client: Client, path: str = "/billing", **headers: str) -> str:
    answer = client.get(path, headers=headers)
    assert answer.status_code == 200, path
    return " ".join(re.sub(r"<[^>]*>", " ", answer.content.decode()).split()).replace(" .", ".")


def top_up(organization: Organization, cents: int = 2000, *, tax_cents: int = 0, **columns: object) -> TopUp:
    """A paid one, with its posting."""
    name = f"pi_{uuid.uuid4().hex[:12]}"
    values = {"payment_intent_id": name, "charge_id": f"ch_{name}", "ended_at": clock.now(), **columns}
    row = TopUp.objects.create(
        organization=organization, kind="checkout", state="paid", cents=cents, tax_cents=tax_cents, **values
    )
    entries = {
        (chart.WALLET, organization.pk): cents * CENT,
        (chart.STRIPE_CASH, None): -(cents + tax_cents) * CENT,
    }
    if tax_cents:
        entries[chart.TAX, None] = tax_cents * CENT
    ledger.post("top_up", name, entries=entries, organization_id=organization.pk)
    return row


def card(organization: Organization, *, last4: str = "4242", exp_year: int = 2099) -> Card:
    return Card.objects.create(
        organization=organization,
        stripe_id=f"pm_{last4}",
        brand="visa",
        last4=last4,
        exp_month=1,
        exp_year=exp_year,
        is_default=True,
    )


def subscribe(organization: Organization, plan: str = "pro", **columns: object) -> Subscription:
    plans.set_plan(organization.slug, plan)
    values = {"state": "active", "stripe_id": "sub_1", "period_end": clock.now() + timedelta(days=20)}
    return Subscription.objects.create(organization=organization, plan=plan, **{**values, **columns})


def use(organization: Organization, day: date, *, base_nanos: int, calls: int = 3) -> None:
    """A day of usage as the roll-ups hold it."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    key = books.make_key(organization, f"of {day}")
    used = {
        "requests": calls,
        "prompt": 1000,
        "base_nanos": base_nanos,
        "charge_nanos": base_nanos * 11 // 10,
        **dict.fromkeys(("failed", "aborted", "cached", "completion", "saved_nanos"), 0),
    }
    for hours, at in ((1, start + timedelta(hours=11)), (24, start), (720, start.replace(day=1))):
        UsageSpan.objects.create(
            organization=organization,
            key=key,
            model="acme/swift",
            endpoint=books.ENDPOINT,
            hours=hours,
            start=at,
            **used,
        )
        of_all, _ = EndpointSpan.objects.of(organization).get_or_create(
            organization=organization,
            endpoint=books.ENDPOINT,
            hours=hours,
            start=at,
            defaults={
                "model": "acme/swift",
                **dict.fromkeys((*used, "cache_written", "reasoning", "loss_nanos"), 0),
            },
        )
        EndpointSpan.objects.of(organization).filter(pk=of_all.pk).update(
            **{name: F(name) + value for name, value in used.items()}
        )


def days_ago(days: int) -> date:
    return (clock.now() - timedelta(days=days)).date()
