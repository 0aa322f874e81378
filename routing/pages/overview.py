"""How it goes: spend, requests, tokens, latency, savings and failures of a period, and what to look at."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts import access, examples
from accounts.access import MemberRequest, SeenKey
from accounts.core import roles
from aggregator.lib import clock
from billing import overview as money
from billing import plans, receipts, spans
from routing import overview
from routing.core import periods
from routing.overview import Overview, Seen
from routing.pages.addresses import address


@require_safe
@never_cache
@access.member(roles.KEYS_OWN)
def show(request: MemberRequest) -> HttpResponse:
    """`?period=` one of `periods.NAMES`. By htmx the body alone; 204 while it is as `?seen=` says."""
    held = request.membership
    period = periods.of(request.GET.get("period", ""), clock.now())
    keys = access.keys_seen(held)
    sees_all = held.may(roles.ACTIVITY_ALL)
    header = money.header(held.organization_id)
    seen = overview.of(
        held.organization_id,
        period,
        [Seen(key.id, key.public_id, key.name, key.made_by) for key in keys],
        all_keys=sees_all,
        balance_nanos=header.left_nanos,
    )
    stamp = f"{seen.total.requests}.{seen.total.charge_nanos}.{header.left_nanos}.{period.now.until:%d%H}"
    part = _is_part(request)
    if part and request.GET.get("seen") == stamp:
        answer = HttpResponse(status=204)
    else:
        context = {
            "seen": seen,
            "period": period,
            "periods": periods.NAMES.items(),
            "stamp": stamp,
            "own_only": not sees_all,
            "groups": [_group(group, period) for group in seen.groups],
            "movers": [(mover, _activity(mover.filter, period)) for mover in seen.movers],
            "failed": address("routing:activity", status="failed", **{"from": period.since}),
            "calls": address("routing:activity", **{"from": period.since}),
            **_standing(request, header, seen, keys),
            **({} if seen.total.requests else _empty(request, keys, sees_all=sees_all)),
        }
        answer = render(request, "routing/_overview.html" if part else "routing/overview.html", context)
    patch_vary_headers(answer, ["HX-Request"])
    return answer


def _group(group: overview.Group, period: periods.Period) -> dict[str, Any]:
    return {"group": group, "lines": [(line, _activity(line.filter, period)) for line in group.lines]}


def _activity(wanted: tuple[str, str] | None, period: periods.Period) -> str:
    """The calls behind a line; empty where the activity has no such filter."""
    if wanted is None:
        return ""
    return address("routing:activity", **{wanted[0]: wanted[1], "from": period.since})


def _standing(
    request: MemberRequest, header: money.Header, seen: Overview, keys: list[SeenKey]
) -> dict[str, Any]:
    """Credit, plan and budgets, and what there is to do about them."""
    held = request.membership
    near = spans.near_limit(held.organization_id, [key.id for key in keys if not key.deleted], at=clock.now())
    terms = plans.terms_shown(held.organization_id)
    return {
        "left_nanos": header.left_nanos,
        "frozen": header.frozen_because,
        "is_past_due": header.is_past_due,
        "days_left": seen.days_left,
        "is_low": seen.days_left is not None and seen.days_left < 3,
        "near": near,
        "plan": terms.plan,
        "markup_percent": receipts.percent(terms.markup),
        "postpaid": terms.postpaid,
    }


def _empty(request: MemberRequest, keys: list[SeenKey], *, sees_all: bool) -> dict[str, Any]:
    """What a page without a call in its period says."""
    key_ids = None if sees_all else [key.id for key in keys]
    return {
        "never": not spans.any_call(request.membership.organization_id, key_ids=key_ids),
        "curl": examples.curl(access.api_base(), "$FAIRLEAD_API_KEY"),
        "start": reverse("routing:start"),
    }


def _is_part(request: MemberRequest) -> bool:
    htmx = request.htmx  # type: ignore[attr-defined]
    return bool(htmx and not htmx.history_restore_request)
