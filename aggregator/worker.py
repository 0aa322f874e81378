"""A gunicorn worker that leaves without anybody noticing.

SIGTERM          not ready · `DRAIN_LISTEN_SECONDS` more of listening, each answer closing its connection ·
                 no new connections · `DRAIN_SECONDS` for calls to end · the rest is told, and recorded free
SIGINT, SIGQUIT  the same without waiting

uvicorn by itself closes its listener at once, and its master takes a worker that drains for hung.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

import django
import uvicorn
import uvicorn_worker
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from gunicorn.arbiter import Arbiter

from aggregator.connections import Connection

_CLOSE = (b"connection", b"close")
_TICK_SECONDS = 0.1
_GOODBYE_SECONDS = 3.0
"""For the last events to reach their readers; then connections are cut."""
_AGAIN_SECONDS = 1.0
"""After a start that failed, until the master makes another worker."""
_CLOSING_SECONDS = 20
"""For what is settled to be written and told, and the process to end."""
_SEND_BUFFER_BYTES = 128 * 1024
"""The kernel doubles it. Left to itself it would keep up to 4 MB for each reader that stalls."""


class Application(Protocol):
    """What is served, as far as its leaving goes."""

    def is_ready(self) -> bool: ...
    def drain(self) -> None: ...
    def end_calls(self) -> None: ...


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, application: Application, *, orphaned: Callable[[], bool]):
        super().__init__(config)
        self.application = application
        self.hurried = False
        self._orphaned = orphaned

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Signals may come again and again: a master repeats SIGTERM, and SIGQUIT may follow it."""
        self.should_exit = True
        if sig != signal.SIGTERM:
            self.hurried = True

    async def main_loop(self) -> None:
        await super().main_loop()
        if self._shares_its_port():
            self._drain()
            await self._pass(settings.DRAIN_LISTEN_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._drain()
        ending = asyncio.get_running_loop().create_task(self._end_calls())
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()

    def _drain(self) -> None:
        self.application.drain()
        if _CLOSE not in self.config.encoded_headers:
            self.config.encoded_headers.append(_CLOSE)
            self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]

    def _shares_its_port(self) -> bool:
        """Whether there is anybody to listen on for: not when this process is broken or left over."""
        return self.application.is_ready() and not self._orphaned()

    async def _end_calls(self) -> None:
        await self._pass(settings.DRAIN_SECONDS)
        self.application.end_calls()
        await self._pass(_GOODBYE_SECONDS, however=True)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()
        await self._pass(_CLOSING_SECONDS, however=True)

    async def _pass(self, seconds: float, *, however: bool = False) -> None:
        """Let time pass, in which the master hears that this worker lives; a hurry ends it early."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and (however or not self.hurried):
            await self.on_tick(0)
            await asyncio.sleep(_TICK_SECONDS)


class Worker(uvicorn_worker.UvicornWorker):
    """uvloop and httptools; a start that fails ends the worker; no header names the server."""

    CONFIG_KWARGS: dict[str, Any] = {
        "loop": "uvloop",
        "http": Connection,
        "lifespan": "on",
        "server_header": False,
        "access_log": False,
        "proxy_headers": False,
        "ws": "none",
    }

    async def _serve(self) -> None:
        _raise_file_limit()
        for listener in self.sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            # For what the kernel alone still holds: later than ours, which resets and so tells the reader.
            unread_ms = 4 * settings.STALLED_READER_SECONDS * 1000
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unread_ms)
        self.config.app = self.wsgi
        server = Server(self.config, self.wsgi, orphaned=lambda: os.getppid() != self.ppid)
        signal.signal(signal.SIGQUIT, server.handle_exit)
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def run(self) -> None:
        """A start that fails ends the master too, but not when this worker stands in for one that died.

        PostgreSQL or the gate may be away; then the others go on, and the next one tries again.
        """
        try:
            super().run()
        except SystemExit as ended:
            if ended.code != Arbiter.WORKER_BOOT_ERROR or self.age <= self.cfg.workers:
                raise
            time.sleep(_AGAIN_SECONDS)
            sys.exit(1)


def stop_seconds() -> int:
    """How long a stop may take before a worker is killed: later than all that it waits for."""
    return settings.DRAIN_LISTEN_SECONDS + settings.DRAIN_SECONDS + int(_GOODBYE_SECONDS) + _CLOSING_SECONDS


def verified() -> int:
    """`stop_seconds`, when no setting contradicts another; else SystemExit says which.

    In a process of its own: the master stays free of settings and apps, so that after a reload its workers
    load those that are there then.
    """
    done = subprocess.run(
        [sys.executable, "-m", "aggregator.worker"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr.strip() or "the settings could not be checked")
    if "fairlead.W" in done.stderr:
        sys.stderr.write(done.stderr)
    return int(done.stdout)


def _raise_file_limit() -> None:
    """Each connection is an open file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _verify() -> None:
    django.setup()
    try:
        call_command("check", stdout=sys.stderr)
    except SystemCheckError as error:
        raise SystemExit(" ".join(str(error).split())) from None
    sys.stdout.write(str(stop_seconds()))


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aggregator.settings")
    _verify()
