"""What the pages of billing share: who may see them, the page as a whole, and ways on and back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode

from accounts import access
from accounts.access import MemberRequest
from accounts.core import roles
from aggregator.lib import clock
from aggregator.lib.errors import Refusal
from billing import history, overview, receipts
from billing.forms import AutoTopUpForm, TopUpForm, shown
from billing.paying import Payment
from billing.stripe_client.door import StripeRefused, StripeUnreachable

_FILTERS: Final = (
    ("", "All"),
    (history.PAYMENTS, "Payments"),
    (history.USAGE, "Usage"),
    (history.CREDITS, "Credits"),
)
_USUAL: Final = shown(enabled=False, threshold_nanos=10 * 10**9, cents=25_00, monthly_cap_cents=250_00)
"""What automatic top-ups suggest to who has none."""


payer = access.member(roles.BILLING)
"""Marks a page for members who look after billing; others see 403."""


def show(request: MemberRequest, *, status: int = 200, **context: Any) -> HttpResponse:
    """The whole page; `context` may hold forms with what was typed."""
    organization = request.membership.organization
    seen = overview.of(organization)
    forms = {
        "top_up_form": TopUpForm(),
        "auto_form": AutoTopUpForm(initial=_automatic(seen)),
    }
    whole = {
        "seen": seen,
        "tax": settings.STRIPE_TAX,
        "contact": overview.contact(),
        "markup_percent": receipts.percent(seen.wallet.markup),
        "refundable": overview.refundable(organization),
        **compared(seen),
        **movements(request),
        **forms,
        **context,
    }
    paying: Payment | None = context.get("paying")
    whole["unfinished"] = [
        row for row in seen.payments if row.session_url and (paying is None or row.pk != paying.id)
    ][:1]
    return render(request, "billing/overview.html", whole, status=status)


def compared(seen: overview.Overview) -> dict[str, Any]:
    """The plans beside each other, by the usage of last month and of this one."""
    this_month = clock.now().date().replace(day=1)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    found = overview.offers(seen, last_month=last_month, this_month=this_month)
    return {
        "offers": found.plans,
        "compared": found.month,
        "cheapest": _cheapest(found),
        "saved_nanos": found.saved_nanos,
        "last_month": last_month,
        "this_month": this_month,
    }


def movements(request: HttpRequest) -> dict[str, Any]:
    """The history from the place that the address names."""
    kind = request.GET.get("kind", "")
    if kind not in history.KINDS:
        kind = ""
    before = history.place(request.GET.get("before", ""))
    found = history.page(access.membership(request).organization_id, kind=kind, before=before)  # type: ignore[union-attr]
    return {
        "rows": found.rows,
        "older": found.older and address("billing:history", kind=kind, before=str(found.older)),
        "kind": kind,
        "filters": _FILTERS,
        "begun": before is not None,
    }


def address(page: str, **query: str) -> str:
    given = {name: value for name, value in query.items() if value}
    return reverse(page) + (f"?{urlencode(given)}" if given else "")


def see(url: str) -> HttpResponse:
    """303: go on with GET, whatever the method was."""
    return HttpResponseRedirect(url, status=303)


def done(request: MemberRequest, act: Callable[[], object], says: str) -> HttpResponse:
    """Do what a button asks, and back to the page with what came of it."""
    said = refused(act)
    if said:
        messages.error(request, said)
    else:
        messages.success(request, says)
    return see(reverse("billing:overview"))


def back(request: HttpRequest, says: str) -> HttpResponse:
    messages.success(request, says)
    return see(reverse("billing:overview"))


def at_stripe(request: HttpRequest, url: Callable[[], str]) -> HttpResponse:
    """On to a page of Stripe's; back with a word when there is none to be had."""
    found: list[str] = []
    said = refused(lambda: found.append(url()))
    if said:
        messages.error(request, said)
    return see(found[0] if found else reverse("billing:overview"))


def refused(act: Callable[[], object]) -> str:
    """Do it; why it was not done, or nothing."""
    try:
        act()
    except Refusal as refusal:
        return refusal.message
    except StripeUnreachable:
        return "Stripe cannot be reached at the moment. Look here again before you repeat it."
    except StripeRefused as refusal:
        return f"Stripe refused: {refusal}"
    return ""


def _cheapest(found: overview.Comparison) -> overview.Offer | None:
    """The plan there is when it is among the cheapest, or the first of them."""
    cheapest = [offer for offer in found.plans if offer.is_cheapest]
    return next((offer for offer in cheapest if offer.is_current), cheapest[0] if cheapest else None)


def _automatic(seen: overview.Overview) -> dict[str, Any]:
    auto = seen.auto
    if auto is None:
        return _USUAL
    return shown(
        enabled=auto.enabled,
        threshold_nanos=auto.threshold_nanos,
        cents=auto.cents,
        monthly_cap_cents=auto.monthly_cap_cents,
    )
