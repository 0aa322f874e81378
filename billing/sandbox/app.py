"""The sandbox as one ASGI application: the API under /v1, hosted pages, and control under /_sandbox."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from billing.sandbox import invoices, pages
from billing.sandbox.account import Account
from billing.sandbox.api import Answer, Api, Call
from billing.sandbox.control import Control
from billing.sandbox.deliveries import Deliveries
from billing.sandbox.mishaps import Mishaps
from billing.sandbox.refusals import Refused, Thing

Receive = Callable[[], Awaitable[Thing]]
Send = Callable[[Thing], Awaitable[None]]
_MOST_BODY = 1024 * 1024
_JSON = {"content-type": "application/json"}


class Sandbox:
    """Built in the event loop that serves it; `path` may be ":memory:"."""

    def __init__(
        self, path: Path | str, *, key: str, url: str, webhook_url: str = "", webhook_secret: str = ""
    ) -> None:
        self.account = Account(path, key=key, url=url)
        self.deliveries = Deliveries(self.account, url=webhook_url, secret=webhook_secret)
        self.mishaps = Mishaps()
        self._api = Api(self.account, self.mishaps)
        self._control = Control(self.account, self.deliveries, self.mishaps)
        self.account.on_settled = functools.partial(invoices.note_settled, self.account)
        self.deliveries.resume()

    async def stop(self) -> None:
        await self.deliveries.stop()
        self.account.close()

    async def __call__(self, scope: Thing, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = await _body(receive)
        if body is None:
            await _send(send, Answer(413, b"", {}))
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        query = scope["query_string"].decode()
        call = Call(scope["method"], scope["path"], query, headers, body)
        answer = await self._answer(call)
        if answer.lost:
            transport = getattr(send, "__self__").transport  # noqa: B009  # uvicorn's own, unknown to ASGI
            transport.abort()
            await receive()
        else:
            await _send(send, answer)

    async def _answer(self, call: Call) -> Answer:
        if call.path.startswith("/v1/"):
            answer = await self._api.serve(call)
            return Answer(answer.status, answer.body, {**_JSON, **answer.headers}, answer.lost)
        if call.path.startswith("/_sandbox/"):
            return self._controlled(call)
        try:
            status, text, headers = pages.serve(self.account, call)
        finally:
            self.account.flush()
        told = {"content-type": "text/html; charset=utf-8", "cache-control": "no-store", **headers}
        return Answer(status, text.encode(), told)

    def _controlled(self, call: Call) -> Answer:
        try:
            told: Thing = dict(parse_qsl(call.query))
            told |= json.loads(call.body) if call.body else {}
            made: Any = self._control.serve(call.method, call.path.removeprefix("/_sandbox/"), told)
            return Answer(200, json.dumps(made).encode(), _JSON)
        except Refused as refused:
            return Answer(refused.status, json.dumps(refused.body).encode(), _JSON)
        except (ValueError, TypeError) as error:
            return Answer(400, json.dumps({"error": {"message": str(error)}}).encode(), _JSON)


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when it is too long, or never ends."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if sum(map(len, parts)) > _MOST_BODY:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


async def _send(send: Send, answer: Answer) -> None:
    said = {**answer.headers, "content-length": str(len(answer.body))}
    headers = [(name.encode(), value.encode("latin-1")) for name, value in said.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
