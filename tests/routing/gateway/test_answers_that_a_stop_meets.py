"""A stop that meets a call after its end: the call was charged, so the client has its answer or the truth."""

from __future__ import annotations

import asyncio
import json

import pytest

from accounts import keys
from aggregator.lib.http_server import WHEN_LEFT
from aggregator.lib.threads import in_thread
from billing.models import Generation as Row
from routing import v1
from routing.idempotency import Idempotency
from tests.routing.gateway.test_strange_answers import BODY, USAGE, House, chunk, plain, run

pytestmark = pytest.mark.django_db(transaction=True)

STREAM = [chunk("hi"), chunk("", finish="stop", usage=USAGE), b"data: [DONE]\n\n"]


class Client:
    """One request; what came back. `stop_at` tells of which message the stop is met, once."""

    def __init__(self, house: House, *, stop_at=lambda _: False) -> None:
        self.house, self.stop_at = house, stop_at
        self.got: list[dict] = []

    async def ask(self, *, key: str = "", stream: bool) -> None:
        text = await in_thread(_new_key, self.house.customer.organization)
        body = json.dumps({**BODY, "stream": stream}).encode()
        headers = [(b"authorization", f"Bearer {text}".encode())]
        if key:
            headers.append((b"idempotency-key", key.encode()))
        scope = {"method": "POST", "path": "/api/v1/chat/completions", "headers": headers}
        scope["extensions"] = {WHEN_LEFT: lambda _: None}

        async def receive():
            return {"type": "http.request", "body": body}

        await v1.serve(self.house.gateway, scope, receive, self.send)

    async def send(self, message) -> None:
        if self.stop_at(message):
            self.stop_at = lambda _: False
            self.house.gateway.traffic.end()
            await asyncio.sleep(30)  # its reader is slow; the stop finds it waiting
        self.got.append(message)

    @property
    def status(self) -> int:
        return self.got[0]["status"]

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.got[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.got)


def _new_key(organization):
    return keys.create(organization, name="another", by="test")[1]


async def the_row():
    async with asyncio.timeout(60):
        while (row := await in_thread(Row.unscoped.first)) is None:
            await asyncio.sleep(0.02)
    return row


def test_a_stream_whose_last_bytes_wait_is_told_that_it_was_charged(tmp_path):
    async def work(house):
        client = Client(house, stop_at=lambda message: b"[DONE]" in message.get("body", b""))
        await client.ask(stream=True)
        row = await the_row()
        told = json.loads(client.body.split(b"data: ")[-1])["error"]
        assert row.status == "completed" and row.charge_nanos > 0
        assert told["metadata"]["error_type"] == "shutting_down"
        assert told["metadata"]["cost_nanos"] == row.charge_nanos
        assert told["metadata"]["generation_id"] == f"gen-{row.id.hex}"
        assert "Nothing was charged" not in told["message"] and "retry" not in told["message"]

    run(tmp_path, STREAM, work)


def test_a_plain_answer_that_waits_is_told_that_it_was_charged_and_not_asked_for_again(tmp_path):
    async def work(house):
        client = Client(house, stop_at=lambda message: message["type"] == "http.response.start")
        await client.ask(stream=False)
        row = await the_row()
        told = json.loads(client.body)["error"]
        assert row.status == "completed" and client.status == 503
        assert told["metadata"]["cost_nanos"] == row.charge_nanos > 0
        assert "Nothing was charged" not in told["message"]
        assert client.headers[b"x-should-retry"] == b"false" and b"retry-after" not in client.headers

    run(tmp_path, [plain()], work)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_being_kept_is_kept_and_given(tmp_path, monkeypatch, stream):
    """Under an idempotency key: the next request has it again, and is not called."""
    store, met = Idempotency.store, []

    async def work(house):
        async def meets_a_stop(self, claim, kept):
            if not met:
                met.append(claim)
                house.gateway.traffic.end()
                await asyncio.sleep(30)
            await store(self, claim, kept)

        monkeypatch.setattr(Idempotency, "store", meets_a_stop)
        client, again = Client(house), Client(house)
        await client.ask(key="once", stream=stream)
        house.gateway.traffic.ending = False  # the next worker
        await again.ask(key="once", stream=stream)
        assert met and (client.status, again.status) == (200, 200)
        assert client.body == again.body
        assert (b"[DONE]" in client.body) == stream
        await the_row()
        assert await in_thread(Row.unscoped.count) == 1

    run(tmp_path, STREAM if stream else [plain()], work)
