"""Webhooks: the list, adding and changing one, its secret, and what was sent to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts import access
from accounts.access import MemberRequest
from accounts.core import roles
from accounts.forms import WebhookForm, WebhookRotateForm
from accounts.models import WebhookDelivery, WebhookEndpoint
from accounts.pages.form import form_page, show
from accounts.webhooks import endpoints, events, signing
from aggregator.lib import cursors
from aggregator.lib.errors import Refusal

_PAGE: Final = 25
_STATES: Final = {"waiting": "Waiting", "delivered": "Delivered", "failed": "Failed"}


@require_safe
@access.member(roles.BILLING)
def webhook_list(request: MemberRequest) -> HttpResponse:
    rows = list(_mine(request).order_by("name", "pk"))
    context = {"rows": rows, "full": len(rows) >= endpoints.MOST, "most": endpoints.MOST}
    return render(request, "accounts/webhooks.html", context)


@form_page
@never_cache
@access.member(roles.BILLING)
def webhook_new(request: MemberRequest) -> HttpResponse:
    form = WebhookForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            row, text = endpoints.add(request.membership.organization, by=request.user, **form.values())
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            return _show_once(request, row, text, rotated=False)
    return show(request, "accounts/webhook_new.html", form)


@require_safe
@access.member(roles.BILLING)
def webhook(request: MemberRequest, webhook: str) -> HttpResponse:
    row = _webhook(request, webhook)
    state = request.GET.get("state", "")
    state = state if state in _STATES else ""
    sent = WebhookDelivery.objects.of(row.organization_id).filter(endpoint=row).select_related("event")
    listed = cursors.listed(
        (sent.filter(state=state) if state else sent).prefetch_related("attempts"),
        request.GET,
        sorts={"at": "created_at"},
        default="-at",
        size=_PAGE,
        keep={"state": state},
    )
    secrets = signing.living(row)
    context = {
        "webhook": row,
        "list": listed,
        "state": state,
        "states": _STATES.items(),
        "secret": secrets[0] if secrets else None,
        "older": secrets[1:],
    }
    return render(request, "accounts/webhook.html", context)


@form_page
@access.member(roles.BILLING)
def webhook_edit(request: MemberRequest, webhook: str) -> HttpResponse:
    row = _webhook(request, webhook)
    form = WebhookForm(request.POST or None, endpoint=row)
    if request.method == "POST" and form.is_valid():
        try:
            endpoints.change(row, by=request.user, **form.values())
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, f"“{form.cleaned_data['name']}” is changed.")
            return redirect("accounts:webhook", row.public_id)
    return show(request, "accounts/webhook_edit.html", form, webhook=row)


@form_page
@never_cache
@access.member(roles.BILLING)
def webhook_rotate(request: MemberRequest, webhook: str) -> HttpResponse:
    row = _webhook(request, webhook)
    form = WebhookRotateForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            text = endpoints.rotate(row, overlap=form.cleaned_data["overlap"], by=request.user)
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            return _show_once(request, row, text, rotated=True)
    return show(request, "accounts/webhook_rotate.html", form, webhook=row)


@require_POST
@access.member(roles.BILLING)
def webhook_test(request: MemberRequest, webhook: str) -> HttpResponse:
    row = _webhook(request, webhook)
    said = "A test event is on its way. What came of it stands below in a moment."
    return _done(request, row, lambda: endpoints.test(row, by=request.user), said)


@require_POST
@access.member(roles.BILLING)
def webhook_disable(request: MemberRequest, webhook: str) -> HttpResponse:
    row = _webhook(request, webhook)
    said = f"“{row.name}” is disabled. Nothing is sent to it."
    return _done(request, row, lambda: endpoints.disable(row, by=request.user), said)


@require_POST
@access.member(roles.BILLING)
def webhook_enable(request: MemberRequest, webhook: str) -> HttpResponse:
    row = _webhook(request, webhook)
    said = f"“{row.name}” gets events from now on. What it missed can be sent again below."
    return _done(request, row, lambda: endpoints.enable(row, by=request.user), said)


@form_page
@access.member(roles.BILLING)
def webhook_delete(request: MemberRequest, webhook: str) -> HttpResponse:
    row = _webhook(request, webhook)
    if request.method == "POST":
        endpoints.delete(row, by=request.user)
        messages.success(request, f"“{row.name}” is deleted.")
        return redirect("accounts:webhooks")
    return render(request, "accounts/webhook_delete.html", {"webhook": row})


@require_safe
@access.member(roles.BILLING)
def delivery(request: MemberRequest, delivery: str) -> HttpResponse:
    row = _delivery(request, delivery)
    body = json.loads(events.body(row.event))
    context = {
        "delivery": row,
        "webhook": row.endpoint,
        "attempts": list(row.attempts.order_by("-pk")),
        "body": json.dumps(body, indent=2, ensure_ascii=False),
    }
    return render(request, "accounts/webhook_delivery.html", context)


@require_POST
@access.member(roles.BILLING)
def again(request: MemberRequest, delivery: str) -> HttpResponse:
    row = _delivery(request, delivery)
    try:
        endpoints.send_again(row, by=request.user)
    except Refusal as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(request, "It is sent again, with the id that it had.")
    return redirect("accounts:webhook_delivery", row.pk)


def _mine(request: MemberRequest) -> QuerySet[WebhookEndpoint]:
    return WebhookEndpoint.objects.of(request.membership.organization_id)


def _webhook(request: MemberRequest, public_id: str) -> WebhookEndpoint:
    return get_object_or_404(_mine(request).select_related("created_by"), public_id=public_id)


def _delivery(request: MemberRequest, delivery_id: str) -> WebhookDelivery:
    rows = WebhookDelivery.objects.of(request.membership.organization_id)
    return get_object_or_404(rows.select_related("event", "endpoint"), pk=delivery_id)


def _done(request: MemberRequest, row: WebhookEndpoint, act: Callable[[], object], said: str) -> HttpResponse:
    """Do it and say so, or say why not."""
    try:
        act()
    except Refusal as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(request, said)
    return redirect("accounts:webhook", row.public_id)


def _show_once(request: MemberRequest, row: WebhookEndpoint, text: str, *, rotated: bool) -> HttpResponse:
    """The one answer that holds a secret: not stored by the browser, nor in its history."""
    context = {"webhook": row, "text": text, "rotated": rotated}
    answer = render(request, "accounts/webhook_secret.html", context)
    answer["Cache-Control"] = "no-store"
    answer["HX-Replace-Url"] = f"/settings/webhooks/{row.public_id}"
    return answer
