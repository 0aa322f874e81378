"""What of a call counts for an endpoint in the figures that all gateways share."""

from __future__ import annotations

import time

import pytest
import redis

from routing import figures
from routing.core.folds import GATEWAY
from routing.core.vitals import Vitals

pytestmark = pytest.mark.xdist_group("gateway")


def published(running, model: str) -> Vitals:
    with redis.Redis.from_url(f"{running.redis_url}/1") as cache:
        found = figures.snapshot(cache.get(figures.SNAPSHOT)).endpoints
    return found.get(f"sandbox-faults:sandbox/{model}", Vitals())


def test_failures_and_limits_count_apart_refusals_not_at_all_and_nothing_is_no_answer(running, caller):
    asked = {"fault-500": 502, "fault-429": 429, "fault-refuse": 400, "fault-empty": 200}
    for model, status in asked.items():
        for stream in (True, False):
            assert caller.chat(f"sandbox/{model}", stream=stream, max_tokens=5).status_code == status
    until = time.monotonic() + 60
    while min(published(running, f"fault-{name}").attempts for name in ("empty", "500", "429")) < 1:
        assert time.monotonic() < until
        time.sleep(0.1)

    failing, limited = published(running, "fault-500"), published(running, "fault-429")
    assert (failing.uptime_5m, limited.uptime_5m) == (0.0, None)
    assert published(running, "fault-refuse").attempts == 0
    empty = published(running, "fault-empty")
    assert empty.uptime_5m == 0.0 and empty.ttft_seconds is None


def test_what_the_gateway_adds_is_measured_for_plain_answers_and_streams(running, caller):
    def measured() -> int:
        with redis.Redis.from_url(f"{running.redis_url}/1") as cache:
            told = [text for key in cache.scan_iter("vitals:s:*") for text in cache.hvals(key)]
        found = [fold for seen in figures.read(told) if (fold := seen.get(GATEWAY)) is not None]
        return sum(count for fold in found for count in fold.ours.values())

    before, until = measured(), time.monotonic() + 60
    for stream in (True, False):
        assert caller.chat("sandbox/pebble", stream=stream, max_tokens=5).status_code == 200
    while measured() < before + 2:
        assert time.monotonic() < until
        time.sleep(0.1)
