"""What the link of an invitation shows, to whoever opens it: a way in, or why there is none."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache

from accounts import access, invitations, signup
from accounts.models import Invitation, Membership, User
from accounts.pages.form import form_page
from aggregator.lib.errors import Refusal


@form_page
@never_cache
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """GET shows, for signed-in and signed-out people; POST joins."""
    found = invitations.by_token(token)
    if found is None:
        return render(request, "accounts/invitation.html", {"state": "unknown"}, status=404)
    state = invitations.state(found)
    user = request.user if request.user.is_authenticated else None
    member = _member(found, user)
    if member is not None and state != invitations.OPEN:
        access.choose(request, member.organization_id)  # they have used it: it leads where it led
        return redirect(settings.LOGIN_REDIRECT_URL)
    if state == invitations.OPEN and user is not None and invitations.is_for(found, user):
        state = "mine"
        if request.method == "POST":
            return _join(request, found, user)
    elif state == invitations.OPEN and user is not None:
        state = "another"
    elif state == invitations.OPEN:
        request.session[signup.INVITED] = found.pk
    context = {
        "state": state,
        "invitation": found,
        "query": urlencode({"email": found.email, "next": request.path}),
    }
    gone = state in (invitations.ACCEPTED, invitations.REVOKED, invitations.EXPIRED)
    return render(request, "accounts/invitation.html", context, status=410 if gone else 200)


def _member(found: Invitation, user: User | None) -> Membership | None:
    if user is None:
        return None
    return Membership.objects.of(found.organization_id).filter(user=user).first()


def _join(request: HttpRequest, found: Invitation, user: User) -> HttpResponse:
    try:
        held = invitations.accept(found, user)
    except Refusal as refusal:
        messages.error(request, refusal.message)
        return redirect(request.path)
    access.choose(request, held.organization_id)
    messages.success(request, f"You are {held.role} of {found.organization.name} now.")
    return redirect(settings.LOGIN_REDIRECT_URL)
