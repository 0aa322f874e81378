"""The calls of an organization, and one call."""

from __future__ import annotations

import time
import uuid
from typing import Final

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts import access, examples, roles
from accounts.access import MemberRequest, SeenKey
from aggregator.lib import clock, ids
from billing import generation, receipts, statements
from billing.statements import Call
from routing import activity, auto, picture
from routing.pages.addresses import address

_PAGE: Final = 25
_STATUSES: Final = (generation.COMPLETED, generation.ABORTED, generation.FAILED, generation.VOID)
_WAIT_SECONDS: Final = 0.5
_RECENT_SECONDS: Final = 5


@require_safe
@never_cache
@access.member(roles.KEYS_OWN)
def activity_list(request: MemberRequest) -> HttpResponse:
    keys = access.keys_seen(request.membership)
    wanted = {name: request.GET.get(name, "")[:200] for name in ("key", "model", "status")}
    if wanted["status"] not in _STATUSES:
        wanted["status"] = ""
    before = generation.parse_public_id(request.GET.get("before", ""))
    calls = list(_calls(request, keys, wanted, before))
    older = ""
    if len(calls) > _PAGE:
        calls = calls[:_PAGE]
        older = address("routing:activity", **wanted, before=calls[-1].public_id)
    context = {
        "calls": [_row(call) for call in calls],
        "older": older,
        "wanted": wanted,
        "none_yet": not calls and before is None and not any(wanted.values()),
        "newest": address("routing:activity", **wanted) if before is not None else "",
    }
    htmx = request.htmx  # type: ignore[attr-defined]
    if htmx and not htmx.history_restore_request:
        continues = before is not None
        answer = render(request, "routing/_rows.html" if continues else "routing/_calls.html", context)
    else:
        answer = render(request, "routing/activity.html", {**context, **_above(request, keys, wanted)})
    patch_vary_headers(answer, ["HX-Request"])
    return answer


@require_safe
@never_cache
@access.member(roles.KEYS_OWN)
def call(request: MemberRequest, generation_id: str) -> HttpResponse:
    found = _find(request, generation_id)
    return render(
        request,
        "routing/call.html",
        {
            **_row(found),
            "receipt": receipts.of(found),
            "picture": picture.of(found.decision, status=found.status, seconds=found.latency_ms / 1000),
            "curl": _curl(found),
            "generating_ms": None if found.ttft_ms is None else found.latency_ms - found.ttft_ms,
        },
    )


def _calls(
    request: MemberRequest, keys: list[SeenKey], wanted: dict[str, str], before: uuid.UUID | None
) -> list[Call]:
    """One more than a page holds, so that it shows whether there is another."""
    key_ids = _key_ids(request, keys)
    if wanted["key"]:
        key_ids = [key.id for key in keys if key.public_id == wanted["key"]]
    return list(
        statements.calls(
            request.membership.organization_id,
            limit=_PAGE + 1,
            before=before,
            key_ids=key_ids,
            model=wanted["model"],
            status=wanted["status"],
        )
    )


def _row(call: Call) -> dict[str, object]:
    return {
        "call": call,
        "why": picture.why(call.decision, status=call.status),
        "error": call.error_type.replace("_", " "),
    }


def _key_ids(request: MemberRequest, keys: list[SeenKey]) -> list[int] | None:
    """None where the role sees the calls of every key."""
    return None if request.membership.may(roles.ACTIVITY_ALL) else [key.id for key in keys]


def _above(request: MemberRequest, keys: list[SeenKey], wanted: dict[str, str]) -> dict[str, object]:
    """What only the whole page shows: figures, chart, filters."""
    organization_id = request.membership.organization_id
    key_ids = _key_ids(request, keys)
    used = activity.models_used(organization_id, key_ids=key_ids)
    named = {wanted["model"]} - {""}
    return {
        "keys": keys,
        "models": sorted({auto.AUTO, *used, *named}),
        "statuses": _STATUSES,
        "own_only": key_ids is not None,
        "curl": examples.curl(access.api_base(), "$FAIRLEAD_API_KEY"),
    }


def _find(request: MemberRequest, public_id: str) -> Call:
    """A call that this member may see, or 404. One that ended this instant is on its way from the spool."""
    wanted = generation.parse_public_id(public_id)
    if wanted is None:
        raise Http404
    held = request.membership
    until = time.monotonic() + _WAIT_SECONDS
    found = statements.find_call(held.organization_id, wanted)
    while found is None and _is_recent(wanted) and time.monotonic() < until:
        time.sleep(0.05)
        found = statements.find_call(held.organization_id, wanted)
    if found is None:
        raise Http404
    if not held.may(roles.ACTIVITY_ALL) and found.key not in {
        key.public_id for key in access.keys_seen(held)
    }:
        raise Http404
    return found


def _curl(found: Call) -> str:
    """The same receipt by API."""
    return (
        f'curl "{access.api_base()}/generation?id={found.public_id}" \\\n'
        '  -H "Authorization: Bearer $FAIRLEAD_API_KEY"'
    )


def _is_recent(wanted: uuid.UUID) -> bool:
    return abs((clock.now() - ids.uuid7_time(wanted)).total_seconds()) < _RECENT_SECONDS
