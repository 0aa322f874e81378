"""A client down to its socket: it may drip, stall, or hold a connection open for nothing."""

from __future__ import annotations

import http.client
import json
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.routing.gateway.caller import HELLO, Caller


def connect(url: str, *, receive_buffer: int | None = None, timeout: float = 60) -> socket.socket:
    where = urlsplit(url)
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(timeout)
    connection.connect((where.hostname, where.port))
    return connection


def request(caller: Caller, model: str, **fields: Any) -> bytes:
    """A whole request for a stream."""
    body = json.dumps({"model": model, "messages": HELLO, "stream": True, **fields}).encode()
    return head(caller, len(body)) + body


def head(caller: Caller, length: int) -> bytes:
    where = urlsplit(caller.api_base)
    return (
        f"POST {where.path}/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\n"
        f"Authorization: Bearer {caller.text}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def stream(caller: Caller, model: str, **fields: Any) -> tuple[socket.socket, bytes]:
    """A stream that has begun, and what came first."""
    connection = connect(caller.api_base)
    connection.sendall(request(caller, model, **fields))
    first = connection.recv(65536)
    assert first.startswith(b"HTTP/1.1 200"), first[:300]
    return connection, first


def read_all(connection: socket.socket) -> bytes:
    """Until the other side closes, or resets; TimeoutError when it does neither."""
    raw = b""
    try:
        while block := connection.recv(65536):
            raw += block
    except ConnectionResetError:
        pass
    return raw


def read_one(connection: socket.socket) -> int:
    """One whole answer, in however many pieces it comes; the connection stays. Its status."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


def is_cut_within(connection: socket.socket, seconds: float) -> bool:
    """Whether the other side ends the connection, read or not."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or _state(connection) != _ESTABLISHED:
            return True
        time.sleep(0.05)
    return False


_ESTABLISHED = 1


def _state(connection: socket.socket) -> int:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def rss(pid: int) -> int:
    """Bytes of memory that a process holds now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
