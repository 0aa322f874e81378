"""Budgets: what limits calls and how much of it is used, when people are told, and what they were told."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import access
from accounts.access import MemberRequest
from accounts.core import roles
from accounts.models import Membership, User
from aggregator.lib import clock, cursors
from aggregator.lib.errors import Refusal
from billing import budget_table, limits, low_credit
from billing.core.money import usd
from billing.forms import BudgetChangeForm, BudgetForm, LowCreditForm
from billing.models import Budget, BudgetAlert
from billing.pages import shell

_NEWEST: Final = 8
_PAGE: Final = 50
_SORTS: Final = {"at": "at"}


@require_safe
@never_cache
@access.member(roles.KEYS_OWN)
def page(request: MemberRequest) -> HttpResponse:
    return _page(request)


@require_safe
@never_cache
@access.member(roles.KEYS_OWN)
def alerts(request: MemberRequest) -> HttpResponse:
    """Everything that was told, the newest first."""
    listed = cursors.listed(_alerts(request), request.GET, sorts=_SORTS, default="-at", size=_PAGE)
    context = {"list": listed, "told": budget_table.told(request.membership.organization_id, listed.rows)}
    return render(request, "billing/budget_alerts.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@shell.payer
def new(request: MemberRequest) -> HttpResponse:
    """`?kind=` and `?member=` (the id of a membership) say for whom, where another page leads here."""
    initial = {name: request.GET[name] for name in ("kind", "member", "end_user") if name in request.GET}
    members = _members(request)
    form = BudgetForm(request.POST if request.method == "POST" else None, members=members, initial=initial)
    if form.is_bound and form.is_valid():
        try:
            limits.set_budget(request.membership.organization, **form.values(), by=request.user)
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, "The budget is in force from the next call on.")
            return redirect("billing:budgets")
    return _with_form(request, "billing/budget_new.html", form)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@shell.payer
def change(request: MemberRequest, budget: str) -> HttpResponse:
    row = _budget(request, budget)
    initial = {"limit": usd(row.limit_nanos), "thresholds": ", ".join(map(str, row.thresholds))}
    form = BudgetChangeForm(request.POST if request.method == "POST" else None, initial=initial)
    if form.is_bound and form.is_valid():
        try:
            limits.change(row, **form.values(), by=request.user)
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, "Saved. It is in force from the next call on.")
            return redirect("billing:budgets")
    return _with_form(request, "billing/budget_change.html", form, budget=row)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@shell.payer
def delete(request: MemberRequest, budget: str) -> HttpResponse:
    """Asks first."""
    row = _budget(request, budget)
    if request.method == "POST":
        said = shell.refused(lambda: limits.delete(row, by=request.user))
        if said:
            messages.error(request, said)
        else:
            messages.success(request, "The budget is gone. Its past alerts stay below.")
        return redirect("billing:budgets")
    return render(request, "billing/budget_delete.html", {"budget": row})


@require_POST
@shell.payer
def low(request: MemberRequest) -> HttpResponse:
    """When to tell of low credit."""
    form = LowCreditForm(request.POST)
    if form.is_valid():
        organization = request.membership.organization
        cleaned = form.cleaned_data
        try:
            low_credit.set(
                organization, is_on=cleaned["is_on"], threshold_nanos=cleaned["threshold"], by=request.user
            )
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, "Saved.")
            return redirect("billing:budgets")
    return _page(request, low_form=form, status=422)


def _page(
    request: MemberRequest, *, low_form: LowCreditForm | None = None, status: int = 200
) -> HttpResponse:
    held = request.membership
    newest = list(_alerts(request).order_by("-at", "-pk")[: _NEWEST + 1])
    context: dict[str, Any] = {
        "table": budget_table.table(held, at=clock.now()),
        "told": budget_table.told(held.organization_id, newest[:_NEWEST]),
        "older": len(newest) > _NEWEST,
        "manages": held.may(roles.BILLING),
    }
    if context["manages"]:
        setting = low_credit.of(held.organization_id)
        amount = "" if setting.threshold_nanos is None else usd(setting.threshold_nanos)
        context["low"] = setting
        context["low_form"] = low_form or LowCreditForm(
            initial={"is_on": setting.is_on, "threshold": amount},
        )
    return render(request, "billing/budgets.html", context, status=status)


def _with_form(request: MemberRequest, template: str, form: Any, **context: Any) -> HttpResponse:
    """422 where something typed cannot be taken."""
    status = 422 if form.is_bound and form.errors else 200
    return render(request, template, {"form": form, **context}, status=status)


def _alerts(request: MemberRequest) -> Any:
    held = request.membership
    return BudgetAlert.objects.of(held.organization_id).filter(budget_table.alerts(held))


def _budget(request: MemberRequest, public_id: str) -> Budget:
    row = limits.find(request.membership.organization_id, public_id)
    if row is None:
        raise Http404
    return row


def _members(request: MemberRequest) -> dict[int, tuple[User, str]]:
    rows = Membership.objects.of(request.membership.organization_id).select_related("user")
    return {row.pk: (row.user, row.user.email) for row in rows.order_by("user__email")}
