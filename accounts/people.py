"""What operators change of a person: whether they may sign in at all, and whether they are one of us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.db import transaction

from accounts import audit
from accounts.models import Membership, User


def change(person: User, fields: Mapping[str, Any], *, by: User) -> None:
    """Set these columns. Who may not sign in any more is signed out everywhere.

    Each organization of theirs finds it in its audit log.
    """
    with transaction.atomic():
        for name, value in fields.items():
            setattr(person, name, value)
        person.save(update_fields=list(fields))
        if fields.get("is_active") is False:
            for session in UserSession.objects.filter(user=person):
                session.end()
        for owner in Membership.unscoped.filter(user=person).values_list("organization_id", flat=True):
            audit.record(
                owner, "user.changed", by=by, object="user", detail={"email": person.email, **fields}
            )


def take_factor(factor: Authenticator, *, by: User) -> None:
    """Remove a second factor of a person who has lost it."""
    with transaction.atomic():
        person = User.objects.get(pk=factor.user_id)
        for owner in Membership.unscoped.filter(user=person).values_list("organization_id", flat=True):
            audit.record(
                owner,
                "user.changed",
                by=by,
                object="user",
                detail={"email": person.email, "removed": factor.type},
            )
        factor.delete()
