"""`GET /activity`: the last thirty complete days, in OpenRouter's shape."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
import time_machine

from aggregator.lib import ids
from billing.core.money import usd
from billing.models import Generation
from tests.billing.using import NOW, World, expected


@pytest.fixture
def world(db):
    with time_machine.travel(NOW, tick=False):
        yield World()


@pytest.fixture
def small(db):
    with time_machine.travel(NOW, tick=False):
        yield World(6)


def test_activity_is_the_last_thirty_complete_days_by_model_and_endpoint(world):
    status, said = world.get("/activity")

    assert status == 200
    since, until = datetime(2026, 10, 19, tzinfo=UTC), datetime(2026, 11, 18, tzinfo=UTC)
    whole = expected(world, ["day", "model", "endpoint"], since, until)
    whole = {names: sums for names, sums in whole.items() if names[2]}
    lines = {(line["date"], line["model"], line["endpoint_id"]): line for line in said["data"]}
    assert lines.keys() == whole.keys() and len(lines) == len(said["data"]) > 5
    for names, line in lines.items():
        sums = whole[names]
        assert line == {
            "date": names[0],
            "model": names[1],
            "model_permaslug": names[1],
            "endpoint_id": names[2],
            "provider_name": names[2].partition(":")[0],
            "usage": Decimal(usd(sums["charge_nanos"])),
            "byok_usage_inference": 0,
            "requests": sums["requests"],
            "prompt_tokens": sums["prompt_tokens"],
            "completion_tokens": sums["completion_tokens"],
            "reasoning_tokens": sums["reasoning_tokens"],
            "cached_tokens": sums["cached_tokens"],
        }
    assert [line["date"] for line in said["data"]] == sorted(
        (line["date"] for line in said["data"]), reverse=True
    )


def test_activity_of_one_day_key_or_member(world):
    key = world.keys[0]
    day = world.get("/activity", date="2026-11-17")[1]["data"]
    own = world.get("/activity", api_key_hash=key.public_id)[1]["data"]

    assert {line["date"] for line in day} == {"2026-11-17"}
    assert own == world.get("/activity", user_id="ada@acme.example")[1]["data"]
    assert sum(line["requests"] for line in own) == sum(
        bool(call.endpoint) and datetime(2026, 10, 19, tzinfo=UTC) <= ids.uuid7_time(call.id)
        < datetime(2026, 11, 18, tzinfo=UTC)
        for call in Generation.objects.of(world.organization).filter(key=key)
    )  # fmt: skip


def test_activity_that_cannot_be_answered_is_refused(small):
    for asked, param in (
        ({"date": "2026-11-18"}, "date"),
        ({"date": "2026-10-18"}, "date"),
        ({"date": "x"}, "date"),
        ({"api_key_hash": "key_nobody"}, "api_key_hash"),
        ({"user_id": "nobody"}, "user_id"),
        ({"group_by": "workspace"}, "group_by"),
    ):
        status, said = small.get("/activity", **asked)

        assert (status, said["error"]["type"], said["error"]["param"]) == (400, "invalid_request", param)
