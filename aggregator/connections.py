"""One connection of a client, with the deadlines and bounds that uvicorn leaves out.

A head or a body that drips is cut, a reader that stalls is cut, and beyond `MAX_CONNECTIONS` an idle
connection gives way. A request that arrives in one piece and is read as it is written costs no timer.
"""

from __future__ import annotations

import asyncio
import socket
import struct

import msgspec
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from aggregator.lib.errors import Refusal
from aggregator.lib.http_server import Protocol

_BODY_MARGIN_SECONDS = 1
"""The data plane refuses a late body by itself, and better; this is for what does not."""
_NO_LINGER = struct.pack("ii", 1, 0)
_LINGER_SECONDS = 1.0
"""A client that was not told that the connection ends may have sent its next request already."""


class Connection(Protocol):
    _late: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _unread_bytes = 0
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > settings.MAX_CONNECTIONS and not self._make_room():
            self._refuse(Refusal("overloaded", "Too many connections are open.", status=503, retry_after=1))
            return
        self._late = self.loop.call_later(settings.READ_HEAD_SECONDS, self._came_too_late)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._on_time()
        self._is_read()

    def shutdown(self) -> None:
        """The server leaves: this ends after its present call, or when nothing comes for a moment.

        What comes is served; its answer says that the connection closes.
        """
        self.timeout_keep_alive = _LINGER_SECONDS  # type: ignore[assignment]  # whole only by its annotation
        if self.is_idle():
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                _LINGER_SECONDS, self.timeout_keep_alive_handler
            )

    # ── What arrives ─────────────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle = self.cycle
        if cycle is not None and not cycle.more_body and not cycle.response_complete:
            if self._late is not None:
                self._on_time()
            return
        self._still_coming(len(data))

    def on_headers_complete(self) -> None:
        if not self._names_its_host() and self.parser.get_http_version() != "1.0":
            raise ValueError("HTTP/0.9, or a request without a host")  # uvicorn answers 400
        super().on_headers_complete()

    def _names_its_host(self) -> bool:
        headers = self.headers
        if headers and headers[0][0] == b"host":  # where clients write it
            return True
        return any(name == b"host" for name, _ in headers)

    def send_400_response(self, msg: str) -> None:
        """Not into an answer that is under way: what follows is then no request, and no more is said."""
        if self.is_idle() or not (self.cycle.response_started or self.pipeline):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _still_coming(self, size: int) -> None:
        if self.transport.is_closing():
            return
        if self._in_head():
            self._head_bytes += size
            if self._head_bytes > settings.MAX_HEAD_BYTES:
                self._refuse(
                    Refusal(
                        "headers_too_large",
                        f"The headers are longer than {settings.MAX_HEAD_BYTES} bytes.",
                        status=431,
                    )
                )
                return
            seconds = settings.READ_HEAD_SECONDS
        else:
            if self._head_bytes:
                self._on_time()  # the head is whole: its deadline ends here, the body's begins
            seconds = settings.READ_BODY_SECONDS + _BODY_MARGIN_SECONDS
        if self._late is None:
            self._late = self.loop.call_later(seconds, self._came_too_late)

    def _in_head(self) -> bool:
        """Whether a head is awaited or under way, and not the rest of a body."""
        return self.cycle is None or self.cycle.scope is not self.scope

    def _on_time(self) -> None:
        self._head_bytes = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _came_too_late(self) -> None:
        self._late = None
        if self.transport.is_closing():
            return
        begun = self._head_bytes > 0 if self.is_idle() else not self.cycle.response_started
        if begun:
            self._refuse(Refusal("request_timeout", "The request did not arrive in time.", status=408))
        else:
            self.transport.close()

    def _make_room(self) -> bool:
        for other in self.connections:
            if other is not self and isinstance(other, Connection) and other.is_idle():
                other.transport.abort()
                self.connections.discard(other)
                return True
        return False

    def _refuse(self, refusal: Refusal) -> None:
        body = msgspec.json.encode(refusal.as_body())
        headers = [
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"connection: close",
        ]
        if refusal.retry_after is not None:
            headers.append(b"retry-after: %d" % refusal.retry_after)
        self.transport.write(STATUS_LINE[refusal.status] + b"\r\n".join(headers) + b"\r\n\r\n" + body)
        self.transport.close()

    # ── What is read ─────────────────────────────────────────────────────────────────────────────

    def pause_writing(self) -> None:
        super().pause_writing()
        self._is_read()  # so far: an earlier look would compare with what lay here before
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._is_read()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._unread is not None:
            self._unread_bytes = 0  # there is more now: the next look only sees how much
        elif self.transport.get_write_buffer_size():
            self._await_reader()

    def _await_reader(self) -> None:
        if self._unread is None:
            self._unread_bytes = self.transport.get_write_buffer_size()
            self._unread = self.loop.call_later(settings.STALLED_READER_SECONDS, self._look_at_reader)

    def _look_at_reader(self) -> None:
        """Nothing was read since the last look: the connection is reset, for a polite end would wait too."""
        self._unread = None
        left = self.transport.get_write_buffer_size()
        if left >= self._unread_bytes > 0:
            _reset(self.transport)
        elif left:
            self._await_reader()

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def _reset(transport: asyncio.Transport) -> None:
    """Throw away what is unread, in the kernel as well: by itself it would go on offering it."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
