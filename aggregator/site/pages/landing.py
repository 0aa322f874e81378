"""The first page: what it is, how it does right now, what it would do with your call, what it costs."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.safestring import mark_safe
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe

from accounts import access, examples
from aggregator.site import migrating, samples
from aggregator.site.kept import kept
from billing import plans, published
from routing import figures, lately, snapshot

NUMBERS_SECONDS, SAMPLES_SECONDS = 10, 30
_SPARK_HEIGHT = 20


@gzip_page
@require_safe
def landing(request: HttpRequest) -> HttpResponse:
    api_base = access.api_base()
    context = {
        "examples": examples.first_call(api_base),
        "numbers": mark_safe(kept("numbers", NUMBERS_SECONDS, _numbers)),  # noqa: S308
        "samples": mark_safe(kept("samples", SAMPLES_SECONDS, _samples)),  # noqa: S308
        "migrations": migrating.changes(api_base),
        "offers": published.plans_in_force(),
        "starting_credit": settings.STARTING_CREDIT_USD,
    }
    return render(request, "site/landing.html", context)


@require_safe
def numbers(request: HttpRequest) -> HttpResponse:
    """The live part of the first page alone."""
    return HttpResponse(kept("numbers", NUMBERS_SECONDS, _numbers))


def _numbers() -> str:
    """`models`, `providers` and `endpoints` that can be called now, and what all of them did lately."""
    listing = snapshot.shown()
    seen = lately.seen(listing.unshown_endpoint_slugs())
    every = listing.shown_endpoints()
    most = max(seen.hours)
    context = {
        "models": len(listing.shown()),
        "providers": len({endpoint.provider.name for endpoint in every}),
        "endpoints": len(every),
        "lately": seen,
        "ttft_ms": None if seen.ttft_seconds is None else round(seen.ttft_seconds * 1000),
        "success": None if seen.success is None else int(seen.success * 1000) / 10,  # never rounded up
        "bars": [
            (at * 4, _SPARK_HEIGHT - height, height)
            for at, count in enumerate(seen.hours)
            if (height := 1 + round((_SPARK_HEIGHT - 1) * count / most) if most else 0)
        ],
    }
    return render_to_string("site/_numbers.html", context)


def _samples() -> str:
    markup = plans.current(plans.FREE).markup
    found = None
    if markup is not None:
        found = samples.of(snapshot.shown(), figures.published(), markup=markup)
    return render_to_string("site/_samples.html", {"samples": found})
