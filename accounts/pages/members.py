"""The people of the organization: who is in it, as what; inviting, changing roles, removing, leaving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from accounts import access, invitations, members
from accounts.access import MemberRequest
from accounts.core import roles
from accounts.forms import InvitationForm, RemovalForm, RoleForm
from accounts.models import Membership
from accounts.pages.form import form_page, show
from aggregator.lib import cursors
from aggregator.lib.errors import Refusal

_PAGE: Final = 50
_SORTS: Final = {"email": "user__email", "role": "role", "joined": "created_at"}


@form_page
@access.member(roles.KEYS_OWN)
def member_list(request: MemberRequest) -> HttpResponse:
    """GET shows; POST invites."""
    held = request.membership
    manages = held.may(roles.MEMBERS)
    if request.method == "POST" and not manages:
        raise PermissionDenied
    form = InvitationForm(request.POST or None, membership=held) if manages else None
    if form is not None and request.method == "POST" and form.is_valid():
        email = form.cleaned_data["email"]
        try:
            sent = invitations.invite(held, email, form.cleaned_data["role"])
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            _tell_sent(request, sent, email)
            return redirect("accounts:members")
    people = Membership.objects.of(held.organization_id).select_related("user")
    listed = cursors.listed(people, request.GET, sorts=_SORTS, default="joined", size=_PAGE)
    guarded = members.with_second_factor([row.user_id for row in listed.rows]) if manages else frozenset()
    waiting = invitations.waiting(held.organization_id).select_related("invited_by").order_by("-sent_at")
    context: dict[str, Any] = {
        "list": listed,
        "manages": manages,
        "people": [_person(held, row, guarded) for row in listed.rows],
        "waiting": [
            {"row": row, "state": invitations.state(row), "mine": row.role in roles.gives(held.role)}
            for row in (waiting[:200] if manages else [])
        ],
        "permissions": [
            (words, [roles.may(role, permission) for role in (roles.OWNER, roles.ADMIN, roles.MEMBER)])
            for permission, words in roles.WORDS.items()
        ],
        "owns": held.may(roles.OWNERSHIP),
    }
    if form is None:
        return render(request, "accounts/members.html", context)
    return show(request, "accounts/members.html", form, **context)


@form_page
@access.member(roles.MEMBERS)
def member(request: MemberRequest, member: int) -> HttpResponse:
    """Another role for one of them."""
    row = _member(request, member)
    form = RoleForm(request.POST or None, membership=request.membership, of=row)
    if request.method == "POST" and form.is_valid():
        return _done(
            request,
            lambda: members.change_role(request.membership, row.pk, form.cleaned_data["role"]),
            f"{row.user.email} is {form.cleaned_data['role']} now.",
        )
    may_change = row.role in roles.gives(request.membership.role)
    return show(request, "accounts/member.html", form, person=row, may_change=may_change)


@form_page
@access.member(roles.MEMBERS)
def member_remove(request: MemberRequest, member: int) -> HttpResponse:
    row = _member(request, member)
    form = RemovalForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        disable = form.cleaned_data["keys"] == "disable"
        return _done(
            request,
            lambda: members.remove(request.membership, row.pk, disable_keys=disable),
            f"{row.user.email} is no longer a member.",
        )
    made = members.keys_made_by(row)
    return show(request, "accounts/member_remove.html", form, person=row, made=made)


@form_page
@access.member(roles.OWNERSHIP)
def member_transfer(request: MemberRequest, member: int) -> HttpResponse:
    """Hand the organization over to one of them."""
    row = _member(request, member)
    if request.method == "POST":
        return _done(
            request,
            lambda: members.transfer(request.membership, row.pk),
            f"{row.user.email} owns the organization now, and you are an admin of it.",
        )
    return render(request, "accounts/member_transfer.html", {"person": row})


@form_page
@access.member(roles.KEYS_OWN)
def leave(request: MemberRequest) -> HttpResponse:
    held = request.membership
    if request.method == "POST":
        said = f"You left {held.organization.name}."
        return _done(request, lambda: members.leave(held), said, leads_to=settings.LOGIN_REDIRECT_URL)
    return render(request, "accounts/leave.html", {"made": members.keys_made_by(held)})


@require_POST
@access.member(roles.MEMBERS)
def invitation_again(request: MemberRequest, invitation: int) -> HttpResponse:
    row = get_object_or_404(invitations.waiting(request.membership.organization_id), pk=invitation)
    try:
        _tell_sent(request, invitations.send_again(request.membership, row.pk), row.email)
    except Refusal as refusal:
        messages.error(request, refusal.message)
    return redirect("accounts:members")


@require_POST
@access.member(roles.MEMBERS)
def invitation_revoke(request: MemberRequest, invitation: int) -> HttpResponse:
    row = get_object_or_404(invitations.waiting(request.membership.organization_id), pk=invitation)
    said = f"The invitation of {row.email} is taken back; its link is good no longer."
    return _done(request, lambda: invitations.revoke(request.membership, row.pk), said)


def _member(request: MemberRequest, member_id: int) -> Membership:
    rows = Membership.objects.of(request.membership.organization_id).select_related("user")
    return get_object_or_404(rows, pk=member_id)


def _person(held: Membership, row: Membership, guarded: frozenset[int]) -> dict[str, Any]:
    """A member as the list shows them, to this member."""
    return {
        "row": row,
        "me": row.pk == held.pk,
        "guarded": row.user_id in guarded,
        "changeable": row.role in roles.gives(held.role) and row.pk != held.pk,
    }


def _done(
    request: MemberRequest, act: Callable[[], object], said: str, *, leads_to: str = "accounts:members"
) -> HttpResponse:
    """Do it and say so, or say why not."""
    try:
        act()
    except Refusal as refusal:
        messages.error(request, refusal.message)
        return redirect("accounts:members")
    messages.success(request, said)
    return redirect(leads_to)


def _tell_sent(request: MemberRequest, sent: bool, email: str) -> None:
    if sent:
        messages.success(request, f"{email} is invited: the letter is on its way.")
    else:
        messages.error(request, f"{email} is invited, but the letter could not be sent. Send it again soon.")
