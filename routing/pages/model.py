"""One model: its endpoints side by side, how they did, what calls of it cost, and how to call it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import NoReverseMatch, reverse
from django.utils.cache import patch_vary_headers
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from accounts import access, roles
from billing import plans, receipts
from routing import browsing, figures, samples, showcase, snapshot
from routing.listing import Listing
from routing.listing import Model as Listed


@require_safe
def model(request: HttpRequest, author: str, model: str) -> HttpResponse:
    listing, slug = snapshot.shown(), f"{author}/{model}"
    shown = listing.models.get(slug)
    if shown is None or slug not in listing.endpoints:
        raise Http404
    context = _offers(request, listing, shown)
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
    markup = plans.terms(held.organization_id).markup if held is not None else Decimal(0)
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
