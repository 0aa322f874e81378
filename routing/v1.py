"""The data plane's HTTP: a bare ASGI application in front of Django. Translates, calls once, renders.

Which path is whose is told by `aggregator.planes`. Keys come only in the `Authorization` header; one that
stands in a URL is refused and flagged, since URLs end up in logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from django.conf import settings

from accounts import presented
from accounts.core import roles
from aggregator import planes
from aggregator.lib import errors
from aggregator.lib.errors import Refusal
from aggregator.lib.threads import in_thread
from routing import costs, looks
from routing.answer import (
    STREAM_HEADERS,
    ClientLeft,
    EventStream,
    Message,
    Receive,
    RecordedStream,
    Send,
    Watch,
    read_body,
)
from routing.call import Call
from routing.callers import Caller
from routing.core import endpoint_list, shelf
from routing.core.chat import Chat
from routing.dialects.openai_request import read_request
from routing.gateway import Gateway
from routing.idempotency import Kept, Once

log = logging.getLogger(__name__)

Headers = Mapping[bytes, bytes]

_JSON = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]
_REQUEST = b"POST /chat/completions\n"
_encode = msgspec.json.Encoder().encode
_NESTING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]|[\]}]')


async def serve(gateway: Gateway, scope: Message, receive: Receive, send: Send) -> None:
    """One request that `planes` gave to the data plane."""
    try:
        await _refuse_key_in_url(scope)
        route = planes.find(scope["method"], scope["path"])
        if route is None:
            raise _no_route(scope)
        if route.name == "chat_completions":
            await _chat_completions(gateway, scope, receive, send)
        elif route.name == "route":
            await _reply(send, 200, await _preview(gateway, scope, receive))
        elif route.name == "cost":
            await _reply(send, 200, await _costs(gateway, scope, receive))
        else:
            await _reply(send, 200, _listed(gateway, route.name, scope["path"].split("/")))
    except Refusal as refusal:
        if refusal.status == 503 and refusal.error_type != "overloaded":
            log.warning("a call was refused for our own sake", extra={"cause": repr(refusal.__cause__)})
        await _refuse(send, refusal)
    except ClientLeft:
        return


def _listed(gateway: Gateway, name: str, path: list[str]) -> dict[str, Any]:
    """The public lists: of models, of one model, of its endpoints. Raises Refusal 404."""
    if name == "models":
        return shelf.models(gateway.listing)
    if name == "model":
        return shelf.model(gateway.listing, "/".join(path[-2:]))
    resting = gateway.endings.circuits.resting(time.monotonic())
    return endpoint_list.endpoints(
        gateway.listing, "/".join(path[-3:-1]), live=gateway.endings.live, resting=resting
    )


async def _preview(gateway: Gateway, scope: Message, receive: Receive) -> dict[str, Any]:
    """Which endpoint a call would go to, and what it would cost, without making it."""
    async with _looking(gateway, scope, receive) as (caller, body, headers):
        return gateway.preview(caller, _read(body, headers))


async def _costs(gateway: Gateway, scope: Message, receive: Receive) -> dict[str, Any]:
    """What a call, or a usage, would cost at each endpoint of a model."""
    async with _looking(gateway, scope, receive) as (caller, body, headers):
        return gateway.costs(caller, costs.read(body, session=_session(headers)))


@contextlib.asynccontextmanager
async def _looking(
    gateway: Gateway, scope: Message, receive: Receive
) -> AsyncIterator[tuple[Caller, bytes, Headers]]:
    """A request that looks before it calls: with an inference key, within bounds of traffic and looks."""
    task = gateway.traffic.enter()
    try:
        headers = dict(scope["headers"])
        caller = await gateway.callers.of(presented.text_of(_text(headers.get(b"authorization")) or ""))
        gateway.traffic.belongs_to(task, caller.principal.organization_id)
        _refuse_scope(caller)
        await looks.count(gateway.endings.admission, caller.principal)
        yield caller, await _body(receive, headers), headers
    finally:
        gateway.traffic.leave(task)


async def _chat_completions(gateway: Gateway, scope: Message, receive: Receive, send: Send) -> None:
    arrived = time.monotonic()
    headers = dict(scope["headers"])
    traffic = gateway.traffic
    task = traffic.enter()
    watch: Watch | None = None
    once: Once | None = None
    call: Call | None = None
    try:
        text = presented.text_of(_text(headers.get(b"authorization")) or "")
        caller = await gateway.callers.of(text)
        traffic.belongs_to(task, caller.principal.organization_id)
        _refuse_scope(caller)
        reading = time.monotonic()
        body = await _body(receive, headers)
        arrived += time.monotonic() - reading  # how long a client takes to send it is not our time
        chat = _read(body, headers)
        if b"idempotency-key" in headers:
            found = await gateway.idempotency.begin(
                gateway.callers, text, caller, key=headers[b"idempotency-key"], request=_REQUEST + body
            )
            if isinstance(found, Kept):
                await _replay(send, found)
                return
            once, caller = found, found.caller
            arrived = 0.0  # it may have waited for another of the same key
        watch = Watch(scope)
        if once is not None and not chat.stream:
            watch.stop()  # it goes on without its client, who will ask again
        agent = _text(headers.get(b"user-agent")) or ""
        call_id = None if once is None else once.claim.id
        call = await gateway.begin(text, caller, chat, user_agent=agent, call_id=call_id, arrived=arrived)
        if call.principal.logging is None or chat.providers.zdr:
            await _run(gateway, call, send, watch, once)
        else:
            await _run_logged(gateway, call, send, watch, once, body=body)
    except asyncio.CancelledError:
        if watch is not None and watch.client_left:
            task.uncancel()
            return
        refusal = traffic.ended(None if call is None else call.bill())
        if refusal is None:
            raise
        raise refusal from None
    finally:
        traffic.leave(task)
        if watch is not None:
            watch.stop()
        if once is not None:
            once.close()


async def _body(receive: Receive, headers: Headers) -> bytes:
    body = await read_body(receive, _text(headers.get(b"content-length")))
    refuse_depth(body)
    return body


def _read(body: bytes, headers: Headers) -> Chat:
    return read_request(body, session=_session(headers))


def _session(headers: Headers) -> str:
    return _text(headers.get(b"x-session-id")) or ""


def _refuse_scope(caller: Caller) -> None:
    if not roles.allows(caller.principal.scope, roles.INFERENCE):
        raise Refusal(
            "forbidden_scope",
            "This is a management key: it cannot call models. Use an inference key.",
            status=403,
        )


async def _run(gateway: Gateway, call: Call, send: Send, watch: Watch, once: Once | None) -> None:
    """Answer a call that was admitted; under an idempotency key, keep the answer before it goes out."""
    if once is not None:
        once.call = call
    try:
        if call.chat.stream:
            await _stream(gateway, call, send, watch, once)
            return
        answer = await gateway.plain(call, watch.left)
        if once is not None:
            await once.keep(Kept(200, False, call.headers(), answer))
        await _send_json(send, 200, answer, call.headers())
    except Refusal as refusal:
        if once is not None and once.is_charged():  # its own deadline has passed
            await once.keep(Kept(refusal.status, False, [], _encode(refusal.as_body())))
        raise


async def _run_logged(
    gateway: Gateway, call: Call, send: Send, watch: Watch, once: Once | None, *, body: bytes
) -> None:
    """The same, for an organization that has its calls logged."""
    page = gateway.logbook.page(call, body)
    try:
        await _run(gateway, call, page.tap(send), watch, once)
    except Refusal as refusal:
        page.refused(refusal.as_body())
        raise
    finally:
        page.close()


async def _stream(gateway: Gateway, call: Call, send: Send, watch: Watch, once: Once | None) -> None:
    early = call.early_headers()
    if once is None:
        out = EventStream(send, watch, early=early)
    else:
        out = RecordedStream(send, watch, early=early, once=once)
    try:
        await gateway.stream(call, out)
    except Refusal as refusal:
        if not out.started:
            raise
        # The status line is gone with a comment: the error is an event, and no `[DONE]` follows.
        await out.send(_event_of(refusal))
    except asyncio.CancelledError:
        ended = None if watch.client_left or not out.started else gateway.traffic.ended(call.bill())
        if ended is None:
            raise
        await out.send(_event_of(ended))
    finally:
        out.stop()
    await out.end()


def _event_of(refusal: Refusal) -> bytes:
    return b"data: " + _encode(refusal.as_body()) + b"\n\n"


async def _replay(send: Send, kept: Kept) -> None:
    if kept.streamed:
        headers = [*STREAM_HEADERS, *kept.headers]
        await send({"type": "http.response.start", "status": kept.status, "headers": headers})
        await send({"type": "http.response.body", "body": kept.body})
    else:
        await _send_json(send, kept.status, kept.body, kept.headers)


def refuse_depth(body: bytes) -> None:
    """Raises Refusal 400 when arrays and objects nest deeper than `MAX_JSON_DEPTH`."""
    most = settings.MAX_JSON_DEPTH
    if body.count(b"[") + body.count(b"{") <= most:
        return
    depth = 0
    for found in _NESTING.finditer(body):
        sign = found[0]
        if sign in b"[{":
            depth += 1
            if depth > most:
                raise Refusal("invalid_json", f"The body nests deeper than {most} levels.")
        elif sign in b"]}":
            depth -= 1


async def _refuse_key_in_url(scope: Message) -> None:
    path, query = scope["path"], scope.get("query_string", b"")
    if b"fl_" not in query and "fl_" not in path:
        return
    await in_thread(presented.refuse_in_url, f"{path}?{query.decode('latin-1')}")


def _no_route(scope: Message) -> Refusal:
    allowed = planes.methods(scope["path"])
    if allowed:
        message = f"This path answers to {', '.join(allowed)}."
        return Refusal("method_not_allowed", message, status=405, metadata={"allowed": allowed})
    return Refusal("not_found", f"There is nothing at {scope['path'][:200]}.", status=404)


async def _refuse(send: Send, refusal: Refusal) -> None:
    headers = []
    if refusal.retry_after is not None:
        headers.append((b"retry-after", str(refusal.retry_after).encode()))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if "cost" in refusal.metadata:  # client libraries repeat a 408 or a 503, and would pay again
        headers.append((b"x-should-retry", b"false"))
    if refusal.status == 405:
        headers.append((b"allow", ", ".join(refusal.metadata["allowed"]).encode()))
    limit = refusal.metadata.get("limit") if refusal.status == 429 else None
    if limit is not None:
        headers += [(b"x-ratelimit-limit", str(limit).encode()), (b"x-ratelimit-remaining", b"0")]
    await _send_json(send, refusal.status, _encode(refusal.as_body()), headers)


async def refuse_unexpected(send: Send, error: BaseException) -> None:
    """A fault of ours: logged in full under an id, told in general."""
    refusal = errors.internal()
    log.error("unexpected error", exc_info=error, extra={"id": refusal.metadata["id"]})
    await _refuse(send, refusal)


async def _reply(send: Send, status: int, data: Any) -> None:
    await _send_json(send, status, _encode(data), [])


async def _send_json(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*_JSON, length, *headers]})
    await send({"type": "http.response.body", "body": body})


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
