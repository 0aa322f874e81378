"""The instruments before the experiments: a test of faults that cannot fail proves nothing."""

from __future__ import annotations

import dataclasses
import socket
import socketserver
import threading
import time

import pytest

from tests.faults.load import Log, call
from tests.faults.proxy import FaultProxy

pytestmark = pytest.mark.xdist_group("faults")


def test_without_a_fault_everything_agrees(load, log, at_rest):
    with load(callers=4, most=40) as running:
        running.join()

    verdict = at_rest()

    assert (verdict.ok, verdict.failed, verdict.unknown) == (len(log.entries), 0, 0)
    assert verdict.rows == verdict.ok > 40


def test_an_answer_that_has_no_row_is_called_lost(stand, customers, log, at_rest):
    entry = call(stand.product.api_base, customers[0], log)
    log.entries.append(dataclasses.replace(entry, id="gen-" + "0" * 32))

    with pytest.raises(AssertionError, match="lost"):
        at_rest()


def test_a_charge_that_nobody_was_told_is_found(stand, customers, log, at_rest):
    call(stand.product.api_base, customers[0], log)
    call(stand.product.api_base, customers[1], Log())

    with pytest.raises(AssertionError, match="nobody made"):
        at_rest()


def test_a_cost_that_is_off_by_one_is_found(stand, customers, log, at_rest):
    entry = call(stand.product.api_base, customers[0], log)
    entry.cost += 1

    with pytest.raises(AssertionError, match="lost"):
        at_rest()


# ── The network ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def echo():
    """A server that answers every line with itself in capitals, behind a proxy."""

    class Echo(socketserver.StreamRequestHandler):
        def handle(self):
            for line in self.rfile:
                heard.append(line)
                self.wfile.write(line.upper())

    heard: list[bytes] = []
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with FaultProxy(server.server_address[1]) as proxy:
            yield proxy, heard
        server.shutdown()


def ask(connection, line, seconds=5.0):
    connection.settimeout(seconds)
    connection.sendall(line)
    return connection.recv(100)


def test_what_passes_passes_slowly_or_in_pieces(echo):
    proxy, _ = echo
    with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        assert ask(connection, b"a\n") == b"A\n"
        proxy.latency = 0.2
        began = time.monotonic()
        assert ask(connection, b"b\n") == b"B\n"
        assert time.monotonic() - began >= 0.4
        proxy.up()
        proxy.slices = 1
        connection.sendall(b"cde\n")
        assert b"".join(connection.recv(1) for _ in range(4)) == b"CDE\n"


def test_refused_reset_and_swallowed(echo):
    proxy, heard = echo
    first = socket.create_connection(("127.0.0.1", proxy.port))
    assert ask(first, b"a\n") == b"A\n"
    proxy.refuse()
    with pytest.raises(OSError):
        first.recv(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port))
    proxy.up()
    proxy.blackhole()
    with socket.create_connection(("127.0.0.1", proxy.port)) as second:
        with pytest.raises(TimeoutError):
            ask(second, b"b\n", seconds=0.3)
        proxy.up()
        with pytest.raises(OSError):
            second.recv(1)
    assert heard == [b"a\n"]
    first.close()


@pytest.mark.parametrize(("hand_on", "expected"), [(True, [b"COMMIT\n"]), (False, [])])
def test_cut_at_a_pattern_with_or_without_its_bytes(echo, hand_on, expected):
    proxy, heard = echo
    with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        cut = proxy.cut(b"COMMIT", hand_on=hand_on)
        with pytest.raises(OSError):
            ask(connection, b"COMMIT\n")
        assert cut.done.wait(5) and heard == expected
    with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        assert ask(connection, b"COMMIT\n") == b"COMMIT\n"


def test_an_answer_that_ends_too_soon(echo):
    proxy, _ = echo
    with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        proxy.limit(3)
        assert ask(connection, b"a\n") == b"A\n"
        with pytest.raises(OSError):
            ask(connection, b"b\n")
            connection.recv(1)


def test_a_partition_of_some(echo):
    proxy, _ = echo
    connections = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(2)]
    assert [ask(each, b"a\n") for each in connections] == [b"A\n"] * 2
    proxy.choose = lambda number: number == 0
    proxy.reset()
    with pytest.raises(OSError):
        ask(connections[0], b"b\n")
        connections[0].recv(1)
    assert ask(connections[1], b"b\n") == b"B\n"
    for each in connections:
        each.close()
