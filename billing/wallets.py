"""Wallets: opened once for each organization, with the starting credit; credit granted by hand."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import connection, transaction

from accounts import audit
from accounts.models import Organization
from aggregator.lib import clock, ids
from billing import ledger, plans, reloads
from billing.core import chart
from billing.core.money import MOST_NANOS, Nanos, parse_usd, usd
from billing.models import Posting, Wallet


def open_wallet(organization_id: int) -> Wallet:
    """The organization's wallet, opened on the Free plan if it was not there.

    The first that a person opens begins with the starting credit, or it would be had without end.
    """
    wallet = Wallet.objects.of(organization_id).first()
    if wallet is not None:
        return wallet
    organization = Organization.objects.get(pk=organization_id)
    with transaction.atomic():
        if _insert(organization_id):
            plans.write_first_terms(Wallet.objects.of(organization).get())
            credit = parse_usd(f"{settings.STARTING_CREDIT_USD:f}")
            if credit and not organization.is_further:
                ledger.post(
                    "welcome",
                    str(organization_id),
                    entries={(chart.WALLET, organization_id): credit, (chart.PROMOTION, None): -credit},
                    organization_id=organization_id,
                    source="organization",
                    note="Starting credit",
                )
            reloads.after_commit(organization.public_id)
    return Wallet.objects.of(organization).get()


def grant(
    organization_slug: str,
    nanos: Nanos,
    *,
    note: str = "",
    expires_at: datetime | None = None,
    by: audit.Actor = "operator",
    once: str = "",
) -> Wallet:
    """Give credit as a promotion, for ever or until it expires; the wallet afterwards.

    What was given under the name `once` is not given again. Raises ValueError unless the amount is above
    zero and the end to come, `ledger.OtherContent`, and `Organization.DoesNotExist`.
    """
    if not 0 < nanos <= MOST_NANOS:
        raise ValueError("a grant is more than zero and less than nine million dollars")
    if expires_at is not None and expires_at <= clock.now():
        raise ValueError(f"{expires_at.isoformat()} is past: a grant expires in the future")
    organization = Organization.objects.get(slug=organization_slug)
    open_wallet(organization.pk)
    with transaction.atomic():
        ledger.lock_wallets({organization.pk})
        if once and Posting.objects.filter(kind="grant", source_id=once, organization=organization).exists():
            return Wallet.objects.of(organization).get()
        ledger.post(
            "grant",
            once or str(ids.uuid7()),
            entries={(chart.WALLET, organization.pk): nanos, (chart.PROMOTION, None): -nanos},
            organization_id=organization.pk,
            source="operator",
            note=note,
            expires_at=expires_at,
        )
        until = {} if expires_at is None else {"expires_at": expires_at.isoformat()}
        detail = {"usd": usd(nanos), "note": note, **until}
        audit.record(organization, "credit.granted", by=by, object="wallet", detail=detail)
        reloads.after_commit(organization.public_id)
    return Wallet.objects.of(organization).get()


def _insert(organization_id: int) -> bool:
    plan = plans.current(plans.FREE)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO billing_wallet"
            " (organization_id, balance_nanos, plan, markup, terms_version, opened_at)"
            " VALUES (%s, 0, %s, %s, 1, %s) ON CONFLICT (organization_id) DO NOTHING",
            [organization_id, plan.slug, plan.markup, clock.now()],
        )
        return bool(cursor.rowcount == 1)
