"""The simulated providers' own API: chat completions in OpenAI's dialect, at each model's own pace."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from routing.sandbox import answers, faults, odd, strange
from routing.sandbox.answers import Answer
from routing.sandbox.bill import Bill, Call
from routing.sandbox.conditions import Conditions
from routing.sandbox.fleet import PER_MILLION, Fault, Offer
from routing.sandbox.wire import EVENTS, Connection, Request, now_ms

MOST_CHOICES = 16
MOST_KNOWN = 256
LONGEST_KNOWN = 16 * 1024
LONGEST_HELD_BACK = 0.0005
"""Chunks that are due within this many seconds go out together."""
FLOOD_BYTES = 64 * 1024
_FOREIGN = frozenset(
    {"route_preference", "max_cost", "min_class", "models", "provider", "plugins", "transforms"}
)
"""Fields of gateways; a provider that receives one says so, as the real ones do."""


class Refused(Exception):
    """A request that this provider does not take: (status, message, field)."""

    def __init__(self, status: int, message: str = "", param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param


class Providers:
    """All simulated providers, on one bill. `pace` scales every wait: 0 answers at once, 1 is real."""

    def __init__(self, bill: Bill, conditions: Conditions, *, pace: float | None = None) -> None:
        self.bill, self.conditions = bill, conditions
        self.pace = float(os.environ.get("SANDBOX_PACE", "1")) if pace is None else pace
        self._known: dict[tuple[str, bytes], tuple[dict[str, Any], list[Answer], int]] = {}

    async def serve(self, request: Request, connection: Connection) -> None:
        provider, _, path = request.path.strip("/").partition("/")
        try:
            if not self.conditions.knows(provider):
                raise Refused(404, f"There is no simulated provider {provider!r}.")
            _check_key(request)
            if (request.method, path) == ("GET", "v1/models"):
                connection.reply(200, _models(self.conditions.offers_of(provider, time.monotonic())))
            elif (request.method, path) == ("POST", "v1/chat/completions"):
                await self._chat(provider, request, connection)
            else:
                raise Refused(404, f"Unknown request URL: {request.method} {request.path}.")
        except Refused as refused:
            faults.refuse(connection, refused.status, refused.message, param=refused.param)

    async def _chat(self, provider: str, request: Request, connection: Connection) -> None:
        known = self._known.get((provider, request.body))
        body = known[0] if known is not None else _read(request)
        now = time.monotonic()
        offer = self.conditions.offer_in_force(provider, body["model"], now)
        if offer is None:
            raise Refused(404, f"The model {body['model']!r} does not exist.", "model")
        if (struck := self.conditions.strike(offer, now)) is not None:
            offer = replace(offer, fault=struck)
        call = self.bill.begin(
            offer,
            user=str(body.get("user", "")),
            request_id=request.headers.get("x-request-id", ""),
            streamed=bool(body.get("stream")),
            fields=tuple(sorted(body)),
        )
        try:
            if known is None:
                choices = self._compose(call, body)
                self._know(provider, request.body, body, choices, call)
            else:
                _, choices, call.prompt = known
            ending = await self._answer(call, body, choices, connection)
        except asyncio.CancelledError:
            call.client_closed_ms = connection.closed_ms
            if offer.bills_on:
                call.reasoning = self._reasoning(call, choices)
                call.completion = sum(choice.tokens for choice in choices) + call.reasoning
            self.bill.end(call, faults.left(offer.fault, whole=offer.model in strange.VALID))
            raise
        self.bill.end(call, ending)

    def _know(
        self, provider: str, raw: bytes, body: dict[str, Any], choices: list[Answer], call: Call
    ) -> None:
        """Answer the same bytes again without thinking: a benchmark asks one question ten thousand times."""
        if call.offer.cache_read is not None or len(raw) > LONGEST_KNOWN:
            return
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[provider, raw] = body, choices, call.prompt

    async def _answer(
        self, call: Call, body: Mapping[str, Any], choices: list[Answer], connection: Connection
    ) -> str:
        """Answer one call; how it ended. Usage stands in the call as far as the answer got."""
        fault = call.offer.fault
        if fault is not None and fault.kind == "status":
            faults.refuse(connection, fault.status, retry_after=fault.retry_after)
            return "refused"
        if fault is not None and fault.kind == "flap" and faults.down(call.number):
            faults.refuse(connection, fault.status)
            return "refused"
        if fault is not None and fault.kind == "strange":
            return await strange.speak(call.offer.model, connection, _in_full(call, choices))
        if fault is not None and fault.kind in ("hang", "reset") and not fault.after:
            return await faults.broken_stream(connection, fault) or "failed"
        if call.streamed:
            return await self._stream(call, body, choices, connection)
        return await self._plain(call, choices, connection)

    def _compose(self, call: Call, body: Mapping[str, Any]) -> list[Answer]:
        """Every choice in full, and the prompt's share of the usage."""
        offer, messages = call.offer, body["messages"]
        tokens = answers.count(json.dumps(body["tools"])) if body.get("tools") else 0
        prefixes: list[tuple[bytes, int]] = []
        for at, message in enumerate(messages, 1):
            tokens += answers.message_tokens(message)
            if offer.cache_read is not None:
                seed = (offer.provider, offer.model, body.get("tools"), messages[:at])
                prefixes.append((answers.digest(*seed), tokens))
        call.prompt = tokens
        call.cached = min(self.bill.remembered(prefixes), tokens - 1) if prefixes else 0
        if offer.fault is not None and offer.fault.kind == "empty":
            return [Answer((), "")]
        heedless = offer.fault is not None and offer.fault.kind == "too-long"
        most = None if heedless else body.get("max_completion_tokens") or body.get("max_tokens")
        visible = most
        if offer.reasoning_share and most is not None:
            visible = max(1, most * 100 // (100 + offer.reasoning_share))
        return [
            answers.compose(offer.model, body, choice=number, length=offer.tokens, most=visible)
            for number in range(body.get("n") or 1)
        ]

    def _reasoning(self, call: Call, choices: list[Answer]) -> int:
        return sum(choice.tokens * call.offer.reasoning_share // 100 for choice in choices)

    async def _plain(self, call: Call, choices: list[Answer], connection: Connection) -> str:
        offer, fault = call.offer, call.offer.fault
        whole = max(choice.tokens for choice in choices)
        reasoning = self._reasoning(call, choices)
        wait = offer.ttft_ms / 1000 + (whole + reasoning) / offer.tokens_per_second
        if fault is not None and fault.kind == "slow-first":
            wait += fault.seconds
        await self._wait(wait)
        call.reasoning = reasoning
        call.completion = sum(choice.tokens for choice in choices) + reasoning
        call.first_ms = now_ms()
        data = msgspec.json.encode(_completion(call, choices))
        if fault is not None:
            ending = await faults.broken_plain(connection, fault, data)
            if ending is not None:
                return ending
            if fault.kind == "slow-headers":
                said = {"content-type": "application/json", "content-length": str(len(data))}
                await faults.slow_head(connection, fault, said)
                connection.write(data)
                return "complete"
        connection.reply(200, data, {"x-request-id": call.id})
        return "complete"

    async def _stream(
        self, call: Call, body: Mapping[str, Any], choices: list[Answer], connection: Connection
    ) -> str:
        offer, fault = call.offer, call.offer.fault or Fault("none")
        if fault.kind == "slow-headers":
            await faults.slow_head(
                connection, fault, {"content-type": EVENTS, "transfer-encoding": "chunked"}
            )
        else:
            connection.start_events({"x-request-id": call.id})
        asked = bool((body.get("stream_options") or {}).get("include_usage"))
        writer = _Events(call, asked)
        if fault.kind == "slow-first":
            await asyncio.sleep(fault.seconds * min(self.pace, 1))
        reasoning = self._reasoning(call, choices)
        due = time.monotonic() + self.pace * (offer.ttft_ms / 1000 + reasoning / offer.tokens_per_second)
        step = self.pace / offer.tokens_per_second
        held = b""
        for at in range(max(choice.tokens for choice in choices)):
            wait = due - time.monotonic()
            if wait > LONGEST_HELD_BACK:
                held = _flush(connection, held)
                await connection.drain()
                await asyncio.sleep(wait)
            if fault.kind == "flood" and len(held) > FLOOD_BYTES:
                held = _flush(connection, held)
                await connection.drain()
            if fault.after == at and (at or fault.kind == "malformed"):
                held = _flush(connection, held)
                ending = await faults.broken_stream(connection, fault)
                if ending is not None:
                    return ending
            if at == 0:
                call.first_ms, call.reasoning, call.completion = now_ms(), reasoning, reasoning
                held += b"".join(writer.opening(index, choice) for index, choice in enumerate(choices))
            for index, choice in enumerate(choices):
                if at < choice.tokens:
                    held += writer.piece(index, choice, at)
                    call.completion += 1
                    call.chunks += 1
            due += step
        _flush(connection, held + writer.end(choices, fault) + b"data: [DONE]\n\n")
        connection.end()
        return "complete"

    async def _wait(self, seconds: float) -> None:
        if seconds * self.pace > LONGEST_HELD_BACK * 4:
            await asyncio.sleep(seconds * self.pace)


class _Events:
    """The chunks of one stream as bytes."""

    def __init__(self, call: Call, asked: bool) -> None:
        self._call = call
        self._asked = asked
        self._grows = call.offer.fault is not None and call.offer.fault.usage == "growing"
        self._head = (
            f'data: {{"id":"{call.id}","object":"chat.completion.chunk","created":{int(call.at)},'
            f'"model":"{call.offer.model}","system_fingerprint":"fp_sandbox","choices":['
        ).encode()
        self._tail = b'],"usage":null}\n\n' if asked else b"]}\n\n"

    def opening(self, index: int, choice: Answer) -> bytes:
        delta = {"role": "assistant", "content": None if choice.tool else ""}
        return self._event(index, delta)

    def piece(self, index: int, choice: Answer, at: int) -> bytes:
        if self._grows:
            self.state()
        if choice.tool is None:
            text = _quoted(choice.pieces[at])
            return (
                self._head
                + b'{"index":%d,"delta":{"content":%b},"logprobs":null,"finish_reason":null}' % (index, text)
                + self._tail
            )
        if at == 0:
            function = {"name": choice.tool, "arguments": ""}
            tool = {"index": 0, "id": f"call_{self._call.number}", "type": "function", "function": function}
            return self._event(index, {"tool_calls": [tool]})
        part = {"index": 0, "function": {"arguments": choice.pieces[at - 1]}}
        return self._event(index, {"tool_calls": [part]})

    def finish(self, index: int, choice: Answer) -> bytes:
        return self._event(index, {}, choice.finish_reason)

    def end(self, choices: list[Answer], fault: Fault) -> bytes:
        """The last chunk of each choice, and the usage where this provider states it."""
        if fault.usage == "with-choices":
            self.state()
        ended = b"".join(self.finish(index, choice) for index, choice in enumerate(choices))
        if not self._asked or fault.kind == "no-usage" or fault.usage == "with-choices":
            return ended
        return ended + self.usage() * (2 if fault.usage == "twice" else 1)

    def usage(self) -> bytes:
        self.state()
        return self._head + self._tail

    def state(self) -> None:
        """From now on every chunk states the usage so far."""
        self._tail = b'],"usage":' + json.dumps(_stated(self._call)).encode() + b"}\n\n"

    def _event(self, index: int, delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._head + json.dumps(choice, ensure_ascii=False).encode() + self._tail


def _in_full(call: Call, choices: list[Answer]) -> list[bytes]:
    """A whole answer: its events, or the one body of a plain one."""
    call.first_ms = now_ms()
    call.completion = sum(choice.tokens for choice in choices)
    if not call.streamed:
        return [msgspec.json.encode(_completion(call, choices))]
    writer, (choice, *_) = _Events(call, True), choices
    call.chunks = choice.tokens
    pieces = [writer.piece(0, choice, at) for at in range(choice.tokens)]
    return [writer.opening(0, choice), *pieces, writer.finish(0, choice), writer.usage(), b"data: [DONE]\n\n"]


@functools.lru_cache(4096)
def _quoted(text: str) -> bytes:
    return msgspec.json.encode(text)


def _flush(connection: Connection, held: bytes) -> bytes:
    if held:
        connection.chunk(held)
    return b""


def _completion(call: Call, choices: list[Answer]) -> dict[str, Any]:
    shown = []
    for index, choice in enumerate(choices):
        message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
        if choice.tool is not None:
            function = {"name": choice.tool, "arguments": choice.text}
            called = {"id": f"call_{call.number}", "type": "function", "function": function}
            message |= {"content": None, "tool_calls": [called]}
        shown.append(
            {"index": index, "message": message, "logprobs": None, "finish_reason": choice.finish_reason}
        )
    usage = (
        {}
        if call.offer.fault is not None and call.offer.fault.kind == "no-usage"
        else {"usage": _stated(call)}
    )
    return {
        "id": call.id,
        "object": "chat.completion",
        "created": int(call.at),
        "model": call.offer.model,
        "system_fingerprint": "fp_sandbox",
        "choices": shown,
        **usage,
    }


def _stated(call: Call) -> Any:
    return odd.stated(call.offer.fault.usage if call.offer.fault else "", call.usage())


def _check_key(request: Request) -> None:
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not key.strip():
        raise Refused(401, "You didn't provide an API key.")


def _models(offers: list[Offer]) -> bytes:
    """What a provider lists, each offer as it is in force; prices in USD per token."""

    def shown(offer: Offer) -> dict[str, Any]:
        named: dict[str, Any] = {
            "id": offer.model,
            "object": "model",
            "created": 1_767_225_600,
            "owned_by": offer.provider,
        }
        pricing = {"prompt": offer.input, "completion": offer.output, "input_cache_read": offer.cache_read}
        named["pricing"] = {
            kind: format(usd / PER_MILLION, "f") for kind, usd in pricing.items() if usd is not None
        }
        return {**named, **faults.described(offer.fault)}

    return json.dumps({"object": "list", "data": [shown(offer) for offer in offers]}).encode()


def _read(request: Request) -> dict[str, Any]:
    """The body, checked as far as a provider would."""
    try:
        body = msgspec.json.decode(request.body)
    except msgspec.DecodeError as error:
        raise Refused(400, "We could not parse the JSON body of your request.") from error
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise Refused(400, "You must provide a model parameter.", "model")
    messages = body.get("messages")
    if (
        not isinstance(messages, list)
        or not messages
        or not all(isinstance(entry, dict) for entry in messages)
    ):
        raise Refused(400, "'messages' must be a list of at least one message.", "messages")
    foreign = sorted(_FOREIGN & body.keys())
    if foreign:
        raise Refused(400, f"Unrecognized request argument supplied: {foreign[0]}.", foreign[0])
    if body.get("stream_options") is not None and not body.get("stream"):
        raise Refused(400, "'stream_options' is only allowed when 'stream' is true.", "stream_options")
    for name, most in (("max_tokens", 10**7), ("max_completion_tokens", 10**7), ("n", MOST_CHOICES)):
        value = body.get(name)
        if value is not None and (not isinstance(value, int) or not 0 < value <= most):
            raise Refused(400, f"'{name}' must be a whole number from 1 to {most}.", name)
    return body
