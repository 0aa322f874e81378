"""A question about usage: told by what, from when until when, of what alone, in which order. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from billing.core.sums import HOURS, Range, cut, open_ended

HOUR, DAY, MONTH = "hour", "day", "month"
TIMES: Final = (HOUR, DAY, MONTH)
FILTERS: Final = ("model", "provider", "endpoint", "key", "member", "end_user")
GROUPS: Final = (*TIMES, *FILTERS)
END_USER: Final = "end_user"
OF_KEYS: Final = ("key", "member")
NAME: Final = "name"
SORTS: Final = (NAME, "requests", "failed", "tokens", "charge")
PAGE, MOST_LINES = 100, 1_000

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_MOST_DAYS: Final = {HOUR: 31, DAY: 400, MONTH: 1_100}
_MOST_DAYS_OF_KEYS: Final = {HOUR: 7, DAY: 92, MONTH: 1_100}
"""The same where each hour or day is told by key as well."""
_USUAL_DAYS: Final = {HOUR: 1, DAY: 30, MONTH: 365}
_MOST_CURSOR, _MOST_TEXT = 2_000, 300
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class Unclear(ValueError):
    """What is asked cannot be answered: `param` says where, the message why."""

    def __init__(self, param: str, says: str) -> None:
        super().__init__(says)
        self.param = param


@dataclass(frozen=True, slots=True)
class Question:
    """`until` is not included. `after` is where the page before ended: the value it is sorted by, names."""

    groups: tuple[str, ...]
    since: datetime
    until: datetime
    filters: Mapping[str, str] = field(default_factory=dict)
    """By name in `FILTERS`; only those in force."""
    sort: str = NAME
    """One of `SORTS`, with a minus for descending. Between equals, and by `name`, the groups decide."""
    size: int = PAGE
    after: tuple[int | None, tuple[str, ...]] | None = None

    @property
    def of_end_users(self) -> bool:
        return END_USER in self.groups or END_USER in self.filters

    @property
    def grain(self) -> str:
        """The coarsest time that sums may have to answer this."""
        return next((time for time in TIMES if time in self.groups), MONTH)


def read(asked: Mapping[str, str], now: datetime) -> Question:
    """`group_by`, `from`, `to`, the filters, `sort`, `limit` and `after`, as an address says them.

    Raises Unclear for what is no such thing, or asks for more than is told at once.
    """
    groups = read_groups(asked.get("group_by", DAY))
    filters = {name: _filter(name, asked[name]) for name in FILTERS if asked.get(name)}
    if END_USER in groups or END_USER in filters:
        _only_of_end_users(groups, filters)
    grain = next((time for time in TIMES if time in groups), MONTH)
    since, until = read_times(asked.get("from", ""), asked.get("to", ""), now, grain=grain)
    question = Question(groups, since, until, filters, read_sort(asked.get("sort", NAME)))
    check_length(question)
    if question.of_end_users and (since.hour or until.hour):
        raise Unclear("from", "End users are told by whole days: give days, such as 2026-11-22.")
    question = replace(question, size=_size(asked.get("limit", str(PAGE))))
    return replace(question, after=place(asked.get("after", ""), question))


def read_groups(text: str) -> tuple[str, ...]:
    groups = tuple(text.split(","))
    wrong = next((each for each in groups if each not in GROUPS), None)
    if wrong is not None:
        raise Unclear("group_by", f"There is no group {wrong!r}; there are {', '.join(GROUPS)}.")
    if len(groups) > 2 or len(set(groups)) < len(groups):
        raise Unclear("group_by", "Give one group, or two different ones with a comma, such as day,model.")
    if len([each for each in groups if each in TIMES]) > 1:
        raise Unclear("group_by", "Give one of hour, day and month.")
    return groups


def read_sort(text: str) -> str:
    if text.removeprefix("-") not in SORTS:
        raise Unclear("sort", f"Sort by {', '.join(SORTS)}, with a minus for the largest first.")
    return text


def read_times(since: str, until: str, now: datetime, *, grain: str) -> tuple[datetime, datetime]:
    """A day is meant whole, also where it is the last. By default up to now, and as far as is usual."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if until:
        day, end = _time(until, "to")
        end = end + _DAY if day else end
    else:
        end = now.replace(minute=0, second=0, microsecond=0) + _HOUR if grain == HOUR else midnight + _DAY
    if since:
        return _checked(_time(since, "from")[1], end)
    begins = end - _USUAL_DAYS[grain] * _DAY
    return _checked(begins.replace(day=1, hour=0) if grain == MONTH else begins, end)


def check_length(question: Question) -> None:
    by_key = any(group in OF_KEYS for group in question.groups)
    grain = question.grain
    most = (_MOST_DAYS_OF_KEYS if by_key else _MOST_DAYS)[grain]
    if question.until - question.since > most * _DAY:
        what = f"by {grain}" if grain in question.groups else "at once"
        by = " and key" if by_key and grain != MONTH else ""
        raise Unclear("from", f"Usage {what}{by} is told for at most {most} days.")


def ranges(question: Question, grain: str, now: datetime) -> list[Range]:
    """The time in whole months, days and hours, as few and as coarse as the grain allows."""
    return cut(question.since, open_ended(question.until, now), HOURS[grain])


def beginning(name: str, group: str) -> datetime:
    """Of the hour, the day or the month that a line is called by. Raises ValueError for no such thing."""
    found = datetime.fromisoformat(f"{name}-01" if group == MONTH else name)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def mark(value: int | None, names: tuple[str, ...], question: Question) -> str:
    """The cursor of the page after this line."""
    said = json.dumps([question.sort, list(question.groups), value, list(names)], separators=(",", ":"))
    return base64.urlsafe_b64encode(said.encode()).decode().rstrip("=")


def _time(text: str, param: str) -> tuple[bool, datetime]:
    """Whether it is a day, and its beginning."""
    try:
        found = datetime.fromisoformat(text)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        found = None
    if found is None or found.minute or found.second or found.microsecond or not 2000 <= found.year <= 9000:
        raise Unclear(param, f"{param}: must be a day or a whole hour, 2026-11-22 or 2026-11-22T14:00Z.")
    return bool(_DATE.fullmatch(text)), found


def _checked(since: datetime, until: datetime) -> tuple[datetime, datetime]:
    if since >= until:
        raise Unclear("from", "from: must be before `to`.")
    return since, until


def _filter(name: str, text: str) -> str:
    if len(text) > _MOST_TEXT or "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise Unclear(name, f"{name}: there is no such thing.")
    return text


def _only_of_end_users(groups: tuple[str, ...], filters: Mapping[str, str]) -> None:
    """End users are summed by day alone, so that a million of them cost little."""
    if any(each not in (DAY, MONTH, END_USER) for each in groups):
        raise Unclear("group_by", "End users are told alone, or with day or month.")
    other = next((name for name in filters if name != END_USER), None)
    if other is not None:
        raise Unclear(other, f"{other}: does not go with end users, which are summed by day alone.")


def _size(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= MOST_LINES):
        raise Unclear("limit", f"limit: must be a whole number from 1 to {MOST_LINES}.")
    return int(text)


def place(text: str, question: Question) -> tuple[int | None, tuple[str, ...]] | None:
    """Where a page ended; None where it is the first. Raises Unclear for no cursor of this question."""
    if not text:
        return None
    found: Any = None
    if len(text) <= _MOST_CURSOR:
        try:
            found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            sort, groups, value, names = found
            fits = (sort, tuple(groups)) == (question.sort, question.groups) and len(names) == len(groups)
            whole = value is None if sort.removeprefix("-") == NAME else type(value) is int
            if (
                fits
                and whole
                and abs(value or 0) < 2**63
                and all(_filter("after", each) == each for each in names)
                and all(
                    beginning(name, group)
                    for name, group in zip(names, groups, strict=True)
                    if group in TIMES
                )
            ):
                return value, tuple(names)
        except (ValueError, TypeError, AttributeError, RecursionError, binascii.Error):
            pass
    raise Unclear("after", "after: must be the `next` of a page of the same question.")
