"""The graphs of a model's page, from what is known of its endpoints over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from aggregator.lib import graphs
from aggregator.lib.graphs import Lines, Series, Slot
from billing.core.pricing import Rates
from billing.prices import Dated
from billing.receipts import per_million
from routing.trends import Course, Trends

_KINDS = {
    "input": ("input", ""),
    "output": ("output", ""),
    "cache_read": ("cache read", "input"),
    "cache_write_5m": ("cache write", "input"),
    "reasoning": ("reasoning", "output"),
}
"""Field of a price → what it is called, and the field that it follows where a price does not state it."""
_DAY = timedelta(days=1)


class Chart(NamedTuple):
    title: str
    graph: Lines


class Change(NamedTuple):
    """A price that came into force."""

    at: datetime
    provider: str
    words: tuple[str, ...]
    """`input $0.50 → $0.40`."""


def of(found: Trends, names: Mapping[str, str]) -> list[Chart]:
    """First token, tokens a second and uptime; nothing where nobody has tried any of them.

    `names` are the providers' by endpoint slug.
    """
    if not found.courses:
        return []
    slots = [_slot(found, at) for at in range(found.span.slots)]

    def chart(name: str, title: str, values: Callable[[Course], Sequence[float | None]], show: str) -> Chart:
        series = [Series(names[course.endpoint], values(course)) for course in found.courses]
        uptime = name == "uptime"
        graph = graphs.lines(
            f"trend-{name}",
            slots,
            series,
            title=title,
            words=f"{title} of each provider over {found.span.words}.",
            show=lambda value: show.format(value),
            lowest=_lowest(series) if uptime else 0,
            highest=100 if uptime else None,
        )
        return Chart(title, graph)

    return [
        chart("first", "First token, median", lambda course: course.ttft_seconds, "{:.2f} s"),
        chart("pace", "Tokens a second, median", lambda course: course.tokens_per_second, "{:,.0f}"),
        chart("uptime", "Uptime", lambda course: [_hundred(share) for share in course.uptime], "{:g} %"),
    ]


def price_changes(changed: Sequence[tuple[Dated, Dated]], names: Mapping[str, str]) -> list[Change]:
    """What of each price is another than before it; what only its hours or tiers changed is said so."""
    found = []
    for before, now in changed:
        words = _differences(before.price.rates, now.price.rates)
        if before.price.tiers != now.price.tiers or before.price.windows != now.price.windows:
            words.append("for long prompts or at certain hours")
        if words:
            found.append(Change(now.starts_at, names[now.endpoint], tuple(words)))
    return found


def _differences(before: Rates, now: Rates) -> list[str]:
    found = []
    for name, (words, follows) in _KINDS.items():
        was, is_ = getattr(before, name), getattr(now, name)
        as_any = follows and was == getattr(before, follows) and is_ == getattr(now, follows)
        if was != is_ and not as_any:
            found.append(f"{words} {per_million(was)} → {per_million(is_)}")
    return found


def _slot(found: Trends, at: int) -> Slot:
    begins = found.first + found.span.slot * at
    day = f"{begins.day} {begins:%b}"
    if found.span.slot >= _DAY:
        return Slot(f"{begins:%a} {day}", day)
    hours = timedelta(hours=found.span.slots * found.span.slot // timedelta(hours=1))
    return Slot(f"{day}, {begins:%H:%M}", f"{begins:%H:%M}" if hours <= _DAY else day)


def _hundred(share: float | None) -> float | None:
    """Per cent, never rounded up."""
    return None if share is None else math.floor(share * 1000 + 1e-6) / 10


def _lowest(series: Sequence[Series]) -> float:
    """Where the axis of uptimes begins: at 90 %, or where it must."""
    known = [value for one in series for value in one.values if value is not None]
    return 90 if min(known, default=100) >= 90 else 0
