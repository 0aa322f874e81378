"""What this worker has seen of each endpoint lately: time to first token and pace.

Pure: no clock and no I/O, `now` comes in (monotonic seconds). A prediction starts from the catalog's figures
and moves to what was seen as samples arrive; samples fade by half every HALF_LIFE_SECONDS, so an endpoint
that is no longer called drifts back to its catalog figures.
"""

from __future__ import annotations

from dataclasses import dataclass

from routing.vitals import NOTHING, Snapshot, Vitals

HALF_LIFE_SECONDS = 120.0
CATALOG_WEIGHT = 2.0
"""The catalog's figures count as much as this many fresh samples."""
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

    def fade(self, now: float) -> None:
        if now <= self.at:
            return
        left = 0.5 ** ((now - self.at) / HALF_LIFE_SECONDS)
        self.at = now
        self.first_tokens *= left
        self.first_token_seconds *= left
        self.paces *= left
        self.pace_seconds *= left
        self.pace_tokens *= left
        self.plains *= left
        self.plain_seconds *= left
        self.plain_tokens *= left


class Live:
    """One per worker; memory is bounded by the number of endpoints in the catalog."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._stamp = 0
        self._stamped_at = float("-inf")
        self.snapshot: Snapshot = NOTHING

    def learn(self, snapshot: Snapshot) -> None:
        """Take in what all gateways together have seen."""
        self.snapshot = snapshot

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
    ) -> None:
        """Note one answer.

        `seconds` is from dispatch to the last byte. A plain reply has no time to first token: pass None,
        and its whole duration is compared with the prediction instead.
        """
        seen = self._seen.setdefault(endpoint_slug, _Seen(now))
        seen.fade(now)
        if ttft_seconds is None:
            seen.plains += 1
            seen.plain_seconds += max(seconds, LEAST_SECONDS)
            seen.plain_tokens += tokens
            return
        seen.first_tokens += 1
        seen.first_token_seconds += max(ttft_seconds, LEAST_SECONDS)
        if tokens > 1:
            seen.paces += 1
            seen.pace_seconds += max(seconds - ttft_seconds, 0.0)
            seen.pace_tokens += tokens

    def stamp(self, now: float) -> int:
        """Predictions may be kept while this stays the same; it moves at most every REFRESH_SECONDS."""
        if self._seen and now - self._stamped_at >= REFRESH_SECONDS:
            self._stamp += 1
            self._stamped_at = now
        return self._stamp

    def observed(self) -> tuple[str, ...]:
        return tuple(self._seen)

    def predict(
        self, endpoint_slug: str, *, ttft_seconds: float, seconds_per_token: float, now: float
    ) -> tuple[float, float]:
        """(time to first token, seconds per token): the catalog's figures, moved by what was seen."""
        seen = self._seen.get(endpoint_slug)
        if seen is not None:
            seen.fade(now)
            ttft_seconds = (CATALOG_WEIGHT * ttft_seconds + seen.first_token_seconds) / (
                CATALOG_WEIGHT + seen.first_tokens
            )
            if seen.pace_tokens > 0:
                pace = seen.pace_seconds / seen.pace_tokens
                seconds_per_token = (CATALOG_WEIGHT * seconds_per_token + seen.paces * pace) / (
                    CATALOG_WEIGHT + seen.paces
                )
            expected = seen.plains * ttft_seconds + seen.plain_tokens * seconds_per_token
            if expected > 0:
                ratio = seen.plain_seconds / expected
                scale = (CATALOG_WEIGHT + seen.plains * ratio) / (CATALOG_WEIGHT + seen.plains)
                ttft_seconds *= scale
                seconds_per_token *= scale
        return max(ttft_seconds, LEAST_SECONDS), seconds_per_token
