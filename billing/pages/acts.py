"""What a person does about money: buys credit, has it bought, gives it back, goes to Stripe's portal."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts.access import MemberRequest
from aggregator.lib.errors import Refusal
from billing import overview
from billing.forms import AutoTopUpForm, TopUpForm
from billing.models import TopUp
from billing.pages import shell
from billing.payments import auto_top_ups, customers, refunds, top_ups


@require_POST
@shell.payer
def top_up(request: MemberRequest) -> HttpResponse:
    form = TopUpForm(request.POST)
    if form.is_valid():
        cleaned = form.cleaned_data
        try:
            url = top_ups.begin(
                request.membership.organization,
                cleaned["cents"],
                by=request.user,
                save_card=cleaned["save_card"],
            )
            return shell.see(url)
        except Refusal as refusal:
            form.refuse(refusal)
    return shell.show(request, top_up_form=form, status=422)


@require_POST
@shell.payer
def auto_top_up(request: MemberRequest) -> HttpResponse:
    form = AutoTopUpForm(request.POST)
    if form.is_valid():
        try:
            auto_top_ups.set(request.membership.organization, **form.values(), by=request.user)
            state = "on" if form.cleaned_data["enabled"] else "off"
            return shell.back(request, f"Automatic top-up is {state}.")
        except Refusal as refusal:
            form.refuse(refusal)
    return shell.show(request, auto_form=form, status=422)


@require_POST
@shell.payer
def resume(request: MemberRequest) -> HttpResponse:
    return shell.done(
        request,
        lambda: auto_top_ups.resume(request.membership.organization, by=request.user),
        "Automatic top-up goes on.",
    )


@require_POST
@shell.payer
def portal(request: MemberRequest) -> HttpResponse:
    """Stripe's own pages for cards and invoices; who is not known there yet is made known first."""

    def url() -> str:
        customers.ensure(request.membership.organization, email=request.user.email)
        back = f"{settings.PUBLIC_URL}{reverse('billing:overview')}?portal=1"
        return customers.portal_url(request.membership.organization, return_url=back)

    return shell.at_stripe(request, url)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@shell.payer
def refund(request: MemberRequest, top_up: uuid.UUID) -> HttpResponse:
    """Asks first; then gives back what is left of one top-up."""
    row = get_object_or_404(
        TopUp.objects.of(request.membership.organization).filter(state=TopUp.State.PAID), pk=top_up
    )
    said = ""
    if request.method == "POST":
        said = shell.refused(lambda: refunds.ask(request.membership.organization, row.pk, by=request.user))
        if not said:
            return shell.back(request, "The refund is under way. It stands in the history below.")
    left = next(
        (left.nanos for left in overview.refundable(request.membership.organization) if left.top_up == row), 0
    )
    context = {"top_up": row, "left_nanos": left, "refused": said}
    return render(request, "billing/refund.html", context, status=422 if said else 200)
