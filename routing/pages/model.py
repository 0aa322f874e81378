"""One model: its endpoints side by side, how they did, what calls of it cost, and how to call it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import NoReverseMatch, reverse
from django.utils.cache import patch_vary_headers
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from accounts import access
from accounts.core import roles
from aggregator.lib import clock
from billing import plans, prices, receipts
from routing import charts, figures, showcase, snapshot, trends
from routing.core import browsing, samples
from routing.core.listing import Listing
from routing.core.listing import Model as Listed

_PRICES_BACK = timedelta(days=180)


@require_safe
def model(request: HttpRequest, author: str, model: str) -> HttpResponse:
    listing, slug = snapshot.shown(), f"{author}/{model}"
    shown = listing.models.get(slug)
    if shown is None or slug not in listing.endpoints:
        raise Http404
    if request.htmx and not request.htmx.history_restore_request:  # type: ignore[attr-defined]
        answer = render(request, "routing/_model_history.html", _history(request, listing, slug))
        patch_vary_headers(answer, ["HX-Request"])
        return answer
    context = _offers(request, listing, shown) | _history(request, listing, slug)
    plain = samples.calls(access.api_base(), slug)
    ordered = samples.calls(access.api_base(), slug, context["order"])
    context |= {
        "shell": "base.html" if access.membership(request) else "public.html",
        "author": author,
        "released": datetime.fromtimestamp(shown.created, tz=UTC).date(),
        "samples": list(zip(plain, ordered, strict=True)),
        "related": [showcase.card(row, context["seen"]) for row in showcase.related(listing, shown)],
        "playground": _playground(slug),
        "may_make_keys": (held := access.membership(request)) is not None and held.may(roles.KEYS_OWN),
    }
    answer = render(request, "routing/model.html", context)
    patch_vary_headers(answer, ["HX-Request"])
    return answer


def _offers(request: HttpRequest, listing: Listing, shown: Listed) -> dict[str, Any]:
    """The endpoints with their prices, as the reader pays them unless the provider's own are asked for."""
    held, seen = access.membership(request), figures.published()
    markup = plans.terms_shown(held.organization_id).markup if held is not None else Decimal(0)
    bare = not markup or request.GET.get("prices") == "provider"
    added = Decimal(0) if bare else markup
    endpoints = sorted(listing.endpoints[shown.slug], key=browsing.by_price)
    return {
        "seen": seen,
        "model": shown,
        "card": showcase.card(browsing.row(listing, shown.slug, seen), seen),
        "abilities": showcase.abilities(endpoints),
        "offers": [showcase.offered(each, seen.endpoints.get(each.slug), markup=added) for each in endpoints],
        "examples": showcase.examples(endpoints, added),
        "order": list(dict.fromkeys(each.provider.slug for each in endpoints))[:2],
        "markup_percent": receipts.percent(markup) if markup else "",
        "bare": bare,
    }


def _playground(slug: str) -> str:
    """Where this model can be tried; empty while there is no such page."""
    try:
        return reverse("routing:playground") + "?" + urlencode({"model": slug})
    except NoReverseMatch:
        return ""


def _history(request: HttpRequest, listing: Listing, slug: str) -> dict[str, Any]:
    """The charts, over the span that is asked for, and what changed of the prices."""
    span = request.GET.get("span", "")
    if span not in trends.SPANS:
        span = "24h"
    endpoints = {each.slug: each.provider.name for each in listing.endpoints[slug]}
    found = trends.of(list(endpoints), span)
    return {
        "graphs": charts.of(found, endpoints),
        "left_out": found.left_out,
        "span": span,
        "spans": [(name, each.words) for name, each in trends.SPANS.items()],
        "price_changes": charts.price_changes(
            prices.changes(endpoints, clock.now() - _PRICES_BACK), endpoints
        ),
    }
