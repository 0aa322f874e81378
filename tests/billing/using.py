"""An organization that used much, asked by HTTP, and its sums computed a second way."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.test import Client

from accounts import keys
from accounts.core import roles
from accounts.models import User
from aggregator.lib import ids
from billing import posting
from billing.core import pricing
from billing.core.usage import Usage
from billing.models import Generation
from tests.billing import books

NOW = datetime(2026, 11, 18, 14, 30, tzinfo=UTC)
CACHING = {"input": "2", "cache_read": "0.2", "cache_write_5m": "2.5", "output": "8"}
PLACES = ("a:acme/swift", "b:acme/swift", "a:acme/slow", "b:zoo/otter", "")


class World:
    """An organization with keys of two people and of nobody, and calls over three months."""

    def __init__(self, calls: int = 90) -> None:
        draw = random.Random(4)
        self.organization = books.make_organization(usd="1000")
        people = [User.objects.create_user(f"{name}@acme.example", "x") for name in ("ada", "bob")]
        self.keys = [books.make_key(self.organization, name) for name in ("one", "two", "three")]
        for key, person in zip(self.keys, people, strict=False):
            key.created_by = person
            key.save()
        self.management = keys.create(self.organization, name="m", by="test", scope=roles.MANAGEMENT)[1]
        price = books.make_price("a:acme/swift", CACHING)
        for number in range(calls):
            self._call(draw, price, number)
            if number == calls * 2 // 3:
                posting.post_generations()

    def _call(self, draw: random.Random, price: pricing.Price, number: int) -> None:
        place = draw.choice(PLACES)
        free = number % 9 == 0 or not place
        days = draw.choice((0, 0, 1, 2, 17, 18, 45, 80))
        usage = Usage(*(draw.randrange(2000) for _ in range(6)))
        books.deliver(
            draw.choice(self.keys),
            price,
            at=NOW - timedelta(days=days, hours=draw.randrange(14), minutes=number % 29),
            usage=usage,
            cache_write_5m=usage.cache_write_5m,
            cache_write_1h=usage.cache_write_1h,
            status="failed" if free else draw.choice(("completed", "completed", "aborted")),
            free=free,
            model=place.partition(":")[2],
            endpoint=place,
            end_user=draw.choice(("", "u1", "ü2", "third")),
        )

    def get(self, path: str = "/usage", **asked: object):
        answer = Client().get(
            f"/api/v1{path}",
            {name.replace("from_", "from"): value for name, value in asked.items()},
            headers={"Authorization": f"Bearer {self.management}"},
        )
        return answer.status_code, json.loads(answer.content, parse_float=Decimal)


def told(call: Generation, group: str) -> str | None:
    """What a line of this group calls a generation; a second way, from the row itself."""
    at = ids.uuid7_time(call.id)
    return {
        "hour": f"{at:%Y-%m-%dT%H}:00Z",
        "day": f"{at:%Y-%m-%d}",
        "month": f"{at:%Y-%m}",
        "model": call.model or None,
        "provider": call.endpoint.partition(":")[0] or None,
        "endpoint": call.endpoint or None,
        "key": call.key.public_id,
        "member": call.key.created_by.email if call.key.created_by else None,
        "end_user": call.end_user or None,
    }[group]


def figures(calls: list[Generation]) -> dict[str, int]:
    saved = 0
    for call in calls:
        if call.charge_nanos:
            price = pricing.parse_price(call.price_id, CACHING)
            usage = Usage(call.input, call.cache_read, call.cache_write_5m, call.cache_write_1h,
                          call.output, call.reasoning)  # fmt: skip
            saved += pricing.saved_by_caches(usage, price, call.markup)
    return {
        "requests": len(calls),
        "failed": sum(call.status in ("failed", "void") for call in calls),
        "aborted": sum(call.status == "aborted" for call in calls),
        "prompt_tokens": sum(
            call.input + call.cache_read + call.cache_write_5m + call.cache_write_1h for call in calls
        ),
        "cached_tokens": sum(call.cache_read for call in calls),
        "cache_write_tokens": sum(call.cache_write_5m + call.cache_write_1h for call in calls),
        "completion_tokens": sum(call.output + call.reasoning for call in calls),
        "reasoning_tokens": sum(call.reasoning for call in calls),
        "base_nanos": sum(call.base_nanos for call in calls),
        "markup_nanos": sum(call.charge_nanos - call.base_nanos for call in calls),
        "charge_nanos": sum(call.charge_nanos for call in calls),
        "cache_savings_nanos": saved,
    }


def counted(line: dict[str, object]) -> dict[str, object]:
    return {name: line[name] for name in figures([])}


def expected(world: World, groups: list[str], since: datetime, until: datetime, **only: str):
    by = defaultdict(list)
    for call in Generation.objects.of(world.organization).select_related("key__created_by"):
        if since <= ids.uuid7_time(call.id) < until and all(
            told(call, name) == is_ for name, is_ in only.items()
        ):
            by[tuple(told(call, group) for group in groups)].append(call)
    return {names: figures(calls) for names, calls in by.items()}
