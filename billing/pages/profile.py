"""The form of the billing profile, and what the link shows that confirms its e-mail."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.access import MemberRequest
from billing.documents import confirming, profiles
from billing.forms import BillingProfileForm
from billing.pages import shell


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@shell.payer
def profile(request: MemberRequest) -> HttpResponse:
    organization = request.membership.organization
    held = profiles.of(organization)
    initial = {name: getattr(held, name) for name in profiles.FIELDS}
    form = BillingProfileForm(request.POST if request.method == "POST" else None, initial=initial)
    if form.is_bound and form.is_valid():
        now = profiles.change(organization, by=request.user, **form.cleaned_data)
        messages.success(request, "Documents issued from now on say so.")
        if now.email and now.email_confirmed_at is None:
            if confirming.ask(organization):
                messages.info(
                    request, f"A link was sent to {now.email}. Documents go there once it is followed."
                )
            else:
                messages.warning(
                    request, "Too many links were sent today. Save again tomorrow to send another."
                )
        return redirect("billing:documents")
    context = {"form": form, "is_waiting": held.email and held.email_confirmed_at is None}
    return render(request, "billing/profile.html", context, status=422 if form.is_bound else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def address(request: HttpRequest, token: str) -> HttpResponse:
    """For whoever reads that mail, signed in or not: GET asks, since programs open links, POST confirms."""
    found = confirming.confirm(token) if request.method == "POST" else confirming.meant(token)
    return render(request, "billing/address.html", {"profile": found}, status=404 if found is None else 200)
