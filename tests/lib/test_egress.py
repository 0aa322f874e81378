"""The door for URLs of customers: nothing but public addresses, whatever is written, resolved or answered.

What is connected to is watched at the socket: an address that is not this machine's is noted and refused.
"""

from __future__ import annotations

import asyncio
import datetime
import random
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aggregator.lib import egress
from aggregator.lib.egress import Answer, Door, Refused, Unanswered
from tests.lib.egress_corpus import LOCAL, WRITTEN

PUBLIC = "93.184.216.34"
_watching: list[list[Any]] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _watching:
        _watching[-1].append(arguments[1])
        if not arguments[1][0].startswith(("127.", "::1")):
            raise OSError("no test leaves this machine")


sys.addaudithook(_watch)


@pytest.fixture
def connected() -> Iterator[list[Any]]:
    """The addresses that were connected to, in order."""
    _watching.append([])
    yield _watching[-1]
    _watching.pop()


class Names:
    """A resolver that answers as a test says, one answer after the other, and the last for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def post(door: Door, url: str) -> Answer:
    return await door.post(url, b'{"a": 1}', {"webhook-id": "msg_1"}, seconds=5)


# ── What is written ──────────────────────────────────────────────────────────────────────────────


async def refused_or_unanswered(door: Door, url: str) -> type[Exception] | None:
    try:
        await post(door, url)
    except (Refused, Unanswered) as error:
        return type(error)
    return None


async def test_what_is_written_wrongly_is_refused_before_anybody_is_asked(connected: list[Any]) -> None:
    names = Names(["127.0.0.1"])
    door = Door(resolve=names)

    assert len(set(WRITTEN)) >= 150
    assert [url for url in WRITTEN if await refused_or_unanswered(door, url) is not Refused] == []
    assert (connected, names.asked) == ([], [])


@pytest.mark.parametrize(
    ("url", "host", "port", "rest"),
    [
        ("https://example.com", "example.com", 443, "/"),
        ("HTTPS://Example.COM/A?b=c&d=%20", "example.com", 443, "/A?b=c&d=%20"),
        ("https://hooks.example.com:8443/x", "hooks.example.com", 8443, "/x"),
        ("https://example.com?a=b@127.0.0.1", "example.com", 443, "/?a=b@127.0.0.1"),
        ("https://xn--bcher-kva.example/a", "xn--bcher-kva.example", 443, "/a"),
        (f"https://{PUBLIC}/", PUBLIC, 443, "/"),
        ("https://[2606:4700::6810:84e5]/", "2606:4700::6810:84e5", 443, "/"),
        ("https://1and1.example/", "1and1.example", 443, "/"),
        ("https://127.0.0.1.example.com//a", "127.0.0.1.example.com", 443, "//a"),
    ],
)
def test_an_ordinary_url_is_read_as_it_is_written(url: str, host: str, port: int, rest: str) -> None:
    place = Door(ports=(443, 8443)).read(url)

    assert (place.scheme, place.host, place.port, place.rest) == ("https", host, port, rest)


def test_no_port_but_the_usual_one_and_no_loopback_unless_it_is_said(settings: Any) -> None:
    assert not Door().loopback and Door().ports == (443,)
    settings.EMBEDDED, settings.EGRESS_PORTS = False, ["443"]
    assert egress.door() == Door(ports=frozenset({443}))
    settings.EMBEDDED = True
    assert egress.door().loopback


# ── What is resolved ─────────────────────────────────────────────────────────────────────────────


async def test_a_name_of_an_address_that_is_not_public_is_refused(connected: list[Any]) -> None:
    for address in LOCAL:
        for answers in ([address], [PUBLIC, address], ["2606:4700::1", PUBLIC, address]):
            with pytest.raises(Refused, match="public"):
                await post(Door(resolve=Names(answers)), "https://hooks.example.com/")

    assert connected == []


@pytest.mark.parametrize("answer", [["fe80::1%eth0"], ["no address"], [""]])
async def test_an_answer_that_is_no_plain_address_is_not_used(
    answer: list[str], connected: list[Any]
) -> None:
    with pytest.raises((Refused, Unanswered)):
        await post(Door(resolve=Names(answer)), "https://hooks.example.com/")

    assert connected == []


async def test_a_name_that_changes_its_address_is_asked_once_and_that_answer_is_used(
    connected: list[Any],
) -> None:
    names = Names([PUBLIC], ["127.0.0.1"])

    with pytest.raises(Unanswered, match="connected"):
        await post(Door(resolve=names), "https://rebinding.example.com/")

    assert names.asked == ["rebinding.example.com"]
    assert [address[:2] for address in connected] == [(PUBLIC, 443)]


async def test_the_other_addresses_are_tried_and_not_for_ever(connected: list[Any]) -> None:
    with pytest.raises(Unanswered, match="connected"):
        await post(Door(resolve=Names([f"93.184.216.{n}" for n in range(1, 9)])), "https://a.example.com/")

    assert len(connected) == 3


async def test_why_it_was_refused_tells_no_address(connected: list[Any]) -> None:
    with pytest.raises(Refused) as told:
        await post(Door(resolve=Names(["10.11.12.13"])), "https://inside.example.com/")

    assert "10." not in str(told.value)


def test_no_address_is_public_that_the_registries_know_better() -> None:
    chance = random.Random(7)
    for _ in range(3_000):
        four = IPv4Address(chance.getrandbits(32))
        six = IPv6Address(chance.choice((0x2, 0x3)) << 124 | chance.getrandbits(124))
        assert not egress.is_public(four) or four.is_global
        assert not egress.is_public(six) or six.is_global
    assert egress.is_public(ip_address(PUBLIC)) and egress.is_public(ip_address("2606:4700::1"))


async def test_a_name_that_nobody_knows_is_no_answer(connected: list[Any]) -> None:
    async def nobody(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    with pytest.raises(Unanswered, match="resolved"):
        await post(Door(resolve=nobody), "https://nowhere.example.com/")


# ── What answers ─────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def answering(answer: bytes, tls: ssl.SSLContext | None = None, pause: float = 0) -> Any:
    """A server that writes down the request's head, says `answer`, and ends, after `pause` seconds."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        try:
            await writer.drain()
            await asyncio.sleep(pause)
        except (OSError, asyncio.CancelledError):
            pass
        writer.transport.abort() if pause else writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()
        await server.wait_closed()


HERE = Door(loopback=True)


async def test_the_embedded_product_reaches_this_machine_by_http() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as (port, heads):
        for host in ("127.0.0.1", "localhost"):
            assert await post(HERE, f"http://{host}:{port}/a?b=c") == Answer(200, b"ok")

    assert heads[0].startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert f"\r\nHost: 127.0.0.1:{port}\r\n".encode() in heads[0]


async def test_the_embedded_product_reaches_no_other_place_than_this_machine(connected: list[Any]) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        numbers = {"localhost": "127.0.0.1", "127.0.0.1": "127.0.0.1", "127.1.2.3": "127.1.2.3", "::1": "::1"}
        return [numbers.get(host, "10.0.0.1")]

    door = Door(loopback=True, resolve=resolve)

    assert [url for url in WRITTEN if await refused_or_unanswered(door, url) is None] == []
    assert {address[0] for address in connected} == {"127.0.0.1", "127.1.2.3", "::1"}


async def test_a_redirect_is_an_answer_and_is_not_followed(connected: list[Any]) -> None:
    there = (
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/latest/meta-data\r\nContent-Length: 0\r\n\r\n"
    )
    async with answering(there) as (port, heads):
        assert (await post(HERE, f"http://127.0.0.1:{port}/")).status == 302

    assert len(heads) == len(connected) == 1


async def test_an_endless_answer_is_read_no_further_than_its_bound() -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n" + b"x" * 200_000
    async with answering(endless, pause=30) as (port, _):
        got = await post(HERE, f"http://127.0.0.1:{port}/")

    assert got == Answer(200, b"x" * egress.MOST_ANSWER_BYTES)


async def test_an_answer_is_not_unpacked() -> None:
    packed = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08"
    async with answering(packed) as (port, heads):
        assert (await post(HERE, f"http://127.0.0.1:{port}/")).body == b"\x1f\x8b\x08"

    assert b"Accept-Encoding: identity" in heads[0]


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"])
async def test_who_says_nothing_or_stops_halfway_is_given_up_in_time(said: bytes) -> None:
    async with answering(said, pause=30) as (port, _):
        with pytest.raises(Unanswered, match=r"within 0\.3 seconds"):
            await HERE.post(f"http://127.0.0.1:{port}/", b"", {}, seconds=0.3)


@pytest.mark.parametrize(
    "said", [b"", b"\x00\x01\x02", b"HTTP/1.1 200 OK\r\n" + b"A: " + b"b" * 200_000 + b"\r\n\r\n"]
)
async def test_what_is_no_answer_is_said_to_be_none(said: bytes) -> None:
    async with answering(said) as (port, _):
        with pytest.raises(Unanswered, match="broke"):
            await post(HERE, f"http://127.0.0.1:{port}/")


async def test_no_proxy_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, connected: list[Any]
) -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (proxy, asked):
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        with pytest.raises(Unanswered):
            await post(Door(resolve=Names([PUBLIC])), "https://hooks.example.com/")

    assert asked == []
    assert [address[0] for address in connected] == [PUBLIC]


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext, list[Any]]:
    """A server's TLS for hooks.example.com, a client's that trusts it, and the names that were asked for."""
    folder: Path = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example.com")])
    now = datetime.datetime.now(tz=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example.com")]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    (folder / "both.pem").write_bytes(
        certificate
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(folder / "both.pem")
    client.load_verify_locations(cadata=certificate.decode())
    asked: list[Any] = []
    server.sni_callback = lambda connection, host, context: asked.append(host)
    return server, client, asked


async def test_the_checked_address_is_asked_by_the_name_of_the_host(certified: Any) -> None:
    server, client, asked = certified
    async with answering(b"HTTP/1.1 204 No Content\r\n\r\n", tls=server) as (port, heads):
        door = Door(ports=(port,), loopback=True, resolve=Names(["127.0.0.1"]), tls=client)

        assert (await post(door, f"https://hooks.example.com:{port}/in")).status == 204

    assert asked[-1] == "hooks.example.com"
    assert f"\r\nHost: hooks.example.com:{port}\r\n".encode() in heads[0]


@pytest.mark.parametrize("trusts", [True, False])
async def test_a_certificate_for_another_name_or_of_a_stranger_ends_it(certified: Any, trusts: bool) -> None:
    server, client, _ = certified
    host = "other.example.com" if trusts else "hooks.example.com"
    async with answering(b"HTTP/1.1 204 No Content\r\n\r\n", tls=server) as (port, heads):
        tls = client if trusts else None
        door = Door(ports=(port,), loopback=True, resolve=Names(["127.0.0.1"]), tls=tls)
        with pytest.raises(Unanswered, match="certificate"):
            await post(door, f"https://{host}:{port}/")

    assert heads == []
