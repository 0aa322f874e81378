"""Who an organization says that its documents are for: in force for what is issued from now on."""

from __future__ import annotations

from typing import Any, Final

from django.db import transaction

from accounts import audit
from accounts.models import Organization
from aggregator.lib import clock
from billing import letters
from billing.models import BillingProfile

FIELDS: Final = ("name", "address", "tax_id", "reference", "email")


def of(organization: Organization) -> BillingProfile:
    """Its profile, or an empty one that is not saved."""
    return BillingProfile.objects.of(organization).first() or BillingProfile(organization=organization)


@transaction.atomic
def change(organization: Organization, *, by: audit.Actor, **values: str) -> BillingProfile:
    """Set the fields that are given; the audit log says which of them changed. A new e-mail is unconfirmed,
    but that of somebody who looks after billing."""
    profile, _ = (
        BillingProfile.objects.of(organization)
        .select_for_update()
        .get_or_create(organization=organization, defaults={"organization": organization})
    )
    changed: dict[str, Any] = {
        name: value for name, value in values.items() if name in FIELDS and getattr(profile, name) != value
    }
    if changed:
        for name, value in changed.items():
            setattr(profile, name, value)
        profile.changed_at = clock.now()
        if "email" in changed:
            # Who would get them anyway need not say so.
            is_known = profile.email in letters.readers(organization.pk)
            profile.email_confirmed_at = profile.changed_at if is_known else None
        profile.save(update_fields=[*changed, "changed_at", "email_confirmed_at"])
        audit.record(organization, "billing_profile.changed", by=by, object="", detail=changed)
    return profile
