"""The people of an organization: their roles, who leaves, who owns it.

Every change holds the organization's row, so that no two of them miss each other: there is always an owner.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from allauth.mfa.models import Authenticator
from django.db import transaction
from django.db.models import QuerySet

from accounts import audit, keys
from accounts.core import roles
from accounts.models import Key, Membership, Organization, User
from aggregator.lib.errors import Refusal

_FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)


@contextmanager
def acting(by: Membership, permission: str | None = None) -> Iterator[Membership]:
    """A transaction in which nobody else changes the people; gives the acting member as they stand now.

    The lock leaves rows that refer to the organization free to come. Raises Refusal 403 `forbidden`.
    """
    with transaction.atomic():
        held = _locked(by.organization_id).filter(user_id=by.user_id).first()
        if held is None or (permission is not None and not held.may(permission)):
            raise _forbidden("Your role does not allow this any more.")
        yield held


def change_role(by: Membership, member_id: int, role: str) -> Membership:
    """Give a member another role. Raises Refusal: `forbidden`, `last_owner`, `unknown_member`."""
    with acting(by, roles.MEMBERS) as me:
        held = _member(me, member_id)
        if not {held.role, role} <= set(roles.gives(me.role)):
            raise _forbidden("Only an owner changes owners." if role in roles.ROLES else "No such role.")
        if held.role != role:
            _keep_an_owner(held)
            _set_role(held, role, by=me.user)
    return held


def remove(by: Membership, member_id: int, *, disable_keys: bool) -> Membership:
    """End a membership, and refuse the keys that this member made if so chosen.

    Raises Refusal: `forbidden`, `last_owner`, `unknown_member`.
    """
    with acting(by, roles.MEMBERS) as me:
        held = _member(me, member_id)
        if held.role not in roles.gives(me.role):
            raise _forbidden("Only an owner removes an owner.")
        _end(held, "member.removed", by=me.user, disable_keys=disable_keys)
    return held


def leave(by: Membership) -> None:
    """End one's own membership; the keys that one made go on. Raises Refusal `last_owner`."""
    with acting(by) as me:
        _end(me, "member.left", by=me.user, disable_keys=False)


def transfer(by: Membership, member_id: int) -> Membership:
    """Make a member an owner, and oneself an admin: both or neither. Raises Refusal."""
    with acting(by, roles.OWNERSHIP) as me:
        held = _member(me, member_id)
        if held.pk == me.pk or not held.user.is_active:
            raise _forbidden("Choose another member.")
        if held.role != roles.OWNER:
            _set_role(held, roles.OWNER, by=me.user)
        _set_role(me, roles.ADMIN, by=me.user)
        audit.record(me.organization_id, "organization.handed_over", by=me.user, object=held.user.email)
    return held


def add(organization: Organization, user: User, role: str) -> Membership:
    """Let a person in who is not; the caller holds `acting`'s lock, or has just made the organization."""
    return Membership.objects.create(organization=organization, user=user, role=role)


def keys_made_by(held: Membership) -> int:
    """How many keys that work this member has made."""
    return (
        Key.objects.of(held.organization_id)
        .filter(created_by=held.user_id, state="active", is_playground=False)
        .count()
    )


def with_second_factor(user_ids: list[int]) -> frozenset[int]:
    """Those of these people who sign in with more than a password."""
    rows = Authenticator.objects.filter(user_id__in=user_ids, type__in=_FACTORS)
    return frozenset(rows.values_list("user_id", flat=True))


def who_may(organization_id: int, permission: str) -> list[str]:
    """The addresses of those who hold a permission, the longest member first."""
    rows = Membership.objects.of(organization_id).select_related("user").order_by("pk")
    return [held.user.email for held in rows if held.may(permission) and held.user.is_active]


def lock(organization_id: int) -> None:
    """Nobody else changes this organization's people until the transaction ends."""
    _locked(organization_id)


def _locked(organization_id: int) -> QuerySet[Membership]:
    Organization.objects.select_for_update(no_key=True).get(pk=organization_id)
    return Membership.objects.of(organization_id).select_related("organization", "user")


def _member(me: Membership, member_id: int) -> Membership:
    rows = Membership.objects.of(me.organization_id).select_related("organization", "user")
    held = rows.filter(pk=member_id).first()
    if held is None:
        raise Refusal("unknown_member", "This person is not a member any more.", status=404)
    return held


def _set_role(held: Membership, role: str, *, by: User) -> None:
    before, held.role = held.role, role
    held.save(update_fields=["role"])
    audit.record(
        held.organization_id,
        "member.role_changed",
        by=by,
        object=held.user.email,
        detail={"role": [before, role]},
    )


def _end(held: Membership, verb: str, *, by: User, disable_keys: bool) -> None:
    _keep_an_owner(held)
    made = Key.objects.of(held.organization_id).filter(created_by=held.user_id, state=Key.State.ACTIVE)
    end_playground(held.organization_id, held.user_id, by=by)
    disabled = [keys.disable(key, by=by).public_id for key in made] if disable_keys else []
    held.delete()
    audit.record(
        held.organization_id,
        verb,
        by=by,
        object=held.user.email,
        detail={"role": held.role, "keys": "disabled" if disable_keys else "kept", "disabled": disabled},
    )


def end_playground(organization_id: int, user_id: int, *, by: User) -> None:
    """Delete the key of a person's playground: it is theirs, and no other page could end it."""
    made = Key.objects.of(organization_id).filter(created_by_id=user_id, is_playground=True)
    for key in made.exclude(state=Key.State.DELETED):
        keys.delete(key, by=by)


def _keep_an_owner(held: Membership) -> None:
    """Raise Refusal unless somebody else owns the organization, or this one never did."""
    if held.role != roles.OWNER:
        return
    owners = Membership.objects.of(held.organization_id).filter(role=roles.OWNER, user__is_active=True)
    if not owners.exclude(pk=held.pk).exists():
        raise Refusal(
            "last_owner", "An organization needs an owner: make somebody else one first.", status=409
        )


def _forbidden(message: str) -> Refusal:
    return Refusal("forbidden", message, status=403)
