"""What a person reads: the page, the notice of a payment, the history, a receipt."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.access import MemberRequest
from billing import overview, paying
from billing.models import TopUp
from billing.pages import shell


@require_safe
@never_cache
@shell.payer
def page(request: MemberRequest) -> HttpResponse:
    """`?top_up=` or `?subscription=` names what the person comes back from, `?portal=` that they changed
    something at Stripe: each is looked up there before the page is made."""
    if "portal" in request.GET:
        shell.refused(lambda: paying.after_portal(request.membership.organization))
    return shell.show(request, paying=_returned(request))


@require_safe
@never_cache
@shell.payer
def payment(request: MemberRequest, what: str, payment: uuid.UUID) -> HttpResponse:
    """Where a payment stands, for the notice that looks every few seconds."""
    found = paying.find(request.membership.organization, what, payment)
    if found is None:
        raise Http404
    context: dict[str, Any] = {"paying": found}
    if found.is_paid:
        context |= {"swapped": True, "seen": overview.of(request.membership.organization)}
    answer = render(request, "billing/_payment.html", context)
    if found.is_paid:
        answer["HX-Trigger"] = "paid"  # the history looks again
    return answer


@require_safe
@never_cache
@shell.payer
def history(request: MemberRequest) -> HttpResponse:
    context = shell.movements(request)
    htmx = request.htmx  # type: ignore[attr-defined]
    template = "billing/history.html"
    if htmx and not htmx.history_restore_request:
        template = "billing/_history_rows.html" if context["begun"] else "billing/_history.html"
    answer = render(request, template, context)
    patch_vary_headers(answer, ["HX-Request"])
    return answer


@require_safe
@never_cache
@shell.payer
def receipt(request: MemberRequest, top_up: uuid.UUID) -> HttpResponse:
    """On to Stripe's own receipt of a top-up."""
    row = get_object_or_404(
        TopUp.objects.of(request.membership.organization).exclude(charge_id=None), pk=top_up
    )
    return shell.at_stripe(request, lambda: paying.receipt_url(row))


def _returned(request: MemberRequest) -> paying.Payment | None:
    for what in (paying.TOP_UP, paying.SUBSCRIPTION):
        with suppress(ValueError):
            id = uuid.UUID(request.GET.get(what, ""))
            return paying.find(request.membership.organization, what, id, left="left" in request.GET)
    return None
