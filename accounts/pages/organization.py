"""The organization: its name and its people."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect

from accounts import access, roles, signup
from accounts.access import MemberRequest
from accounts.forms import OrganizationForm
from accounts.models import Membership
from accounts.pages.form import form_page, show


@form_page
@access.member(roles.KEYS_OWN)
def organization(request: MemberRequest) -> HttpResponse:
    held = request.membership
    may_edit = held.may(roles.ORGANIZATION_EDIT)
    typed = request.POST if may_edit and request.method == "POST" else None
    form = OrganizationForm(typed, initial={"name": held.organization.name})
    if form.is_bound and form.is_valid():
        signup.rename(held.organization, form.cleaned_data["name"], by=request.user)
        messages.success(request, "The organization has its new name.")
        return redirect("accounts:organization")
    people = Membership.objects.of(held.organization_id).select_related("user").order_by("pk")
    return show(request, "accounts/organization.html", form, people=people, may_edit=may_edit)
