"""Privacy: which providers may see what the organization sends."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from accounts import access
from accounts import privacy as rules
from accounts.access import MemberRequest
from accounts.core import roles
from accounts.core.principal import DataPolicy
from accounts.pages.form import form_page, show
from routing import snapshot
from routing.core import reach
from routing.forms import DataPolicyForm


@form_page
@never_cache
@access.member(roles.KEYS_OWN)
def privacy(request: MemberRequest) -> HttpResponse:
    """The data policy. Posted with `act=look`, it is shown what it would leave, and nothing is saved."""
    held = request.membership
    may_edit = held.may(roles.PRIVACY)
    if request.method == "POST" and not may_edit:
        raise PermissionDenied
    listing, before = snapshot.shown(), rules.policy(held.organization_id) or DataPolicy()
    hosts = reach.hosts(listing)
    form = DataPolicyForm(request.POST or None, policy=before, hosts=hosts)
    wanted = form.policy() if form.is_bound and form.is_valid() else before
    left = reach.of(listing, wanted, before=before)
    looks = request.POST.get("act") == "look"
    if form.is_bound and form.is_valid() and not looks:
        if left.endpoints:
            return _save(request, wanted)
        form.add_error(None, "This leaves no endpoint at all: no call could be made. Nothing was saved.")
    if looks and request.htmx:  # type: ignore[attr-defined]
        return render(request, "routing/_reach.html", {"reach": left, "changes": wanted != before})
    return show(
        request,
        "routing/privacy.html",
        form,
        may_edit=may_edit,
        reach=left,
        changes=wanted != before,
        hosts=_rows(form, hosts),
        newest=rules.newest_policy(held.organization_id),
    )


def _save(request: MemberRequest, wanted: DataPolicy) -> HttpResponse:
    if rules.set_policy(request.membership.organization, wanted, by=request.user):
        messages.success(request, "The data policy is changed. It is in force from the next call on.")
    else:
        messages.info(request, "Nothing was changed: this is the data policy in force.")
    return redirect("accounts:privacy")


def _rows(form: DataPolicyForm, hosts: list[reach.Host]) -> list[dict[str, Any]]:
    boxes = {str(box.data["value"]): box.data.get("selected", False) for box in form["providers"]}
    return [
        {"host": host, "ticked": boxes[host.slug], "policy": reach.WORDS[host.data_policy]} for host in hosts
    ]
