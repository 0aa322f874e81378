"""The calls of an organization, and one call."""

from __future__ import annotations

import csv
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Final, cast

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseClientRedirect

from accounts import access, examples
from accounts.access import MemberRequest, SeenKey
from accounts.core import roles
from aggregator.lib import clock, ids
from aggregator.lib.errors import Refusal
from billing import calls, otherwise, receipts, recompute, statements
from billing.core import generation
from billing.otherwise import Otherwise
from billing.statements import Call
from routing import request_logs
from routing.core import auto, picture
from routing.core.chat import PREFERENCES
from routing.pages import ending, filters
from routing.pages.addresses import address

_PAGE: Final = 25
_CHOICE_DAYS: Final = 90
_LINES: Final = 500
_WAIT_SECONDS: Final = 0.5
_RECENT_SECONDS: Final = 5
_AGAIN: Final = """\
import decimal, json, sys
decimal.getcontext().prec = 60
call = json.load(sys.stdin)["data"]
base = sum(decimal.Decimal(nanos) for kind, units, nanos in call["parts"])
total = base * (1 + decimal.Decimal(call["markup"]))
computed = total.quantize(1, "ROUND_HALF_EVEN")
print(computed, "computed,", call["cost_nanos"], "charged")
"""


@require_safe
@never_cache
@access.member(roles.KEYS_OWN)
def activity_list(request: MemberRequest) -> HttpResponse:
    """The calls, filtered and in order; by htmx the list alone, and its further rows."""
    sought = _sought(request.GET.get("q", ""))
    if sought is not None:
        place = reverse("routing:call", args=[generation.public_id(sought)])
        return HttpResponseClientRedirect(place) if _is_part(request) else redirect(place)
    keys, asked = _filters(request)
    found = calls.page(
        request.membership.organization_id, asked.wanted, request.GET, size=_PAGE, keep=asked.said
    )
    continues = bool(found.listed.first)
    context = {
        "calls": [_row(call) for call in found.calls],
        "list": found.listed,
        "reach": found.reach,
        "wanted": asked.said,
        "filtered": asked.any,
        "more_filters": asked.any_more,
        "none_yet": not found.calls and not continues and not asked.any,
        "new": _new_address(found, asked) if not continues else "",
        "export": address("routing:activity_export", **asked.said),
    }
    if _is_part(request):
        answer = render(request, "routing/_rows.html" if continues else "routing/_calls.html", context)
    else:
        answer = render(request, "routing/activity.html", {**context, **_choices(request, keys, asked)})
    patch_vary_headers(answer, ["HX-Request"])
    return answer


@require_safe
@never_cache
@access.member(roles.KEYS_OWN)
def activity_new(request: MemberRequest) -> HttpResponse:
    """How many calls of the list came after `?since=`, as a button that shows them; 204 for none."""
    since = generation.parse_public_id(request.GET.get("since", ""))
    _, asked = _filters(request)
    count = 0
    if since is not None:
        count = calls.count_since(request.membership.organization_id, asked.wanted, since)
    if not count:
        return HttpResponse(status=204)
    context = {
        "count": min(count, calls.MOST_NEW),
        "over": count > calls.MOST_NEW,
        "address": address("routing:activity", **asked.said),
        "new": f"{reverse('routing:activity_new')}?{request.GET.urlencode()}",
    }
    return render(request, "routing/_new_calls.html", context)


@require_safe
@never_cache
@access.member(roles.KEYS_OWN)
def activity_export(request: MemberRequest) -> HttpResponse:
    """The filtered list as CSV, the newest `calls.MOST_EXPORTED` of it, sent as it is read."""
    _, asked = _filters(request)
    write = csv.writer(_Echo()).writerow
    lines = (write(line) for line in calls.export(request.membership.organization_id, asked.wanted))
    served_async = isinstance(request, ASGIRequest)
    answer = StreamingHttpResponse(
        _apart(lines) if served_async else lines, content_type="text/csv; charset=utf-8"
    )
    answer["Content-Disposition"] = f'attachment; filename="fairlead-calls-{clock.now():%Y-%m-%d}.csv"'
    return cast(HttpResponse, answer)


async def _apart(lines: Iterator[str]) -> AsyncIterator[str]:
    """Some lines at a time, read in a thread where a query may wait."""
    while some := await sync_to_async(lambda: "".join(itertools.islice(lines, _LINES)))():
        yield some


class _Echo:
    """What the CSV writer writes to: it gives each line back."""

    def write(self, line: str) -> str:
        return line


@require_safe
@never_cache
@access.member(roles.KEYS_OWN)
def call(request: MemberRequest, generation_id: str) -> HttpResponse:
    """One call: why it went where it went, its price written out and computed again, and what else it might
    have cost.
    """
    try:
        found = _find(request, generation_id)
    except Refusal as refusal:
        context = {"says": refusal.message}
        return render(request, "routing/call_not_kept.html", context, status=refusal.status)
    organization_id = request.membership.organization_id
    again = recompute.again(organization_id, found.id)
    return render(
        request,
        "routing/call.html",
        {
            **_row(found),
            "receipt": receipts.of(found),
            "again": again,
            "otherwise": _otherwise(found, again),
            "because": ending.because(found),
            "has_log": request_logs.is_kept(organization_id, found.id),
            "picture": picture.of(found.decision, status=found.status, seconds=found.latency_ms / 1000),
            "curl": _curl(found),
            "generating_ms": None if found.ttft_ms is None else found.latency_ms - found.ttft_ms,
        },
    )


def _filters(request: MemberRequest) -> tuple[list[SeenKey], filters.Filters]:
    keys = access.keys_seen(request.membership)
    sees_all = request.membership.may(roles.ACTIVITY_ALL)
    return keys, filters.read(request.GET, keys, all_keys=sees_all)


def _new_address(found: calls.Page, asked: filters.Filters) -> str:
    """Where to ask for what came after the first of a list of the newest."""
    if found.listed.sort != calls.NEWEST or not found.calls:
        return ""
    return address("routing:activity_new", **asked.said, since=found.calls[0].public_id)


def _sought(text: str) -> uuid.UUID | None:
    """The call whose id was typed into the search, with or without what our ids begin with."""
    bare = text.strip().removeprefix(generation.PREFIX).replace("-", "")
    return generation.parse_public_id(f"{generation.PREFIX}{bare}")


def _is_part(request: MemberRequest) -> bool:
    htmx = request.htmx  # type: ignore[attr-defined]
    return bool(htmx and not htmx.history_restore_request)


def _row(call: Call) -> dict[str, object]:
    return {
        "call": call,
        "why": picture.why(call.decision, status=call.status),
        "error": call.error_type.replace("_", " "),
    }


def _key_ids(request: MemberRequest, keys: list[SeenKey]) -> list[int] | None:
    """None where the role sees the calls of every key."""
    return None if request.membership.may(roles.ACTIVITY_ALL) else [key.id for key in keys]


def _choices(request: MemberRequest, keys: list[SeenKey], asked: filters.Filters) -> dict[str, object]:
    """What only the whole page shows: the filters."""
    key_ids = _key_ids(request, keys)
    models, endpoints = calls.names_used(
        request.membership.organization_id, days=_CHOICE_DAYS, key_ids=key_ids
    )
    return {
        "keys": keys,
        "models": sorted({auto.AUTO, *models, asked.said["model"]} - {""}),
        "endpoints": sorted({*endpoints, asked.said["endpoint"]} - {""}),
        "statuses": calls.STATUSES,
        "preferences": PREFERENCES,
        "yes_or_no": ("yes", "no"),
        "own_only": key_ids is not None,
        "curl": examples.curl(access.api_base(), "$FAIRLEAD_API_KEY"),
    }


def _find(request: MemberRequest, public_id: str) -> Call:
    """A call that this member may see, or 404. One that ended this instant is on its way from the spool.

    Raises Refusal where calls of its month are not kept any more.
    """
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
        statements.refuse_not_kept(wanted)
        raise Http404
    if not held.may(roles.ACTIVITY_ALL) and found.key not in {
        key.public_id for key in access.keys_seen(held)
    }:
        raise Http404
    return found


def _otherwise(found: Call, again: recompute.Again) -> Otherwise | None:
    """None where nothing was to be paid, so that nothing compares."""
    price, made = again.price, again.charge
    if price is None or made is None or not made.parts or found.status not in generation.CHARGED:
        return None
    among = {each["endpoint"] for each in found.decision.get("candidates", ())}
    return otherwise.of(again.usage, price, made, served=found.endpoint, among=among, at=found.admitted_at)


def _curl(found: Call) -> str:
    """The same receipt by API, and its charge by anybody's own arithmetic."""
    return (
        f'curl -s "{access.api_base()}/generation?id={found.public_id}" \\\n'
        '  -H "Authorization: Bearer $FAIRLEAD_API_KEY" | python3 -c \'\n'
        f"{_AGAIN}'"
    )


def _is_recent(wanted: uuid.UUID) -> bool:
    return abs((clock.now() - ids.uuid7_time(wanted)).total_seconds()) < _RECENT_SECONDS
