"""Request logging: its rules, one call's log, and deleting with evidence."""

from __future__ import annotations

import json
import uuid
from typing import Any, Final

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts import access, log_keys, privacy
from accounts.access import MemberRequest
from accounts.core import roles
from accounts.pages.form import form_page, show
from aggregator.lib import seal
from aggregator.lib.errors import Refusal
from billing import statements
from billing.core import generation
from routing import request_logs
from routing.core import transcript
from routing.forms import DestroyForm, LogRulesForm, PeriodForm
from routing.models import LogDeletion

_RECORDS: Final = 50
_UNREADABLE: Final = "This log cannot be opened: its key is not at hand."


@form_page
@never_cache
@access.member(roles.KEYS_OWN)
def rules(request: MemberRequest) -> HttpResponse:
    """Whether calls are logged, and how. Every member sees it; who may, changes it."""
    may_edit = request.membership.may(roles.PRIVACY)
    if request.method == "POST" and not may_edit:
        raise PermissionDenied
    before = privacy.log_rules(request.membership.organization_id)
    form = LogRulesForm(request.POST or None, rules=before, keys=access.keys_seen(request.membership))
    if form.is_bound and form.is_valid():
        try:
            changed = privacy.set_logging(request.membership.organization, form.rules(), by=request.user)
        except Refusal as refusal:
            form.add_error(None, refusal.message)
        else:
            if changed:
                said = "changed" if before.on else "on, from the next call on"
                messages.success(request, f"Request logging is {said}.")
            return redirect("accounts:request_logs")
    return _page(request, form=form)


@require_POST
@access.member(roles.PRIVACY)
def switch_off(request: MemberRequest) -> HttpResponse:
    privacy.switch_logging_off(request.membership.organization_id, by=request.user)
    messages.success(
        request,
        "Request logging is off. What was logged stays until its days are over; delete it below if it should "
        "not.",
    )
    return redirect("accounts:request_logs")


@require_POST
@access.member(roles.PRIVACY)
def delete_period(request: MemberRequest) -> HttpResponse:
    form = PeriodForm(request.POST)
    if not form.is_valid():
        return _page(request, period=form)
    since, until = form.bounds()
    record = request_logs.delete_period(request.membership.organization, since, until, by=request.user)
    messages.success(request, f"{record.rows} logged calls are deleted. The record of it is below.")
    return redirect("accounts:request_logs")


@require_POST
@access.member(roles.PRIVACY)
def destroy(request: MemberRequest) -> HttpResponse:
    organization = request.membership.organization
    form = DestroyForm(request.POST, expected=organization.name)
    if not form.is_valid():
        return _page(request, confirm=form)
    record = request_logs.delete_everything(organization, by=request.user)
    messages.success(
        request,
        f"Everything is deleted: {record.rows} logged calls, and the key that opened them. Logging is off.",
    )
    return redirect("accounts:request_logs")


@require_safe
@never_cache
@access.member(roles.PRIVACY)
def evidence(request: MemberRequest, deletion: str) -> HttpResponse:
    """A deletion's record, to be kept elsewhere."""
    organization = request.membership.organization
    record = LogDeletion.objects.of(organization).filter(public_id=deletion).first()
    if record is None:
        raise Http404
    text = json.dumps(request_logs.as_evidence(record, organization), indent=2) + "\n"
    headers = {"Content-Disposition": f'attachment; filename="deletion-{record.public_id}.json"'}
    return HttpResponse(text, content_type="application/json", headers=headers)


@require_safe
@never_cache
@access.member(roles.KEYS_OWN)
def one(request: MemberRequest, generation_id: str) -> HttpResponse:
    """What was logged of a call. Each opening is in the audit log."""
    found, call_id = _call(request, generation_id)
    content, problem = None, ""
    try:
        content = request_logs.read(request.membership.organization, call_id, by=request.user)
    except (log_keys.KeyLost, seal.Unopened):
        problem = _UNREADABLE
    return render(
        request,
        "routing/request_log.html",
        {
            "call": found,
            "content": content,
            "sides": () if content is None else transcript.sides(content),
            "problem": problem,
            "rules": privacy.log_rules(request.membership.organization_id),
            "may_delete": request.membership.may(roles.PRIVACY),
        },
        status=503 if problem else 200,
    )


@require_POST
@access.member(roles.PRIVACY)
def delete_one(request: MemberRequest, generation_id: str) -> HttpResponse:
    _, call_id = _call(request, generation_id)
    if request_logs.delete_one(request.membership.organization, call_id, by=request.user) is None:
        messages.info(request, "Nothing is kept of this call.")
    else:
        messages.success(request, "The log of this call is deleted.")
    return redirect("routing:call", generation_id)


def _page(request: MemberRequest, **forms: Any) -> HttpResponse:
    """The page of rules, with the forms as they were filled in."""
    held = request.membership
    current = privacy.log_rules(held.organization_id)
    forms.setdefault("form", LogRulesForm(rules=current, keys=access.keys_seen(held)))
    forms.setdefault("period", PeriodForm())
    forms.setdefault("confirm", DestroyForm(expected=held.organization.name))
    bound = next((form for form in forms.values() if form.is_bound), forms["form"])
    context = {
        **forms,
        "may_edit": held.may(roles.PRIVACY),
        "available": log_keys.available(),
        "rules": current,
        "newest": privacy.newest_logging(held.organization_id),
        "log_key": log_keys.living(held.organization_id),
        "kept": request_logs.summary(held.organization_id),
        "lost": request_logs.lost(held.organization_id),
        "deletions": LogDeletion.objects.of(held.organization_id).order_by("-id")[:_RECORDS],
    }
    form = context.pop("form")
    answer = show(request, "routing/request_logs.html", form, **context)
    if bound.is_bound and not bound.is_valid():
        answer.status_code = 422
    return answer


def _call(request: MemberRequest, public_id: str) -> tuple[statements.Call, uuid.UUID]:
    """A call that this member may see, or 404."""
    wanted, held = generation.parse_public_id(public_id), request.membership
    found = None if wanted is None else statements.find_call(held.organization_id, wanted)
    if wanted is None or found is None:
        raise Http404
    own = None if held.may(roles.ACTIVITY_ALL) else {key.public_id for key in access.keys_seen(held)}
    if own is not None and found.key not in own:
        raise Http404
    return found, wanted
