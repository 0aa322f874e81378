"""Answers kept for idempotency keys: bounded for each organization, and reached only through it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import redis

from aggregator.lib.errors import Refusal
from billing.claims import Claim
from routing.idempotency import Idempotency, Kept


@pytest.fixture
def cache(settings):
    settings.IDEMPOTENCY_ORGANIZATION_BYTES = 10_000
    client = redis.Redis.from_url(settings.CACHE_URL, decode_responses=True)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@asynccontextmanager
async def opened():
    made = Idempotency(cast(Any, None))  # answers need no gate
    try:
        yield made
    finally:
        await made.close()


def claim_of(organization, number=0):
    return Claim(organization, f"member-{number}", "request", "spool")


async def has(store, claim):
    try:
        kept = await store._answer(claim.organization, claim.generation)
    except Refusal as refusal:
        assert refusal.error_type == "idempotency_answer_not_kept"
        return False
    return bool(kept.body)


def test_one_that_is_stored_twice_counts_once(cache):
    """Its connection broke, or its call was cancelled meanwhile."""
    kept = Kept(200, False, [], b"x" * 4000)

    async def work():
        async with opened() as store:
            claim = claim_of("org_a")
            for _ in range(5):
                await store.store(claim, kept)
            assert await has(store, claim)

    asyncio.run(work())
    assert cache.hget("{org_a}:answers", "next") == "1"


def test_every_byte_comes_back(cache):
    kept = Kept(200, True, [(b"x-a", b"\xff\x00")], bytes(range(256)) + "é\u2028😀".encode())

    async def work():
        async with opened() as store:
            claim = claim_of("org_a")
            await store.store(claim, kept)
            assert await store._answer("org_a", claim.generation) == kept

    asyncio.run(work())


def test_newer_answers_displace_the_organizations_older_ones_and_nobody_elses(cache):
    async def work():
        async with opened() as store:
            others = claim_of("org_b")
            await store.store(others, Kept(200, False, [], b"x" * 9_000))
            mine = [claim_of("org_a", number) for number in range(30)]
            for claim in mine:
                await store.store(claim, Kept(200, False, [], b"x" * 900))
            present = [await has(store, claim) for claim in mine]
            assert present == [False] * 20 + [True] * 10
            assert await has(store, others)

    asyncio.run(work())
    queue = cache.hgetall("{org_a}:answers")
    assert len(queue) == 3 + 10
    sizes = sum(cache.strlen(name) for name in cache.keys("{org_a}:answer:*"))
    assert int(queue["bytes"]) == sizes <= 10_000
    assert all(0 < cache.ttl(name) <= 24 * 60 * 60 for name in cache.keys("*"))


def test_what_has_run_out_makes_room(cache, settings):
    settings.IDEMPOTENCY_SECONDS = 1

    async def work():
        async with opened() as store:
            for number in range(5):
                await store.store(claim_of("org_a", number), Kept(200, False, [], b"x" * 900))
            await asyncio.sleep(0.6)
            settings.IDEMPOTENCY_SECONDS = 60
            await store.store(claim_of("org_a", 6), Kept(200, False, [], b"x" * 900))
            await asyncio.sleep(1.5)
            await store.store(claim_of("org_a", 7), Kept(200, False, [], b"x" * 900))

    asyncio.run(work())
    assert len(cache.keys("{org_a}:answer:*")) == 2
    assert int(cache.hget("{org_a}:answers", "bytes")) < 2_000


def test_one_organization_cannot_read_anothers_answer(cache):
    async def work():
        async with opened() as store:
            claim = claim_of("org_a")
            await store.store(claim, Kept(200, False, [], b"secret"))
            with pytest.raises(Refusal) as refused:
                await store._answer("org_b", claim.generation)
            assert refused.value.error_type == "idempotency_answer_not_kept"

    asyncio.run(work())


def test_a_cache_that_is_away_costs_the_replay_and_nothing_else(settings):
    settings.CACHE_URL = "redis://127.0.0.1:1/1"

    async def work():
        async with opened() as store:
            await store.store(claim_of("org_a"), Kept(200, False, [], b"x"))
            with pytest.raises(Refusal) as refused:
                await store._answer("org_a", "gen-x")
            assert (refused.value.status, refused.value.error_type) == (503, "service_unavailable")

    asyncio.run(work())
