"""What was done, by whom: written in the transaction of the change itself, never changed after."""

from __future__ import annotations

from typing import Any

from accounts.core.principal import Principal
from accounts.models import AuditEntry, Organization, User

Actor = User | Principal | str | None
"""A person, a key, or the name of the part of the system that acts by itself."""


def name(actor: Actor) -> str:
    """How an actor stands in the audit log."""
    if isinstance(actor, User):
        return f"user:{actor.email}"
    if isinstance(actor, Principal):
        return f"key:{actor.key}"
    return f"system:{actor or 'fairlead'}"


def record(
    organization: Organization | int,
    verb: str,
    *,
    by: Actor,
    object: str,
    detail: dict[str, Any] | None = None,
) -> AuditEntry:
    """Add an entry. Call it inside the transaction of the change that it tells of."""
    owner = organization if isinstance(organization, int) else organization.pk
    return AuditEntry.objects.create(
        organization_id=owner, actor=name(by)[:300], verb=verb, object=object, detail=detail or {}
    )
