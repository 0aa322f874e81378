"""The status page: whether we are up, what troubles us, how every provider and model did for a month."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from django.db import Error as DatabaseError
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers
from django.utils.safestring import mark_safe
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe

from accounts import access
from aggregator.lib import clock, cursors, graphs, kv
from aggregator.lib.graphs import BAD, DEGRADED, GOOD, NONE
from aggregator.site.kept import kept
from billing import notices
from routing import figures, showcase, snapshot, uptimes
from routing.core.listing import Endpoint
from routing.uptimes import BY_ENDPOINT, BY_MODEL, BY_PROVIDER, DAYS, Added, Day, Uptime

NOW_SECONDS: Final = 3
BARS_SECONDS: Final = 15
"""So old may be what anybody is shown, however many ask."""
MOST: Final = 25
"""Providers or models on a page."""
_STEADY, _FAILING = 0.99, 0.95
_LATE_SECONDS, _GONE_SECONDS = 15, 60
"""After so long without a word workers are late, or taken for gone."""
_SORTS: Final = {"uptime": lambda row: row.share, "name": lambda row: row.name}


@dataclass(frozen=True, slots=True)
class Part:
    """One of the things that we are made of."""

    name: str
    state: str
    """`good`, `degraded` or `bad`."""
    words: str


@gzip_page
@require_safe
def status(request: HttpRequest) -> HttpResponse:
    htmx = request.htmx  # type: ignore[attr-defined]
    partial = bool(htmx and not htmx.history_restore_request)
    if partial and "part" in request.GET:
        answer = HttpResponse(kept("status", NOW_SECONDS, _now_shown))
    elif partial and "open" in request.GET:
        answer = render(request, "site/_status_endpoints.html", {"endpoints": _opened(request)})
    else:
        context = {
            "now": mark_safe(kept("status", NOW_SECONDS, _now_shown)),  # noqa: S308
            "uptime": mark_safe(_uptime(request.GET.dict())),  # noqa: S308
            "shell": "public.html" if access.membership(request) is None else "base.html",
        }
        answer = render(request, "site/status.html", context)
    patch_vary_headers(answer, ["HX-Request"])
    return answer


def _now_shown() -> str:
    return render_to_string("site/_status_now.html", _now())


def _uptime(asked: dict[str, str]) -> str:
    """The bars; as most people see them, they are made once for all of them."""
    make = functools.partial(_uptime_shown, asked)
    return kept(f"status:{_by(asked)}", BARS_SECONDS, make) if asked.keys() <= {"by"} else make()


def _uptime_shown(asked: dict[str, str]) -> str:
    return render_to_string("site/_status_uptime.html", _bars(asked))


def _by(asked: dict[str, str]) -> str:
    return BY_MODEL if asked.get("by") == BY_MODEL else BY_PROVIDER


def _now() -> dict[str, Any]:
    """What may change from one second to the next; what cannot be asked is told as that."""
    parts = [
        _part("Gateway", _gateways),
        _part("Database", _database),
        _part("Budgets and limits (Redis)", _gate),
        _part("Background jobs", _workers),
    ]
    states = {part.state for part in parts}
    overall = BAD if BAD in states else DEGRADED if DEGRADED in states else GOOD
    found: dict[str, Any] = {"parts": parts, "overall": overall, "at": clock.now()}
    try:
        found |= {
            "notices": notices.open_now(),
            "troubled": uptimes.troubled(uptimes.shown(snapshot.shown()), figures.published()).items(),
            "added": [
                ("the last hour", _added(uptimes.added_in_hour())),
                ("the last 24 hours", _added(uptimes.added_in_day())),
            ],
        }
    except DatabaseError:
        connection.close()
    return found


def _part(name: str, ask: Callable[[], tuple[str, str]]) -> Part:
    try:
        return Part(name, *ask())
    except (kv.Failed, DatabaseError):
        return Part(name, BAD, "does not answer")


def _gateways() -> tuple[str, str]:
    count = notices.gateways()
    if not count:
        return BAD, "no process has been heard of for two minutes"
    return GOOD, f"{count} process{'es' if count > 1 else ''} answering calls"


def _database() -> tuple[str, str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return GOOD, "answers"


def _gate() -> tuple[str, str]:
    kv.gate().ping()
    return GOOD, "answers"


def _workers() -> tuple[str, str]:
    ago = uptimes.merged_seconds_ago()
    if ago is None or ago > _GONE_SECONDS:
        return BAD, "silent: postings wait, and are not lost"
    return (DEGRADED, "slow") if ago > _LATE_SECONDS else (GOOD, "running")


def _added(found: Added | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "calls": found.calls,
        "p50": f"{found.p50_seconds * 1000:.2g}",
        "p95": f"{found.p95_seconds * 1000:.2g}",
    }


def _bars(asked: dict[str, str]) -> dict[str, Any]:
    """A row of days for each provider or model, the worst first."""
    by = _by(asked)
    endpoints = uptimes.shown(snapshot.shown())
    names = {each.provider.slug: each.provider.name for each in endpoints}
    keep = [("by", by)] if by == BY_MODEL else []
    page = cursors.placed(
        uptimes.of([each.slug for each in endpoints], by),
        asked,
        sorts=_SORTS,
        name=lambda row: row.name,
        default="uptime",
        size=MOST,
        keep=keep,
    )
    opened = asked.get("open", "")
    known = opened in (row.name for row in page.rows)
    return {
        "by": by,
        "list": page,
        "rows": [
            _row(row, names.get(row.name, row.name), number=number) for number, row in enumerate(page.rows)
        ],
        "opened": opened if known else "",
        "endpoints": _endpoints(endpoints, by, opened) if known else [],
        "first_day": uptimes.first_day(clock.now()),
    }


def _opened(request: HttpRequest) -> list[dict[str, Any]]:
    """The endpoints of one provider or model. Raises Http404."""
    by = _by(request.GET.dict())
    found = _endpoints(uptimes.shown(snapshot.shown()), by, request.GET["open"])
    if not found:
        raise Http404
    return found


def _endpoints(every: list[Endpoint], by: str, name: str) -> list[dict[str, Any]]:
    mine = [
        each.slug for each in every if name == (each.model.slug if by == BY_MODEL else each.provider.slug)
    ]
    found = sorted(uptimes.of(mine, BY_ENDPOINT), key=lambda row: (row.share is None, row.share, row.name))
    return [_row(row, row.name, number=f"{number}-of") for number, row in enumerate(found)]


def _row(row: Uptime, name: str, *, number: object) -> dict[str, Any]:
    share = row.share
    said = "nobody tried it" if share is None else showcase.percent(share)
    slots = _slots(uptimes.first_day(clock.now()).date())
    return {
        "key": row.name,
        "id": f"endpoints-{number}",
        "name": name,
        "share": said,
        "state": _state(share),
        "attempts": row.attempts,
        "today": "" if row.days[-1].share is None else showcase.percent(row.days[-1].share),
        "graph": graphs.uptime(
            f"up-{row.name}",
            [(slot, _state(day.share), _said(day)) for slot, day in zip(slots, row.days, strict=True)],
            title=f"{name}, {DAYS} days",
            words=f"{said} over {DAYS} days.",
            table=False,
        ),
    }


@functools.lru_cache(2)
def _slots(first: date) -> tuple[graphs.Slot, ...]:
    return graphs.days(first, DAYS)


def _state(share: float | None) -> str:
    if share is None:
        return NONE
    return GOOD if share >= _STEADY else DEGRADED if share >= _FAILING else BAD


def _said(day: Day) -> str:
    if day.share is None:
        return "nobody tried it"
    minutes = f", failing for {day.minutes_down} min" if day.minutes_down else ""
    return f"{showcase.percent(day.share)} of {day.up + day.down:,}{minutes}"
