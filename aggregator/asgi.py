"""The only server entry: the data plane as a bare ASGI application in front of Django.

`ROLE` picks what this process serves: `gateway` the data plane, `web` everything else, `all` both.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, cast

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aggregator.settings")

from django.core.asgi import get_asgi_application

_django = get_asgi_application()

from django.conf import settings  # noqa: E402

from aggregator import planes  # noqa: E402
from billing import watch  # noqa: E402
from routing import v1  # noqa: E402
from routing.answer import Message, Receive, Send  # noqa: E402
from routing.process import Process  # noqa: E402

_SERVES_DATA = settings.ROLE in ("all", "gateway")
_SERVES_WEB = settings.ROLE in ("all", "web")


class Application:
    def __init__(self) -> None:
        self.process: Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._draining = False

    def is_ready(self) -> bool:
        """By this process's own state alone: a provider that is away must not take every worker out."""
        return not self._draining and (not _SERVES_DATA or (self.process is not None and self.process.ready))

    def drain(self) -> None:
        """Say that others should be asked from now on; whoever asks all the same is served."""
        self._draining = True

    def end_calls(self) -> None:
        """Tell every call under way that this process ends. Free of charge."""
        if self.process is not None:
            self.process.gateway.traffic.end()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == "/health/ready":
            await _plain(send, 200 if self.is_ready() else 503)
        elif path == "/health/live":
            await _plain(send, 200)
        elif _SERVES_DATA and _is_data(scope["method"], path):
            await self._data(scope, receive, send)
        elif _SERVES_WEB and path.startswith(planes.HOOKS):
            await _hook(scope, receive, send)
        elif _SERVES_WEB:
            await _django(cast(Any, scope), receive, cast(Any, send))
        else:
            await _plain(send, 404)

    async def _data(self, scope: Message, receive: Receive, send: Send) -> None:
        if self.process is None:
            await _plain(send, 503)
            return
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await v1.serve(self.process.gateway, scope, receive, note)
        except Exception as error:
            if begun:
                raise
            await v1.refuse_unexpected(send, error)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    if _SERVES_DATA:
                        self.process = await Process.start()
                    self._watch = asyncio.create_task(watch.keep_looking())
                except Exception as error:
                    await send(
                        {"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"}
                    )
                    raise
                await send({"type": "lifespan.startup.complete"})
            else:
                if self._watch is not None:
                    self._watch.cancel()
                if self.process is not None:
                    await self.process.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _is_data(method: str, path: str) -> bool:
    """What the table gives to the data plane, and what it does not know but lies beside it."""
    route = planes.find(method, path)
    if route is not None:
        return route.plane == planes.DATA
    if planes.relative(path) is None:
        return False
    others = (planes.find(known, path) for known in planes.methods(path))
    return next((other.plane for other in others if other is not None), planes.DATA) == planes.DATA


async def _hook(scope: Message, receive: Receive, send: Send) -> None:
    """Django keeps a whole body before any view is asked for it, so its bound stands here."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if not declared.isdigit() or int(declared) > planes.MOST_HOOK_BYTES:
        await _plain(send, 413)
        return
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > planes.MOST_HOOK_BYTES:
            await _plain(send, 413)
            return
    whole = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return whole.pop() if whole else await receive()

    await _django(cast(Any, scope), cast(Any, read), cast(Any, send))


async def _plain(send: Send, status: int) -> None:
    headers = [(b"content-type", b"text/plain"), (b"retry-after", b"1")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if status == 404 else str(status).encode()})


application = Application()
