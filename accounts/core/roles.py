"""Who may do what: roles of people and scopes of keys, one table each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

OWNER: Final = "owner"
ADMIN: Final = "admin"
MEMBER: Final = "member"
UNPROVEN: Final = "unproven"
"""Stands for any role, and holds nothing, until the person has the second factor that is asked for."""

KEYS_OWN: Final = "keys.own"
"""Create inference keys, and see and manage the ones that one created."""
KEYS_ALL: Final = "keys.all"
"""See and manage every key of the organization."""
KEYS_MANAGEMENT: Final = "keys.management"
"""Create management keys, which can create inference keys by API."""
ACTIVITY_ALL: Final = "activity.all"
"""See the calls of every key; without it, those of one's own keys."""
ORGANIZATION_EDIT: Final = "organization.edit"
PRIVACY: Final = "privacy"
"""Set which providers may see what is sent, and whether calls are logged; others read what is set."""
BILLING: Final = "billing"
"""See and change what the organization pays: plan, cards, top-ups, refunds; gets the letters about it."""
MEMBERS: Final = "members"
"""Invite people, change their roles, remove them."""
AUDIT: Final = "audit.read"
"""Read and export who did what."""
OWNERSHIP: Final = "ownership"
"""Make and unmake owners; hand the organization over."""

_ADMIN = frozenset(
    {KEYS_OWN, KEYS_ALL, KEYS_MANAGEMENT, ACTIVITY_ALL, ORGANIZATION_EDIT, BILLING, PRIVACY, MEMBERS, AUDIT}
)

ROLES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        OWNER: _ADMIN | {OWNERSHIP},
        ADMIN: _ADMIN,
        MEMBER: frozenset({KEYS_OWN}),
    }
)

WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        KEYS_OWN: "Make inference keys, see and change one's own, and see their calls",
        KEYS_ALL: "See and change everybody's keys",
        KEYS_MANAGEMENT: "Make management keys",
        ACTIVITY_ALL: "See everybody's calls",
        BILLING: "See and change plan, cards, top-ups and refunds; get the letters about them",
        ORGANIZATION_EDIT: "Rename the organization, set its rules",
        PRIVACY: "Say which providers see what is sent, and whether calls are logged",
        MEMBERS: "Invite people, change their roles, remove them",
        AUDIT: "Read and export the audit log",
        OWNERSHIP: "Make and unmake owners, hand the organization over",
    }
)
"""What each permission lets a person do, as the members page says it, everyday things first."""

INFERENCE: Final = "inference"
MANAGEMENT: Final = "management"
READ: Final = "read"

SCOPES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        INFERENCE: frozenset({INFERENCE, READ}),
        MANAGEMENT: frozenset({MANAGEMENT, READ}),
    }
)
"""The scope of a key → the scopes that a route may ask for (`aggregator.planes`)."""


def may(role: str, permission: str) -> bool:
    """Whether a member with this role holds the permission. An unknown role holds none."""
    return permission in ROLES.get(role, frozenset())


def gives(role: str) -> tuple[str, ...]:
    """The roles that a member with this role may give and take, the least first."""
    if not may(role, MEMBERS):
        return ()
    return (MEMBER, ADMIN, OWNER) if may(role, OWNERSHIP) else (MEMBER, ADMIN)


def allows(scope: str, wanted: str | None) -> bool:
    """Whether a key of this scope may call a route that asks for `wanted`; None is public."""
    return wanted is None or wanted in SCOPES.get(scope, frozenset())
