"""The usage page: what was used, told by whatever one asks for, as a graph, a table and a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts import access
from accounts.access import MemberRequest, SeenKey
from accounts.core import roles
from aggregator.lib import clock, spreadsheets
from aggregator.lib.cursors import Listed
from aggregator.lib.numbers import percent
from billing.core.money import usd
from billing.explorer import answering, asking, viewing
from billing.explorer.answering import Answer, Figures, Line
from billing.explorer.courses import Course
from billing.explorer.viewing import View
from billing.pages.shell import address

_HEADS = (
    *("requests", "failed", "aborted", "prompt_tokens", "cached_tokens", "cache_write_tokens"),
    *("completion_tokens", "reasoning_tokens", "base_usd", "markup_usd", "charge_usd", "cache_savings_usd"),
)

_OF_CALLS = ("model", "endpoint", "provider", "key")
"""What the activity can be narrowed to."""


@require_safe
@never_cache
@access.member(roles.KEYS_OWN)
def show(request: MemberRequest) -> HttpResponse:
    """By htmx what the filters change, or further lines alone. 422 for a time that is not told."""
    keys = access.keys_seen(request.membership)
    sees_all = request.membership.may(roles.ACTIVITY_ALL)
    view = viewing.read(request.GET, clock.now(), sees_all=sees_all)
    key_ids = None if sees_all else [key.id for key in keys]
    found, view = _answer(request, view, key_ids)
    names = {key.public_id: key.name for key in keys}
    context = {
        **_table(view, found, names),
        "view": view,
        "metrics": viewing.METRICS.items(),
        "total": found.total,
        "periods": viewing.PERIODS.items(),
        "metric_links": [
            (name, words, _here(view, metric=name, sort="")) for name, words in viewing.METRICS.items()
        ],
        "kept": [
            (_named(name, value, names), _here(view, **{name: ""})) for name, value in view.filters.items()
        ],
        "own_only": not sees_all,
        "export": address("billing:usage_csv", **view.said),
        "export_times": address("billing:usage_csv", **view.said, over="time")
        if view.by != viewing.TIME
        else "",
        "calls": _calls(view, {}),
    }
    status = 422 if view.refused else 200
    part = _is_part(request)
    if part and view.question.after is not None:
        answer = render(request, "billing/_usage_rows.html", context)
    else:
        if found.total.requests:
            context["graph"] = viewing.graph(view, found, names)
        if not part:
            context |= _choices(request, view, keys, key_ids, sees_all=sees_all)
        answer = render(
            request, "billing/_usage.html" if part else "billing/usage.html", context, status=status
        )
    patch_vary_headers(answer, ["HX-Request"])
    return answer


@require_safe
@never_cache
@access.member(roles.KEYS_OWN)
def export(request: MemberRequest) -> HttpResponse:
    """The whole table as CSV; with `?over=time` each line by hours, days or months as the graph has them."""
    keys = access.keys_seen(request.membership)
    sees_all = request.membership.may(roles.ACTIVITY_ALL)
    view = viewing.read(request.GET, clock.now(), sees_all=sees_all)
    groups: tuple[str, ...] = view.question.groups
    if request.GET.get("over") == "time" and view.by != viewing.TIME:
        groups, sort = (view.unit, *groups), asking.NAME
    else:
        sort = view.question.sort
    question = replace(view.question, groups=groups, sort=sort, size=viewing.MOST_EXPORTED, after=None)
    view = replace(view, question=question)
    found, _ = _answer(request, view, None if sees_all else [key.id for key in keys], course=False)
    names = {key.public_id: key.name for key in keys}
    text = io.StringIO()
    write = csv.writer(text).writerow
    write([*groups, *(["key_name"] if "key" in groups else []), *_HEADS])
    for line in found.lines:
        own = [names.get(line.names[groups.index("key")], "")] if "key" in groups else []
        write([*(spreadsheets.cell(name) for name in (*line.names, *own)), *_cells(line.figures)])
    answer = HttpResponse(text.getvalue(), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="fairlead-usage-{clock.now():%Y-%m-%d}.csv"'
    return answer


def _answer(
    request: MemberRequest, view: View, key_ids: list[int] | None, *, course: bool = True
) -> tuple[Answer, View]:
    """What was used; of a key or a member that is not there, nothing. Further lines bring no graph."""
    told = Course(view.unit, view.metric) if course and view.question.after is None else None
    organization_id = request.membership.organization_id
    try:
        if not view.refused:
            return answering.answer(organization_id, view.question, key_ids=key_ids, course=told), view
    except asking.Unclear:
        pass
    return Answer((), Figures(), 0), replace(view, question=replace(view.question, after=None))


def _export_times(view: View) -> str:
    return "" if view.by == viewing.TIME else address("billing:usage_csv", **view.said, over="time")


def _table(view: View, found: Answer, names: Mapping[str, str]) -> dict[str, Any]:
    more = ""
    if found.next:
        more = _here(view, after=found.next)
    kept = tuple((name, value) for name, value in view.said.items() if value and name != "sort")
    first = _here(view) if view.question.after is not None else ""
    return {
        "rows": [_row(view, line, found.total, names) for line in found.lines],
        "list": Listed(list(found.lines), view.question.sort, kept, more, first),
        "count": found.count,
    }


def _row(view: View, line: Line, total: Figures, names: Mapping[str, str]) -> dict[str, Any]:
    name, figures = line.names[0], line.figures
    part, whole = figures.charge_nanos, total.charge_nanos
    if view.metric == "requests" or (view.metric == "charge" and not whole):
        part, whole = figures.requests, total.requests
    elif view.metric == "tokens":
        part, whole = figures.tokens, total.tokens
    into = view.into(name)
    return {
        "name": viewing.shown(view, name, names),
        "id": name if view.group == "key" else "",
        "figures": figures,
        "share": 1000 * part // (whole or 1),
        "share_words": percent(part, whole),
        "into": address("billing:usage", **into) if into else "",
        "calls": _calls(view, {view.group: name})
        if name and view.group in ("model", "endpoint", "key", "provider")
        else "",
    }


def _calls(view: View, also: Mapping[str, str]) -> str:
    """The calls behind it; empty where the activity has no such filter."""
    wanted = {**view.filters, **also}
    if any(name in wanted for name in viewing.OF_ALL):
        return ""
    place = wanted.get("endpoint") or wanted.get("provider", "")
    since, until = view.question.since, view.question.until
    said = {"key": wanted.get("key", ""), "model": wanted.get("model", ""), "endpoint": place}
    return address(
        "routing:activity", **said, **{"from": f"{since:%Y-%m-%dT%H:%M}", "to": f"{until:%Y-%m-%dT%H:%M}"}
    )


def _here(view: View, **changed: str) -> str:
    said = {name: value for name, value in {**view.said, **changed}.items() if value}
    return reverse("billing:usage") + (f"?{urlencode(said)}" if said else "")


def _named(name: str, value: str, names: Mapping[str, str]) -> str:
    return f"{viewing.GROUPS[name]}: {names.get(value, value) if name == 'key' else value}"


def _choices(
    request: MemberRequest, view: View, keys: list[SeenKey], key_ids: list[int] | None, *, sees_all: bool
) -> dict[str, Any]:
    """What only the whole page shows: the filters."""
    models, endpoints = answering.names_used(
        request.membership.organization_id, view.question.since, key_ids=key_ids
    )
    providers = {endpoint.partition(":")[0] for endpoint in endpoints}
    chosen = view.filters
    return {
        "groups": [each for each in viewing.GROUPS.items() if sees_all or each[0] not in viewing.OF_ALL],
        "keys": keys,
        "models": sorted({*models, chosen.get("model", "")} - {""}),
        "providers": sorted({*providers, chosen.get("provider", "")} - {""}),
        "endpoints": sorted({*endpoints, chosen.get("endpoint", "")} - {""}),
        "members": sorted({key.made_by for key in keys} - {""}) if sees_all else [],
        "wanted": {name: chosen.get(name, "") for name in asking.FILTERS},
        "today": clock.now().date(),
    }


def _cells(figures: Figures) -> list[int | str]:
    counts = (
        *(figures.requests, figures.failed, figures.aborted, figures.prompt, figures.cached),
        *(figures.cache_written, figures.completion, figures.reasoning),
    )
    amounts = (figures.base_nanos, figures.markup_nanos, figures.charge_nanos, figures.saved_nanos)
    return [
        *("" if count is None else count for count in counts),
        *("" if nanos is None else usd(nanos) for nanos in amounts),
    ]


def _is_part(request: MemberRequest) -> bool:
    htmx = request.htmx  # type: ignore[attr-defined]
    return bool(htmx and not htmx.history_restore_request)
