"""Who may use a page: the signed-in person, the organization they act for, and what their role allows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, cast

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts import members, seen
from accounts.core import roles
from accounts.models import Key, Membership, User
from aggregator.lib import clock

P = ParamSpec("P")
_UNKNOWN = object()
CHOSEN: Final = "organization"
"""Where a session keeps the id of the organization that the person has switched to."""


class MemberRequest(HttpRequest):
    """A request of somebody who is signed in and belongs to an organization."""

    user: User
    membership: Membership


Page = Callable[Concatenate[MemberRequest, P], HttpResponse]


def member(permission: str) -> Callable[[Page[P]], Callable[Concatenate[HttpRequest, P], HttpResponse]]:
    """Let a page be used by members whose role holds the permission; others sign in, or see 403.

    Who belongs to no organization, or to one that asks for a second factor, is told what to do.
    """

    def decorate(page: Page[P]) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
        @functools.wraps(page)
        def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            held = membership(request)
            if held is None:
                return render(request, "accounts/no_organization.html", status=403)
            if held.role == roles.UNPROVEN:
                return render(request, "accounts/second_factor_needed.html", status=403)
            if not held.may(permission):
                raise PermissionDenied
            return page(cast(MemberRequest, request), *args, **kwargs)

        return cast(Callable[Concatenate[HttpRequest, P], HttpResponse], login_required(guarded))

    return decorate


def membership(request: HttpRequest) -> Membership | None:
    """The membership in force, asked for once a request: of the organization chosen, else the oldest.

    While its organization asks for a second factor that the person has not, its role is UNPROVEN.
    """
    held = getattr(request, "membership", _UNKNOWN)
    if held is _UNKNOWN:
        rows = memberships(request)
        chosen = request.session.get(CHOSEN) if rows else None
        held = next((row for row in rows if row.organization_id == chosen), rows[0] if rows else None)
        if held is not None and _lacks_factor(held):
            held.role = roles.UNPROVEN
        request.membership = held  # type: ignore[attr-defined]
        if held is not None and (held.seen_at is None or held.seen_at < clock.now() - seen.EVERY):
            Membership.objects.of(held.organization_id).filter(pk=held.pk).update(seen_at=clock.now())
    return cast("Membership | None", held)


def _lacks_factor(held: Membership) -> bool:
    return held.organization.two_factor_required and not members.with_second_factor([held.user_id])


def memberships(request: HttpRequest) -> list[Membership]:
    """All of the signed-in person's, the oldest first; asked for once a request."""
    rows = getattr(request, "memberships", None)
    if rows is None:
        user = getattr(request, "user", None)
        rows = []
        if isinstance(user, User) or getattr(user, "is_authenticated", False):
            found = Membership.unscoped.select_related("organization").filter(user_id=cast(User, user).pk)
            rows = list(found.order_by("pk"))
        request.memberships = rows  # type: ignore[attr-defined]
    return cast("list[Membership]", rows)


def choose(request: HttpRequest, organization_id: int) -> None:
    """Act for this organization from now on, in this session; a foreign one changes nothing."""
    request.session[CHOSEN] = organization_id


def keys_of(held: Membership) -> QuerySet[Key]:
    """The keys that this member may see and manage: all, or the ones that they created."""
    rows = Key.objects.of(held.organization_id).exclude(state=Key.State.DELETED).filter(is_playground=False)
    if held.may(roles.KEYS_ALL):
        return rows
    return rows.filter(created_by_id=held.user_id, scope=roles.INFERENCE)


class SeenKey(NamedTuple):
    """A key as a filter names it, whatever has become of it."""

    id: int
    public_id: str
    name: str
    deleted: bool
    made_by: str
    """Their e-mail address; empty for one made by API."""


def keys_seen(held: Membership) -> list[SeenKey]:
    """The keys whose calls this member may see, deleted ones included: all, or the ones they created."""
    rows = Key.objects.of(held.organization_id).filter(scope=roles.INFERENCE)
    if not held.may(roles.ACTIVITY_ALL):
        rows = rows.filter(created_by_id=held.user_id)
    found = rows.order_by("name", "pk").values_list("pk", "public_id", "name", "state", "created_by__email")
    return [
        SeenKey(pk, public_id, name, state == Key.State.DELETED, email or "")
        for pk, public_id, name, state, email in found
    ]


def api_base() -> str:
    """Where customers' programs call."""
    return f"{settings.PUBLIC_URL}/api/v1"


def current(request: HttpRequest) -> dict[str, Any]:
    """For every template: the organization, the membership, and what the embedded default shows."""
    held = membership(request)
    return {
        "membership": held,
        "organization": held.organization if held else None,
        "memberships": memberships(request),
        "sees_audit": held is not None and held.may(roles.AUDIT),
        "api_base": api_base(),
        "mail_dir": str(settings.EMAIL_DIR) if settings.EMBEDDED and not settings.EMAIL_URL else "",
    }
