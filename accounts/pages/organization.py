"""The organization: its name and rules; opening another; switching between one's own."""

from __future__ import annotations

from typing import cast

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from accounts import access, signup
from accounts.access import MemberRequest
from accounts.core import roles
from accounts.forms import OrganizationForm
from accounts.models import User
from accounts.pages.form import form_page, show
from aggregator.lib.errors import Refusal


@form_page
@access.member(roles.KEYS_OWN)
def organization(request: MemberRequest) -> HttpResponse:
    held = request.membership
    may_edit = held.may(roles.ORGANIZATION_EDIT)
    if request.method == "POST" and not may_edit:
        raise PermissionDenied
    typed = request.POST if request.method == "POST" else None
    form = OrganizationForm(typed, initial={"name": held.organization.name})
    if form.is_bound and form.is_valid():
        signup.rename(held.organization, form.cleaned_data["name"], by=request.user)
        messages.success(request, "The organization has its new name.")
        return redirect("accounts:organization")
    return show(request, "accounts/organization.html", form, may_edit=may_edit)


@require_POST
@access.member(roles.ORGANIZATION_EDIT)
def rules(request: MemberRequest) -> HttpResponse:
    wanted = "two_factor_required" in request.POST
    try:
        signup.set_rules(request.membership, two_factor_required=wanted)
    except Refusal as refusal:
        messages.error(request, refusal.message)
    else:
        said = (
            "Every member needs a second factor now." if wanted else "A second factor is each one's choice."
        )
        messages.success(request, said)
    return redirect("accounts:organization")


@form_page
@login_required
def organization_new(request: HttpRequest) -> HttpResponse:
    form = OrganizationForm(request.POST or None)
    if form.is_bound and form.is_valid():
        name = form.cleaned_data["name"]
        try:
            made = signup.open_organization(cast(User, request.user), name=name)
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            access.choose(request, made.pk)
            messages.success(request, f"{made.name} is open, and you act for it now.")
            return redirect("accounts:organization")
    return show(request, "accounts/organization_new.html", form)


@require_POST
@login_required
def switch(request: HttpRequest) -> HttpResponse:
    """Act for another of one's organizations, from the start: what one looked at belongs to the former."""
    wanted = request.POST.get("organization", "")
    for held in access.memberships(request):
        if held.organization.public_id == wanted:
            access.choose(request, held.organization_id)
            messages.success(request, f"You act for {held.organization.name} now.")
            return redirect(settings.LOGIN_REDIRECT_URL)
    messages.error(request, "You are not a member of that organization any more.")
    return redirect("accounts:organization")
