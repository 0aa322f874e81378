"""What all gateways together have seen of each endpoint: the live figures behind predictions. Pure values.

Workers fold their own traffic, a job merges it, and every worker holds the latest `Snapshot`. Figures that
nobody has measured are None: nothing is made up for them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Percentiles(msgspec.Struct, frozen=True):
    p50: float
    p75: float
    p90: float
    p99: float


class Plain(msgspec.Struct, frozen=True):
    """Answers that came whole, without a stream: how many, and their means."""

    replies: float
    seconds: float
    """From dispatch to the last byte."""
    tokens: float


class Recent(msgspec.Struct, frozen=True):
    """The last 30 seconds, to see a change before five minutes of older traffic let it through."""

    attempts: int = 0
    failures: int = 0
    """Of the provider's own doing: what it refused, and its rate limits, are not among them."""
    rate_limited: int = 0
    ttft_seconds: float | None = None
    """Median; of all three figures here, the newer the more."""
    tokens_per_second: float | None = None
    """Median."""
    plain: Plain | None = None


class Vitals(msgspec.Struct, frozen=True):
    """One endpoint's figures."""

    attempts: int = 0
    """In the last five minutes, as are both percentiles, plain answers and the cache's share.

    Worked, failed or rate-limited (429, 408); a request that the provider refused (400, 413, 422) is none.
    """
    ttft_seconds: Percentiles | None = None
    """p90: nine of ten first tokens came within it."""
    tokens_per_second: Percentiles | None = None
    """p90: nine of ten answers were at least as fast, so that a higher percentile is a harder promise."""
    plain: Plain | None = None
    cache_hit_share: float | None = None
    """Cached prompt tokens ÷ prompt tokens, of models that have a price for them."""
    uptime_5m: float | None = None
    """Attempts that worked ÷ those that worked or failed, 0 to 1; probes count where there was no traffic."""
    uptime_30m: float | None = None
    uptime_1d: float | None = None
    healthy: bool | None = None
    """What the probes say, with hysteresis; None where none was sent lately, own traffic being enough.

    False puts an endpoint last among those that can serve, and never excludes it: a probe may be wrong, and
    when all look down all are tried. A probe alone opens or closes no circuit either.
    """
    recent: Recent = Recent()


class Snapshot(msgspec.Struct, frozen=True):
    version: int = 0
    """Grows with each; 0 is the empty one of a worker that has heard nothing yet."""
    made_at: float = 0.0
    """Unix seconds."""
    endpoints: Mapping[str, Vitals] = {}
    """By endpoint slug; one without traffic or probes is absent."""


NOTHING = Snapshot()
