"""The form of the billing profile."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.access import MemberRequest
from billing.documents import profiles
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
        profiles.change(organization, by=request.user, **form.cleaned_data)
        messages.success(request, "Documents issued from now on say so.")
        return redirect("billing:documents")
    return render(request, "billing/profile.html", {"form": form}, status=422 if form.is_bound else 200)
