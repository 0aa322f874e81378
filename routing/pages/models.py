"""The models there are, who hosts them, and how each endpoint does."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from accounts import access
from billing import plans, receipts
from routing import figures, showcase, snapshot
from routing.pages.addresses import address, whole


@require_safe
def models(request: HttpRequest) -> HttpResponse:
    query = request.GET.get("q", "")[:100]
    pool = request.GET.get("pool") == "auto"
    start = whole(request.GET.get("from", ""))
    held = access.membership(request)
    found = showcase.page(snapshot.read(), figures.published(), query=query, pool=pool, start=start)
    wanted = {"q": query, "pool": "auto" if pool else ""}
    context = {
        "page": found,
        "more": ""
        if found.more is None
        else address("routing:models", **wanted, **{"from": str(found.more)}),
        "first": address("routing:models", **wanted) if start else "",
        "query": query,
        "pool": pool,
        "shell": "public.html" if held is None else "base.html",
    }
    if held is not None:
        terms = plans.terms(held.organization_id)
        context |= {
            "markup_percent": receipts.percent(terms.markup),
            "plan": terms.plan,
        }
    htmx = request.htmx  # type: ignore[attr-defined]
    template = "routing/models.html"
    if htmx and not htmx.history_restore_request:
        template = "routing/_models_rows.html" if start else "routing/_models.html"
    answer = render(request, template, context)
    patch_vary_headers(answer, ["HX-Request"])
    return answer
