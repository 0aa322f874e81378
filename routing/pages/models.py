"""The models there are, searched and filtered: what each costs, who hosts it, and how it does right now."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from accounts import access
from aggregator.lib import cursors
from aggregator.lib.cursors import Listed
from billing import plans, receipts
from routing import figures, showcase, snapshot
from routing.core import browsing
from routing.core.browsing import Filter, Row
from routing.core.listing import CLASSES

MOST: Final = 40
"""Models on a page."""
_SORTS: Final = {
    "-new": "Newest",
    "name": "Name",
    "in": "Input price",
    "out": "Output price",
    "-context": "Longest context",
    "first": "First token",
    "-pace": "Tokens a second",
    "-uptime": "Uptime",
}


@require_safe
def models(request: HttpRequest) -> HttpResponse:
    listing, seen = snapshot.shown(), figures.published()
    wanted = browsing.filters(request.GET.dict(), request.GET.getlist("can"), listing)
    found = browsing.rows(listing, seen, wanted)
    kept = [(each.name, each.value) for each in wanted]
    page = cursors.placed(
        found,
        request.GET.dict(),
        sorts=browsing.SORTS,
        name=lambda row: row.model.slug,
        default=browsing.DEFAULT_SORT,
        size=MOST,
        keep=kept,
    )
    context: dict[str, Any] = {
        "list": page,
        "cards": [showcase.card(row, seen) for row in page.rows],
        "count": len(found),
        "all": len(listing.shown()),
        "chips": [_chip(each, wanted, page) for each in wanted],
        "shell": "public.html",
    }
    if not found:
        context["excluding"] = [
            {**_chip(each, wanted, page), "count": count} for each, count in browsing.without(listing, wanted)
        ]
    htmx = request.htmx  # type: ignore[attr-defined]
    partial = htmx and not htmx.history_restore_request
    template = "routing/models.html"
    if partial:
        template = "routing/_models_rows.html" if page.first else "routing/_models.html"
    else:
        context |= _around(request, wanted, page) | _reader(request)
    answer = render(request, template, context)
    if partial and not page.first:
        answer["HX-Replace-Url"] = _address([*kept, *_sorted(page)])
    patch_vary_headers(answer, ["HX-Request"])
    return answer


def _around(request: HttpRequest, wanted: list[Filter], page: Listed[Row]) -> dict[str, Any]:
    """What only the whole page shows: the filters, filled in."""
    given = {each.name: each.value for each in wanted}
    return {
        "given": {**given, "can": [each.value for each in wanted if each.name == "can"]},
        "opened": any(each.name != "q" for each in wanted),
        "choices": browsing.choices(snapshot.shown()),
        "abilities": [(name, words) for name, words in browsing.CAN.items() if name != "vision"],
        "policies": browsing.POLICIES.items(),
        "contexts": browsing.CONTEXTS.items(),
        "classes": CLASSES,
        "sorts": _SORTS.items(),
    }


def _reader(request: HttpRequest) -> dict[str, Any]:
    held = access.membership(request)
    if held is None:
        return {}
    terms = plans.terms_shown(held.organization_id)
    return {"shell": "base.html", "markup_percent": receipts.percent(terms.markup), "plan": terms.plan}


def _chip(one: Filter, wanted: list[Filter], page: Listed[Row]) -> dict[str, Any]:
    """A filter in force, and where one gets without it."""
    others = [(each.name, each.value) for each in wanted if each is not one]
    return {"words": one.words, "href": _address([*others, *_sorted(page)])}


def _sorted(page: Listed[Row]) -> list[tuple[str, str]]:
    return [] if page.sort == browsing.DEFAULT_SORT else [("sort", page.sort)]


def _address(query: list[tuple[str, str]]) -> str:
    return reverse("routing:models") + (f"?{urlencode(query)}" if query else "")
