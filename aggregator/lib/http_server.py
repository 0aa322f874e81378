"""The server's protocol: uvicorn's, with what a data plane needs besides.

An application is told at once when its client has left. ASGI has a message for that, but waiting for it
takes a task for each request; here it is a callback, found in `scope["extensions"]`. And an answer is
written as ASGI says, at a third of the cost: its head is checked as a whole, not header by header.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

WHEN_LEFT = "fairlead.when_left"
"""The extension: takes what to call when the client leaves, or None when that no longer matters."""

_OF_THE_MESSAGE = frozenset((b"connection", b"transfer-encoding"))


class Cycle(RequestResponseCycle):
    """One request and its answer."""

    async def send(self, message: MutableMapping[str, Any]) -> None:  # type: ignore[override]
        if self.flow.write_paused or self.disconnected or self.access_log:
            await super().send(message)  # type: ignore[arg-type]
        elif not self.response_started:
            if not self._start(message):
                await super().send(message)  # type: ignore[arg-type]
        elif self.chunked_encoding and message.get("more_body") and self.scope["method"] != "HEAD":
            body = message["body"]
            if body:  # an empty chunk would be the end
                self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        else:
            await super().send(message)  # type: ignore[arg-type]
            if self.response_complete:
                self.chunked_encoding = False  # so that a chunk that comes after it is refused

    def _start(self, message: MutableMapping[str, Any]) -> bool:
        """Write the head. False when there is something unusual about it; nothing is written then."""
        headers = [*self.default_headers, *message["headers"]]
        head = b"".join([b"%b: %b\r\n" % header for header in headers])
        if head.count(b"\r") != len(headers) or head.count(b"\n") != len(headers) or b"\0" in head:
            return False
        length = None
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            elif name in _OF_THE_MESSAGE or not name.islower():
                return False
        if message["status"] < 200 or message["status"] in (204, 304) or self.scope["method"] == "HEAD":
            return False
        self.response_started = True
        self.waiting_for_100_continue = False
        if not self.keep_alive:
            head += b"connection: close\r\n"
        if length is None:
            self.chunked_encoding = True
            head += b"transfer-encoding: chunked\r\n"
        else:
            self.chunked_encoding = False
            self.expected_content_length = length
        self.transport.write(b"%b%b\r\n" % (STATUS_LINE[message["status"]], head))
        return True


class Protocol(HttpToolsProtocol):
    _left: Callable[[], None] | None = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {WHEN_LEFT: self.when_left}  # type: ignore[dict-item]

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.__class__ = Cycle  # uvicorn names the class of its cycles nowhere that could be set
        super()._start_asgi_task(cycle, app)

    def when_left(self, callback: Callable[[], None] | None) -> None:
        """Called at once if the client is gone already."""
        self._left = callback
        if callback is not None and self.transport.is_closing():
            self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._tell()

    def _tell(self) -> None:
        callback, self._left = self._left, None
        if callback is not None:
            callback()
