"""What was used in a period as graphs and figures, each beside the period before. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from aggregator.lib import graphs
from aggregator.lib.numbers import brief, percent
from billing.core.money import brief_usd, show_usd
from billing.core.sums import Sums, Used
from routing.core.periods import Period

_A_STEP = 3
"""Steps of speed to a doubling."""
_NOTHING = Sums()


@dataclass(frozen=True, slots=True)
class Change:
    """`tone` is `good`, `bad` or empty; `way` is `up`, `down` or empty."""

    text: str
    way: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: str
    exact: str
    """The same to its last digit, where `value` is shortened."""
    change: Change
    detail: str


def change(now: float, was: float, said: str, *, better: int = 0) -> Change:
    """From `was` to `now`; `said` is what it was. `better`: 1 where more is better, -1 where less is."""
    if now == was:
        return Change("unchanged" if now else "none before either")
    way = "up" if now > was else "down"
    tone = "" if not better else "good" if (now > was) == (better > 0) else "bad"
    if not was:
        return Change("none before", way, tone)
    percent = 100 * abs(now - was) / abs(was)
    if percent < 0.5:
        return Change(f"about as before, {said}")
    much = f"{now / was:.0f} ×" if now / was >= 10 else f"{percent:.0f} %"
    return Change(f"{much} {'of' if now / was >= 10 else 'from'} {said}", way, tone)


def median(steps: Mapping[int, int]) -> int | None:
    """Milliseconds that half of the calls stayed below, to about a tenth; None without a call."""
    left = sum(steps.values()) / 2
    for step, calls in sorted(steps.items()):
        if left <= calls:
            return round(2 ** ((step + left / calls) / _A_STEP))
        left -= calls
    return None


def duration(milliseconds: float) -> str:
    """`85 ms`, `1.4 s`, `75 s`."""
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.3g} s"


def whole_speeds(used: Used, *, first: bool) -> int | None:
    """The median of a period: of the first token, or of the whole answer."""
    total: dict[int, int] = defaultdict(int)
    for (_, is_first), steps in used.speeds.items():
        if is_first == first:
            for step, calls in steps.items():
                total[step] += calls
    return median(total)


def figures(now: Used, was: Used) -> list[Figure]:
    """Spend, requests, tokens, latency, savings, failures; compared where there was a call before."""
    here, there = now.total, was.total
    markup = here.charge_nanos - here.base_nanos
    found = [
        Figure(
            "Spend",
            brief_usd(here.charge_nanos),
            show_usd(here.charge_nanos),
            change(here.charge_nanos, there.charge_nanos, brief_usd(there.charge_nanos)),
            f"{brief_usd(here.base_nanos)} for providers, {brief_usd(markup)} mark-up",
        ),
        Figure(
            "Requests",
            brief(here.requests),
            f"{here.requests:,}",
            change(here.requests, there.requests, brief(there.requests)),
            f"{brief(here.completed)} completed, {brief(here.aborted)} ended early",
        ),
        Figure(
            "Tokens",
            brief(here.tokens),
            f"{here.tokens:,}",
            change(here.tokens, there.tokens, brief(there.tokens)),
            f"{brief(here.prompt)} in, {brief(here.completion)} out, {brief(here.cached)} in cached",
        ),
        _latency(now, was),
        Figure(
            "Saved by caches",
            brief_usd(here.saved_nanos).replace("-", "−"),
            show_usd(here.saved_nanos),
            change(here.saved_nanos, there.saved_nanos, brief_usd(there.saved_nanos), better=1),
            f"{percent(here.cached, here.prompt)} of prompt tokens came from a cache",
        ),
        Figure(
            "Failed",
            percent(here.failed, here.requests),
            f"{here.failed:,} of {here.requests:,}",
            _failing(here, there),
            f"{brief(here.failed)} of {brief(here.requests)} requests, all free",
        ),
    ]
    return found if there.requests else [replace(figure, change=Change("")) for figure in found]


def _latency(now: Used, was: Used) -> Figure:
    first, first_was = whole_speeds(now, first=True), whole_speeds(was, first=True)
    whole, whole_was = whole_speeds(now, first=False), whole_speeds(was, first=False)
    shown, before = (first, first_was) if first is not None else (whole, whole_was)
    if shown is None:
        return Figure("Latency, median", "–", "", Change(""), "no completed call")
    told = Change("none before") if before is None else change(shown, before, duration(before), better=-1)
    if first is None:
        return Figure("Latency, median", duration(shown), "", told, "of whole answers; none was streamed")
    rest = f"to the first token of a stream; {duration(whole)} for whole answers" if whole is not None else ""
    return Figure("Latency, median", duration(first), "", told, rest)


def _failing(here: Sums, there: Sums) -> Change:
    if not there.requests:
        return Change("none before")
    share, before = here.failed / (here.requests or 1), there.failed / there.requests
    if abs(share - before) < 0.0005:
        return Change("unchanged" if share else "none before either")
    up = share > before
    return Change(
        f"from {percent(there.failed, there.requests)}", "up" if up else "down", "bad" if up else "good"
    )


def spend(period: Period, now: Used, was: Used) -> graphs.Bars:
    """By model: the dearest by name. The period before is an outline."""
    named = now.dearest_models
    if len(named) > graphs.MOST_SERIES:
        named = named[: graphs.MOST_SERIES - 1]

    series = [
        graphs.Series(name, [now.charges.get((slot, name), 0) for slot in period.starts]) for name in named
    ]
    rest = [
        now.by_time.get(slot, _NOTHING).charge_nanos - sum(int(one.values[at] or 0) for one in series)
        for at, slot in enumerate(period.starts)
    ]
    if any(rest) or not series:
        series.append(graphs.Series("Other models" if series else "Spend", rest))
    total = now.total.charge_nanos
    return graphs.bars(
        "spend",
        period.slots,
        series,
        title=_by("Spend", period),
        words=f"{show_usd(total)} in {period.words}.",
        show=lambda nanos: show_usd(int(nanos)),
        before=_before(period, was, lambda sums: sums.charge_nanos),
    )


def requests(period: Period, now: Used, was: Used) -> graphs.Bars:
    return _stacked(
        ("requests", "Requests"),
        period,
        now,
        {
            "Completed": lambda sums: sums.completed,
            "Ended early": lambda sums: sums.aborted,
            "Failed": lambda sums: sums.failed,
        },
        before=_before(period, was, lambda sums: sums.requests),
    )


def tokens(period: Period, now: Used, was: Used) -> graphs.Bars:
    return _stacked(
        ("tokens", "Tokens"),
        period,
        now,
        {
            "Prompt": lambda sums: sums.prompt - sums.cached,
            "Prompt, cached": lambda sums: sums.cached,
            "Completion": lambda sums: sums.completion,
        },
        before=_before(period, was, lambda sums: sums.tokens),
    )


def speeds(period: Period, now: Used) -> graphs.Lines:
    found = [
        graphs.Series(name, [median(now.speeds.get((slot, first), {})) for slot in period.starts])
        for name, first in (("First token", True), ("Whole answer", False))
    ]
    return graphs.lines(
        "speeds",
        period.slots,
        found,
        title=_by("Latency, median", period),
        words="Of completed calls; a gap is a time without one.",
        show=duration,
    )


def _stacked(
    names: tuple[str, str],
    period: Period,
    now: Used,
    parts: Mapping[str, Callable[[Sums], int]],
    *,
    before: graphs.Series,
) -> graphs.Bars:
    series = [
        graphs.Series(part, [read(now.by_time.get(slot, _NOTHING)) for slot in period.starts])
        for part, read in parts.items()
    ]
    total = sum(sum(value or 0 for value in one.values) for one in series)
    return graphs.bars(
        names[0],
        period.slots,
        series,
        title=_by(names[1], period),
        words=f"{total:,.0f} in {period.words}.",
        show=lambda value: f"{value:,.0f}",
        tick=brief,
        before=before,
    )


def _before(period: Period, was: Used, read: Callable[[Sums], int]) -> graphs.Series:
    values: Sequence[float] = [read(was.by_time.get(slot, _NOTHING)) for slot in period.before_starts]
    return graphs.Series(period.before_words.capitalize(), values)


def _by(what: str, period: Period) -> str:
    return f"{what} by {'hour' if period.by_hour else 'day'}"
