"""Raw bytes at the real server: what is no HTTP is refused, its connection closed; none answered twice."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.outside.test_providers_that_flap_or_flood import asked, connected
from tests.routing.gateway.test_clients_that_leave import TRIES

pytestmark = pytest.mark.xdist_group("outside")

SMUGGLED = b"GET /api/v1/models HTTP/1.1\r\nHost: smuggled\r\n\r\n"
HIDDEN = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
GET = b"GET /health HTTP/1.1\r\nHost: x\r\n"


def post(headers: bytes, body: bytes = b"") -> bytes:
    """A call of the customer whose key stands for KEY."""
    return (
        b"POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer KEY\r\n"
        + headers
        + b"\r\n\r\n"
        + body
    )


REFUSED = {
    # Two ways to say how long the body is.
    "chunked and a length": post(b"Transfer-Encoding: chunked\r\nContent-Length: 5", HIDDEN),
    "a length and chunked": post(b"Content-Length: 5\r\nTransfer-Encoding: chunked", HIDDEN),
    "two lengths": post(b"Content-Length: 0\r\nContent-Length: 44", SMUGGLED),
    "the same length twice": post(b"Content-Length: 2\r\nContent-Length: 2", b"{}" + SMUGGLED),
    "a list of lengths": post(b"Content-Length: 2, 2", b"{}" + SMUGGLED),
    "a signed length": post(b"Content-Length: +2", b"{}" + SMUGGLED),
    "a length below zero": post(b"Content-Length: -1", SMUGGLED),
    "a hexadecimal length": post(b"Content-Length: 0x2", b"{}" + SMUGGLED),
    "two numbers as a length": post(b"Content-Length: 2 2", b"{}" + SMUGGLED),
    "no length at all": post(b"Content-Length: ", SMUGGLED),
    "a length with an underscore": post(b"Content-Length: 1_0", b"{}" + SMUGGLED),
    "a length that overflows": post(b"Content-Length: 99999999999999999999999999", SMUGGLED),
    "an unknown encoding": post(b"Transfer-Encoding: xchunked", HIDDEN),
    "chunked, but not last": post(b"Transfer-Encoding: chunked, identity", HIDDEN),
    "chunked, then identity": post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", HIDDEN),
    "a space before the colon": post(b"Transfer-Encoding : chunked", HIDDEN),
    "a vertical tab before chunked": post(b"Transfer-Encoding: \x0bchunked", HIDDEN),
    "a folded encoding": post(b"X: y\r\n Transfer-Encoding: chunked", HIDDEN),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"', HIDDEN),
    # Chunks that are none.
    "a chunk size that is no number": post(b"Transfer-Encoding: chunked", b"zz\r\n{}\r\n0\r\n\r\n"),
    "a chunk size below zero": post(b"Transfer-Encoding: chunked", b"-1\r\n{}\r\n0\r\n\r\n"),
    "a chunk size with 0x": post(b"Transfer-Encoding: chunked", b"0x2\r\n{}\r\n0\r\n\r\n"),
    "a chunk size that overflows": post(b"Transfer-Encoding: chunked", b"F" * 17 + b"\r\n{}\r\n0\r\n\r\n"),
    "a chunk longer than said": post(b"Transfer-Encoding: chunked", b"1\r\n{}\r\n0\r\n\r\n" + SMUGGLED),
    "an extension with a line feed": post(b"Transfer-Encoding: chunked", b"2;a\nb\r\n{}\r\n0\r\n\r\n"),
    "chunks with bare line feeds": post(b"Transfer-Encoding: chunked", b"2\n{}\n0\n\n" + SMUGGLED),
    # Headers that are none.
    "NUL in a value": GET + b"X: a\0b\r\n\r\n",
    "NUL in a name": GET + b"X\0Y: a\r\n\r\n",
    "a bare CR in a value": GET + b"X: a\rY: b\r\n\r\n",
    "a folded header": GET + b"X: a\r\n b\r\n\r\n",
    "a header without a colon": GET + b"nonsense\r\n\r\n",
    "a header without a name": GET + b": value\r\n\r\n",
    "a space in a name": GET + b"X Y: a\r\n\r\n",
    "a bracket in a name": GET + b"X(Y): a\r\n\r\n",
    "a control character in a name": GET + b"X\x01: a\r\n\r\n",
    "a header of 200 KB": GET + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
    "headers of 200 KB": GET + b"".join(b"X-%d: aaaaaaaa\r\n" % n for n in range(12_000)) + b"\r\n",
    "a name of 200 KB": GET + b"X" * 200_000 + b": a\r\n\r\n",
    "a path of 200 KB": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    # Request lines that are none.
    "HTTP/0.9": b"GET /\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0",
    "a version that is none": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "a version without a number": b"GET / HTTP/x\r\nHost: x\r\n\r\n",
    "another protocol": b"GET / RTSP/1.0\r\nHost: x\r\n\r\n",
    "a method in small letters": b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method that is none": b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method of 10 KB": b"A" * 10_000 + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in the path": b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the path": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab in the path": b"GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n",
    "no path": b"GET HTTP/1.1\r\nHost: x\r\n\r\n",
    "a greeting of TLS": bytes.fromhex("160301020001000 1fc0303".replace(" ", "")) + b"\0" * 64 + b"\r\n\r\n",
    "noise": bytes(range(1, 256)) + b"\r\n\r\n",
    "a line of SSH": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: y\r\n\r\n",
}
ANSWERED = {
    "white space around a length": (post(b"Content-Length:  2 ", b"{}"), 1),
    "a tab before chunked": (post(b"Transfer-Encoding:\tchunked", b"2\r\n{}\r\n0\r\n\r\n"), 1),
    "an extension of a chunk": (post(b"Transfer-Encoding: chunked", b"2;a=b\r\n{}\r\n0\r\n\r\n"), 1),
    "a length among the trailers": (
        post(b"Transfer-Encoding: chunked", b"2\r\n{}\r\n0\r\nContent-Length: 9\r\n\r\n"),
        1,
    ),
    "a value beyond ASCII": (GET + b"X: \xc3\xa9\xff\r\n\r\n", 1),
    "a whole address as path": (b"GET http://x/health HTTP/1.1\r\nHost: x\r\n\r\n", 1),
    "an asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 1),
    "empty lines first": (b"\r\n\r\n" + GET + b"\r\n", 1),
    "an expectation": (post(b"Expect: 100-continue\r\nContent-Length: 2", b"{}"), 1),
    "an upgrade to h2c": (GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n", 1),
    "an upgrade to a web socket": (
        GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        1,
    ),
    "a body of a GET": (GET + b"Content-Length: 44\r\n\r\n" + SMUGGLED[:44].ljust(44, b" "), 1),
    "two requests at once": ((GET + b"\r\n") * 2, 2),
    "a hundred requests at once": ((GET + b"\r\n") * 100, 100),
}
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


def exchange(caller, payload: bytes, *, least: int = 0) -> tuple[list[int], bool, bytes]:
    """(the statuses answered, whether the server closed, all bytes): at least so many, or until it closes."""
    with connected(caller) as connection:
        try:
            connection.sendall(payload.replace(b"KEY", caller.text.encode()))
        except OSError:  # refused before it was all sent
            return [], True, b""
        got, closed = b"", False
        try:
            while not closed:
                connection.settimeout(1 if 0 < least <= len(_answers(got)) else 20)
                block = connection.recv(65536)
                got += block
                closed = not block
        except TimeoutError:
            pass
        except OSError:
            closed = True
        return _answers(got), closed, got


def _answers(got: bytes) -> list[int]:
    return [int(status) for status in _STATUS.findall(got) if status != b"100"]


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_http_is_refused_and_the_connection_closed(caller, what):
    statuses, closed, got = exchange(caller, REFUSED[what])

    assert closed, f"still open: {got[:300]!r}"
    assert len(statuses) <= 1 and set(statuses) <= {400, 405, 413, 414, 431, 501, 505}, got[:500]
    assert b"smuggled" not in got


@pytest.mark.parametrize("what", ANSWERED)
def test_what_is_curious_is_answered_once(caller, what):
    payload, expected = ANSWERED[what]
    statuses, _, got = exchange(caller, payload, least=expected)

    assert len(statuses) == expected, got[:500]
    assert not any(status >= 500 for status in statuses)


def test_noise_after_a_request_is_not_answered_inside_its_answer(caller):
    """A stream is under way when bytes come that are no request: the connection just ends."""
    with connected(caller) as connection:
        connection.sendall(asked(caller, "sandbox/stream-100"))
        got = connection.recv(65536)
        connection.sendall(b"nonsense\r\n\r\n")
        connection.settimeout(30)
        while block := connection.recv(65536):
            got += block

    assert _STATUS.findall(got) == [b"200"] and b"[DONE]" not in got


def test_a_thousand_idle_connections_and_some_that_drip_delay_nobody(caller):
    def p99(count: int) -> float:
        took = []
        for _ in range(count):
            began = time.monotonic()
            assert caller.chat(max_tokens=1).status_code == 200
            took.append(time.monotonic() - began)
        return sorted(took)[-max(1, count // 100)]

    def is_delayed() -> bool:
        usual = p99(100)
        with contextlib.ExitStack() as stack, ThreadPoolExecutor(8) as pool:
            kept = list(pool.map(lambda _: stack.enter_context(connected(caller)), range(1000)))
            for connection in kept[:50]:
                connection.sendall(b"POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Drip: ")
            crowded = p99(100)
            print(f"p99 {usual * 1000:.1f} ms, with 1,000 idle connections {crowded * 1000:.1f} ms")
            _closed_or_told(kept[0], seconds=30)
        return crowded > 2 * usual + 0.25

    assert not all(is_delayed() for _ in range(TRIES))


def test_a_body_that_drips_is_a_408_or_closed(caller):
    with connected(caller) as connection:
        head = post(b"Content-Length: 5000", b"{").replace(b"KEY", caller.text.encode())
        connection.sendall(head)
        _closed_or_told(connection, seconds=30)


def _closed_or_told(connection: socket.socket, *, seconds: float) -> None:
    """While it sends a byte now and then."""
    connection.settimeout(0.2)
    until = time.monotonic() + seconds
    while True:
        assert time.monotonic() < until, "a client that drips is waited for"
        try:
            connection.sendall(b"x")
            got = connection.recv(4096)
        except TimeoutError:
            continue
        except OSError:
            return
        assert not got or b" 408 " in got.split(b"\r\n", 1)[0], got
        return
