"""The one door for URLs that customers give: to public addresses alone, and to none that was not looked at.

A host is resolved once, every address that it has is judged, and the connection goes to one of those, by
its number; name and certificate stay the host's. So no second look-up can lead elsewhere. No redirect is
followed, no proxy of the environment used, and time and bytes are bounded.
"""

from __future__ import annotations

import asyncio
import functools
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

import httpx
from django.conf import settings

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]

MOST_URL: Final = 1000
MOST_ANSWER_BYTES: Final = 16 * 1024
_CONNECT_SECONDS: Final = 5.0
_MOST_ADDRESSES: Final = 3
"""So many of a host's are tried, one after the other, when none can be connected to."""

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?][!-~]*)?",
    re.IGNORECASE,
)
_SIGNS: Final = re.compile(r"[!-~]*")
_NO_SIGNS: Final = "\\#"
"""What some read as a slash, and what is never sent."""
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label of this form makes a host an IPv4 address, in one of the ways of writing that some read."""
_LOCAL: Final = (".localhost", ".local", ".internal", ".intranet", ".lan", ".home.arpa", ".onion", ".arpa")

_NOT_PUBLIC_4: Final = tuple(
    map(
        IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
            *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
            *("224.0.0.0/4", "240.0.0.0/4"),
            "168.63.129.16/32",  # looks public, and is Azure's own within its machines
        ),
    )
)
_PUBLIC_6: Final = IPv6Network("2000::/3")
"""Nothing else is: mapped and compatible IPv4, NAT64, unique local, link and site local, multicast."""
_NOT_PUBLIC_6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # Teredo, ORCHID and other protocols' own
            "2001:db8::/32",
            "2002::/16",  # 6to4 leads to any IPv4 address
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)
_ISATAP: Final = (0x00005EFE, 0x02005EFE)
"""The third quarter of an IPv6 address whose last one is an IPv4 address to tunnel to."""


class Refused(ValueError):
    """This URL may not be asked; the message says why, and tells nothing of our network."""


class Unanswered(Exception):
    """No answer came; the message says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """A URL that was read: nothing of it is left to be read in another way."""

    scheme: str
    host: str
    """In lower case; an IPv6 address without its brackets."""
    port: int
    rest: str
    """Path and query, which begin with a slash."""

    @property
    def authority(self) -> str:
        """As the header `Host` says it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT[self.scheme] else f"{host}:{self.port}"


_DEFAULT: Final[Mapping[str, int]] = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    """At most `MOST_ANSWER_BYTES` of it; the rest is not read."""
    retry_after: str = ""
    """As the header of that name says it; not judged."""


async def _by_name(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@functools.cache
def _trusted() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


@dataclass(frozen=True)
class Door:
    """How customers' URLs are asked here; `door()` makes the product's own."""

    ports: Collection[int] = (443,)
    loopback: bool = False
    """Whether this machine's own addresses are asked too, then with http and at any port."""
    resolve: Resolve = _by_name
    tls: ssl.SSLContext | None = None

    def read(self, url: str) -> Place:
        """What a URL names, without looking it up. Raises Refused."""
        if len(url) > MOST_URL:
            raise Refused(f"it is longer than {MOST_URL} characters")
        found = _URL.fullmatch(url)
        if found is None or any(sign in url for sign in _NO_SIGNS):
            raise Refused(_why(url))
        scheme, host = found["scheme"].lower(), found["host"].lower()
        here = self.loopback and _is_here(host)
        if scheme != "https" and not here:
            raise Refused("it must begin with https://")
        port = int(found["port"] or _DEFAULT[scheme])
        if not here and port not in self.ports:
            allowed = ", ".join(map(str, sorted(self.ports)))
            raise Refused(f"port {port} is not allowed, only {allowed}")
        if not 0 < port < 1 << 16:
            raise Refused("there is no such port")
        rest = found["rest"] or "/"
        place = Place(scheme, host.strip("[]"), port, rest if rest[0] == "/" else f"/{rest}")
        literal = _literal(place.host, bracketed=host[0] == "[")
        if literal is not None:
            self._judge([literal])
        elif not here:
            _judge_name(place.host)
        return place

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float) -> Answer:
        """One POST, all of it within `seconds`. Raises Refused or Unanswered."""
        place = self.read(url)
        try:
            async with asyncio.timeout(seconds):
                addresses = await self._addresses(place)
                return await self._ask(place, addresses, body, headers)
        except TimeoutError:
            raise Unanswered(f"no answer within {seconds:g} seconds") from None

    async def _addresses(self, place: Place) -> list[Address]:
        """Where the host lies, asked once: all of it may be asked, or none is."""
        try:
            found = [ip_address(text) for text in await self.resolve(place.host, place.port)]
        except (OSError, UnicodeError, ValueError):
            found = []
        if not found:
            raise Unanswered("its host name cannot be resolved")
        self._judge(found)
        if place.scheme == "http" and not all(address.is_loopback for address in found):
            raise Refused("it must begin with https://")
        return found

    def _judge(self, addresses: Collection[Address]) -> None:
        for address in addresses:
            if not is_public(address) and not (self.loopback and address.is_loopback):
                raise Refused("its address is not a public one")

    async def _ask(
        self, place: Place, addresses: list[Address], body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        said = {**headers, "Host": place.authority, "Accept-Encoding": "identity", "Connection": "close"}
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
        why = ""
        async with httpx.AsyncClient(
            verify=self.tls or _trusted(), trust_env=False, follow_redirects=False, timeout=timeout
        ) as client:
            for address in addresses[:_MOST_ADDRESSES]:
                number = f"[{address}]" if address.version == 6 else str(address)
                request = client.build_request(
                    "POST",
                    f"{place.scheme}://{number}:{place.port}{place.rest}",
                    content=body,
                    headers=said,
                    extensions={"sni_hostname": place.host},
                )
                try:
                    return await _answered(client, request)
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                    why = _told(error)
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    raise Unanswered(_told(error)) from error
        raise Unanswered(why)


def door() -> Door:
    """As the settings say."""
    return Door(ports=frozenset(map(int, settings.EGRESS_PORTS)), loopback=settings.EMBEDDED)


def is_public(address: Address) -> bool:
    """Whether this is a place in the internet, and leads to no other by the way it is made."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _NOT_PUBLIC_4)
    if address.scope_id is not None or int(address) >> 32 & 0xFFFFFFFF in _ISATAP:
        return False
    return address in _PUBLIC_6 and not any(address in network for network in _NOT_PUBLIC_6)


async def _answered(client: httpx.AsyncClient, request: httpx.Request) -> Answer:
    """Its first bytes as they came: nothing is unpacked."""
    found = bytearray()
    answer = await client.send(request, stream=True)
    try:
        async for piece in answer.aiter_raw():
            found += piece
            if len(found) >= MOST_ANSWER_BYTES:
                break
    finally:
        await answer.aclose()
    later = answer.headers.get("Retry-After", "")
    return Answer(answer.status_code, bytes(found[:MOST_ANSWER_BYTES]), later)


def _why(url: str) -> str:
    if not _SIGNS.fullmatch(url):
        return "it may only hold letters, digits and signs of ASCII; write a name in its xn-- form"
    if any(sign in url for sign in _NO_SIGNS):
        return "it may hold no backslash and no #"
    if not url.lower().startswith("https://"):
        return "it must begin with https://"
    if "@" in url.partition("://")[2].partition("/")[0]:
        return "it may hold no user name and no password"
    return "it is no URL of a host"


def _literal(host: str, *, bracketed: bool) -> Address | None:
    """The address that a host is written as; None for a name. Raises Refused for other ways of writing."""
    if not bracketed and not _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        return None
    try:
        return IPv6Address(host) if bracketed else IPv4Address(host)
    except ValueError:
        raise Refused("its host is no address in the usual form") from None


def _judge_name(host: str) -> None:
    labels = host.split(".")
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise Refused("its host is no name of the DNS")
    if len(labels) == 1 or host.endswith(_LOCAL):
        raise Refused("its host is a name of a local network")


def _is_here(host: str) -> bool:
    """Whether the host is written as this machine itself."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _told(error: Exception) -> str:
    """In words of ours: what libraries say holds addresses."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return "its certificate is not good for its name, or TLS failed"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return "it could not be connected to in time"
    if isinstance(error, httpx.ConnectError):
        return "it could not be connected to"
    return "the connection broke before an answer came"
