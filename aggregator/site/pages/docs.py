"""How to use it: the documentation's pages, and the reference made of the API's description."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts import access
from accounts.webhooks import events
from aggregator.site import library, moving, reference
from aggregator.site.openapi.errors import ERRORS
from aggregator.site.openapi.examples import ERROR
from routing import snapshot
from routing.core import auto


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    return _shown(request, "")


@require_safe
def doc(request: HttpRequest, slug: str) -> HttpResponse:
    if slug not in library.BY_SLUG:
        raise Http404
    return _shown(request, slug)


def _shown(request: HttpRequest, slug: str) -> HttpResponse:
    before, after = library.around(slug)
    context = {
        "docs": library.DOCS,
        "doc": library.BY_SLUG[slug],
        "before": before,
        "after": after,
        "api_base": access.api_base(),
        "samples_of": library.SAMPLES,
        "languages": library.LANGUAGES,
        "shell": "public.html" if access.membership(request) is None else "base.html",
        **_models(),
        **_OF_PAGE.get(slug, dict)(),
    }
    return render(request, f"site/docs/{slug or 'start'}.html", context)


def _models() -> dict[str, str]:
    """Models for the examples that can be called here and now."""
    listing = snapshot.shown()
    pool = [slug for slug in sorted(auto.pool(listing)) if slug in listing.endpoints]
    first, second, third, *_ = (*pool, *_USUAL)
    return {"first": first, "second": second, "third": third, "author": first.partition("/")[0]}


def _errors() -> dict[str, Any]:
    return {"errors": ERRORS, "error_example": reference.pretty(ERROR)}


def _billing() -> dict[str, Any]:
    return {"receipt": library.receipt(), "free_loss": settings.FREE_LOSS_PER_DAY_USD}


def _moving() -> dict[str, Any]:
    return {"maps": moving.MAPS, "diffs": moving.diffs(access.api_base())}


def _webhooks() -> dict[str, Any]:
    name = "budget.threshold_reached"
    message = {"type": name, "timestamp": "2026-11-23T12:00:00Z", "data": dict(events.TYPES[name].example)}
    return {
        "event_types": events.TYPES.items(),
        "event_example": reference.pretty(message),
        "webhook_days": settings.WEBHOOK_DAYS_KEPT,
        "webhook_ports": " or ".join(settings.EGRESS_PORTS),
    }


def _reference() -> dict[str, Any]:
    return {"reference": reference.of(access.api_base())}


_USUAL: Final = ("author/model", "author/another", "author/a-third")
_OF_PAGE: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "errors": _errors,
    "billing": _billing,
    "migration": _moving,
    "reference": _reference,
    "webhooks": _webhooks,
}
