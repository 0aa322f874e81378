"""Ports: fixed ones that a setting can move, free ones for tests, all below Linux's ephemeral range.

A port of the ephemeral range (from 32768) may be taken at any moment by an outgoing connection.
"""

from __future__ import annotations

import errno
import random
import socket

from aggregator.embedded.report import Failure
from aggregator.lib import env

span = range(20_000, 32_000)
"""Where free ones are looked for. Who starts servers in several processes gives each a part of its own."""
_given: set[int] = set()


def setting(name: str, default: int) -> int:
    port = env.whole(name, default, least=1)
    if port > 65_535:
        raise Failure(f"{name} must be a port up to 65535, not {port}")
    return port


def require_free(port: int, name: str, what: str) -> None:
    """Refuse a port that cannot be had, naming the setting that moves it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise Failure(f"port {port}, wanted by {what}, {why}: set {name} to another one") from error


def free(count: int = 1) -> list[int]:
    """Some ports that nobody listens on now, and that were not given before: they may be listened on soon."""
    chooser = random.SystemRandom()
    found: list[int] = []
    while len(found) < count:
        port = chooser.choice(span)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        _given.add(port)
    return found


def answers(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5):
            return True
    except OSError:
        return False
