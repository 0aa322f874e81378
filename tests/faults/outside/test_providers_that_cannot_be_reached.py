"""Providers that refuse, cannot be found, cannot prove who they are, or fall silent: the next one serves."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.outside.conftest import NO_SUCH_NAME
from tests.routing.gateway.caller import error_of

pytestmark = pytest.mark.xdist_group("outside")

names = itertools.count(1)


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that does this with each connection, in a thread of its own; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def work() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    kept.append(connection)
                    threading.Thread(target=_quietly, args=(serve, connection), daemon=True).start()

        threading.Thread(target=work, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for connection in kept:
                connection.close()


@contextlib.contextmanager
def refusing() -> Iterator[int]:
    """A port on which nobody listens, and nobody else can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def _quietly(serve: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        serve(connection)


def _silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def _headers_only(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
    _silent(connection)


def _comments_only(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
    for _ in range(100):
        connection.sendall(b": processing\n\n")
        time.sleep(0.2)


def _drips(connection: socket.socket) -> None:
    """A plain answer of some hundred bytes, one of them a second."""
    connection.recv(65536)
    body = json.dumps({"id": "up-1", "choices": [{"index": 0, "message": {"content": "hi " * 300}}]}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode())
    for at in range(len(body)):
        connection.sendall(body[at : at + 1])
        time.sleep(1)


@pytest.fixture(scope="module")
def proving(tmp_path_factory: pytest.TempPathFactory) -> Callable[[socket.socket], None]:
    """A server that proves itself by a certificate which nobody else has signed."""
    folder = tmp_path_factory.mktemp("certificate")
    key, certificate = folder / "key", folder / "certificate"
    asked = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(
        ["openssl", *asked.split(), "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(certificate), Path(key))

    def prove(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(65536)

    return prove


def served_by_the_second(caller, desk, sandbox, model, *, streamed):
    """One charge, of the one that served; the attempt before it is told and free."""
    if streamed:
        stream = caller.stream(model, route_preference="speed")
        assert stream.status == 200 and stream.done and not stream.errors, stream.raw
        cost = stream.usage["cost_nanos"]
    else:
        stream = None
        answer = caller.chat(model, route_preference="speed")
        assert answer.status_code == 200, answer.text
        cost = answer.json()["usage"]["cost_nanos"]
    (row,) = desk.await_generations(caller.organization, 1)
    assert row["endpoint"] == f"sandbox-bench:{model}"
    assert row["charge_nanos"] == cost == sandbox.charge(row["upstream_id"])
    assert desk.await_no_holds(caller.organization).funds == 10 * 10**9 - cost
    return stream, [attempt["failure"] for attempt in row["decision"]["attempts"]]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("what", ["refused", "no-such-name", "self-signed", "slow-handshake"])
def test_one_that_cannot_be_reached_is_passed_by(request, at_address, what, streamed):
    caller, desk, sandbox = map(request.getfixturevalue, ("caller", "desk", "sandbox"))
    prove = request.getfixturevalue("proving")
    model = f"away/{what}-{next(names)}"
    with contextlib.ExitStack() as stack:
        if what == "no-such-name":
            at_address(model, NO_SUCH_NAME[:100], prefix="NAMELESS")
        elif what == "refused":
            at_address(model, f"http://127.0.0.1:{stack.enter_context(refusing())}")
        else:
            port = stack.enter_context(listening(prove if what == "self-signed" else _silent))
            at_address(model, f"https://127.0.0.1:{port}")
        began = time.monotonic()
        _, tried = served_by_the_second(caller, desk, sandbox, model, streamed=streamed)

        assert tried == (["timeout"] if what == "slow-handshake" else ["unreachable"])
        assert time.monotonic() - began < 30


@pytest.mark.parametrize("what", ["refused", "self-signed"])
def test_when_no_other_is_left_it_is_a_502_and_free(caller, desk, at_address, proving, what):
    model = f"away/alone-{what}"
    with listening(proving) as port, refusing() as closed:
        url = f"https://127.0.0.1:{port}" if what == "self-signed" else f"http://127.0.0.1:{closed}"
        at_address(model, url, alone=True)

        assert error_of(caller.chat(model)) == (502, "provider_unavailable")
        assert caller.stream(model).status == 502
    rows = desk.await_generations(caller.organization, 2)
    assert {(row["status"], row["charge_nanos"], row["loss_nanos"]) for row in rows} == {("failed", 0, 0)}
    desk.await_no_holds(caller.organization)


@pytest.mark.parametrize("serve", [_silent, _headers_only, _comments_only])
def test_silence_before_the_first_token_is_bridged_and_the_next_one_serves(
    caller, desk, sandbox, at_address, serve
):
    model = f"away/silent-{next(names)}"
    with listening(serve) as port:
        at_address(model, f"http://127.0.0.1:{port}")
        began = time.monotonic()
        stream, tried = served_by_the_second(caller, desk, sandbox, model, streamed=True)

    assert stream.comments and stream.raw.startswith(b":")
    assert tried == ["timeout"]
    assert time.monotonic() - began > 2.5


def test_a_plain_answer_that_drips_is_ended_at_the_total_deadline_and_free(caller, desk, at_address):
    """Each byte comes well within the deadline between two blocks: only the one of the whole call ends it."""
    with listening(_drips) as port:
        at_address("away/drips", f"http://127.0.0.1:{port}", alone=True)
        began = time.monotonic()
        answer = caller.chat("away/drips", max_tokens=10)
        seconds = time.monotonic() - began

    assert error_of(answer) == (504, "timeout")
    assert 4.5 < seconds < 20  # the setting is five seconds; the answer would take a quarter of an hour
    (row,) = desk.await_generations(caller.organization, 1)
    assert (row["status"], row["error_type"], row["charge_nanos"]) == ("failed", "timeout", 0)
    assert desk.await_no_holds(caller.organization).funds == 10 * 10**9


@pytest.mark.parametrize("status", [401, 402, 403, 429, 503])
def test_what_a_provider_says_to_us_is_never_said_to_the_customer(caller, desk, status):
    """Our key and our account there are not the customer's."""
    stream = caller.stream(f"sandbox/fault-{status}")
    answer = caller.chat(f"sandbox/fault-{status}")

    expected = status if status in (429, 503) else 502
    assert stream.status == answer.status_code == expected
    assert ("retry-after" in answer.headers) == ("retry-after" in stream.headers) == (status in (429, 503))
    assert "api key" not in answer.text.lower() and "account" not in answer.text.lower()
    rows = desk.await_generations(caller.organization, 2)
    assert [row["charge_nanos"] for row in rows] == [0, 0]


def test_the_books_are_right_after_all_that(desk):
    assert desk.breaches() == []
