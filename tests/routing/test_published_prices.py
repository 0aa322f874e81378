"""What providers publish of their prices, fetched from servers that behave badly and read from odd forms."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from routing import published
from routing.core.listing import Provider


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.headers["Authorization"])  # type: ignore[attr-defined]
        status, headers, body = self.server.answer  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def strange() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Answer)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"{"),
        (200, b"[" * 100_000),
        (200, b'{"data": 7}'),
        (
            200,
            b'{"data": [7, {"id": "x"}, {"id": "y", "pricing": {"prompt": "-1", "completion": "1e999999"}}]}',
        ),
        (500, b"{}"),
        (302, b""),
        (200, b" " * 70_000),
    ],
)
def test_a_list_that_cannot_be_read_is_said_to_be_so(
    strange: HTTPServer, monkeypatch, status: int, body: bytes
):
    monkeypatch.setattr(published, "MOST_BYTES", 65_536)
    elsewhere = {"Location": f"http://localhost:{strange.server_port}/elsewhere"} if status == 302 else {}
    strange.answer = (status, elsewhere, body)  # type: ignore[attr-defined]
    where = f"http://127.0.0.1:{strange.server_port}/v1"

    with pytest.raises(published.Unreadable):
        published.fetch(Provider("acme", "Acme", "openai", where, "secret-key"), "openrouter")
    assert strange.asked == ["Bearer secret-key"]  # type: ignore[attr-defined]


def test_a_list_that_takes_too_long_is_given_up(strange: HTTPServer, monkeypatch):
    monkeypatch.setattr(published, "MOST_SECONDS", -1.0)
    strange.answer = (200, {}, b"{}")  # type: ignore[attr-defined]
    where = f"http://127.0.0.1:{strange.server_port}/v1"

    with pytest.raises(published.Unreadable, match="took longer"):
        published.fetch(Provider("acme", "Acme", "openai", where, "key"), "openrouter")


def test_a_head_that_drips_in_does_not_keep_the_job(monkeypatch):
    monkeypatch.setattr(published, "MOST_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            client, _ = listening.accept()
            with client, contextlib.suppress(OSError):
                client.sendall(b"HTTP/1.1 200 OK\r\n")
                for _ in range(100):
                    client.sendall(b"x-more: y\r\n")
                    time.sleep(0.05)

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        where = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        with pytest.raises(published.Unreadable, match="took longer"):
            published.fetch(Provider("acme", "Acme", "openai", where, "key"), "openrouter")
        thread.join()


def test_each_form_of_published_prices_is_read_exactly():
    router = {
        "data": [{"id": "m", "pricing": {"prompt": "0.00000015", "completion": "6e-7", "request": "0.01"}}]
    }
    together = [{"id": "m", "pricing": {"hourly": 0, "input": 0.18, "output": 0.59, "base": 0}}]

    assert published.read(json.dumps(router).encode(), "openrouter") == {
        "m": {"input": "0.15", "output": "0.6", "request": "0.01"}
    }
    assert published.read(json.dumps(together).encode(), "together") == {
        "m": {"input": "0.18", "output": "0.59"}
    }
