"""What the usage page's address asks for, and the graph of the answer. It reads nothing itself.

What an address says wrongly is as if it said nothing, but for a time that is too long or upside down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from aggregator.lib import graphs
from aggregator.lib.numbers import brief
from billing.core.money import show_usd
from billing.explorer import asking
from billing.explorer.answering import Answer
from billing.explorer.asking import DAY, HOUR, MONTH, Question

TIME = "time"
GROUPS: Final = {
    "model": "Model",
    "provider": "Provider",
    "endpoint": "Endpoint",
    "key": "Key",
    "member": "Member",
    "end_user": "End user",
    TIME: "Time",
}
OF_ALL: Final = ("member", "end_user")
"""Told to who may see everybody's calls."""
METRICS: Final = {"charge": "Spend", "requests": "Requests", "tokens": "Tokens"}
PERIODS: Final = {"24h": "24 h", "7d": "7 d", "30d": "30 d", "90d": "90 d", "12m": "12 m"}
CUSTOM, USUAL = "custom", "30d"
LINES: Final = 25
MOST_EXPORTED: Final = 50_000
_DAYS: Final = {"7d": 7, "30d": 30, "90d": 90}
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_INTO: Final = {
    "model": "endpoint",
    "provider": "model",
    "endpoint": "key",
    "key": "model",
    "member": "key",
    "end_user": TIME,
    HOUR: "model",
    DAY: "model",
    MONTH: "model",
}
"""By what a line is told further, once one looks into it."""


@dataclass(frozen=True, slots=True)
class View:
    """`said` is what the address says and is in force: the page's own links carry it on."""

    by: str
    """One of `GROUPS`."""
    period: str
    metric: str
    unit: str
    """What a bar stands for: hour, day or month."""
    question: Question
    said: Mapping[str, str]
    refused: str = ""
    """Why the time that was asked for is not shown."""

    @property
    def group(self) -> str:
        """As the question calls it."""
        return self.question.groups[0]

    @property
    def heading(self) -> str:
        return GROUPS[self.by] + (" (UTC)" if self.by == TIME else "")

    @property
    def filters(self) -> Mapping[str, str]:
        return self.question.filters

    def into(self, name: str) -> dict[str, str]:
        """What the address of a line says: this thing alone, told further. Nothing where nothing is left."""
        if not name:
            return {}
        said = {**self.said, "by": _INTO[self.group], "sort": ""}
        if self.group in asking.TIMES:
            since = datetime.fromisoformat(name if self.group != MONTH else f"{name}-01")
            last = (since + 32 * _DAY).replace(day=1) - _DAY if self.group == MONTH else since
            hour = self.group == HOUR
            said |= {
                "period": CUSTOM,
                "from": f"{since:%Y-%m-%dT%H:00}" if hour else f"{since:%Y-%m-%d}",
                "to": f"{since + _HOUR:%Y-%m-%dT%H:00}" if hour else f"{last:%Y-%m-%d}",
            }
        else:
            said[self.group] = name
            if said["by"] in said and said[said["by"]]:
                said["by"] = next(each for each in (TIME, "model") if not said.get(each))
        return said


def read(asked: Mapping[str, str], now: datetime, *, sees_all: bool) -> View:
    by = asked.get("by", "")
    filters = {
        name: asked[name].strip()
        for name in asking.FILTERS
        if asked.get(name, "").strip() and len(asked[name]) <= 300 and (sees_all or name not in OF_ALL)
    }
    by = by if by in GROUPS and (sees_all or by not in OF_ALL) else "model"
    if by == "end_user" or "end_user" in filters:
        # End users are summed by day alone.
        filters = {name: value for name, value in filters.items() if name == "end_user"}
        by = by if by == "end_user" else TIME
    period, (since, until), refused = _period(asked, now)
    if by == "end_user" or "end_user" in filters:
        since, until = since.replace(hour=0), (until - _HOUR).replace(hour=0) + _DAY
    unit = _unit(since, until, of_end_users=by == "end_user" or "end_user" in filters)
    metric = asked.get("metric", "") if asked.get("metric", "") in METRICS else "charge"
    usual = "-name" if by == TIME else f"-{metric}"
    sort = asked.get("sort", "") if asked.get("sort", "").removeprefix("-") in asking.SORTS else usual
    question = Question((unit if by == TIME else by,), since, until, filters, sort, LINES)
    said = {
        "by": by if by != "model" else "",
        "period": period if period != USUAL else "",
        "from": asked.get("from", "")[:30] if period == CUSTOM else "",
        "to": asked.get("to", "")[:30] if period == CUSTOM else "",
        "metric": metric if metric != "charge" else "",
        **{name: filters.get(name, "") for name in asking.FILTERS},
        "sort": sort if sort != usual else "",
    }
    try:
        asking.check_length(
            replace(question, groups=(unit, *(each for each in (by,) if each in asking.OF_KEYS)))
        )
        question = replace(question, after=asking.place(asked.get("after", ""), question))
    except asking.Unclear as error:
        refused = refused or (str(error) if error.param == "from" else "")
    return View(by, period, metric, unit, question, said, refused)


def _period(asked: Mapping[str, str], now: datetime) -> tuple[str, tuple[datetime, datetime], str]:
    """Its name, its time, and what is wrong with a time of one's own."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    midnight = hour.replace(hour=0)
    name = asked.get("period", "")
    usual = (midnight - 29 * _DAY, midnight + _DAY)
    if name == CUSTOM:
        try:
            return name, asking.read_times(asked.get("from", ""), asked.get("to", ""), now, grain=DAY), ""
        except asking.Unclear as error:
            return name, usual, f"{error}".replace("`to`", "the last day")
    if name == "24h":
        return name, (hour - 23 * _HOUR, hour + _HOUR), ""
    if name == "12m":
        return name, ((midnight.replace(day=1) - 334 * _DAY).replace(day=1), midnight + _DAY), ""
    days = _DAYS.get(name, _DAYS[USUAL])
    return (name if name in _DAYS else USUAL), (midnight - (days - 1) * _DAY, midnight + _DAY), ""


def _unit(since: datetime, until: datetime, *, of_end_users: bool) -> str:
    length = until - since
    if length <= 3 * _DAY and not of_end_users:
        return HOUR
    return DAY if length <= 92 * _DAY else MONTH


def graph(view: View, answer: Answer, names: Mapping[str, str]) -> graphs.Bars:
    """The answer's course, the biggest lines by name, the rest as one. `names`: of keys, by their ids."""
    starts = _starts(view)
    course = answer.course
    single = view.by == TIME
    label = METRICS[view.metric]
    series = [
        graphs.Series(shown(view, name, names), [course.get((at, name), 0) for at in starts])
        for name in ([] if single else answer.biggest)
        if any(course.get((at, name)) for at in starts)
    ]
    rest = [0] * len(starts)
    places = {at: place for place, at in enumerate(starts)}
    for (slot, name), value in course.items():
        if (single or name is None) and slot in places:
            rest[places[slot]] += value
    if any(rest) or not series:
        series.append(graphs.Series("Others" if series else label, rest))
    total = sum(course.values())
    show = _show(view.metric)
    return graphs.bars(
        "course",
        [_slot(at, view.unit) for at in starts],
        series,
        title=label if single else f"{label} by {GROUPS[view.by].lower()}",
        words=f"{show(total)} in all.",
        show=show,
        tick=None if view.metric == "charge" else brief,
    )


def shown(view: View, name: str, names: Mapping[str, str]) -> str:
    """A line's name as a person reads it."""
    if view.group == "key":
        return names.get(name, name)
    if view.group in asking.TIMES:
        at = datetime.fromisoformat(f"{name}-01" if view.group == MONTH else name)
        return _slot(at, view.group).words
    return name or {"member": "made by API"}.get(view.group, "none chosen")


def _show(metric: str) -> Callable[..., str]:
    return (lambda nanos: show_usd(int(nanos))) if metric == "charge" else (lambda count: f"{count:,.0f}")


def _starts(view: View) -> Sequence[datetime]:
    since, until, unit = view.question.since, view.question.until, view.unit
    if unit == HOUR:
        return [since + at * _HOUR for at in range((until - since) // _HOUR)]
    at = since.replace(hour=0) if unit == DAY else since.replace(hour=0, day=1)
    found = []
    while at < until:
        found.append(at)
        at = at + _DAY if unit == DAY else (at + 32 * _DAY).replace(day=1)
    return found


def _slot(at: datetime, unit: str) -> graphs.Slot:
    if unit == MONTH:
        return graphs.Slot(f"{at:%B %Y}", f"{at:%b}" if at.month > 1 else f"{at:%b %Y}")
    return (graphs.hours(at, 1) if unit == HOUR else graphs.days(at.date(), 1))[0]
