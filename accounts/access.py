"""Who may use a page: the signed-in person, the organization they act for, and what their role allows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, NamedTuple, ParamSpec, cast

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from accounts import roles
from accounts.models import Key, Membership, User

P = ParamSpec("P")
_UNKNOWN = object()


class MemberRequest(HttpRequest):
    """A request of somebody who is signed in and belongs to an organization."""

    user: User
    membership: Membership


Page = Callable[Concatenate[MemberRequest, P], HttpResponse]


def member(permission: str) -> Callable[[Page[P]], Callable[Concatenate[HttpRequest, P], HttpResponse]]:
    """Let a page be used by members whose role holds the permission; others sign in, or see 403."""

    def decorate(page: Page[P]) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
        @functools.wraps(page)
        def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            held = membership(request)
            if held is None or not held.may(permission):
                raise PermissionDenied
            return page(cast(MemberRequest, request), *args, **kwargs)

        return cast(Callable[Concatenate[HttpRequest, P], HttpResponse], login_required(guarded))

    return decorate


def membership(request: HttpRequest) -> Membership | None:
    """The membership in force, asked for once a request: the person's oldest."""
    held = getattr(request, "membership", _UNKNOWN)
    if held is _UNKNOWN:
        user = getattr(request, "user", None)
        held = None
        if isinstance(user, User) or getattr(user, "is_authenticated", False):
            held = (
                Membership.unscoped.select_related("organization")
                .filter(user_id=cast(User, user).pk)
                .order_by("pk")
                .first()
            )
        request.membership = held  # type: ignore[attr-defined]
    return cast("Membership | None", held)


def keys_of(held: Membership) -> QuerySet[Key]:
    """The keys that this member may see and manage: all, or the ones that they created."""
    rows = Key.objects.of(held.organization_id).exclude(state=Key.State.DELETED)
    if held.may(roles.KEYS_ALL):
        return rows
    return rows.filter(created_by_id=held.user_id, scope=roles.INFERENCE)


class SeenKey(NamedTuple):
    """A key as a filter names it, whatever has become of it."""

    id: int
    public_id: str
    name: str
    deleted: bool


def keys_seen(held: Membership) -> list[SeenKey]:
    """The keys whose calls this member may see, deleted ones included: all, or the ones they created."""
    rows = Key.objects.of(held.organization_id).filter(scope=roles.INFERENCE)
    if not held.may(roles.ACTIVITY_ALL):
        rows = rows.filter(created_by_id=held.user_id)
    found = rows.order_by("name", "pk").values_list("pk", "public_id", "name", "state")
    return [SeenKey(pk, public_id, name, state == Key.State.DELETED) for pk, public_id, name, state in found]


def api_base() -> str:
    """Where customers' programs call."""
    return f"{settings.PUBLIC_URL}/api/v1"


def current(request: HttpRequest) -> dict[str, Any]:
    """For every template: the organization, the membership, and what the embedded default shows."""
    held = membership(request)
    return {
        "membership": held,
        "organization": held.organization if held else None,
        "api_base": api_base(),
        "mail_dir": str(settings.EMAIL_DIR) if settings.EMBEDDED and not settings.EMAIL_URL else "",
    }
