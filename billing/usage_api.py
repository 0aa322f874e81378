"""`GET /usage` and `GET /activity`: what an organization used, from roll-ups, for a management key."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import msgspec
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from aggregator.lib import clock
from aggregator.lib.errors import Refusal
from aggregator.rest import caller
from billing.core.money import Nanos, usd
from billing.explorer import answering, asking
from billing.explorer.answering import Figures, Line
from billing.explorer.asking import Question, Unclear

ACTIVITY_DAYS: Final = 30
_DAY: Final = timedelta(days=1)
_ASKED: Final = ("group_by", "from", "to", *asking.FILTERS, "sort", "limit", "after")
_OF_ACTIVITY: Final = {"api_key_hash": "key", "user_id": "member"}
_AMOUNTS: Final = {"base": "base_nanos", "markup": "markup_nanos", "charge": "charge_nanos"}


class UsageView(APIView):
    """Sums by whatever one asks for."""

    def get(self, request: Request) -> Response:
        asked = _parameters(request, _ASKED)
        organization_id = caller(request).organization_id
        try:
            question = asking.read(asked, clock.now())
            found = answering.answer(organization_id, question)
        except Unclear as error:
            raise Refusal("invalid_request", str(error), param=error.param) from error
        names = _key_names(organization_id, question, found.lines)
        data = {
            "data": [_of(line, question, names) for line in found.lines],
            "totals": _figures(found.total),
            "lines": found.count,
            "group_by": list(question.groups),
            "from": question.since,
            "to": question.until,
            "next": found.next or None,
        }
        return Response(data)


class ActivityView(APIView):
    """The last 30 complete days by model and endpoint, as OpenRouter answers it."""

    def get(self, request: Request) -> Response:
        asked = _parameters(request, ("date", *_OF_ACTIVITY))
        since, until = _days(asked.get("date", ""))
        filters = {
            _OF_ACTIVITY[name]: value for name, value in asked.items() if name in _OF_ACTIVITY and value
        }
        question = Question(("day", "model", "endpoint"), since, until, filters, size=_EVERY)
        try:
            found = answering.answer(caller(request).organization_id, question)
        except Unclear as error:
            param = next(theirs for theirs, ours in _OF_ACTIVITY.items() if ours == error.param)
            message = str(error).replace(f"{error.param}:", f"{param}:")
            raise Refusal("invalid_request", message, param=param) from error
        lines = sorted(
            found.lines, key=lambda line: (-date.fromisoformat(line.names[0]).toordinal(), line.names)
        )
        return Response({"data": [_of_activity(line) for line in lines if line.names[2]]})


_EVERY: Final = 1_000_000


def _days(text: str) -> tuple[datetime, datetime]:
    """One of the last 30 days that are over, or all of them."""
    today = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    first = today - ACTIVITY_DAYS * _DAY
    if not text:
        return first, today
    try:
        day = datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        day = today
    if not first <= day < today:
        last = f"{today - _DAY:%Y-%m-%d}"
        says = f"date: must be one of the last {ACTIVITY_DAYS} days that are over (UTC), such as {last}."
        raise Refusal("invalid_request", says, param="date")
    return day, day + _DAY


def _parameters(request: Request, known: tuple[str, ...]) -> dict[str, str]:
    for name, values in request.query_params.lists():
        if name not in known:
            raise Refusal("invalid_request", f"{name}: unknown parameter", param=name)
        if len(values) > 1:
            raise Refusal("invalid_request", f"{name}: must be given once", param=name)
    return {name: str(value) for name, value in request.query_params.items()}


def _key_names(organization_id: int, question: Question, lines: tuple[Line, ...]) -> Mapping[str, str]:
    if "key" not in question.groups:
        return {}
    at = question.groups.index("key")
    return answering.key_names(organization_id, [line.names[at] for line in lines])


def _of(line: Line, question: Question, key_names: Mapping[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = {
        group: name or None for group, name in zip(question.groups, line.names, strict=True)
    }
    if "key" in told:
        told["key_name"] = key_names.get(told["key"])
    return {**told, **_figures(line.figures)}


def _figures(found: Figures) -> dict[str, Any]:
    told: dict[str, Any] = {
        "requests": found.requests,
        "failed": found.failed,
        "aborted": found.aborted,
        "prompt_tokens": found.prompt,
        "cached_tokens": found.cached,
        "cache_write_tokens": found.cache_written,
        "completion_tokens": found.completion,
        "reasoning_tokens": found.reasoning,
    }
    for name, column in (*_AMOUNTS.items(), ("cache_savings", "saved_nanos")):
        nanos = getattr(found, column)
        told |= {name: None if nanos is None else _literal(nanos), f"{name}_nanos": nanos}
    return told


def _of_activity(line: Line) -> dict[str, Any]:
    day, model, endpoint = line.names
    found = line.figures
    return {
        "date": day,
        "model": model,
        "model_permaslug": model,
        "endpoint_id": endpoint,
        "provider_name": endpoint.partition(":")[0],
        "usage": _literal(found.charge_nanos),
        "byok_usage_inference": 0,
        "requests": found.requests,
        "prompt_tokens": found.prompt,
        "completion_tokens": found.completion,
        "reasoning_tokens": found.reasoning,
        "cached_tokens": found.cached,
    }


def _literal(nanos: Nanos) -> msgspec.Raw:
    """Dollars as a plain decimal literal in the JSON, never through a float."""
    return msgspec.Raw(usd(nanos).encode())
