"""A stream that fails before it has said anything falls back unseen, whatever it began with."""

from __future__ import annotations

import asyncio
import dataclasses
import time

import pytest

from routing import attempts
from routing.core.listing import Listing
from tests.billing.test_admission import Customer, running
from tests.routing.gateway.test_strange_answers import House, Out, answering, chunk

pytestmark = pytest.mark.django_db(transaction=True)

ERROR = b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n'
ROLE = chunk(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
EMPTY = chunk(choices=[])
WHOLE = [ROLE, chunk("hello"), chunk("", "stop"), b"data: [DONE]\n\n"]
CHUNKED = 0.02
"""So that blocks arrive one by one."""


def run(tmp_path, first, work, *, pause=CHUNKED):
    """A quick provider that answers with `first`, and one after it that is well."""
    customer = Customer()

    async def whole():
        async with (
            answering(*first, pause=pause) as port,
            answering(*WHOLE) as healthy,
            running(tmp_path) as (process,),
        ):
            house = House(process, port, customer)
            (endpoint,) = house.gateway.listing.endpoints["a/m"]
            second = dataclasses.replace(endpoint.provider, slug="q", base_url=f"http://127.0.0.1:{healthy}")
            slower = dataclasses.replace(endpoint, slug="q:a/m", provider=second, ttft_seconds=5.0)
            house.gateway.listing = Listing(1, house.gateway.listing.models, {"a/m": (endpoint, slower)})
            try:
                await work(house)
            finally:
                await house.upstream.close()

    asyncio.run(whole())


@pytest.mark.parametrize(
    "first",
    [
        [ERROR],
        [b": wait\n\n", b": wait\n\n", ERROR],
        [EMPTY, ERROR],
        [ROLE, ERROR],
        [ROLE + ERROR],
        [EMPTY, ROLE, b": wait\n\n", ROLE, ERROR],
        [ROLE],
        [ROLE, b"data: {nonsense\n\n"],
    ],
)
def test_an_error_before_anything_was_said_falls_back(tmp_path, first):
    async def work(house):
        out = Out()
        call = await house.begin(stream=True, route_preference="speed")
        await house.gateway.stream(call, out)

        assert b"hello" in out.got and out.got.endswith(b"data: [DONE]\n\n")
        assert b"error" not in out.got and out.got.count(b'"role"') == 1
        assert call.target.endpoint.slug == "q:a/m" and len(call.attempts) == 1

    run(tmp_path, first, work)


def test_an_error_after_something_was_said_is_told(tmp_path):
    async def work(house):
        out = Out()
        call = await house.begin(stream=True, route_preference="speed")
        await house.gateway.stream(call, out)

        assert b"never mind" in out.got and b'"error"' in out.got and b"hello" not in out.got

    run(tmp_path, [ROLE, chunk("never mind"), ERROR], work)


def test_one_that_is_silent_after_its_first_event_is_not_kept_back_for_long(tmp_path, monkeypatch):
    """A model may think for a minute: what it began with goes out, and the call goes on there."""
    monkeypatch.setattr(attempts, "SILENT_SECONDS", 0.1)

    async def work(house):
        call = await house.begin(stream=True, route_preference="speed")
        began = time.monotonic()
        begun = await house.gateway.attempts.stream(call)
        assert b'"role"' in begun.first and b"thought" not in begun.first
        assert time.monotonic() - began < 3.8
        house.gateway.endings.cancelled(call, begun.reader, by_client=True)
        begun.response.release()

    run(tmp_path, [ROLE, chunk("thought"), chunk("", "stop")], work, pause=4)
