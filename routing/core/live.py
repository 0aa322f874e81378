"""What is known of each endpoint: its speed as predicted.

Pure: no clock and no I/O, `now` comes in (monotonic seconds). A prediction goes from what is known long to
what is new, each step moving it by as much as it has samples: the catalog's figures, five minutes of all
gateways' traffic, their last half minute, and this worker's own samples, which the next snapshot will hold.

While no snapshot comes, own samples are all there is: they then fade by half every HALF_LIFE_SECONDS, so an
endpoint that is no longer called drifts back to its catalog figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from routing.core.folds import GATEWAY, Fold, Folds
from routing.core.histogram import OWN, RATE, SECONDS, add
from routing.core.vitals import NOTHING, Plain, Snapshot, Vitals

CATALOG_WEIGHT = 2.0
"""The catalog's figures count as much as this many samples of five minutes, or fresh ones of our own."""
MINUTES_WEIGHT = 2.0
"""Five minutes' figures count as much as this many answers of the last half minute."""
SNAPSHOT_WEIGHT = 4.0
"""What a snapshot says counts as much as this many fresh samples of this worker."""
OWN_HALF_LIFE_SECONDS = 1.5
"""How fast own samples fade while snapshots come: about the time in which one brings them back."""
HALF_LIFE_SECONDS = 120.0
ALONE_WEIGHT = 20.0
"""The most samples for which a last snapshot's figures count when no other comes."""
REFRESH_SECONDS = 0.5
LEAST_SECONDS = 0.001
"""No prediction is below a millisecond, so that a ratio of times always exists."""


@dataclass(slots=True)
class _Seen:
    """Sums that fade together, so that every average of them is exponentially weighted."""

    at: float
    first_tokens: float = 0.0
    first_token_seconds: float = 0.0
    paces: float = 0.0
    pace_seconds: float = 0.0
    pace_tokens: float = 0.0
    plains: float = 0.0
    plain_seconds: float = 0.0
    plain_tokens: float = 0.0

    def fade(self, now: float, half_life: float) -> None:
        if now <= self.at:
            return
        left = 0.5 ** ((now - self.at) / half_life)
        self.at = now
        self.first_tokens *= left
        self.first_token_seconds *= left
        self.paces *= left
        self.pace_seconds *= left
        self.pace_tokens *= left
        self.plains *= left
        self.plain_seconds *= left
        self.plain_tokens *= left


@dataclass(slots=True)
class _Known:
    """One endpoint of a snapshot, made ready: prediction = part × the catalog's figure + rest."""

    answers: float
    ttft_part: float = 1.0
    ttft_rest: float = 0.0
    pace_part: float = 1.0
    pace_rest: float = 0.0
    plains: tuple[tuple[float, Plain], ...] = ()
    """(what its prediction counts against it, plain answers)."""


class Live:
    """One per worker; memory is bounded by the number of endpoints in the catalog."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._stamp = 0
        self._stamped_at = float("-inf")
        self._known: dict[str, _Known] = {}
        self._half_life = HALF_LIFE_SECONDS
        self.snapshot: Snapshot = NOTHING
        self.folds: Folds = {}
        """What was observed since somebody took them away to tell others."""
        self.observations = 0
        """Grows with each, so that it is seen whether there is anything to tell."""

    def learn(self, snapshot: Snapshot, ready: dict[str, _Known] | None = None) -> None:
        """Take in what all gateways together have seen; `ready`: what `made_ready` made of its endpoints."""
        self.snapshot = snapshot
        self._known = made_ready(snapshot.endpoints.items()) if ready is None else ready
        self._half_life = OWN_HALF_LIFE_SECONDS

    def go_alone(self, now: float) -> None:
        """No snapshot comes any more: the last one's speeds fade from here on like samples of our own."""
        for slug, known in self._known.items():
            weight = min(known.answers, ALONE_WEIGHT)
            seen = self._seen.setdefault(slug, _Seen(now))
            seen.fade(now, self._half_life)
            if known.ttft_rest:
                seen.first_tokens += weight
                seen.first_token_seconds += weight * known.ttft_rest / (1 - known.ttft_part)
            if known.pace_rest:
                seen.paces += weight
                seen.pace_seconds += weight * known.pace_rest / (1 - known.pace_part)
                seen.pace_tokens += weight
            for _, plain in known.plains[:1]:
                seen.plains += weight
                seen.plain_seconds += weight * plain.seconds
                seen.plain_tokens += weight * plain.tokens
        self.snapshot = NOTHING
        self._known = {}
        self._half_life = HALF_LIFE_SECONDS

    def keep_only(self, endpoint_slugs: frozenset[str]) -> None:
        """Forget endpoints that the catalog does not list any more."""
        kept: tuple[dict[str, Any], ...] = (self._seen, self.folds)
        for by_slug in kept:
            for slug in by_slug.keys() - endpoint_slugs - {GATEWAY}:
                del by_slug[slug]

    def vitals(self, endpoint_slug: str) -> Vitals | None:
        """What all gateways together have seen of an endpoint; None when nobody has seen anything."""
        return self.snapshot.endpoints.get(endpoint_slug)

    def observe(
        self,
        endpoint_slug: str,
        *,
        ttft_seconds: float | None,
        tokens: int,
        seconds: float,
        now: float,
        prompt: int = 0,
        cached: int = 0,
    ) -> None:
        """Note one answer.

        `seconds` is from dispatch to the last byte. A plain reply has no time to first token: pass None,
        and its whole duration is compared with the prediction instead. `prompt` is 0 where cached tokens
        have no price of their own.
        """
        fold = self._fold(endpoint_slug)
        fold.worked += 1
        fold.prompt += prompt
        fold.cached += cached
        seen = self._seen.get(endpoint_slug)
        if seen is None:
            seen = self._seen[endpoint_slug] = _Seen(now)
        seen.fade(now, self._half_life)
        if ttft_seconds is None:
            seconds = max(seconds, LEAST_SECONDS)
            fold.plains += 1
            fold.plain_seconds += seconds
            fold.plain_tokens += tokens
            seen.plains += 1
            seen.plain_seconds += seconds
            seen.plain_tokens += tokens
            return
        add(fold.ttft, ttft_seconds, SECONDS)
        seen.first_tokens += 1
        seen.first_token_seconds += max(ttft_seconds, LEAST_SECONDS)
        if tokens > 1:
            spent = max(seconds - ttft_seconds, 0.0)
            add(fold.pace, tokens / (spent or LEAST_SECONDS), RATE)
            seen.paces += 1
            seen.pace_seconds += spent
            seen.pace_tokens += tokens

    def failed(self, endpoint_slug: str, *, rate_limited: bool) -> None:
        """Note an attempt that failed: it says nothing about speed. Limits (429, 408) are counted apart."""
        fold = self._fold(endpoint_slug)
        if rate_limited:
            fold.rate_limited += 1
        else:
            fold.failures += 1

    def added(self, seconds: float) -> None:
        """Note what the gateway itself added to a call that an endpoint has answered, and has counted."""
        add(self._fold(GATEWAY).ours, seconds, OWN)

    def _fold(self, endpoint_slug: str) -> Fold:
        self.observations += 1
        fold = self.folds.get(endpoint_slug)
        if fold is None:
            fold = self.folds[endpoint_slug] = Fold()
        return fold

    def stamp(self, now: float) -> int:
        """Predictions may be kept while this stays the same; it moves at most every REFRESH_SECONDS."""
        if (self._seen or self._known) and now - self._stamped_at >= REFRESH_SECONDS:
            self._stamp += 1
            self._stamped_at = now
        return self._stamp

    def samples(self, endpoint_slug: str, now: float) -> float:
        """How many answers of an endpoint this worker has seen, those of long ago faded."""
        seen = self._seen.get(endpoint_slug)
        if seen is None:
            return 0.0
        seen.fade(now, self._half_life)
        return seen.first_tokens + seen.plains

    def observed(self) -> tuple[str, ...]:
        return tuple(self._seen)

    def predict(
        self, endpoint_slug: str, *, ttft_seconds: float, seconds_per_token: float, now: float
    ) -> tuple[float, float]:
        """(time to first token, seconds per token): the catalog's figures, moved by what was seen."""
        first, pace = ttft_seconds, seconds_per_token
        weight = CATALOG_WEIGHT
        known = self._known.get(endpoint_slug)
        if known is not None:
            weight = SNAPSHOT_WEIGHT
            first = known.ttft_part * first + known.ttft_rest
            pace = known.pace_part * pace + known.pace_rest
            for against, plain in known.plains:
                scale = _scale(first, pace, against, plain)
                first *= scale
                pace *= scale
        seen = self._seen.get(endpoint_slug)
        if seen is not None:
            seen.fade(now, self._half_life)
            first = (weight * first + seen.first_token_seconds) / (weight + seen.first_tokens)
            if seen.pace_tokens > 0:
                own = seen.pace_seconds / seen.pace_tokens
                pace = (weight * pace + seen.paces * own) / (weight + seen.paces)
            if seen.plains > 0:
                plain = Plain(seen.plains, seen.plain_seconds / seen.plains, seen.plain_tokens / seen.plains)
                scale = _scale(first, pace, weight, plain)
                first *= scale
                pace *= scale
        return max(first, LEAST_SECONDS), pace


def made_ready(endpoints: Iterable[tuple[str, Vitals]]) -> dict[str, _Known]:
    """A thousand take some milliseconds: who may not be kept from other work makes a few at a time."""
    return {slug: _known(vitals) for slug, vitals in endpoints}


def _known(vitals: Vitals) -> _Known:
    """Two steps of shrinking, catalog → five minutes → half a minute, as one linear function."""
    recent = vitals.recent
    answers = float(vitals.attempts)
    lately = float(recent.attempts - recent.failures - recent.rate_limited)
    made = _Known(answers)
    if vitals.ttft_seconds is not None:
        made.ttft_part, made.ttft_rest = _shrunk(
            vitals.ttft_seconds.p50, max(answers, 1.0), recent.ttft_seconds, lately
        )
    if vitals.tokens_per_second is not None:
        pace = recent.tokens_per_second
        made.pace_part, made.pace_rest = _shrunk(
            1 / vitals.tokens_per_second.p50, answers, None if pace is None else 1 / pace, lately
        )
    made.plains = tuple(
        (against, plain)
        for against, plain in ((CATALOG_WEIGHT, vitals.plain), (MINUTES_WEIGHT, recent.plain))
        if plain is not None
    )
    return made


def _shrunk(minutes: float, answers: float, lately: float | None, fresh: float) -> tuple[float, float]:
    """(part of the catalog's figure, rest) of a prediction."""
    part = CATALOG_WEIGHT / (CATALOG_WEIGHT + answers)
    rest = minutes * (1 - part)
    if lately is None:
        return part, rest
    kept = MINUTES_WEIGHT / (MINUTES_WEIGHT + fresh)
    return part * kept, rest * kept + lately * (1 - kept)


def _scale(first: float, pace: float, weight: float, plain: Plain) -> float:
    """How much longer plain answers took than predicted, as far as there are enough of them."""
    expected = max(first + plain.tokens * pace, LEAST_SECONDS)
    return (weight + plain.replies * plain.seconds / expected) / (weight + plain.replies)
