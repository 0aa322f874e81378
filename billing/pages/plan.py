"""One plan: what changes with it, from when, what is due; then the change."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts.access import MemberRequest
from billing import overview, plans, receipts
from billing.overview import CANCEL, DOWNGRADE, START, UPGRADE
from billing.pages import shell
from billing.payments import subscriptions

_WORDS: Final = {
    START: ("Start {}?", "Continue to payment"),
    UPGRADE: ("Upgrade to {}?", "Upgrade and pay"),
    DOWNGRADE: ("Change to {}?", "Change at the period’s end"),
    CANCEL: ("Cancel your plan?", "Cancel the plan"),
}


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@shell.payer
def change(request: MemberRequest, plan: str) -> HttpResponse:
    if plan not in overview.ORDER:
        raise Http404
    seen = overview.of(request.membership.organization)
    action = overview.action(plan, plan=seen.wallet.plan, living=seen.subscription)
    if action not in _WORDS:
        return shell.back(request, "There is nothing to change about that plan.")
    said = ""
    if request.method == "POST":
        begun: list[str] = []
        said = shell.refused(lambda: begun.append(_do(request, plan, action)))
        if begun:
            return shell.see(begun[0]) if begun[0] else shell.back(request, _told(action, plan))
    return _ask(request, seen, plan, action, said)


@require_POST
@shell.payer
def keep(request: MemberRequest) -> HttpResponse:
    return shell.done(
        request,
        lambda: subscriptions.keep(request.membership.organization, by=request.user),
        "Your plan stays as it is.",
    )


def _do(request: MemberRequest, plan: str, action: str) -> str:
    """Do it; the address of a payment page when there is one to go to."""
    if action == START:
        return subscriptions.begin(request.membership.organization, plan, by=request.user)
    if action == CANCEL:
        subscriptions.cancel(request.membership.organization, by=request.user)
    else:
        subscriptions.change(request.membership.organization, plan, by=request.user)
    return ""


def _ask(request: MemberRequest, seen: overview.Overview, plan: str, action: str, said: str) -> HttpResponse:
    heading, button = _WORDS[action]
    offer = overview.offer(plans.current(plan), seen)
    context: dict[str, Any] = {
        "offer": offer,
        "action": action,
        "heading": heading.format(offer.name),
        "button": button,
        "refused": said,
        "living": seen.subscription,
        "card": seen.card,
        "tax": settings.STRIPE_TAX,
        "markup_percent": receipts.percent(seen.wallet.markup),
    }
    if action in (DOWNGRADE, CANCEL) and seen.subscription is not None:
        context["later"] = seen.subscription.period_end
    if action == UPGRADE and not said:
        due: list[Any] = []
        context["refused"] = shell.refused(
            lambda: due.append(subscriptions.preview(request.membership.organization, plan))
        )
        context["due"] = due[0] if due else None
    return render(request, "billing/plan.html", context, status=422 if said else 200)


def _told(action: str, plan: str) -> str:
    name = plan.capitalize()
    if action == UPGRADE:
        return f"You are on {name} as soon as the payment is in."
    if action == DOWNGRADE:
        return f"Your plan becomes {name} at the end of the period."
    return "Your plan ends with the period that is paid."
