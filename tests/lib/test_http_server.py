"""The server's protocol on uvloop, over raw sockets: what it refuses, and whom it takes for stalled."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
import uvicorn
import uvloop

from aggregator.connections import Connection

GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


@contextlib.asynccontextmanager
async def serving(application):
    """Its port."""
    config = uvicorn.Config(application, http=Connection, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        running = asyncio.create_task(server._serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            await running


async def answer(send, body, *, more=False):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def says_ok(scope, receive, send):
    await answer(send, b"ok")


async def exchange(port, data):
    """All that comes until the server closes, or is silent for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    got = b""
    with contextlib.suppress(TimeoutError):
        block = b"any"
        while block:
            async with asyncio.timeout(0.5 if got else 30):
                block = await reader.read(65536)
            got += block
    writer.close()
    return got


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nAccept: */*\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nAccept: */*\r\nhOsT: here\r\n\r\n", b"200"),
        (b"GET / HTTP/1.0\r\nAccept: */*\r\n\r\n", b"200"),
    ],
)
def test_a_request_without_a_host_is_refused_unless_it_is_http_1_0(head, status):
    async def run():
        async with serving(says_ok) as port:
            return await exchange(port, head)

    assert uvloop.run(run()).startswith(b"HTTP/1.1 " + status)


def test_a_chunk_after_the_end_of_its_answer_is_not_written_into_the_next():
    async def application(scope, receive, send):
        await answer(send, b"first")
        with pytest.raises(RuntimeError):
            await send({"type": "http.response.body", "body": b"late", "more_body": True})

    async def run():
        async with serving(application) as port:
            return await exchange(port, GET)

    got = uvloop.run(run())
    assert got.endswith(b"5\r\nfirst\r\n0\r\n\r\n")


def test_nonsense_behind_a_request_that_waits_is_not_answered_inside_the_answer_before_it():
    async def application(scope, receive, send):
        await answer(send, b"a", more=True)
        await asyncio.sleep(0.2)
        await send({"type": "http.response.body", "body": b"b"})

    async def run():
        async with serving(application) as port:
            return await exchange(port, GET + GET + b"\0\r\n\r\n")

    assert b" 400 " not in uvloop.run(run())


def test_who_reads_slowly_is_not_cut_for_what_was_sent_on_the_connection_before(settings):
    """The look at a reader begins anew with each answer that has to wait for it."""
    settings.STALLED_READER_SECONDS = 2

    async def application(scope, receive, send):
        await answer(send, b"", more=True)
        for _ in range(30):
            await send({"type": "http.response.body", "body": b"x" * 20_000, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def run():
        async with serving(application) as port:
            loop = asyncio.get_running_loop()
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.setblocking(False)
                await loop.sock_connect(client, ("127.0.0.1", port))
                for unread_seconds in (0.1, 0.8):  # both less than the setting
                    await loop.sock_sendall(client, GET)
                    await asyncio.sleep(unread_seconds)
                    got = b""
                    while not got.endswith(b"0\r\n\r\n"):
                        block = await loop.sock_recv(client, 65536)
                        assert block, len(got)
                        got += block
                    await asyncio.sleep(1.6)

    uvloop.run(asyncio.wait_for(run(), 30))
