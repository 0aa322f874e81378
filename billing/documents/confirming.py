"""The address that documents go to is proven first: whoever reads its mail says that it is right.

The link in that letter is signed, and good for three days, for one address of one organization, and for
nothing else. To whom documents go until then, `issued` knows.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.conf import settings
from django.core import signing
from django.db import transaction

from accounts import audit
from accounts.models import Organization
from aggregator.lib import clock, ids
from billing import letters
from billing.models import BillingProfile, Letter

KIND: Final = "address_to_confirm"
MOST_A_DAY: Final = 5
"""Letters of one organization: anybody's address may be typed in."""
GOOD_FOR: Final = timedelta(days=3)
_SALT: Final = "billing.documents.confirming"


def ask(organization: Organization) -> bool:
    """Write to the profile's address, if it is not confirmed; False when too many were written today."""
    with transaction.atomic():
        profile = BillingProfile.objects.of(organization).select_for_update().get()
        if not profile.email or profile.email_confirmed_at is not None:
            return True
        lately = Letter.objects.of(organization).filter(
            kind=KIND, created_at__gt=clock.now() - timedelta(days=1)
        )
        if lately.count() >= MOST_A_DAY:
            return False
        context = {"link": f"{settings.PUBLIC_URL}/billing/address/{token(profile)}", "email": profile.email}
        letters.write(organization.pk, KIND, str(ids.uuid7()), context=context, to=[profile.email])
    return True


def token(profile: BillingProfile) -> str:
    """The end of the address by which this profile's e-mail is confirmed."""
    said = {"organization": profile.organization.public_id, "email": profile.email}
    return signing.dumps(said, salt=_SALT)


def meant(token: str) -> BillingProfile | None:
    """The profile that this confirms; None when the link is cut or too old, or the address has changed."""
    try:
        said = signing.loads(token, salt=_SALT, max_age=GOOD_FOR)
    except signing.BadSignature:
        return None
    rows = BillingProfile.unscoped.select_related("organization")
    return rows.filter(organization__public_id=said["organization"], email=said["email"]).first()


def confirm(token: str) -> BillingProfile | None:
    """Documents that are issued from now on go there. None as in `meant`; again, it changes nothing."""
    with transaction.atomic():
        profile = meant(token)
        if profile is None:
            return None
        rows = BillingProfile.objects.of(profile.organization_id).filter(email=profile.email)
        if rows.filter(email_confirmed_at=None).update(email_confirmed_at=clock.now()):
            audit.record(
                profile.organization_id,
                "billing_profile.confirmed",
                by=profile.email,
                object="",
                detail={"email": profile.email},
            )
    return meant(token)
