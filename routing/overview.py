"""How an organization, or the keys of one member, did in a period: figures, graphs, and what to look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aggregator.lib import graphs
from aggregator.lib.numbers import percent
from billing import spans
from billing.core.money import Nanos, brief_usd
from billing.core.sums import Sums, Used
from routing.core import comparing
from routing.core.periods import Period

MOST_LINES = 8
_MOST_MOVERS = 5
_FEW = 5
"""Fewer failures are no news."""
_WORSE = 0.05
_NONE = "none chosen"


@dataclass(frozen=True, slots=True)
class Line:
    """One model, key, endpoint or member. `filter` is what the activity calls it."""

    name: str
    filter: tuple[str, str] | None
    sums: Sums
    share: int
    """Of the spend, or of the requests where nothing was spent; in per mille."""
    change: comparing.Change

    @property
    def share_words(self) -> str:
        return percent(self.share, 1000)


@dataclass(frozen=True, slots=True)
class Group:
    by: str
    lines: tuple[Line, ...]
    others: int
    """How many are not listed."""
    others_nanos: Nanos


@dataclass(frozen=True, slots=True)
class Mover:
    """What changed much. `tone` is `bad` for what needs a look, else empty."""

    kind: str
    name: str
    filter: tuple[str, str] | None
    words: str
    way: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Overview:
    period: Period
    figures: tuple[comparing.Figure, ...]
    spend: graphs.Bars
    requests: graphs.Bars
    tokens: graphs.Bars
    speeds: graphs.Lines
    groups: tuple[Group, ...]
    movers: tuple[Mover, ...]
    total: Sums
    compares: bool
    """Whether there was a call in the period before."""
    days_left: int | None
    """At the pace of the period; None without one, or where only some keys are seen."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A key as the overview names it: its public id, its name, who made it."""

    id: int
    public_id: str
    name: str
    made_by: str


def of(
    organization_id: int,
    period: Period,
    keys: Sequence[Seen],
    *,
    all_keys: bool,
    balance_nanos: Nanos,
) -> Overview:
    """`all_keys`: of the whole organization; else of these keys alone."""
    now, was = spans.used(
        organization_id,
        period.now,
        period.before,
        key_ids=None if all_keys else [key.id for key in keys],
    )
    groups = _groups(now, was, keys, by_member=all_keys)
    return Overview(
        period=period,
        figures=tuple(comparing.figures(now, was)),
        spend=comparing.spend(period, now, was),
        requests=comparing.requests(period, now, was),
        tokens=comparing.tokens(period, now, was),
        speeds=comparing.speeds(period, now),
        groups=groups,
        movers=_movers(now, was, keys),
        total=now.total,
        compares=bool(was.total.requests),
        days_left=_days_left(balance_nanos, now.total.charge_nanos, period) if all_keys else None,
    )


def _days_left(balance: Nanos, charged: Nanos, period: Period) -> int | None:
    seconds = int(period.elapsed.total_seconds())
    return max(balance, 0) * seconds // charged // 86_400 if charged else None


def _groups(now: Used, was: Used, keys: Sequence[Seen], *, by_member: bool) -> tuple[Group, ...]:
    names = {key.id: key for key in keys}

    def key(pk: int) -> tuple[str, str, str]:
        known = names.get(pk)
        return (known.name, "key", known.public_id) if known else ("another key", "", "")

    found = [
        _group("Model", now.by_model, was.by_model, lambda name: (name or "none chosen", "model", name)),
        _group(
            "Endpoint",
            now.by_endpoint,
            was.by_endpoint,
            lambda name: (name or "none chosen", "endpoint", name),
        ),
        _group("Key", now.by_key, was.by_key, key),
    ]
    members = (_by_member(now.by_key, names), _by_member(was.by_key, names))
    if by_member and len(members[0]) > 1:
        found.append(_group("Member", *members, lambda email: (email or "by API", "", "")))
    return tuple(found)


def _by_member(by_key: Mapping[int, Sums], names: Mapping[int, Seen]) -> dict[str, Sums]:
    found: dict[str, Sums] = defaultdict(Sums)
    for pk, sums in by_key.items():
        found[names[pk].made_by if pk in names else ""] += sums
    return dict(found)


def _group(
    by: str,
    now: Mapping[Any, Sums],
    was: Mapping[Any, Sums],
    said: Callable[..., tuple[str, str, str]],
) -> Group:
    ordered = sorted(now.items(), key=lambda each: (-each[1].charge_nanos, -each[1].requests, str(each[0])))
    spent = sum(sums.charge_nanos for _, sums in ordered)
    asked = sum(sums.requests for _, sums in ordered)
    lines = []
    for key, sums in ordered[:MOST_LINES]:
        name, of, value = said(key)
        part, whole = (sums.charge_nanos, spent) if spent else (sums.requests, asked)
        lines.append(
            Line(
                name=name,
                filter=(of, value) if value else None,
                sums=sums,
                share=1000 * part // (whole or 1),
                change=_spend_change(sums, was.get(key, Sums()), compares=bool(was)),
            )
        )
    rest = ordered[MOST_LINES:]
    return Group(by, tuple(lines), len(rest), sum(sums.charge_nanos for _, sums in rest))


def _spend_change(now: Sums, was: Sums, *, compares: bool) -> comparing.Change:
    if not compares:
        return comparing.Change("")
    return comparing.change(now.charge_nanos, was.charge_nanos, brief_usd(was.charge_nanos))


def _movers(now: Used, was: Used, keys: Sequence[Seen]) -> tuple[Mover, ...]:
    """Endpoints that fail more than before, then models and keys whose spend moved most."""
    names = {key.id: key for key in keys}
    worse = []
    for endpoint, sums in now.by_endpoint.items():
        before = was.by_endpoint.get(endpoint, Sums())
        share, earlier = sums.failed / (sums.requests or 1), before.failed / (before.requests or 1)
        if endpoint and sums.failed >= _FEW and share - earlier >= _WORSE:
            failing, then = percent(sums.failed, sums.requests), percent(earlier, 1)
            words = f"{failing} of its requests failed, {then} before"
            worse.append((share, Mover("Endpoint", endpoint, ("endpoint", endpoint), words, "up", "bad")))
    found = [mover for _, mover in sorted(worse, key=lambda each: -each[0])[:2]]
    if not was.total.requests:
        return tuple(found)
    moved = [
        *_moved(now.by_model, was.by_model, lambda name: ("Model", name or _NONE, "model", name)),
        *_moved(
            {pk: sums for pk, sums in now.by_key.items() if pk in names},
            {pk: sums for pk, sums in was.by_key.items() if pk in names},
            lambda pk: ("Key", names[pk].name, "key", names[pk].public_id),
        ),
    ]
    least = max(now.total.charge_nanos, was.total.charge_nanos) // 50
    moved = [each for each in moved if abs(each[0]) > least]
    moved.sort(key=lambda each: (-abs(each[0]), each[1].name))
    return (*found, *(mover for _, mover in moved[: _MOST_MOVERS - len(found)]))


def _moved(
    now: Mapping[Any, Sums],
    was: Mapping[Any, Sums],
    said: Callable[..., tuple[str, str, str, str]],
) -> Iterable[tuple[Nanos, Mover]]:
    for key in now.keys() | was.keys():
        spent, before = now.get(key, Sums()).charge_nanos, was.get(key, Sums()).charge_nanos
        kind, name, of, value = said(key)
        much = (
            f"{brief_usd(spent)} spent, {brief_usd(before)} before" if before else f"{brief_usd(spent)}, new"
        )
        if not spent:
            much = f"not used, {brief_usd(before)} before"
        way = "up" if spent > before else "down"
        yield spent - before, Mover(kind, name, (of, value) if value else None, much, way)
