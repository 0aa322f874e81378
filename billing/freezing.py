"""Freezing an organization: no call of its begins any more, free models included, until it is thawed.

Its pages go on working, so that it can do something about it. A freeze has reasons, each added and taken
away by itself: who pays the overdue invoice is still frozen while a payment is disputed.
"""

from __future__ import annotations

from django.db import transaction

from accounts import audit
from accounts.models import Organization
from aggregator.lib import clock
from billing import letters, plans, reloads
from billing.models import Wallet


def freeze(organization_id: int, because: str, *, by: audit.Actor, note: str = "") -> bool:
    """Refuse calls from the commit on, within a second everywhere; whether this reason is new.

    `because` is a key of `plans.FROZEN`; ValueError on another. Raises `Wallet.DoesNotExist`.
    """
    if because not in plans.FROZEN:
        raise ValueError(f"{because!r} is no reason to freeze; there are {', '.join(plans.FROZEN)}")
    with transaction.atomic():
        wallet = Wallet.objects.of(organization_id).select_for_update().get()
        reasons = _reasons(wallet)
        if because in reasons:
            return False
        _store(wallet, [*reasons, because])
        _tell(wallet, "frozen", because, by=by, note=note)
    return True


def thaw(organization_id: int, because: str, *, by: audit.Actor, note: str = "") -> bool:
    """Take one reason away; calls begin again when none is left. Whether it was a reason.

    Raises `Wallet.DoesNotExist`.
    """
    with transaction.atomic():
        wallet = Wallet.objects.of(organization_id).select_for_update().get()
        reasons = _reasons(wallet)
        if because not in reasons:
            return False
        _store(wallet, [reason for reason in reasons if reason != because])
        _tell(wallet, "thawed", because, by=by, note=note)
    return True


def _reasons(wallet: Wallet) -> list[str]:
    return wallet.frozen_because.split(",") if wallet.frozen_because else []


def _store(wallet: Wallet, reasons: list[str]) -> None:
    wallet.frozen_because = ",".join(reasons)
    wallet.frozen_at = (wallet.frozen_at or clock.now()) if reasons else None
    wallet.terms_version += 1
    wallet.save(update_fields=["frozen_because", "frozen_at", "terms_version"])


def _tell(wallet: Wallet, kind: str, because: str, *, by: audit.Actor, note: str) -> None:
    """The audit log, the gate, and the people; of a freeze that goes on for other reasons, no letter."""
    organization = Organization.objects.get(pk=wallet.organization_id)
    audit.record(
        organization,
        f"organization.{kind}",
        by=by,
        object="wallet",
        detail={"because": because, "note": note, "terms_version": wallet.terms_version},
    )
    reloads.after_commit(organization.public_id)
    if kind == "frozen" or not wallet.frozen_because:
        letters.write(
            organization.pk,
            kind,
            f"{organization.public_id}:{wallet.terms_version}",
            context={"because": because, "what_to_do": plans.FROZEN[because]},
        )
