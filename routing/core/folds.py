"""What a worker has seen of an endpoint, folded into sums that merge by adding, and what these say. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from routing.core import histogram
from routing.core.histogram import RATE, SECONDS, Counts
from routing.core.vitals import Percentiles, Plain, Recent, Vitals

_RISING = (0.5, 0.75, 0.9, 0.99)
_FALLING = (0.01, 0.1, 0.25, 0.5)
"""A percentile of paces is what so many answers reached or surpassed."""

GATEWAY = "gateway"
"""Stands among the endpoints, whose slugs have a colon, for the gateways themselves."""


class Fold(msgspec.Struct, array_like=True):
    """Attempts at one endpoint in one stretch of time; what the provider refused (400, 413, 422) is none."""

    worked: int = 0
    failures: int = 0
    rate_limited: int = 0
    plains: int = 0
    """Of those that worked, answers that came whole: they have no time to first token."""
    plain_seconds: float = 0.0
    plain_tokens: int = 0
    prompt: int = 0
    """Prompt tokens at endpoints that have a price for cached ones."""
    cached: int = 0
    probes: int = 0
    probe_failures: int = 0
    ttft: Counts = {}
    pace: Counts = {}
    probe_ttft: Counts = {}
    ours: Counts = {}
    """Of `GATEWAY` alone: what we ourselves added to each call, from `histogram.OWN` on."""

    def add(self, other: Fold) -> None:
        self.worked += other.worked
        self.failures += other.failures
        self.rate_limited += other.rate_limited
        self.plains += other.plains
        self.plain_seconds += other.plain_seconds
        self.plain_tokens += other.plain_tokens
        self.prompt += other.prompt
        self.cached += other.cached
        self.probes += other.probes
        self.probe_failures += other.probe_failures
        histogram.merge(self.ttft, other.ttft)
        histogram.merge(self.pace, other.pace)
        histogram.merge(self.probe_ttft, other.probe_ttft)
        histogram.merge(self.ours, other.ours)

    def tally(self) -> Tally:
        return Tally(self.worked, self.failures, self.probes, self.probe_failures)


class Tally(msgspec.Struct, frozen=True):
    """How many attempts worked: of our own traffic, or of the probes where there was none."""

    worked: int = 0
    failures: int = 0
    probes: int = 0
    probe_failures: int = 0

    def plus(self, other: Tally) -> Tally:
        return Tally(
            self.worked + other.worked,
            self.failures + other.failures,
            self.probes + other.probes,
            self.probe_failures + other.probe_failures,
        )

    def judged(self) -> Tally:
        """Without probes: counted where there was no traffic, dropped where there was."""
        if self.worked + self.failures:
            return Tally(self.worked, self.failures)
        return Tally(self.probes - self.probe_failures, self.probe_failures)

    @property
    def uptime(self) -> float | None:
        told = self.judged()
        attempts = told.worked + told.failures
        return round(told.worked / attempts, 5) if attempts else None


Folds = dict[str, Fold]
"""By endpoint slug."""


def merge(into: Folds, more: Mapping[str, Fold]) -> None:
    for slug, fold in more.items():
        known = into.get(slug)
        if known is None:
            known = into[slug] = Fold()
        known.add(fold)


def stored(value: Any) -> Fold:
    """A fold as a row of PostgreSQL holds it: the buckets' numbers are texts there."""
    return msgspec.convert(value, Fold, strict=False)


def vitals(
    five_minutes: Fold,
    lately: Sequence[tuple[float, Fold]],
    *,
    half_hour: Tally,
    day: Tally,
    healthy: bool | None,
) -> Vitals:
    """`lately` are the folds of the last half minute, each with the weight of its age in the medians."""
    fold = five_minutes
    return Vitals(
        attempts=fold.worked + fold.failures + fold.rate_limited,
        ttft_seconds=_times(fold.ttft or fold.probe_ttft),
        tokens_per_second=_paces(fold.pace),
        plain=_plain([(1, fold)]),
        cache_hit_share=round(fold.cached / fold.prompt, 5) if fold.prompt else None,
        uptime_5m=fold.tally().uptime,
        uptime_30m=half_hour.uptime,
        uptime_1d=day.uptime,
        healthy=healthy,
        recent=_recent(lately),
    )


def _recent(lately: Sequence[tuple[float, Fold]]) -> Recent:
    if not lately:
        return Recent()
    failures = sum(fold.failures for _, fold in lately)
    limited = sum(fold.rate_limited for _, fold in lately)
    return Recent(
        attempts=sum(fold.worked for _, fold in lately) + failures + limited,
        failures=failures,
        rate_limited=limited,
        ttft_seconds=_median(((weight, fold.ttft) for weight, fold in lately), SECONDS),
        tokens_per_second=_median(((weight, fold.pace) for weight, fold in lately), RATE),
        plain=_plain(lately),
    )


def _median(parts: Iterable[tuple[float, Counts]], least: float) -> float | None:
    together: dict[int, float] = {}
    for weight, counts in parts:
        histogram.merge_weighed(together, counts, weight)
    found = histogram.percentiles(together, (0.5,), least)
    return None if found is None else _short(found[0])


def _plain(parts: Sequence[tuple[float, Fold]]) -> Plain | None:
    replies = sum(fold.plains for _, fold in parts)
    if not replies:
        return None
    mass = sum(weight * fold.plains for weight, fold in parts)
    seconds = sum(weight * fold.plain_seconds for weight, fold in parts) / mass
    tokens = sum(weight * fold.plain_tokens for weight, fold in parts) / mass
    return Plain(replies, _short(seconds), _short(tokens))


def _times(counts: Counts) -> Percentiles | None:
    found = histogram.percentiles(counts, _RISING, SECONDS)
    return None if found is None else Percentiles(*map(_short, found))


def _paces(counts: Counts) -> Percentiles | None:
    found = histogram.percentiles(counts, _FALLING, RATE)
    return None if found is None else Percentiles(*map(_short, reversed(found)))


def _short(value: float) -> float:
    """Four figures: more are not known, and the snapshot travels to every worker."""
    return float(f"{value:.4g}")
