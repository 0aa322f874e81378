"""The playground: a page that calls the API as any program does, with a key of fifteen minutes."""

from __future__ import annotations

from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts import access, examples, playground
from accounts.access import MemberRequest
from accounts.core import limits, roles
from aggregator.lib.errors import Refusal
from billing import plans
from routing import first_steps, snapshot


@require_safe
@never_cache
@access.member(roles.KEYS_OWN)
def page(request: MemberRequest) -> HttpResponse:
    held = request.membership
    limit = playground.limit_of(held)
    return render(
        request,
        "routing/playground.html",
        {
            "means": first_steps.means(held.organization_id, snapshot.shown),
            "markup": format(plans.terms_shown(held.organization_id).markup, "f"),
            "limit": "" if limit is None else limits.usd(limit),
            "wanted": request.GET.get("model", "")[:200],
            "curl": examples.curl(access.api_base(), "$FAIRLEAD_API_KEY"),
        },
    )


@require_POST
@never_cache
@access.member(roles.KEYS_OWN)
def session(request: MemberRequest) -> HttpResponse:
    """`{key, seconds}`: a key's text for the page's memory, and how long it works. 429 with `{error}`."""
    try:
        made = playground.open_session(request.membership)
    except Refusal as refusal:
        return _refuse(refusal)
    return JsonResponse({"key": made.text, "seconds": int(playground.LASTS.total_seconds())})


@require_POST
@never_cache
@access.member(roles.KEYS_OWN)
def limit(request: MemberRequest) -> HttpResponse:
    """Take `limit`, dollars a day; empty is none of its own. Answers `{limit}`, or 422 with `{error}`."""
    typed = request.POST.get("limit", "").strip().removeprefix("$")
    try:
        nanos = limits.nanos(typed) if typed else None
        playground.set_limit(request.membership, nanos)
    except ValueError as error:
        return _refuse(Refusal("invalid_request", f"The limit {error}.", status=422, param="limit"))
    return JsonResponse({"limit": "" if nanos is None else limits.usd(nanos)})


def _refuse(refusal: Refusal) -> HttpResponse:
    answer = JsonResponse(refusal.as_body(), status=refusal.status)
    if refusal.retry_after is not None:
        answer["Retry-After"] = str(refusal.retry_after)
    return answer
