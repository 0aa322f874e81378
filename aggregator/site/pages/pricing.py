"""What it costs: the plans, and a calculator on real models whose address can be shared."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe

from aggregator.site import calculator
from billing import published
from routing import snapshot


@gzip_page
@require_safe
def pricing(request: HttpRequest) -> HttpResponse:
    """`?model=&endpoint=&in=&cached=&out=&requests=`, each once for every kind of request."""
    listing = snapshot.shown()
    found = calculator.of(listing, request.GET)
    address = f"{reverse('site:pricing')}?{found.query}"
    context = {
        "found": found,
        "share": f"{settings.PUBLIC_URL}{address}#calculator",
        "may_add": len(found.rows) < calculator.MOST_ROWS,
    }
    htmx = request.htmx  # type: ignore[attr-defined]
    if htmx and not htmx.history_restore_request:
        answer = render(request, "site/_calculator.html", context)
        answer.headers["HX-Push-Url"] = address
    else:
        more = {"offers": published.plans_in_force(), "models": sorted(listing.endpoints)}
        answer = render(request, "site/pricing.html", context | more)
    patch_vary_headers(answer, ["HX-Request"])
    return answer
