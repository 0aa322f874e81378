"""A provider may answer anything: its call is recorded once, its hold goes, PostgreSQL takes the record."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import time

import pytest

from aggregator.lib import kv
from aggregator.lib.errors import Refusal
from aggregator.lib.threads import in_thread
from billing import gate, plans
from billing.core import generation
from billing.core.pricing import parse_price
from billing.models import Generation as Row
from billing.spool import Spool
from routing.attempts import Attempts
from routing.callers import Caller, Callers
from routing.core.listing import Endpoint, Listing, Model, Provider
from routing.core.live import Live
from routing.dialects.openai_request import read_request
from routing.endings import Endings
from routing.gateway import Gateway
from routing.upstream import Upstream
from tests.billing.test_admission import Customer, running, silent_gate

pytestmark = pytest.mark.django_db(transaction=True)

BODY = {"model": "a/m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 2}


def plain(**fields):
    return json.dumps({"id": "up-1", "choices": [CHOICE], "usage": USAGE, **fields}).encode()


def chunk(content="hi", finish=None, **fields):
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    data = {"id": "up-1", "model": "m", "created": 1, "choices": [choice], **fields}
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


@contextlib.asynccontextmanager
async def answering(*blocks, pause=0.0):
    """A provider that answers every request with these blocks; its port."""

    serving = set()

    async def serve(reader, writer):
        serving.add(asyncio.current_task())
        head = await reader.readuntil(b"\r\n\r\n")
        size = next(
            int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        await reader.readexactly(size)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            for block in blocks:
                writer.write(block)
                await writer.drain()
                await asyncio.sleep(pause)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)


class Out:
    """A customer who stays."""

    def __init__(self):
        self.got = b""
        self.gone = False

    async def start(self, headers):
        pass

    async def send(self, data):
        self.got += data

    def left(self):
        return self.gone


class House:
    def __init__(self, process, port, customer, *, quirks=frozenset()):
        self.process, self.customer = process, customer
        model = Model("a/m", "M", 100_000, 4000, "standard", True, frozenset(), 0)
        provider = Provider("p", "P", "openai", f"http://127.0.0.1:{port}", "key", quirks)
        price = parse_price(1, {"input": "1", "output": "1"})
        endpoint = Endpoint("p:a/m", provider, model, "m", 4000, price, 0.1, 100.0)
        self.upstream = Upstream()
        endings = Endings(process.admission, process.settlement, Live())
        listing = Listing(1, {"a/m": model}, {"a/m": (endpoint,)})
        self.gateway = Gateway(Callers(), Attempts(self.upstream, endings), endings, listing)

    async def begin(self, **fields):
        terms = await in_thread(plans.terms, self.customer.organization.pk)
        caller = Caller(b"", self.customer.principal, terms, time.monotonic())
        chat = read_request(json.dumps({**BODY, **fields}).encode())
        return await self.gateway.begin("", caller, chat, user_agent="agent\0smith")

    async def row(self):
        assert self.process.admission.live == {}
        async with asyncio.timeout(60):
            while (row := await in_thread(Row.unscoped.first)) is None:
                await asyncio.sleep(0.02)
        return row


@contextlib.asynccontextmanager
async def away(settings, *, patience_ms=50):
    """The gate answers no script inside; one waits so long for it."""
    settings.GATE_TIMEOUT_MS = patience_ms
    async with silent_gate():
        yield


def run(tmp_path, blocks, work, *, pause=0.0):
    customer = Customer()

    async def whole():
        async with answering(*blocks, pause=pause) as port, running(tmp_path) as (process,):
            house = House(process, port, customer)
            try:
                await work(house)
            finally:
                await house.upstream.close()

    asyncio.run(whole())


@pytest.mark.parametrize("details", [[], "none", 7, True])
def test_details_of_usage_that_are_no_object_count_as_none(tmp_path, details):
    usage = {**USAGE, "prompt_tokens_details": details, "completion_tokens_details": details}

    async def work(house):
        await house.gateway.plain(await house.begin(), lambda: False)
        row = await house.row()
        assert (row.status, row.input, row.output, row.estimated) == ("completed", 5, 2, False)

    run(tmp_path, [plain(usage=usage)], work)


@pytest.mark.parametrize("streamed", [False, True])
def test_nul_in_what_others_say_holds_up_no_record(tmp_path, streamed):
    blocks = [plain(id="up\0", choices=[{**CHOICE, "finish_reason": "st\0p"}])]
    if streamed:
        blocks = [chunk(id="up\0"), chunk(finish="st\0p", id="up\0"), b"data: [DONE]\n\n"]

    async def work(house):
        call = await house.begin(stream=streamed)
        if streamed:
            await house.gateway.stream(call, Out())
        else:
            await house.gateway.plain(call, lambda: False)
        row = await house.row()
        assert (row.status, row.upstream_id, row.finish_reason) == ("completed", "up\ufffd", "st\ufffdp")
        assert row.user_agent == "agent\ufffdsmith"

    run(tmp_path, blocks, work)


@pytest.mark.parametrize("field", [{"model": "a/\0"}, {"models": ["a/m", "\0"]}])
def test_nul_in_a_models_name_is_refused(field):
    with pytest.raises(Refusal) as caught:
        read_request(json.dumps({**BODY, **field}).encode())

    assert caught.value.status == 400


@pytest.mark.parametrize("streamed", [False, True])
def test_an_error_that_nobody_expected_leaves_no_live_call(tmp_path, streamed):
    async def work(house):
        call = await house.begin(stream=streamed)
        call.chat.body["top_k"] = object()  # cannot be written to any provider
        with pytest.raises(TypeError):
            await (
                house.gateway.stream(call, Out()) if streamed else house.gateway.plain(call, lambda: False)
            )
        row = await house.row()
        assert (row.status, row.error_type, row.charge_nanos) == ("failed", "internal_error", 0)

    run(tmp_path, [], work)


def test_a_call_that_could_not_be_recorded_is_not_taken_for_charged(tmp_path, monkeypatch):
    """The spool's disk is full: its idempotency key is free again, as the call was."""

    def full(*_):
        raise OSError(errno.ENOSPC, "the spool's disk is full")

    async def work(house):
        call = await house.begin()
        monkeypatch.setattr(Spool, "settle", full)
        with pytest.raises(OSError, match="full"):
            await house.gateway.plain(call, lambda: False)
        assert call.settled and call.bill() is None and call.status not in generation.CHARGED

    run(tmp_path, [plain()], work)


def test_text_that_is_no_text_is_counted_when_the_client_leaves(tmp_path):
    broken = chunk("A").replace(b'"A"', b'"\\q\x01"')  # passed on unread, as it looks like any other

    async def work(house):
        call, out = await house.begin(stream=True), Out()
        task = asyncio.create_task(house.gateway.stream(call, out))
        async with asyncio.timeout(60):
            while out.got.count(b"data: ") < 2:
                await asyncio.sleep(0.01)
        out.gone = True
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        row = await house.row()
        assert row.status == "aborted" and row.output > 0

    run(tmp_path, [chunk(), broken, broken, chunk("never")], work, pause=0.3)


def test_a_stream_goes_on_within_its_hold_while_the_gate_is_away(tmp_path, settings):
    blocks = [chunk("word ") for _ in range(900)]  # more than the first slice lets pass without asking

    async def work(house):
        call = await house.begin(stream=True, max_tokens=None)
        assert call.growing
        out = Out()
        async with away(settings):
            await house.gateway.stream(call, out)
        assert out.got.endswith(b"data: [DONE]\n\n")
        row = await house.row()
        assert (row.status, row.output) == ("completed", 900)

    usage = {"prompt_tokens": 5, "completion_tokens": 900}
    whole = b"".join(blocks)
    run(tmp_path, [whole, chunk("", finish="stop", usage=usage), b"data: [DONE]\n\n"], work, pause=0.05)


def test_a_stream_is_not_held_up_while_the_gate_is_asked_for_more(tmp_path, settings):
    """The gate is away past three quarters of the hold: blocks pass on, and nobody waits for an answer."""
    blocks = [chunk("word ") for _ in range(10)]
    first = [b"".join([chunk("word ")] * 800)]  # past three quarters of the first slice

    async def work(house):
        call = await house.begin(stream=True, max_tokens=None)
        out = Out()
        async with away(settings, patience_ms=40_000):
            began = time.monotonic()
            await house.gateway.stream(call, out)
            assert time.monotonic() - began < 30
        assert out.got.endswith(b"data: [DONE]\n\n") and b"credit_exhausted" not in out.got
        assert (await house.row()).output == 810

    usage = {"prompt_tokens": 5, "completion_tokens": 810}
    run(
        tmp_path,
        [*first, *blocks, chunk("", finish="stop", usage=usage), b"data: [DONE]\n\n"],
        work,
        pause=0.02,
    )


def test_a_stream_ends_within_what_it_holds_when_the_gate_stays_away(tmp_path, settings):
    many = b"".join([chunk("word ")] * 600)

    async def work(house):
        call = await house.begin(stream=True, max_tokens=None)
        out = Out()
        async with away(settings):
            await house.gateway.stream(call, out)
        assert b'"type":"credit_exhausted"' in out.got and b'"finish_reason":"length"' in out.got
        row = await house.row()
        assert (row.status, row.finish_reason) == ("completed", "length")
        assert row.charge_nanos <= call.held and row.output >= 1024

    run(tmp_path, [many, many, many, many, many], work, pause=0.02)


def test_what_a_gate_grants_after_the_end_is_given_back(tmp_path, settings):
    """The stream ends while the gate is asked for more: no hold is left when the answer comes."""
    blocks = [b"".join([chunk("word ")] * 800), chunk("", finish="stop", usage=USAGE), b"data: [DONE]\n\n"]

    async def work(house):
        call = await house.begin(stream=True, max_tokens=None)
        async with away(settings, patience_ms=5000):
            await house.gateway.stream(call, Out())
            await house.row()
        wallet = gate.wallet_key(call.accounts[0])
        async with asyncio.timeout(60):
            while True:
                held = await in_thread(kv.gate().hgetall, wallet)
                if held["held"] == "0" and not [name for name in held if name.startswith("h:")]:
                    break
                await asyncio.sleep(0.05)

    run(tmp_path, blocks, work, pause=0.02)


def test_a_usage_above_the_hold_is_settled_while_the_gate_is_away(tmp_path, settings):
    async def work(house):
        call = await house.begin()
        async with away(settings):
            await house.gateway.plain(call, lambda: False)
        row = await house.row()
        assert (row.status, row.charge_nanos) == ("completed", call.held)
        assert row.loss_nanos > 0

    run(tmp_path, [plain(usage={"prompt_tokens": 500, "completion_tokens": 50})], work)
